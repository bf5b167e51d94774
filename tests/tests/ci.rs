//! What CI runs and how it counts: `.ci/run`, `.ci/rows`, the rows of `make test`, the forge's workflow.

use super::tree;
use nunbird_tests::world::write_executable;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// `.ci/run` with a make(1) that prints and writes this text, and ends with this code, on a machine
/// of this kind.
fn ci_on(machine: Option<&str>, printed: &str, skips: &str, code: i32) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let make = directory.path().join("make");
    let script = format!(
        "#!/bin/bash\nskips=${{2#NUNBIRD_SKIPS=}}\n[ \"$1\" = test ] && [ -n \"$skips\" ] || exit 99\n\
         printf '%b' '{skips}' >>\"$skips\"\nprintf '%b' '{printed}'\nexit {code}\n"
    );
    write_executable(&make, script.as_bytes());
    fs::set_permissions(&make, fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!(
        "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        directory.path().display()
    );
    let mut command = Command::new(tree().join(".ci/run"));
    command.env("PATH", path).env_remove("NUNBIRD_KNOWN_SKIPS");
    if let Some(kind) = machine {
        command.env("NUNBIRD_KNOWN_SKIPS", format!(".ci/known-skips-{kind}"));
    }
    command.output().expect("bash")
}

fn ci(printed: &str, skips: &str, code: i32) -> Output {
    ci_on(None, printed, skips, code)
}

#[test]
fn ci_counts_what_is_left_out_and_fails_for_all_but_the_known() {
    let passed = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\\n\
                  test result: ok. 2 passed; 0 failed\\n7 passed, 0 failed\\n";
    let failed =
        "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\\n";
    let ignored =
        "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1s\\n";
    let known = "advisories\\tMakefile\\tout of reach\\n";
    let skip = "limits\\ttests/tests/limits.rs:50\\tno control groups\\n";
    let both = format!("{known}{skip}");
    for (printed, skips, code, expected, counts) in [
        (passed, "", 0, 0, "7 passed, 0 failed, 0 skipped"),
        (passed, known, 0, 0, "7 passed, 0 failed, 1 skipped"),
        (passed, skip, 0, 1, "7 passed, 0 failed, 1 skipped"),
        (passed, both.as_str(), 0, 1, "7 passed, 0 failed, 2 skipped"),
        (passed, "", 2, 2, "7 passed, 0 failed, 0 skipped"),
        (failed, "", 2, 2, "5 passed, 2 failed, 0 skipped"),
        (failed, "", 0, 1, "5 passed, 2 failed, 0 skipped"),
        (ignored, "", 0, 1, "5 passed, 0 failed, 1 skipped"),
        ("", "", 0, 1, "0 passed, 0 failed, 0 skipped"),
    ] {
        let output = ci(printed, skips, code);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(expected), "{printed}{skips}\n{said}");
        assert_eq!(said.lines().last(), Some(counts), "{said}");
    }
    let said = String::from_utf8(ci(passed, &both, 0).stdout).expect("text");
    assert!(said.contains("SKIPPED limits, tests/tests/limits.rs:50: no control groups\n"), "{said}");
    assert!(said.contains("SKIPPED (known) advisories, Makefile: out of reach\n"), "{said}");
}

/// The log of everything is longer than what a forge shows, so the closing lines say what failed and why.
#[test]
fn the_closing_lines_name_what_failed() {
    let printed = "test ledger::a_row_has_a_test ... FAILED\\ntest ledger::b ... ok\\n\
                   thread ledger::a panicked at tests/a.rs:7:5:\\nassertion failed: left == right\\n  left: 1\\n\\nother\\n\
                   FAILED  removed: programs gone\\n.ci/rows: exit status 101: cargo test\\n\
                   test result: FAILED. 1 passed; 1 failed; 0 ignored\\n";
    let said = String::from_utf8(ci(printed, "", 2).stdout).expect("text");
    let closing = said.split("0 ignored\n").nth(1).expect("closing lines");
    assert_eq!(
        closing,
        "FAILED ledger::a_row_has_a_test\nFAILED removed: programs gone\n\
         .ci/rows: exit status 101: cargo test\n\
         thread ledger::a panicked at tests/a.rs:7:5:\nassertion failed: left == right\n  left: 1\n\
         packages: not checked\n1 passed, 1 failed, 0 skipped\n"
    );
    assert!(
        !String::from_utf8_lossy(&ci("test a ... ok\\ntest result: ok. 1 passed; 0 failed\\n", "", 0).stdout)
            .contains("FAILED")
    );
}

