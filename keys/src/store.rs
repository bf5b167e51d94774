//! The keys files: old keys and new ones brought together, replaced in one step.

use crate::commands::Server;
use crate::jwks::Key;
use crate::trouble::Trouble;
use nunbird_token::{KEYS_VERSION, KeysFile, MAX_KEYS, StoredKey};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A job's bad token must not make the server answer more often than this.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(60);

/// Notes that the server is about to be asked.
///
/// # Errors
/// With `limited`: [`Trouble::TryLater`] when it was asked less than a minute ago, whatever came of it.
pub(crate) fn attempt(keys_dir: &Path, server: &str, limited: bool) -> Result<(), Trouble> {
    let path = keys_dir.join(format!("{server}.attempt"));
    let _lock = lock(keys_dir)?;
    if limited && let Ok(last) = path.metadata().and_then(|meta| meta.modified()) {
        // A time in the future, after the clock was set back, counts as long ago.
        let ago = SystemTime::now().duration_since(last).unwrap_or(BETWEEN_ATTEMPTS);
        if ago < BETWEEN_ATTEMPTS {
            let left = (BETWEEN_ATTEMPTS - ago).as_secs() + 1;
            return Err(Trouble::TryLater(format!("{server} was asked a moment ago; try again in {left} s")));
        }
    }
    let failed = |e: io::Error| Trouble::new(format!("{}: {e}", path.display()));
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&path);
    // The time of a file of length 0 does not change by truncating it.
    options.map_err(failed)?.set_modified(SystemTime::now()).map_err(failed)
}

/// Adds keys to a server's file. Keys that the server no longer shows stay until they are too old: GitLab changes
/// its key without overlap, and tokens that it signed before are still around.
///
/// # Errors
/// When the file cannot be replaced; the old one is then as it was.
pub(crate) fn merge(keys_dir: &Path, server: &Server, fresh: Vec<Key>, pinned: bool) -> Result<(), Trouble> {
    let _lock = lock(keys_dir)?;
    let path = keys_dir.join(format!("{}.json", server.name));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let old = read(&path, server);
    let file = KeysFile {
        version: KEYS_VERSION,
        server: server.name.clone(),
        issuer: server.issuer.clone(),
        fetched_at: now,
        keys: united(old, fresh, pinned, now, server.keys_max_age),
    };
    let text = serde_json::to_vec_pretty(&file).map_err(Trouble::new)?;
    replace(&path, &text)
        .map_err(|e| Trouble::new(format!("{}: {e}; the keys are as they were", path.display())))
}

/// The keys of a file that is there and whole; a broken one is told and then replaced.
fn read(path: &Path, server: &Server) -> Vec<StoredKey> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            eprintln!("nunbird-keys: {}: {e}; written anew", path.display());
            return Vec::new();
        }
    };
    match serde_json::from_slice::<KeysFile>(&bytes) {
        Ok(file) if file.version == KEYS_VERSION && file.issuer == server.issuer => file.keys,
        Ok(_) => {
            eprintln!("nunbird-keys: {}: of another issuer or version; written anew", path.display());
            Vec::new()
        }
        Err(e) => {
            eprintln!("nunbird-keys: {}: {e}; written anew", path.display());
            Vec::new()
        }
    }
}

fn united(old: Vec<StoredKey>, fresh: Vec<Key>, pinned: bool, now: u64, max_age: u64) -> Vec<StoredKey> {
    let mut all: Vec<StoredKey> = fresh
        .into_iter()
        .map(|key| {
            let was_pinned = old.iter().any(|o| o.pinned && o.kid == key.kid && o.material == key.material);
            StoredKey { kid: key.kid, material: key.material, last_seen: now, pinned: pinned || was_pinned }
        })
        .collect();
    let mut kept: Vec<StoredKey> = old
        .into_iter()
        .filter(|o| !all.iter().any(|new| new.kid == o.kid && new.material == o.material))
        .filter(|o| o.pinned || now < o.last_seen.saturating_add(max_age))
        .collect();
    kept.sort_by_key(|key| (!key.pinned, std::cmp::Reverse(key.last_seen)));
    all.extend(kept);
    all.truncate(MAX_KEYS);
    all
}

/// Writes beside the file and renames: a reader sees the old content or the new.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = PathBuf::from(format!("{}.new", path.display()));
    let written = write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // What a full disk left of it.
        let _absent = std::fs::remove_file(&temporary);
    }
    written?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    // One that a killed process left; the lock is held.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // Whatever the umask: nunbird-auth may run as anybody when it reads this.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Waits until no other fetch is writing.
fn lock(keys_dir: &Path) -> Result<File, Trouble> {
    let path = keys_dir.join(".lock");
    let failed = |e: io::Error| {
        Trouble::new(format!(
            "{}: {e}; the directory must belong to the user that runs nunbird-keys",
            path.display()
        ))
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
