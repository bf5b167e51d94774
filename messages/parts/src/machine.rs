//! What passes between `nunbird-auth` and `nunbird-machine`, which starts and ends a booted machine of the job's own.

use crate::MachineAccount;
use nunbird_wire::{choice, layout};

/// The machine of a job, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineOrder {
    /// Seconds until it has to be ready.
    pub ready: u64,
    /// What else it is to be, for `nunbird-machine` alone, which judges it (`nunbird_order::Machine`).
    pub bytes: Vec<u8>,
}

layout!(MachineOrder { ready, bytes });

/// A request to `nunbird-machine`. The text is the id of the job's decision, 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineRequest {
    /// Starts the job's machine, unless it has been started before.
    Start(String, MachineOrder, MachineAccount),
    /// Ends it, and removes everything that was made for it.
    End(String),
}

choice!(MachineRequest { 1 => Start(decision, order, account), 2 => End(decision) });

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
