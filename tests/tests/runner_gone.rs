//! The end of gitlab-runner itself, by SIGKILL, while its jobs run: they are cancelled, and cleaned up after without it.
//!
//! The runner is a shell between the test and the program; the program identifies its runner by
//! sessions, so a shell with its own session is a runner that can end.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_messages::Runner;
use nunbird_tests::process;
use nunbird_tests::records;
use nunbird_tests::runner::{Session, StageOutcome};
use nunbird_tests::world::enter::Mount;
use nunbird_tests::world::{Exit, Finished};
use nunbird_tests::{Privilege, World, needs};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

/// The call below a shell, which is its parent until one of the two ends. `setsid` gives the shell a session of its own.
fn below_a_shell(
    session: &mut Session<'_>,
    setsid: bool,
    pid_file: &Path,
    script: Option<&str>,
) -> StageOutcome {
    let mut spec = match script {
        None => session.spec_of_config(),
        Some(text) => {
            let file = session.directory().join("script-below");
            session.write(&file, text.as_bytes(), 0o700);
            session.spec_of_run(&file, "build_script")
        }
    };
    let shell = format!("echo $$ >{}; \"$0\" \"$@\"; exit $?", pid_file.display());
    let program = std::mem::replace(&mut spec.program, "/usr/bin/env".into());
    let wait = if setsid { vec!["setsid".into(), "-w".into()] } else { Vec::new() };
    let mut arguments = [wait, vec!["/bin/bash".into(), "-c".into(), shell.into(), program]].concat();
    arguments.append(&mut spec.arguments);
    spec.arguments = arguments;
    session.call_spec("build_script", &spec)
}

