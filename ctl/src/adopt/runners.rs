//! The runners of gitlab-runner's `config.toml` that call Jacamar CI, and what has to change for them to call Nunbird.
//!
//! The file has the runners' tokens and the site's comments: only the values that change are replaced, byte for byte
//! the rest stays, and nothing else of it is ever printed.

use crate::output::CtlError;
use crate::runner_config::STAGES;
use nunbird_handover::Untrusted;
use nunbird_policy::toml_string;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The programs of Jacamar CI that a runner may call.
const PROGRAMS: [&str; 2] = ["jacamar-auth", "jacamar"];
/// Jacamar's flag for a runner of one user, without privilege. nunbird-auth sees that by itself.
const NO_AUTH: &str = "--no-auth";

/// A runner that calls Jacamar CI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runner {
    pub(super) name: String,
    /// The line of its `[[runners]]`.
    pub(super) line: usize,
    /// The GitLab server that root has registered it with, without a slash at its end.
    pub(super) url: Option<String>,
    /// The file that it names with `--configuration`, for `config` first of all.
    pub(super) configuration: Option<PathBuf>,
    /// Whether it calls Jacamar CI with `--no-auth`.
    pub(super) no_auth: bool,
}

/// One value that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) line: usize,
    /// The key with its value, as TOML.
    pub(super) before: String,
    pub(super) after: String,
}

/// What adopting does to the runners' file.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    pub(super) runners: Vec<Runner>,
    pub(super) changes: Vec<Change>,
    /// The whole file with the changes.
    pub(super) text: String,
}

/// Finds the runners and makes the changes, in memory. `auth` is the path of `nunbird-auth`.
///
/// # Errors
/// If the text is not TOML, or a runner's keys are not what gitlab-runner takes.
pub(super) fn adopt(file: &Path, text: &str, auth: &Path) -> Result<Adopted, CtlError> {
    let table = DeTable::parse(text).map_err(|e| {
        let line = e.span().map_or(1, |span| line_of(text, span.start));
        CtlError::new(format!("{}:{line}: not valid TOML: {}", file.display(), Untrusted(e.message())))
    })?;
    let mut adopted = Adopted::default();
    let mut edits = Vec::new();
    let runners = match table.get_ref().get("runners").map(|value| value.get_ref()) {
        Some(DeValue::Array(runners)) => runners.iter().collect(),
        _ => Vec::new(),
    };
    for runner in runners {
        let DeValue::Table(keys) = runner.get_ref() else { continue };
        let Some(DeValue::Table(custom)) = keys.get("custom").map(|value| value.get_ref()) else { continue };
        let line = line_of(text, runner.span().start);
        let at = |message: &str| CtlError::new(format!("{}:{line}: {message}", file.display()));
        if let Some(found) = one(text, keys, custom, auth, &mut edits).map_err(|message| at(&message))? {
            adopted.runners.push(Runner { line, ..found });
        }
    }
    edits.sort_by_key(|edit| edit.span.start);
    adopted.text = text.to_owned();
    for edit in edits.iter().rev() {
        adopted.text.replace_range(edit.span.clone(), &edit.after);
    }
    adopted.changes = edits.into_iter().map(|edit| edit.shown(text)).collect();
    Ok(adopted)
}

/// A value, and what takes its place.
struct Edit {
    key: String,
    span: Range<usize>,
    before: String,
    after: String,
}

impl Edit {
    fn shown(self, text: &str) -> Change {
        Change {
            line: line_of(text, self.span.start),
            before: format!("{} = {}", self.key, self.before),
            after: format!("{} = {}", self.key, self.after),
        }
    }
}

