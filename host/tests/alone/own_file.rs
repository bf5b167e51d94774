//! A file of the user's own.

use crate::Test;
use crate::machine::{ALICE, PRIVILEGED, RUNNER, UNPRIVILEGED, as_account, directory, write};
use nunbird_host::{Doubt, OwnFile, System};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const ALL: &[Test] = &[
    ("a_users_file_is_read_as_the_user", a_users_file_is_read_as_the_user),
    ("each_doubt_about_a_file_is_passed_on_as_it_is", each_doubt_about_a_file_is_passed_on_as_it_is),
    ("without_privilege_the_user_reads_it_itself", without_privilege_the_user_reads_it_itself),
    ("a_child_that_cannot_become_the_user_is_no_answer", a_child_that_cannot_become_the_user_is_no_answer),
    (
        "a_child_that_its_file_system_holds_is_not_waited_for",
        a_child_that_its_file_system_holds_is_not_waited_for,
    ),
    (
        "a_home_that_does_not_answer_is_given_up_and_its_child_ended",
        a_home_that_does_not_answer_is_given_up_and_its_child_ended,
    ),
];

const INSIDE: &str = ".config/x";

fn read(limit: u64) -> OwnFile {
    PRIVILEGED.own_file("alice", Path::new(INSIDE), limit).expect("an answer")
}

fn a_users_file_is_read_as_the_user() {
    assert_eq!(read(9), OwnFile::Missing);
    directory("/home/alice/.config", ALICE, 0o700);
    assert_eq!(read(9), OwnFile::Missing);
    write("/home/alice/.config/x", "123456789", ALICE, 0o600);
    assert_eq!(read(9), OwnFile::Content(b"123456789".to_vec()));
    write("/home/alice/.config/x", "", ALICE, 0o600);
    assert_eq!(read(9), OwnFile::Content(Vec::new()));
    // Of a group of hers, for which the child has to have it.
    directory("/home/alice/.config", nunbird_files::identity::Caller { uid: 0, gid: 4200 }, 0o750);
    assert_eq!(read(9), OwnFile::Content(Vec::new()));
    let missing = PRIVILEGED.own_file("gone", Path::new(INSIDE), 9).expect_err("no account");
    assert_eq!(missing, "no account `gone`");
}

fn each_doubt_about_a_file_is_passed_on_as_it_is() {
    directory("/home/alice/.config", ALICE, 0o700);
    let file = "/home/alice/.config/x";
    write(file, "1234567890", ALICE, 0o600);
    assert_eq!(read(9), OwnFile::Doubted(Doubt::Size));
    write(file, "", ALICE, 0o622);
    assert_eq!(read(9), OwnFile::Doubted(Doubt::Writable));
    write(file, "", RUNNER, 0o644);
    assert_eq!(read(9), OwnFile::Doubted(Doubt::Owner));
    write(file, "", ALICE, 0o000);
    assert_eq!(read(9), OwnFile::Doubted(Doubt::Unreadable));
    fs::remove_file(file).expect("removed");
    directory(file, ALICE, 0o700);
    assert_eq!(read(9), OwnFile::Doubted(Doubt::Kind));
    fs::remove_dir_all("/home/alice").expect("removed");
    assert_eq!(read(9), OwnFile::Doubted(Doubt::Home));
}

fn without_privilege_the_user_reads_it_itself() {
    directory("/home/alice/.config", ALICE, 0o700);
    write("/home/alice/.config/x", "hers", ALICE, 0o600);
    as_account(ALICE, || {
        let read = UNPRIVILEGED.own_file("alice", Path::new(INSIDE), 9);
        assert_eq!(read, Ok(OwnFile::Content(b"hers".to_vec())));
        let others = UNPRIVILEGED.own_file("bob", Path::new(INSIDE), 9);
        assert!(others.expect_err("another account").contains("ended badly"));
    });
}

fn a_child_that_cannot_become_the_user_is_no_answer() {
    as_account(RUNNER, || {
        let read = PRIVILEGED.own_file("alice", Path::new(INSIDE), 9).expect_err("no privilege");
        assert_eq!(read, "uid 4101: the child that reads as the user ended badly: Exited(1)");
    });
}

/// A file system in user space over alice's home directory; none where the host has no such file systems.
fn served_by_us() -> Option<fs::File> {
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    let device = nix::sys::stat::makedev(10, 229);
    nix::sys::stat::mknod("/dev/fuse", nix::sys::stat::SFlag::S_IFCHR, mode, device).expect("a device");
    let fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&fuse);
    let data = format!("fd={number},rootmode=40000,user_id=0,group_id=0,allow_other");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("nbt"), "/home/alice", Some("fuse"), flags, Some(data.as_str())).ok()?;
    Some(fuse)
}

#[track_caller]
fn gives_up() {
    let began = Instant::now();
    let read = PRIVILEGED.own_file("alice", Path::new(INSIDE), 9).expect_err("no answer");
    assert!(read.starts_with("uid 4101: no answer from the home directory: "), "{read}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// As where a server is dead: nobody serves the file system.
fn a_home_that_does_not_answer_is_given_up_and_its_child_ended() {
    let Some(_fuse) = served_by_us() else { nunbird_skip::skip!("no FUSE on this host") };
    gives_up();
    let left = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(-1), None);
    assert_eq!(left, Err(nix::errno::Errno::ECHILD), "the child was killed and waited for");
}

/// A server that has read a request keeps even a killed process until it answers (fuse_dev.c, request_wait_answer).
fn a_child_that_its_file_system_holds_is_not_waited_for() {
    let Some(mut fuse) = served_by_us() else { nunbird_skip::skip!("no FUSE on this host") };
    let serve = || {
        let mut request = vec![0; 1 << 20];
        // FUSE_INIT, whose answer is a header and 64 bytes: version 7.31.
        assert!(fuse.read(&mut request).expect("a request") > 16);
        let unique = &request[8..16];
        let mut answer = vec![80, 0, 0, 0, 0, 0, 0, 0];
        answer.extend_from_slice(unique);
        answer.extend_from_slice(&[7, 0, 0, 0, 31, 0, 0, 0]);
        answer.resize(80, 0);
        fuse.write_all(&answer).expect("an answer");
        // The child's, which gets none.
        assert!(fuse.read(&mut request).expect("a request") > 16);
        std::thread::sleep(Duration::from_secs(30));
        0
    };
    let server = nunbird_sys::fork::fork_into(serve).expect("a child");
    drop(fuse);
    gives_up();
    server.signal(nunbird_sys::signals::KILL).expect("a signal");
}
