//! The control groups of a machine: below those of the job, where systemd inside can make its own.
//!
//! In the hierarchies that systemd keeps its services in (version 2, and the named one of version 1) a machine has a group of its own:
//! systemd-nspawn(1) makes two more below it, and two machines in one group would share those. In the others it stays in the job's.

use crate::Trouble;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MOUNTS: &str = "/sys/fs/cgroup";
/// How deep groups may be that a machine leaves behind.
const DEPTH: usize = 64;
/// Between two looks at whether one is empty.
const GLANCE: Duration = Duration::from_millis(5);

/// The groups that a process is in: the hierarchy's controllers, and the path.
fn of_process(process: &str) -> Result<Vec<(String, String)>, Trouble> {
    let path = format!("/proc/{process}/cgroup");
    let text = fs::read_to_string(&path).map_err(Trouble::of(&path))?;
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Whether systemd keeps its services there.
fn is_systemds(controllers: &str) -> bool {
    controllers.is_empty() || controllers == "name=systemd"
}

/// Where such a hierarchy is mounted.
fn mounted(controllers: &str) -> Option<PathBuf> {
    let names: &[&str] = if controllers.is_empty() { &["", "unified"] } else { &["systemd"] };
    let all = names.iter().map(|name| Path::new(MOUNTS).join(name));
    all.into_iter().find(|path| path.join("cgroup.procs").exists())
}

/// The groups that a machine of this name is to have of its own.
pub(crate) fn own(name: &str) -> Result<Vec<PathBuf>, Trouble> {
    let found = of_process("self")?.into_iter().filter(|(controllers, _)| is_systemds(controllers));
    Ok(found
        .filter_map(|(controllers, group)| {
            Some(mounted(&controllers)?.join(group.trim_start_matches('/')).join(name))
        })
        .collect())
}

/// Makes them and enters them.
pub(crate) fn enter(groups: &[PathBuf]) -> Result<(), Trouble> {
    groups.iter().try_for_each(|group| {
        let made = fs::create_dir(group).and_then(|()| fs::write(group.join("cgroup.procs"), "0"));
        made.map_err(Trouble::of(&group.display().to_string()))
    })
}

/// Makes sure that the machine's first process is where this one is: in the job's groups, whose limits are then its own.
pub(crate) fn verify(leader: i32) -> Result<(), Trouble> {
    let theirs = of_process(&leader.to_string())?;
    for (controllers, ours) in of_process("self")? {
        let found = theirs.iter().find(|(known, _)| *known == controllers).map(|(_, group)| group.as_str());
        let inside = match found {
            Some(group) if is_systemds(&controllers) => {
                let parent = ours.rsplit_once('/').map_or("", |(parent, _)| parent);
                group == ours || group.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'))
            }
            Some(group) => group == ours,
            None => false,
        };
        if !inside {
            return Err(Trouble::new(format!(
                "the machine has left the job's control group `{controllers}:{ours}` for `{}`, so that no limit would bind",
                found.unwrap_or("none")
            )));
        }
    }
    Ok(())
}

/// Ends every process in a group and in those below it. Only the machine's are there.
fn kill_all(group: &Path) {
    // One write ends all of them (Linux 5.14); in a hierarchy of version 1 there is no such file.
    let file = File::options().write(true).open(group.join("cgroup.kill"));
    if file.is_ok_and(|mut file| file.write_all(b"1").is_ok()) {
        return;
    }
    let mut all = Vec::new();
    collect(group, DEPTH, &mut all);
    for process in all.into_iter().filter(|process| *process > 1) {
        let _already_gone = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

fn collect(group: &Path, depth: usize, all: &mut Vec<i32>) {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    all.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), depth - 1, all);
        }
    }
}

/// Ends all that is in groups, and removes them with all that are below them.
pub(crate) fn remove(groups: &[PathBuf], patience: Duration) -> Result<(), Trouble> {
    let deadline = Instant::now() + patience;
    for group in groups {
        loop {
            kill_all(group);
            match remove_below(group, DEPTH) {
                Ok(()) => break,
                Err(e) if Instant::now() >= deadline => {
                    return Err(Trouble::of(&group.display().to_string())(e));
                }
                Err(_) => std::thread::sleep(GLANCE),
            }
        }
    }
    Ok(())
}

fn remove_below(group: &Path, depth: usize) -> std::io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if depth > 0 && entry.file_type()?.is_dir() {
            remove_below(&entry.path(), depth - 1)?;
        }
    }
    fs::remove_dir(group)
}
