//! The user's own word: read as the user, and only where nobody else can have written it.

use crate::Test;
use crate::authorized_projects::check;
use crate::machine::{Machine, Mode};
use crate::refusal::{Class, Code, Refusal};
use nix::sys::stat::Mode as Permission;
use nunbird_policy::AuthorizedProjects::{self, Off, Optional, Required};
use nunbird_policy::{ProjectFacts, projects_answer};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

pub(crate) const ALL: &[Test] = &[
    (
        "a_line_of_the_users_lets_a_project_in_and_no_other",
        a_line_of_the_users_lets_a_project_in_and_no_other,
    ),
    ("without_a_file_the_sites_default_holds", without_a_file_the_sites_default_holds),
    (
        "a_file_that_others_could_have_written_does_not_count",
        a_file_that_others_could_have_written_does_not_count,
    ),
    (
        "what_is_not_a_readable_regular_file_does_not_count",
        what_is_not_a_readable_regular_file_does_not_count,
    ),
    ("links_are_the_users_own_business", links_are_the_users_own_business),
    ("a_home_that_is_not_there_is_no_yes", a_home_that_is_not_there_is_no_yes),
    ("only_the_user_can_read_the_file_and_it_is_read", only_the_user_can_read_the_file_and_it_is_read),
    ("a_home_that_does_not_answer_is_refused_in_time", a_home_that_does_not_answer_is_refused_in_time),
];

const FILE: &str = "home/alice/.config/nunbird/authorized_projects";
const FACTS: ProjectFacts<'_> = ProjectFacts {
    server: "main",
    project_path: "hpc/app",
    git_ref: Some("main"),
    ref_protected: Some(true),
    pipeline_source: Some("push"),
};

/// Writes alice's file, and her directories on the way.
fn write(machine: &Machine, text: &str) -> PathBuf {
    let path = machine.write(FILE, text, 4101, 0o600);
    for directory in ["home/alice/.config", "home/alice/.config/nunbird"] {
        chown(machine.path(directory), Some(4101), Some(4101)).expect("an owner");
    }
    path
}

/// Asks for alice's word, from a child, so that the test goes on as root.
fn asked(machine: &Machine, mode: AuthorizedProjects, facts: &ProjectFacts<'_>) -> Result<(), Refusal> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let child = nunbird_sys::fork::fork_into(|| {
        let here = machine.privileged();
        let read = |content: Vec<u8>| Ok::<_, Refusal>(projects_answer(&content, facts));
        let said = match check(mode, "alice", &here.privilege.here(), read) {
            Ok(_) => return 0,
            Err(refusal) => refusal,
        };
        let text = format!("{:?}\n{}\n{}\n{}", said.class, said.code, said.message, said.detail);
        std::io::Write::write_all(&mut &writer, text.as_bytes()).expect("a reader");
        1
    })
    .expect("a child");
    drop(writer);
    let text = std::io::read_to_string(reader).expect("an answer");
    match child.wait().expect("an end") {
        nunbird_sys::fork::Ended::Exited(0) => Ok(()),
        nunbird_sys::fork::Ended::Exited(1) => Err(refusal(&text)),
        other => panic!("{other:?}"),
    }
}

fn refusal(text: &str) -> Refusal {
    let parts: Vec<&str> = text.splitn(4, '\n').collect();
    let [class, "authorized-projects", message, detail] = parts[..] else { panic!("{text}") };
    match class {
        "Denied" => Refusal::denied(Code::AuthorizedProjects, message, detail),
        _ => Refusal::system(Code::AuthorizedProjects, message, detail),
    }
}

#[track_caller]
fn refused(answer: Result<(), Refusal>, class: Class, why: &str) {
    let refusal = answer.expect_err(why);
    assert_eq!(refusal.class, class, "{refusal:?}");
    assert!(format!("{} {}", refusal.message, refusal.detail).contains(why), "{why}: {refusal:?}");
}

