//! Scripts, shells, environment and exit codes.

use crate::world::{BUILD_FAILURE, SYSTEM_FAILURE, World, assert_code, err, out};
use std::collections::BTreeMap;

#[test]
fn a_script_that_succeeds_is_a_success_and_leaves_the_code_file_alone() {
    let mut world = World::new();
    let output = world.run("#!/usr/bin/env bash\necho hello; exit 0\n");
    assert_code(&output, 0);
    assert_eq!((out(&output).as_str(), err(&output).as_str()), ("hello\n", ""));
    assert_eq!(world.exit_code(), "1\n");
}

#[test]
fn every_exit_code_is_a_build_failure_with_the_exact_number() {
    for code in [1, 2, 10, 20, 126, 127, 255] {
        let mut world = World::new();
        assert_code(&world.run(format!("exit {code}\n")), BUILD_FAILURE);
        assert_eq!(world.exit_code(), format!("{code}\n"));
    }
}

#[test]
fn death_by_a_signal_is_a_build_failure_with_128_and_its_number() {
    for (signal, code) in [("KILL", 137), ("SEGV", 139), ("TERM", 143), ("40", 168)] {
        let mut world = World::new();
        assert_code(&world.run(format!("kill -{signal} $$; sleep 5\n")), BUILD_FAILURE);
        assert_eq!(world.exit_code(), format!("{code}\n"));
    }
}

#[test]
fn without_an_exit_code_file_a_failure_is_still_a_build_failure() {
    let mut world = World::new();
    world.handover.exit_code_file = false;
    assert_code(&world.run("exit 7"), BUILD_FAILURE);
    assert_eq!(world.exit_code(), "1\n");
}

#[test]
fn a_syntax_error_is_the_scripts_fault() {
    let mut world = World::new();
    assert_code(&world.run("if then fi\n"), BUILD_FAILURE);
    assert_ne!(world.exit_code(), "0\n");
}

#[test]
fn line_numbers_in_messages_are_those_of_the_script() {
    let mut world = World::new();
    let output = world.run("#!/usr/bin/env bash\n\nno-such-command-here\nexit 0\n");
    assert!(err(&output).contains("line 3"), "{}", err(&output));
}

#[test]
fn a_login_profile_that_reads_its_standard_input_does_not_eat_the_script() {
    for (shell, profile) in [("/bin/bash", ".bash_profile"), ("/bin/sh", ".profile")] {
        let mut world = World::new();
        world.handover.shell.path = shell.into();
        world.handover.shell.login = true;
        world.write(&world.home().join(profile), "cat; read -r line; export FROM_PROFILE=yes\n");
        let output = world.run("echo script $FROM_PROFILE; exit 0\n");
        assert_code(&output, 0);
        assert_eq!(out(&output), "script yes\n", "{shell}");
    }
}

#[test]
fn a_profile_that_ends_or_replaces_the_shell_is_no_success() {
    for profile in ["exit 0", "exec /bin/true", "exec 3<&-"] {
        let mut world = World::new();
        world.handover.shell.login = true;
        world.write(&world.home().join(".bash_profile"), profile);
        let output = world.run("echo script; exit 0\n");
        assert_code(&output, BUILD_FAILURE);
        assert_eq!(world.exit_code(), "1\n");
        assert!(err(&output).contains("login profile of nbt_alice"), "{profile}: {}", err(&output));
    }
}

/// As on Debian and Ubuntu, where `useradd -m` copies it into each home: `clear_console` fails
/// without a terminal.
const DEBIAN_LOGOUT: &str = "if [ \"$SHLVL\" = 1 ]; then\n    false\nfi\n";

#[test]
fn profiles_traps_and_logout_files_do_not_change_the_scripts_status() {
    let scripts = [
        ("set -eo pipefail\nexit 0\n", 0),
        ("set -eo pipefail\nexit 42\n", 42),
        ("set -e\nfalse\n", 1),
        ("(exit 7)\n", 7),
        ("set -e\ntrap 'exit 5' EXIT\nexit 0\n", 5),
        ("set -e\ntrap 'true; exit' EXIT\nexit 3\n", 3),
        ("set -e\ntrap 'true; exit' EXIT\n(exit 3)\n", 3),
        ("false\nexit\n", 1),
        ("kill -TERM $$\nexit 0\n", 143),
    ];
    for profile in ["", "trap false EXIT\n", "set -e\ntrap 'exit 9' EXIT ERR\n"] {
        for logout in [DEBIAN_LOGOUT, "exit 8\n", "no-such-command\nfalse\n"] {
            let mut world = World::new();
            world.handover.shell.login = true;
            world.write(&world.home().join(".bash_profile"), profile);
            world.write(&world.home().join(".bash_logout"), logout);
            for (script, status) in scripts {
                let output = world.run(script);
                let shown = format!("{profile:?} {logout:?} {script:?}: {}", err(&output));
                assert_eq!(
                    output.status.code(),
                    Some(if status == 0 { 0 } else { BUILD_FAILURE }),
                    "{shown}"
                );
                if status != 0 {
                    assert_eq!(world.exit_code(), format!("{status}\n"), "{shown}");
                }
            }
        }
    }
}

#[test]
fn functions_and_options_of_a_profile_reach_the_script() {
    let mut world = World::new();
    world.handover.shell.login = true;
    world.write(
        &world.home().join(".bash_profile"),
        "greet() { echo \"hello $1\"; }\nshopt -s extglob\nset -e\n",
    );
    let output =
        world.run("greet you; shopt -q extglob; case $- in *e*) echo errexit;; esac; false; echo on\n");
    assert_code(&output, BUILD_FAILURE);
    assert_eq!(out(&output), "hello you\nerrexit\n");
    assert_eq!(world.exit_code(), "1\n");
}

