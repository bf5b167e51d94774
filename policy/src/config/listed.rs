//! `/etc/nunbird/configurations`, in which root lists the configurations that runners may name, one a line: `FILE`, or
//! `FILE URL` for a file of Jacamar CI's that does not name its GitLab server.

use super::document::{At, Document, Spot};
use std::path::Path;

/// The list.
pub const CONFIGURATIONS: &str = "/etc/nunbird/configurations";

/// The file and the URL of a line. The URL is separated by spaces, so that a file's name may contain some.
pub fn listed(line: &str) -> (&Path, Option<&str>) {
    let at = line.find(" http").map_or(line.len(), |at| at + 1);
    let (file, url) = line.split_at_checked(at).unwrap_or((line, ""));
    (Path::new(file.trim()), Some(url.trim()).filter(|url| !url.is_empty()))
}

/// The URL that the list gives a configuration. Two of them are a finding.
pub(super) fn server<'t>(list: &'t Document<'t>, configuration: &Path) -> Option<At<'t, &'t str>> {
    let mut found: Option<At<'t, &'t str>> = None;
    let mut offset = 0;
    for line in list.text().split_inclusive('\n') {
        let (file, url) = listed(line);
        if let Some(url) = url.filter(|_| file == configuration) {
            let column = line.find(url).unwrap_or(0);
            let at = At { value: url, spot: Spot { document: list, offset: offset + column } };
            match &found {
                Some(first) if first.value != url => {
                    let help = format!(
                        "line {} has {}; remove one of the two",
                        first.spot.place().line,
                        first.value
                    );
                    at.spot.find("a second server for this configuration", help);
                }
                Some(_) => {}
                None => found = Some(at),
            }
        }
        offset += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::CONFIGURATIONS;
    use crate::{Policy, Reading, SourceFile};
    use std::path::Path;

    const JACAMAR: &str =
        "[general]\nexecutor = \"shell\"\ndata_dir = \"$HOME\"\n[auth]\ndownscope = \"setuid\"\n";
    const FILE: &str = "/etc/gitlab-runner/jacamar ci.toml";

    fn read(text: &str, list: &str) -> Result<Reading, String> {
        let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.to_owned() };
        Policy::read(&[file(FILE, text), file(CONFIGURATIONS, list)])
            .map_err(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn a_file_without_a_server_has_the_one_of_its_line() {
        let list =
            format!("/etc/other.toml https://wrong.example.org\n{FILE}  https://gitlab.example.org/ \n");
        let reading = read(JACAMAR, &list).expect("a policy");
        assert_eq!(reading.policy.gitlab[0].url, "https://gitlab.example.org");
        assert_eq!(reading.policy.gitlab[0].audience, ["https://gitlab.example.org"]);
        assert_eq!(reading.policy.file, Path::new(FILE));
        let place = &reading.origins["general.gitlab_server"];
        assert_eq!((place.file.as_path(), place.line), (Path::new(CONFIGURATIONS), 2));
    }

    #[test]
    fn a_line_without_a_server_or_of_another_file_gives_none() {
        for list in
            [FILE, "", &format!("{FILE}.old https://gitlab.example.org"), "/etc https://gitlab.example.org"]
        {
            let wrong = read(JACAMAR, list).expect_err("no server");
            assert!(wrong.contains("there is no `gitlab_server`"), "{list}: {wrong}");
        }
    }

    #[test]
    fn a_file_and_the_list_name_the_same_server_or_neither_is_believed() {
        let own = JACAMAR.replace("[auth]", "gitlab_server = \"https://gitlab.example.org\"\n[auth]");
        read(&own, &format!("{FILE} https://gitlab.example.org")).expect("the same");
        let wrong = read(&own, &format!("{FILE} https://other.example.org")).expect_err("two servers");
        assert!(wrong.contains("/etc/nunbird/configurations:1:36"), "{wrong}");
        assert!(wrong.contains("`gitlab_server` at /etc/gitlab-runner/jacamar ci.toml:4:"), "{wrong}");
        let two = format!("{FILE} https://gitlab.example.org\n{FILE} https://other.example.org\n");
        let wrong = read(JACAMAR, &two).expect_err("two servers");
        assert!(
            wrong.contains("/etc/nunbird/configurations:2:36") && wrong.contains("second server"),
            "{wrong}"
        );
    }

    #[test]
    fn a_url_that_is_none_and_one_for_a_native_file_are_findings() {
        let wrong = read(JACAMAR, &format!("{FILE} http://gitlab.example.org")).expect_err("no HTTPS");
        assert!(wrong.contains("invalid URL of a GitLab server"), "{wrong}");
        let wrong = read(include_str!("sample.toml"), &format!("{FILE} https://gitlab.example.org"));
        let wrong = wrong.expect_err("native");
        assert!(wrong.contains("[[gitlab]]") && wrong.contains("configurations:1:"), "{wrong}");
    }
}
