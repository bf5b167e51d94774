//! `/etc/nunbird/configurations`, in which root lists the configurations that runners may name, one a line: `FILE`, or for a file
//! of Jacamar CI's, which may name no GitLab server and cannot name a proxy, `FILE URL [proxy=URL [proxy_auth_file=FILE]]`.

use super::document::{At, Document, Spot};
use crate::suggest;
use crate::url::without_credentials;
use nunbird_handover::Untrusted;
use std::path::Path;

/// The list.
pub const CONFIGURATIONS: &str = "/etc/nunbird/configurations";

/// The file of a line, and what is said of its server: the URL, and behind that the proxy. The URL is separated by spaces, so that
/// a file's name may contain some.
pub fn listed(line: &str) -> (&Path, Option<&str>) {
    let at = line.find(" http").map_or(line.len(), |at| at + 1);
    let (file, server) = line.split_at_checked(at).unwrap_or((line, ""));
    (Path::new(file.trim()), Some(server.trim()).filter(|server| !server.is_empty()))
}

/// What the list says of the server of a configuration.
pub(super) struct ListedServer<'t> {
    pub(super) url: At<'t, &'t str>,
    pub(super) proxy: Option<At<'t, &'t str>>,
    pub(super) proxy_auth_file: Option<At<'t, &'t str>>,
}

