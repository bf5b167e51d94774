//! What passes from `nunbird-auth` to `nunbird --sudo`, with the stage's files, through the socket that is its standard input.

use crate::{FORMAT_VERSION, FormatError, Handover, Isolation};
use serde::{Deserialize, Serialize};

/// Begins the message: an order, and a script and an exit-code file as these bits say.
pub const SUDO_SCRIPT: u8 = 1;
/// See [`SUDO_SCRIPT`].
pub const SUDO_EXIT_CODE: u8 = 2;

/// Everything that the relay needs for one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SudoOrder {
    /// Always [`FORMAT_VERSION`].
    pub version: u32,
    /// The launcher's message.
    pub handover: Handover,
    /// What the site takes away.
    pub isolation: Isolation,
}

impl SudoOrder {
    /// The order as JSON bytes.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        serde_json::to_vec(self).map_err(FormatError::Malformed)
    }

    /// Reads what [`SudoOrder::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else, or come from another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let order: SudoOrder = serde_json::from_slice(bytes).map_err(FormatError::Malformed)?;
        match (order.version, order.handover.version) {
            (FORMAT_VERSION, FORMAT_VERSION) => Ok(order),
            (FORMAT_VERSION, other) | (other, _) => Err(FormatError::Version(other)),
        }
    }
}
