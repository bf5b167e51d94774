//! What the launcher checks before it does anything.

use crate::world::{SYSTEM_FAILURE, World, assert_code, err, out};
use nunbird_handover::Task;
use nunbird_messages::Envelope;
use nunbird_skip::needs;

const TOUCH: &str = "touch \"$HOME/ran\"; exit 0";

#[test]
fn without_a_handover_it_says_who_starts_it() {
    let world = World::new();
    let output = world.bare(&[]);
    assert_code(&output, 2);
    assert!(err(&output).contains("nunbird-auth starts nunbird"), "{}", err(&output));
}

#[test]
fn a_broken_handover_or_one_of_another_version_is_refused() {
    let mut world = World::new();
    world.handover.task = Task::Run("build_script".to_owned());
    let good = world.handover.to_bytes().expect("bytes");
    let message = String::from_utf8(world.handover.message().expect("bytes")).expect("text");
    let version = format!("\"version\":{}", nunbird_handover::FORMAT_VERSION);
    let old = Envelope::plain(message.replace(&version, "\"version\":1").into_bytes());
    let bad: [&[u8]; 6] =
        [b"", b"{}", message.as_bytes(), &good[1..], &good[..good.len() - 1], &[&good[..], b"x"].concat()];
    for bad in bad.into_iter().chain([&old[..]]) {
        let output = world.start_with(bad, TOUCH).finish();
        assert_code(&output, 2);
        assert!(err(&output).contains("no handover behind descriptor 3"), "{bad:?}: {}", err(&output));
    }
    assert!(!world.home().join("ran").exists());
}

#[test]
fn version_and_help_are_printed_and_other_arguments_refused() {
    let world = World::new();
    let version = world.bare(&["--version"]);
    assert_code(&version, 0);
    assert_eq!(out(&version), format!("nunbird {}\n", env!("CARGO_PKG_VERSION")));
    assert!(out(&world.bare(&["--help"])).contains("nunbird-auth"));
    for arguments in [&["run"][..], &["--version", "x"], &["--help", "--version"]] {
        assert_code(&world.bare(arguments), 2);
    }
}

#[test]
fn another_account_than_that_of_the_handover_is_refused() {
    let changes: [fn(&mut World); 2] =
        [|world| world.handover.account.uid += 1, |world| world.handover.account.gid += 1];
    for change in changes {
        let mut world = World::new();
        let before = world.handover.clone();
        change(&mut world);
        // The harness becomes the account of `world.handover`, so the message differs from it here only.
        world.handover.task = Task::Run("build_script".to_owned());
        let message = world.handover.to_bytes().expect("bytes");
        world.handover = before;
        let output = world.start_with(&message, TOUCH).finish();
        assert_code(&output, SYSTEM_FAILURE);
        assert!(err(&output).contains("refusing to run a job"), "{}", err(&output));
        assert!(!world.home().join("ran").exists());
    }
}

#[test]
fn root_runs_no_job_even_if_the_handover_says_so() {
    let mut world = World::new();
    (world.handover.account.uid, world.handover.account.gid) = (0, 0);
    world.drops = false;
    let output = world.run(TOUCH);
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("root runs no jobs"), "{}", err(&output));
    assert!(!world.home().join("ran").exists());
}

#[needs(root)]
fn a_process_that_is_still_root_runs_no_job_of_a_user() {
    let mut world = World::new();
    world.drops = false;
    assert_code(&world.run(TOUCH), SYSTEM_FAILURE);
    assert!(!world.home().join("ran").exists());
}

#[test]
fn no_other_process_of_the_user_may_look_into_the_launcher() {
    let mut world = World::new();
    let output =
        world.run("cat /proc/$PPID/environ >/dev/null 2>&1 && echo open; cat /proc/$PPID/comm; exit 0");
    assert_eq!(out(&output), "nunbird\n");
}
