//! A job's group of systemd's making: a transient slice that carries the limits, and in it a transient scope for each stage.
//!
//! systemd ends a scope with its last process, and between two stages a job has none; a slice stays. Who made the groups is
//! systemd, so what is in force is read from the kernel here as well, and a process is in its scope when the kernel lists it there.
//! Names are made of numbers, without the dash that would make a slice one of another's (systemd.slice(5)).

use super::{Amounts, Folder, Hierarchy, JobGroup, Place, Trouble, Way};
use crate::systemd::Systemd;
use nunbird_sys::random;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The slice of all jobs, systemd's own to make.
pub(super) const NUNBIRD_SLICE: &str = "nunbird.slice";
/// Where systemd has its hierarchies; when it is of version 2 itself, systemd uses nothing else (sd_booted(3), file-hierarchy(7)).
const CGROUPS: &str = "/sys/fs/cgroup";
/// How long systemd may take to make a slice with its limits: while a job is admitted, others wait.
const MAKING: Duration = Duration::from_secs(3);
/// How long it may take to move a process.
const MOVING: Duration = Duration::from_secs(10);
/// How long a look at what systemd does waits for the next.
const GLANCE: Duration = Duration::from_millis(2);
/// Hierarchies of version 1 that a slice whose processes are counted is in, where they are mounted.
const COUNTED: [&str; 3] = ["memory", "cpu", "pids"];

/// What systemd calls the parts of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// The job's slice, directly below `nunbird.slice`.
    pub slice: String,
    /// How the names of its scopes begin.
    pub scopes: String,
    /// What `systemctl` shows beside them.
    pub description: String,
}

impl Units {
    /// Names for the job of this number, with this decision on it, which a runner of this number runs.
    pub fn of(runner: u64, job: u64, decision: u64, description: String) -> Self {
        let slice = format!("nunbird-{job}_{decision:016x}.slice");
        Units { slice, scopes: format!("nunbird-{runner}-{job}"), description }
    }
}

impl JobGroup {
    /// Has systemd make the job's slice, and makes sure that the limits are in force. What was made is stopped again where
    /// that fails.
    ///
    /// # Errors
    /// Every [`Trouble`]: [`Trouble::Missing`] names controllers that limits need and that are not there.
    pub fn make_slice(place: &Place, units: &Units, amounts: &Amounts) -> Result<(Way, Self), Trouble> {
        let (way, paths) = directories(place, &units.slice, amounts)?;
        let deadline = Instant::now() + MAKING;
        let mut systemd = Systemd::connect(deadline)?;
        systemd.start_slice(&units.slice, &units.description, amounts, way)?;
        let group = loop {
            match Self::open(way, &paths, 0).and_then(|group| group.verify(amounts).map(|()| group)) {
                Err(_) if Instant::now() < deadline => std::thread::sleep(GLANCE),
                other => break other,
            }
        };
        if group.is_err() {
            let again = Systemd::connect(Instant::now() + MAKING);
            let _first_trouble_is_told = again.and_then(|mut systemd| systemd.stop(&units.slice));
        }
        group.map(|group| (way, group))
    }