fn a_line_of_the_users_lets_a_project_in_and_no_other(machine: &Machine) {
    write(machine, "# mine\nhpc/broken [x]\nhpc/app main protected\n");
    for mode in [Optional, Required] {
        asked(machine, mode, &FACTS).expect("yes");
        let other = ProjectFacts { project_path: "evil/app", ..FACTS };
        refused(asked(machine, mode, &other), Class::Denied, "no line admits it; not read: lines 2");
        let unprotected = ProjectFacts { ref_protected: Some(false), ..FACTS };
        refused(asked(machine, mode, &unprotected), Class::Denied, "not let this project and ref run as you");
    }
    let other = ProjectFacts { project_path: "evil/app", ..FACTS };
    asked(machine, Off, &other).expect("nobody asks");
    write(machine, &"x\n".repeat(40_000));
    refused(asked(machine, Optional, &FACTS), Class::Denied, "longer than 65536");
    write(machine, &"a b c\n".repeat(10_000));
    refused(
        asked(machine, Optional, &FACTS),
        Class::Denied,
        "not read: lines 1, 2, 3, 4, 5, 6, 7, 8 and 9992 more",
    );
    write(machine, "");
    refused(asked(machine, Optional, &FACTS), Class::Denied, "no line admits it");
}

fn without_a_file_the_sites_default_holds(machine: &Machine) {
    let without = || {
        asked(machine, Optional, &FACTS).expect("the policy's word alone");
        refused(asked(machine, Required, &FACTS), Class::Denied, "have not said which projects");
    };
    without();
    let path = write(machine, "hpc/app");
    asked(machine, Required, &FACTS).expect("her word");
    fs::remove_file(path).expect("removed");
    without();
}

fn a_file_that_others_could_have_written_does_not_count(machine: &Machine) {
    let path = write(machine, "**");
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        refused(asked(machine, Optional, &FACTS), Class::Denied, "can be written by others");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
    for owner in [4102, 0] {
        chown(&path, Some(owner), None).expect("an owner");
        refused(asked(machine, Optional, &FACTS), Class::Denied, "belongs to somebody else");
    }
    chown(&path, Some(4101), None).expect("an owner");
    asked(machine, Optional, &FACTS).expect("her own again");
    for directory in ["home/alice", "home/alice/.config", "home/alice/.config/nunbird"] {
        let directory = machine.path(directory);
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("a mode");
        refused(asked(machine, Optional, &FACTS), Class::Denied, "can be written by others");
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("a mode");
        chown(&directory, Some(4102), None).expect("an owner");
        refused(asked(machine, Optional, &FACTS), Class::Denied, "belongs to somebody else");
        chown(&directory, Some(4101), None).expect("an owner");
    }
    asked(machine, Optional, &FACTS).expect("her own again");
}

fn what_is_not_a_readable_regular_file_does_not_count(machine: &Machine) {
    let path = write(machine, "**");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("a mode");
    refused(asked(machine, Optional, &FACTS), Class::Denied, "cannot be read");
    fs::remove_file(&path).expect("removed");
    nix::unistd::mkfifo(&path, Permission::S_IRUSR | Permission::S_IWUSR).expect("a fifo");
    chown(&path, Some(4101), None).expect("an owner");
    refused(asked(machine, Optional, &FACTS), Class::Denied, "not a regular file");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a directory");
    chown(&path, Some(4101), None).expect("an owner");
    refused(asked(machine, Optional, &FACTS), Class::Denied, "not a regular file");
    fs::remove_dir(&path).expect("removed");
    for target in ["/dev/tty", "/dev/zero", "/proc/self/environ"] {
        symlink(target, &path).expect("a link");
        assert!(asked(machine, Optional, &FACTS).is_err(), "{target}");
        fs::remove_file(&path).expect("removed");
    }
    let directory = machine.path("home/alice/.config/nunbird");
    fs::set_permissions(&directory, Permissions::from_mode(0o000)).expect("a mode");
    refused(asked(machine, Optional, &FACTS), Class::Denied, "cannot be read");
    fs::remove_dir(&directory).expect("removed");
    fs::write(&directory, "").expect("a file in the directory's place");
    chown(&directory, Some(4101), None).expect("an owner");
    refused(asked(machine, Optional, &FACTS), Class::Denied, "cannot be read");
}

