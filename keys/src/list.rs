//! The known keys as a table.

use crate::jwks::{algorithm, bits};
use crate::trouble::Trouble;
use nunbird_handover::Untrusted;
use nunbird_token::KeysFile;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Prints the keys of all servers.
pub(crate) fn print(keys_dir: &Path) -> Result<(), Trouble> {
    let failed = |e: std::io::Error| Trouble::new(format!("{}: {e}", keys_dir.display()));
    let mut files: Vec<_> = std::fs::read_dir(keys_dir)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    println!("{:<16} {:<44} {:<6} {:>5}  {:<8} PINNED", "SERVER", "KID", "ALG", "BITS", "SEEN");
    for path in files {
        let text = std::fs::read(&path).map_err(failed)?;
        let file: KeysFile =
            serde_json::from_slice(&text).map_err(|e| Trouble::new(format!("{}: {e}", path.display())))?;
        for key in file.keys {
            let pinned = if key.pinned { "yes" } else { "no" };
            println!(
                "{:<16} {:<44} {:<6} {:>5}  {:<8} {pinned}",
                Untrusted(&file.server).to_string(),
                Untrusted(&key.kid).to_string(),
                algorithm(&key.material),
                bits(&key.material),
                age(key.last_seen)
            );
        }
    }
    Ok(())
}

fn age(then: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let seconds = now.saturating_sub(then);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}
