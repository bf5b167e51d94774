//! Cgroups that `nunbird-auth` created for jobs without a record: after a call that was killed
//! between the cgroup and its record, or a record that was removed without its cgroup. Their
//! processes are no longer accounted to any job.
//!
//! Cgroups are searched where the runner has those of its jobs: below the cgroups of its own
//! processes, beside those of other jobs, and in systemd's `nunbird.slice`. A cgroup is removed if
//! neither a record nor an admission in progress names it. This needs no lock: `config` claims a
//! slot before it creates the cgroup, and keeps the claim locked until the record is written, so a
//! sweep that sees the cgroup first and then looks for both finds one of them. A cgroup's name
//! contains the random number of one decision, so it is never created again.
//!
//! The runner's account is trusted only with its own cgroups: its records count only for cgroups of
//! its own uid, and what it controls, its home directory and the roots of its processes, is
//! inspected in a child with a timeout.

use super::{Action, Item, records, tree};
use crate::patient;
use crate::runner_processes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use nunbird_accounts::users::UserEntry;
use nunbird_cgroup::{self as cgroup, Kept, Parent, Place, Stray, Way};
use nunbird_files::directory::Directory;
use nunbird_messages::{Claim, Group, Record};
use nunbird_wire::Message;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time limit of one inspection of what the runner controls.
const LOOK: Duration = Duration::from_secs(2);
/// Time limit of the inspections of all of its processes together.
const LOOKS: Duration = Duration::from_secs(10);
/// Time limit for the kernel to end and remove the processes of all cgroups together.
const PATIENCE: Duration = Duration::from_secs(30);

/// Removes the cgroups without a record.
pub(super) fn sweep(runner: Option<&UserEntry>, dry_run: bool) -> Vec<Item> {
    match unrecorded(runner) {
        Ok(Unrecorded { groups, unseen, broken }) => {
            let deadline = Instant::now() + PATIENCE;
            let judge = |group: &Stray| match unseen.iter().find(|unseen| covers(unseen.owner, group)) {
                None => end(group, dry_run, deadline),
                Some(Unreadable { path, .. }) => {
                    let why = format!("it may be of {}, which cannot be read", path.display());
                    Some(item(group.path().to_path_buf(), Action::Kept, why))
                }
            };
            let failed = |path| item(path, Action::Failed, "its control group cannot be read".to_owned());
            groups.values().filter_map(judge).chain(broken.into_iter().map(failed)).collect()
        }
        Err((path, why)) => {
            let why = format!("cgroups of jobs were not inspected: {why}");
            vec![item(path, Action::Failed, why)]
        }
    }
}

/// Cgroups that no record names.
struct Unrecorded {
    groups: BTreeMap<(bool, String), Stray>,
    unseen: Vec<Unreadable>,
    /// Records of this account's store whose control group cannot be read.
    broken: Vec<PathBuf>,
}

/// A record, or a whole directory, that could not be read.
struct Unreadable {
    path: PathBuf,
    /// The owner of the records.
    owner: u32,
}

/// Root's records concern cgroups of all owners. Those of any other account concern jobs without
/// privilege, whose cgroups it owns.
fn covers(owner: u32, group: &Stray) -> bool {
    owner == 0 || owner == group.owner()
}

fn item(path: PathBuf, action: Action, reason: String) -> Item {
    Item { kind: "control-group", path, action, reason, said: Vec::new() }
}

/// `None` if the cgroup is gone: the cleanup of its job removed both between the scans of cgroups
/// and of records.
fn end(group: &Stray, dry_run: bool, deadline: Instant) -> Option<Item> {
    let path = group.path().to_path_buf();
    if dry_run {
        let is_there = path.symlink_metadata().is_ok();
        return is_there.then(|| item(path, Action::WouldRemove, "no record has it".to_owned()));
    }
    let (action, reason) = match group.end(deadline) {
        Ok(None) => return None,
        Ok(Some(ended)) => (Action::Removed, format!("no record has it; {ended} processes of it were ended")),
        Err(trouble) => (Action::Failed, format!("no record has it: {trouble}")),
    };
    Some(item(path, action, reason))
}

/// What could not be read, and why.
type Unread = (PathBuf, String);

