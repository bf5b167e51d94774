//! Room for jobs' groups below a service on the unified hierarchy.
//!
//! A group that gives controllers to those below it has no processes of its own ("no internal processes",
//! cgroup-v2.rst). With `DelegateSubgroup=` systemd puts the service's processes into a leaf; without it they lie in the
//! service's own group, and are moved into a leaf here.

use super::{Folder, Hierarchy, Trouble};
use std::path::{Path, PathBuf};

/// The leaf for the runner's processes; systemd's documentation of `DelegateSubgroup=` has the same kind of name.
const LEAF: &str = "runner";
/// Controllers that are given along where they are there: a job's card shows what they count, limited or not. The one of
/// processors counts without (cgroup-v2.rst), and cannot be given everywhere (`CONFIG_RT_GROUP_SCHED`).
const COUNTING: [&str; 3] = ["memory", "io", "pids"];
/// How often processes that were started meanwhile are moved.
const ROUNDS: usize = 20;

/// The group below which jobs' groups are made: the nearest service or scope, itself or above.
pub fn parent_of(place: &Hierarchy) -> PathBuf {
    let unit = place.group.ancestors().take_while(|path| *path != place.mount).find(|path| {
        path.extension().is_some_and(|extension| extension == "service" || extension == "scope")
    });
    unit.unwrap_or(&place.group).to_path_buf()
}

/// Gives these controllers to the groups below the runner's service, after moving its processes into a leaf where they are
/// in the way.
///
/// A group of root's is changed only where systemd has delegated it: the runner's account can call from the group of any
/// service that starts programs for it (cron(8), atd(8), sshd(8)), and systemd cannot start a service again in whose group
/// others have made groups with controllers. One that belongs to the runner's account was given to it by systemd.
///
/// # Errors
/// [`Trouble::Missing`] for controllers that the service does not have itself, [`Trouble::NotDelegated`].
pub fn make_room(place: &Hierarchy, owner: u32, wanted: &[&'static str]) -> Result<PathBuf, Trouble> {
    let parent = parent_of(place);
    let folder = Folder::open(&parent, owner)?;
    let there = folder.read("cgroup.controllers")?;
    let has = |all: &str, name: &str| all.split(' ').any(|has| has == name);
    let missing: Vec<_> = wanted.iter().copied().filter(|name| !has(&there, name)).collect();
    if !missing.is_empty() {
        return Err(Trouble::Missing(missing));
    }
    if owner == 0 && !folder.is_delegated()? {
        return Err(Trouble::NotDelegated(parent));
    }
    let given = folder.read("cgroup.subtree_control")?;
    if wanted.iter().all(|name| has(&given, name)) {
        return Ok(parent);
    }
    empty(&folder, &parent, owner)?;
    let counting = COUNTING.iter().filter(|name| has(&there, name) && !wanted.contains(name));
    let absent = wanted.iter().chain(counting).filter(|name| !has(&given, name));
    let text: Vec<String> = absent.map(|name| format!("+{name}")).collect();
    folder.write("cgroup.subtree_control", &text.join(" "))?;
    Ok(parent)
}

fn empty(folder: &Folder, parent: &Path, owner: u32) -> Result<(), Trouble> {
    if folder.processes()?.is_empty() {
        return Ok(());
    }
    match folder.make(LEAF) {
        Err(Trouble::File(_, _, e)) if e.raw_os_error() == Some(libc::EEXIST) => {}
        other => other?,
    }
    let leaf = Folder::open(&parent.join(LEAF), owner)?;
    for _ in 0..ROUNDS {
        let processes = folder.processes()?;
        if processes.is_empty() {
            return Ok(());
        }
        for process in processes {
            match leaf.write("cgroup.procs", &process.to_string()) {
                // It ended meanwhile.
                Err(Trouble::File(_, _, e)) if e.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
    }
    Err(Trouble::StillAlive(parent.to_path_buf(), folder.processes()?.len()))
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, parent_of};
    use std::path::Path;

    #[test]
    fn jobs_lie_beside_the_leaf_of_the_runner_and_not_in_it() {
        let parent = |group: &str| {
            let mount = Path::new("/sys/fs/cgroup").to_path_buf();
            parent_of(&Hierarchy { group: mount.join(group), mount }).display().to_string()
        };
        let service = "/sys/fs/cgroup/system.slice/gitlab-runner.service";
        assert_eq!(parent("system.slice/gitlab-runner.service"), service);
        assert_eq!(parent("system.slice/gitlab-runner.service/runner"), service);
        assert_eq!(parent("box"), "/sys/fs/cgroup/box");
        assert_eq!(parent(""), "/sys/fs/cgroup/");
    }
}
