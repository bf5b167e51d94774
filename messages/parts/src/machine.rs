//! A booted machine of a job's own, and what passes between `nunbird-auth` and `nunbird-machine`, which starts and ends it.

use crate::AccountIds;
use nunbird_wire::{choice, layout};
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
    /// Seconds until it has to be ready.
    pub ready: u64,
    /// Whether the account can run containers in it.
    pub nested: bool,
    /// Whether nothing that is written is waited for.
    pub suppress_sync: bool,
}

layout!(Machine { tree, version, directory, binds, host_network, root, layer, ready, nested, suppress_sync });

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

/// The account of a job, as `nunbird-auth` has looked it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineAccount {
    /// Name and numbers.
    pub ids: AccountIds,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// Its home directory.
    pub home: PathBuf,
}

layout!(MachineAccount { ids, groups, home });

/// A request to `nunbird-machine`. The text is the id of the job's decision, 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineRequest {
    /// Starts the job's machine, unless it has been started before.
    Start(String, Machine, MachineAccount),
    /// Ends it, and removes everything that was made for it.
    End(String),
}

choice!(MachineRequest { 1 => Start(decision, machine, account), 2 => End(decision) });

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineAnswer {
    /// It runs: what to write into the job log.
    Started(String),
    /// It was started before, or there is nothing to end any more.
    Done,
    /// Why not, for the admin, and the last lines of its console, which its tree has written.
    Trouble(String, String),
}

choice!(MachineAnswer { 1 => Started(note), 2 => Done, 3 => Trouble(why, console) });

/// The longest request, in bytes.
pub const MAX_MACHINE_REQUEST: usize = 256 << 10;
/// The longest answer, in bytes.
pub const MAX_MACHINE_ANSWER: usize = 64 << 10;