/// A line for a machine of one kind is a pattern, and matches no other name.
#[test]
fn ci_on_a_machine_without_groups_of_version_1_may_leave_out_what_needs_them() {
    let passed = "test result: ok. 5 passed; 0 failed\\n";
    for (name, known) in [
        ("host_login::a_stage_has_a_session", true),
        ("limits::a_job_has_its_limits", true),
        ("limits_of_version_one_are_set_read_back_and_enforced", true),
        ("ghost::a_job_runs", false),
        ("faults::a_job_runs", false),
        ("ledger::a_job_runs", false),
    ] {
        let skip = format!("{name}\\ttests/tests/a.rs:1\\tno groups\\n");
        assert_eq!(ci_on(Some("cgroup2"), passed, &skip, 0).status.success(), known, "{name}");
        assert!(!ci(passed, &skip, 0).status.success(), "{name}");
    }
}

#[test]
fn the_workflow_of_the_forge_runs_the_check_and_every_test_without_secrets() {
    let text = fs::read_to_string(tree().join(".github/workflows/ci.yml")).expect("a workflow");
    let runs = |command: &str| {
        text.lines().any(|line| line.trim_start().starts_with("- run: ") && line.ends_with(command))
    };
    assert!(runs(" make check") && runs(" .ci/run") && !text.contains("{{ secrets"), "{text}");
    for action in text.lines().filter_map(|line| line.split_once("uses: ")) {
        let version = action.1.split_once("@v").expect("a version").1;
        assert_eq!(version.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{}", action.1);
    }
}

/// A test program that is in no row is not run by `make test`, and nobody notices.
#[test]
fn every_test_program_is_in_one_row_of_make_test() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]);
    let printed = cargo.current_dir(tree()).output().expect("cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&printed.stdout).expect("metadata");
    let of_kind = |kind: &str| -> BTreeSet<&str> {
        let targets = metadata["packages"].as_array().expect("packages").iter().flat_map(|package| {
            package["targets"].as_array().into_iter().flatten().filter(|target| {
                target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind))
                    && target["test"] == true
            })
        });
        targets.filter_map(|target| target["name"].as_str()).collect()
    };
    let makefile = fs::read_to_string(tree().join("Makefile")).expect("the Makefile");
    let rows =
        makefile.split("define FIRST_ROW").nth(1).and_then(|text| text.split("export FIRST_ROW").next());
    let words: Vec<&str> = rows.expect("the rows").split_whitespace().collect();
    let mut in_rows: Vec<&str> =
        words.windows(2).filter(|pair| pair[0] == "--test").map(|pair| pair[1]).collect();
    in_rows.sort_unstable();
    let programs = of_kind("test");
    assert!(programs.contains("gate"), "{programs:?}");
    assert_eq!(in_rows, programs.into_iter().collect::<Vec<_>>());
    assert!(["--lib", "$(TESTED)", "--doc"].iter().all(|kind| words.contains(kind)), "{words:?}");

    let tested = makefile.lines().find_map(|line| line.strip_prefix("TESTED = $(addprefix --bin ,"));
    let tested: Vec<&str> = tested.expect("a list").trim_end_matches(')').split_whitespace().collect();
    assert_eq!(tested, of_kind("bin").into_iter().collect::<Vec<_>>());
}

#[test]
fn rows_run_at_once_to_their_ends_and_each_failure_counts() {
    let meeting = tempfile::tempdir().expect("a directory");
    let rows = |rows: &[&str]| {
        let mut script = Command::new(tree().join(".ci/rows"));
        script.args(rows).current_dir(meeting.path()).output().expect("the script")
    };
    // Each row waits for the other one.
    let seen = rows(&[
        "mkfifo a\nmkfifo b\necho one >a\nread word <b; echo \"first $word\"",
        "until [ -p b ]; do sleep 0.01; done; read word <a; echo two >b; echo \"second $word\"",
    ]);
    let printed = String::from_utf8(seen.stdout).expect("text");
    assert!(
        seen.status.success() && printed.contains("\nfirst two\n") && printed.ends_with("\nsecond one\n"),
        "{printed}"
    );
    for failing in [["true", "false\necho after"], ["false\necho after", "true"]] {
        let seen = rows(&failing);
        let printed = String::from_utf8(seen.stdout).expect("text");
        assert_eq!(seen.status.code(), Some(1), "{printed}");
        assert!(printed.contains("exit status 1: false\n") && printed.contains("\nafter\n"), "{printed}");
    }
}
