//! Who never runs a job, whatever the configuration says.

use crate::Test;
use crate::machine::{ALICE, KEYS, PRIVILEGED, ROOT, RUNNER, UNPRIVILEGED, directory, write};
use nunbird_accounts::users::UserEntry;
use nunbird_files::identity::Caller;
use nunbird_host::refusal::{Class, Code};
use nunbird_host::{Floor, Here, Rights, System};
use std::path::Path;

pub(crate) const ALL: &[Test] = &[
    (
        "a_host_without_a_file_has_the_floor_that_is_built_in",
        a_host_without_a_file_has_the_floor_that_is_built_in,
    ),
    (
        "a_file_that_is_not_roots_alone_or_not_understood_is_trouble",
        a_file_that_is_not_roots_alone_or_not_understood_is_trouble,
    ),
    ("without_privilege_the_file_does_not_count", without_privilege_the_file_does_not_count),
    ("no_account_of_the_system_is_above_the_floor", no_account_of_the_system_is_above_the_floor),
    ("numbers_that_no_user_has_are_refused_one_by_one", numbers_that_no_user_has_are_refused_one_by_one),
    (
        "a_member_of_a_denied_group_is_refused_and_a_group_that_is_missing_is_trouble",
        a_member_of_a_denied_group_is_refused_and_a_group_that_is_missing_is_trouble,
    ),
    (
        "keys_are_fetched_as_the_owner_of_the_directory_or_as_one_who_could_have_jobs",
        keys_are_fetched_as_the_owner_of_the_directory_or_as_one_who_could_have_jobs,
    ),
    (
        "a_validation_program_runs_as_one_who_could_have_jobs_or_whom_the_file_names",
        a_validation_program_runs_as_one_who_could_have_jobs_or_whom_the_file_names,
    ),
    (
        "events_go_into_files_of_that_name_or_into_those_of_the_file",
        events_go_into_files_of_that_name_or_into_those_of_the_file,
    ),
    (
        "an_own_directory_has_the_accounts_name_or_lies_in_a_directory_that_the_file_names",
        an_own_directory_has_the_accounts_name_or_lies_in_a_directory_that_the_file_names,
    ),
];

const FILE: &str = "/etc/nunbird/floor";

fn floor() -> Floor {
    Floor::read(PRIVILEGED.0).expect("a floor")
}

fn account(name: &str) -> UserEntry {
    PRIVILEGED.account(name).expect("a database").expect("an account")
}

/// Why the account may not run jobs, if it may not: the class and the detail.
fn refused(floor: &Floor, name: &str, here: Here) -> Option<(Class, String)> {
    let refusal = floor.check(name, &account(name), here.0, &here).err()?;
    Some((refusal.class, refusal.detail))
}

#[track_caller]
fn denied(floor: &Floor, name: &str, why: &str) {
    let (class, detail) = refused(floor, name, PRIVILEGED).unwrap_or_else(|| panic!("{name} is admitted"));
    assert!(class == Class::Denied && detail.contains(why), "{name}: {class:?} {detail}");
}

fn a_host_without_a_file_has_the_floor_that_is_built_in() {
    let floor = floor();
    assert_eq!(floor.min_uid(), 1000);
    assert_eq!(refused(&floor, "alice", PRIVILEGED), None);
    assert_eq!(refused(&floor, "least", PRIVILEGED), None);
    denied(&floor, "most", "uid 999 is below min_uid 1000");
}

