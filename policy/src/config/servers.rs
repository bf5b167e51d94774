//! `[[gitlab]]`: the servers whose jobs may run.

use super::model::{Algorithm, DEFAULT_KEYS_MAX_AGE, GitLabServer, UserCheck};
use super::reader::{At, Section};
use super::values::Values;
use crate::people::is_server_name;
use crate::url::check_url;
use std::collections::BTreeSet;

const HOUR: u64 = 3600;
const ALGORITHMS: [(&str, Algorithm); 3] =
    [("RS256", Algorithm::Rs256), ("ES256", Algorithm::Es256), ("ES384", Algorithm::Es384)];

/// The values of `user_check`, here and in a rule.
pub(super) const USER_CHECK: [(&str, UserCheck); 2] =
    [("required", UserCheck::Required), ("off", UserCheck::Off)];

pub(super) fn read(root: &mut Section<'_>) -> Vec<GitLabServer> {
    let tables = root.tables("gitlab");
    if tables.is_empty() {
        let help = "add a `[[gitlab]]` table with `name`, `url` and `audience`";
        root.find("no GitLab server is configured", help);
    }
    let mut names = BTreeSet::new();
    tables.into_iter().map(|table| server(table, &mut names)).collect()
}

fn server(mut table: Section<'_>, names: &mut BTreeSet<String>) -> GitLabServer {
    for key in ["name", "url", "audience"] {
        if !table.has(key) {
            table.find(format!("this server has no `{key}`"), format!("add `{key} = \"…\"`"));
        }
    }
    let name = table.text("name");
    if let Some(name) = &name {
        check_name(name, names);
    }
    let url = table.text("url").map(|at| url(&at)).unwrap_or_default();
    let repository_urls = table.texts("repository_urls").map_or_else(Vec::new, |at| at.value);
    let server = GitLabServer {
        name: name.map_or("", |at| at.value).to_owned(),
        issuer: table.text("issuer").map_or_else(|| url.clone(), |at| at.value.to_owned()),
        url,
        audience: table.texts("audience").map(audience).unwrap_or_default(),
        ca_file: table.text("ca_file").map(|at| super::values::path(&at)),
        algorithms: table.texts("algorithms").map_or_else(|| vec![Algorithm::Rs256], algorithms),
        runner_ids: table.integers("runner_ids").map(|at| at.value).unwrap_or_default(),
        repository_urls: repository_urls.iter().map(self::url).collect(),
        keys_max_age: table.seconds("keys_max_age", DEFAULT_KEYS_MAX_AGE, HOUR..=3650 * 24 * HOUR),
        user_check: table.choice("user_check", &USER_CHECK).map_or_else(UserCheck::default, |at| at.value),
    };
    table.finish();
    server
}

fn check_name(name: &At<'_, &str>, names: &mut BTreeSet<String>) {
    let text = name.value;
    if !is_server_name(text) {
        let help = "use lower-case letters, digits and `-`; it names the keys file";
        name.spot.find("this is no name for a server", help);
    }
    if !names.insert(text.to_owned()) {
        name.spot.find("two servers have this name", "give each server its own name");
    }
}

pub(super) fn url(at: &At<'_, &str>) -> String {
    let text = at.value.trim_end_matches('/');
    if let Err(help) = check_url(text) {
        at.spot.find("this is no URL of a GitLab server", help);
    }
    text.to_owned()
}

fn audience(at: At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    if at.value.is_empty() || at.value.iter().any(|one| one.value.is_empty()) {
        let help = "name the `aud` of the jobs' `id_tokens:`";
        at.spot.find("a server without an audience accepts nobody", help);
    }
    at.value.iter().map(|one| one.value.to_owned()).collect()
}

fn algorithms(at: At<'_, Vec<At<'_, &str>>>) -> Vec<Algorithm> {
    let mut algorithms = Vec::new();
    for one in &at.value {
        match ALGORITHMS.iter().find(|(name, _)| *name == one.value) {
            Some((_, algorithm)) => algorithms.push(*algorithm),
            None => one.spot.find("unknown value for an algorithm", "known here: RS256, ES256, ES384"),
        }
    }
    if at.value.is_empty() {
        at.spot.find("a server without an algorithm accepts nobody", "GitLab signs with `RS256`");
    }
    algorithms
}