#[test]
fn a_shell_that_is_no_login_shell_reads_no_profile() {
    let mut world = World::new();
    world.write(&world.home().join(".bash_profile"), "exit 3\n");
    assert_code(&world.run("exit 0"), 0);
}

#[test]
fn a_script_of_50_mib_runs() {
    let mut world = World::new();
    let mut script = b"#!/usr/bin/env bash\n".to_vec();
    while script.len() < 50 << 20 {
        script.extend_from_slice(&[b'#'; 4095]);
        script.push(b'\n');
    }
    script.extend_from_slice(b"echo the end; exit 4\n");
    let output = world.run(script);
    assert_code(&output, BUILD_FAILURE);
    assert_eq!((out(&output).as_str(), world.exit_code().as_str()), ("the end\n", "4\n"));
}

#[test]
fn nul_bytes_in_a_script_do_not_cut_it_short() {
    let mut world = World::new();
    let output = world.run(b"#!/usr/bin/env bash\necho be\0fore\necho after; exit 0\n");
    assert_code(&output, 0);
    assert_eq!(out(&output), "before\nafter\n");
}

#[test]
fn the_environment_holds_what_is_allowed_and_nothing_else() {
    let mut world = World::new();
    world.handover.shell.path = "/bin/sh".into();
    world.handover.environment.insert("HOME".to_owned(), "/elsewhere".to_owned());
    world.handover.environment.insert("LANG".to_owned(), "C.UTF-8".to_owned());
    let output = world.run("env; exit 0");
    let text = out(&output);
    let mut found: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    // The shell's own.
    for name in ["PWD", "OLDPWD", "SHLVL", "_"] {
        found.remove(name);
    }
    let home = world.home();
    let expected = BTreeMap::from([
        ("HOME", home.to_str().expect("text")),
        ("LANG", "C.UTF-8"),
        ("LOGNAME", "nbt_alice"),
        ("NUNBIRD_DECISION_ID", world.handover.decision_id.as_str()),
        ("NUNBIRD_JOB_ID", "4711"),
        ("NUNBIRD_STAGE", "build_script"),
        ("PATH", "/usr/bin:/bin"),
        ("SHELL", "/bin/zsh"),
        ("USER", "nbt_alice"),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn a_job_inherits_three_descriptors_and_nothing_ignored_or_blocked() {
    let mut world = World::new();
    world.prefix = "env --ignore-signal=CHLD,TERM,PIPE,HUP --block-signal=INT,TERM".to_owned();
    let output = world.run("ls /proc/$$/fd; grep -E 'SigIgn|SigBlk' /proc/self/status; umask; exit 0");
    assert_code(&output, 0);
    let text = out(&output);
    let (descriptors, rest) = text.split_at(text.find("Sig").expect("signals"));
    let low: Vec<&str> = descriptors.lines().filter(|fd| fd.len() == 1).collect();
    assert_eq!(low, ["0", "1", "2"], "{text}");
    for line in rest.lines().filter(|line| line.starts_with("Sig")) {
        let set = u64::from_str_radix(line.split('\t').nth(1).expect("set"), 16).expect("hexadecimal");
        // 32 and 33 are the C library's own.
        assert_eq!(set & !(0b11 << 31), 0, "{text}");
    }
    assert!(text.ends_with("0022\n"), "{text}");
}

#[test]
fn a_job_begins_in_its_builds_directory_or_else_at_home() {
    let mut world = World::new();
    let home = world.home().canonicalize().expect("home");
    assert_eq!(out(&world.run("pwd -P; exit 0")).trim(), home.to_str().expect("text"));
    assert_code(&world.prepare(), 0);
    let builds = world.handover.workspace.builds_dir.canonicalize().expect("builds");
    assert_eq!(out(&world.run("pwd -P; exit 0")).trim(), builds.to_str().expect("text"));
}

#[test]
fn a_missing_gitlab_runner_is_warned_about_where_it_matters() {
    let mut world = World::new();
    world.mkdir(&world.path("empty"), 0o755);
    world.handover.environment.insert("PATH".to_owned(), world.path("empty").display().to_string());
    let output = world.start_stage("upload_artifacts_on_success", "exit 0").finish();
    assert_code(&output, 0);
    assert!(err(&output).contains("no program gitlab-runner on the PATH of this job (/"), "{}", err(&output));
    assert_eq!(err(&world.run("exit 0")), "");

    let runner = world.path("empty/gitlab-runner");
    world.write(&runner, "#!/bin/sh\n");
    std::fs::set_permissions(&runner, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    assert_eq!(err(&world.start_stage("restore_cache", "exit 0").finish()), "");
}

#[test]
fn dash_works_as_a_shell() {
    let mut world = World::new();
    world.handover.shell.path = "/bin/sh".into();
    let output = world.run("#!/usr/bin/env sh\necho \"$0\"; ls /proc/$$/fd >/dev/null && exit 9\n");
    assert_code(&output, BUILD_FAILURE);
    assert_eq!((out(&output).as_str(), world.exit_code().as_str()), ("sh\n", "9\n"));
}

#[test]
fn a_shell_that_cannot_be_started_is_a_system_failure_that_names_it() {
    for (shell, cause) in [("/nonexistent/bash", "No such file"), ("/etc/passwd", "Permission denied")] {
        let mut world = World::new();
        world.handover.shell.path = shell.into();
        let output = world.run("exit 0");
        assert_code(&output, SYSTEM_FAILURE);
        let text = err(&output);
        assert!(text.contains(&format!("cannot start the shell {shell}: {cause}")), "{text}");
    }
}
