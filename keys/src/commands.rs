//! The command line, and what each command does.

use crate::trouble::Trouble;
use crate::{fetch, jwks, list, store};
use clap::{Args, Parser, Subcommand};
use nunbird_policy::{DEFAULT_CONFIGURATION, DEFAULT_KEYS_DIR, Policy};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Fetches the signing keys of the configured GitLab servers.
#[derive(Parser)]
#[command(version, after_help = "exit status: 0 ok, 1 failure, 2 usage, 75 asked too often, try later")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch keys now: of all servers of the configuration, or of one that the flags describe.
    #[command(after_help = "example:\n  runuser -u nunbird -- nunbird-keys refresh")]
    Refresh(Refresh),
    /// Show the known keys.
    List(Place),
    /// Take the keys of a JWKS file, for a site without a way to the server. Pinned keys never age.
    #[command(
        after_help = "example:\n  nunbird-keys pin keys.json --server example\n\nwhere keys.json is a copy of \
        https://gitlab.example.org/oauth/discovery/keys"
    )]
    Pin {
        /// The JWKS file.
        file: PathBuf,
        /// The server's name in the configuration.
        #[arg(long)]
        server: String,
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIGURATION)]
        configuration: PathBuf,
    },
}

#[derive(Args)]
struct Refresh {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIGURATION)]
    configuration: PathBuf,
    /// Only this server of the configuration; may stand several times.
    #[arg(long, value_name = "NAME")]
    server: Vec<String>,
    /// Without a configuration, as nunbird-auth calls it: the server's name …
    #[arg(long, value_name = "NAME", requires_all = ["url", "issuer", "keys_dir"], conflicts_with = "server")]
    server_name: Option<String>,
    /// … its URL …
    #[arg(long, requires = "server_name")]
    url: Option<String>,
    /// … the `iss` of its tokens …
    #[arg(long, requires = "server_name")]
    issuer: Option<String>,
    /// … authorities for its certificate instead of the system's …
    #[arg(long, value_name = "FILE", requires = "server_name")]
    ca_file: Option<PathBuf>,
    /// … seconds after which a key that the server no longer shows is dropped …
    #[arg(long, value_name = "SECONDS", default_value_t = 30 * 24 * 3600, requires = "server_name")]
    keys_max_age: u64,
    /// … and where to write.
    #[arg(long, value_name = "DIRECTORY", requires = "server_name")]
    keys_dir: Option<PathBuf>,
}

#[derive(Args)]
struct Place {
    /// Where the keys are.
    #[arg(long, value_name = "DIRECTORY", default_value = DEFAULT_KEYS_DIR)]
    keys_dir: PathBuf,
}

/// One server to fetch from.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) issuer: String,
    pub(crate) ca_file: Option<PathBuf>,
    /// Seconds.
    pub(crate) keys_max_age: u64,
}

/// How long a fetch may take when a job waits for it, and when none does.
const WITH_A_JOB: Duration = Duration::from_millis(4500);
const WITHOUT_A_JOB: Duration = Duration::from_secs(10);
const MAX_FILE: u64 = 4 << 20;

pub(crate) fn run(cli: Cli) -> Result<(), Trouble> {
    match cli.command {
        Command::Refresh(refresh) => refresh.run(),
        Command::List(place) => list::print(&place.keys_dir),
        Command::Pin { file, server, configuration } => pin(&file, &server, &configuration),
    }
}

impl Refresh {
    fn run(self) -> Result<(), Trouble> {
        let (Some(name), Some(url), Some(issuer), Some(keys_dir)) =
            (self.server_name, self.url, self.issuer, self.keys_dir)
        else {
            return refresh_configured(&self.configuration, &self.server);
        };
        check_name(&name)?;
        nunbird_policy::check_url(&url).map_err(|help| Trouble::new(format!("--url {url}: {help}")))?;
        let server = Server { name, url, issuer, ca_file: self.ca_file, keys_max_age: self.keys_max_age };
        store::attempt(&keys_dir, &server.name, true)?;
        refresh(&server, &keys_dir, WITH_A_JOB)
    }
}

fn refresh_configured(configuration: &Path, only: &[String]) -> Result<(), Trouble> {
    let policy = policy(configuration)?;
    if let Some(unknown) = only.iter().find(|name| policy.server(name).is_none()) {
        return Err(Trouble::new(format!("{}: no server is named {unknown}", configuration.display())));
    }
    let mut troubles = Vec::new();
    for server in policy.gitlab.iter().filter(|s| only.is_empty() || only.contains(&s.name)) {
        let server = Server {
            name: server.name.clone(),
            url: server.url.clone(),
            issuer: server.issuer.clone(),
            ca_file: server.ca_file.clone(),
            keys_max_age: server.keys_max_age,
        };
        let done = store::attempt(&policy.keys_dir, &server.name, false)
            .and_then(|()| refresh(&server, &policy.keys_dir, WITHOUT_A_JOB));
        troubles.extend(done.err().map(|trouble| trouble.to_string()));
    }
    // One server that is down must not keep the others' keys from being fetched.
    if troubles.is_empty() { Ok(()) } else { Err(Trouble::new(troubles.join("\n"))) }
}

fn refresh(server: &Server, keys_dir: &Path, patience: Duration) -> Result<(), Trouble> {
    let text = fetch::jwks(server, patience)?;
    let judged = jwks::judge(&text).map_err(|e| Trouble::new(format!("{}: {e}", server.url)))?;
    for note in &judged.skipped {
        eprintln!("nunbird-keys: {}: {note}", server.name);
    }
    let count = judged.keys.len();
    store::merge(keys_dir, server, judged.keys, false)?;
    println!("{}: {count} keys from {}", server.name, server.url);
    Ok(())
}

fn pin(file: &Path, name: &str, configuration: &Path) -> Result<(), Trouble> {
    let policy = policy(configuration)?;
    let configured = policy
        .server(name)
        .ok_or_else(|| Trouble::new(format!("{}: no server is named {name}", configuration.display())))?;
    let text = read(file)?;
    let judged = jwks::judge(&text).map_err(|e| Trouble::new(format!("{}: {e}", file.display())))?;
    let server = Server {
        name: name.to_owned(),
        url: configured.url.clone(),
        issuer: configured.issuer.clone(),
        ca_file: None,
        keys_max_age: configured.keys_max_age,
    };
    let count = judged.keys.len();
    store::merge(&policy.keys_dir, &server, judged.keys, true)?;
    println!("{name}: {count} keys pinned from {}", file.display());
    Ok(())
}

fn policy(file: &Path) -> Result<Policy, Trouble> {
    let text =
        String::from_utf8(read(file)?).map_err(|e| Trouble::new(format!("{}: {e}", file.display())))?;
    Policy::parse(file, &text).map_err(|findings| {
        Trouble::new(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn read(file: &Path) -> Result<Vec<u8>, Trouble> {
    let failed = |e: std::io::Error| Trouble::new(format!("{}: {e}", file.display()));
    let mut bytes = Vec::new();
    File::open(file).map_err(failed)?.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The name becomes a file's.
fn check_name(name: &str) -> Result<(), Trouble> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) && !name.starts_with('-') {
        return Ok(());
    }
    Err(Trouble::new(format!("--server-name {name}: use lower-case letters, digits and `-`")))
}
