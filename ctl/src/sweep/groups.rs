//! Control groups that `nunbird-auth` made for jobs of which no record is left: a call that was killed between the group and
//! its record, or a record that went without its group. Their processes hold what nobody counts any more.
//!
//! A group is looked at where the runner has its jobs' groups: below those of its own processes, beside those of other
//! jobs, and in systemd's `nunbird.slice`. It is nobody's when no record names it, and that is judged under the lock of the records: `config` makes the group and
//! writes the record under that lock, and a group's name has the random number of one decision, so it is never made again.
//!
//! The runner's account is not trusted with more than its own: its records speak for groups of its own uid alone, its
//! lock is taken before root's and may fail, and whatever it puts in the way takes no more than one deadline for all.

use super::{Action, Item, records};
use crate::runner_processes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use nunbird_handover::Record;
use nunbird_sys::cgroup::{self, Parent, Place, Stray, Way};
use nunbird_sys::directory::{Directory, Lock};
use nunbird_sys::identity::FileIdentity;
use nunbird_sys::users::UserEntry;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an admission may hold the lock.
const LOCK: Duration = Duration::from_secs(5);
/// How long the kernel may take to end and to clear away the processes of all groups together.
const PATIENCE: Duration = Duration::from_secs(30);

/// Removes the groups that are nobody's.
pub(super) fn sweep(runner: Option<&UserEntry>, dry_run: bool) -> Vec<Item> {
    match nobodys(runner) {
        Ok(Found { groups, unseen }) => {
            let deadline = Instant::now() + PATIENCE;
            let judge = |group: &Stray| match unseen.iter().find(|unseen| unseen.may_have(group)) {
                None => end(group, dry_run, deadline),
                Some(Unseen { path, .. }) => {
                    let why = format!("it may be of {}, which cannot be read", path.display());
                    item(group.path().to_path_buf(), Action::Kept, why)
                }
            };
            groups.values().map(judge).collect()
        }
        Err((path, why)) => {
            let why = format!("control groups of jobs were not looked at: {why}");
            vec![item(path, Action::Failed, why)]
        }
    }
}

/// Groups that no record names.
struct Found {
    groups: BTreeMap<(bool, String), Stray>,
    unseen: Vec<Unseen>,
}

/// A record, or all of a directory, that could not be read.
struct Unseen {
    path: PathBuf,
    /// Whose records they are.
    owner: u32,
}

impl Unseen {
    fn may_have(&self, group: &Stray) -> bool {
        speaks_for(self.owner, group)
    }
}

/// Root's records are of groups of all owners. Any other account's are of jobs without privilege, whose groups are its own.
fn speaks_for(owner: u32, group: &Stray) -> bool {
    owner == 0 || owner == group.owner()
}

fn item(path: PathBuf, action: Action, reason: String) -> Item {
    Item { kind: "control-group", path, action, reason, said: Vec::new() }
}

fn end(group: &Stray, dry_run: bool, deadline: Instant) -> Item {
    let path = group.path().to_path_buf();
    if dry_run {
        return item(path, Action::WouldRemove, "no record has it".to_owned());
    }
    match group.end(deadline) {
        Ok(ended) => {
            item(path, Action::Removed, format!("no record has it; {ended} processes of it were ended"))
        }
        Err(trouble) => item(path, Action::Failed, format!("no record has it: {trouble}")),
    }
}

/// What could not be read, and why.
type Unread = (PathBuf, String);

fn nobodys(runner: Option<&UserEntry>) -> Result<Found, Unread> {
    let (mut locks, mut unseen, mut records, mut own) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (path, owner) in stores(runner) {
        let root = geteuid().is_root();
        let store = match Store::lock(&path, owner) {
            Ok(None) => continue,
            Ok(Some(store)) => store.records().map(|found| (store, found)),
            Err(e) => Err((path.clone(), e)),
        };
        let (store, (found, unread)) = match store {
            Ok(read) => read,
            // The runner's account has the groups of its own jobs alone, and root does without what is the runner's.
            Err((_, e)) if (root && owner.0 != 0) || (!root && e.kind() == ErrorKind::PermissionDenied) => {
                unseen.push(Unseen { path, owner: owner.0 });
                continue;
            }
            Err((path, e)) => return Err((path, e.to_string())),
        };
        unseen.extend(unread.map(|path| Unseen { path, owner: owner.0 }));
        // What the runner's account writes must not lead root elsewhere.
        if owner.0 == geteuid().as_raw() {
            own.extend(found.iter().cloned());
        }
        records.extend(found.into_iter().map(|record| (owner.0, record)));
        locks.push(store);
    }
    let owners: Vec<u32> = match geteuid().is_root() {
        true => std::iter::once(0).chain(runner.map(|runner| runner.uid)).collect(),
        false => vec![geteuid().as_raw()],
    };
    let parents = parents(runner, &own);
    let first = parents.first().map(|parent| parent.path.clone()).unwrap_or_default();
    let mut found = cgroup::below(&parents, &owners).map_err(|trouble| (first, trouble.to_string()))?;
    for (owner, record) in &records {
        let group = record.limits.as_ref().and_then(|limits| limits.group.as_ref());
        for (unified, path) in
            group.iter().flat_map(|group| group.directories.values().map(|path| (group.unified, path)))
        {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let key = (unified, name.unwrap_or_default());
            if found.get(&key).is_some_and(|group| speaks_for(*owner, group)) {
                found.remove(&key);
            }
        }
    }
    Ok(Found { groups: found, unseen })
}

