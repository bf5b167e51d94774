//! Limits of each process (setrlimit(2)): those of the caller, those of the program, those of the job.
//!
//! Called by `nunbird-auth` and `nunbird-session` with privilege, and by the launcher for the stack. The privileged programs keep
//! no `CAP_SYS_RESOURCE`: nothing goes above the hard limit that the runner has.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// The value that means no limit.
pub const UNLIMITED: u64 = RLIM_INFINITY;
/// Between the soft limit of processor time, which a process can catch (`XCPU`), and the hard one, in seconds.
const LAST_WORDS: u64 = 5;

/// Resource limits as the caller had them, to be given to the job: resource, soft, hard.
#[derive(Debug, Clone)]
pub struct Limits(pub Vec<(Resource, u64, u64)>);

/// The limits that could make a privileged write fail or end the program half-way (sudo's `unlimit_sudo`), and the least
/// that is accepted where one cannot be raised, in bytes and in descriptors.
///
/// With less memory lookups could fail in part: glibc takes a name service whose library finds no room for one that knows
/// nobody, and a site's program may take a helper that did not start for a denial.
const RAISED: [(Resource, u64); 6] = [
    (Resource::RLIMIT_AS, 512 << 20),
    (Resource::RLIMIT_CPU, 0),
    (Resource::RLIMIT_DATA, 512 << 20),
    (Resource::RLIMIT_FSIZE, 0),
    (Resource::RLIMIT_NOFILE, 256),
    (Resource::RLIMIT_STACK, 1 << 20),
];

/// Whether [`raise_limits`] has been called in this process.
static HAS_RAISED: AtomicBool = AtomicBool::new(false);

/// Raises the limits in the way as far as allowed, and forbids core dumps.
///
/// # Errors
/// When a limit cannot be read, or cannot be raised to the least that is accepted. Where nothing is asked of one, what fails
/// by it fails closed.
pub fn raise_limits() -> io::Result<Limits> {
    let mut before = Vec::new();
    for (resource, least) in RAISED {
        let (soft, hard) = getrlimit(resource)?;
        before.push((resource, soft, hard));
        if setrlimit(resource, RLIM_INFINITY, RLIM_INFINITY).is_err() {
            setrlimit(resource, hard, hard)?;
            if hard < least {
                let trouble = format!("the hard {resource:?} is {hard}; give the runner {least} at least");
                return Err(io::Error::other(trouble));
            }
        }
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    before.push((Resource::RLIMIT_CORE, soft, hard));
    setrlimit(Resource::RLIMIT_CORE, 0, hard)?;
    HAS_RAISED.store(true, Ordering::Relaxed);
    Ok(Limits(before))
}

/// Makes sure that what [`raise_limits`] has raised is still raised.
///
/// prlimit(2) lets a process with the same ids lower the limits of one that runs, and a lookup that finds no descriptor can
/// look like one that found nothing (getgrouplist(3)). A process that has raised nothing needs no limit.
///
/// # Errors
/// As getrlimit(2), and when a limit is lower than it was left.
pub fn check_raised() -> io::Result<()> {
    if !HAS_RAISED.load(Ordering::Relaxed) {
        return Ok(());
    }
    for (resource, least) in RAISED {
        let (soft, hard) = getrlimit(resource)?;
        if soft != hard || hard < least {
            return Err(io::Error::other(format!(
                "somebody has lowered {resource:?} of this process to {soft}"
            )));
        }
    }
    Ok(())
}

/// Makes sure that files of this size can be written, in bytes.
///
/// # Errors
/// As getrlimit(2), and when the limit is lower.
pub fn check_file_size(least: u64) -> io::Result<()> {
    match getrlimit(Resource::RLIMIT_FSIZE)? {
        (soft, _) if soft >= least => Ok(()),
        (soft, _) => Err(io::Error::other(format!(
            "the hard RLIMIT_FSIZE is {soft}; give the runner {least} at least"
        ))),
    }
}

/// Limits that a site sets for the processes of its jobs, soft and hard alike but for the stack; what is not said is the
/// caller's. [`UNLIMITED`] is none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Descriptors.
    pub nofile: Option<u64>,
    /// Processes and threads of the user.
    pub nproc: Option<u64>,
    /// Bytes of a file.
    pub fsize: Option<u64>,
    /// Bytes of a core dump.
    pub core: Option<u64>,
    /// Bytes of the stack, soft; [`UNLIMITED`] is as much as the hard one.
    pub stack: Option<u64>,
    /// Bytes of the stack, hard.
    pub stack_hard: Option<u64>,
    /// Bytes that cannot be swapped out.
    pub memlock: Option<u64>,
    /// Bytes of address space.
    pub address_space: Option<u64>,
    /// Seconds of processor time; the hard one is a few more.
    pub cpu_time: Option<u64>,
}

impl Limits {
    /// Puts them in force.
    ///
    /// # Errors
    /// As setrlimit(2).
    pub fn restore(&self) -> io::Result<()> {
        for (resource, soft, hard) in &self.0 {
            setrlimit(*resource, *soft, *hard)?;
        }
        Ok(())
    }

