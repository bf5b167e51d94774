//! Jacamar CI's configuration as Nunbird's own. `nunbird_policy` reads it; here is how it is written as Nunbird's own.

mod keys;
mod migrate;

pub use keys::{JACAMAR_KEYS, KeyEffect};
pub use migrate::{Migration, ServerOptions, keys_without_effect, migrate};