/// Where records of jobs with groups can lie, and whose they are, by uid and gid: root's, and with `downscope = "sudo"` or `"none"`
/// the runner's. In the order in which they are locked and read: while root's are locked no job is admitted, and the runner's
/// account could make its own take for ever.
fn stores(runner: Option<&UserEntry>) -> Vec<(PathBuf, (u32, u32))> {
    let of_runner = runner.map(|runner| (runner.home.join(records::UNPRIVILEGED), (runner.uid, runner.gid)));
    let of_runner = of_runner.filter(|(_, (uid, _))| *uid != 0);
    of_runner.into_iter().chain([(PathBuf::from(records::PRIVILEGED), (0, 0))]).collect()
}

/// Records, and nobody else writes any as long as this lives.
struct Store {
    path: PathBuf,
    directory: Directory,
    owner: (u32, u32),
    _lock: Lock,
}

impl Store {
    /// None where there is no such store. One that this account may not read is an error: its jobs may run.
    fn lock(path: &Path, owner: (u32, u32)) -> std::io::Result<Option<Self>> {
        let _identity = act_as(owner)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = match open(path, flags, Mode::empty()) {
            Ok(fd) => Directory::new(fd),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let lock = directory.lock(LOCK)?;
        Ok(Some(Store { path: path.to_path_buf(), directory, owner, _lock: lock }))
    }

    /// Every record, and one that cannot be read, which may have any group: another version's, for example.
    fn records(&self) -> Result<(Vec<Record>, Option<PathBuf>), (PathBuf, std::io::Error)> {
        let failed = |e| (self.path.clone(), e);
        let _identity = act_as(self.owner).map_err(failed)?;
        let (mut records, mut unread) = (Vec::new(), None);
        for name in self.directory.names().map_err(failed)? {
            if !name.ends_with(".json") {
                continue;
            }
            let read = self.directory.read(&name, records::MAX_RECORD).ok();
            match read.and_then(|(bytes, ..)| Record::from_bytes(&bytes).ok()) {
                Some(record) => records.push(record),
                None => unread = Some(self.path.join(name)),
            }
        }
        Ok((records, unread))
    }
}

fn act_as((uid, gid): (u32, u32)) -> std::io::Result<Option<FileIdentity>> {
    geteuid().is_root().then(|| FileIdentity::assume(uid, gid)).transpose()
}

/// Below what the runner has groups of jobs. A process in a container may have the runner's number and a Nunbird of its own, whose
/// records are elsewhere: it must see the very directory of records that this one sees.
fn parents(runner: Option<&UserEntry>, records: &[Record]) -> Vec<Parent> {
    let mut parents: Vec<Parent> = Vec::new();
    let mut add = |parent: Parent| {
        if !parents.contains(&parent) {
            parents.push(parent);
        }
    };
    for record in records {
        let Some(group) = record.limits.as_ref().and_then(|limits| limits.group.as_ref()) else { continue };
        let way = if group.unified { Way::Unified } else { Way::Separate };
        for (controller, path) in &group.directories {
            if let Some(parent) = path.parent() {
                add(Parent { way, controller: controller.clone(), path: parent.to_path_buf() });
            }
        }
    }
    // systemd's own place: this process may be in a container, or moved into one.
    if let Ok(place) = Place::of_process(1) {
        Parent::of_slices(&place).into_iter().for_each(&mut add);
    }
    let Some(runner) = runner else { return parents };
    let stores: Vec<PathBuf> =
        stores(Some(runner)).into_iter().map(|(path, _)| path).filter(|path| path.is_dir()).collect();
    let sees = |pid: u32, path: &Path| {
        let theirs = Path::new("/proc")
            .join(pid.to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap_or(path));
        let id = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        id(path).is_some_and(|own| id(&theirs) == Some(own))
    };
    for pid in runner_processes::of(runner.uid) {
        if !stores.is_empty()
            && stores.iter().all(|store| sees(pid, store))
            && let Ok(place) = Place::of_process(pid)
        {
            Parent::all_of(&place).into_iter().for_each(&mut add);
        }
    }
    parents
}