    /// These limits with a site's over them.
    ///
    /// # Errors
    /// As getrlimit(2), and `EPERM` for one above what this process could set.
    pub fn bounded(&self, bounds: Bounds) -> io::Result<Limits> {
        let alike = [
            (Resource::RLIMIT_NOFILE, bounds.nofile),
            (Resource::RLIMIT_NPROC, bounds.nproc),
            (Resource::RLIMIT_FSIZE, bounds.fsize),
            (Resource::RLIMIT_CORE, bounds.core),
            (Resource::RLIMIT_MEMLOCK, bounds.memlock),
            (Resource::RLIMIT_AS, bounds.address_space),
        ];
        let mut limits = self.clone();
        for (resource, value) in alike {
            if let Some(value) = value {
                let value = within(resource, value)?;
                limits.set(resource, value, value);
            }
        }
        if let Some(seconds) = bounds.cpu_time {
            let (_, most) = getrlimit(Resource::RLIMIT_CPU)?;
            let soft = within(Resource::RLIMIT_CPU, seconds)?;
            limits.set(Resource::RLIMIT_CPU, soft, soft.saturating_add(LAST_WORDS).min(most));
        }
        if bounds.stack.is_some() || bounds.stack_hard.is_some() {
            let (soft, hard) = limits.stack(bounds)?;
            limits.set(Resource::RLIMIT_STACK, soft, hard);
        }
        Ok(limits)
    }

    fn stack(&self, bounds: Bounds) -> io::Result<(u64, u64)> {
        let resource = Resource::RLIMIT_STACK;
        let known =
            self.0.iter().find(|(known, ..)| *known == resource).map(|(_, soft, hard)| (*soft, *hard));
        let (soft, hard) = known.map_or_else(|| getrlimit(resource), Ok)?;
        let hard = bounds.stack_hard.map_or(Ok(hard), |hard| within(resource, hard))?;
        match bounds.stack {
            Some(UNLIMITED) => Ok((hard, hard)),
            Some(soft) if soft > hard => Err(too_much(resource, soft, hard)),
            Some(soft) => Ok((soft, hard)),
            None => Ok((soft.min(hard), hard)),
        }
    }

    fn set(&mut self, resource: Resource, soft: u64, hard: u64) {
        self.0.retain(|(known, ..)| *known != resource);
        self.0.push((resource, soft, hard));
    }
}

fn within(resource: Resource, value: u64) -> io::Result<u64> {
    let (_, hard) = getrlimit(resource)?;
    if value > hard { Err(too_much(resource, value, hard)) } else { Ok(value) }
}

fn too_much(resource: Resource, value: u64, hard: u64) -> io::Error {
    let text = |value: u64| if value == UNLIMITED { "unlimited".to_owned() } else { value.to_string() };
    let (value, hard) = (text(value), text(hard));
    let trouble = format!("{resource:?} cannot be {value}: the hard limit of gitlab-runner is {hard}");
    io::Error::new(io::ErrorKind::PermissionDenied, trouble)
}

#[cfg(test)]
mod tests {
    use super::{Bounds, LAST_WORDS, Limits, Resource, UNLIMITED, getrlimit};

    fn of(limits: &Limits, resource: Resource) -> Vec<(u64, u64)> {
        limits
            .0
            .iter()
            .filter(|(known, ..)| *known == resource)
            .map(|(_, soft, hard)| (*soft, *hard))
            .collect()
    }

    #[test]
    fn a_site_sets_soft_and_hard_stack_apart_and_the_others_together() {
        let callers = Limits(vec![(Resource::RLIMIT_STACK, 8 << 20, 64 << 20)]);
        let stack = |stack, stack_hard| {
            let bounds = Bounds { stack, stack_hard, ..Bounds::default() };
            callers
                .bounded(bounds)
                .map(|limits| of(&limits, Resource::RLIMIT_STACK))
                .map_err(|e| e.to_string())
        };
        assert_eq!(stack(Some(16 << 20), None), Ok(vec![(16 << 20, 64 << 20)]));
        assert_eq!(stack(Some(UNLIMITED), None), Ok(vec![(64 << 20, 64 << 20)]), "as much as there is");
        assert_eq!(stack(None, Some(4 << 20)), Ok(vec![(4 << 20, 4 << 20)]));
        assert_eq!(stack(Some(1 << 20), Some(4 << 20)), Ok(vec![(1 << 20, 4 << 20)]));
        assert!(stack(Some(65 << 20), None).is_err_and(|e| e.contains("RLIMIT_STACK cannot be 68157440")));
        let bounds = Bounds { memlock: Some(4096), cpu_time: Some(60), ..Bounds::default() };
        let limits = callers.bounded(bounds).expect("limits");
        assert_eq!(of(&limits, Resource::RLIMIT_MEMLOCK), [(4096, 4096)]);
        assert_eq!(of(&limits, Resource::RLIMIT_CPU), [(60, 60 + LAST_WORDS)]);
        assert_eq!(of(&limits, Resource::RLIMIT_STACK), [(8 << 20, 64 << 20)], "the caller's");
    }

    #[test]
    fn a_limit_above_the_hard_one_is_reported_and_not_cut() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        let Some(more) = hard.checked_add(1) else {
            nunbird_skip::skip!("no hard limit of open files can be too low here");
        };
        let bounds = Bounds { nofile: Some(more), ..Bounds::default() };
        let refused = Limits(Vec::new()).bounded(bounds).expect_err("refused").to_string();
        assert!(
            refused.contains(&format!("cannot be {more}: the hard limit of gitlab-runner is {hard}")),
            "{refused}"
        );
    }
}
