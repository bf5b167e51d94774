//! Id tokens: where one comes from, what it says, and whether its signature is genuine. None is ever printed.

use crate::output::Trouble;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nunbird_policy::{Algorithm, Policy};
use nunbird_token::{KEYS_VERSION, KeysFile, Response, Server, StoredKey, verify};
use serde_json::{Map, Value};
use std::path::Path;

/// What a token says, and who says so.
pub(crate) struct Said {
    pub(crate) claims: Map<String, Value>,
    /// For people: what is known of the signature.
    pub(crate) signature: String,
}

/// Reads a token from a file.
pub(crate) fn from_file(file: &Path, policy: &Policy) -> Result<Said, Trouble> {
    let text = crate::files::text(file)?;
    said(text.trim(), policy)
}

/// Finds the token in a job response, by the configured names.
pub(crate) fn from_response(file: &Path, policy: &Policy) -> Result<Said, Trouble> {
    let bytes = std::fs::read(file).map_err(|e| Trouble::new(format!("{}: {e}", file.display())))?;
    let response = Response::parse(&bytes)
        .ok_or_else(|| Trouble::new(format!("{}: no job response of gitlab-runner", file.display())))?;
    let names = &policy.identity.token_variables;
    let token = names.iter().find_map(|name| response.values(name).find(|value| !value.is_empty()));
    let token = token.ok_or_else(|| {
        Trouble::new(format!("{}: no variable named {} in it", file.display(), names.join(", ")))
    })?;
    said(token, policy)
}

fn said(token: &str, policy: &Policy) -> Result<Said, Trouble> {
    let malformed =
        || Trouble::new("this is no id token: three parts with dots between them, the second one JSON");
    let payload = token.split('.').nth(1).ok_or_else(malformed)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed())?;
    let Ok(Value::Object(claims)) = serde_json::from_slice(&payload) else { return Err(malformed()) };
    let now = nunbird_sys::clock::now().map_err(Trouble::new)?;
    let servers: Vec<Server> = policy.gitlab.iter().map(|server| known(policy, server)).collect();
    let signature = if servers.iter().all(|server| server.keys.is_empty()) {
        let keys = policy.keys_dir.display();
        format!("signature NOT verified: no keys can be read in {keys}; the decision holds if it is genuine")
    } else {
        match verify(token, &servers, now) {
            Ok(verified) => {
                let name = policy.gitlab.get(verified.server).map_or("", |server| server.name.as_str());
                format!("signature verified with a key of server `{name}`")
            }
            Err(rejection) => format!("signature NOT genuine: {rejection}; nunbird-auth would deny this job"),
        }
    };
    Ok(Said { claims, signature })
}

fn known(policy: &Policy, server: &nunbird_policy::GitLabServer) -> Server {
    let name = |algorithm: &Algorithm| match algorithm {
        Algorithm::Rs256 => "RS256",
        Algorithm::Es256 => "ES256",
        Algorithm::Es384 => "ES384",
    };
    Server {
        issuer: server.issuer.clone(),
        audience: server.audience.clone(),
        algorithms: server.algorithms.iter().map(name).collect(),
        runner_ids: server.runner_ids.clone(),
        keys_max_age: server.keys_max_age,
        keys: stored(policy, server).unwrap_or_default(),
    }
}

/// The keys of a server as its file has them.
pub(crate) fn stored(
    policy: &Policy,
    server: &nunbird_policy::GitLabServer,
) -> Result<Vec<StoredKey>, String> {
    let path = policy.keys_dir.join(format!("{}.json", server.name));
    let shown = path.display();
    let bytes = std::fs::read(&path).map_err(|e| format!("{shown}: {e}"))?;
    let file: KeysFile = serde_json::from_slice(&bytes).map_err(|e| format!("{shown}: no keys file: {e}"))?;
    if file.version != KEYS_VERSION || file.server != server.name || file.issuer != server.issuer {
        return Err(format!("{shown}: keys of another server or issuer"));
    }
    Ok(file.keys)
}
