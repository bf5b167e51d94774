//! What a `nunbird-validate` that was taken over gets: its word for the site's program's, and nothing more.

use nunbird_tests::{Exit, Privilege, World, needs};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// What it does, none of which is an answer.
const ATTACKS: [&str; 10] = [
    "nothing",
    "garbage",
    "cut short",
    "and more",
    "its own order",
    "too long an output",
    "without end",
    "late",
    "a report and no end",
    "a report and a failure",
];
/// Of a call: the program's second, what its end may take, and two of what `nunbird-auth` gives `nunbird-validate` to end.
const PATIENCE: Duration = Duration::from_secs(30);

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_supervisor_that_was_taken_over_holds_no_job_up_for_long_and_admits_none_by_anything_but_an_answer(
    privilege: Privilege,
) {
    let world = World::new(privilege);
    world.write_keys();
    world.write_file("/etc/nunbird/validate", "#!/bin/sh\nexit 1\n", "root", 0o755);
    world.reconfigure(
        "[audit]",
        "[validation]\nscript = \"/etc/nunbird/validate\"\nuser = \"nunbird\"\ntimeout = \"1s\"\n\n[audit]",
    );
    world.reconfigure("run_as = \"$user_login\"", "run_as = \"$validated\"");
    world.take_over_validate();
    for attack in ATTACKS {
        world.write_file("/etc/nunbird/attack", attack, "root", 0o644);
        let begun = Instant::now();
        let outcome = world.job().config();
        assert_ne!(outcome.exit, Exit::Code(0), "{attack}: {}", outcome.log);
        assert!(outcome.stderr.contains("[validation-program]"), "{attack}: {}", outcome.log);
        let detail = world.audit().last().expect("a line")["detail"].as_str().unwrap_or("").to_owned();
        assert!(detail.contains("nunbird-validate: "), "{attack}: {detail}");
        assert!(world.records().is_empty(), "{attack}");
        assert!(begun.elapsed() < PATIENCE, "{attack}: {:?}", begun.elapsed());
        assert_eq!(running(&world), 0, "{attack}");
    }
    // What it can do: answer in the program's place.
    world.write_file("/etc/nunbird/attack", "yes", "root", 0o644);
    let admitted = world.job().config();
    assert_eq!(admitted.exit, Exit::Code(0), "{}", admitted.log);
    assert_eq!(world.audit().last().expect("a line")["account"], "ada");
}

/// How many processes run this world's copy of the program.
fn running(world: &World) -> usize {
    let file = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let program =
        world.host_path("/opt/nunbird/bin/nunbird-validate").metadata().map(file).expect("a program");
    let all = std::fs::read_dir("/proc").expect("processes").flatten();
    all.filter(|entry| entry.path().join("exe").metadata().map(file).is_ok_and(|exe| exe == program)).count()
}
