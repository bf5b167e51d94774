//! The keys files: old and new keys are merged, and the file is replaced atomically.
//!
//! Only the owner of the keys directory writes there. root would leave files that the owner cannot
//! replace, and would follow links that the owner, or an attacker with the owner's rights, has
//! created.

use crate::error::KeysError;
use crate::files::{self, MAX_FILE};
use crate::jwks::Key;
use crate::server::Server;
use crate::terminal::print_error;
use nix::unistd::{Uid, User, geteuid};
use nunbird_policy::shell_word;
use nunbird_token::{KEYS_VERSION, KeysFile, MAX_KEYS, StoredKey};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The shortest interval between requests to a server, so that jobs with bad tokens cannot make it
/// answer more often. Shorter than gitlab-runner's three attempts of `config` together, which are
/// three seconds apart: a job with a new key fails while no request is allowed.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(5);
/// The lock is held while a small file is written; a process that holds it longer has been stopped.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Records that the server is about to be queried.
///
/// # Errors
/// With `limited`: [`KeysError::TryLater`] if it was queried less than five seconds ago.
pub(crate) fn record_attempt(keys_dir: &Path, server: &str, limited: bool) -> Result<(), KeysError> {
    let path = keys_dir.join(format!("{server}.attempt"));
    let _lock = lock(keys_dir)?;
    if limited && let Ok(last) = path.metadata().and_then(|meta| meta.modified()) {
        // A time in the future, after the clock was set back, counts as long ago.
        let ago = SystemTime::now().duration_since(last).unwrap_or(BETWEEN_ATTEMPTS);
        if ago < BETWEEN_ATTEMPTS {
            let left = (BETWEEN_ATTEMPTS - ago).as_secs() + 1;
            return Err(KeysError::TryLater(format!(
                "{server} was queried a moment ago; try again in {left} s"
            )));
        }
    }
    touch(&path, SystemTime::now())
}

fn touch(path: &Path, time: SystemTime) -> Result<(), KeysError> {
    let failed = |e: io::Error| KeysError::new(format!("{}: {e}", path.display()));
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path);
    // Truncating a file of length 0 does not change its mtime.
    options.map_err(failed)?.set_modified(time).map_err(failed)
}

