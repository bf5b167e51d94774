//! The command line.

use crate::server::{ALL_ALGORITHMS, DEFAULT_KEYS_MAX_AGE, algorithm_name};
use clap::{Args, Parser, Subcommand};
use nunbird_policy::{Algorithm, DEFAULT_CONFIGURATION, seconds_option};
use std::path::PathBuf;

/// Fetches the signing keys of the configured GitLab servers.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "exit status: 0 success, 1 failure, 2 usage, 75 the server was \
                                 queried less than five seconds ago, try later"
)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch keys now: from all servers of the configurations, or from one that the flags describe.
    #[command(after_help = "example:\n  runuser -u nunbird -- /opt/nunbird/bin/nunbird-keys refresh")]
    Refresh(Refresh),
    /// Show the known keys.
    List(List),
    /// Ask a server which running job a job token belongs to. nunbird-auth calls this for jobs
    /// without an id token.
    #[command(
        hide = true,
        after_help = "The token is read from standard input and sent in a header; the server's \
                      answer is printed to standard output."
    )]
    Job(Job),
    /// Import the keys of a JWKS file, for a site that cannot reach the server. Pinned keys do not
    /// expire.
    #[command(
        after_help = "example:\n  runuser -u nunbird -- /opt/nunbird/bin/nunbird-keys pin keys.json --server example\n\nwhere keys.json is \
        a copy of https://gitlab.example.org/oauth/discovery/keys"
    )]
    Pin(Pin),
}

#[derive(Debug, Args)]
pub(crate) struct Refresh {
    /// The configuration; without it `/etc/nunbird/config.toml`, and the files in
    /// `/etc/nunbird/configurations`.
    #[arg(long, value_name = "FILE")]
    pub(crate) configuration: Option<PathBuf>,
    /// Only this server of a configuration; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) server: Vec<String>,
    /// Without a configuration, as nunbird-auth calls it, at most once in five seconds: the
    /// server's name …
    #[arg(long, value_name = "NAME", requires_all = ["url", "issuer", "keys_dir"],
        conflicts_with_all = ["configuration", "server"])]
    pub(crate) server_name: Option<String>,
    /// … its URL …
    #[arg(long, requires = "server_name")]
    pub(crate) url: Option<String>,
    /// … the `issuer` of its discovery document …
    #[arg(long, requires = "server_name")]
    pub(crate) issuer: Option<String>,
    /// … the directory to write to …
    #[arg(long, value_name = "DIRECTORY", requires = "server_name")]
    pub(crate) keys_dir: Option<PathBuf>,
    /// … certificate authorities for its certificate in place of the system's …
    #[arg(long, value_name = "FILE", requires = "server_name")]
    pub(crate) ca_file: Option<PathBuf>,
    /// … the forward proxy by which it is reached …
    #[arg(long, value_name = "URL", requires = "server_name")]
    pub(crate) proxy: Option<String>,
    /// … a file with `USER:PASSWORD` for the proxy …
    #[arg(long, value_name = "FILE", requires_all = ["server_name", "proxy"])]
    pub(crate) proxy_auth_file: Option<PathBuf>,
    /// … a duration, or seconds, after which a key that the server no longer publishes is dropped …
    #[arg(long, value_name = "TIME", value_parser = seconds_option, default_value_t = DEFAULT_KEYS_MAX_AGE,
        requires = "server_name")]
    pub(crate) keys_max_age: u64,
    /// … and the accepted algorithms, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = algorithm, default_value = "RS256,ES256,ES384",
        requires = "server_name")]
    pub(crate) algorithms: Vec<Algorithm>,
}

#[derive(Debug, Args)]
pub(crate) struct Job {
    /// The server's URL.
    #[arg(long)]
    pub(crate) url: String,
    /// Certificate authorities for its certificate in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The forward proxy by which it is reached.
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// A file with `USER:PASSWORD` for the proxy.
    #[arg(long, value_name = "FILE", requires = "proxy")]
    pub(crate) proxy_auth_file: Option<PathBuf>,
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
