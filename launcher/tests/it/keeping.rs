//! Build directories that are kept for a time, and what later jobs' clean-ups make of them.

use crate::world::{World, assert_code, err};
use nunbird_skip::needs;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

const NO_SITE_ALLOWS: u64 = u64::MAX;

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs()
}

fn place(world: &World) -> PathBuf {
    world.handover.workspace.builds_dir.parent().expect("this host's").to_owned()
}

/// A directory that no job uses; one that is kept until then.
fn unused(world: &World, name: &str, kept: Option<u64>) {
    let place = place(world);
    world.mkdir(&place.join(name), 0o700);
    world.write(&place.join(name).join("file"), "x");
    let kept_too = kept.map_or_else(String::new, |until| format!(",\"kept\":{until}"));
    world.write(&place.join(format!(".{name}.job")), &format!("{{\"until\":0,\"boot\":\"\"{kept_too}}}"));
    if kept.is_some() {
        world.write(&place.join(format!(".{name}.kept")), "{}");
    }
}

fn names(world: &World) -> Vec<String> {
    let entries = fs::read_dir(place(world)).expect("a directory").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != ".lock" && !name.ends_with(".job"));
    names.sort();
    names
}

#[test]
fn what_is_over_or_no_site_allows_goes_though_the_site_has_no_rules_any_more() {
    let mut world = World::new();
    assert_code(&world.prepare(), 0);
    unused(&world, "gone", Some(now() - 1));
    unused(&world, "forged", Some(NO_SITE_ALLOWS));
    unused(&world, "its-job-was-killed", Some(0));
    unused(&world, "kept", Some(now() + 6 * 24 * 3600));
    unused(&world, "lasting", None);
    assert_code(&world.cleanup(), 0);
    assert_eq!(names(&world), [".kept.kept", "0", "kept", "lasting"]);
}

#[test]
fn kept_directories_push_out_no_others() {
    let mut world = World::new();
    world.handover.site.upkeep.max_dirs = Some(3);
    assert_code(&world.prepare(), 0);
    for name in ["kept-1", "kept-2", "kept-3"] {
        unused(&world, name, Some(now() + 600));
    }
    unused(&world, "a", None);
    unused(&world, "b", None);
    assert_code(&world.cleanup(), 0);
    let all = [".kept-1.kept", ".kept-2.kept", ".kept-3.kept", "0", "a", "b", "kept-1", "kept-2", "kept-3"];
    assert_eq!(names(&world), all);
    unused(&world, "c", None);
    assert_code(&world.cleanup(), 0);
    assert_eq!(names(&world).len(), all.len(), "one of four goes: {:?}", names(&world));
}

#[test]
fn where_space_is_short_the_oldest_kept_directory_goes_after_all_that_nobody_uses() {
    let mut world = World::new();
    world.handover.site.upkeep.min_free = Some(u64::MAX);
    world.handover.site.upkeep.at_once = Some(3);
    assert_code(&world.prepare(), 0);
    unused(&world, "kept-1", Some(now() + 600));
    unused(&world, "kept-2", Some(now() + 600));
    unused(&world, "a", None);
    assert_code(&world.cleanup(), 0);
    assert_eq!(names(&world), [".kept-2.kept", "kept-2"], "the job's own is unused by then");
}

#[test]
fn a_directory_of_the_jobs_own_goes_after_it_even_if_nothing_says_how_it_ended() {
    let mut world = World::new();
    world.handover.site.keep = Some(600);
    world.handover.site.upkeep.keep = Some(600);
    assert_code(&world.prepare(), 0);
    let note = place(&world).join(".0.job");
    let text = fs::read_to_string(&note).expect("a note");
    assert!(text.contains("\"kept\":0"), "{text}");
    // As if the host had crashed.
    world.write(&note, &text.replace("\"boot\":\"", "\"boot\":\"another "));
    world.handover.workspace.builds_dir = place(&world).join("1");
    world.handover.workspace.project_dir = place(&world).join("1/group/project");
    world.handover.site.keep = None;
    assert_code(&world.prepare(), 0);
    assert_code(&world.cleanup(), 0);
    assert_eq!(names(&world), ["1"]);
}

#[needs(root)]
fn a_directory_on_which_something_is_mounted_is_passed_over_and_said() {
    let mut world = World::new();
    assert_code(&world.prepare(), 0);
    for name in ["a", "b", "c"] {
        unused(&world, name, Some(1));
    }
    let inner = place(&world).join("b/inner");
    world.mkdir(&inner, 0o700);
    let uid = world.handover.account.uid;
    let mounted = place(&world).join("a");
    let tmpfs = |at: &PathBuf| {
        format!("mount -t tmpfs -o uid={uid},mode=700 tmpfs {0}; touch {0}/precious; ", at.display())
    };
    // The launcher is the only process that sees them: what it removes of them is said by its output alone.
    world.mounts = Some(format!("{}{}:", tmpfs(&mounted), tmpfs(&inner)));
    let output = world.cleanup();
    assert_code(&output, 0);
    let said = err(&output);
    assert!(said.contains(&format!("cannot remove {}: ", mounted.display())), "{said}");
    assert!(said.contains("/inner: another file system is mounted there; unmount it"), "{said}");
    let left = names(&world);
    assert!(left.contains(&"a".to_owned()) && left.contains(&".a.kept".to_owned()), "{left:?}");
    let half = left.iter().find(|name| name.starts_with(".gone-") && name.ends_with("-b"));
    let half = half.unwrap_or_else(|| panic!("{left:?}"));
    let inside = fs::read_dir(place(&world).join(half)).expect("a directory").flatten();
    assert_eq!(inside.map(|entry| entry.file_name()).collect::<Vec<_>>(), ["inner"]);
    assert!(!left.contains(&"c".to_owned()), "{left:?}");
    world.mounts = None;
    assert_code(&world.cleanup(), 0);
    assert_eq!(names(&world), ["0"]);
}
