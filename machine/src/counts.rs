//! What the kernel counts per user, outside of control groups: inotify, fanotify and namespaces (`/proc/sys/user`, namespaces(7)), pending
//! signals and bytes of POSIX message queues (getrlimit(2)).
//!
//! What a process of a machine takes of these counts for its own user in the machine's user namespace, and for the host's root beside that,
//! who has made the namespace. A namespace has no bounds of its own at first: one user of a machine could take all that the host's root has.
//! So each of its users gets a share here, before a job's first stage. Nobody in a machine can raise it: that takes `CAP_SYS_RESOURCE`, which
//! no process there has.
//!
//! Signals and queues have a bound of the whole namespace, since Linux 5.14: the soft limits of who makes it. The kernel compares it with the
//! sum of the host's root and all machines, so that it is no machine's share, but what is left to the host.

use crate::Trouble;
use crate::places::MOUNTS;
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nunbird_mounts::Leader;
use nunbird_sys::fork::{Child, Ended, fork_into};
use nunbird_sys::{process, signals};
use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The bounds of the user namespace of the process that reads them.
const BOUNDS: &str = "/proc/sys/user";
/// The same below the machine's file systems: a host that is a container has its own read-only.
const WRITABLE: &str = "proc/sys/user";
/// A machine whose users have fewer instances of inotify(7) may fail to boot.
const INSTANCES: (&str, u64) = ("max_inotify_instances", 32);
/// A user in a machine can have so many signals pending, however many machines there may be.
const SIGNALS: u64 = 64;
/// The longest report of what could not be written.
const LONGEST: u64 = 1024;

/// The share of each user in a machine: a bound's name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Names and values of `/proc/sys/user`.
    bounds: Vec<(String, u64)>,
    /// Pending signals.
    pub(crate) signals: u64,
}

impl Shares {
    /// Of half of what each user of the host may have, for so many machines at a time. The other half is the host's.
    pub(crate) fn of_host(machines: u32) -> Result<Self, Trouble> {
        let step = Trouble::of(BOUNDS);
        let mut bounds = Vec::new();
        for entry in fs::read_dir(BOUNDS).map_err(&step)? {
            let entry = entry.map_err(&step)?;
            let text = fs::read_to_string(entry.path()).map_err(&step)?;
            let value = text.trim().parse().map_err(|e| step(io::Error::other(e)))?;
            bounds.push((entry.file_name().to_string_lossy().into_owned(), value));
        }
        let (_, signals) = getrlimit(Resource::RLIMIT_SIGPENDING).map_err(|e| step(e.into()))?;
        Self::of(bounds, signals, machines).map_err(Trouble::new)
    }

    fn of(bounds: Vec<(String, u64)>, signals: u64, machines: u32) -> Result<Self, String> {
        let parts = 2 * u64::from(machines).max(1);
        let (instances, least) = INSTANCES;
        let known = bounds.iter().find(|(name, _)| name == instances).map_or(0, |(_, value)| *value);
        if known / parts < least {
            return Err(format!(
                "fs.inotify.max_user_instances of this host is {known}, and {machines} machines at a time need {}: write a larger number into \
                 a file in /etc/sysctl.d, or a smaller COUNT into {}",
                parts * least,
                crate::places::IDS
            ));
        }
        Ok(Shares {
            bounds: bounds.into_iter().map(|(name, value)| (name, (value / parts).max(1))).collect(),
            signals: (signals / parts).max(SIGNALS),
        })
    }

    /// Writes the shares as the bounds of the user namespace that this process is in, and reads them back.
    fn write(&self) -> io::Result<()> {
        for (name, value) in &self.bounds {
            let path = Path::new(MOUNTS).join(WRITABLE).join(name);
            fs::write(&path, value.to_string())?;
            if fs::read_to_string(&path)?.trim() != value.to_string() {
                return Err(io::Error::other(format!("{name} is not {value} after it was written")));
            }
        }
        Ok(())
    }
}

