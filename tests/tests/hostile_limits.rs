//! What a `nunbird-limits` that was taken over can do: keep a job from running, or let it run without its limits; never with more privilege.

use nunbird_tests::{Exit, Privilege, World, needs};
use std::time::{Duration, Instant};

const LIMITS: &str = "[limits.small]\nmemory = \"96MiB\"\n\n[job]\nlimits = \"small\"\n";
/// What the user's processes have, and where they are.
const LOOK: &str = "id -u; id -G; grep -E '^(Cap(Prm|Eff|Amb)|Groups)' /proc/self/status; ls -l /proc/self/fd | grep -c ' -> '";

/// Answers that make no group.
const NO_GROUP: [&str; 7] =
    ["make closes", "make garbage", "make half", "make much", "make more", "make keeper", "make lines"];
/// Answers of which no stage runs.
const NO_STAGE: [&str; 12] = [
    "enter closes",
    "enter garbage",
    "enter half",
    "enter much",
    "enter more",
    "enter another",
    "enter keeper",
    "enter lines",
    "enter looks",
    "enter file",
    "enter pipe",
    "enter none",
];

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure("[job]\n", LIMITS);
    world
}

fn detail(world: &World) -> String {
    world.audit().pop().expect("an event")["detail"].as_str().unwrap_or_default().to_owned()
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn limits_that_were_taken_over_keep_a_job_from_running_or_run_it_as_its_user(privilege: Privilege) {
    let unlimited = World::new(privilege);
    unlimited.write_keys();
    let job = unlimited.job();
    let mut usual = job.begin();
    assert!(usual.config().succeeded() && usual.prepare().succeeded());
    let expected = usual.run_text("build_script", LOOK).stdout;

    let world = ready(privilege);
    world.take_over_limits();
    let attack = |what: &str| world.write_file("/etc/nunbird/attack", what, "root", 0o644);
    for what in NO_GROUP {
        attack(what);
        let outcome = world.job().config();
        let seen = format!("{privilege:?}, {what}: {}", outcome.log);
        assert_eq!(outcome.exit, Exit::Code(2), "{seen}");
        assert!(outcome.log.contains("[limits]") && !outcome.log.contains("forged"), "{seen}");
        assert!(world.records().is_empty(), "{seen}");
    }
    attack("make lies");
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    for what in NO_STAGE {
        attack(what);
        let outcome = session.run_text("build_script", "echo it runs; touch ~/ran");
        let seen = format!("{privilege:?}, {what}: {} {}", outcome.log, detail(&world));
        assert_eq!(outcome.exit, Exit::Code(2), "{seen}");
        assert!(outcome.stdout.is_empty() && !world.host_path("/home/alice/ran").exists(), "{seen}");
        assert!(outcome.log.contains("[limits]") && !outcome.log.contains("forged"), "{seen}");
        if what == "enter looks" {
            assert!(detail(&world).contains("the process is nunbird-auth"), "it waits: {seen}");
        }
    }
    for what in ["enter lies", "enter prints"] {
        attack(what);
        let outcome = session.run_text("build_script", LOOK);
        assert!(outcome.succeeded(), "{privilege:?}, {what}: {}", outcome.log);
        assert_eq!(outcome.stdout, expected, "{privilege:?}, {what}");
        assert!(!outcome.log.contains("forged"), "{privilege:?}, {what}: {}", outcome.log);
    }
    for what in ["end garbage", "end another", "end keeper", "remove garbage", "remove lies"] {
        attack(what);
        let outcome = session.cleanup();
        let seen = format!("{privilege:?}, {what}: {}", outcome.log);
        assert_eq!(
            (outcome.succeeded(), world.records().is_empty()),
            (what == "remove lies", what == "remove lies"),
            "{seen}"
        );
    }
}

#[needs(root)]
fn limits_that_answer_slowly_are_not_waited_for() {
    let world = ready(Privilege::Setuid);
    world.take_over_limits();
    world.write_file("/etc/nunbird/attack", "make late", "root", 0o644);
    let began = Instant::now();
    let outcome = world.job().config();
    assert!(!outcome.succeeded() && outcome.log.contains("[limits]"), "{}", outcome.log);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[needs(root)]
fn a_group_that_is_not_this_jobs_is_not_entered_emptied_or_removed() {
    for attack in ["make place", "make job", "make owner"] {
        let world = ready(Privilege::Setuid);
        world.take_over_limits();
        world.write_file("/etc/nunbird/attack", attack, "root", 0o644);
        let job = world.job();
        let mut session = job.begin();
        assert!(session.config().succeeded(), "{attack}");
        world.give_back_limits();
        let outcome = session.prepare();
        assert!(!outcome.succeeded() && outcome.log.contains("[limits]"), "{attack}: {}", outcome.log);
        let detail = detail(&world);
        assert!(detail.contains("the record has no group of this job's"), "{attack}: {detail}");
        let outcome = session.cleanup();
        let seen = format!("{attack}: {}", outcome.log);
        assert!(!outcome.succeeded() && outcome.log.contains("could not be ended"), "{seen}");
    }
}