/// The server that the list gives a configuration. Two of them are a finding.
pub(super) fn server<'t>(list: &'t Document<'t>, configuration: &Path) -> Option<ListedServer<'t>> {
    let mut found: Option<(&str, Spot<'_>)> = None;
    let mut offset = 0;
    for line in list.text().split_inclusive('\n') {
        let (file, said) = listed(line);
        if let Some(said) = said.filter(|_| file == configuration) {
            let column = line.find(said).unwrap_or(0);
            let spot = Spot { document: list, offset: offset + column };
            match found {
                Some((first, place)) if first != said => {
                    // Only its URL: the address of a proxy may have a password in it.
                    let line = place.place().line;
                    let url = without_credentials(first.split(' ').next().unwrap_or(""));
                    let help = format!("line {line} has {}; remove one of the two", Untrusted(&url));
                    spot.find("a second server for this configuration", help);
                }
                Some(_) => {}
                None => found = Some((said, spot)),
            }
        }
        offset += line.len();
    }
    found.map(|(said, spot)| read(said, spot))
}

/// A line of the list for a finding: keys behind the URL without their values, one of which may be a password in the wrong place.
pub(super) fn without_values(line: &str) -> String {
    let (_, said) = listed(line);
    let Some((file, words)) = said.and_then(|said| Some((line.strip_suffix(said)?, said))) else {
        return without_credentials(line).into_owned();
    };
    let mut words = words.split(' ');
    let url = without_credentials(words.next().unwrap_or("")).into_owned();
    let rest = words.filter(|word| !word.is_empty()).map(|word| match word.split_once('=') {
        Some((key, _)) if is_key(key) => format!(" {key}=***"),
        _ => " ***".to_owned(),
    });
    std::iter::once(format!("{file}{url}")).chain(rest).collect()
}

fn is_key(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// The words of a server. The first of them is its URL.
fn read<'t>(said: &'t str, spot: Spot<'t>) -> ListedServer<'t> {
    let at =
        |value: &'t str, offset: usize| At { value, spot: Spot { offset: spot.offset + offset, ..spot } };
    let mut words = said.split(' ').scan(0, |next, word| {
        let offset = std::mem::replace(next, *next + word.len() + 1);
        Some((offset, word))
    });
    let (_, url) = words.next().unwrap_or_default();
    let mut server = ListedServer { url: at(url, 0), proxy: None, proxy_auth_file: None };
    for (offset, word) in words.filter(|(_, word)| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let value = at(value, offset + word.len() - value.len());
        let twice = match key {
            "proxy" => server.proxy.replace(value),
            "proxy_auth_file" => server.proxy_auth_file.replace(value),
            _ => {
                let known = ["proxy", "proxy_auth_file"];
                let help = match suggest::nearest(key, known) {
                    Some(meant) => format!("write `{meant}=`"),
                    None => "behind the URL are `proxy=http://HOST:PORT` and `proxy_auth_file=FILE`, without spaces in them".to_owned(),
                };
                // What is no key may be a part of a password.
                let shown = if is_key(key) { format!(" `{key}`") } else { String::new() };
                at(key, offset).spot.find(format!("unknown word{shown} behind the URL"), help);
                None
            }
        };
        if twice.is_some() {
            at(key, offset).spot.find(format!("`{key}` is written twice"), "remove one of the two");
        }
    }
    server
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
        for proxy in ["", " proxy=http://proxy.example.org:3128"] {
            let list = format!("{FILE} http://gitlab.example.org{proxy}");
            let wrong = read(JACAMAR, &list).expect_err("no HTTPS");
            assert!(wrong.contains("invalid URL of a GitLab server"), "{wrong}");
        }
        let wrong = read(include_str!("sample.toml"), &format!("{FILE} https://gitlab.example.org"));
        let wrong = wrong.expect_err("native");
        assert!(wrong.contains("[[gitlab]]") && wrong.contains("configurations:1:"), "{wrong}");
    }

    #[test]
    fn the_list_names_the_proxy_of_a_server_and_the_file_with_its_password() {
        let line = format!(
            "{FILE} https://gitlab.example.org  proxy=http://proxy.example.org:3128/ proxy_auth_file=/etc/nunbird/proxy-auth"
        );
        let own = JACAMAR.replace("[auth]", "gitlab_server = \"https://gitlab.example.org\"\n[auth]");
        for text in [JACAMAR, &own] {
            let server = &read(text, &line).expect("a policy").policy.gitlab[0];
            assert_eq!(server.url, "https://gitlab.example.org");
            assert_eq!(server.proxy.as_deref(), Some("http://proxy.example.org:3128"));
            assert_eq!(server.proxy_auth_file.as_deref(), Some(Path::new("/etc/nunbird/proxy-auth")));
        }
        let without = read(JACAMAR, &format!("{FILE} https://gitlab.example.org")).expect("a policy");
        assert_eq!(
            (&without.policy.gitlab[0].proxy, &without.policy.gitlab[0].proxy_auth_file),
            (&None, &None)
        );
    }

    #[test]
    fn what_is_wrong_behind_the_url_is_found_at_its_place_and_a_password_is_never_shown() {
        for (words, column, message) in [
            ("poxy=http://proxy:3128", 63, "unknown word `poxy`"),
            ("http://me:hunter2@proxy:3128", 63, "unknown word behind the URL"),
            ("me:hunter2@proxy:3128", 63, "unknown word behind the URL"),
            ("http://me:hunter2=x@proxy:3128", 63, "unknown word behind the URL"),
            ("proxy=http://me:hun hunter2@proxy", 83, "unknown word behind the URL"),
            ("proxy_auth=me:hunter2", 63, "unknown word `proxy_auth`"),
            ("proxy_auth_file=me:hunter2", 79, "absolute"),
            ("proxy=http://me:hunter2@proxy:3128", 69, "invalid address of a proxy"),
            ("proxy=", 69, "invalid address of a proxy"),
            ("proxy=http://a:1 proxy=http://b:1", 80, "`proxy` is written twice"),
            ("proxy_auth_file=/etc/nunbird/proxy-auth", 79, "a password for a proxy, and no `proxy`"),
            ("proxy=http://a:1 proxy_auth_file=auth", 96, "absolute"),
        ] {
            let wrong =
                read(JACAMAR, &format!("{FILE} https://gitlab.example.org {words}")).expect_err("wrong");
            assert!(wrong.contains(message), "{words}: {wrong}");
            assert!(wrong.contains(&format!("configurations:1:{column}")), "{words}: {wrong}");
            assert!(!wrong.contains("hunter2"), "{wrong}");
        }
        let two = format!("{FILE} https://me:hunter2@gitlab.example.org\n{FILE} https://other.example.org\n");
        let wrong = read(JACAMAR, &two).expect_err("two servers");
        assert!(wrong.contains("line 1 has https://***@gitlab") && !wrong.contains("hunter2"), "{wrong}");
        let list = format!("{FILE} http://localhost proxy=http://proxy:3128");
        let wrong = read(JACAMAR, &list).expect_err("plain HTTP");
        assert!(wrong.contains("reached by plain HTTP has no proxy"), "{wrong}");
    }
}
