//! A Jacamar CI beside Nunbird: `nunbirdctl doctor` reports an old one, and asking it for its
//! version gives it no privilege.

use nunbird_tests::needs;
use nunbird_tests::world::{Privilege, World};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const PROGRAM: &str = "/opt/jacamar/bin/jacamar-auth";
const RUNNER: &str = "/etc/gitlab-runner/config.toml";

/// Every finding about Jacamar CI, as `severity message`.
fn found_by(world: &World, account: &str) -> Vec<String> {
    let program = world.paths().bin.join("nunbirdctl");
    let words = ["doctor", "--format", "json", "--runner-user", world.privilege().runner()];
    let done = world.run(&world.program(account, program, &words));
    let answer: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let findings = answer["findings"].as_array().expect("findings").iter();
    findings
        .filter(|finding| finding["code"] == "jacamar")
        .map(|f| {
            format!("{} {}", f["severity"].as_str().expect("a text"), f["message"].as_str().expect("a text"))
        })
        .collect()
}

fn found(world: &World) -> Vec<String> {
    found_by(world, "root")
}

/// A Jacamar CI that does this when asked for its version.
fn installed(script: &str, mode: u32) -> World {
    let world = World::new(Privilege::Setuid);
    world.write_file(PROGRAM, format!("#!/bin/sh\n{script}\n"), "root", mode);
    world
}

#[track_caller]
fn assert_one(found: &[String], words: &[&str]) {
    assert!(found.len() == 1 && words.iter().all(|part| found[0].contains(part)), "{words:?}: {found:#?}");
}

const OLD: &str = "echo 'Version: 0.27.4'; echo 'Git Commit: 1234'; echo 'Go Version: go1.25'";

#[needs(root)]
fn an_old_jacamar_is_named_and_is_an_error_where_the_runner_calls_it() {
    let world = installed(&format!("[ \"$*\" = --version ] || exit 9\n{OLD}"), 0o700);
    assert_one(&found(&world), &["remark", PROGRAM, "0.27.4", "before 0.30.0", "CVE-2026-107589"]);
    let runners = format!(
        "[[runners]]\nname = \"old\"\nexecutor = \"custom\"\n[runners.custom]\nconfig_exec = \"{PROGRAM}\"\n"
    );
    world.write_file(RUNNER, runners, "root", 0o600);
    assert_one(&found(&world), &["error", PROGRAM, "gitlab-runner calls it"]);

    // Beside it, at a path that only the runner's configuration names.
    let elsewhere = "/opt/site/jacamar-auth";
    world.write_file(elsewhere, "#!/bin/sh\necho Version: 0.9.0\n", "root", 0o755);
    world.write_file(PROGRAM, "#!/bin/sh\necho Version: 0.30.0\n", "root", 0o755);
    assert!(found(&world).is_empty(), "a mended release is passed over: {:?}", found(&world));
    let runners = format!("[[runners]]\n[runners.custom]\nrun_exec = \"{elsewhere}\"\n");
    world.write_file(RUNNER, runners, "root", 0o600);
    assert_one(&found(&world), &["error", elsewhere, "0.9.0"]);
}

#[needs(root)]
fn a_program_that_is_asked_for_its_version_has_no_privilege_and_no_environment() {
    let script = "id=$(id -u).$(id -g)\n\
                  groups=$(grep ^Groups: /proc/self/status | tr -dc 0-9)\n\
                  held=$(grep -c '^Cap[IPEA].*:.0*$' /proc/self/status)\n\
                  nnp=$(grep ^NoNewPrivs: /proc/self/status | tr -dc 0-9)\n\
                  secret=$(env | grep -vc -e ^PATH= -e ^LC_ALL= -e ^HOME= -e ^PWD= -e ^OLDPWD= -e ^_=)\n\
                  echo Version: 0.0.0-i$id.g$groups.c$held.n$nnp.s$secret";
    // A setuid bit has no effect on a shell script, but would make a program root: what runs is a
    // copy without it.
    for mode in [0o700, 0o4755] {
        let world = installed(script, mode);
        assert_one(&found(&world), &["0.0.0-i65534.65534.g.c4.n1.s0"]);
    }
}

#[needs(root)]
fn a_program_that_hangs_floods_or_prints_what_deceives_is_unknown_and_leaves_nothing() {
    for (script, why) in [
        ("sleep 61.7353 & sleep 61.7353", "unknown version"),
        ("exec cat /dev/zero", "unknown version"),
        ("printf 'Version: 0.30.0\\033[31m\\n'", "no version"),
        ("echo Version: 0.30.0; exit 3", "ends with 3"),
        ("echo 0.30.0", "no version"),
    ] {
        let world = installed(script, 0o755);
        let begun = Instant::now();
        assert_one(&found(&world), &["remark", "unknown version", why]);
        assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
        // The kernel ends what was killed when there is a processor for it.
        let begun = Instant::now();
        while sleeps() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{script}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a process of the first script above is left.
fn sleeps() -> bool {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|words| words.split(|b| *b == 0).any(|word| word == b"61.7353"))
}

#[needs(root)]
fn a_program_that_others_may_write_is_not_run_at_all() {
    let world = installed(OLD, 0o755);
    let mark = "touch /tmp/ran; chmod 666 /tmp/ran; echo Version: 0.27.4";
    for (owner, mode) in [("bob", 0o755), ("root", 0o777)] {
        world.write_file(PROGRAM, format!("#!/bin/sh\n{mark}\n"), owner, mode);
        assert_one(&found(&world), &["unknown version", "others may write it"]);
        assert!(!world.host_path("/tmp/ran").exists(), "{owner} {mode:o}");
    }
    world.write_file(PROGRAM, "", "root", 0o644);
    assert_one(&found(&world), &["not an executable file"]);
}

#[needs(root)]
fn an_account_without_privilege_learns_the_version_of_what_it_may_read() {
    let world = installed(OLD, 0o700);
    let open = std::fs::Permissions::from_mode(0o755);
    for directory in ["/opt/jacamar", "/opt/jacamar/bin"] {
        std::fs::set_permissions(world.host_path(directory), open.clone()).expect("a mode");
    }
    assert_one(&found_by(&world, "alice"), &["unknown version"]);
    world.write_file("/opt/jacamar/bin/jacamar", format!("#!/bin/sh\n{OLD}\n"), "root", 0o755);
    assert_one(&found_by(&world, "alice"), &["0.27.4"]);
}
