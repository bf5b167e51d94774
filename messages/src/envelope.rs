//! What the launcher gets behind [`crate::HANDOVER_FD`], and `nunbird --sudo` before it.

use crate::Isolation;
use nunbird_wire::Version;
use nunbird_wire::{Message, layout};

/// One stage for the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// Of this layout.
    pub version: Version,
    /// The decider's message, which only the launcher reads: JSON of `nunbird_handover::Handover`.
    pub message: Vec<u8>,
    /// What the PAM session around the stage adds, where there is one.
    pub session: Option<SessionAdditions>,
}

layout!(Envelope { version, message, session });

/// What a PAM session adds to a stage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionAdditions {
    /// The umask for scripts.
    pub umask: u32,
    /// Names and values of environment variables that the modules have set and the site lets pass.
    pub variables: Vec<(String, String)>,
}

layout!(SessionAdditions { umask, variables });

impl Envelope {
    /// The message without additions, as bytes.
    pub fn plain(message: Vec<u8>) -> Vec<u8> {
        Envelope { version: Version, message, session: None }.to_bytes()
    }
}

/// Begins the message to `nunbird --sudo`: an order, and a script and an exit-code file as these bits say.
pub const SUDO_SCRIPT: u8 = 1;
/// See [`SUDO_SCRIPT`].
pub const SUDO_EXIT_CODE: u8 = 2;

/// What passes from `nunbird-auth` to `nunbird --sudo`, with the stage's files, through the socket that is its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SudoOrder {
    /// Of this layout.
    pub version: Version,
    /// [`Envelope::message`].
    pub message: Vec<u8>,
    /// What the site takes away.
    pub isolation: Isolation,
}

layout!(SudoOrder { version, message, isolation });
