//! The group of one CI job, over all the directories that it has.

use super::{Amounts, Folder, Place, Trouble, Way, files, leaf, usage};
use crate::usage::Gauges;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_gauges::{Count, Reading};
use nunbird_groups::Counter;
use nunbird_sys::effective::EffectiveUser;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Hierarchies of version 1 that a job's group is in where they are mounted, limited or not: without the freezer processes
/// that fork fast outrun their end, and the others count.
const USEFUL: [&str; 6] = ["memory", "cpu", "pids", "cpuacct", "freezer", "blkio"];
/// How long a look at a group that should become empty waits for the next. The kernel has no event for version 1.
const GLANCE: Duration = Duration::from_millis(2);

/// The name of a job's group: numbers, so that nothing of a stranger's is in it.
pub fn name_of(job: u64, decision: u64) -> String {
    format!("nunbird-{job}-{decision:016x}")
}

/// The names that a job's group has, by whichever way it is made.
pub fn names_by_decision(job: u64, decision_id: &str) -> Vec<String> {
    let decision = decision_id.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    names_of(job, decision).to_vec()
}

/// As [`names_by_decision`], by the first half of the decision's id.
pub(crate) fn names_of(job: u64, decision: u64) -> [String; 2] {
    [name_of(job, decision), super::Units::of(0, job, decision, String::new()).slice]
}

/// A job's group.
#[derive(Debug)]
pub struct JobGroup {
    way: Way,
    /// By controller; `""` is the one of the unified hierarchy.
    folders: BTreeMap<String, Folder>,
    owner: u32,
}

impl JobGroup {
    /// Makes the group below this process's own and puts the limits in force. What was made is removed again where that
    /// fails.
    ///
    /// # Errors
    /// Every [`Trouble`]: [`Trouble::Missing`] names the controllers that limits need and that are not there.
    pub fn make(place: &Place, way: Way, name: &str, owner: u32, amounts: &Amounts) -> Result<Self, Trouble> {
        let wanted = amounts.controllers(way);
        let parents = match way {
            Way::Unified => {
                let Some(unified) = &place.unified else { return Err(Trouble::Missing(wanted)) };
                BTreeMap::from([(String::new(), leaf::make_room(unified, owner, &wanted)?)])
            }
            Way::Separate => separate_parents(place, &wanted)?,
        };
        let paths = parents.into_iter().map(|(controller, parent)| (controller, parent.join(name)));
        let paths: BTreeMap<String, PathBuf> = paths.collect();
        let mut made = BTreeMap::new();
        let group = make_folders(&paths, owner, &mut made).and_then(|()| {
            let group = Self::open(way, &paths, owner)?;
            group.limit(amounts).map(|()| group)
        });
        if group.is_err() {
            // What was there before is another's.
            let _first_trouble_is_told = remove_all(&made, owner, Duration::ZERO);
        }
        group
    }

    /// Opens the group by the directories of [`JobGroup::paths`].
    ///
    /// # Errors
    /// [`Trouble::File`].
    pub fn open(way: Way, paths: &BTreeMap<String, PathBuf>, owner: u32) -> Result<Self, Trouble> {
        let opened = paths.iter().map(|(name, path)| Ok((name.clone(), Folder::open(path, owner)?)));
        Ok(JobGroup { way, folders: opened.collect::<Result<_, Trouble>>()?, owner })
    }