fn a_file_that_is_not_roots_alone_or_not_understood_is_trouble() {
    write(FILE, "# of this site\n\nmin_uid 4102\n", ROOT, 0o644);
    assert_eq!(floor().min_uid(), 4102);
    let trouble = |owner: Caller, mode: u32, text: &[u8], why: &str| {
        write(FILE, text, owner, mode);
        let refusal = Floor::read(PRIVILEGED.0).expect_err(why);
        assert_eq!((refusal.class, refusal.code), (Class::System, Code::ConfigurationFile), "{why}");
        assert!(refusal.detail.contains(why), "{why}: {}", refusal.detail);
    };
    trouble(RUNNER, 0o644, b"min_uid 1\n", "owned by uid 4001");
    trouble(ROOT, 0o666, b"min_uid 1\n", "writable by others");
    trouble(
        ROOT,
        0o644,
        b"min_uid 500\nmin_uid nought\n",
        "/etc/nunbird/floor:2: `min_uid` expects a uid above 0",
    );
    trouble(ROOT, 0o644, b"min_uid 0\n", "a uid above 0");
    trouble(ROOT, 0o644, b"deny_group\n", "/etc/nunbird/floor:1: expected `min_uid NUMBER`");
    trouble(ROOT, 0o644, b"audit_file relative.jsonl\n", "expected `min_uid NUMBER`");
    trouble(ROOT, 0o644, b"directories_in scratch\n", "expected `min_uid NUMBER`");
    trouble(ROOT, 0o644, b"\xff\n", "/etc/nunbird/floor: ");
    std::fs::remove_file(FILE).expect("removed");
    std::os::unix::fs::symlink("/etc/passwd", FILE).expect("a link");
    let refusal = Floor::read(PRIVILEGED.0).expect_err("a link is no file that is missing");
    assert!(refusal.detail.contains("is a symbolic link"), "{}", refusal.detail);
    std::fs::remove_file(FILE).expect("removed");
    directory(FILE, ROOT, 0o755);
    let refusal = Floor::read(PRIVILEGED.0).expect_err("a directory is no file that is missing");
    assert!(refusal.detail.contains("not a regular file"), "{}", refusal.detail);
}

fn without_privilege_the_file_does_not_count() {
    write(FILE, "min_uid 5000\ndeny_group alice\n", ROOT, 0o644);
    let floor = Floor::read(UNPRIVILEGED.0).expect("a floor");
    assert_eq!(floor.min_uid(), 1000);
    // The job is the runner's own account, and its uid may be any.
    assert_eq!(refused(&floor, "alice", UNPRIVILEGED), None);
    assert_eq!(refused(&floor, "most", UNPRIVILEGED), None);
    assert_eq!(refused(&floor, "nunbird", UNPRIVILEGED), None);
    assert_eq!(refused(&floor, "wheely", UNPRIVILEGED), None);
    assert!(refused(&floor, "root", UNPRIVILEGED).is_some());
}

fn no_account_of_the_system_is_above_the_floor() {
    write(FILE, "min_uid 1\n", ROOT, 0o644);
    let floor = floor();
    denied(&floor, "root", "never a user's");
    denied(&floor, "toor", "another name");
    denied(&floor, "alias", "another name");
    denied(&floor, "zero", "never a user's");
    denied(&floor, "nobody", "never a user's");
    denied(&floor, "nunbird", "gitlab-runner or Nunbird itself");
    denied(&floor, "nbt_runner", "gitlab-runner or Nunbird itself");
    denied(&floor, "wheely", "a member of group 0");
    assert_eq!(refused(&floor, "daemon", PRIVILEGED), None, "the file says so");
    // What was asked for is another name than the database's.
    let other = floor.check("Alice", &account("alice"), PRIVILEGED.0, &PRIVILEGED).expect_err("another name");
    assert!(other.detail.contains("`Alice`: the user database has another name"), "{}", other.detail);
}

fn numbers_that_no_user_has_are_refused_one_by_one() {
    let alice = account("alice");
    let is_refused = |account: &UserEntry| Floor::check_ids("alice", account, PRIVILEGED.0).is_err();
    assert!(!is_refused(&alice));
    for uid in [0, 65533, 65534, u32::MAX] {
        assert!(is_refused(&UserEntry { uid, ..alice.clone() }), "uid {uid}");
    }
    for gid in [0, u32::MAX] {
        assert!(is_refused(&UserEntry { gid, ..alice.clone() }), "gid {gid}");
    }
    assert!(!is_refused(&UserEntry { gid: 65534, ..alice.clone() }), "a primary group may be NFS's");
    assert!(is_refused(&UserEntry { name: "bob".to_owned(), ..alice.clone() }));
    assert!(is_refused(&UserEntry { name_of_uid: Some("bob".to_owned()), ..alice.clone() }));
    assert!(is_refused(&UserEntry { name_of_uid: None, ..alice }));
}

