//! The known keys as a table.

use crate::error::KeysError;
use crate::files::{self, MAX_FILE};
use crate::jwks::{algorithm, bits};
use crate::server::algorithm_name;
use crate::terminal;
use nunbird_handover::Untrusted;
use nunbird_token::{KeysFile, StoredKey};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Prints the keys of all servers.
///
/// # Errors
/// If the directory or one of its files cannot be read; the keys of the others are printed first.
pub(crate) fn print(keys_dir: &Path) -> Result<(), KeysError> {
    let failed = |e: io::Error| KeysError::new(format!("{}: {e}", keys_dir.display()));
    let mut paths: Vec<PathBuf> = std::fs::read_dir(keys_dir)
        .map_err(failed)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut table = row("SERVER", "KID", "ALG", "BITS", "LAST SEEN", "PINNED");
    let mut troubles = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(file) => {
                for key in &file.keys {
                    table.push_str(&line(&file.server, key, now));
                }
            }
            Err(why) => troubles.push(format!("{}: {why}", path.display())),
        }
    }
    terminal::print(&table);
    if troubles.is_empty() { Ok(()) } else { Err(KeysError::new(troubles.join("\nerror: "))) }
}

fn read(path: &Path) -> Result<KeysFile, String> {
    let text = files::read(path, MAX_FILE).map_err(|e| e.to_string())?;
    serde_json::from_slice(&text)
        .map_err(|e| format!("not a keys file: {e}; the next refresh writes it anew"))
}

fn line(server: &str, key: &StoredKey, now: u64) -> String {
    row(
        &Untrusted(server).to_string(),
        &Untrusted(&key.kid).to_string(),
        algorithm_name(algorithm(&key.material)),
        &bits(&key.material).to_string(),
        &age(key.last_seen, now),
        if key.pinned { "yes" } else { "no" },
    )
}

fn row(server: &str, kid: &str, algorithm: &str, bits: &str, seen: &str, pinned: &str) -> String {
    format!("{server:<16} {kid:<44} {algorithm:<6} {bits:>5}  {seen:<12} {pinned}\n")
}

fn age(then: u64, now: u64) -> String {
    let seconds = now.saturating_sub(then);
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn an_age_is_shown_in_the_unit_that_fits() {
        for (seconds, text) in
            [(0, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (172_800, "2 d ago")]
        {
            assert_eq!(age(1_000_000 - seconds, 1_000_000), text);
        }
        assert_eq!(age(1_000_001, 1_000_000), "0 s ago");
    }
}
