//! Two accounts that run gitlab-runner on one host: neither delays the other, whatever it does to
//! its own calls.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_tests::records;
use nunbird_tests::runner::{Session, StageOutcome};
use nunbird_tests::world::{Account, Finished, RUNNER_GID};
use nunbird_tests::{Privilege, World, needs};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::time::{Duration, Instant};

/// No call waits this long for a lock: five seconds are the limit.
const PROMPT: Duration = Duration::from_secs(4);

fn ready(privilege: Privilege) -> World {
    let mut world = World::new(privilege);
    world.add_account(Account { gid: RUNNER_GID, ..Account::new("nbt_runner2", 4011) });
    world.write_keys();
    world
}

/// A job's calls by the second runner account.
struct Other<'a> {
    world: &'a World,
    session: Session<'a>,
}

impl<'a> Other<'a> {
    fn begin(world: &'a World, job: &'a nunbird_tests::runner::Job<'a>) -> Self {
        let session = job.begin();
        for path in [session.directory().to_path_buf(), session.response_file()] {
            chown(path, Some(4011), Some(RUNNER_GID)).expect("an owner");
        }
        Other { world, session }
    }

    fn call(&mut self, name: &str) -> StageOutcome {
        let mut spec = match name {
            "config" => self.session.spec_of_config(),
            "prepare" => self.session.spec_of_prepare(),
            _ => self.session.spec_of_cleanup(),
        };
        spec.ids = Some(self.world.account("nbt_runner2").ids());
        let outcome = self.session.call_spec(name, &spec);
        assert!(outcome.succeeded(), "{name}: {}", outcome.log);
        assert!(outcome.elapsed < PROMPT, "{name}: {:?}", outcome.elapsed);
        outcome
    }
}

fn builds_dir(stdout: &str) -> String {
    let answer: Value = serde_json::from_str(stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"));
    answer["builds_dir"].as_str().expect("a path").to_owned()
}

/// Inodes of the store's files of such names.
fn inodes(world: &World, wanted: fn(&str) -> bool) -> Vec<u64> {
    let entries = fs::read_dir(world.host_path("/var/lib/nunbird/jobs")).expect("a store").flatten();
    let entries = entries.filter(|entry| entry.file_name().to_str().is_some_and(wanted));
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.ino()).collect()
}

/// The process that holds such a file's lock (proc_locks(5)).
fn holder(world: &World, wanted: fn(&str) -> bool) -> Option<Pid> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let held = inodes(world, wanted);
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields[..] else { return None };
        let inode: u64 = file.rsplit(':').next()?.parse().ok()?;
        held.contains(&inode).then_some(Pid::from_raw(pid.parse().ok()?))
    })
}

/// Starts calls of `config` until one is stopped while it holds the lock of such a file; `act` runs
/// meanwhile. Returns the output of the stopped call after it has been continued.
fn stopped_while_it_holds(
    world: &World,
    session: &mut Session<'_>,
    wanted: fn(&str) -> bool,
    act: impl FnOnce(),
) -> Finished {
    let spec = &session.spec_of_config();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut act = Some(act);
    while Instant::now() < deadline {
        let outcome = std::thread::scope(|scope| {
            let call = scope.spawn(|| world.run(spec));
            while !call.is_finished() {
                let Some(pid) = holder(world, wanted) else { continue };
                let _gone = kill(pid, Signal::SIGSTOP);
                let caught = holder(world, wanted) == Some(pid);
                if let Some(act) = act.take_if(|_| caught) {
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
                    let _gone = kill(pid, Signal::SIGCONT);
                    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                }
                let _gone = kill(pid, Signal::SIGCONT);
                break;
            }
            call.join().expect("a call")
        });
        if act.is_none() {
            return outcome;
        }
        assert!(session.cleanup().succeeded());
    }
    panic!("no call was caught");
}

