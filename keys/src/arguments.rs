//! The command line.

use crate::server::{ALL_ALGORITHMS, DEFAULT_KEYS_MAX_AGE, algorithm_name};
use clap::{Args, Parser, Subcommand};
use nunbird_policy::{Algorithm, DEFAULT_CONFIGURATION};
use std::path::PathBuf;

/// Fetches the signing keys of the configured GitLab servers.
#[derive(Debug, Parser)]
#[command(version, after_help = "exit status: 0 ok, 1 failure, 2 usage, 75 asked too often, try later")]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch keys now: of all servers of the configuration, or of one that the flags describe.
    #[command(after_help = "example:\n  runuser -u nunbird -- /opt/nunbird/bin/nunbird-keys refresh")]
    Refresh(Refresh),
    /// Show the known keys.
    List(List),
    /// Ask a server whose running job a job token is. nunbird-auth calls it for jobs without an id token.
    #[command(
        hide = true,
        after_help = "The token comes on standard input and is sent in a header; the answer goes to standard output."
    )]
    Job(Job),
    /// Take the keys of a JWKS file, for a site without a way to the server. Pinned keys never age.
    #[command(
        after_help = "example:\n  runuser -u nunbird -- /opt/nunbird/bin/nunbird-keys pin keys.json --server example\n\nwhere keys.json is \
        a copy of https://gitlab.example.org/oauth/discovery/keys"
    )]
    Pin(Pin),
}

#[derive(Debug, Args)]
pub(crate) struct Refresh {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIGURATION)]
    pub(crate) configuration: PathBuf,
    /// Only this server of the configuration; may stand several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) server: Vec<String>,
    /// Without a configuration, as nunbird-auth calls it, at most once in five seconds: the server's name …
    #[arg(long, value_name = "NAME", requires_all = ["url", "issuer", "keys_dir"],
        conflicts_with_all = ["configuration", "server"])]
    pub(crate) server_name: Option<String>,
    /// … its URL …
    #[arg(long, requires = "server_name")]
    pub(crate) url: Option<String>,
    /// … the `issuer` of its discovery document …
    #[arg(long, requires = "server_name")]
    pub(crate) issuer: Option<String>,
    /// … where to write …
    #[arg(long, value_name = "DIRECTORY", requires = "server_name")]
    pub(crate) keys_dir: Option<PathBuf>,
    /// … authorities for its certificate instead of the system's …
    #[arg(long, value_name = "FILE", requires = "server_name")]
    pub(crate) ca_file: Option<PathBuf>,
    /// … seconds after which a key that the server no longer shows is dropped …
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_KEYS_MAX_AGE, requires = "server_name")]
    pub(crate) keys_max_age: u64,
    /// … and the algorithms for which keys are taken, with commas between them.
    #[arg(long, value_delimiter = ',', value_parser = algorithm, default_value = "RS256,ES256,ES384",
        requires = "server_name")]
    pub(crate) algorithms: Vec<Algorithm>,
}

#[derive(Debug, Args)]
pub(crate) struct Job {
    /// The server's URL.
    #[arg(long)]
    pub(crate) url: String,
    /// Authorities for its certificate instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The configuration that names the keys directory.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIGURATION)]
    pub(crate) configuration: PathBuf,
    /// The keys directory itself.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "configuration")]
    pub(crate) keys_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// The JWKS file.
    pub(crate) file: PathBuf,
    /// The server's name in the configuration.
    #[arg(long, value_name = "NAME")]
    pub(crate) server: String,
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIGURATION)]
    pub(crate) configuration: PathBuf,
    /// Without a configuration: the keys directory …
    #[arg(long, value_name = "DIRECTORY", requires = "issuer", conflicts_with = "configuration")]
    pub(crate) keys_dir: Option<PathBuf>,
    /// … and the `iss` of the server's tokens.
    #[arg(long, requires = "keys_dir")]
    pub(crate) issuer: Option<String>,
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let known = ALL_ALGORITHMS.into_iter().find(|algorithm| algorithm_name(*algorithm) == text);
    known.ok_or_else(|| "not one of RS256, ES256, ES384".to_owned())
}
