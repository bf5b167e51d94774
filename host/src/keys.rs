//! The servers' signing keys: read from files, fetched by an unprivileged program.

use crate::memory;
use crate::rights::Rights;
use nunbird_files::directory::Directory;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_files::trusted::open_trusted_directory;
use nunbird_surrender::{self as surrender, Ids};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::Linux;
use nunbird_sys::{answer, exec, process};
use nunbird_wire::layout;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The largest keys file, in bytes.
const MAX_KEYS_FILE: u64 = 1 << 20;
/// How long the program may run, in seconds, whatever the caller asks for.
const SECONDS: u32 = 5;
/// The most of a failure's output that is kept, in bytes.
const MAX_WORDS: usize = 4096;

/// A call of `nunbird-keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The keys directory, as whose owner the program runs.
    pub directory: PathBuf,
    /// Whether the program writes there. One that does not runs as the caller where there is no privilege: no other account's
    /// processes are out of the caller's reach then.
    pub writes: bool,
    /// The program.
    pub program: PathBuf,
    /// Its arguments with its name.
    pub argv: Vec<CString>,
    /// Its standard input; none for `/dev/null`.
    pub input: Option<Vec<u8>>,
    /// The most that it may print, in bytes.
    pub limit: u64,
    /// How long it may take.
    pub patience: Duration,
}

layout!(Fetch { directory, writes, program, argv, input, limit, patience });

/// No answer of `nunbird-keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfetched {
    /// Whether another time may do better. Where root keeps the keys, nothing is ever fetched.
    pub possible: bool,
    /// For the admin.
    pub why: String,
}

layout!(Unfetched { possible, why });

/// Reads a file of the keys directory.
pub(crate) fn read(directory: &Path, name: &str, rights: Rights) -> Result<Vec<u8>, String> {
    let path = directory.join(name);
    let explain = |e: io::Error| format!("{}: {e}; run `nunbird-keys refresh`", path.display());
    let read = || {
        let (opened, owner) = keys_directory(directory, rights)?;
        Ok::<_, String>((opened.read(name, MAX_KEYS_FILE).map_err(explain)?, owner))
    };
    let ((bytes, uid, mode), owner) = acting_as(rights.keeper, read).map_err(explain)??;
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
fn keys_directory(path: &Path, rights: Rights) -> Result<(Directory, Caller), String> {
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

/// Runs `nunbird-keys` and gives what it printed. The output of a failure is the admin's: the job log would show the CI user the
/// site's inner addresses.
pub(crate) fn fetch(fetch: &Fetch, rights: Rights) -> Result<Vec<u8>, Unfetched> {
    let failed = |why: String| Unfetched { possible: true, why };
    let owner = if fetch.writes || rights.privileged {
        let opened = acting_as(rights.keeper, || keys_directory(&fetch.directory, rights));
        opened.map_err(|e| failed(e.to_string()))?.map_err(failed)?.1
    } else {
        rights.caller
    };
    // Without privilege the directories above are the caller's, who can name a directory of another account.
    if !rights.privileged && owner.uid != rights.caller.uid {
        let (path, uid, wanted) = (fetch.directory.display(), owner.uid, rights.caller.uid);
        return Err(failed(format!(
            "{path}: owned by uid {uid}; without privilege nunbird-keys writes as the runner's account alone: set `keys_dir` to a directory of uid {wanted}"
        )));
    }
    let owner = if rights.privileged { owner } else { rights.caller };
    if owner.uid == 0 {
        let path = fetch.directory.display();
        let why = format!(
            "{path} belongs to root, and nothing is ever fetched as root; give it to a user of its own"
        );
        return Err(Unfetched { possible: false, why });
    }
    run(fetch, owner, rights).map_err(failed)
}

fn run(fetch: &Fetch, owner: Caller, rights: Rights) -> Result<Vec<u8>, String> {
    let failed = |e: io::Error| e.to_string();
    let program = crate::files::open(&fetch.program, rights).map_err(|e| e.to_string())?;
    let input = fetch.input.as_ref().map(|bytes| exec::sealed(c"nunbird-job-token", bytes));
    let input = input.transpose().map_err(failed)?;
    // An admin without privilege asks as itself.
    let runs_as = if rights.privileged && !rights.can_change_user { rights.keeper } else { owner };
    let parent = process::id();
    let (reader, writer) = io::pipe().map_err(failed)?;
    let child = fork_into(|| {
        let _failed = become_fetcher(&program, &fetch.argv, input.as_ref(), &writer, runs_as, rights, parent);
        1
    })
    .map_err(failed)?;
    drop(writer);
    let said =
        answer::read_to_end(reader, usize::try_from(fetch.limit).unwrap_or(usize::MAX), fetch.patience);
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
        Some(file) => exec::input_is(file)?,
        None => process::null_stdin()?,
    }
    exec::outputs_to(output, output)?;
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
