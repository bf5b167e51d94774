//! What every step of one call needs to know.

use crate::audit::{Script, Sinks};
use crate::inputs::Inputs;
use crate::privilege::Privilege;
use nunbird_handover::Record;
use nunbird_sys::rlimits::Limits;

/// One call of the program.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// `config`, `prepare`, `run` or `cleanup`.
    pub(crate) stage: &'static str,
    pub(crate) inputs: &'a Inputs,
    pub(crate) privilege: Privilege,
    /// The caller's resource limits, for the job.
    pub(crate) limits: &'a Limits,
    /// `-u`: the whole truth about an error goes to the job log.
    pub(crate) unobfuscated: bool,
    /// Of this decision, or from the record of the one that admitted the job.
    pub(crate) decision_id: String,
    /// What `config` decided about the job, once it is found or made.
    pub(crate) record: Option<Record>,
    /// The script that `run` was given.
    pub(crate) script: Option<Script>,
    /// Where events of a job that has a record are written, once it is found.
    pub(crate) sinks: Sinks,
    /// What the job has used, once it is over.
    pub(crate) usage: Option<nunbird_groups::Usage>,
}
