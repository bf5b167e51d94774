//! Processes that left the session of their stage: daemons (`setsid`, double forks) and their
//! descendants.
//!
//! Each process of a job inherits the job's mark, `NUNBIRD_DECISION_ID` with its 128 random bits,
//! in its environment, which an account may read for its own processes (proc_pid_environ(5)). So
//! these processes are found wherever they went, and no other process of the account is touched. A
//! process that hides its mark cannot be found without a cgroup: one that left the session and
//! started another program with an empty environment.
//!
//! Killing alone loses against processes that fork faster than they are looked up, so they are
//! stopped first: a stopped process does not fork. The kernel hands out pids in a circle, so a pid
//! that has just been read does not belong to another process by the time that it is signalled.

use crate::session::{Stat, stat};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgrp, getpid, getuid};
use nunbird_stage::Timeouts;
use nunbird_stage::shell::MARK;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// The longest time from `TERM` to `KILL` for a daemon that a job left behind: the runner's slot is
/// blocked meanwhile.
const GRACE: Duration = Duration::from_secs(10);
/// Between two scans while processes end.
const LOOK: Duration = Duration::from_millis(20);
/// The most scans in a round of stopping.
const ROUNDS: usize = 200;

/// The mark of one job.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    variable: Vec<u8>,
    /// Whether a part of a variable is enough.
    part: bool,
    /// The name of a variable and `=`; processes with this variable are spared.
    spared: Option<Vec<u8>>,
}

impl Mark {
    pub(crate) fn of(decision_id: &str) -> Self {
        let variable = format!("{}={decision_id}", MARK).into_bytes();
        Mark { variable, part: false, spared: None }
    }

    /// The mark of what a container engine has started for a job: its own processes, and what they
    /// started in the container. The name is in one variable or another, because engines choose
    /// which variables their helpers have.
    pub(crate) fn of_container(name: &str) -> Self {
        Mark { variable: name.as_bytes().to_owned(), part: true, spared: None }
    }

    /// The same, except for processes that have this variable.
    pub(crate) fn without(&self, variable: &str) -> Self {
        Mark { spared: Some(format!("{variable}=").into_bytes()), ..self.clone() }
    }

    /// Asks every process that carries the mark to end, except those of a session that has been
    /// asked already: many programs treat a second `TERM` differently from the first. Returns the
    /// number of processes.
    pub(crate) fn ask(&self, asked: Option<Pid>) -> usize {
        let mut pids = Vec::new();
        let count = self.each(|found| {
            if asked.is_none_or(|session| found.stat.session != session.as_raw()) {
                pids.push(found.pid);
            }
        });
        // The oldest first: a shell that waits for its child must get its signal before the child
        // ends, or it goes on without having been asked.
        for pid in pids.into_iter().rev() {
            // A stopped process acts on no signal but CONT and KILL. Errors are handled as in
            // `deliver`.
            for signal in [Signal::SIGTERM, Signal::SIGCONT] {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
        count
    }

    /// Ends every process that carries the mark: `TERM`, a grace period, then [`Mark::kill`].
    /// Returns how many there were, and how many are left.
    pub(crate) fn end(&self, timeouts: Timeouts) -> (usize, usize) {
        let found = self.ask(None);
        if found == 0 {
            return (0, 0);
        }
        let deadline = Instant::now() + timeouts.grace.min(GRACE);
        while self.each(|_| ()) > 0 {
            if Instant::now() >= deadline {
                return (found, self.kill(timeouts.abandon));
            }
            std::thread::sleep(LOOK);
        }
        (found, 0)
    }

    /// The number of processes that carry the mark.
    pub(crate) fn count(&self) -> usize {
        self.each(|_| ())
    }

    /// Stops every process that carries the mark, then kills them all, until none is left or the
    /// time is over. Returns how many are left.
    pub(crate) fn kill(&self, limit: Duration) -> usize {
        let deadline = Instant::now() + limit;
        loop {
            for _ in 0..ROUNDS {
                let mut running = 0;
                self.each(|found| {
                    if !found.stat.is_stopped() {
                        running += 1;
                        deliver(found, Signal::SIGSTOP);
                    }
                });
                if running == 0 || Instant::now() >= deadline {
                    break;
                }
            }
            let left = self.each(|found| deliver(found, Signal::SIGKILL));
            if left == 0 || Instant::now() >= deadline {
                return left;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Acts on each process that carries the mark at once, the youngest first: one that forks and
    /// exits would be gone by the end of the list. Returns the number of processes.
    fn each(&self, mut act: impl FnMut(&MarkedProcess)) -> usize {
        let (own, own_group, uid) = (getpid().as_raw(), getpgrp().as_raw(), getuid().as_raw());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut pids: Vec<i32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable_by(|a, b| b.cmp(a));
        let mut count = 0;
        for pid in pids.into_iter().filter(|pid| *pid != own) {
            if !fs::metadata(format!("/proc/{pid}")).is_ok_and(|meta| meta.uid() == uid) || !self.marks(pid) {
                continue;
            }
            let Some(stat) = stat(pid).filter(|stat| !stat.has_ended() && stat.group != own_group) else {
                continue;
            };
            let whole_group = stat.group > 1 && (stat.group == pid || self.owns_group(stat.group));
            act(&MarkedProcess { pid, whole_group, stat });
            count += 1;
        }
        count
    }

    fn marks(&self, pid: i32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let spares = |variable: &[u8]| self.spared.as_ref().is_some_and(|name| variable.starts_with(name));
        let has = |variable: &[u8]| match self.part {
            true => variable.windows(self.variable.len().max(1)).any(|part| part == self.variable),
            false => variable == self.variable,
        };
        variables.clone().any(has) && !variables.any(spares)
    }

    /// Whether all of a process group belongs to the job: its leader does, or has ended and left
    /// the group to its children.
    fn owns_group(&self, group: i32) -> bool {
        stat(group).is_none_or(|leader| leader.has_ended()) || self.marks(group)
    }
}

/// A process that carries the mark.
struct MarkedProcess {
    pid: i32,
    /// Whether its group can be signalled as a whole, which no fork in it escapes (kill(2)).
    whole_group: bool,
    stat: Stat,
}

fn deliver(found: &MarkedProcess, signal: Signal) {
    // ESRCH: it has ended. EPERM: a program with other ids, which the user could not signal either.
    let _ = match found.whole_group {
        true => killpg(Pid::from_raw(found.stat.group), signal),
        false => kill(Pid::from_raw(found.pid), signal),
    };
}