fn links_are_the_users_own_business(machine: &Machine) {
    let path = write(machine, "hpc/other");
    let dotfiles = machine.write("home/alice/dotfiles", "hpc/app main\n", 4101, 0o600);
    fs::remove_file(&path).expect("removed");
    symlink(&dotfiles, &path).expect("a link");
    asked(machine, Required, &FACTS).expect("her own file by her own link");
    // A link to a file of somebody else's, which she may read, is not her word.
    fs::remove_file(&path).expect("removed");
    let bobs = machine.write("shared/projects", "hpc/app main\n", 4102, 0o644);
    symlink(&bobs, &path).expect("a link");
    refused(asked(machine, Optional, &FACTS), Class::Denied, "belongs to somebody else");
    // One that she may not read is not read with anybody else's rights.
    fs::set_permissions(&bobs, Permissions::from_mode(0o600)).expect("a mode");
    refused(asked(machine, Optional, &FACTS), Class::Denied, "cannot be read");
    fs::remove_file(&path).expect("removed");
    symlink("/nowhere/at/all", &path).expect("a link");
    refused(asked(machine, Required, &FACTS), Class::Denied, "have not said which projects");
    fs::remove_file(&path).expect("removed");
    symlink(&path, &path).expect("a link to itself");
    refused(asked(machine, Optional, &FACTS), Class::Denied, "cannot be read");
}

fn a_home_that_is_not_there_is_no_yes(machine: &Machine) {
    fs::remove_dir(machine.path("home/alice")).expect("removed");
    for mode in [Optional, Required] {
        refused(asked(machine, mode, &FACTS), Class::Denied, "home directory is not there");
    }
}

/// As where the server of a network file system gives root no rights: only the user gets at it.
fn only_the_user_can_read_the_file_and_it_is_read(machine: &Machine) {
    write(machine, "hpc/app main\n");
    for directory in ["home/alice", "home/alice/.config", "home/alice/.config/nunbird"] {
        fs::set_permissions(machine.path(directory), Permissions::from_mode(0o700)).expect("a mode");
    }
    let read_by_privilege = || {
        let here = machine.privileged();
        i32::from(fs::read(here.path(FILE)).is_ok())
    };
    let child = nunbird_sys::fork::fork_into(read_by_privilege).expect("a child");
    let readable = child.wait().expect("an end") == nunbird_sys::fork::Ended::Exited(1);
    assert_eq!(readable, machine.mode == Mode::None, "the privilege that is left reads no file of alice's");
    asked(machine, Required, &FACTS).expect("yes");
}

/// A file system that does not answer, as a dead NFS server: here one in user space that nobody serves.
fn a_home_that_does_not_answer_is_refused_in_time(machine: &Machine) {
    let fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let Ok(fuse) = fuse else {
        nunbird_skip::skip!("a_home_that_does_not_answer_is_refused_in_time: no /dev/fuse");
    };
    let home = machine.path("home/alice");
    let number = std::os::fd::AsRawFd::as_raw_fd(&fuse);
    let data = format!("fd={number},rootmode=40000,user_id=0,group_id=0,allow_other");
    let mounted = nix::mount::mount(
        Some("nbt"),
        &home,
        Some("fuse"),
        nix::mount::MsFlags::empty(),
        Some(data.as_str()),
    );
    if let Err(error) = mounted {
        nunbird_skip::skip!("a_home_that_does_not_answer_is_refused_in_time: {error}");
    }
    refused(asked(machine, Optional, &FACTS), Class::System, "no answer from the home directory");
    nix::mount::umount2(&home, nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
}
