//! The commands of the program.

use crate::arguments::{Cli, Command, Job, Pin, Refresh};
use crate::error::KeysError;
use crate::server::{ALL_ALGORITHMS, DEFAULT_KEYS_MAX_AGE, Server, Way, check_name};
use crate::{fetch, files, jwks, list, store, terminal};
use nunbird_token::MAX_JOB_TOKEN;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// The timeout of a fetch while a job waits for it: nunbird-auth ends this program after five
/// seconds.
const WITH_A_JOB: Duration = Duration::from_millis(4500);
/// The timeout of a fetch while no job waits for it.
const WITHOUT_A_JOB: Duration = Duration::from_secs(10);

/// Runs the command that the arguments name.
///
/// # Errors
/// Any failure; the caller reports it.
pub fn run(cli: Cli) -> Result<(), KeysError> {
    match cli.command {
        Command::Refresh(refresh) => refresh.run(),
        Command::List(list) => {
            let keys_dir = match list.keys_dir {
                Some(keys_dir) => keys_dir,
                None => files::policy(&list.configuration)?.keys_dir,
            };
            list::print(&keys_dir)
        }
        Command::Pin(pin) => pin.run(),
        Command::Job(job) => job.run(),
    }
}

impl Job {
    /// The answer is printed completely or not at all, and nothing besides it.
    fn run(self) -> Result<(), KeysError> {
        check_url(&self.url)?;
        let mut token = Zeroizing::new(String::with_capacity(MAX_JOB_TOKEN + 1));
        let most = u64::try_from(MAX_JOB_TOKEN).unwrap_or(u64::MAX);
        let failed = |e: io::Error| KeysError::new(format!("standard input: {e}"));
        io::stdin().take(most + 1).read_to_string(&mut token).map_err(failed)?;
        if token.is_empty() || token.len() > MAX_JOB_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(KeysError::Usage("standard input contains no job token".to_owned()));
        }
        let way = way(self.ca_file, self.proxy, self.proxy_auth_file)?;
        let answer = fetch::job(&self.url, &way, &token, WITH_A_JOB)?;
        io::stdout().write_all(&answer).map_err(|e| KeysError::new(format!("standard output: {e}")))
    }
}

fn check_url(url: &str) -> Result<(), KeysError> {
    nunbird_policy::check_url(url).map_err(|help| KeysError::Usage(format!("--url {url}: {help}")))
}

/// The URL is not repeated in the error: it may hold a password.
fn way(
    ca_file: Option<PathBuf>,
    proxy: Option<String>,
    proxy_auth_file: Option<PathBuf>,
) -> Result<Way, KeysError> {
    let wrong = |help| KeysError::Usage(format!("--proxy: {help}"));
    proxy.as_deref().map_or(Ok(()), nunbird_policy::check_proxy).map_err(wrong)?;
    Ok(Way { ca_file, proxy, proxy_auth_file })
}

impl Refresh {
    fn run(self) -> Result<(), KeysError> {
        let (Some(name), Some(url), Some(issuer), Some(keys_dir)) =
            (self.server_name, self.url, self.issuer, self.keys_dir)
        else {
            return refresh_configured(self.configuration.as_deref(), &self.server);
        };
        check_name("--server-name", &name)?;
        check_url(&url)?;
        let way = way(self.ca_file, self.proxy, self.proxy_auth_file)?;
        let (keys_max_age, algorithms) = (self.keys_max_age, self.algorithms);
        let server = Server { name, url, issuer, way, keys_max_age, algorithms };
        store::record_attempt(&keys_dir, &server.name, true)?;
        refresh(&server, &keys_dir, WITH_A_JOB)
    }
}

