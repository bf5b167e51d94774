//! Cgroups of jobs without a record, and those that a killed cleanup left frozen.
//!
//! This process enters cgroups of its own, below which `nunbird-auth` makes those of jobs; so
//! everything is in one test.

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_tests::process::runs;
use nunbird_tests::records;
use nunbird_tests::runner::Session;
use nunbird_tests::{Groups, Privilege, World, needs, skip};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIMITS: &str =
    "[limits.small]\nmemory = \"96MiB\"\npids = 60\nway = \"v1\"\n\n[job]\nlimits = \"small\"\n";
const DAEMON: &str = "setsid env -i sleep 600 </dev/null >/dev/null 2>&1 & echo $!";

fn ready() -> World {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    world.reconfigure("[job]\n", LIMITS);
    world
}

/// A process of the runner's account that counts as gitlab-runner.
struct Runner(Pid);

impl Runner {
    fn start(world: &World) -> Self {
        let number = world.shell("nbt_runner", "sleep 600 >/dev/null 2>&1 & echo $!").success();
        Runner(Pid::from_raw(number.trim().parse().expect("a number")))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _gone = kill(self.0, Signal::SIGKILL);
    }
}

/// The result for cgroups: action, directory, reason.
fn swept(world: &World, more: &[&str]) -> Vec<(String, PathBuf, String)> {
    swept_by(world, "root", more)
}

fn swept_by(world: &World, account: &str, more: &[&str]) -> Vec<(String, PathBuf, String)> {
    let program = world.paths().bin.join("nunbirdctl");
    let all = [&["sweep", "--format", "json", "--runner-user", "nbt_runner"], more].concat();
    let done = world.run(&world.program(account, program, &all));
    let answer: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let items =
        answer["items"].as_array().expect("items").iter().filter(|item| item["kind"] == "control-group");
    let text = |item: &Value, key: &str| item[key].as_str().expect("a text").to_owned();
    items
        .map(|item| (text(item, "action"), PathBuf::from(text(item, "path")), text(item, "reason")))
        .collect()
}

/// A job with a daemon in its cgroup, and the daemon's pid.
fn with_daemon(session: &mut Session<'_>) -> String {
    assert!(session.config().succeeded() && session.prepare().succeeded());
    session.run_text("build_script", DAEMON).stdout.trim().to_owned()
}

/// The job's groups by a part of their name.
fn named(groups: &Groups, part: &str) -> Vec<PathBuf> {
    groups.jobs().into_iter().filter(|path| path.to_string_lossy().contains(part)).collect()
}

fn of_controller<'p>(paths: &'p [PathBuf], controller: &str) -> &'p Path {
    let hierarchy = Path::new("/sys/fs/cgroup").join(controller);
    paths.iter().find(|path| path.starts_with(&hierarchy)).expect("a group of this controller")
}

#[needs(root)]
fn groups_without_a_record_go_with_their_processes_and_nothing_else_does() {
    let Some(groups) = Groups::enter() else {
        skip!("this machine has no control groups of version 1 that it may write to");
    };
    what_no_record_has_goes_and_what_one_has_stays(&groups);
    a_group_is_found_by_the_runners_own_processes_of_this_machine(&groups);
    an_admission_that_goes_on_keeps_its_group(&groups);
    a_record_that_cannot_be_read_may_have_any_group(&groups);
    a_record_whose_group_cannot_be_read_keeps_that_group_and_no_other(&groups);
    what_the_runners_account_writes_keeps_its_own_groups_alone(&groups);
    groups_below_one_are_reported_at_once_and_hold_up_nothing(&groups);
    what_a_killed_clean_up_left_frozen_is_thawed_by_the_next(&groups);
    assert_eq!(groups.jobs(), Vec::<PathBuf>::new());
}