fn unrecorded(runner: Option<&UserEntry>) -> Result<Unrecorded, Unread> {
    let root = geteuid().is_root();
    let stores = stores(runner);
    // What the runner's account writes must not lead root to other paths.
    let own = stores.iter().filter(|(_, (uid, _))| *uid == geteuid().as_raw());
    let own = own.filter_map(|(path, owner)| Recorded::read(path, *owner).ok().flatten());
    let own: Vec<Kept> = own.flat_map(|named| named.whole().collect::<Vec<_>>()).collect();
    let owners: Vec<u32> = match root {
        true => std::iter::once(0).chain(runner.map(|runner| runner.uid)).collect(),
        false => vec![geteuid().as_raw()],
    };
    let parents = parents(runner, &own);
    let first = parents.first().map(|parent| parent.path.clone()).unwrap_or_default();
    // Before records and admissions.
    let mut groups = cgroup::below(&parents, &owners).map_err(|trouble| (first, trouble.to_string()))?;
    let (mut unseen, mut broken) = (Vec::new(), Vec::new());
    for (path, owner) in stores {
        let foreign = root && owner.0 != 0;
        let named =
            if foreign { Recorded::read_in_child(&path, owner) } else { Recorded::read(&path, owner) };
        let named = match named {
            Ok(None) => continue,
            Ok(Some(named)) => named,
            // The runner's account only sees the cgroups of its own jobs, and root does not need
            // what the runner controls.
            Err(e) if foreign || (!root && e.kind() == ErrorKind::PermissionDenied) => {
                unseen.push(Unreadable { path, owner: owner.0 });
                continue;
            }
            Err(e) => return Err((path, e.to_string())),
        };
        unseen.extend(named.unread.iter().map(|name| Unreadable { path: path.join(name), owner: owner.0 }));
        broken.extend(named.broken.iter().filter(|_| !foreign).map(|name| path.join(name)));
        for key in named.groups() {
            if groups.get(&key).is_some_and(|group| covers(owner.0, group)) {
                groups.remove(&key);
            }
        }
    }
    Ok(Unrecorded { groups, unseen, broken })
}

/// The directories of records of jobs with cgroups, and their owners, by uid and gid: root's, and
/// with `downscope = "sudo"` or `"none"` the runner's.
fn stores(runner: Option<&UserEntry>) -> Vec<(PathBuf, (u32, u32))> {
    let of_runner = runner.map(|runner| (runner.home.join(records::UNPRIVILEGED), (runner.uid, runner.gid)));
    let of_runner = of_runner.filter(|(_, (uid, _))| *uid != 0);
    of_runner.into_iter().chain([(PathBuf::from(records::PRIVILEGED), (0, 0))]).collect()
}

/// What one directory of records says of groups.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Recorded {
    /// The groups of records, as they keep them.
    kept: Vec<Vec<u8>>,
    /// Names that groups of admissions on their way to a record will have, and those of records whose group cannot be read.
    to_be_made: Vec<String>,
    /// Such records.
    broken: Vec<String>,
    /// A file that cannot be read, which may be of any group: another version's, for example.
    unread: Option<String>,
}

impl Recorded {
    /// `None` if there is no such directory. One that this account may not read is an error: its
    /// jobs may run.
    fn read(path: &Path, owner: (u32, u32)) -> io::Result<Option<Self>> {
        tree::as_account(owner, || Self::read_here(path))
    }

    fn read_here(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = match open(path, flags, Mode::empty()) {
            Ok(fd) => Directory::new(fd),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut named = Recorded::default();
        // Admissions first: one that ends meanwhile has written its record by then.
        for name in directory.names()?.into_iter().filter(|name| name.ends_with(Claim::SUFFIX)) {
            let on_its_way = match directory.try_lock(&name) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                locked => locked?.is_none(),
            };
            let read = directory.read(&name, Claim::MOST).ok();
            match read.and_then(|(bytes, ..)| Claim::parse(&bytes).ok()) {
                Some(claim) if on_its_way => {
                    named.to_be_made.extend(cgroup::names_by_decision(claim.job_id, &claim.decision_id));
                }
                None if on_its_way => named.unread = Some(name),
                _ => {}
            }
        }
        // Twice, for a record that is renamed meanwhile: its new name may come before the present
        // position in the list.
        let mut known = BTreeSet::new();
        for _ in 0..2 {
            let of_record = |name: &String| records::SUFFIXES.iter().any(|end| name.ends_with(end));
            for name in directory.names()?.into_iter().filter(of_record) {
                if known.insert(name.clone()) {
                    named.add(&directory, name);
                }
            }
        }
        Ok(Some(named))
    }

