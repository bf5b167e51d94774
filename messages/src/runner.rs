//! Which processes of gitlab-runner a job belongs to.

use nunbird_wire::layout;

/// The runner's processes at admission: gitlab-runner, and what the site has put between it and `nunbird-auth`. Their numbers mean
/// something within one boot, which the record has, and in one pid namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// The inode number of the pid namespace.
    pub pid_namespace: u64,
    /// From the nearest to `nunbird-auth` on.
    pub processes: Vec<RunnerProcess>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerProcess {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot (proc_pid_stat(5)).
    pub start: u64,
}

layout!(Runner { pid_namespace, processes });
layout!(RunnerProcess { pid, start });
