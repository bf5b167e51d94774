//! Fetches the signing keys of the configured GitLab servers.
//!
//! Runs as the system user `nunbird` from a timer, and on demand when `nunbird-auth` receives a
//! token that no known key signed; as the user itself for `downscope = "none"`. The only program of
//! Nunbird that uses the network. It takes nothing from the environment, writes only into a keys
//! directory that its own user owns, and every program that reads the result checks it again.

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod error;
mod fetch;
mod files;
mod jwks;
mod list;
mod server;
mod store;
mod terminal;

pub use arguments::Cli;
pub use commands::run;
// For fuzz/.
pub use error::KeysError;
pub use jwks::{Key, UsableKeys, parse_key_set};

#[cfg(test)]
mod tests {
    /// `.cargo/config.toml`: with it a query of a server takes 5 ms, without it 40 (`make bench`).
    #[test]
    fn the_crypto_library_is_built_without_its_slow_seed() {
        assert_eq!(option_env!("AWS_LC_SYS_NO_JITTER_ENTROPY"), Some("1"));
    }
}
