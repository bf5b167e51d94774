//! The control groups of a machine: below those of the job, where systemd inside can make its own.
//!
//! In the hierarchies that systemd keeps its services in (version 2, and the named one of version 1) a machine has a group of its own:
//! systemd-nspawn(1) makes two more below it, and two machines in one group would share those. In the others it stays in the job's.

use crate::Trouble;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MOUNTS: &str = "/sys/fs/cgroup";
/// How deep below its own group a machine can make groups, and how many, in a hierarchy of version 2: systemd's own are five deep.
const BOUNDS: [(&str, &str); 2] = [("cgroup.max.depth", "64"), ("cgroup.max.descendants", "8192")];
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
    let own: Vec<PathBuf> = found
        .filter_map(|(controllers, group)| {
            Some(mounted(&controllers)?.join(group.trim_start_matches('/')).join(name))
        })
        .collect();
    match own.is_empty() {
        // Its processes could not be found at its end.
        true => {
            Err(Trouble::new(format!("no hierarchy of control groups that systemd uses is below {MOUNTS}")))
        }
        false => Ok(own),
    }
}

/// Makes them, bounds what can be made below them, and enters them.
pub(crate) fn enter(groups: &[PathBuf]) -> Result<(), Trouble> {
    let enter = |group: &PathBuf| {
        fs::create_dir(group)?;
        // Whatever the umask: on Linux 6.1 a machine mounts its part of the hierarchy only where its root may search all that is above.
        fs::set_permissions(group, fs::Permissions::from_mode(0o755))?;
        for (file, most) in BOUNDS {
            // There is none in a hierarchy of version 1.
            match File::options().write(true).open(group.join(file)) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                other => other?.write_all(most.as_bytes())?,
            }
        }
        fs::write(group.join("cgroup.procs"), "0")
    };
    groups.iter().try_for_each(|group| enter(group).map_err(Trouble::of(&group.display().to_string())))
}

/// Makes sure that the machine's first process is where this one is: in the job's groups, whose limits are then its own.
pub(crate) fn verify(leader: &str) -> Result<(), Trouble> {
    let theirs = of_process(leader)?;
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

/// Ends all that is in groups, and removes them with all that are below them.
pub(crate) fn remove(groups: &[PathBuf], patience: Duration) -> Result<(), Trouble> {
    let deadline = Instant::now() + patience;
    for group in groups {
        loop {
            // One write ends all processes (Linux 5.14); in a hierarchy of version 1 there is no such file.
            if let Ok(mut file) = File::options().write(true).open(group.join("cgroup.kill")) {
                let _one_by_one = file.write_all(b"1");
            }
            match end_below(group, deadline) {
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

/// A group on the way down: its name in the one above it, and those below it that have not been looked at.
struct Level {
    name: CString,
    below: Vec<CString>,
}

/// Ends every process in a group and in those below it, and removes those that are empty, the innermost first. The machine has made them: by
/// descriptors and names alone, because they may be deeper, and their paths longer, than any path can say or a stack can hold.
fn end_below(group: &Path, deadline: Instant) -> io::Result<()> {
    let (Some(parent), Ok(name)) = (group.parent(), name_of(group)) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let mut above = match openat(AT_FDCWD, parent, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    let mut levels: Vec<Level> = Vec::new();
    let mut next = Some(name);
    let mut left = Ok(());
    loop {
        if let Some(name) = next.take() {
            match openat(&above, name.as_c_str(), DIRECTORY, Mode::empty()) {
                Ok(here) => {
                    kill_in(&here);
                    let below = names(&here)?;
                    levels.push(Level { name, below });
                    above = here;
                }
                Err(Errno::ENOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        let Some(level) = levels.last_mut() else { return left };
        next = level.below.pop();
        if next.is_none() {
            above = openat(&above, c"..", DIRECTORY, Mode::empty())?;
            match unlinkat(&above, level.name.as_c_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(e) => left = Err(e.into()),
            }
            levels.pop();
        }
    }
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn name_of(group: &Path) -> io::Result<CString> {
    let name = group.file_name().ok_or(ErrorKind::InvalidInput)?;
    Ok(CString::new(name.as_bytes())?)
}

/// The directories in one.
fn names(here: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::openat(here, c".", DIRECTORY, Mode::empty())?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Ends the processes in a group. Only the machine's are there.
fn kill_in(group: &impl AsFd) {
    let mut text = String::new();
    let opened = openat(group, c"cgroup.procs", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    // A group that cannot be read is not removed either while it has a process.
    let _unread = opened.map(File::from).is_ok_and(|mut file| file.read_to_string(&mut text).is_ok());
    for process in text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|process| *process > 1) {
        let _already_gone = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::end_below;
    use nix::fcntl::{AT_FDCWD, openat};
    use nix::sys::stat::{Mode, mkdirat};
    use std::fs;
    use std::time::{Duration, Instant};

    #[test]
    fn groups_of_any_depth_and_with_any_names_are_removed() {
        let top = tempfile::tempdir().unwrap();
        for (name, depth) in [("a", 300), ("b".repeat(250).as_str(), 30)] {
            let mut here = openat(AT_FDCWD, top.path(), super::DIRECTORY, Mode::empty()).unwrap();
            for _ in 0..depth {
                mkdirat(&here, name, Mode::S_IRWXU).unwrap();
                mkdirat(&here, "beside", Mode::S_IRWXU).unwrap();
                here = openat(&here, name, super::DIRECTORY, Mode::empty()).unwrap();
            }
            let group = top.path().join(name);
            end_below(&group, Instant::now() + Duration::from_secs(30)).unwrap();
            assert!(!group.exists());
            end_below(&group, Instant::now() + Duration::from_secs(30)).unwrap();
            fs::remove_dir(top.path().join("beside")).unwrap();
        }
    }

    #[test]
    fn a_group_that_is_not_empty_is_an_error_and_what_is_beside_it_goes() {
        let top = tempfile::tempdir().unwrap();
        for name in ["g/kept/deep", "g/gone/deep"] {
            fs::create_dir_all(top.path().join(name)).unwrap();
        }
        fs::write(top.path().join("g/kept/file"), "").unwrap();
        end_below(&top.path().join("g"), Instant::now() + Duration::from_secs(30)).unwrap_err();
        assert!(top.path().join("g/kept").exists() && !top.path().join("g/gone").exists());
        end_below(&top.path().join("g"), Instant::now()).unwrap_err();
    }
}