fn a_member_of_a_denied_group_is_refused_and_a_group_that_is_missing_is_trouble() {
    write(FILE, "deny_group heads\ndeny_group lattice\n", ROOT, 0o644);
    denied(&floor(), "alice", "a member of `lattice`");
    assert_eq!(refused(&floor(), "bob", PRIVILEGED), None);
    write(FILE, "deny_group bob\n", ROOT, 0o644);
    denied(&floor(), "bob", "a member of `bob`");
    write(FILE, "deny_group gone\n", ROOT, 0o644);
    let (class, detail) = refused(&floor(), "bob", PRIVILEGED).expect("trouble");
    assert!(
        class == Class::System && detail.contains("deny_group gone of /etc/nunbird/floor: no such group"),
        "{detail}"
    );
}

fn keys_are_fetched_as_the_owner_of_the_directory_or_as_one_who_could_have_jobs() {
    let may = |uid: u32, gid: u32| floor().may_fetch(Caller { uid, gid }, PRIVILEGED.0, &PRIVILEGED);
    assert!(may(990, 991).expect_err("no directory").contains("runs gitlab-runner or Nunbird itself"));
    directory("/var/lib/nunbird/keys", KEYS, 0o755);
    may(990, 991).expect("its owner");
    may(4101, 4101).expect("could have jobs");
    for (uid, gid, why) in [
        (990, 990, "uid 990 gid 990"),
        (2, 991, "uid 2 gid 991, as which nothing is run"),
        (4101, 4102, "uid 4101 gid 4102"),
        (2, 2, "below min_uid"),
        (4001, 4001, "runs gitlab-runner"),
        (7777, 7777, "uid 7777 gid 7777, as which nothing is run"),
    ] {
        let refused = may(uid, gid).expect_err(why);
        assert!(refused.contains(why), "{uid} {gid}: {refused}");
    }
    directory("/var/lib/nunbird/keys", ROOT, 0o755);
    assert!(may(0, 0).is_err(), "nothing is fetched as root");
}

fn a_validation_program_runs_as_one_who_could_have_jobs_or_whom_the_file_names() {
    let may = |name: &str| floor().may_validate(&account(name), PRIVILEGED.0, &PRIVILEGED);
    assert_eq!(["alice", "daemon", "root"].map(may), [true, false, false]);
    write(FILE, "validation_user daemon\nvalidation_user root\n", ROOT, 0o644);
    assert_eq!(["alice", "daemon", "root", "nunbird"].map(may), [true, true, true, false]);
}

fn events_go_into_files_of_that_name_or_into_those_of_the_file() {
    let named = |path: &str| Floor::is_named_for_events(Path::new(path));
    assert!(named("/var/log/nunbird/audit.jsonl") && named("/srv/x.jsonl"));
    for path in [
        "/var/log/nunbird/audit",
        "/var/log/jsonl",
        "/etc/x.jsonl",
        "/var/lib/nunbird/jobs/x.jsonl",
        "/usr/share/x.jsonl",
        "/opt/nunbird/x.jsonl",
    ] {
        assert!(!named(path) && !floor().is_of_events(Path::new(path)), "{path}");
    }
    assert!(floor().is_of_events(Path::new("/srv/x.jsonl")));
    write(FILE, "audit_file /var/log/jobs\n", ROOT, 0o644);
    let floor = floor();
    assert!(floor.is_of_events(Path::new("/var/log/jobs")));
    assert!(!floor.is_of_events(Path::new("/var/log/jobs2")));
}

fn an_own_directory_has_the_accounts_name_or_lies_in_a_directory_that_the_file_names() {
    let may = |path: &str| floor().may_own(Path::new(path), "alice");
    assert_eq!(["/scratch/alice", "/scratch/bob", "/etc/systemd/system"].map(may), [true, false, false]);
    write(FILE, "directories_in /scratch\n", ROOT, 0o644);
    assert_eq!(["/scratch/ci", "/scratch/a/ci", "/", "/data/ci"].map(may), [true, false, false, false]);
    let rights = Rights { caller: ALICE, ..PRIVILEGED.0 };
    assert!(Floor::check_ids("alice", &account("alice"), rights).is_err(), "the runner's own account");
}
