//! Concurrency slots: two jobs at once never share a directory, and a path stays the same from run to run.

use nunbird_tests::runner::StageOutcome;
use nunbird_tests::{Privilege, World, require_root};

fn builds_dir(outcome: &StageOutcome) -> String {
    let answer: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    answer["builds_dir"].as_str().expect("a path").to_owned()
}

#[test]
fn jobs_at_the_same_time_get_directories_of_their_own_and_later_ones_the_same_again() {
    if !require_root() {
        return;
    }
    for privilege in Privilege::ALL {
        let world = World::new(privilege);
        world.write_keys();
        let (one, two, three) = (world.job(), world.job().id(7002), world.job().id(7003));
        let (mut a, mut b, mut c) = (one.begin(), two.begin(), three.begin());
        let (first, second) = (builds_dir(&a.config()), builds_dir(&b.config()));
        assert!(first.ends_with("/000") && second.ends_with("/001"), "{first} {second}");
        assert!(a.cleanup().succeeded());
        assert_eq!(builds_dir(&c.config()), first, "{privilege:?}: the slot is free again");
        assert!(b.cleanup().succeeded() && c.cleanup().succeeded());
        assert!(world.records().is_empty());
    }
}

#[test]
fn jobs_of_different_users_need_no_different_slots() {
    if !require_root() {
        return;
    }
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let (one, two) = (world.job(), world.job().id(7002).user("bob"));
    let (mut a, mut b) = (one.begin(), two.begin());
    assert!(builds_dir(&a.config()).starts_with("/home/alice/") && builds_dir(&b.config()).ends_with("/000"));
}

#[test]
fn many_jobs_admitted_at_once_all_get_a_slot_of_their_own() {
    if !require_root() {
        return;
    }
    let world = World::new(Privilege::FileCaps);
    world.write_keys();
    let jobs: Vec<_> = (0..12).map(|n| world.job().id(8000 + n)).collect();
    let mut sessions: Vec<_> = jobs.iter().map(|job| job.begin()).collect();
    let mut paths: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = sessions.iter_mut().map(|s| scope.spawn(|| builds_dir(&s.config()))).collect();
        calls.into_iter().map(|call| call.join().expect("a call")).collect()
    });
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 12, "{paths:?}");
}
