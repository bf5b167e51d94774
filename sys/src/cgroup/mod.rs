//! One control group for each CI job: made, limited, read back, entered, emptied and removed.
//!
//! Called by `nunbird-auth` before it gives privilege up, under the filesystem ids of the groups' owner: root's, or the runner's
//! account where systemd delegated a group of version 2 to it or nobody has privilege. No capability is needed: the groups are made below the one that the runner's service lives in,
//! or by systemd ([`JobGroup::make_slice`]).
//! Every directory is walked without following a link, must be its owner's, and must lie on a cgroup file system. Names are
//! made of numbers. A limit is in force when the kernel says so: each is read back and compared.
//!
//! Sources: `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/` of the kernel, systemd's `CGROUP_DELEGATION.md`.

mod disk;
mod files;
mod folder;
mod job;
mod leaf;
mod place;
mod slice;
mod stray;
mod usage;

pub use disk::{disk_of, disks_of};
pub use folder::Folder;
pub use job::{Entrance, JobGroup, name_of, names_by_decision, number_of};
pub use leaf::{make_room, parent_of};
pub use place::{Hierarchy, Place};
pub use slice::{Door, Units};
pub use stray::{Parent, Stray, below};
pub use usage::{Gauge, Usage};

use std::io;
use std::path::PathBuf;

/// Which version of control groups a job's group is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The unified hierarchy (version 2).
    Unified,
    /// One hierarchy for each controller (version 1).
    Separate,
}

/// What a job may use at most. What is not said is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory.
    pub swap: Option<u64>,
    /// Thousandths of one processor.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The share of the disks' time, 1 to 1000; 100 is what everybody has.
    pub io_weight: Option<u64>,
    /// Bandwidth and operations of disks.
    pub disks: Vec<DiskAmounts>,
}

/// The most that a job may read from and write to one disk. What is not said is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskAmounts {
    /// The disk's major and minor number; the kernel takes no partition.
    pub number: (u32, u32),
    /// Bytes a second.
    pub read: Option<u64>,
    /// Bytes a second.
    pub write: Option<u64>,
    /// Operations a second.
    pub read_ops: Option<u64>,
    /// Operations a second.
    pub write_ops: Option<u64>,
}

impl Amounts {
    /// The kernel's names of the controllers that these limits need.
    pub fn controllers(&self, way: Way) -> Vec<&'static str> {
        let io = if way == Way::Unified { "io" } else { "blkio" };
        let wanted = [
            ("memory", self.memory.is_some() || self.swap.is_some()),
            ("cpu", self.cpu.is_some()),
            ("pids", self.pids.is_some()),
            (io, self.io_weight.is_some() || !self.disks.is_empty()),
        ];
        wanted.into_iter().filter_map(|(name, needed)| needed.then_some(name)).collect()
    }
}

/// Why a group could not do what was asked.
#[derive(Debug)]
pub enum Trouble {
    /// These controllers are not there, or not delegated to the runner's service.
    Missing(Vec<&'static str>),
    /// This group is root's, and systemd has not delegated it.
    NotDelegated(PathBuf),
    /// A file or directory of the group: which, and what was done with it.
    File(PathBuf, &'static str, io::Error),
    /// The kernel says something else than what was written: the file, what was wanted, what was read.
    NotInForce(PathBuf, String, String),
    /// So many processes were still in the group when time was up.
    StillAlive(PathBuf, usize),
    /// This path leads to no disk: why not.
    NoDisk(PathBuf, String),
    /// These two paths lead to one disk, of this major and minor number, and the kernel keeps one limit for each.
    SameDisk(PathBuf, PathBuf, (u32, u32)),
    /// Where this process lives cannot be made out.
    Unplaced(String),
    /// What was asked for is not to be had in this way: in words.
    Unfit(&'static str),
    /// systemd, which makes the group.
    Systemd(crate::systemd::Trouble),
}

impl From<crate::systemd::Trouble> for Trouble {
    fn from(trouble: crate::systemd::Trouble) -> Self {
        Trouble::Systemd(trouble)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Missing(names) => {
                write!(f, "the cgroup controllers {} are not available here", names.join(", "))
            }
            Trouble::NotDelegated(path) => {
                let unit = path.file_name().unwrap_or(path.as_os_str()).display();
                write!(
                    f,
                    "{}: the group is root's and not delegated by systemd, so nothing is made below it: have the calls come \
                     from gitlab-runner's own service with Delegate=yes (the caller is in `{unit}`), or set way = \"scope\"",
                    path.display()
                )
            }
            Trouble::File(path, what, e) => write!(f, "{}: {what}: {e}", path.display()),
            Trouble::NotInForce(path, wanted, found) => {
                write!(f, "{}: {wanted} was written and {found} is in force", path.display())
            }
            Trouble::StillAlive(path, count) => {
                write!(f, "{}: {count} processes did not end in time", path.display())
            }
            Trouble::NoDisk(path, why) => write!(f, "io_max: {}: {why}", path.display()),
            Trouble::SameDisk(one, other, (major, minor)) => {
                let (one, other) = (one.display(), other.display());
                write!(
                    f,
                    "io_max: {one} and {other} are on the same disk, {major}:{minor}: join the two limits"
                )
            }
            Trouble::Unplaced(why) => write!(f, "the control group of this process: {why}"),
            Trouble::Unfit(why) => write!(f, "{why}"),
            Trouble::Systemd(trouble) => write!(f, "{trouble}"),
        }
    }
}

impl std::error::Error for Trouble {}
