//! Passwords for registries: those that the user gives with the job, and those that `podman login` or `docker login` has kept.
//!
//! Nothing of the file's counts here: a registry of its own choice would get the user's password.

use crate::variables::Variables;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nunbird_handover::{Credential, Credentials};
use nunbird_stage::small_files;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::env::var_os;
use std::path::{Path, PathBuf};

/// The longest file or variable, in bytes.
const LONGEST: u64 = 64 << 10;
const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// docker's config.json and Podman's auth.json, as far as they are used.
#[derive(Default, Deserialize)]
struct AuthConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    token: String,
}

/// All of them, the first for a registry being the one that counts. `given` are the variables of the command line and its files.
pub(crate) fn credentials(given: &Variables, home: &Path) -> Credentials {
    let of = |name: &str| {
        given
            .iter()
            .find(|(own, variable)| *own == name && !variable.value.is_empty())
            .map(|(_, one)| one.value.clone())
    };
    let mut all = Vec::new();
    let own = [of("CI_REGISTRY"), of("CI_REGISTRY_USER"), of("CI_REGISTRY_PASSWORD")];
    if let [Some(registry), Some(user), Some(password)] = own {
        all.push(Credential { registry, user, password, site: None });
    }
    let mut add = |text: &[u8]| {
        for one in parse(text) {
            if all.iter().all(|known: &Credential| known.registry != one.registry) {
                all.push(one);
            }
        }
    };
    if let Some(text) = of(AUTH_CONFIG) {
        add(text.as_bytes());
    }
    for file in files(home) {
        // One that is not there, or is longer, has no password that an engine would use.
        if let Ok(text) = small_files::beginning(&file, LONGEST) {
            add(&text);
        }
    }
    Credentials(all)
}

/// In the order in which Podman reads them (containers-auth.json(5)).
fn files(home: &Path) -> Vec<PathBuf> {
    let named = var_os("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let runtime = var_os("XDG_RUNTIME_DIR").map(|place| Path::new(&place).join("containers/auth.json"));
    let config = var_os("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    let docker = var_os("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), PathBuf::from);
    let others = [config.join("containers/auth.json"), docker.join("config.json")];
    named.into_iter().chain(runtime).chain(others).collect()
}

/// An entry without a password is one whose password a program keeps.
fn parse(text: &[u8]) -> Vec<Credential> {
    let config: AuthConfig = serde_json::from_slice(text).unwrap_or_default();
    let one = |(registry, auth): (String, Auth)| {
        if !auth.token.is_empty() {
            return Some(Credential {
                registry,
                user: Credential::TOKEN.to_owned(),
                password: auth.token,
                site: None,
            });
        }
        let decoded = String::from_utf8(STANDARD.decode(auth.auth).ok()?).ok()?;
        let (user, password) = decoded.trim_end_matches('\0').split_once(':')?;
        Some(Credential { registry, user: user.to_owned(), password: password.to_owned(), site: None })
    };
    config.auths.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::{credentials, parse};
    use crate::variables::Variables;
    use nunbird_handover::Credential;

    fn shown(all: &[Credential]) -> Vec<String> {
        all.iter().map(|one| format!("{} {} {}", one.registry, one.user, one.password)).collect()
    }

    #[test]
    fn entries_have_a_password_or_a_token_and_what_is_no_entry_counts_for_nothing() {
        let text = br#"{"auths": {"a.example": {"auth": "YW5uOm86bmU="}, "b.example": {"identitytoken": "t"}, "c.example": {},
            "d.example": {"auth": "no base64"}}, "credsStore": "desktop"}"#;
        assert_eq!(shown(&parse(text)), ["a.example ann o:ne", "b.example <token> t"]);
        assert!(parse(b"").is_empty() && parse(b"[1]").is_empty());
    }

    #[test]
    fn the_users_variables_come_before_the_kept_files() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(home.path().join(".docker")).expect("a directory");
        let kept = r#"{"auths": {"kept.example": {"auth": "YW5uOmtlcHQ="}, "own.example": {"auth": "YW5uOmtlcHQ="}}}"#;
        std::fs::write(home.path().join(".docker/config.json"), kept).expect("a file");
        let mut given = Variables::default();
        given.set("DOCKER_AUTH_CONFIG", r#"{"auths": {"own.example": {"auth": "YW5uOmdpdmVu"}}}"#);
        given.set("CI_REGISTRY_USER", "ann");
        given.set("CI_REGISTRY_PASSWORD", "p");
        let found = shown(&credentials(&given, home.path()).0);
        assert_eq!(found[0], "own.example ann given");
        assert!(found.contains(&"kept.example ann kept".to_owned()) && found.len() == 2, "{found:?}");
        given.set("CI_REGISTRY", "r.example");
        assert_eq!(shown(&credentials(&given, home.path()).0)[0], "r.example ann p");
    }
}
