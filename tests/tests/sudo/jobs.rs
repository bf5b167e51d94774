//! Jobs whose user sudo has set.

use super::{begin, machine};
use nunbird_tests::{Cancel, Reason, Status, needs};
use std::fs;
use std::time::{Duration, Instant};

#[needs(root)]
fn a_job_runs_as_its_user_from_clone_to_artifact() {
    let world = machine();
    let outcome = world
        .job()
        .with_repository()
        .script("id -un; cat data/lattice.txt > out; exit 0")
        .artifact("out")
        .after_script("echo after by $(id -un)")
        .run()
        .expect_success();
    assert!(outcome.stage("build_script").log.contains("alice\n"), "{}", outcome.log());
    assert!(outcome.log().contains("after by alice"), "{}", outcome.log());
    let records = world.host_path("/home/nbt_runner/.local/state/nunbird/jobs");
    let left: Vec<_> =
        fs::read_dir(records).expect("the runner's records").flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".record")), "{left:?}");
}

#[needs(root)]
fn exit_codes_are_exact_and_a_killed_launcher_is_no_success() {
    let world = machine();
    world.job().script("exit 42").run().expect(&Status::script_failure(42));
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let outcome = session.run_text("build_script", "kill -KILL $PPID; sleep 20");
    assert!(!outcome.succeeded() && outcome.stderr.contains("[launcher-killed]"), "{}", outcome.log);
}

#[needs(root)]
fn the_job_has_the_users_ids_alone_and_an_environment_from_nothing() {
    let world = machine();
    world.reconfigure("[audit]\n", "[job.environment]\nSITE = \"cluster\"\n\n[audit]\n");
    let job = world.job().environment("NBT_LEAK", "of the runner");
    let mut session = job.begin();
    begin(&mut session);
    let script = "grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapAmb):' /proc/self/status\n\
                  tr '\\0' '\\n' < /proc/$PPID/environ; env; umask; tty; keyctl rdescribe @s\n\
                  for fd in /proc/$$/fd/*; do readlink $fd; done\n";
    let shown = session.run_text("build_script", script).log;
    for line in [
        "Uid:\t4101\t4101\t4101\t4101",
        "Gid:\t4101\t4101\t4101\t4101",
        "Groups:\t4101 4200",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "HOME=/home/alice",
        "SITE=cluster",
        "not a tty",
        "keyring;4101;4101;",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    for word in ["SUDO_", "MAIL=", "NBT_LEAK", "nunbird-sudo", "socket:"] {
        assert!(!shown.contains(word), "{word}: {shown}");
    }
}

#[needs(root)]
fn what_the_site_takes_away_is_taken_away_here_too() {
    let world = machine();
    world.reconfigure(
        "login_shell = true\n",
        "login_shell = true\nno_new_privileges = true\nlimit_setuid = true\n",
    );
    let outcome =
        world.job().script("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status").run().expect_success();
    let log = outcome.log();
    assert!(log.contains("NoNewPrivs:\t1") && log.contains("Seccomp:\t2"), "{log}");
}

#[needs(root)]
fn a_cancelled_job_leaves_no_process_although_its_runner_may_signal_none() {
    for (n, how) in [Cancel::Gracefully, Cancel::AtOnce].into_iter().enumerate() {
        let world = machine();
        let mark = format!("nbt-sudo-{n}-{}", std::process::id());
        // A reaction to TERM, which arrives only through the socket.
        let script =
            format!("trap 'echo he''ard; exit 1' TERM; (exec -a {mark} sleep 300) & echo go''ing; wait");
        let outcome = world
            .job()
            .script(&script)
            .cancel_when("build_script", "going", how)
            .run()
            .expect(&Status::failed(Reason::Canceled));
        if how == Cancel::Gracefully {
            let stage = outcome.stage("build_script");
            assert!(stage.signalled && !stage.unkillable && stage.log.contains("heard"), "{}", stage.log);
            assert!(stage.elapsed < Duration::from_secs(15), "{:?}", stage.elapsed);
        }
        let alive = || {
            let entries = fs::read_dir("/proc").expect("proc").flatten();
            entries
                .filter(|e| {
                    fs::read(e.path().join("cmdline")).is_ok_and(|line| line.starts_with(mark.as_bytes()))
                })
                .count()
        };
        let begun = Instant::now();
        while alive() > 0 && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(alive(), 0, "{how:?}");
    }
}

#[needs(root)]
fn limits_of_processes_reach_the_job_through_sudo() {
    let world = machine();
    let limits = "[limits.small]\nnofile = 777\nstack = \"16MiB\"\nstack_hard = \"32MiB\"\nmemlock = \"64KiB\"\nas = \"2GiB\"\n\
                  nice = 7\noom_score_adj = 250\n[job]\nlimits = \"small\"\n";
    world.reconfigure("[job]\n", limits);
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let look = "ulimit -H -n; ulimit -S -s; ulimit -H -s; ulimit -H -l; ulimit -S -v; nice; cat /proc/self/oom_score_adj";
    let looked = session.run_text("build_script", look);
    assert_eq!(looked.stdout, "777\n16384\n32768\n64\n2097152\n7\n250\n", "{}", looked.log);
    assert!(session.cleanup().succeeded());
}
