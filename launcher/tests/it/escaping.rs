//! Processes that leave their stage's session.

use crate::world::{BUILD_FAILURE, World, assert_code, out, runs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_skip::needs;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The ways in which daemons detach; each writes its pid to `$HOME/<name>` first.
const DAEMONS: &str = r#"
    daemon() { setsid sh -c "echo \$\$ >\"$HOME/$1.new\"; mv \"$HOME/$1.new\" \"$HOME/$1\"; $2" </dev/null >/dev/null 2>&1 & }
    daemon polite 'exec sleep 300'
    daemon deaf 'trap "" TERM HUP INT; while :; do sleep 1; done'
    daemon stopped 'kill -STOP $$; sleep 300'
    (daemon twice 'cd /; exec sleep 300')
    for name in polite deaf stopped twice; do while [ ! -s "$HOME/$name" ]; do sleep 0.02; done; done
"#;
const NAMES: [&str; 4] = ["polite", "deaf", "stopped", "twice"];

fn pid(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
}

#[track_caller]
fn assert_gone(world: &World) {
    for name in NAMES {
        let pid = pid(&world.home().join(name));
        assert!(!runs(&pid), "{name} {pid} still runs");
    }
}

/// Processes whose environment contains the job's mark, seen from outside the launcher.
fn marked(world: &World) -> Vec<String> {
    let mark = format!("NUNBIRD_DECISION_ID={}", world.handover.decision_id);
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    let carries = |name: &String| {
        fs::read(format!("/proc/{name}/environ"))
            .is_ok_and(|all| all.split(|b| *b == 0).any(|variable| variable == mark.as_bytes()))
    };
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| carries(n) && runs(n)).collect()
}

#[test]
fn daemons_end_with_a_cancelled_stage() {
    let mut world = World::impatient();
    let running = world.start_stage("build_script", format!("{DAEMONS} echo ready; sleep 300")).ready();
    for name in NAMES {
        assert!(runs(&pid(&world.home().join(name))), "{name} has not started");
    }
    running.signal(Signal::SIGTERM);
    assert_code(&running.finish(), BUILD_FAILURE);
    assert_gone(&world);
}

#[test]
fn daemons_outlive_their_stage_and_end_with_the_job() {
    let mut world = World::impatient();
    assert_code(&world.run(DAEMONS), 0);
    for name in NAMES {
        assert!(runs(&pid(&world.home().join(name))), "{name} ended with its stage");
    }
    let output = world.cleanup();
    assert_code(&output, 0);
    assert!(out(&output).contains("processes that the job left"), "{}", out(&output));
    assert_gone(&world);
    assert!(!out(&world.cleanup()).contains("processes"), "the second time there are none");
}

#[test]
fn a_cancelled_daemon_gets_one_term_and_may_tidy_up() {
    let mut world = World::impatient();
    let script = "setsid sh -c 'trap \"echo term >>\\\"$HOME/terms\\\"; sleep 0.3; echo tidy >\\\"$HOME/tidy\\\"; exit\" TERM
            echo up >\"$HOME/up\"; while :; do sleep 0.05; done' </dev/null >/dev/null 2>&1 &
        trap 'sleep 0.8; exit 1' TERM; while [ ! -s \"$HOME/up\" ]; do sleep 0.02; done; echo ready; sleep 300 & wait";
    let running = world.start_stage("build_script", script).ready();
    running.signal(Signal::SIGTERM);
    assert_code(&running.finish(), BUILD_FAILURE);
    assert_eq!(fs::read_to_string(world.home().join("terms")).expect("terms"), "term\n");
    assert_eq!(fs::read_to_string(world.home().join("tidy")).expect("tidy"), "tidy\n");
}

#[test]
fn the_accounts_other_processes_are_left_alone() {
    let mut world = World::impatient();
    let other_mark = "NUNBIRD_DECISION_ID=00000000000000000000000000000000";
    let mut others: Vec<_> = [vec![], vec![other_mark], vec!["NUNBIRD_JOB_ID=4711"]]
        .into_iter()
        .map(|variables| {
            let uid = world.handover.account.uid.to_string();
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &uid, "--clear-groups", "env"]).args(variables).args(["sleep", "300"]);
            command.stdin(Stdio::null()).spawn().expect("sleep")
        })
        .collect();
    assert_code(&world.run(DAEMONS), 0);
    assert_code(&world.cleanup(), 0);
    assert_gone(&world);
    for other in &mut others {
        assert!(other.try_wait().expect("status").is_none(), "another process of the account was ended");
        kill(Pid::from_raw(other.id().cast_signed()), Signal::SIGKILL).expect("kill");
        other.wait().expect("ended");
    }
}

/// Starts a fork storm in the background and ends it by a cleanup; `each` is what each of its
/// processes does.
fn storm(number: u32, each: &str) {
    let mut world = World::impatient();
    // A few hundred at once at most, so that the test host stays usable.
    world.prefix = "prlimit --nproc=300".to_owned();
    world.handover.account.uid = 65_000 + number;
    world.handover.account.gid = 65_000 + number;
    nix::unistd::chown(&world.home(), Some(world.handover.account.uid.into()), None).expect("chown");
    world.write(&world.home().join("each"), each);
    let script = "setsid bash \"$HOME/each\" \"$HOME/each\" </dev/null >/dev/null 2>&1 & echo raging";
    assert_eq!(out(&world.run(script)), "raging\n");
    let begin = Instant::now();
    while marked(&world).len() < 30 {
        assert!(begin.elapsed() < Duration::from_secs(20), "there is no storm");
        std::thread::sleep(Duration::from_millis(20));
    }
    world.prefix.clear();
    let begin = Instant::now();
    let output = world.cleanup();
    let took = begin.elapsed();
    assert_code(&output, 0);
    let left = marked(&world);
    assert!(left.is_empty() && !out(&output).contains("do not end"), "{left:?} left: {}", out(&output));
    assert!(took < Duration::from_secs(30), "{took:?}");
    std::thread::sleep(Duration::from_millis(200));
    assert!(marked(&world).is_empty(), "it came back");
}

#[needs(root)]
fn processes_that_fork_as_fast_as_they_can_are_beaten() {
    storm(5, "trap '' TERM; while :; do bash \"$1\" \"$1\" & bash \"$1\" \"$1\" & wait; done");
}

#[needs(root)]
fn processes_that_fork_into_sessions_of_their_own_and_end_are_beaten() {
    storm(6, "trap '' TERM; setsid bash \"$1\" \"$1\" &\nsetsid bash \"$1\" \"$1\" &\nexit");
}