/// One `[[runners]]`; none if it does not call Jacamar CI.
fn one(
    text: &str,
    runner: &DeTable<'_>,
    custom: &DeTable<'_>,
    auth: &Path,
    edits: &mut Vec<Edit>,
) -> Result<Option<Runner>, String> {
    let program = |stage: &str| custom.get(format!("{stage}_exec").as_str());
    let is_jacamar = |value: &Spanned<DeValue<'_>>| {
        let name = value.get_ref().as_str().and_then(|path| Path::new(path).file_name());
        name.is_some_and(|name| PROGRAMS.iter().any(|program| name == *program))
    };
    if !STAGES.iter().any(|stage| program(stage).is_some_and(is_jacamar)) {
        return Ok(None);
    }
    let named = runner.get("name").and_then(|value| value.get_ref().as_str());
    let url = runner.get("url").and_then(|value| value.get_ref().as_str());
    let mut found = Runner {
        name: named.unwrap_or("without a name").to_owned(),
        line: 0,
        url: url.map(server_of),
        configuration: None,
        no_auth: false,
    };
    for stage in STAGES {
        let key = format!("{stage}_exec");
        match program(stage) {
            Some(value) if is_jacamar(value) => {
                let after = toml_string(&auth.display().to_string());
                edits.push(edit(text, key, value.span(), after));
            }
            Some(value) => {
                let other = value.get_ref().as_str().unwrap_or("no string");
                return Err(format!(
                    "runner `{}`: {key} is {other}, and other stages call Jacamar CI; correct it by hand first",
                    found.name
                ));
            }
            None => {
                return Err(format!(
                    "runner `{}`: {key} is not set, and other stages call Jacamar CI",
                    found.name
                ));
            }
        }
        let key = format!("{stage}_args");
        let Some(value) = custom.get(key.as_str()) else { continue };
        let words = words(value.get_ref()).ok_or_else(|| format!("{key} is not an array of strings"))?;
        if let Some(named) = configuration(&words) {
            found.configuration.get_or_insert(named);
        }
        let kept: Vec<String> =
            words.iter().filter(|word| *word != NO_AUTH).map(|word| toml_string(word)).collect();
        if kept.len() < words.len() {
            found.no_auth = true;
            edits.push(edit(text, key, value.span(), format!("[{}]", kept.join(", "))));
        }
    }
    Ok(Some(found))
}

fn edit(text: &str, key: String, span: Range<usize>, after: String) -> Edit {
    let before = text.get(span.clone()).unwrap_or_default();
    // An array of several lines is shown on one.
    let before = before.split_whitespace().collect::<Vec<_>>().join(" ");
    Edit { key, span, before, after }
}

fn words(value: &DeValue<'_>) -> Option<Vec<String>> {
    let DeValue::Array(array) = value else { return None };
    array.iter().map(|word| word.get_ref().as_str().map(str::to_owned)).collect()
}

/// The file behind `--configuration`.
fn configuration(words: &[String]) -> Option<PathBuf> {
    let apart = words.iter().position(|word| word == "--configuration").and_then(|at| words.get(at + 1));
    let joined = || words.iter().find_map(|word| word.strip_prefix("--configuration="));
    apart.map(String::as_str).or_else(joined).map(PathBuf::from)
}