/// Bounds the user namespace that this process is about to make, and itself, to half of the host's pending signals and bytes in POSIX
/// message queues.
pub(crate) fn leave_half_to_the_host() -> io::Result<()> {
    for resource in [Resource::RLIMIT_SIGPENDING, Resource::RLIMIT_MSGQUEUE] {
        let (_, hard) = getrlimit(resource)?;
        setrlimit(resource, hard / 2, hard / 2)?;
    }
    Ok(())
}

/// The process that enters a machine's user namespace to set its bounds. It is made while its parent has one thread, and waits.
#[derive(Debug)]
pub(crate) struct Setter {
    child: Child,
    leader: PipeWriter,
    report: PipeReader,
}

impl Setter {
    pub(crate) fn fork(shares: &Shares) -> io::Result<Self> {
        let ((mut orders, leader), (report, mut reporter)) = (io::pipe()?, io::pipe()?);
        let parent = process::id();
        let mut ends = Some((leader, report));
        let child = fork_into(|| {
            drop(ends.take());
            let set = process::die_with_parent(signals::KILL, parent)
                .and_then(|()| set(shares, parent, &mut orders));
            match set {
                Ok(()) => 0,
                Err(e) => {
                    let _unheard = reporter.write_all(e.to_string().as_bytes());
                    1
                }
            }
        })?;
        let (leader, report) = ends.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Setter { child, leader, report })
    }

    /// Sets the bounds of the namespace of a machine's first process.
    pub(crate) fn set(mut self, leader: &Leader) -> Result<(), Trouble> {
        let step = Trouble::of("the bounds of the machine's user namespace");
        self.leader.write_all(&leader.number().to_ne_bytes()).map_err(&step)?;
        drop(self.leader);
        let ended = self.child.wait().map_err(&step)?;
        if ended == Ended::Exited(0) {
            return Ok(());
        }
        let mut why = String::new();
        self.report.take(LONGEST).read_to_string(&mut why).map_err(&step)?;
        // It has not said why where the kernel has ended it for lack of memory.
        Err(step(io::Error::other(if why.is_empty() { format!("{ended:?}") } else { why })))
    }
}

/// In the child: it has every capability in the namespace, and is in no other of the machine's.
fn set(shares: &Shares, parent: i32, orders: &mut PipeReader) -> io::Result<()> {
    let mut leader = [0; 4];
    orders.read_exact(&mut leader)?;
    let own = fs::metadata("/proc/self/ns/user")?;
    let users = File::open(format!("/proc/{parent}/fd/{}/ns/user", i32::from_ne_bytes(leader)))?;
    let theirs = users.metadata()?;
    if (own.dev(), own.ino()) == (theirs.dev(), theirs.ino()) {
        // To bound the host's own is not meant.
        return Err(io::Error::other("the machine has no user namespace of its own"));
    }
    setns(&users, CloneFlags::CLONE_NEWUSER)?;
    shares.write()
}

#[cfg(test)]
mod tests {
    use super::Shares;

    fn bounds(instances: u64) -> Vec<(String, u64)> {
        [("max_inotify_instances", instances), ("max_net_namespaces", 1000), ("max_fanotify_groups", 3)]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    }

    #[test]
    fn a_machine_has_its_part_of_half_of_the_hosts_and_needs_as_many_instances_as_it_takes_to_boot() {
        let shares = Shares::of(bounds(128), 1000, 2).unwrap();
        assert_eq!(shares.bounds.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [32, 250, 1]);
        assert_eq!(shares.signals, 250);
        let why = Shares::of(bounds(128), 1000, 3).unwrap_err();
        assert!(why.contains("is 128, and 3 machines at a time need 192"), "{why}");
        assert_eq!(Shares::of(bounds(4096), 1000, 64).unwrap().signals, 64);
        Shares::of(bounds(4095), 1000, 64).unwrap_err();
        Shares::of(Vec::new(), 1000, 1).unwrap_err();
    }
}
