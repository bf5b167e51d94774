//! Passwords for the registries of a job's images, from the job's own variables.
//!
//! In the order of gitlab-runner's docker executor: `DOCKER_AUTH_CONFIG`, then the site's own ([`crate::site_credentials`]), then what GitLab gives
//! every job for its own registry and its dependency proxy. A password is for a registry that one of the job's images is in, and for no other. It is never part of an error.
//!
//! A helper program that `DOCKER_AUTH_CONFIG` names is not run here, but by the job's account while the image is pulled, where the site
//! has directories for such programs.

use crate::refusal::{Code, Refusal};
use crate::service_variables::in_json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nunbird_handover::{Container, Credential, CredentialHelper, Credentials, Image, Untrusted};
use nunbird_policy::{ImageName, repository_name};
use serde::Deserialize;
use std::collections::BTreeMap;
use zeroize::{Zeroize, Zeroizing};

const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";
/// GitLab's variables: the registry, the user, the password.
const OF_GITLAB: [[&str; 3]; 2] = [
    ["CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"],
    ["CI_DEPENDENCY_PROXY_SERVER", "CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD"],
];
/// The longest variable, in bytes.
const MAX_VARIABLE: usize = 64 << 10;
/// Bytes of all credentials together in JSON: a message has room for no more.
const MAX_CREDENTIALS: usize = 24 << 10;

/// Bytes of a repository's path that are reckoned with where no job is known.
const USUAL_PATH: usize = 64;

/// What is found for one pull.
#[derive(Debug, Default)]
pub struct Found {
    /// At most one for each place that an image is in.
    pub credentials: Credentials,
    /// Programs to ask first; at most one for each registry.
    pub helpers: Vec<CredentialHelper>,
    /// Registries of the job's images whose password a helper program would have, which is not run.
    pub not_run: Vec<String>,
}

/// docker's config.json, as far as it is used.
#[derive(Default, Deserialize)]
struct AuthConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    token: String,
}

impl Drop for Auth {
    fn drop(&mut self) {
        self.auth.zeroize();
        self.password.zeroize();
        self.token.zeroize();
    }
}

/// The passwords for the images of this container, of the runner's own stages and of its services. `variable` gives the value of a variable of the job, and an
/// error where it is no UTF-8 text. `of_site` gives the site's password for a repository, and is asked where the job brings none.
///
/// # Errors
/// A denial for a variable that has another form or is too long, and what `of_site` refuses.
pub fn credentials(
    container: &Container,
    mut of_site: impl FnMut(&str) -> Result<Option<Credential>, Refusal>,
    mut variable: impl FnMut(&str) -> Result<Option<String>, String>,
) -> Result<Found, Refusal> {
    let names: Vec<ImageName> =
        images(container).filter_map(|image| ImageName::parse(&image.name).ok()).collect();
    let mut repositories: Vec<&str> = names.iter().filter_map(ImageName::repository).collect();
    repositories.sort_unstable();
    repositories.dedup();
    // No registry is asked for the others, which then need no password of the site's.
    let pulled: Vec<String> = images(container)
        .filter(|image| container.pulls() && image.may_be_pulled())
        .filter_map(|image| Some(ImageName::parse(&image.name).ok()?.repository()?.to_owned()))
        .collect();
    let mut found = Found::default();
    if repositories.is_empty() {
        return Ok(found);
    }
    let mut value = |name: &str| match variable(name) {
        Ok(Some(text)) if text.len() > MAX_VARIABLE => {
            Err(unusable(name, format!("{} bytes; the most are {MAX_VARIABLE}", text.len())))
        }
        Ok(text) => Ok(text.map(Zeroizing::new)),
        Err(why) => Err(unusable(name, why)),
    };
    let config = match value(AUTH_CONFIG)? {
        Some(text) => read(&text)?,
        None => AuthConfig::default(),
    };
    let mut of_gitlab: Vec<Credential> = Vec::new();
    for [registry, user, password] in OF_GITLAB {
        let Some(registry) = value(registry)?.and_then(|text| repository_name(&text)) else { continue };
        if let (Some(user), Some(password)) = (value(user)?, value(password)?) {
            of_gitlab.push(Credential {
                registry,
                user: user.to_string(),
                password: password.to_string(),
                site: None,
            });
        }
    }
    for repository in repositories {
        let registry = repository.split('/').next().unwrap_or_default();
        let of_config = of_config(&config, repository)?;
        let mut brings_one = of_config.is_some();
        match helper(&config, registry) {
            Some(helper) if !container.credential_helpers.directories.is_empty() => {
                if !CredentialHelper::is_name(&helper.name) {
                    let why = format!("the helper program of `{}` has no name of one", Untrusted(registry));
                    return Err(unusable(AUTH_CONFIG, why));
                }
                brings_one = true;
                if !found.helpers.contains(&helper) {
                    found.helpers.push(helper);
                }
            }
            Some(_) if of_config.is_none() && !found.not_run.iter().any(|one| one == registry) => {
                found.not_run.push(registry.to_owned());
            }
            _ => {}
        }
        let asks_site = !brings_one && pulled.iter().any(|one| one == repository);
        let of_site = if asks_site { of_site(repository)? } else { None };
        let of_gitlab = || of_gitlab.iter().find(|one| one.registry == registry).cloned();
        let credential = of_config.or(of_site).or_else(of_gitlab);
        if let Some(credential) = credential
            && !found.credentials.0.contains(&credential)
        {
            found.credentials.0.push(credential);
        }
    }
    of_gitlab.iter_mut().for_each(forget);
    let size = |one: &Credential| size(&one.registry, &one.user, &one.password);
    let sum = |of_site: bool| {
        found.credentials.0.iter().filter(|one| one.site.is_some() == of_site).map(size).sum::<usize>()
    };
    let (own, of_site) = (sum(false), sum(true));
    if own > MAX_CREDENTIALS {
        return Err(unusable(AUTH_CONFIG, format!("its passwords have more than {MAX_CREDENTIALS} bytes")));
    }
    if own + of_site > MAX_CREDENTIALS {
        return Err(too_many(&found.credentials));
    }
    Ok(found)
}

