//! What becomes of a stage whose decider is asked to end, or is killed, while the script runs.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_tests::{Daemons, Exit, Privilege, World, needs};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Says which process it is and waits, but not for ever.
const WAITING: &str = "echo $$ > ~/pid.new; mv ~/pid.new ~/pid; n=0; while [ ! -e ~/go ] && [ $((n += 1)) -lt 600 ]; do sleep 0.05; done; exit 7";

/// The pid of the parent (proc_pid_stat(5)).
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The decider of the stage whose script is this process: a child of one of its ancestors.
fn decider_of(script: i32) -> i32 {
    let ancestors: Vec<i32> = std::iter::successors(Some(script), |pid| parent_of(*pid)).take(16).collect();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid).is_some_and(|parent| parent > 1 && ancestors.contains(&parent)))
        .find(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"nunbird-decide\0"))
        })
        .expect("a decider that waits for the end of the stage")
}

/// Sends a signal to the decider once the script runs, and lets the script end after that.
fn signal_the_decider(home: &Path, signal: Signal) {
    let began = Instant::now();
    let pid = loop {
        assert!(began.elapsed() < Duration::from_secs(20), "the script runs");
        match fs::read_to_string(home.join("pid")) {
            Ok(text) => break text.trim().parse().expect("a pid"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    kill(Pid::from_raw(decider_of(pid)), signal).expect("a signal");
    std::thread::sleep(Duration::from_millis(200));
    fs::write(home.join("go"), "").expect("a file");
}

#[needs(root, in_each = Privilege::ALL)]
fn a_stage_ends_as_its_script_did_whatever_becomes_of_its_decider(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    let daemons = Daemons::start(&world);
    let job = world.job();
    let mut session = job.prepared();
    let home = world.host_path("/home/alice");
    for signal in
        [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGKILL]
    {
        for name in ["pid", "go"] {
            let _none_of_an_earlier_stage = fs::remove_file(home.join(name));
        }
        let script = session.directory().join(format!("{signal}"));
        session.write(&script, WAITING.as_bytes(), 0o700);
        let spec = session.spec_of_run(&script, "build_script");
        let outcome = std::thread::scope(|scope| {
            let other = scope.spawn(|| signal_the_decider(&home, signal));
            let outcome = daemons.call("build_script", &mut session, spec);
            other.join().expect("a signal that was sent");
            outcome
        });
        let seen = format!("{privilege:?}, {signal}: {}", outcome.log);
        assert_eq!(outcome.exit, Exit::Code(1), "the script failed, not the system: {seen}");
        let last = world.audit().pop().expect("an event");
        if signal == Signal::SIGKILL {
            assert_eq!(last["outcome"], "stage-started", "{seen}");
            assert!(outcome.log.contains("[decider]"), "{seen}");
            let mut buffer = [0; 4096];
            let length = daemons.log.recv(&mut buffer).expect("a line of syslog");
            let line = String::from_utf8_lossy(&buffer[..length]);
            assert!(line.contains("[decider]"), "{privilege:?}: {line}");
        } else {
            assert_eq!((&last["outcome"], &last["exit_code"]), (&"stage-ended".into(), &1.into()), "{seen}");
            assert!(!outcome.log.contains("[decider]"), "{seen}");
        }
    }
    assert!(session.cleanup().succeeded());
    assert!(world.records().is_empty());
}