fn what_no_record_has_goes_and_what_one_has_stays(groups: &Groups) {
    let world = ready();
    let (lost, kept) = (world.job(), world.job().id(7002).user("bob"));
    let (mut lost, mut kept) = (lost.begin(), kept.begin());
    let gone = with_daemon(&mut lost);
    for record in world.records() {
        fs::remove_file(record).expect("a record");
    }
    let stays = with_daemon(&mut kept);
    let strays = named(groups, "nunbird-7001-");
    let pids = of_controller(&strays, "pids").parent().expect("a parent").to_path_buf();
    // A user's, and one of another name.
    let others = ["nunbird-7001-0123456789abcdef", "nunbird-build", "nunbird-7001-0123456789abcdefg"]
        .map(|n| pids.join(n));
    others.iter().for_each(|other| fs::create_dir(other).expect("a group"));
    chown(&others[0], Some(4101), Some(4101)).expect("an owner");
    // As a cleanup leaves it that was killed at the wrong moment.
    fs::write(of_controller(&strays, "freezer").join("freezer.state"), "FROZEN").expect("frozen");

    let dry = swept(&world, &["--dry-run"]);
    assert_eq!(dry.len(), 1, "{dry:?}");
    assert_eq!((dry[0].0.as_str(), runs(&gone)), ("would remove", true));
    assert_eq!(swept_by(&world, "nbt_runner", &[]), [], "groups that are root's are root's to judge");
    let done = swept(&world, &[]);
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!(done[0].0, "removed", "{done:?}");
    assert!(strays.contains(&done[0].1) && done[0].2.contains("1 processes of it were ended"), "{done:?}");
    assert!(!runs(&gone) && runs(&stays));
    assert!(strays.iter().all(|path| !path.exists()));
    assert!(others.iter().all(|path| path.exists()));
    assert!(kept.run_text("build_script", "true").succeeded(), "its limits are in force");
    assert_eq!(swept(&world, &[]), []);
    assert!(kept.cleanup().succeeded() && !runs(&stays));
    others.iter().for_each(|other| fs::remove_dir(other).expect("a group"));
}

fn a_group_is_found_by_the_runners_own_processes_of_this_machine(groups: &Groups) {
    let (world, elsewhere) = (ready(), ready());
    let job = world.job();
    let mut session = job.begin();
    let daemon = with_daemon(&mut session);
    for record in world.records() {
        fs::remove_file(record).expect("a record");
    }
    // No record leads to it, nor does a runner that has another machine's records.
    let _other = Runner::start(&elsewhere);
    assert_eq!(swept(&world, &[]), []);
    assert!(runs(&daemon));
    let _own = Runner::start(&world);
    let done = swept(&world, &[]);
    assert!(done.len() == 1 && done[0].0 == "removed", "{done:?}");
    assert!(!runs(&daemon) && groups.jobs().is_empty());
}

/// First step by step, with this test in place of `config`, then with the real program.
fn an_admission_that_goes_on_keeps_its_group(groups: &Groups) {
    let world = ready();
    let _runner = Runner::start(&world);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let record = world.records().pop().expect("a record");
    let text = fs::read(&record).expect("a record");
    let claim = fs::read_dir(record.parent().expect("a store")).expect("a store").flatten().map(|e| e.path());
    let claim =
        claim.into_iter().find(|path| path.extension().is_some_and(|e| e == "slot")).expect("a claim");
    let claim = fs::File::options().write(true).open(claim).expect("a claim");
    let claim = Flock::lock(claim, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("locked");
    fs::remove_file(&record).expect("not written yet");
    assert_eq!(swept(&world, &[]), [], "its admission is on its way");
    assert!(!groups.jobs().is_empty());
    fs::write(&record, &text).expect("a record");
    drop(claim);
    assert_eq!(swept(&world, &[]), []);
    assert!(session.prepare().succeeded());
    assert!(session.cleanup().succeeded() && groups.jobs().is_empty());

    std::thread::scope(|scope| {
        let jobs = scope.spawn(|| {
            for number in 0..12 {
                let job = world.job().id(7100 + number);
                let mut session = job.begin();
                for call in [session.config(), session.prepare(), session.cleanup()] {
                    assert!(call.succeeded(), "{}", call.log);
                }
            }
        });
        while !jobs.is_finished() {
            // One that `cleanup` is removing has its record still.
            assert_eq!(swept(&world, &[]), []);
        }
        jobs.join().expect("all jobs");
    });
}

fn a_record_that_cannot_be_read_may_have_any_group(groups: &Groups) {
    let world = ready();
    let _runner = Runner::start(&world);
    let job = world.job();
    let mut session = job.begin();
    let daemon = with_daemon(&mut session);
    let record = world.records().pop().expect("a record");
    let text = fs::read(&record).expect("a record");
    // Of another version.
    let other: Vec<u8> = text.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 0)).collect();
    fs::write(&record, other).expect("a record");
    let done = swept(&world, &[]);
    assert!(done.len() == 1 && done[0].0 == "kept" && done[0].2.contains("which cannot be read"), "{done:?}");
    assert!(runs(&daemon) && !groups.jobs().is_empty());
    fs::write(&record, &text).expect("a record");
    assert!(session.cleanup().succeeded() && !runs(&daemon));
}

