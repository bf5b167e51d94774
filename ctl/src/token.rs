//! What a token contains, and the keys that tokens are verified with. No token is ever printed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nunbird_policy::Policy;
use nunbird_token::{KEYS_VERSION, KeysFile, StoredKey};
use serde_json::{Map, Value};

/// The claims of a token, whatever its signature; none for a text that is not a token.
pub(crate) fn payload(token: &str) -> Option<Map<String, Value>> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    match serde_json::from_slice(&payload) {
        Ok(Value::Object(claims)) => Some(claims),
        _ => None,
    }
}

/// The keys of a server from its file.
pub(crate) fn stored(
    policy: &Policy,
    server: &nunbird_policy::GitLabServer,
) -> Result<Vec<StoredKey>, String> {
    let path = policy.keys_dir.join(format!("{}.json", server.name));
    let shown = path.display();
    let bytes = crate::files::of_others(&path).map_err(|e| format!("{shown}: {e}"))?;
    let file: KeysFile =
        serde_json::from_slice(&bytes).map_err(|e| format!("{shown}: not a keys file: {e}"))?;
    if file.version != KEYS_VERSION || file.server != server.name || file.issuer != server.issuer {
        return Err(format!("{shown}: keys of another server or issuer"));
    }
    Ok(file.keys)
}
