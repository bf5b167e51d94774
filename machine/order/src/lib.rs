//! A booted machine of a job's own, as `nunbird-decide` orders it and `nunbird-machine` starts it. `nunbird-auth` passes the bytes on unread
//! (`nunbird_parts::MachineOrder`) and does not link this.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use nunbird_wire::layout;
use std::path::PathBuf;

/// The machine of a job, as the decider wants it. Every path in it is opened as the job's user, and the tree by its name below root's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The name of its tree.
    pub tree: String,
    /// The version of it; the present one where there is none.
    pub version: Option<String>,
    /// The job's control directory: the same path inside and outside.
    pub directory: PathBuf,
    /// What of the host's files is inside.
    pub binds: Vec<MachineBind>,
    /// Whether the network is the host's; else there is a loopback alone.
    pub host_network: bool,
    /// Whether scripts run as the machine's root, to whom the user's files then belong.
    pub root: bool,
    /// The most that may be written to the machine's own files, in bytes.
    pub layer: u64,
    /// Whether the account can run containers in it.
    pub nested: bool,
    /// Whether nothing that is written is waited for.
    pub suppress_sync: bool,
}

layout!(Machine { tree, version, directory, binds, host_network, root, layer, nested, suppress_sync });

/// A file or directory of the host in a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineBind {
    /// On the host.
    pub source: PathBuf,
    /// In the machine.
    pub target: PathBuf,
    /// Whether the machine may write there.
    pub writable: bool,
    /// Whether a missing source is passed over.
    pub optional: bool,
}

layout!(MachineBind { source, target, writable, optional });
