//! The servers' signing keys: read from files, refreshed by an unprivileged program when they do not fit.

use crate::memory;
use crate::rights::Rights;
use nunbird_drop::surrender::{self, Ids};
use nunbird_files::directory::Directory;
use nunbird_files::foreign::Caller;
use nunbird_files::identity::FileIdentity;
use nunbird_files::trusted::{open_trusted, open_trusted_directory};
use nunbird_policy::{GitLabServer, Policy};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::Linux;
use nunbird_sys::{answer, exec, process};
use nunbird_token::MAX_JOB_ANSWER;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The largest keys file, in bytes.
const MAX_KEYS_FILE: u64 = 1 << 20;
/// How long a refresh may hold up a job.
const PATIENCE: Duration = Duration::from_secs(SECONDS as u64);
const SECONDS: u32 = 5;
/// The most that it may say, in bytes.
const MAX_WORDS: usize = 4096;
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
pub fn read(policy: &Policy, rights: Rights) -> Keys {
    let mut keys = Keys { files: Vec::new(), troubles: Vec::new() };
    for server in &policy.gitlab {
        match read_one(policy, server, rights) {
            Ok(bytes) => keys.files.push(bytes),
            Err(trouble) => {
                keys.files.push(Vec::new());
                keys.troubles.push(trouble);
            }
        }
    }
    keys
}

fn read_one(policy: &Policy, server: &GitLabServer, rights: Rights) -> Result<Vec<u8>, String> {
    let name = format!("{}.json", server.name);
    let path = policy.keys_dir.join(&name);
    let explain = |e: io::Error| format!("{}: {e}; run `nunbird-keys refresh`", path.display());
    let keeper = rights.keeper;
    let _identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(explain)?;
    let (directory, owner) = keys_directory(policy, rights)?;
    let (bytes, uid, mode) = directory.read(&name, MAX_KEYS_FILE).map_err(explain)?;
    if uid != owner.uid && uid != 0 {
        let wanted = owner.uid;
        return Err(format!("{}: owned by uid {uid}; it must be root's or uid {wanted}'s", path.display()));
    }
    if mode & 0o022 != 0 {
        return Err(format!("{}: writable by others (mode {mode:04o})", path.display()));
    }
    Ok(bytes)
}

/// The keys directory and its owner, who may write keys: root's choice, because the directories above it are
/// root's. The runner's account is never accepted: it would bring its own keys.
fn keys_directory(policy: &Policy, rights: Rights) -> Result<(Directory, Caller), String> {
    let path = &policy.keys_dir;
    let parent = path.parent().unwrap_or(Path::new("/"));
    open_trusted_directory(parent, &rights.trusted_owners()).map_err(|e| e.to_string())?;
    let owner = std::fs::symlink_metadata(path)
        .map(|meta| std::os::unix::fs::MetadataExt::uid(&meta))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    if rights.privileged && owner == rights.caller.uid && owner != 0 {
        return Err(format!("{}: belongs to the runner's account", path.display()));
    }
    let mut owners = rights.trusted_owners();
    owners.push(owner);
    let directory = Directory::new(open_trusted_directory(path, &owners).map_err(|e| e.to_string())?);
    let (uid, gid, _) = directory.owner().map_err(|e| format!("{}: {e}", path.display()))?;
    Ok((directory, Caller { uid, gid }))
}

/// Has `nunbird-keys` fetch every server's keys, as the owner of the keys directory. The rate is its concern.
///
/// They are written to `keys_dir`: the policy's, or a copy of it.
///
/// Returns whether every server that may be asked has answered, and what went wrong.
pub fn refresh(policy: &Policy, keys_dir: &Path, rights: Rights) -> (bool, Vec<String>) {
    let deadline = Instant::now() + PATIENCE;
    let mut troubles = Vec::new();
    let mut done = true;
    for (server, waiting) in policy.gitlab.iter().zip((1..=policy.gitlab.len()).rev()) {
        // A server that does not answer must not use up the time of those behind it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(waiting).unwrap_or(u32::MAX);
        match refresh_one(policy, server, keys_dir, rights, share) {
            Ok(()) => {}
            Err(Unfetched { possible, why }) => {
                done &= !possible;
                troubles.push(format!("keys of {}: {why}", server.name));
            }
        }
    }
    (done, troubles)
}

/// Keys that are as they were.
struct Unfetched {
    /// Whether another time may do better. Where root keeps the keys, nothing is ever fetched, and what is not among them is unknown for good.
    possible: bool,
    /// For the admin.
    why: String,
}

fn refresh_one(
    policy: &Policy,
    server: &GitLabServer,
    keys_dir: &Path,
    rights: Rights,
    patience: Duration,
) -> Result<(), Unfetched> {
    let failed = |why: String| Unfetched { possible: true, why };
    let owner = {
        let keeper = rights.keeper;
        let _identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(|e| failed(e.to_string()))?;
        keys_directory(policy, rights).map_err(failed)?.1
    };
    let arguments = arguments(server, keys_dir).map_err(|e| failed(e.to_string()))?;
    let fetched = Fetcher { policy, rights, owner }.run(&arguments, None, MAX_WORDS, patience);
    fetched.map(drop).map_err(|why| Unfetched { possible: owner.uid != 0, why })
}