#[needs(root)]
fn a_runner_that_stops_its_config_anywhere_holds_up_no_other_runner() {
    for privilege in Privilege::OF_FILE {
        let world = ready(privilege);
        // Its cleanup must work while the other is stopped, too.
        let early = world.job().id(7100);
        let mut early = Other::begin(&world, &early);
        early.call("config");
        early.call("prepare");
        let job = world.job();
        let mut session = job.begin();
        let outcome = stopped_while_it_holds(
            &world,
            &mut session,
            |name| name.starts_with(".lock"),
            || {
                let job = world.job().id(7101);
                let mut other = Other::begin(&world, &job);
                for name in ["config", "prepare", "cleanup"] {
                    other.call(name);
                }
                early.call("cleanup");
            },
        );
        assert!(outcome.succeeded(), "{privilege:?}: {}", outcome.stderr);
    }
    // And at whichever step it is after so many milliseconds.
    let world = ready(Privilege::Setuid);
    for (n, delay) in (0..).zip([2, 5, 8, 11, 14, 18, 22, 28, 36]) {
        // It is continued when the other is done, or after twice the time that a lock is waited for.
        let script = format!(
            "\"$0\" \"$@\" & sleep 0.{delay:03}; kill -STOP $!; \
             for _ in {{1..200}}; do [ -e /tmp/done-{n} ] && break; sleep 0.05; done; kill -CONT $!; wait $!"
        );
        let job = world.job().id(7400 + n);
        let mut session = job.begin();
        let mut spec = session.spec_of_config();
        let program = std::mem::replace(&mut spec.program, "/bin/bash".into());
        spec.arguments.splice(0..0, ["-c".into(), script.into(), program]);
        std::thread::scope(|scope| {
            let call = scope.spawn(|| world.run(&spec));
            std::thread::sleep(Duration::from_millis(300));
            let job = world.job().id(7500 + n);
            let mut other = Other::begin(&world, &job);
            for name in ["config", "prepare", "cleanup"] {
                other.call(name);
            }
            fs::write(world.host_path(format!("/tmp/done-{n}")), "").expect("a file");
            call.join().expect("a call");
        });
        assert!(session.cleanup().succeeded());
    }
}

#[needs(root)]
fn a_runner_that_stops_its_config_between_claim_and_record_holds_up_no_other() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    let mut places = Vec::new();
    let outcome = stopped_while_it_holds(
        &world,
        &mut session,
        |name| name.ends_with(".slot"),
        || {
            if holder(&world, |name| name.starts_with(".lock")).is_none() {
                // Another call of the same account: nothing that waits happens under its lock.
                let own = world.job().id(7200);
                let mut own = own.begin();
                let outcome = own.config();
                assert!(outcome.succeeded() && outcome.elapsed < PROMPT, "{}", outcome.log);
                places.push(builds_dir(&outcome.stdout));
            }
            let job = world.job().id(7201);
            let mut other = Other::begin(&world, &job);
            places.push(builds_dir(&other.call("config").stdout));
        },
    );
    assert!(outcome.succeeded(), "{}", outcome.stderr);
    places.push(builds_dir(&outcome.stdout));
    let count = places.len();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), count, "two jobs have one directory: {places:?}");
    assert!(places[0].ends_with("/000"), "{places:?}");
}

#[needs(root)]
fn two_runner_accounts_never_give_two_jobs_of_a_user_one_directory() {
    let world = ready(Privilege::Setuid);
    let jobs: Vec<_> = (0..12).map(|n| world.job().id(7300 + n)).collect();
    let places: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = jobs
            .iter()
            .enumerate()
            .map(|(n, job)| {
                let world = &world;
                scope.spawn(move || {
                    if n % 2 == 0 {
                        return builds_dir(&Other::begin(world, job).call("config").stdout);
                    }
                    let outcome = job.begin().config();
                    assert!(outcome.succeeded(), "{}", outcome.log);
                    builds_dir(&outcome.stdout)
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().expect("a call")).collect()
    });
    let mut distinct = places.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 12, "{places:?}");
}

#[needs(root)]
fn one_job_is_not_admitted_more_often_by_two_runner_accounts() {
    let world = ready(Privilege::Setuid);
    let jobs: Vec<_> = (0..10).map(|_| world.job()).collect();
    let admitted = std::thread::scope(|scope| {
        let calls: Vec<_> = jobs
            .iter()
            .enumerate()
            .map(|(n, job)| {
                let world = &world;
                scope.spawn(move || {
                    if n % 2 == 1 {
                        return job.begin().config();
                    }
                    let mut other = Other::begin(world, job);
                    let mut spec = other.session.spec_of_config();
                    spec.ids = Some(world.account("nbt_runner2").ids());
                    other.session.call_spec("config", &spec)
                })
            })
            .collect();
        let all: Vec<StageOutcome> = calls.into_iter().map(|call| call.join().expect("a call")).collect();
        for refused in all.iter().filter(|outcome| !outcome.succeeded()) {
            assert!(refused.stderr.contains("[admitted-too-often]"), "{}", refused.log);
        }
        all.iter().filter(|outcome| outcome.succeeded()).count()
    });
    // Of simultaneous calls all may see each other and be refused.
    assert!((1..=4).contains(&admitted), "{admitted}");
    assert_eq!(world.records().len(), admitted);
}

#[needs(root)]
fn a_config_that_was_killed_leaves_its_slot_to_the_next() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let session = job.begin();
    let mut killed = false;
    for _ in 0..60 {
        std::thread::scope(|scope| {
            let call = scope.spawn(|| world.run(&session.spec_of_config()));
            while !call.is_finished() {
                if let Some(pid) = holder(&world, |name| name.ends_with(".slot")) {
                    let _gone = kill(pid, Signal::SIGKILL);
                    break;
                }
            }
        });
        if world.records().is_empty() && !inodes(&world, |name| name.ends_with(".slot")).is_empty() {
            killed = true;
            break;
        }
        assert!(job.begin().config().exit != nunbird_tests::world::Exit::Abandoned);
        for record in world.records() {
            fs::remove_file(record).expect("a record");
        }
    }
    assert!(killed, "no call was killed between its claim and its record");
    let next = world.job().id(7002);
    assert!(builds_dir(&next.begin().config().stdout).ends_with("/000"), "the claim is void");
    assert_eq!(inodes(&world, |name| name.ends_with(".slot")).len(), 1);
}

