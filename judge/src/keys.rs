//! The servers' signing keys: read from files, refreshed by an unprivileged program when they do not fit.

use nunbird_host::{Fetch, System, Unfetched};
use nunbird_policy::{GitLabServer, Policy};
use nunbird_token::MAX_JOB_ANSWER;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a refresh may hold up a job.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that a refresh may print, in bytes.
const MAX_WORDS: u64 = 4096;
/// `nunbird-keys` lies beside the launcher.
const PROGRAM: &str = "nunbird-keys";

/// The content of each server's keys file, and what was wrong with those that could not be used.
#[derive(Debug)]
pub struct Keys {
    /// In the order of the policy's servers; empty where there is none.
    pub files: Vec<Vec<u8>>,
    /// For the admin.
    pub troubles: Vec<String>,
}

/// Reads the keys files of all servers.
pub fn read(policy: &Policy, system: &impl System) -> Keys {
    let mut keys = Keys { files: Vec::new(), troubles: Vec::new() };
    for server in &policy.gitlab {
        match system.keys_file(&policy.keys_dir, &format!("{}.json", server.name)) {
            Ok(bytes) => keys.files.push(bytes),
            Err(trouble) => {
                keys.files.push(Vec::new());
                keys.troubles.push(trouble);
            }
        }
    }
    keys
}

/// Has `nunbird-keys` fetch every server's keys, as the owner of the keys directory. The rate is its concern.
///
/// They are written to `keys_dir`: the policy's, or a copy of it.
///
/// Returns whether every server that may be asked has answered, and what went wrong.
pub fn refresh(policy: &Policy, keys_dir: &Path, system: &impl System) -> (bool, Vec<String>) {
    let deadline = Instant::now() + PATIENCE;
    let mut troubles = Vec::new();
    let mut done = true;
    for (server, waiting) in policy.gitlab.iter().zip((1..=policy.gitlab.len()).rev()) {
        // A server that does not answer must not use up the time of those behind it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(waiting).unwrap_or(u32::MAX);
        match refresh_one(policy, server, keys_dir, system, share) {
            Ok(()) => {}
            Err(Unfetched { possible, why }) => {
                done &= !possible;
                troubles.push(format!("keys of {}: {why}", server.name));
            }
        }
    }
    (done, troubles)
}

fn refresh_one(
    policy: &Policy,
    server: &GitLabServer,
    keys_dir: &Path,
    system: &impl System,
    patience: Duration,
) -> Result<(), Unfetched> {
    let argv = arguments(server, keys_dir).map_err(|e| Unfetched { possible: true, why: e.to_string() })?;
    let fetch = Fetch {
        directory: policy.keys_dir.clone(),
        writes: true,
        program: program(policy),
        argv,
        input: None,
        limit: MAX_WORDS,
        patience,
    };
    system.fetch(&fetch).map(drop)
}

fn program(policy: &Policy) -> PathBuf {
    policy.job.launcher.with_file_name(PROGRAM)
}

/// Asks a server whose running job `token` is of. The token goes by an open file, never by argument or environment.
///
/// # Errors
/// What went wrong, for the admin.
pub fn ask_about_job(
    policy: &Policy,
    server: &GitLabServer,
    token: &str,
    system: &impl System,
) -> Result<Vec<u8>, String> {
    let mut words: Vec<&[u8]> = vec![b"nunbird-keys", b"job", b"--url", server.url.as_bytes()];
    words.extend(way_there(server));
    let argv = words.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let fetch = Fetch {
        directory: policy.keys_dir.clone(),
        writes: false,
        program: program(policy),
        argv,
        input: Some(token.as_bytes().to_vec()),
        limit: MAX_JOB_ANSWER,
        patience: PATIENCE,
    };
    system.fetch(&fetch).map_err(|unfetched| unfetched.why)
}

fn arguments(server: &GitLabServer, keys_dir: &Path) -> Result<Vec<CString>, std::ffi::NulError> {
    let mut words: Vec<&[u8]> = vec![
        b"nunbird-keys",
        b"refresh",
        b"--server-name",
        server.name.as_bytes(),
        b"--url",
        server.url.as_bytes(),
        b"--issuer",
        server.issuer.as_bytes(),
        b"--keys-dir",
        keys_dir.as_os_str().as_bytes(),
    ];
    let age = server.keys_max_age.to_string();
    words.extend([b"--keys-max-age".as_slice(), age.as_bytes()]);
    words.extend(way_there(server));
    words.into_iter().map(CString::new).collect()
}

/// How the server is reached and recognised. Arguments are visible to every process of the host, so the proxy's password goes as
/// the name of its file.
fn way_there(server: &GitLabServer) -> impl Iterator<Item = &[u8]> {
    let ca_file = server.ca_file.as_ref().map(|file| (b"--ca-file".as_slice(), file.as_os_str().as_bytes()));
    let proxy = server.proxy.as_ref().map(|proxy| (b"--proxy".as_slice(), proxy.as_bytes()));
    let auth = server.proxy_auth_file.as_ref();
    let auth = auth.map(|file| (b"--proxy-auth-file".as_slice(), file.as_os_str().as_bytes()));
    [ca_file, proxy, auth].into_iter().flatten().flat_map(|(flag, value)| [flag, value])
}
