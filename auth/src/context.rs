//! What every step of one call needs to know.

use crate::inputs::Inputs;
use crate::privilege::Privilege;
use nunbird_sys::rlimits::Limits;

/// One call of the program.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// `config`, `prepare`, `run`, `cleanup` or `tidy`.
    pub(crate) stage: &'static str,
    pub(crate) inputs: &'a Inputs,
    pub(crate) privilege: Privilege,
    /// The caller's resource limits, for the job.
    pub(crate) limits: &'a Limits,
    /// `-u`: the whole cause of an error goes to the job log.
    pub(crate) unobfuscated: bool,
    /// Whether this is `reap` or `end`, for which `stage` is `cleanup`.
    pub(crate) sweeps: bool,
    /// Of this decision, or from the record of the one that admitted the job.
    pub(crate) decision_id: String,
}