/// The images that are pulled for the job.
fn images(container: &Container) -> impl Iterator<Item = &Image> {
    let services = container.services.iter().map(|service| &service.image);
    container.image.iter().chain(&container.runner_image).chain(services)
}

/// How much of [`MAX_CREDENTIALS`] a password takes for one repository.
fn size(repository: &str, user: &str, password: &str) -> usize {
    [repository, user, password].map(in_json).iter().sum()
}

/// For how many repositories of a registry one job can have this password of the site's, whose names have the usual length.
pub fn repositories_of_a_job(registry: &str, user: &str, password: &str) -> usize {
    let one = size(registry, user, password).saturating_add(USUAL_PATH);
    MAX_CREDENTIALS.checked_div(one).unwrap_or(usize::MAX)
}

/// The longest comes first: it is what a shorter token would help.
fn too_many(credentials: &Credentials) -> Refusal {
    let mut sums: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for one in &credentials.0 {
        let Some(name) = &one.site else { continue };
        let (times, bytes) = sums.entry(name).or_default();
        *times += 1;
        *bytes = bytes.saturating_add(size(&one.registry, &one.user, &one.password));
    }
    let mut all: Vec<_> = sums.into_iter().collect();
    all.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
    let names: Vec<String> = all.iter().map(|(name, _)| format!("[credential.{name}]")).collect();
    let sums: Vec<String> = all
        .iter()
        .map(|(name, (times, bytes))| format!("[credential.{name}] for {times} repositories: {bytes} bytes"))
        .collect();
    let message = format!(
        "the site's passwords for the images of this job do not fit into its message ({}), which takes {} KiB of them",
        names.join(", "),
        MAX_CREDENTIALS >> 10
    );
    let detail = format!("{}; the most are {MAX_CREDENTIALS} for one job", sums.join(", "));
    let help = "let the job have fewer services and images that need these passwords, or have the administrators use shorter tokens";
    Refusal::system(Code::Images, message, detail).help(help)
}

/// Overwrites the password.
pub fn forget(credential: &mut Credential) {
    credential.password.zeroize();
}

fn unusable(name: &str, why: String) -> Refusal {
    Refusal::denied(Code::Variable, format!("{name} of this job cannot be used"), format!("{name}: {why}"))
        .help(format!("correct {name} in the project's or the group's CI/CD variables, or remove it"))
}

/// The parser's words could repeat a password: only its place is reported.
fn read(text: &str) -> Result<AuthConfig, Refusal> {
    serde_json::from_str(text).map_err(|e| {
        let why =
            format!("not what docker writes into config.json, at line {}, column {}", e.line(), e.column());
        unusable(AUTH_CONFIG, why)
    })
}

/// The entry with the longest path that the image is in.
fn of_config(config: &AuthConfig, repository: &str) -> Result<Option<Credential>, Refusal> {
    let contains = |place: &str| {
        repository.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let entries = config.auths.iter().filter_map(|(key, auth)| Some((place(key)?, key, auth)));
    let Some((place, key, auth)) =
        entries.filter(|(place, ..)| contains(place)).max_by_key(|(place, ..)| place.len())
    else {
        return Ok(None);
    };
    let wrong =
        || unusable(AUTH_CONFIG, format!("`auth` of `{}` is not USER:PASSWORD in base64", Untrusted(key)));
    if !auth.token.is_empty() {
        let (user, password) = (Credential::TOKEN.to_owned(), auth.token.clone());
        return Ok(Some(Credential { registry: place, user, password, site: None }));
    }
    if auth.auth.is_empty() {
        let (user, password) = (auth.username.clone(), auth.password.clone());
        return Ok((!user.is_empty()).then_some(Credential { registry: place, user, password, site: None }));
    }
    let decoded = Zeroizing::new(STANDARD.decode(auth.auth.trim()).map_err(|_| wrong())?);
    let text = std::str::from_utf8(&decoded).map_err(|_| wrong())?;
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    // docker pads some of them.
    let password = password.trim_end_matches('\0');
    Ok(Some(Credential { registry: place, user: user.to_owned(), password: password.to_owned(), site: None }))
}

/// A key of `auths` as a registry with or without a path: docker writes `https://index.docker.io/v1/` for its own.
fn place(key: &str) -> Option<String> {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let bare = match bare {
        Some(url) => url.strip_suffix("/v1/").or_else(|| url.strip_suffix("/v2/")).unwrap_or(url),
        None => key,
    };
    repository_name(bare.trim_end_matches('/'))
}

/// The program that has the password: that of the registry, or else that of all registries. An empty name is none, as with docker.
fn helper(config: &AuthConfig, registry: &str) -> Option<CredentialHelper> {
    let own = config.helpers.iter().find(|(key, _)| place(key).as_deref() == Some(registry));
    let (server, name) = match own {
        Some((key, name)) => (key.clone(), name),
        None if registry == "docker.io" => ("https://index.docker.io/v1/".to_owned(), &config.store),
        None => (registry.to_owned(), &config.store),
    };
    let helper = CredentialHelper { registry: registry.to_owned(), server, name: name.clone() };
    (!name.is_empty()).then_some(helper)
}

#[cfg(test)]
mod tests;
