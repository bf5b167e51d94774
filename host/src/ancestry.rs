//! Processes above this one, by identities that no later process has.
//!
//! A process id is given away again; together with the time of the process's start, and within one boot and one pid namespace, it is
//! not (proc_pid_stat(5)).

use nunbird_sys::process;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// More ancestors than a runner and its wrappers are.
const MOST: usize = 16;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id in this pid namespace.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot.
    pub(crate) start: u64,
}

impl Process {
    /// Whether it is there. One that has ended and was not waited for is not.
    ///
    /// # Errors
    /// As open(2) and read(2), but for a process that is not there.
    pub(crate) fn is_alive(self) -> io::Result<bool> {
        Ok(stat(self.pid)?.is_some_and(|stat| stat.start == self.start && !stat.is_zombie))
    }
}

/// The number of this process's pid namespace, in which process ids mean something (namespaces(7)).
///
/// # Errors
/// As stat(2).
pub(crate) fn pid_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

/// The parents of this process in its session, from the nearest on, but for the first process of the namespace: gitlab-runner, with a shell
/// in between where the site has wrapped its calls. None where the kernel hides other accounts' processes (proc(5), `hidepid`).
///
/// # Errors
/// As open(2) and read(2), but for a process that is not there or may not be looked at.
pub(crate) fn parents_in_session() -> io::Result<Vec<Process>> {
    let Some(own) = stat(process::id())? else { return Ok(Vec::new()) };
    let mut parents = Vec::new();
    let mut pid = own.parent;
    while pid > 1 && parents.len() < MOST {
        let Some(above) = stat(pid)?.filter(|above| above.session == own.session) else { break };
        parents.push(Process { pid, start: above.start });
        pid = above.parent;
    }
    Ok(parents)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    is_zombie: bool,
    parent: i32,
    session: i32,
    start: u64,
}

/// None for a process that is not there, or that the kernel hides: by ENOENT, and by EPERM with `hidepid=1`. One that was seen and is hidden
/// now is another account's, of the same number.
fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => parse(&String::from_utf8_lossy(&bytes))
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be read"))),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::EPERM)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Fields are counted behind the name, which may hold anything.
fn parse(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
    Some(Stat {
        is_zombie: matches!(field(3)?, "Z" | "X"),
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        start: field(22)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Process, Stat, parents_in_session, parse, stat};
    use std::process::Command;

    #[test]
    fn a_name_cannot_pass_for_another_field() {
        let text = "7 (a) Z 1 (b) R 42 7 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 998877 100 200\n";
        let expected = Stat { is_zombie: false, parent: 42, session: 41, start: 998_877 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("7 (a) R 42"), None);
    }

    #[test]
    fn a_process_is_alive_until_it_has_ended_and_a_later_one_of_its_number_is_another() {
        let mut child = Command::new("/bin/sleep").arg("60").spawn().expect("a process");
        let pid = i32::try_from(child.id()).expect("a number");
        let process = Process { pid, start: stat(pid).expect("proc").expect("it is there").start };
        assert!(process.is_alive().expect("proc"));
        assert!(!Process { start: process.start + 1, ..process }.is_alive().expect("proc"));
        child.kill().expect("killed");
        while process.is_alive().expect("proc") {
            std::thread::yield_now();
        }
        // It has not been waited for, so its number is still taken.
        assert!(stat(pid).expect("proc").is_some_and(|stat| stat.is_zombie));
        child.wait().expect("its end");
    }

    #[test]
    fn the_parent_comes_first() {
        let parents = parents_in_session().expect("proc");
        let parent = nunbird_sys::process::parent();
        assert!(parent == 1 || parents.first().is_none_or(|first| first.pid == parent), "{parents:?}");
        assert!(parents.iter().all(|process| process.is_alive().expect("proc")));
    }
}
