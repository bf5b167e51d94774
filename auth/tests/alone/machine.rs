//! A private user database and the ways to hold privilege.

use crate::privilege::{Privilege, Source};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// How the test's process holds its privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As under a root runner.
    Root,
    /// As a setuid-root program that uid 4001 started.
    Setuid,
    /// As a program with file capabilities that uid 4001 started.
    FileCaps,
    /// Alice's own.
    None,
}

impl Mode {
    pub(crate) const ALL: [Mode; 4] = [Mode::Root, Mode::Setuid, Mode::FileCaps, Mode::None];
}

/// The accounts: name, uid and gid. `/home/<name>` belongs to each, mode 0700.
const ACCOUNTS: [(&str, u32); 5] =
    [("root", 0), ("nunbird", 990), ("nbt_runner", 4001), ("alice", 4101), ("bob", 4102)];

/// The machine as this process sees it.
pub(crate) struct Machine {
    pub(crate) mode: Mode,
    pub(crate) privilege: Privilege,
    directory: PathBuf,
}

/// A directory whose whole path is root's.
pub(crate) fn directory() -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::SeqCst);
    let path = Path::new("/var/tmp").join(format!("nbt_alone_{}_{number}", std::process::id()));
    fs::create_dir(&path).expect("a directory");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("a mode");
    path
}

impl Machine {
    /// Enters a mount namespace with the accounts; privilege is given up by [`Machine::privileged`].
    pub(crate) fn enter(directory: &Path, mode: Mode) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
        let (mut passwd, mut group) = (String::new(), "lattice:x:4200:alice\n".to_owned());
        for (name, id) in ACCOUNTS {
            let home = directory.join("home").join(name);
            passwd.push_str(&format!("{name}:x:{id}:{id}::{}:/bin/sh\n", home.display()));
            group.push_str(&format!("{name}:x:{id}:\n"));
            fs::create_dir_all(&home).expect("a home");
            fs::set_permissions(&home, Permissions::from_mode(0o700)).expect("a mode");
            chown(&home, Some(id), Some(id)).expect("an owner");
        }
        for (name, text) in [
            ("passwd", passwd),
            ("group", group),
            ("nsswitch.conf", "passwd: files\ngroup: files\n".to_owned()),
        ] {
            let file = directory.join(name);
            fs::write(&file, text).expect("a file");
            let target = Path::new("/etc").join(name);
            mount(Some(&file), &target, none, MsFlags::MS_BIND, none).expect("a mount");
        }
        let caller = nunbird_files::identity::Caller { uid: 0, gid: 0 };
        let privilege = Privilege { source: Source::Root, caller };
        Machine { mode, privilege, directory: directory.to_path_buf() }
    }

    /// The same machine for the process that holds privilege as its mode says.
    pub(crate) fn privileged(&self) -> Self {
        nunbird_sys::process::ignore_failed_writes();
        let (runner, alice) = (Uid::from_raw(4001), Uid::from_raw(4101));
        let groups = |id: u32| {
            setgroups(&[Gid::from_raw(id)]).expect("groups");
            setresgid(id.into(), id.into(), id.into()).expect("gids");
        };
        match self.mode {
            Mode::Root => {}
            Mode::Setuid => {
                groups(4001);
                setresuid(runner, Uid::from_raw(0), Uid::from_raw(0)).expect("uids");
            }
            Mode::FileCaps => {
                groups(4001);
                nix::sys::prctl::set_keepcaps(true).expect("capabilities stay");
                setresuid(runner, runner, runner).expect("uids");
                nix::sys::prctl::set_keepcaps(false).expect("securebits");
            }
            Mode::None => {
                groups(4101);
                setresuid(alice, alice, alice).expect("uids");
            }
        }
        nunbird_sys::process::forbid_inspection().expect("not dumpable");
        let (privilege, _limits) = Privilege::establish().expect("privilege");
        Machine { mode: self.mode, privilege, directory: self.directory.clone() }
    }

    /// The uid of a job's own program: nunbird's, or alice's where there is nobody else.
    pub(crate) fn helper(&self) -> (&'static str, u32) {
        if self.mode == Mode::None { ("alice", 4101) } else { ("nunbird", 990) }
    }

    /// A place of this machine.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file, root's unless `owner` is another.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>, owner: u32, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, text).expect("a file");
        chown(&path, Some(owner), Some(owner)).expect("an owner");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        path
    }

    /// A directory that everybody may write in.
    pub(crate) fn notes(&self) -> PathBuf {
        let path = self.path("notes");
        fs::create_dir(&path).expect("a directory");
        fs::set_permissions(&path, Permissions::from_mode(0o1777)).expect("a mode");
        path
    }
}

/// Starts these tests again from a directory whose whole path is root's, with `nunbird-validate` beside them: a program looks for others beside
/// its own, and trusts them only in such a place. The directory, for the process that was started again.
pub(crate) fn beside_the_programs() -> Option<PathBuf> {
    let own = std::env::current_exe().expect("the path of these tests");
    let parent = own.parent().expect("a directory");
    if parent.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nbt_alone_")) {
        return Some(parent.to_path_buf());
    }
    let built = match std::env::var_os("NUNBIRD_BIN_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => own.ancestors().nth(3).expect("a target directory").join("staging"),
    };
    let directory = Path::new("/var/tmp").join(format!("nbt_alone_bin_{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory");
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("a mode");
    let copy = |from: &Path, name: &str| {
        let to = directory.join(name);
        fs::copy(from, &to).unwrap_or_else(|e| panic!("{}: {e}; run `make programs`", from.display()));
        fs::set_permissions(&to, Permissions::from_mode(0o755)).expect("a mode");
        to
    };
    copy(&built.join("nunbird-validate"), "nunbird-validate");
    let copied = copy(&own, "alone");
    let error = Command::new(copied).args(std::env::args_os().skip(1)).exec();
    panic!("{error}");
}
