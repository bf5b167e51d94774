//! The store of people.

use crate::Test;
use crate::machine::{ALICE, PRIVILEGED, ROOT, RUNNER, UNPRIVILEGED, as_account, directory, write};
use nunbird_host::{PEOPLE_DIR, PersonFile, System, UNPRIVILEGED_PEOPLE_DIR};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

pub(crate) const ALL: &[Test] = &[
    (
        "a_line_that_was_written_once_is_read_and_not_written_again",
        a_line_that_was_written_once_is_read_and_not_written_again,
    ),
    ("a_store_or_file_of_anybody_elses_is_trouble", a_store_or_file_of_anybody_elses_is_trouble),
    ("a_name_is_no_path_and_no_temporary_file", a_name_is_no_path_and_no_temporary_file),
    (
        "without_privilege_the_store_is_made_when_something_is_written",
        without_privilege_the_store_is_made_when_something_is_written,
    ),
];

const NAME: &str = "main:alice";

fn a_line_that_was_written_once_is_read_and_not_written_again() {
    directory(PEOPLE_DIR, ROOT, 0o700);
    assert_eq!(PRIVILEGED.person(NAME), Ok(None));
    assert_eq!(PRIVILEGED.remember_person(NAME, b"first\n"), Ok(true));
    assert_eq!(PRIVILEGED.remember_person(NAME, b"second\n"), Ok(false));
    let path = std::path::Path::new(PEOPLE_DIR).join(NAME);
    let found = path.metadata().expect("a file");
    assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o600));
    assert_eq!(PRIVILEGED.person(NAME), Ok(Some(PersonFile { path, bytes: b"first\n".to_vec() })));
    assert_eq!(PRIVILEGED.person("main:bob"), Ok(None));
    assert_eq!(PRIVILEGED.remember_person("main:a.b-c_d1", b"x\n"), Ok(true));
}

fn a_store_or_file_of_anybody_elses_is_trouble() {
    let (read, written) = (PRIVILEGED.person(NAME), PRIVILEGED.remember_person(NAME, b"x\n"));
    for trouble in [read.expect_err("no store"), written.expect_err("no store")] {
        assert!(trouble.contains("cannot be opened") && trouble.contains("the package makes"), "{trouble}");
    }
    for (owner, mode, why) in
        [(RUNNER, 0o700, "owned by uid 4001"), (ROOT, 0o750, "mode 0750"), (ROOT, 0o701, "mode 0701")]
    {
        directory(PEOPLE_DIR, owner, mode);
        let trouble = PRIVILEGED.person(NAME).expect_err(why);
        assert!(trouble.contains(why), "{trouble}");
        assert!(PRIVILEGED.remember_person(NAME, b"x\n").is_err(), "{why}");
    }
    directory(PEOPLE_DIR, ROOT, 0o700);
    let file = format!("{PEOPLE_DIR}/{NAME}");
    for (owner, mode, why) in [
        (RUNNER, 0o600, "owned by uid 4001, mode 0600"),
        (ROOT, 0o620, "owned by uid 0, mode 0620"),
        (ROOT, 0o602, "owned by uid 0, mode 0602"),
    ] {
        write(&file, "x\n", owner, mode);
        let trouble = PRIVILEGED.person(NAME).expect_err(why);
        assert!(trouble.contains(&format!("{file}: {why}; it must be mode 0600")), "{trouble}");
    }
    write(&file, "x\n", ROOT, 0o644);
    assert!(PRIVILEGED.person(NAME).is_ok_and(|file| file.is_some()));
    write(&file, [b'x'; 129], ROOT, 0o600);
    assert!(PRIVILEGED.person(NAME).expect_err("too long").starts_with(&file));
    as_account(RUNNER, || {
        let trouble = PRIVILEGED.person(NAME).expect_err("a keeper that this process cannot be");
        assert!(trouble.starts_with(PEOPLE_DIR), "{trouble}");
    });
}

fn a_name_is_no_path_and_no_temporary_file() {
    directory(PEOPLE_DIR, ROOT, 0o700);
    for name in ["alice", "../jobs:x", ".x:y", "main:Alice", "main:a b", "", "main:ü", "a/b:c"] {
        let why = "the account or its server has no usable name";
        assert_eq!(PRIVILEGED.person(name), Err(why.to_owned()), "{name}");
        assert_eq!(PRIVILEGED.remember_person(name, b"x\n"), Err(why.to_owned()), "{name}");
    }
    assert_eq!(fs::read_dir(PEOPLE_DIR).expect("a store").count(), 0);
}

fn without_privilege_the_store_is_made_when_something_is_written() {
    as_account(ALICE, || {
        let store = std::path::Path::new("/home/alice").join(UNPRIVILEGED_PEOPLE_DIR);
        assert_eq!(UNPRIVILEGED.person(NAME), Ok(None));
        assert!(!store.exists(), "looking makes nothing");
        assert_eq!(UNPRIVILEGED.remember_person(NAME, b"x\n"), Ok(true));
        assert_eq!(store.metadata().expect("a store").mode() & 0o7777, 0o700);
        let known = UNPRIVILEGED.person(NAME).expect("a store").expect("a file");
        assert_eq!((known.path, known.bytes), (store.join(NAME), b"x\n".to_vec()));
        fs::set_permissions(&store, fs::Permissions::from_mode(0o000)).expect("a mode");
        assert!(UNPRIVILEGED.person(NAME).is_err(), "what cannot be read is not missing");
    });
    fs::remove_dir_all("/home/bob").expect("removed");
    let bob = nunbird_files::identity::Caller { uid: 4102, gid: 4102 };
    as_account(bob, || {
        let mut here = UNPRIVILEGED;
        (here.0.keeper, here.0.caller) = (bob, bob);
        let trouble = here.person(NAME).expect_err("no home directory");
        assert!(trouble.starts_with(".local/state/nunbird/people of uid 4102: "), "{trouble}");
    });
}