/// Adds keys to a server's file. Keys that the server no longer publishes stay until they expire:
/// GitLab changes its key without overlap, and tokens that the old key signed are still in use.
///
/// # Errors
/// If the old file cannot be read or replaced; it is unchanged then.
pub(crate) fn merge(
    keys_dir: &Path,
    server: &Server,
    fresh: Vec<Key>,
    pinned: bool,
) -> Result<(), KeysError> {
    let _lock = lock(keys_dir)?;
    let path = keys_dir.join(format!("{}.json", server.name));
    let failed = |e: &dyn std::fmt::Display| {
        KeysError::new(format!("{}: {e}; the keys are unchanged", path.display()))
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let old = read(&path, server).map_err(|e| failed(&e))?;
    let file = KeysFile {
        version: KEYS_VERSION,
        server: server.name.clone(),
        issuer: server.issuer.clone(),
        fetched_at: now,
        keys: merged(old, fresh, pinned, now, server.keys_max_age).map_err(|e| failed(&e))?,
    };
    let text = serde_json::to_vec_pretty(&file).map_err(KeysError::new)?;
    replace(&path, &text).map_err(|e| failed(&e))
}

/// The keys of an intact file; a damaged one, or one of another issuer, is reported and then
/// replaced.
fn read(path: &Path, server: &Server) -> io::Result<Vec<StoredKey>> {
    let bytes = match files::read(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
        Err(e) => return Err(e),
    };
    let why = match serde_json::from_slice::<KeysFile>(&bytes) {
        Ok(file) if file.version != KEYS_VERSION => format!("written in format {}", file.version),
        Ok(file) if file.issuer != server.issuer => "holds another issuer's keys".to_owned(),
        Ok(file) => return Ok(file.keys),
        Err(e) => format!("not a keys file: {e}"),
    };
    print_error(&format!("{}: {why}; its keys are dropped and it is written anew", path.display()));
    Ok(Vec::new())
}

/// The new contents of the file: all that the server publishes now, all pinned keys, and the
/// youngest of the others.
fn merged(
    old: Vec<StoredKey>,
    fresh: Vec<Key>,
    pinned: bool,
    now: u64,
    max_age: u64,
) -> Result<Vec<StoredKey>, String> {
    let mut all: Vec<StoredKey> = fresh
        .into_iter()
        .map(|key| {
            let was_pinned = old.iter().any(|o| o.pinned && o.kid == key.kid && o.material == key.material);
            StoredKey { kid: key.kid, material: key.material, last_seen: now, pinned: pinned || was_pinned }
        })
        .collect();
    let (kept, mut aging): (Vec<StoredKey>, Vec<StoredKey>) = old
        .into_iter()
        .filter(|o| !all.iter().any(|new| new.kid == o.kid && new.material == o.material))
        // A clock that was ahead once must not keep a key forever.
        .map(|o| StoredKey { last_seen: o.last_seen.min(now), ..o })
        .partition(|o| o.pinned);
    all.extend(kept);
    if all.len() > MAX_KEYS {
        return Err(format!(
            "{} keys together with the pinned ones, but at most {MAX_KEYS} fit; remove the file to start again",
            all.len()
        ));
    }
    aging.retain(|key| now < key.last_seen.saturating_add(max_age));
    aging.sort_by_key(|key| std::cmp::Reverse(key.last_seen));
    all.extend(aging);
    all.truncate(MAX_KEYS);
    Ok(all)
}

/// Writes to another name and renames: a reader sees the old content or the new.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = PathBuf::from(format!("{}.new", path.display()));
    let written = write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Left by a full disk.
        let _absent = std::fs::remove_file(&temporary);
    }
    written?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    // Left by a killed process; we hold the lock.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // Whatever the umask: nunbird-auth may read this under any account.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Waits until no other process writes. Only the owner may open the lock's file: any process that
/// can open it could hold it.
fn lock(keys_dir: &Path) -> Result<File, KeysError> {
    check_owner(keys_dir)?;
    let path = keys_dir.join(".lock");
    let failed = |e: io::Error| KeysError::new(format!("{}: {e}", path.display()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(failed)?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let shown = path.display();
                return Err(KeysError::new(format!(
                    "{shown}: locked by another nunbird-keys that does not finish"
                )));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// This command line for another account.
fn command_as(owner: Uid, name: &str) -> String {
    let program = std::env::current_exe().ok().map(|path| path.to_string_lossy().into_owned());
    let arguments = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = program.into_iter().chain(arguments).map(|word| shell_word(&word)).collect();
    let user = match User::from_uid(owner) {
        Ok(Some(_)) => format!("runuser -u {}", shell_word(name)),
        _ => format!("setpriv --reuid {owner} --clear-groups"),
    };
    format!("{user} -- {}", words.join(" "))
}

fn check_owner(keys_dir: &Path) -> Result<(), KeysError> {
    let shown = keys_dir.display();
    let meta = std::fs::metadata(keys_dir).map_err(|e| {
        KeysError::new(format!("{shown}: {e}; create it and make the user that runs nunbird-keys its owner"))
    })?;
    let owner = Uid::from_raw(meta.uid());
    if owner != geteuid() {
        let known = User::from_uid(owner).ok().flatten().map(|user| user.name);
        let name = known.unwrap_or_else(|| format!("uid {owner}"));
        return Err(KeysError::new(format!(
            "{shown}: belongs to {name}, and only its owner writes keys; run `{}`",
            command_as(owner, &name)
        )));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(KeysError::new(format!("{shown}: others could write keys into it; chmod go-w")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