fn refresh_configured(configuration: Option<&Path>, only: &[String]) -> Result<(), KeysError> {
    let (policies, mut troubles) = match configuration {
        Some(file) => (vec![files::policy(file)?], Vec::new()),
        None => files::policies()?,
    };
    let servers = policies.iter().flat_map(|policy| policy.gitlab.iter().map(move |server| (server, policy)));
    let servers: Vec<_> =
        servers.filter(|(server, _)| only.is_empty() || only.contains(&server.name)).collect();
    if let Some(unknown) = only.iter().find(|name| servers.iter().all(|(server, _)| server.name != **name)) {
        return Err(no_server(configuration, unknown));
    }
    // Two configurations may be for one server: it is asked once, but for the same file alone.
    let mut asked = Vec::new();
    for (server, policy) in servers {
        let (server, keys_dir) = (Server::from(server), &policy.keys_dir);
        let known = asked
            .iter()
            .find(|(directory, one): &&(&PathBuf, Server)| *directory == keys_dir && one.name == server.name);
        match known {
            Some((_, one)) if *one == server => continue,
            // Each would remove the other's keys.
            Some(_) => {
                let (name, directory) = (&server.name, keys_dir.display());
                troubles.push(format!(
                    "{name}: {} describes another server by this name than a configuration before it, and both keep keys in \
                     {directory}; give one of them another name",
                    policy.file.display()
                ));
                continue;
            }
            None => {}
        }
        let done = store::record_attempt(keys_dir, &server.name, false)
            .and_then(|()| refresh(&server, keys_dir, WITHOUT_A_JOB));
        troubles.extend(done.err().map(|trouble| format!("{}: {trouble}", server.name)));
        asked.push((keys_dir, server));
    }
    // A server that is down must not prevent the keys of the others from being fetched.
    if troubles.is_empty() { Ok(()) } else { Err(KeysError::new(troubles.join("\nerror: "))) }
}

fn refresh(server: &Server, keys_dir: &Path, timeout: Duration) -> Result<(), KeysError> {
    fetch::jwks(server, timeout).and_then(|text| store_keys(server, &server.url, &text, keys_dir, false))
}

impl Pin {
    fn run(self) -> Result<(), KeysError> {
        let (server, keys_dir) = match (self.keys_dir, self.issuer) {
            (Some(keys_dir), Some(issuer)) => (described(self.server, issuer)?, keys_dir),
            _ => configured(&self.configuration, &self.server)?,
        };
        let shown = self.file.display().to_string();
        let text =
            files::read(&self.file, files::MAX_FILE).map_err(|e| KeysError::new(format!("{shown}: {e}")))?;
        store_keys(&server, &shown, &text, &keys_dir, true)
    }
}

fn described(name: String, issuer: String) -> Result<Server, KeysError> {
    check_name("--server", &name)?;
    Ok(Server {
        name,
        url: String::new(),
        issuer,
        way: Way::default(),
        keys_max_age: DEFAULT_KEYS_MAX_AGE,
        algorithms: ALL_ALGORITHMS.to_vec(),
    })
}

fn configured(configuration: &Path, name: &str) -> Result<(Server, PathBuf), KeysError> {
    let policy = files::policy(configuration)?;
    let server = policy.server(name).ok_or_else(|| no_server(Some(configuration), name))?;
    Ok((Server::from(server), policy.keys_dir.clone()))
}

fn no_server(configuration: Option<&Path>, name: &str) -> KeysError {
    let shown = configuration.map_or("no configuration".to_owned(), |file| file.display().to_string());
    let has = if configuration.is_some() { "has no" } else { "has a" };
    KeysError::Usage(format!("--server {name}: {shown} {has} server of this name"))
}

/// Checks a key set that came from `source` and puts its keys into the server's file.
fn store_keys(
    server: &Server,
    source: &str,
    text: &[u8],
    keys_dir: &Path,
    pinned: bool,
) -> Result<(), KeysError> {
    let judged = jwks::parse_key_set(text, &server.algorithms)
        .map_err(|e| KeysError::new(format!("{source}: {e}; the known keys are unchanged")))?;
    for skipped in &judged.skipped {
        terminal::print_error(&format!("{}: {skipped}", server.name));
    }
    let count = judged.keys.len();
    store::merge(keys_dir, server, judged.keys, pinned)?;
    let done = if pinned { "pinned" } else { "fetched" };
    let noun = if count == 1 { "key" } else { "keys" };
    terminal::print(&format!("{}: {count} {noun} {done} from {source}", server.name));
    Ok(())
}
