//! What a site says about PAM sessions: `[pam]`.

use nunbird_wire::{choice, layout};

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pam {
    /// Name of the file in `/etc/pam.d`.
    pub service: String,
    /// Seconds that the modules may take to open the session, and again to close it.
    pub timeout: u64,
    /// Variables of PAM's environment that a job gets; a name that ends in `*` stands for all that begin so.
    pub environment: Vec<String>,
    /// How long one session lasts.
    pub session: SessionSpan,
}

layout!(Pam { service, timeout, environment, session });

/// What has a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionSpan {
    /// Each stage.
    #[default]
    Stage,
    /// The job: opened by `prepare`, closed by `cleanup`.
    Job,
}

choice!(SessionSpan { 0 => Stage, 1 => Job });