    /// Its directories by controller.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        self.folders.iter().map(|(name, folder)| (name.clone(), folder.path().to_path_buf())).collect()
    }

    fn folder(&self, controller: &str) -> Option<&Folder> {
        let key = if self.way == Way::Unified { "" } else { controller };
        self.folders.get(key)
    }

    fn limit(&self, amounts: &Amounts) -> Result<(), Trouble> {
        for setting in files::settings(amounts, self.way) {
            let folder =
                self.folder(setting.controller).ok_or_else(|| Trouble::Missing(vec![setting.controller]))?;
            folder.write(setting.file, &setting.value)?;
        }
        self.verify(amounts)
    }

    /// Reads every limit back.
    ///
    /// # Errors
    /// [`Trouble::NotInForce`] for the first that differs.
    pub fn verify(&self, amounts: &Amounts) -> Result<(), Trouble> {
        for setting in files::settings(amounts, self.way) {
            let folder =
                self.folder(setting.controller).ok_or_else(|| Trouble::Missing(vec![setting.controller]))?;
            let found = folder.read(setting.file)?;
            if !setting.is_in_force(&found) {
                let path = folder.path().join(setting.file);
                return Err(Trouble::NotInForce(path, setting.shown, found));
            }
        }
        Ok(())
    }

    /// Brings a process into the group, and makes sure that it is there. It must wait for that: what it has started before is not moved.
    ///
    /// # Errors
    /// As write(2); `ESRCH` when the kernel took the number and the process is elsewhere all the same.
    pub fn enter(&self, process: i32) -> Result<(), Trouble> {
        for folder in self.folders.values() {
            folder.write("cgroup.procs", &process.to_string())?;
        }
        match self.without(process)? {
            None => Ok(()),
            Some(folder) => {
                let elsewhere = io::Error::from_raw_os_error(libc::ESRCH);
                Err(Trouble::File(folder.path().to_path_buf(), "was entered in vain", elsewhere))
            }
        }
    }

    /// The first of its directories that this process is not below. By the groups' own lists: the process's files of `/proc` may be hidden
    /// from this one (`hidepid`).
    pub(super) fn without(&self, process: i32) -> Result<Option<&Folder>, Trouble> {
        for folder in self.folders.values() {
            let mut all = Vec::new();
            folder.all_processes(&mut all)?;
            if !all.contains(&process) {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }

    /// Opens what counts for the group, to be read without privilege.
    pub fn gauges(&self) -> Gauges {
        let (files, counters) = usage::gauges(self.way, |controller| self.folder(controller));
        if !self.is_slice() || self.way != Way::Separate {
            return (files, counters);
        }
        let bell = self.folder("memory").and_then(|memory| usage::bell(memory).ok());
        let bell = bell.map(|bell| ((Count::OomKills, Reading::Event), bell));
        let others = files.into_iter().zip(counters).filter(|((count, _), _)| *count != Count::OomKills);
        others.chain(bell).unzip()
    }

    /// What its processes have used up to now: what the counters are, and what is in each of them.
    pub fn used(&self) -> (Vec<(Count, Reading)>, Vec<Vec<u8>>) {
        let (mut files, counters) = usage::gauges(self.way, |controller| self.folder(controller));
        for (count, reading) in files.iter_mut().filter(|_| self.is_slice()) {
            // These are counted where a process was, which is below a slice.
            if let (Count::OomKills | Count::ForksRefused, Reading::Text(word, _)) = (count, &*reading) {
                *reading = Reading::AboveZero(word.clone());
            }
        }
        (files, counters.iter().map(Counter::content).collect())
    }

    /// Whether the kernel ends all processes of the group at the request of any process that may write the file (Linux 5.14).
    pub fn is_killed_by_the_kernel(&self) -> bool {
        self.folders.get("").is_some_and(|folder| folder.file("cgroup.kill", OFlag::O_WRONLY).is_ok())
    }

    /// Whether its processes lie in groups below it, as systemd makes them.
    fn is_slice(&self) -> bool {
        self.first_path().extension().is_some_and(|extension| extension == "slice")
    }

    /// Process ids in the group and in those below it, in any of its hierarchies.
    ///
    /// # Errors
    /// As read(2).
    pub fn processes(&self) -> Result<Vec<i32>, Trouble> {
        let mut all = Vec::new();
        for folder in self.folders.values() {
            folder.all_processes(&mut all)?;
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Ends every process of the group, and comes back when none is left. `user` is who they run as: without `CAP_KILL`
    /// only a user's own are ended where the kernel does not do it.
    ///
    /// # Errors
    /// [`Trouble::StillAlive`] after `patience`.
    pub fn kill(&self, user: u32, patience: Duration) -> Result<(), Trouble> {
        let deadline = Instant::now() + patience;
        let asked = self.folders.get("").is_some_and(|folder| folder.write("cgroup.kill", "1").is_ok());
        // Opened once: acting as the user, below, leaves the filesystem uid at this process's effective one.
        let freezer = self.folder("freezer").filter(|_| self.way == Way::Separate);
        let freezer = freezer.map(|folder| folder.file("freezer.state", OFlag::O_WRONLY)).transpose()?;
        if self.way == Way::Separate && freezer.is_none() {
            // systemd makes no groups in the freezer. Where no process can start another, none outruns its end.
            if let Some(pids) = self.folder("pids") {
                pids.write("pids.max", "0")?;
            }
        }
        let freeze = |state: &[u8]| match &freezer {
            Some(file) => file
                .write_at(state, 0)
                .map(drop)
                .map_err(|e| Trouble::File(self.first_path().join("freezer.state"), "cannot be written", e)),
            None => Ok(()),
        };
        loop {
            freeze(b"FROZEN")?;
            let left = self.processes();
            let killed = match &left {
                Ok(left) if !asked => self.kill_each(user, left),
                _ => Ok(()),
            };
            // What is frozen does not die.
            freeze(b"THAWED")?;
            killed?;
            let left = left?;
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Trouble::StillAlive(self.first_path(), left.len()));
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn kill_each(&self, user: u32, processes: &[i32]) -> Result<(), Trouble> {
        let failed = |e: io::Error| Trouble::File(self.first_path(), "cannot act as its user", e);
        let _user = EffectiveUser::assume(user).map_err(failed)?;
        for process in processes.iter().filter(|pid| **pid > 0) {
            // As the user: were the number another's by now, it could only be one of the same user's.
            let _gone = kill(Pid::from_raw(*process), Signal::SIGKILL);
        }
        Ok(())
    }

    fn first_path(&self) -> PathBuf {
        self.folders.values().next().map(|folder| folder.path().to_path_buf()).unwrap_or_default()
    }

    /// Removes the group, once it is empty.
    ///
    /// # Errors
    /// As rmdir(2), after `patience`.
    pub fn remove(self, patience: Duration) -> Result<(), Trouble> {
        remove_all(&self.paths(), self.owner, patience)
    }
}

fn separate_parents(place: &Place, wanted: &[&'static str]) -> Result<BTreeMap<String, PathBuf>, Trouble> {
    let missing: Vec<_> = wanted.iter().copied().filter(|name| !place.separate.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(Trouble::Missing(missing));
    }
    let names = USEFUL.iter().chain(wanted.iter());
    Ok(names
        .filter_map(|name| Some(((*name).to_owned(), place.separate.get(*name)?.group.clone())))
        .collect())
}

/// Makes every directory. Controllers that are mounted together share one.
fn make_folders(
    paths: &BTreeMap<String, PathBuf>,
    owner: u32,
    made: &mut BTreeMap<String, PathBuf>,
) -> Result<(), Trouble> {
    for (controller, path) in paths {
        if made.values().any(|known| known == path) {
            continue;
        }
        let (parent, name) = split(path)?;
        Folder::open(parent, owner)?.make(name)?;
        made.insert(controller.clone(), path.clone());
    }
    Ok(())
}

fn split(path: &Path) -> Result<(&Path, &str), Trouble> {
    let unnamed = || Trouble::Unplaced(format!("{} is no group's path", path.display()));
    path.parent().zip(path.file_name().and_then(|name| name.to_str())).ok_or_else(unnamed)
}

/// Removes every directory; those that are not there are fine. The kernel calls one busy while its last process ends.
fn remove_all(paths: &BTreeMap<String, PathBuf>, owner: u32, patience: Duration) -> Result<(), Trouble> {
    let deadline = Instant::now() + patience;
    let mut first = Ok(());
    for path in paths.values() {
        let (parent, name) = split(path)?;
        let removed = loop {
            match Folder::open(parent, owner).and_then(|parent| parent.remove(name)) {
                Err(Trouble::File(_, _, e))
                    if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
                {
                    std::thread::sleep(GLANCE);
                }
                other => break other,
            }
        };
        first = first.and(removed);
    }
    first
}