/// Asks a server whose running job `token` is of. The token goes by an open file, never by argument or environment.
///
/// # Errors
/// What went wrong, for the admin.
pub fn ask_about_job(
    policy: &Policy,
    server: &GitLabServer,
    token: &str,
    rights: Rights,
) -> Result<Vec<u8>, String> {
    // Without privilege there is no account but the caller's to ask as, whose processes could trace this one as well.
    let owner = if rights.privileged {
        let keeper = rights.keeper;
        let _identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(|e| e.to_string())?;
        keys_directory(policy, rights)?.1
    } else {
        rights.caller
    };
    let token = exec::sealed(c"nunbird-job-token", token.as_bytes()).map_err(|e| e.to_string())?;
    let mut words: Vec<&[u8]> = vec![b"nunbird-keys", b"job", b"--url", server.url.as_bytes()];
    if let Some(file) = &server.ca_file {
        words.extend([b"--ca-file".as_slice(), file.as_os_str().as_bytes()]);
    }
    let arguments: Vec<CString> =
        words.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let limit = usize::try_from(MAX_JOB_ANSWER).unwrap_or(usize::MAX);
    Fetcher { policy, rights, owner }.run(&arguments, Some(&token), limit, PATIENCE)
}

/// `nunbird-keys`, run as the owner of the keys directory.
struct Fetcher<'a> {
    policy: &'a Policy,
    rights: Rights,
    owner: Caller,
}

impl Fetcher<'_> {
    /// Runs it and gives what it printed. Words of a failure are the admin's: the job log would show the CI user the
    /// site's inner addresses.
    fn run(
        &self,
        arguments: &[CString],
        input: Option<&File>,
        limit: usize,
        patience: Duration,
    ) -> Result<Vec<u8>, String> {
        let failed = |e: io::Error| e.to_string();
        let Fetcher { policy, rights, owner } = *self;
        if owner.uid == 0 {
            let path = policy.keys_dir.display();
            return Err(format!(
                "{path} belongs to root, and nothing is ever fetched as root; give it to a user of its own"
            ));
        }
        let keeper = rights.keeper;
        let program = {
            let _identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(failed)?;
            let path = policy.job.launcher.with_file_name(PROGRAM);
            open_trusted(&path, &rights.trusted_owners()).map_err(|e| e.to_string())?
        };
        // An admin without privilege asks as itself.
        let runs_as = if rights.privileged && !rights.can_change_user { rights.keeper } else { owner };
        let parent = process::id();
        let (reader, writer) = io::pipe().map_err(failed)?;
        let child = fork_into(|| {
            let _failed = become_fetcher(&program, arguments, input, &writer, runs_as, rights, parent);
            1
        })
        .map_err(failed)?;
        drop(writer);
        let said = answer::read_to_end(reader, limit, patience);
        if said.is_err() {
            let _already_gone = child.kill_as(runs_as.uid);
        }
        let ended = child.wait().map_err(failed)?;
        let said = said.map_err(|e| format!("nunbird-keys did not end in time: {e}"))?;
        match ended {
            Ended::Exited(0) => Ok(said),
            _ => Err(String::from_utf8_lossy(said.get(..said.len().min(MAX_WORDS)).unwrap_or(&said))
                .trim_end()
                .to_owned()),
        }
    }
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
    if let Some(file) = &server.ca_file {
        words.extend([b"--ca-file".as_slice(), file.as_os_str().as_bytes()]);
    }
    words.into_iter().map(CString::new).collect()
}

/// In the child: the fetcher's ids for good, no descriptors but the standard ones, an empty environment.
fn become_fetcher(
    program: &File,
    arguments: &[CString],
    input: Option<&File>,
    output: &io::PipeWriter,
    owner: Caller,
    rights: Rights,
    parent: i32,
) -> io::Result<()> {
    process::end_after(SECONDS);
    memory::bound(rights)?;
    match input {
        Some(file) => exec::input_from(file)?,
        None => process::null_stdin()?,
    }
    exec::output_to(output)?;
    let surrendered = if rights.can_change_user {
        let ids = Ids { uid: owner.uid, gid: owner.gid, groups: Vec::new() };
        surrender::become_user(&mut Linux, &ids)
    } else {
        surrender::stay_user(&mut Linux, owner.uid, owner.gid)
    };
    surrendered.map_err(|failure| failure.error)?;
    process::no_new_privileges()?;
    process::die_with_parent(nunbird_sys::signals::KILL, parent)?;
    process::close_on_exec_from(3)?;
    match exec::execute(program, arguments, &[])? {}
}
