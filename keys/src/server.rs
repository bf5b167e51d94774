//! One GitLab server, as a configuration or the command line describes it.

use crate::error::KeysError;
use nunbird_policy::{Algorithm, GitLabServer};
use std::path::PathBuf;

/// For callers without a configuration: the default of a configuration as well.
pub(crate) use nunbird_policy::DEFAULT_KEYS_MAX_AGE;
/// For callers without a configuration. The verifier selects among the keys by its own
/// configuration.
pub(crate) const ALL_ALGORITHMS: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384];

/// How a server is reached and recognised.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Way {
    /// Certificate authorities for its certificate, in place of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Passed [`nunbird_policy::check_proxy`]; none for a direct connection.
    pub(crate) proxy: Option<String>,
    /// A file with `USER:PASSWORD` for the proxy.
    pub(crate) proxy_auth_file: Option<PathBuf>,
}

/// A server to fetch from, or to pin keys of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Server {
    /// Used in file names: lower-case letters, digits, `-`.
    pub(crate) name: String,
    /// Passed [`nunbird_policy::check_url`]; empty if keys are pinned without a configuration.
    pub(crate) url: String,
    /// The exact `issuer` of its discovery document.
    pub(crate) issuer: String,
    /// How it is reached.
    pub(crate) way: Way,
    /// Seconds for which a key is kept that the server no longer publishes.
    pub(crate) keys_max_age: u64,
    /// Keys for other algorithms are skipped.
    pub(crate) algorithms: Vec<Algorithm>,
}

impl From<&GitLabServer> for Server {
    fn from(configured: &GitLabServer) -> Self {
        Server {
            name: configured.name.clone(),
            url: configured.url.clone(),
            issuer: configured.issuer.clone(),
            way: Way {
                ca_file: configured.ca_file.clone(),
                proxy: configured.proxy.clone(),
                proxy_auth_file: configured.proxy_auth_file.clone(),
            },
            keys_max_age: configured.keys_max_age,
            algorithms: configured.algorithms.clone(),
        }
    }
}

/// Checks that a name from the command line can be a file name: the configuration has the same
/// rule.
///
/// # Errors
/// [`KeysError::Usage`].
pub(crate) fn check_name(flag: &str, name: &str) -> Result<(), KeysError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) && !name.starts_with('-') {
        return Ok(());
    }
    Err(KeysError::Usage(format!("{flag} {name}: use 1 to 64 lower-case letters, digits and `-`")))
}

/// The name that tokens' headers and the configuration use.
pub(crate) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256 => "RS256",
        Algorithm::Es256 => "ES256",
        Algorithm::Es384 => "ES384",
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn a_name_cannot_lead_out_of_the_keys_directory() {
        for bad in ["", ".", "..", "../x", "a/b", "-a", "A", "a.b", "a\n", &"a".repeat(65)] {
            assert_eq!(check_name("--server", bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        check_name("--server", "main-2").unwrap();
    }
}
