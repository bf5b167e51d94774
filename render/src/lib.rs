//! A policy as the text of a configuration, for `nunbirdctl show` and `migrate`.
//!
//! Only `nunbirdctl` and tests use it: no program with privilege writes a configuration. Pure, as the policy itself.

#![forbid(unsafe_code)]

mod jacamar;
mod manual;
mod policy_text;
mod reference;
mod writer;

pub use jacamar::{JACAMAR_KEYS, KeyEffect, Migration, ServerOptions, keys_without_effect, migrate};
pub use manual::configuration_manual;
pub use policy_text::{limits_to_toml, to_toml};
pub use reference::{Entry, reference_entries};