/// What a record keeps of its group comes from nunbird-limits, which may have had the runner's rights.
fn a_record_whose_group_cannot_be_read_keeps_that_group_and_no_other(groups: &Groups) {
    let world = ready();
    let _runner = Runner::start(&world);
    let (lost, kept) = (world.job(), world.job().id(7002).user("bob"));
    let (mut lost, mut kept) = (lost.begin(), kept.begin());
    let gone = with_daemon(&mut lost);
    for record in world.records() {
        fs::remove_file(record).expect("a record");
    }
    let stays = with_daemon(&mut kept);
    let record = world.records().pop().expect("a record");
    let text = fs::read(&record).expect("a record");
    records::change(&record, |record| {
        record.group.as_mut().expect("a group").bytes = b"nothing that is a group".to_vec();
    });
    let done = swept(&world, &[]);
    let of = |action: &str| done.iter().filter(|one| one.0 == action).collect::<Vec<_>>();
    assert_eq!((of("removed").len(), of("failed").len(), done.len()), (1, 1, 2), "{done:?}");
    assert!(of("failed")[0].1.ends_with(record.file_name().expect("a name")), "{done:?}");
    assert_eq!(of("failed")[0].2, "its control group cannot be read");
    assert!(!runs(&gone) && runs(&stays), "{done:?}");
    fs::write(&record, &text).expect("a record");
    assert_eq!(swept(&world, &[]), []);
    assert!(kept.cleanup().succeeded() && !runs(&stays) && groups.jobs().is_empty());
}

/// A job's group of version 1 that belongs to the runner's account, as those that are delegated do.
fn of_the_runner(groups: &Groups, name: &str) -> PathBuf {
    let pids = of_controller(&groups.jobs(), "pids").parent().expect("a parent").to_path_buf();
    let group = pids.join(name);
    fs::create_dir(&group).expect("a group");
    chown(&group, Some(4001), Some(4001)).expect("an owner");
    group
}

fn what_the_runners_account_writes_keeps_its_own_groups_alone(groups: &Groups) {
    let world = ready();
    let _runner = Runner::start(&world);
    for way in ["a file that is no record", "a copy of root's record", "a lock"] {
        let job = world.job();
        let mut session = job.begin();
        let daemon = with_daemon(&mut session);
        let record = world.records().pop().expect("a record");
        let bytes = fs::read(&record).expect("a record");
        fs::remove_file(record).expect("a record");
        let own = of_the_runner(groups, "nunbird-7009-0123456789abcdef");
        let store = "/home/nbt_runner/.local/state/nunbird/jobs";
        world
            .shell("nbt_runner", &format!("rm -rf {store}; mkdir -p -m 700 {store}; >{store}/.lock"))
            .success();
        let lock = fs::File::open(world.host_path(store).join(".lock")).expect("a file");
        let mut held = None;
        match way {
            "a lock" => {
                held = Some(Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("locked"));
            }
            "a copy of root's record" => {
                world.write_file(&format!("{store}/x.record"), &bytes, "nbt_runner", 0o600);
            }
            _ => world.write_file(&format!("{store}/x.record"), "x", "nbt_runner", 0o600),
        }
        let done = swept(&world, &[]);
        drop(held);
        let became = |path: &Path| done.iter().find(|one| one.1 == path).map(|one| one.0.as_str());
        let kept = if way == "a file that is no record" { "kept" } else { "removed" };
        assert_eq!(became(&own), Some(kept), "{way}: {done:?}");
        assert!(
            done.len() == 2 && done.iter().any(|one| one.0 == "removed" && one.1 != own),
            "{way}: {done:?}"
        );
        assert!(!runs(&daemon), "{way}");
        if own.exists() {
            fs::remove_dir(own).expect("a group");
        }
        assert_eq!(groups.jobs(), Vec::<PathBuf>::new(), "{way}");
    }
}