fn wait_for(what: &str, mut come: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !come() {
        assert!(begun.elapsed() < Duration::from_secs(40), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn runs(pid: i32) -> bool {
    process::runs(&pid.to_string())
}

fn number(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn ctl(world: &World, account: &str, words: &[&str]) -> Finished {
    world.run(&world.program(account, world.paths().bin.join("nunbirdctl"), words))
}

fn keeper(privilege: Privilege) -> &'static str {
    if privilege == Privilege::None { "alice" } else { "root" }
}

fn sweep(world: &World, privilege: Privilege) -> Finished {
    let runner = world.runner().name.clone();
    ctl(world, keeper(privilege), &["sweep", "--format", "json", "--runner-user", &runner])
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_whose_runner_is_killed_is_cancelled_in_every_mode(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    let shell = session.directory().join("pid");
    let (shown, ended) = (world.host_path("/home/alice/pid"), world.host_path("/home/alice/ended"));
    let script = "trap 'echo got TERM >~/ended; exit 1' TERM; echo $$ >~/pid.new; mv ~/pid.new ~/pid\n\
                  while :; do sleep 0.1; done\n";
    std::thread::scope(|scope| {
        let stage = scope.spawn(|| below_a_shell(&mut session, false, &shell, Some(script)));
        wait_for("the script", || shown.exists());
        let script = number(&shown).expect("a number");
        assert!(runs(script));
        kill(Pid::from_raw(number(&shell).expect("a number")), Signal::SIGKILL).expect("the runner");
        wait_for("the script's end", || !runs(script));
        assert_eq!(stage.join().expect("the stage").exit, Exit::Signal(9), "{privilege:?}");
    });
    assert!(ended.exists(), "{privilege:?}: it had its grace");
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_of_a_runner_that_has_ended_is_over_and_one_of_a_runner_that_runs_is_not(privilege: Privilege) {
    let world = ready(privilege);
    let (gone, lives) = (world.job().id(7001), world.job().id(7002));
    let (mut gone, mut lives) = (gone.begin(), lives.begin());
    let shell = gone.directory().join("pid");
    assert!(below_a_shell(&mut gone, true, &shell, None).succeeded());
    assert!(lives.config().succeeded() && lives.prepare().succeeded());
    // What a runner does that has just ended.
    let refused = gone.prepare();
    assert!(!refused.succeeded() && refused.stderr.contains("[runner-gone]"), "{}", refused.log);

    let jobs = ctl(&world, keeper(privilege), &["jobs", "--format", "json"]);
    let jobs: Value = serde_json::from_str(&jobs.stdout).unwrap_or_else(|e| panic!("{e}: {jobs:?}"));
    let runner = |id: u64| {
        let jobs = jobs["jobs"].as_array().expect("jobs");
        let job = jobs.iter().find(|job| job["job_id"] == id).expect("a job");
        job["runner"].as_str().expect("a word").to_owned()
    };
    assert_eq!((runner(7001), runner(7002)), ("gone".to_owned(), "runs".to_owned()), "{privilege:?}");

    let swept = sweep(&world, privilege);
    assert_eq!(swept.exit, Exit::Code(0), "{privilege:?}: {swept:?}");
    assert!(swept.stdout.contains("the gitlab-runner that started it has ended"), "{}", swept.stdout);
    assert_eq!(world.records().len(), 1, "{privilege:?}: {}", swept.stdout);
    assert!(lives.run_text("build_script", "true").succeeded() && lives.cleanup().succeeded());
}

#[needs(root)]
fn a_runner_of_another_boot_or_another_pid_namespace_is_not_judged() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    let shell = session.directory().join("pid");
    assert!(below_a_shell(&mut session, true, &shell, None).succeeded());
    let record = world.records().pop().expect("a record");
    let runner = records::read(&record).runner.expect("the runner");
    let changed = Runner { pid_namespace: 1, ..runner.clone() };
    records::change(&record, |record| record.runner = Some(changed));
    assert!(sweep(&world, Privilege::Setuid).stdout.contains("its job may still run"));
    assert!(session.prepare().succeeded());
    // An id that another process has by now is no runner.
    let mut changed = runner;
    changed.processes[0].pid = std::process::id().cast_signed();
    records::change(&record, |record| record.runner = Some(changed));
    assert!(sweep(&world, Privilege::Setuid).stdout.contains("has ended"));
    assert!(world.records().is_empty());
}

#[needs(root, in_each = Privilege::ALL)]
fn jobs_run_where_the_kernel_hides_the_runner_from_other_accounts(privilege: Privilege) {
    let world = ready(privilege);
    for hidepid in [1, 2] {
        let job = world.job();
        let mut session = job.begin();
        let hidden = Mount::Hiding { hidepid };
        let mut config = session.spec_of_config();
        config.mounts.as_mut().expect("a namespace").push(hidden.clone());
        let outcome = session.call_spec("config", &config);
        assert!(outcome.succeeded(), "{privilege:?}, hidepid={hidepid}: {}", outcome.log);
        assert!(session.prepare().succeeded());
        let file = session.directory().join("script-hidden");
        session.write(&file, b"true\n", 0o700);
        let mut run = session.spec_of_run(&file, "build_script");
        run.mounts.as_mut().expect("a namespace").push(hidden);
        let outcome = session.call_spec("build_script", &run);
        assert!(outcome.succeeded(), "{privilege:?}, hidepid={hidepid}: {}", outcome.log);
        assert!(session.cleanup().succeeded());
    }
}

#[needs(root, in_each = Privilege::ALL)]
fn an_admin_lists_jobs_and_ends_one_that_runs(privilege: Privilege) {
    let world = ready(privilege);
    let (one, other) = (world.job().id(7001).with_repository(), world.job().id(7002));
    let (mut one, mut other) = (one.begin(), other.begin());
    assert!(one.config().succeeded() && one.prepare().succeeded() && other.config().succeeded());
    let shown = world.host_path("/home/alice/pid");
    let keeper = keeper(privilege);
    std::thread::scope(|scope| {
        let script = "echo $$ >~/pid.new; mv ~/pid.new ~/pid; sleep 300";
        let stage = scope.spawn(|| one.run_text("build_script", script));
        wait_for("the script", || shown.exists());
        let script = number(&shown).expect("a number");
        let list = ctl(&world, keeper, &["jobs"]).success();
        assert!(list.contains("7001") && list.contains("7002") && list.contains("alice"), "{list}");
        assert!(list.contains("runs") && list.contains("physics/lattice"), "{list}");

        let dry = ctl(&world, keeper, &["jobs", "end", "7001", "--dry-run"]).success();
        assert!(dry.contains("would end job 7001 of alice") && runs(script), "{dry}");
        let unknown = ctl(&world, keeper, &["jobs", "end", "7003"]);
        assert_eq!(unknown.exit, Exit::Code(1));
        assert!(unknown.stderr.contains("no record of a job 7003"), "{}", unknown.stderr);
        if privilege != Privilege::None {
            let user = ctl(&world, "bob", &["jobs", "end", "7001"]);
            assert!(!user.succeeded() && runs(script), "{user:?}");
        }
        let ended = ctl(&world, keeper, &["jobs", "end", "7001"]).success();
        assert!(ended.contains("ended job 7001 of alice"), "{privilege:?}: {ended}");
        wait_for("the script's end", || !runs(script));
        assert!(!stage.join().expect("the stage").succeeded());
    });
    assert_eq!(world.records().len(), 1, "{privilege:?}");
    assert!(other.cleanup().succeeded());
    assert!(ctl(&world, keeper, &["jobs"]).success().contains("no job"));
    // The call of a runner whose record is gone.
    assert!(one.cleanup().succeeded());
}
