//! All processes of a job: the session that its first process leads.
//!
//! One process group is not enough: `timeout`, `srun` and shells with job control put their
//! children into groups of their own, which a signal to the job's group would miss. All of them
//! stay in the session, so the groups are looked up in `/proc`. The job's first process must not be
//! reaped before this is done, so that its pid, which names the session, is not reused.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;

/// A new group can appear between a scan and the signals; a job that creates groups faster than
/// this is not pursued further.
const LOOKS: usize = 8;

/// Sends a signal to every process group of the session. Groups that the account may not signal are
/// skipped.
pub(crate) fn signal(leader: Pid, signal: Signal) {
    let mut signalled = BTreeSet::new();
    for _ in 0..LOOKS {
        let mut groups = groups(leader);
        groups.insert(leader.as_raw());
        let new: Vec<i32> = groups.difference(&signalled).copied().collect();
        if new.is_empty() {
            return;
        }
        for group in new {
            // ESRCH: it has ended. EPERM: a program with other ids, which the user could not signal either.
            let _ = killpg(Pid::from_raw(group), signal);
            signalled.insert(group);
        }
    }
}

fn groups(leader: Pid) -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes =
        entries.filter(|e| e.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit));
    let stats = processes.filter_map(|e| parse(&fs::read(e.path().join("stat")).ok()?));
    // 0 and 1 are not groups of a job: killpg(2) would signal our own group, or every process.
    stats.filter(|stat| stat.session == leader.as_raw() && stat.group > 1).map(|stat| stat.group).collect()
}

/// The fields of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    state: u8,
    pub(crate) group: i32,
    pub(crate) session: i32,
}

impl Stat {
    /// It is a zombie that waits to be reaped.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    pub(crate) fn is_stopped(self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// `None` for a process that is gone.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(stat: &[u8]) -> Option<Stat> {
    // The name before it may contain any character, even `)`.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.bytes().next()?;
    let mut numbers = fields.skip(1).map(str::parse);
    let (group, session) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Stat { state, group, session })
}

#[cfg(test)]
mod tests {
    use super::{Stat, parse};

    #[test]
    fn names_with_parentheses_and_spaces_do_not_shift_the_fields() {
        let line = b"42 (a) R 1 7 7 (\xff) S 1 50 40 0 -1 4194560\n";
        assert_eq!(parse(line), Some(Stat { state: b'S', group: 50, session: 40 }));
        assert_eq!(parse(b"42 (x"), None);
        assert!(parse(b"42 (x) Z 1 0 40 0").is_some_and(Stat::has_ended));
    }
}