/// The server of a runner's `url`. Old registrations have `/ci` at its end.
fn server_of(url: &str) -> String {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/ci").unwrap_or(url).to_owned()
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::{Adopted, adopt};
    use std::path::Path;

    const AUTH: &str = "/opt/nunbird/bin/nunbird-auth";

    fn adopted(text: &str) -> Adopted {
        adopt(Path::new("config.toml"), text, Path::new(AUTH)).unwrap_or_else(|e| panic!("{e:?}"))
    }

    /// As the documents of a site have it, with the configuration for two stages only.
    const USUAL: &str = r#"concurrent = 4 # of the login node

[[runners]]
  name = "login1"
  url = "https://gitlab.example.org/"
  token = "glrt-secret"
  executor = "custom"
  [runners.custom]
    config_exec = "/opt/jacamar/bin/jacamar-auth"
    config_args = ["config", "--configuration", "/etc/gitlab-runner/custom-config.toml"]
    prepare_exec = '/opt/jacamar/bin/jacamar-auth' # as it was
    prepare_args = ["prepare"]
    run_exec = "/opt/jacamar/bin/jacamar-auth"
    run_args = ["run"]
    cleanup_exec = "/opt/jacamar/bin/jacamar-auth"
    cleanup_args = ["cleanup", "--configuration", "/etc/gitlab-runner/custom-config.toml"]

[[runners]]
  name = "docker"
  url = "https://gitlab.example.org/"
  executor = "docker"
"#;

    #[test]
    fn only_the_programs_of_the_runner_change_and_every_other_byte_stays() {
        let adopted = adopted(USUAL);
        let expected = USUAL
            .replace("'/opt/jacamar/bin/jacamar-auth'", &format!("\"{AUTH}\""))
            .replace("/opt/jacamar/bin/jacamar-auth", AUTH);
        assert_eq!(adopted.text, expected);
        assert_eq!(adopted.changes.len(), 4);
        assert_eq!(adopted.changes[1].line, 11);
        assert_eq!(adopted.changes[1].before, "prepare_exec = '/opt/jacamar/bin/jacamar-auth'");
        assert_eq!(adopted.changes[1].after, format!("prepare_exec = \"{AUTH}\""));
        let [runner] = adopted.runners.as_slice() else { panic!("{:?}", adopted.runners) };
        assert_eq!((runner.name.as_str(), runner.line, runner.no_auth), ("login1", 3, false));
        assert_eq!(runner.url.as_deref(), Some("https://gitlab.example.org"));
        let file = Path::new("/etc/gitlab-runner/custom-config.toml");
        assert_eq!(runner.configuration.as_deref(), Some(file));
    }

    #[test]
    fn a_flag_in_front_stays_and_no_auth_goes() {
        let text = USUAL
            .replace("[\"config\", ", "[\"-u\", \"config\", ")
            .replace("[\"prepare\"]", "[\n      \"--no-auth\",\n      \"prepare\",\n    ]");
        let adopted = adopted(&text);
        assert!(
            adopted.text.contains("config_args = [\"-u\", \"config\", \"--configuration\", "),
            "{}",
            adopted.text
        );
        assert!(adopted.text.contains("prepare_args = [\"prepare\"]\n"), "{}", adopted.text);
        assert!(adopted.runners[0].no_auth);
        let change = &adopted.changes[2];
        assert_eq!(change.before, "prepare_args = [ \"--no-auth\", \"prepare\", ]");
        assert_eq!(change.after, "prepare_args = [\"prepare\"]");
    }

    #[test]
    fn a_path_behind_an_equals_sign_and_an_inline_table_are_read() {
        let text = r#"runners = [{ name = "x", url = "https://g.example.org/ci", token = "s", custom = { config_exec = "/usr/bin/jacamar", config_args = ["config", "--configuration=/c.toml"], prepare_exec = "/usr/bin/jacamar", run_exec = "/usr/bin/jacamar", cleanup_exec = "/usr/bin/jacamar" } }]"#;
        let adopted = adopted(text);
        assert_eq!(adopted.text, text.replace("/usr/bin/jacamar", AUTH));
        assert_eq!(adopted.runners[0].configuration.as_deref(), Some(Path::new("/c.toml")));
        assert_eq!(adopted.runners[0].url.as_deref(), Some("https://g.example.org"));
        let shown: String =
            adopted.changes.iter().map(|one| format!("{}{}", one.before, one.after)).collect();
        assert!(!shown.contains("token"), "{shown}");
    }

    #[test]
    fn a_runner_of_which_one_stage_calls_another_program_is_refused_with_its_line() {
        for (from, to, words) in [
            ("run_exec = \"/opt/jacamar/bin/jacamar-auth\"", "run_exec = \"/bin/sh\"", "run_exec is /bin/sh"),
            ("    run_exec = \"/opt/jacamar/bin/jacamar-auth\"\n", "", "run_exec is not set"),
            ("run_args = [\"run\"]", "run_args = [1]", "run_args is not an array of strings"),
        ] {
            let text = USUAL.replace(from, to);
            let error = adopt(Path::new("config.toml"), &text, Path::new(AUTH)).expect_err(words);
            let error = format!("{error:?}");
            assert!(error.contains("config.toml:3: ") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_does_not_call_jacamar_ci_stays_as_it_is() {
        for text in
            ["", "runners = 3", "[[runners]]\nname = \"x\"\n[runners.custom]\nrun_exec = \"/my/driver\"\n"]
        {
            let adopted = adopted(text);
            assert_eq!((adopted.text.as_str(), adopted.runners.len(), adopted.changes.len()), (text, 0, 0));
        }
        assert!(adopt(Path::new("config.toml"), "[[runners", Path::new(AUTH)).is_err());
    }
}
