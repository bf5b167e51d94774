//! What the privileged programs write and read: the job record, claims on slots, and orders to `nunbird-session` and `nunbird --sudo`.
//!
//! Every message has a fixed layout (crate `wire`), so that no program with privilege parses JSON. The parts that only unprivileged programs
//! read are bytes here: [`Record::body`] is the decider's, [`Envelope::message`] is the launcher's. A field too many, a field too few or
//! another [`FORMAT_VERSION`] is an error: a half-upgraded installation refuses.
//!
//! Nothing here is secret. A token or a job variable must never become a field of these types.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod claim;
mod code;
mod envelope;
mod exit_codes;
mod fds;

mod isolation;
mod limits;
mod pam;
mod record;
mod refused;
mod runner;
mod session;
mod untrusted;

pub use claim::Claim;
pub use code::Code;
pub use envelope::{Envelope, SUDO_EXIT_CODE, SUDO_SCRIPT, SessionAdditions, SudoOrder};
pub use exit_codes::ExitCodes;
pub use fds::{
    CONTROL_FD, EXIT_CODE_FD, HANDOVER_FD, LAUNCHER_FD, REPORT_FD, SCRIPT_FD, SUMMARY_FD, SUMMARY_SIZE,
};
pub use isolation::Isolation;
pub use limits::ProcessLimits;
pub use nunbird_group::Group;
pub use nunbird_parts::{
    AccountIds, MAX_MACHINE_ANSWER, MAX_MACHINE_REQUEST, MachineAccount, MachineAnswer, MachineOrder,
    MachineRequest,
};
pub use nunbird_wire::{FORMAT_VERSION, FormatError, Version};
pub use pam::{Pam, SessionSpan};
pub use record::{JobDirectory, Now, Record};
pub use refused::RefusedBy;
pub use runner::{Runner, RunnerProcess};
pub use session::{Keep, SessionOrder};
pub use untrusted::Untrusted;
