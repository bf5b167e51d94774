//! The servers' signing keys, as their files contain them.

use crate::arguments::Keys;
use crate::output::{CtlError, FAILURE, Format, OK, print, print_json};
use crate::{files, token};
use nix::unistd::{Uid, User, geteuid};
use nunbird_handover::Untrusted;
use nunbird_policy::{Algorithm, GitLabServer, Policy, shell_word};
use nunbird_token::{KeyMaterial, StoredKey};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;

pub(crate) fn run(options: &Keys, format: Format) -> Result<u8, CtlError> {
    let policy = files::read(&options.configuration.configuration, format)?.policy;
    let now = nunbird_sys::clock::now().map_err(CtlError::new)?;
    let (mut text, mut all, mut whole) = (String::new(), Vec::new(), true);
    for server in &policy.gitlab {
        text.push_str(&format!("{} ({})\n", server.name, Untrusted(&server.url)));
        match token::stored(&policy, server) {
            Err(why) => {
                whole = false;
                let command = refresh_command(&policy, Some(&server.name));
                text.push_str(&format!("  {}; run `{}`\n", Untrusted(&why), Untrusted(&command)));
                all.push(json!({ "server": server.name, "error": why, "keys": [] }));
            }
            Ok(keys) => {
                let used = |key: &StoredKey| is_used(key, server, now);
                whole &= keys.iter().any(used);
                for key in &keys {
                    text.push_str(&row(key, now, used(key)));
                }
                if keys.is_empty() {
                    let command = refresh_command(&policy, Some(&server.name));
                    text.push_str(&format!("  no keys; run `{}`\n", Untrusted(&command)));
                }
                let keys: Vec<Value> = keys.iter().map(|key| machine(key, now, used(key))).collect();
                all.push(json!({ "server": server.name, "keys": keys }));
            }
        }
    }
    match format {
        Format::Text => print(&text)?,
        Format::Json => print_json(&json!({ "servers": all }))?,
    }
    Ok(if whole { OK } else { FAILURE })
}

/// The command that fetches keys, run as the account that may write them.
pub(crate) fn refresh_command(policy: &Policy, server: Option<&str>) -> String {
    let command = nunbird_policy::refresh_command(policy, server);
    let owner = policy.keys_dir.metadata().ok().map(|meta| Uid::from_raw(meta.uid()));
    match owner {
        Some(uid) if uid == geteuid() => command,
        Some(uid) => match User::from_uid(uid) {
            Ok(Some(user)) => format!("runuser -u {} -- {command}", shell_word(&user.name)),
            _ => format!("setpriv --reuid {uid} --clear-groups -- {command}"),
        },
        // The package makes this account the owner.
        None => format!("runuser -u nunbird -- {command}"),
    }
}

/// Whether nunbird-auth would verify a token with it.
pub(crate) fn is_used(key: &StoredKey, server: &GitLabServer, now: u64) -> bool {
    let configured = |wanted: &Algorithm| {
        matches!(
            (wanted, &key.material),
            (Algorithm::Rs256, KeyMaterial::Rs256 { .. })
                | (Algorithm::Es256, KeyMaterial::Es256 { .. })
                | (Algorithm::Es384, KeyMaterial::Es384 { .. })
        )
    };
    server.algorithms.iter().any(configured)
        && (key.pinned || now < key.last_seen.saturating_add(server.keys_max_age))
}

fn algorithm(key: &StoredKey) -> &'static str {
    match key.material {
        KeyMaterial::Rs256 { .. } => "RS256",
        KeyMaterial::Es256 { .. } => "ES256",
        KeyMaterial::Es384 { .. } => "ES384",
    }
}

fn row(key: &StoredKey, now: u64, used: bool) -> String {
    let age = now.saturating_sub(key.last_seen) / 3600;
    let seen = if key.pinned { "pinned".to_owned() } else { format!("seen {age} h ago") };
    let used = if used { "in use" } else { "NOT used: too old, or an algorithm that is not configured" };
    format!("  {:<8} {seen:<16} {used}  {}\n", algorithm(key), Untrusted(&key.kid))
}

fn machine(key: &StoredKey, now: u64, used: bool) -> Value {
    json!({
        "kid": key.kid,
        "algorithm": algorithm(key),
        "age_seconds": now.saturating_sub(key.last_seen),
        "pinned": key.pinned,
        "used": used,
    })
}
