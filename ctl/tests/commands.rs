//! What the commands print and how they end.

use std::path::Path;
use std::process::{Command, Output};

const POLICY: &str = r#"
[[gitlab]]
name = "main"
url = "https://gitlab.example.org"
audience = "https://gitlab.example.org"

[[rule]]
name = "hpc-only"
when = { project = "hpc/**" }
run_as = "$user_login"
"#;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nunbirdctl")).args(arguments).output().expect("nunbirdctl")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn with_files(policy: &str, claims: &str, check: impl FnOnce(&Path, &Path)) {
    let scratch = tempfile::tempdir().unwrap();
    let (config, facts) = (scratch.path().join("config.toml"), scratch.path().join("claims.json"));
    std::fs::write(&config, policy).unwrap();
    std::fs::write(&facts, claims).unwrap();
    check(&config, &facts);
}

fn claims(login: &str, project: &str) -> String {
    format!(
        r#"{{"user_login":"{login}","user_id":7,"project_path":"{project}","ref":"main","ref_protected":true,"pipeline_source":"push"}}"#
    )
}

fn explained(login: &str, project: &str) -> (i32, String) {
    let mut answer = (0, String::new());
    with_files(POLICY, &claims(login, project), |config, facts| {
        let paths = [config.to_str().unwrap(), facts.to_str().unwrap()];
        let output = run(&["explain", "--configuration", paths[0], "--claims", paths[1]]);
        answer = (output.status.code().unwrap(), text(&output.stdout));
    });
    answer
}

#[test]
fn a_job_that_fits_a_rule_is_explained_with_it_and_the_account() {
    let (code, shown) = explained("alice", "hpc/app");
    assert_eq!(code, 4);
    assert!(shown.contains("1. hpc-only") && shown.contains(":7:1): fits"), "{shown}");
    assert!(shown.contains("no job runs as `alice`: not in the user database"), "{shown}");
}

#[test]
fn a_denied_job_is_explained_with_the_condition_that_failed() {
    let (code, shown) = explained("alice", "other/app");
    assert_eq!(code, 4);
    assert!(shown.contains("does not fit: project") && shown.contains("no rule fits"), "{shown}");
    let (code, shown) = explained("root", "hpc/app");
    assert_eq!(code, 4);
    assert!(shown.contains("no job runs as `root`"), "{shown}");
}

#[test]
fn hostile_claims_are_printed_escaped() {
    let (_, shown) = explained("a\\u001b[31m", "hpc/app");
    assert!(shown.contains("\\u{1b}") && !shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn an_invalid_configuration_is_shown_with_its_place_and_ends_with_3() {
    with_files(&POLICY.replace("audience", "audiance"), "{}", |config, _| {
        let output = run(&["check", "--no-host", "--configuration", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3));
        let shown = text(&output.stderr);
        assert!(shown.contains("config.toml:5:1") && shown.contains("write `audience`"), "{shown}");
    });
}

#[test]
fn check_looks_at_the_host_and_says_what_is_missing() {
    with_files(&format!("keys_dir = \"/nonexistent/keys\"\n{POLICY}"), "{}", |config, _| {
        let output = run(&["check", "--configuration", config.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3));
        let shown = text(&output.stdout);
        assert!(
            shown.contains("/nonexistent/keys/main.json") && shown.contains("nunbird-keys refresh"),
            "{shown}"
        );
    });
}

#[test]
fn a_missing_file_and_a_wrong_word_are_told_apart() {
    assert_eq!(run(&["check", "--configuration", "/nonexistent"]).status.code(), Some(1));
    assert_eq!(run(&["chek"]).status.code(), Some(2));
}
