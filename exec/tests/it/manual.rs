//! The man page and the completions under packaging/ are what the program generates.

use std::path::Path;
use std::process::Command;

#[test]
fn the_man_page_and_the_completions_are_current() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    for (words, file) in [
        (vec!["--man"], "man/exec/nunbird-exec.1"),
        (vec!["--completions", "bash"], "completions/nunbird.bash"),
        (vec!["--completions", "zsh"], "completions/_nunbird"),
        (vec!["--completions", "fish"], "completions/nunbird.fish"),
    ] {
        let made = Command::new(env!("CARGO_BIN_EXE_nunbird-exec")).args(words).output().expect("it starts");
        let kept = std::fs::read(packaging.join(file)).unwrap_or_default();
        assert!(made.status.success() && !made.stdout.is_empty());
        assert!(made.stdout == kept, "packaging/{file} is not current: `make manual`");
    }
}

#[test]
fn wrong_usage_is_told_from_a_job_that_failed() {
    let run = |words: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_nunbird-exec"))
            .args(words)
            .output()
            .expect("it starts")
            .status
            .code()
    };
    // As the checks of the packages compare it.
    let version =
        Command::new(env!("CARGO_BIN_EXE_nunbird-exec")).arg("--version").output().expect("it starts").stdout;
    assert_eq!(String::from_utf8_lossy(&version), format!("nunbird-exec {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!((run(&["--help"]), run(&["--no-such"]), run(&[])), (Some(0), Some(125), Some(125)));
}
