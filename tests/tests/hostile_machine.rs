//! What a `nunbird-machine` that was taken over can do by its answers: keep a job from running, or have it look for a machine that is not there;
//! a stage is never a success by them, and never runs with more than the account has.

use nunbird_tests::{Exit, Job, Privilege, Session, StageOutcome, World, needs};

/// The sources of privilege with which there are machines.
const WITH_ROOT: [Privilege; 2] = [Privilege::RootRunner, Privilege::Setuid];
/// Answers of which no stage starts.
const NO_STAGE: [&str; 5] = ["start closes", "start garbage", "start half", "start much", "start lines"];
/// Answers of which a stage looks for its machine, and finds none.
const NO_MACHINE: [&str; 5] = ["start lies", "start more", "start note", "start done", "start prints"];

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    std::fs::create_dir_all(world.host_path("/var/lib/nunbird/machines/debian/1/tree")).expect("a tree");
    std::os::unix::fs::symlink("1", world.host_path("/var/lib/nunbird/machines/debian/current"))
        .expect("a link");
    world.reconfigure(
        "[job]\n",
        "[container.machine]\nengine = \"nspawn\"\ndefault_image = \"debian\"\n\n[job]\ncontainer = \"machine\"\n",
    );
    world.take_over_machine();
    world
}

fn attack(world: &World, what: &str) {
    world.write_file("/etc/nunbird/attack", what, "root", 0o644);
}

fn begun<'a>(job: &'a Job<'a>) -> Session<'a> {
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "{}", call.log);
    }
    session
}

fn forges_nothing(outcome: &StageOutcome, seen: &str) {
    assert!(!outcome.log.contains('\u{1b}'), "{seen}");
    assert!(!outcome.log.lines().any(|line| line.starts_with("nunbird: error: forged")), "{seen}");
}

#[needs(root, in_each = WITH_ROOT)]
fn a_program_for_machines_that_was_taken_over_keeps_a_stage_from_running_or_from_being_a_success(
    privilege: Privilege,
) {
    let world = ready(privilege);
    attack(&world, "none -");
    let job = world.job();
    let mut session = begun(&job);
    for what in NO_STAGE.into_iter().chain(NO_MACHINE) {
        attack(&world, what);
        let outcome = session.run_text("build_script", "echo it runs; touch ~/ran");
        let seen = format!("{privilege:?}, {what}: {}", outcome.log);
        assert_eq!(outcome.exit, Exit::Code(2), "{seen}");
        assert!(outcome.stdout.lines().all(|line| line != "it runs"), "{seen}");
        assert!(!world.host_path("/home/alice/ran").exists(), "{seen}");
        let words = match NO_STAGE.contains(&what) {
            true => "[machine]",
            false => "the machine of this job has ended",
        };
        assert!(outcome.log.contains(words), "{seen}");
        forges_nothing(&outcome, &seen);
    }
    for what in ["end closes", "end garbage", "end half", "end lines", "end lies"] {
        attack(&world, what);
        let outcome = session.cleanup();
        let seen = format!("{privilege:?}, {what}: {}", outcome.log);
        // A machine that may live on keeps its record, so that it is ended later.
        let gone = what == "end lies";
        assert_eq!((outcome.succeeded(), world.records().is_empty()), (gone, gone), "{seen}");
        forges_nothing(&outcome, &seen);
    }
}

#[needs(root, in_each = WITH_ROOT)]
fn a_stage_is_the_accounts_whatever_is_answered_about_its_machine(privilege: Privilege) {
    let world = ready(privilege);
    attack(&world, "start watches");
    let job = world.job();
    let mut session = begun(&job);
    let outcome = session.run_text("build_script", "true");
    assert_eq!(outcome.exit, Exit::Code(2), "{privilege:?}: {}", outcome.log);
    let seen = std::fs::read_to_string(world.host_path("/tmp/seen")).expect("who the stage was");
    let alice = world.account("alice");
    let lines = |name: &str| seen.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    for (name, id) in [("Uid:", alice.uid), ("Gid:", alice.gid)] {
        let expected = format!("{name}\t{id}\t{id}\t{id}\t{id}");
        assert!(!lines(name).is_empty() && lines(name).iter().all(|line| *line == expected), "{seen}");
    }
    for name in ["CapPrm:", "CapEff:", "CapAmb:"] {
        assert!(lines(name).iter().all(|line| line.ends_with("\t0000000000000000")), "{seen}");
    }
    let groups: Vec<u32> = lines("Groups:")[0]["Groups:".len()..]
        .split_whitespace()
        .map(|gid| gid.parse().expect("a gid"))
        .collect();
    assert!(groups.iter().all(|gid| *gid == alice.gid || alice.groups.contains(gid)), "{seen}");
    assert!(session.cleanup().succeeded());
}
