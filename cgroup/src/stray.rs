//! Groups of jobs that no record names any more: found by their names, emptied and removed.
//!
//! `nunbirdctl sweep` calls this, as root or as the account that runs gitlab-runner. It decides which groups no record names: this
//! lists what Nunbird made below the groups that it is given, and ends what is in one of them.

use super::folder::went;
use super::slice::{NUNBIRD_SLICE, unified_of_systemd};
use super::{Folder, Hierarchy, JobGroup, Place, Trouble, Way, parent_of};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_sys::effective::EffectiveUser;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks at a group that should become empty.
const GLANCE: Duration = Duration::from_millis(2);
/// What systemd gets for an answer when the time is up.
const LEAST_FOR_SYSTEMD: Duration = Duration::from_secs(2);

/// A group below which Nunbird makes those of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Of which version.
    pub way: Way,
    /// The controller whose hierarchy it is in; empty for the unified one.
    pub controller: String,
    /// Its directory.
    pub path: PathBuf,
}

impl Parent {
    /// Where a runner whose processes are at this place has the groups of its jobs.
    pub fn all_of(place: &Place) -> Vec<Self> {
        let unified = place.unified.as_ref().map(|hierarchy| Parent {
            way: Way::Unified,
            controller: String::new(),
            path: parent_of(hierarchy),
        });
        let separate = place.separate.iter().map(|(controller, hierarchy)| Parent {
            way: Way::Separate,
            controller: controller.clone(),
            path: hierarchy.group.clone(),
        });
        unified.into_iter().chain(separate).collect()
    }

    /// Where systemd has the slices of jobs, by how its hierarchies are mounted here.
    pub fn of_slices(place: &Place) -> Vec<Self> {
        let below = |way, controller: &str, hierarchy: &Hierarchy| {
            let path = hierarchy.mount.join(NUNBIRD_SLICE);
            Parent { way, controller: controller.to_owned(), path }
        };
        // Where it limits by version 1, the same slices are in its hierarchy of version 2 as well.
        if let Some(unified) = unified_of_systemd(place) {
            return vec![below(Way::Unified, "", unified)];
        }
        let separate = place.separate.iter();
        separate.map(|(controller, hierarchy)| below(Way::Separate, controller, hierarchy)).collect()
    }
}

/// One job's group, which no record may name.
#[derive(Debug)]
pub struct Stray {
    way: Way,
    owner: u32,
    /// By controller; controllers that are mounted together have one.
    paths: BTreeMap<String, PathBuf>,
}

/// Whether a group has a name as [`name_of`](super::name_of) or [`Units::of`](super::Units::of) makes them.
pub(super) fn is_a_jobs(name: &str) -> bool {
    let (name, between) = name.strip_suffix(".slice").map_or((name, '-'), |name| (name, '_'));
    let parts = name.strip_prefix("nunbird-").and_then(|rest| rest.split_once(between));
    parts.is_some_and(|(job, decision)| {
        let digits = !job.is_empty() && job.len() <= 20 && job.bytes().all(|b| b.is_ascii_digit());
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        digits && decision.len() == 16 && decision.bytes().all(hexadecimal)
    })
}

/// Every job's group below these, by version and name, that belongs to one of `owners`.
///
/// # Errors
/// As readdir(3); a parent that is not there has none.
pub fn below(parents: &[Parent], owners: &[u32]) -> Result<BTreeMap<(bool, String), Stray>, Trouble> {
    let mut found: BTreeMap<(bool, String), Stray> = BTreeMap::new();
    for Parent { way, controller, path } in parents {
        let failed = |e: io::Error| Trouble::File(path.clone(), "cannot be listed", e);
        let entries = match std::fs::read_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Some(name) = entry.file_name().to_str().filter(|name| is_a_jobs(name)).map(str::to_owned)
            else {
                continue;
            };
            // Not followed. It may have gone this moment.
            let Ok(meta) = entry.metadata() else { continue };
            if !meta.is_dir() || !owners.contains(&meta.uid()) {
                continue;
            }
            let key = (*way == Way::Unified, name);
            let group = found.entry(key).or_insert_with(|| Stray {
                way: *way,
                owner: meta.uid(),
                paths: BTreeMap::new(),
            });
            if !group.paths.values().any(|known| *known == entry.path()) {
                group.paths.insert(controller.clone(), entry.path());
            }
        }
    }
    Ok(found)
}

impl Stray {
    /// The first of its directories.
    pub fn path(&self) -> &Path {
        self.paths.values().next().map_or(Path::new(""), PathBuf::as_path)
    }

    /// Whose its directories are.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Ends every process in it, removes it, and returns how many were ended; none for a group that another process removed since it was
    /// listed, as the clean-up of its job does. One of version 1 that was left frozen is thawed. After the deadline it is tried
    /// once and not waited for.
    ///
    /// # Errors
    /// [`Trouble::StillAlive`] after the deadline; [`Trouble::File`] for a directory that is not its owner's, or as rmdir(2), at
    /// once for one with groups below it: Nunbird makes none there.
    pub fn end(&self, deadline: Instant) -> Result<Option<usize>, Trouble> {
        loop {
            match self.end_what_is_left(deadline) {
                Err(Trouble::File(_, _, e)) if went(&e) && Instant::now() < deadline => {
                    std::thread::sleep(GLANCE);
                }
                other => return other,
            }
        }
    }