    /// Has systemd put a process into a new scope of the slice, and comes back when it is there.
    ///
    /// # Errors
    /// [`Trouble::Systemd`]; [`Trouble::File`] with `ETIMEDOUT` when it is not in the slice in time.
    pub fn enter_slice(&self, units: &Units, process: i32) -> Result<(), Trouble> {
        let deadline = Instant::now() + MOVING;
        let mut bytes = [0; 16];
        random::fill(&mut bytes).map_err(|e| Trouble::Unplaced(format!("random numbers: {e}")))?;
        let number = u128::from_ne_bytes(bytes);
        let name = |number: u128| format!("{}-{:016x}.scope", units.scopes, number & u128::from(u64::MAX));
        let names = [name(number), name(number >> 64)];
        let [first, second] = &names;
        let Units { slice, description, .. } = units;
        let process = process.cast_unsigned();
        Systemd::connect(deadline)?.start_scope([first, second], description, slice, process)?;
        loop {
            let Some(elsewhere) = self.without(process.cast_signed())? else { return Ok(()) };
            if Instant::now() >= deadline {
                let (path, late) =
                    (elsewhere.path().to_path_buf(), io::Error::from_raw_os_error(libc::ETIMEDOUT));
                return Err(Trouble::File(path, "was not entered by way of systemd", late));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Has systemd stop the job's slice, and comes back when its directories are gone. A slice that is not there is fine.
    ///
    /// # Errors
    /// [`Trouble::Systemd`]; [`Trouble::File`] for a directory that is still there after `patience`.
    pub fn stop_slice(
        slice: &str,
        paths: &BTreeMap<String, PathBuf>,
        patience: Duration,
    ) -> Result<(), Trouble> {
        let deadline = Instant::now() + patience;
        Systemd::connect(deadline)?.stop(slice)?;
        while let Some(left) = paths.values().find(|path| path.symlink_metadata().is_ok()) {
            if Instant::now() >= deadline {
                let busy = io::Error::from_raw_os_error(libc::EBUSY);
                return Err(Trouble::File(left.clone(), "is still there after its unit was stopped", busy));
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }
}

/// The hierarchy of version 2, where systemd puts limits in force by it.
pub(super) fn unified_of_systemd(place: &Place) -> Option<&Hierarchy> {
    place.unified.as_ref().filter(|unified| unified.mount == Path::new(CGROUPS))
}

/// Where systemd puts a slice, by controller, and of which version that is.
fn directories(
    place: &Place,
    slice: &str,
    amounts: &Amounts,
) -> Result<(Way, BTreeMap<String, PathBuf>), Trouble> {
    let below = |mount: &Path| mount.join(NUNBIRD_SLICE).join(slice);
    if let Some(unified) = unified_of_systemd(place) {
        let there = Folder::open(&unified.mount, 0)?.read("cgroup.controllers")?;
        let mut wanted = amounts.controllers(Way::Unified);
        wanted.retain(|name| !there.split(' ').any(|has| has == *name));
        if !wanted.is_empty() {
            return Err(Trouble::Missing(wanted));
        }
        return Ok((Way::Unified, BTreeMap::from([(String::new(), below(&unified.mount))])));
    }
    if amounts.swap.is_some() {
        let why =
            "systemd does not limit swap on version 1 of control groups; write `way = \"v1\"`, or no `swap`";
        return Err(Trouble::Unfit(why));
    }
    let wanted = amounts.controllers(Way::Separate);
    let missing: Vec<_> = wanted.iter().copied().filter(|name| !place.separate.contains_key(*name)).collect();
    // systemd 252 uses `cpuacct` where it is mounted together with `cpu` alone.
    let mount = |name: &str| place.separate.get(name).map(|hierarchy| &hierarchy.mount);
    let also = (mount("cpuacct") == mount("cpu")).then_some("cpuacct");
    let counted = COUNTED.into_iter().chain(also).chain(wanted).filter_map(|name| {
        let hierarchy = place.separate.get(name)?;
        Some((name.to_owned(), below(&hierarchy.mount)))
    });
    let paths: BTreeMap<String, PathBuf> = counted.collect();
    match (missing.is_empty(), paths.is_empty()) {
        (false, _) => Err(Trouble::Missing(missing)),
        (true, true) => Err(Trouble::Missing(COUNTED.to_vec())),
        (true, false) => Ok((Way::Separate, paths)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Amounts, Place, Trouble, Units, Way, directories};
    use crate::Hierarchy;
    use std::path::PathBuf;

    #[test]
    fn the_slice_of_a_job_is_a_child_of_the_slice_of_all_jobs_whatever_the_numbers() {
        for (runner, job, decision) in [(0, 0, 0), (12, 7001, 0xab), (u64::MAX, u64::MAX, u64::MAX)] {
            let units = Units::of(runner, job, decision, String::new());
            assert_eq!(units.slice.matches('-').count(), 1, "{}", units.slice);
            assert!(units.slice.len() + units.scopes.len() < 200, "systemd's names have 255 bytes at most");
        }
        let units = Units::of(12, 7001, 0xab, String::new());
        assert_eq!(units.slice, "nunbird-7001_00000000000000ab.slice");
        assert_eq!(units.scopes, "nunbird-12-7001");
    }

    fn version_one(names: &[&str]) -> Place {
        let at = |name: &str| {
            let mount = PathBuf::from("/sys/fs/cgroup").join(name);
            (name.to_owned(), Hierarchy { group: mount.join("system.slice/x.service"), mount })
        };
        Place { unified: None, separate: names.iter().map(|name| at(name)).collect() }
    }

    #[test]
    fn on_version_one_the_slice_has_a_directory_in_each_hierarchy_that_counts() {
        let amounts = Amounts { memory: Some(1 << 20), ..Amounts::default() };
        let (way, paths) =
            directories(&version_one(&["memory", "pids", "freezer"]), "x.slice", &amounts).expect("there");
        assert_eq!(way, Way::Separate);
        let shown: Vec<String> = paths.values().map(|path| path.display().to_string()).collect();
        let below = |name: &str| format!("/sys/fs/cgroup/{name}/nunbird.slice/x.slice");
        assert_eq!(shown, [below("memory"), below("pids")]);
    }

    #[test]
    fn what_is_missing_is_named_before_systemd_is_asked() {
        let amounts = Amounts { memory: Some(1 << 20), pids: Some(10), ..Amounts::default() };
        let missing = directories(&version_one(&["pids"]), "x.slice", &amounts);
        assert!(matches!(&missing, Err(Trouble::Missing(names)) if names == &["memory"]), "{missing:?}");
        let nothing = directories(&version_one(&[]), "x.slice", &Amounts::default());
        assert!(matches!(nothing, Err(Trouble::Missing(_))), "{nothing:?}");
        let swap = Amounts { swap: Some(0), ..amounts };
        let refused = directories(&version_one(&["memory", "pids"]), "x.slice", &swap);
        assert!(refused.is_err_and(|trouble| trouble.to_string().contains("does not limit swap")));
    }
}
