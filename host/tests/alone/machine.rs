//! A file system of the test's: accounts, `/etc`, `/home`, `/var/lib/nunbird`, `/var/log` and `/dev` are empty and root's, and end with the
//! process. All else is the host's.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use nunbird_files::identity::Caller;
use nunbird_host::{Here, Rights};
use nunbird_sys::fork::{Ended, fork_into};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

pub(crate) const ROOT: Caller = Caller { uid: 0, gid: 0 };
pub(crate) const KEYS: Caller = Caller { uid: 990, gid: 991 };
pub(crate) const RUNNER: Caller = Caller { uid: 4001, gid: 4001 };
pub(crate) const ALICE: Caller = Caller { uid: 4101, gid: 4101 };

/// Name, uid, gid. `/home/NAME` belongs to each, mode 0700.
const ACCOUNTS: [(&str, u32, u32); 9] = [
    ("root", 0, 0),
    ("daemon", 2, 2),
    ("nunbird", 990, 991),
    ("least", 1000, 1000),
    ("most", 999, 999),
    ("nbt_runner", 4001, 4001),
    ("alice", 4101, 4101),
    ("bob", 4102, 4102),
    ("nobody", 65534, 65534),
];

/// `nunbird-auth` of a root runner or as a setuid program.
pub(crate) const PRIVILEGED: Here = Here(Rights {
    privileged: true,
    can_change_user: true,
    keeper: ROOT,
    caller: RUNNER,
    reads_shadow: true,
});
/// `nunbird-auth` without privilege, of alice's.
pub(crate) const UNPRIVILEGED: Here = Here(Rights {
    privileged: false,
    can_change_user: false,
    keeper: ALICE,
    caller: ALICE,
    reads_shadow: false,
});

/// Enters it.
pub(crate) fn enter() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    for place in ["/etc", "/home", "/var/lib", "/var/log", "/dev"] {
        mount(Some("nbt"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).expect("a mount");
    }
    nix::sys::stat::umask(Mode::empty());
    for (name, minor) in [("null", 3), ("urandom", 9)] {
        mknod(
            &Path::new("/dev").join(name),
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(1, minor),
        )
        .expect("a device");
    }
    nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    let (mut passwd, mut group) = (String::new(), "lattice:x:4200:alice\nheads:x:4300:\n".to_owned());
    for (name, uid, gid) in ACCOUNTS {
        passwd.push_str(&format!("{name}:x:{uid}:{gid}::/home/{name}:/bin/sh\n"));
        group.push_str(&format!("{name}:x:{gid}:\n"));
        directory(&format!("/home/{name}"), Caller { uid, gid }, 0o700);
    }
    passwd.push_str("toor:x:0:0::/root:/bin/sh\nalias:x:4102:4102::/home/bob:/bin/sh\n");
    passwd.push_str("wheely:x:4103:4103::/home/bob:/bin/sh\nzero:x:4104:0::/home/bob:/bin/sh\n");
    group = group.replace("root:x:0:", "root:x:0:wheely");
    write("/etc/passwd", passwd, ROOT, 0o644);
    write("/etc/group", group, ROOT, 0o644);
    write("/etc/nsswitch.conf", "passwd: files\ngroup: files\n", ROOT, 0o644);
}

/// Writes a file; directories on the way are made as root's, mode 0755.
pub(crate) fn write(path: &str, content: impl AsRef<[u8]>, owner: Caller, mode: u32) {
    directory(Path::new(path).parent().and_then(Path::to_str).expect("a parent"), ROOT, 0);
    fs::write(path, content).expect("a file");
    own(path, owner, mode);
}

/// Makes a directory where it is missing, likewise. Mode 0 leaves one that is there as it is.
pub(crate) fn directory(path: &str, owner: Caller, mode: u32) {
    let mut walked = std::path::PathBuf::new();
    for part in Path::new(path).components() {
        walked.push(part);
        if !walked.exists() {
            fs::create_dir(&walked).expect("a directory");
            fs::set_permissions(&walked, Permissions::from_mode(0o755)).expect("a mode");
        }
    }
    if mode != 0 {
        own(path, owner, mode);
    }
}

fn own(path: &str, owner: Caller, mode: u32) {
    chown(path, Some(owner.uid), Some(owner.gid)).expect("an owner");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Does something in a child that has become this account for good.
pub(crate) fn as_account(account: Caller, body: impl FnOnce()) {
    let run = || {
        setgroups(&[]).expect("groups");
        let (gid, uid) = (Gid::from_raw(account.gid), Uid::from_raw(account.uid));
        setresgid(gid, gid, gid).expect("gids");
        setresuid(uid, uid, uid).expect("uids");
        let ran = catch_unwind(AssertUnwindSafe(body));
        // The child ends without running exit handlers.
        std::io::stderr().flush().expect("a message");
        i32::from(ran.is_err())
    };
    let ended = fork_into(run).expect("a child").wait().expect("an end");
    assert_eq!(ended, Ended::Exited(0), "as uid {}", account.uid);
}
