//! The file that `nunbird-keys` writes and `nunbird-auth` verifies with: one for each GitLab server.
//!
//! It contains only public keys. `nunbird-auth` checks that root or the owner of the keys directory
//! owns it and that no other account can write it; its content is parsed in the sandboxed worker
//! nevertheless.

use serde::{Deserialize, Serialize};

/// The version of [`KeysFile`].
pub const KEYS_VERSION: u32 = 1;
/// A GitLab server publishes two or three keys; more than this is not a GitLab server.
pub const MAX_KEYS: usize = 16;

/// Signing keys of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysFile {
    /// Always [`KEYS_VERSION`].
    pub version: u32,
    /// The server's configured name.
    pub server: String,
    /// The `issuer` in the discovery document, or the configured one for pinned keys.
    pub issuer: String,
    /// Seconds since the epoch of the last successful fetch or pin.
    pub fetched_at: u64,
    /// At most [`MAX_KEYS`].
    pub keys: Vec<StoredKey>,
}

/// One public key (RFC 7517), reduced to what verification needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredKey {
    /// Key id as the server names it.
    pub kid: String,
    /// The key itself.
    pub material: KeyMaterial,
    /// Seconds since the epoch when the server last published it.
    pub last_seen: u64,
    /// Supplied by the admin (`nunbird-keys pin`): does not expire.
    pub pinned: bool,
}

/// A public key by its algorithm; the parts are base64url without padding (RFC 7518 §6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "alg", deny_unknown_fields)]
pub enum KeyMaterial {
    /// RSA, 2048 bits or more.
    #[serde(rename = "RS256")]
    Rs256 {
        /// Modulus.
        n: String,
        /// Exponent.
        e: String,
    },
    /// P-256.
    #[serde(rename = "ES256")]
    Es256 {
        /// Coordinate.
        x: String,
        /// Coordinate.
        y: String,
    },
    /// P-384.
    #[serde(rename = "ES384")]
    Es384 {
        /// Coordinate.
        x: String,
        /// Coordinate.
        y: String,
    },
}
