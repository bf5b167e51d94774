//! One control group for each CI job: made, limited, read back, entered, emptied and removed.
//!
//! Called by `nunbird-limits` with the ids of the groups' owner: root's, or the runner's account where systemd delegated a group of
//! version 2 to it, or where Nunbird has no privilege. No capability is needed, but for [`JobGroup::kill`] on kernels that do not do that
//! themselves: the groups are made below the one that the runner's service lives in, or by systemd ([`JobGroup::make_slice`]).
//! Every directory is walked without following a link, must be its owner's, and must lie on a cgroup file system. Names are
//! made of numbers. A limit is in force when the kernel shows it: each is read back and compared.
//!
//! Sources: `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/` of the kernel, systemd's `CGROUP_DELEGATION.md`.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod amounts;
mod disk;
mod files;
mod folder;
mod job;
mod kept;
mod leaf;
mod place;
mod slice;
mod stray;
pub mod systemd;
mod trouble;
mod usage;

pub use amounts::{Amounts, DiskAmounts, Way};
pub use disk::{disk_of, disks_of};
pub use folder::Folder;
pub use job::{JobGroup, name_of, names_by_decision};
pub use kept::Kept;
pub use leaf::{make_room, parent_of};
pub use place::{Hierarchy, Place};
pub use slice::Units;
pub use stray::{Parent, Stray, below};
pub use trouble::Trouble;
pub use usage::Gauges;