    fn add(&mut self, directory: &Directory, name: String) {
        let bytes = match directory.read(&name, records::MAX_RECORD) {
            // It has been cleaned up after.
            Err(e) if e.kind() == ErrorKind::NotFound => return,
            read => read.ok(),
        };
        let record = bytes.and_then(|(bytes, ..)| Record::parse(&bytes).ok());
        let Some(Record { job_id, decision_id, group, .. }) = record else { return self.unread = Some(name) };
        match group {
            Some(group) if Kept::read_whole(&group).is_ok() => self.kept.push(group.to_bytes()),
            // They come from nunbird-limits, which may have run as the runner: they must not keep the groups of others.
            Some(_) => {
                self.to_be_made.extend(cgroup::names_by_decision(job_id, &decision_id));
                self.broken.push(name);
            }
            None => {}
        }
    }

    /// The same for a directory of another account, whose file system need not respond.
    fn read_in_child(path: &Path, owner: (u32, u32)) -> io::Result<Option<Self>> {
        let read =
            || serde_json::to_vec(&Self::read(path, owner).map_err(|e| e.to_string())).unwrap_or_default();
        let said = patient::once(LOOK, read)?.ok_or(ErrorKind::TimedOut)?;
        let named: Result<_, String> = serde_json::from_slice(&said).map_err(io::Error::other)?;
        named.map_err(io::Error::other)
    }

    /// By version and name, as in [`cgroup::below`].
    fn groups(&self) -> Vec<(bool, String)> {
        let made = self.whole().filter_map(|group| Some((group.way == Way::Unified, group.name()?)));
        let to_be_made =
            self.to_be_made.iter().flat_map(|name| [(false, name.clone()), (true, name.clone())]);
        made.chain(to_be_made).collect()
    }

    fn whole(&self) -> impl Iterator<Item = Kept> {
        self.kept.iter().filter_map(|bytes| Kept::read_whole(&Group::from_bytes(bytes).ok()?).ok())
    }
}

/// Below what the runner has groups of jobs. A process in a container may have the runner's number and a Nunbird of its own, whose
/// records are elsewhere: it must see the very directory of records that this one sees.
fn parents(runner: Option<&UserEntry>, groups: &[Kept]) -> Vec<Parent> {
    let mut parents: Vec<Parent> = Vec::new();
    let mut add = |parent: Parent| {
        if !parents.contains(&parent) {
            parents.push(parent);
        }
    };
    for Kept { way, directories, .. } in groups {
        for (controller, path) in directories {
            if let Some(parent) = path.parent() {
                add(Parent { way: *way, controller: controller.clone(), path: parent.to_path_buf() });
            }
        }
    }
    // systemd's own path: this process may be in a container, or moved into one.
    if let Ok(place) = Place::of_process(1) {
        Parent::of_slices(&place).into_iter().for_each(&mut add);
    }
    let Some(runner) = runner else { return parents };
    let there = |path: &PathBuf| patient::once(LOOK, || vec![u8::from(path.is_dir())]);
    let stores: Vec<PathBuf> = stores(Some(runner))
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| matches!(there(path), Ok(Some(answer)) if answer == [1]))
        .collect();
    let sees = |pid: u32, path: &Path| {
        let theirs = PathBuf::from(format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap_or(path));
        let id = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        id(path).is_some_and(|own| id(&theirs) == Some(own))
    };
    let pids = runner_processes::of(runner.uid);
    // A process chooses what is below its root, including a file system that never responds.
    let see = |pid: &u32| vec![u8::from(!stores.is_empty() && stores.iter().all(|store| sees(*pid, store)))];
    let seen = patient::each(&pids, LOOK, LOOKS, see).unwrap_or_default();
    for (pid, seen) in pids.into_iter().zip(seen) {
        if seen.as_deref() == Some(&[1])
            && let Ok(place) = Place::of_process(pid)
        {
            Parent::all_of(&place).into_iter().for_each(&mut add);
        }
    }
    parents
}