#[needs(root)]
fn calls_that_are_killed_while_they_write_leave_one_file_of_a_kind() {
    let world = ready(Privilege::Setuid);
    let hidden = |name: &str| name.starts_with(".record-");
    let left = || {
        let entries = fs::read_dir(world.host_path("/var/lib/nunbird/jobs")).expect("a store").flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with('.') && !name.starts_with(".lock")).collect::<Vec<_>>()
    };
    // One of a call that was killed at the worst moment, and calls killed at any.
    world.write_file(
        &format!("/var/lib/nunbird/jobs/.record-{}", world.runner().uid),
        "{\"version\":",
        "root",
        0o600,
    );
    let jobs: Vec<_> = (0..12).map(|n| world.job().id(7001 + n)).collect();
    // They keep their directories, so that each has other numbers.
    let mut sessions = Vec::new();
    for job in &jobs {
        let session = job.begin();
        std::thread::scope(|scope| {
            let call = scope.spawn(|| world.run(&session.spec_of_config()));
            while !call.is_finished() {
                if let Some(pid) = holder(&world, |name| name.starts_with(".lock"))
                    && (left().len() > 1 || !inodes(&world, hidden).is_empty())
                {
                    let _gone = kill(pid, Signal::SIGKILL);
                    break;
                }
            }
        });
        // A claim on a slot and a record, each of one name for the runner's account.
        let uid = world.runner().uid;
        let known = [format!(".claim-{uid}"), format!(".record-{uid}")];
        assert!(left().iter().all(|name| known.contains(name)), "{:?}", left());
        sessions.push(session);
    }
    let last = world.job().id(7900);
    assert!(last.begin().config().succeeded());
    assert!(left().is_empty(), "{:?}", left());
}

#[needs(root)]
fn a_record_that_a_failed_clean_up_kept_outlives_the_next_job_in_a_directory_of_its_numbers() {
    let world = ready(Privilege::Setuid);
    let job = world.job().with_repository();
    let mut session = job.prepared();
    assert!(session.stage("get_sources").succeeded());
    // Owned by root, so that the account cannot remove it: the cleanup fails.
    let builds = world.host_path("/home/alice/.nunbird/builds");
    let host = fs::read_dir(builds).expect("builds").flatten().next().expect("this host's").path();
    let obstacle = host.join("000/physics/lattice.tmp/roots");
    fs::create_dir_all(obstacle.join("own")).expect("directories");
    assert!(!session.cleanup().succeeded());
    let kept = world.records().pop().expect("a kept record");

    // gitlab-runner has removed the directory, and the kernel gives its inode to the next one, another job's.
    let next = world.job().id(7002).user("bob");
    let mut next = next.begin();
    let meta = next.directory().metadata().expect("a directory");
    records::change(&kept, |record| {
        (record.job_directory.device, record.job_directory.inode) = (meta.dev(), meta.ino());
    });
    let name = format!("4001-{:x}-{:x}.record", meta.dev(), meta.ino());
    fs::rename(&kept, kept.with_file_name(&name)).expect("a name");
    assert!(next.config().succeeded() && next.prepare().succeeded());
    assert_eq!(world.records().len(), 2, "the record is gone: {:?}", world.records());

    // The first job's directory is not given to another while its record exists.
    let third = world.job().id(7003);
    let mut third = third.begin();
    assert!(builds_dir(&third.config().stdout).ends_with("/001"));
    assert!(next.cleanup().succeeded());
    let sweep = || {
        let program = world.paths().bin.join("nunbirdctl");
        world.run(&world.program("root", program, &["sweep", "--runner-user", "nbt_runner"]))
    };
    let failed = sweep();
    assert!(failed.stdout.contains("failed /var/lib/nunbird/jobs/orphan-"), "{}", failed.stdout);
    fs::remove_dir_all(&obstacle).expect("removed");
    // At once: nothing else can clean up after it, and its time is not over.
    let swept = sweep();
    assert!(swept.stdout.contains("removed /var/lib/nunbird/jobs/orphan-"), "{}", swept.stdout);
    assert!(!obstacle.parent().expect("a parent").exists());
    assert_eq!(world.records().len(), 1);
    let last = world.job().id(7004);
    assert!(builds_dir(&last.begin().config().stdout).ends_with("/000"), "the slot is free again");
    assert!(third.cleanup().succeeded());
}
