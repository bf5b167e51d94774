//! Where trees are: `/var/lib/nunbird/machines/NAME/VERSION/tree`, and `NAME/current`, a link to a VERSION.
//!
//! Root alone writes there. A job holds a shared lock on `VERSION/lock`; a version is removed only under an exclusive one, which is never waited
//! for, and is renamed first, so that no job finds a part of it. Everything that is not whole has a name that begins with
//! `.partial-`: what has this name while nobody holds `NAME/.lock` belongs to a process that is gone.

use super::definition::is_name;
use crate::output::CtlError;
use jiff::Timestamp;
use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nunbird_files::trusted::{Distrust, open_trusted_directory};
use serde_json::Value;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is not whole begins with this.
pub(super) const PARTIAL: &str = ".partial-";
const CURRENT: &str = "current";
/// Files of a version, beside `tree`.
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const LIST: &str = "list";
const LOCK: &str = "lock";
/// The longest note of a machine, in bytes.
const MAX_NOTE: u64 = 64 << 10;
/// The longest manifest, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

pub(super) struct Store {
    pub(super) path: PathBuf,
    pub(super) definitions: PathBuf,
    notes: PathBuf,
}

/// One machine of the store.
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Where nunbird-machine has a note for each machine that runs.
    notes: PathBuf,
}

/// Held as long as a machine is changed.
pub(super) struct Held(pub(super) File);

/// Of what could be removed.
pub(super) enum Removed {
    Gone,
    InUse,
}

fn at(path: &Path) -> impl Fn(io::Error) -> CtlError {
    move |e| CtlError::new(format!("{}: {e}", path.display()))
}

/// A version's name: when it was made, and a number if there was one of the same second.
pub(super) fn order_of(version: &str) -> Option<(&str, u64)> {
    let (stamp, number) = match version.match_indices('-').nth(1) {
        Some((at, _)) => (version.get(..at)?, version.get(at + 1..)?.parse().ok().filter(|n| *n > 1)?),
        None => (version, 1),
    };
    let (date, time) = stamp.split_once('-')?;
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    (digits(date, 8) && digits(time, 6)).then_some((stamp, number))
}

fn names(path: &Path) -> Result<Vec<String>, CtlError> {
    let entries = fs::read_dir(path).map_err(at(path))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at(path))?;
        // Nothing of ours has another name.
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

impl Store {
    /// Opens the store; none if this host has none yet.
    pub(super) fn open(root: &Path) -> Result<Option<Self>, CtlError> {
        let root = std::path::absolute(root).map_err(at(root))?;
        let store = Store {
            path: root.join("var/lib/nunbird/machines"),
            definitions: root.join("etc/nunbird/machines"),
            notes: root.join("run/nunbird/machines"),
        };
        match open_trusted_directory(&store.path, &[0]) {
            Ok(_) => Ok(Some(store)),
            Err(Distrust::Open(path, e)) if e.kind() == ErrorKind::NotFound && path == store.path => Ok(None),
            Err(e) => Err(CtlError::new(e)),
        }
    }

    /// Opens the store, and makes it where there is none.
    pub(super) fn make(root: &Path) -> Result<Self, CtlError> {
        if let Some(store) = Store::open(root)? {
            return Ok(store);
        }
        let path = root.join("var/lib/nunbird/machines");
        // Jobs' users read which machines there are, and manifests.
        DirBuilder::new().mode(0o755).create(&path).map_err(at(&path))?;
        Store::open(root)?.ok_or_else(|| CtlError::new(format!("{}: it is gone", path.display())))
    }

    pub(super) fn machines(&self) -> Result<Vec<Machine>, CtlError> {
        let names = names(&self.path)?.into_iter().filter(|name| is_name(name));
        Ok(names.map(|name| self.machine(&name)).filter(|machine| machine.path.is_dir()).collect())
    }

    pub(super) fn machine(&self, name: &str) -> Machine {
        Machine { name: name.to_owned(), path: self.path.join(name), notes: self.notes.clone() }
    }