fn groups_below_one_are_reported_at_once_and_hold_up_nothing(groups: &Groups) {
    let world = ready();
    let _runner = Runner::start(&world);
    let job = world.job();
    let mut session = job.begin();
    let daemon = with_daemon(&mut session);
    for record in world.records() {
        fs::remove_file(record).expect("a record");
    }
    let full =
        ["nunbird-1-0123456789abcdef", "nunbird-2-0123456789abcdef"].map(|name| of_the_runner(groups, name));
    full.iter().for_each(|group| fs::create_dir(group.join("below")).expect("a group"));
    let begun = std::time::Instant::now();
    let done = swept(&world, &[]);
    let taken = begun.elapsed();
    for group in &full {
        fs::remove_dir(group.join("below")).and_then(|()| fs::remove_dir(group)).expect("a group");
    }
    let shown = |one: &&(String, PathBuf, String)| one.0 == "failed" && one.2.contains("groups below it");
    assert_eq!((done.iter().filter(shown).count(), done.len()), (2, 3), "{done:?}");
    assert!(!runs(&daemon) && groups.jobs().is_empty());
    assert!(taken < std::time::Duration::from_secs(20), "{taken:?}");
}

fn what_a_killed_clean_up_left_frozen_is_thawed_by_the_next(groups: &Groups) {
    let world = ready();
    let job = world.job();
    let mut session = job.begin();
    let daemon = with_daemon(&mut session);
    let job_groups = groups.jobs();
    let state = of_controller(&job_groups, "freezer").join("freezer.state");
    let read = || fs::read_to_string(&state).unwrap_or_default().trim().to_owned();
    // Owned by root, so that the cleanup continues to freeze and thaw.
    let mut stubborn = Command::new("/bin/sleep").arg("300").spawn().expect("a process");
    for group in &job_groups {
        fs::write(group.join("cgroup.procs"), stubborn.id().to_string()).expect("moved");
    }
    let killed = std::thread::scope(|scope| {
        let cleanup = scope.spawn(|| session.cleanup());
        let pid = loop {
            assert!(!cleanup.is_finished(), "it freezes");
            if let Some(pid) = has_open(&state) {
                break Pid::from_raw(pid);
            }
        };
        loop {
            kill(pid, Signal::SIGSTOP).expect("our own call");
            std::thread::sleep(std::time::Duration::from_millis(5));
            if read() == "FROZEN" {
                break;
            }
            kill(pid, Signal::SIGCONT).expect("our own call");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        kill(pid, Signal::SIGKILL).expect("our own call");
        cleanup.join().expect("an end")
    });
    assert!(!killed.succeeded(), "{}", killed.log);
    assert_eq!(read(), "FROZEN");
    stubborn.kill().expect("a signal");
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(stubborn.try_wait().expect("a child").is_none(), "what is frozen does not die");
    std::thread::scope(|scope| {
        let reaped = scope.spawn(|| stubborn.wait());
        let cleanup = session.cleanup();
        assert!(cleanup.succeeded(), "{}", cleanup.log);
        reaped.join().expect("its end").expect("a child");
    });
    assert!(!runs(&daemon) && !state.exists() && world.records().is_empty());
}

/// A process that has this file open.
fn has_open(file: &Path) -> Option<i32> {
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    numbers.into_iter().find(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == file)
    })
}