    fn end_what_is_left(&self, deadline: Instant) -> Result<Option<usize>, Trouble> {
        let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
        for (controller, path) in &self.paths {
            match Folder::open(path, self.owner) {
                Err(Trouble::File(_, _, e)) if went(&e) => {}
                other => drop(folders.insert(controller.clone(), other?)),
            }
        }
        if folders.is_empty() {
            return Ok(None);
        }
        let freezer = match folders.get("freezer").filter(|_| self.way == Way::Separate) {
            Some(folder) => Some(folder.file("freezer.state", OFlag::O_RDWR)?),
            None => None,
        };
        let slice = self.slice();
        if let Some(pids) = folders.get("pids").filter(|_| slice.is_some() && self.way == Way::Separate) {
            pids.write("pids.max", "0")?;
        }
        let mut ended = 0;
        loop {
            let left = self.end_once(&folders, freezer.as_ref(), deadline)?;
            ended = ended.max(left);
            if left == 0 {
                break;
            }
            if Instant::now() >= deadline {
                return Err(Trouble::StillAlive(self.path().to_path_buf(), left));
            }
            std::thread::sleep(GLANCE);
        }
        match slice {
            // Slices are root's and systemd's: no other account can make this take long.
            Some(slice) => {
                let patience = deadline.saturating_duration_since(Instant::now()).max(LEAST_FOR_SYSTEMD);
                JobGroup::stop_slice(slice, &self.paths, patience)?;
            }
            None => self.remove(deadline)?,
        }
        Ok(Some(ended))
    }

    /// Its name, where it is a slice of systemd's.
    fn slice(&self) -> Option<&str> {
        self.path().file_name()?.to_str().filter(|name| name.ends_with(".slice"))
    }

    /// Kills what is there now, and returns how many it was.
    fn end_once(
        &self,
        folders: &BTreeMap<String, Folder>,
        freezer: Option<&File>,
        deadline: Instant,
    ) -> Result<usize, Trouble> {
        let by_kernel = folders.get("").is_some_and(|folder| folder.write("cgroup.kill", "1").is_ok());
        let frozen = freezer.is_some_and(|file| freeze(file, deadline));
        let mut left = Vec::new();
        let listed = folders.values().try_for_each(|folder| folder.all_processes(&mut left));
        left.sort_unstable();
        left.dedup();
        if !by_kernel {
            left.iter().filter(|pid| **pid > 0).for_each(|pid| end_process(*pid, frozen));
        }
        // What is frozen does not die.
        if let Some(file) = freezer {
            let failed = |e| Trouble::File(self.path().join("freezer.state"), "cannot be written", e);
            file.write_at(b"THAWED", 0).map_err(failed)?;
        }
        listed.map(|()| left.len())
    }

    fn remove(&self, deadline: Instant) -> Result<(), Trouble> {
        for path in self.paths.values() {
            let nameless = || Trouble::Unplaced(format!("{} is no group's path", path.display()));
            let (parent, name) =
                path.parent().zip(path.file_name().and_then(|name| name.to_str())).ok_or_else(nameless)?;
            let parent = Folder::open(parent, self.owner)?;
            // The kernel calls a group busy while its last process ends.
            while let Err(trouble) = parent.remove(name) {
                let busy =
                    matches!(&trouble, Trouble::File(_, _, e) if e.raw_os_error() == Some(libc::EBUSY));
                if !busy || Instant::now() >= deadline {
                    return Err(trouble);
                }
                // The group's owner can make some, and would have every sweep wait for nothing.
                if Folder::open(path, self.owner)?.has_groups()? {
                    let e = io::Error::from_raw_os_error(libc::EBUSY);
                    return Err(Trouble::File(path.clone(), "has groups below it, which no job makes", e));
                }
                std::thread::sleep(GLANCE);
            }
        }
        Ok(())
    }
}

/// Freezes, and returns whether everything in the group is frozen. Until then processes can end, and their numbers be given away.
fn freeze(file: &File, deadline: Instant) -> bool {
    if file.write_at(b"FROZEN", 0).is_err() {
        return false;
    }
    let shortly = deadline.min(Instant::now() + Duration::from_millis(100));
    loop {
        let mut state = [0; 16];
        let length = file.read_at(&mut state, 0).unwrap_or(0);
        if state.get(..length).is_some_and(|state| state.trim_ascii() == b"FROZEN") {
            return true;
        }
        if Instant::now() >= shortly {
            return false;
        }
        std::thread::sleep(GLANCE);
    }
}

/// As the process's own user: were the number another's by now, it could only be one of the same user's. Root's are ended where
/// their numbers cannot change hands, and else left, which is reported.
fn end_process(pid: i32, frozen: bool) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let Some(uid) = uids.and_then(|uids| uids.split_whitespace().next()?.parse::<u32>().ok()) else { return };
    if uid == 0 && !frozen {
        return;
    }
    if let Ok(_user) = EffectiveUser::assume(uid) {
        let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::is_a_jobs;
    use crate::{Units, name_of};

    #[test]
    fn only_names_that_nunbird_makes_are_looked_at() {
        for (job, decision) in [(0, 0), (4711, 0x7f3a_9c00), (u64::MAX, u64::MAX)] {
            assert!(is_a_jobs(&name_of(job, decision)));
            assert!(is_a_jobs(&Units::of(1, job, decision, String::new()).slice));
        }
        for name in [
            "nunbird",
            "nunbird-",
            "nunbird-1",
            "nunbird-1-",
            "nunbird--0123456789abcdef",
            "nunbird-1-0123456789abcde",
            "nunbird-1-0123456789abcdeF",
            "nunbird-1-0123456789abcdef0",
            "nunbird-x-0123456789abcdef",
            "nunbird-1-0123456789abcdef.scope",
            "nunbird-1-0123456789abcdef.slice",
            "nunbird-1_0123456789abcdef",
            "nunbird-x.slice",
            "xnunbird-1-0123456789abcdef",
            "nunbird-123456789012345678901-0123456789abcdef",
        ] {
            assert!(!is_a_jobs(name), "{name}");
        }
    }
}