    pub(super) fn definition(&self, name: &str) -> PathBuf {
        self.definitions.join(format!("{name}.toml"))
    }

    /// The names that have definitions. What is no name of a machine is among them, so that its file is not passed over.
    pub(super) fn defined(&self) -> Result<Vec<String>, CtlError> {
        if !self.definitions.exists() {
            return Ok(Vec::new());
        }
        let names = names(&self.definitions)?;
        let names = names.iter().filter_map(|name| name.strip_suffix(".toml"));
        Ok(names.filter(|name| !name.starts_with('.')).map(str::to_owned).collect())
    }

    /// A machine that is there; the error lists those that are.
    pub(super) fn existing(&self, name: &str) -> Result<Machine, CtlError> {
        super::definition::check_name(name)?;
        let machine = self.machine(name);
        if machine.path.is_dir() {
            return Ok(machine);
        }
        let all: Vec<String> = self.machines()?.into_iter().map(|machine| machine.name).collect();
        let there = if all.is_empty() {
            "there are none".to_owned()
        } else {
            format!("there are {}", all.join(", "))
        };
        Err(CtlError::new(format!(
            "no machine `{name}` in {}; {there}; nunbirdctl machines build {name}",
            self.path.display()
        )))
    }
}

impl Machine {
    /// Makes the directory where there is none.
    pub(super) fn make(&self) -> Result<(), CtlError> {
        match DirBuilder::new().mode(0o755).create(&self.path) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(at(&self.path)(e)),
            _ => open_trusted_directory(&self.path, &[0]).map(|_| ()).map_err(CtlError::new),
        }
    }

    /// Takes the machine's lock, without waiting.
    ///
    /// # Errors
    /// If another build, gc or removal holds it.
    pub(super) fn hold(&self) -> Result<Held, CtlError> {
        self.try_hold()?.ok_or_else(|| {
            CtlError::new(format!(
                "{}: another build, update, gc or removal of `{}` runs; call this again after it",
                self.path.display(),
                self.name
            ))
        })
    }

    /// The same; none if another process has it.
    pub(super) fn try_hold(&self) -> Result<Option<Held>, CtlError> {
        open_trusted_directory(&self.path, &[0]).map_err(CtlError::new)?;
        let path = self.path.join(".lock");
        let file = open_lock(&path, true).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Held(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(at(&path)(e)),
        }
    }

    /// All versions, the oldest first.
    pub(super) fn versions(&self) -> Result<Vec<String>, CtlError> {
        let mut versions: Vec<String> =
            names(&self.path)?.into_iter().filter(|name| order_of(name).is_some()).collect();
        versions.sort_by(|a, b| order_of(a).cmp(&order_of(b)));
        Ok(versions)
    }

    /// The version that the next job gets.
    pub(super) fn current(&self) -> Option<String> {
        let version = fs::read_link(self.path.join(CURRENT)).ok()?.into_os_string().into_string().ok()?;
        (order_of(&version).is_some() && self.path.join(&version).is_dir()).then_some(version)
    }

    /// A name for a version that is made now.
    pub(super) fn new_version(&self, now: Timestamp) -> String {
        let stamp = now.strftime("%Y%m%d-%H%M%S").to_string();
        // Above the last of them, also where those before it were removed: the newest has the highest number.
        let same = self.versions().unwrap_or_default();
        let same = same.iter().filter_map(|version| order_of(version)).filter(|(other, _)| *other == stamp);
        match same.map(|(_, number)| number).max() {
            None => stamp,
            Some(last) => format!("{stamp}-{}", last + 1),
        }
    }

    /// Makes a version of a directory that is whole, and makes it the current one.
    pub(super) fn publish(&self, partial: &Path, version: &str) -> Result<(), CtlError> {
        let lock = partial.join(LOCK);
        // Root's alone: who can open it, for reading alone, could hold its lock, and no job would begin.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock).map_err(at(&lock))?;
        fs::set_permissions(partial, fs::Permissions::from_mode(0o755)).map_err(at(partial))?;
        sync(partial)?;
        let whole = self.path.join(version);
        fs::rename(partial, &whole).map_err(at(&whole))?;
        self.switch(version)
    }

    /// Makes a version the current one: a reader sees the old link or the new one.
    fn switch(&self, version: &str) -> Result<(), CtlError> {
        let beside = self.path.join(format!("{PARTIAL}{CURRENT}"));
        let current = self.path.join(CURRENT);
        symlink(version, &beside).map_err(at(&beside))?;
        fs::rename(&beside, &current).map_err(at(&current))?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(at(&self.path))
    }

    pub(super) fn manifest(&self, version: &str) -> Result<Value, CtlError> {
        let path = self.path.join(version).join(MANIFEST);
        let bytes = nunbird_files::trusted::open_trusted(&path, &[0]).map_err(CtlError::new)?;
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(bytes, MAX_MANIFEST), &mut text).map_err(at(&path))?;
        serde_json::from_str(&text).map_err(|e| {
            let version = path.parent().unwrap_or(&path).display();
            CtlError::new(format!("{}: {e}; build the machine again, and remove {version}", path.display()))
        })
    }

    /// Takes the lock of a version that a job shares; none while a job has it.
    fn lock_version(&self, version: &str) -> Result<Option<File>, CtlError> {
        let path = self.path.join(version).join(LOCK);
        let file = match open_lock(&path, false) {
            Ok(file) => file,
            // Nobody can hold what is not there.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return open_lock(&path, true).map(Some).map_err(at(&path));
            }
            Err(e) => return Err(at(&path)(e)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(at(&path)(e)),
        }
    }

    /// Whether a job or a shell has it.
    pub(super) fn is_in_use(&self, version: &str) -> Result<bool, CtlError> {
        Ok(self.is_noted(version)? || self.lock_version(version)?.is_none())
    }

    /// Whether a note names the version: its machine may outlive the process that holds the lock. A note that says nothing of its tree
    /// may be of any.
    fn is_noted(&self, version: &str) -> Result<bool, CtlError> {
        let notes = match open_trusted_directory(&self.notes, &[0]) {
            Ok(_) => names(&self.notes)?,
            Err(Distrust::Open(_, e)) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(CtlError::new(e)),
        };
        let tree = format!("{}/{version}", self.name);
        let says = |name: &String| match tree_of_note(&self.notes.join(name)) {
            Ok(Some(noted)) => noted == tree,
            // It was forgotten just now, with its machine.
            Err(Distrust::Open(_, e)) if e.kind() == ErrorKind::NotFound => false,
            Ok(None) | Err(_) => true,
        };
        Ok(notes.iter().any(says))
    }

    /// The lock that a job has, for as long as the file is open.
    pub(super) fn share(&self, version: &str) -> Result<File, CtlError> {
        let path = self.path.join(version).join(LOCK);
        let file = open_lock(&path, false).map_err(at(&path))?;
        file.try_lock_shared()
            .map_err(|_| CtlError::new(format!("{}: it is being removed", path.display())))?;
        // It may have been renamed for its removal before it was locked.
        let same = |a: fs::Metadata, b: fs::Metadata| {
            use std::os::unix::fs::MetadataExt;
            (a.dev(), a.ino()) == (b.dev(), b.ino())
        };
        let still = path.symlink_metadata().map_err(at(&path))?;
        match same(still, file.metadata().map_err(at(&path))?) {
            true => Ok(file),
            false => Err(CtlError::new(format!("{}: it was removed just now", path.display()))),
        }
    }

    /// Removes a version unless a job has it. Its name goes first. The caller holds the machine's lock.
    pub(super) fn remove(&self, version: &str, _held: &Held) -> Result<Removed, CtlError> {
        let whole = self.path.join(version);
        let Some(_lock) = self.lock_version(version)? else { return Ok(Removed::InUse) };
        // After the lock: a machine has it while its note is written.
        if self.is_noted(version)? {
            return Ok(Removed::InUse);
        }
        nothing_is_mounted(&whole)?;
        let gone = self.path.join(format!("{PARTIAL}gone-{version}"));
        fs::rename(&whole, &gone).map_err(at(&whole))?;
        remove_tree(&gone)?;
        Ok(Removed::Gone)
    }

    /// Removes what processes left that are gone. The caller holds the machine's lock.
    pub(super) fn clear(&self, _held: &Held) -> Result<Vec<PathBuf>, CtlError> {
        let left: Vec<PathBuf> = names(&self.path)?
            .iter()
            .filter(|name| name.starts_with(PARTIAL))
            .map(|name| self.path.join(name))
            .collect();
        for path in &left {
            remove_tree(path)?;
        }
        Ok(left)
    }

    /// Removes the link to the current version, so that no job begins with it.
    pub(super) fn unlink_current(&self) -> Result<(), CtlError> {
        let path = self.path.join(CURRENT);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(at(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Removes the directory of a machine without versions.
    pub(super) fn remove_all(&self, _held: &Held) -> Result<(), CtlError> {
        let lock = self.path.join(".lock");
        fs::remove_file(&lock).map_err(at(&lock))?;
        fs::remove_dir(&self.path).map_err(at(&self.path))
    }
}

fn open_lock(path: &Path, create: bool) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(path)?;
    // Those of earlier releases were everybody's to open, and so to lock.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The tree that a note names, if it names one.
fn tree_of_note(path: &Path) -> Result<Option<String>, Distrust> {
    let mut text = String::new();
    let read = io::Read::read_to_string(
        &mut io::Read::take(nunbird_files::trusted::open_trusted(path, &[0])?, MAX_NOTE),
        &mut text,
    );
    let trees: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("tree ")).collect();
    match (read, trees.as_slice()) {
        (Ok(_), [tree]) if text.ends_with('\n') => Ok(Some((*tree).to_owned())),
        _ => Ok(None),
    }
}

fn sync(directory: &Path) -> Result<(), CtlError> {
    let opened = Dir::open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    let opened = opened.map_err(|e| at(directory)(e.into()))?;
    nix::unistd::syncfs(opened).map_err(|e| at(directory)(e.into()))
}

/// A mount below a tree would be emptied with it.
fn nothing_is_mounted(path: &Path) -> Result<(), CtlError> {
    let file = Path::new("/proc/self/mountinfo");
    let table = fs::read(file).map_err(at(file))?;
    let table = String::from_utf8_lossy(&table);
    // proc_pid_mountinfo(5): blanks and backslashes in paths are octal numbers; our own paths have neither.
    let below = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .find(|mount| Path::new(mount).starts_with(path));
    match below {
        None => Ok(()),
        Some(mount) => Err(CtlError::new(format!(
            "{}: {mount} is mounted there, so nothing is removed; umount {mount}",
            path.display()
        ))),
    }
}

/// Removes a tree by rm(1), which opens directories one by one, follows no link and stays on one file system, however deep the tree is.
/// Only root can change the path that leads to it.
pub(super) fn remove_tree(path: &Path) -> Result<(), CtlError> {
    nothing_is_mounted(path)?;
    let mut rm = Command::new("rm");
    rm.args(["-rf", "--one-file-system", "--"]).arg(path).env_clear().env("PATH", super::steps::PATH);
    let output = rm.stdin(Stdio::null()).output().map_err(|e| CtlError::new(format!("rm: {e}")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(CtlError::new(format!(
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::order_of;

    #[test]
    fn versions_are_in_the_order_in_which_they_were_made() {
        let mut versions = [
            "20261130-101010-10",
            "20261130-101010-2",
            "20261201-000000",
            "20261130-101010",
            "20261130-101011",
        ];
        versions.sort_by(|a, b| order_of(a).cmp(&order_of(b)));
        let expected = [
            "20261130-101010",
            "20261130-101010-2",
            "20261130-101010-10",
            "20261130-101011",
            "20261201-000000",
        ];
        assert_eq!(versions, expected);
        for bad in [
            "current",
            ".partial-20261130-101010",
            "20261130",
            "20261130-101010-1",
            "20261130-101010-x",
            "2026113-0101010",
        ] {
            assert!(order_of(bad).is_none(), "{bad}");
        }
    }
}
