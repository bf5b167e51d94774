//! The limits of a job, as its record keeps them for the later stages.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a job may use at most. What is not said is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory.
    pub swap: Option<u64>,
    /// Thousandths of a processor.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of the disks' time, 1 to 1000; 100 is what everybody has.
    pub io_weight: Option<u64>,
}

/// Limits of each process (setrlimit(2)), soft and hard alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimits {
    /// `RLIMIT_NOFILE`: descriptors.
    pub nofile: Option<u64>,
    /// `RLIMIT_NPROC`: processes and threads of the account.
    pub nproc: Option<u64>,
    /// `RLIMIT_FSIZE`: bytes of a file.
    pub fsize: Option<u64>,
    /// `RLIMIT_CORE`: bytes of a core dump.
    pub core: Option<u64>,
}

/// The limits that a job was admitted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobLimits {
    /// The site's name of them.
    pub name: String,
    /// What was given, the user's wishes included.
    pub amounts: Amounts,
    /// Limits of each process.
    pub rlimits: Rlimits,
    /// The job's control group; none where the site lets jobs run without and it could not be made.
    pub group: Option<GroupPlace>,
}

/// A control group of `nunbird-auth`'s making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupPlace {
    /// Whether it is of version 2.
    pub unified: bool,
    /// Its directories by controller; version 2 has one, of the empty name.
    pub directories: BTreeMap<String, PathBuf>,
}
