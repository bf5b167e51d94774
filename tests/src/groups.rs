//! A test program's own cgroups, below which `nunbird-auth` makes those of jobs.
//!
//! A process has one place in each hierarchy: the tests of a program that uses this take turns, and
//! all of them use it.

use nunbird_cgroup::Place;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

/// Own groups in the hierarchies of version 1, left and removed when this is dropped, with the groups of jobs below them.
#[derive(Debug)]
pub struct Groups {
    /// Each with the group that this process was in before.
    entered: Vec<(PathBuf, PathBuf)>,
    _turn: MutexGuard<'static, ()>,
}

impl Groups {
    /// Enters them when no other test is in cgroups; `None` if the machine has no v1 hierarchies
    /// that it may write to.
    ///
    /// # Panics
    /// When a group that was made cannot be entered.
    pub fn enter() -> Option<Self> {
        // A test that failed has left its cgroups nevertheless.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Place::own().expect("proc").separate;
        let mut groups = Groups { entered: Vec::new(), _turn: turn };
        for (name, hierarchy) in &place {
            let own = hierarchy.mount.join(format!("nbt_{}", std::process::id()));
            let wanted = ["memory", "cpu", "cpuacct", "pids", "freezer", "blkio"].contains(&name.as_str());
            if !wanted || own.exists() {
                continue;
            }
            fs::create_dir(&own).ok()?;
            groups.entered.push((own.clone(), hierarchy.group.clone()));
            move_here(&own);
        }
        ["memory", "cpu", "pids"].iter().all(|name| place.contains_key(*name)).then_some(groups)
    }

    /// The own group in the hierarchy that is mounted at this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn own(&self, controller: &str) -> PathBuf {
        let parent = |path: &Path| path.parent().is_some_and(|mount| mount.ends_with(controller));
        self.entered.iter().map(|(own, _)| own.clone()).find(|own| parent(own)).expect("a hierarchy")
    }

    /// Groups of jobs that are there.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub fn jobs(&self) -> Vec<PathBuf> {
        let entries = self.entered.iter().flat_map(|(own, _)| fs::read_dir(own).expect("group").flatten());
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for job in self.jobs() {
            for pid in fs::read_to_string(job.join("cgroup.procs")).unwrap_or_default().lines() {
                // By number, from a group of this test's own.
                let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
                let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            // Busy while its last process ends.
            while fs::remove_dir(&job).is_err_and(|e| e.raw_os_error() == Some(16)) {
                std::thread::yield_now();
            }
        }
        for (own, former) in &self.entered {
            move_here(former);
            let _also_after_a_failure = fs::remove_dir(own);
        }
    }
}

fn move_here(group: &Path) {
    fs::write(group.join("cgroup.procs"), std::process::id().to_string()).expect("moved");
}
