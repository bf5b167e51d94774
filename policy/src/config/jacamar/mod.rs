//! Jacamar CI's configuration (`[general]`, `[auth]`, `[batch]`), read into the same [`Policy`].
//!
//! Every documented key is known here. A key is honoured, or it has no effect on what Nunbird does, or the value is a
//! finding that says how Nunbird's own configuration has it: nothing that a site sets is dropped without a finding.
//! `docs/migration.md` has the table.

mod auth;
mod batch;
mod general;
mod lists;

pub use general::NO_GITLAB_SERVER;

use super::listed::ListedServer;
use super::model::*;
use super::reader::{At, Section};
use super::values;
use super::{Directories, GitLabServer, IdentitySettings, Job};
use crate::DEFAULT_KEYS_DIR;
use general::General;
use nunbird_handover::Upkeep;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whether the files have Jacamar's tables.
pub(super) fn is_meant(root: &Section<'_>) -> bool {
    (root.has("general") || root.has("auth")) && !root.has("gitlab") && !root.has("rule")
}

/// Reads a whole configuration; findings stay with the reader. `server` is what the list of configurations says of its server.
pub(super) fn read<'t>(file: &Path, mut root: Section<'t>, server: Option<ListedServer<'t>>) -> Policy {
    let general = general::read(&mut root, server);
    let auth = auth::read(&mut root, &general);
    let batch = batch::read(root.table("batch"));
    root.finish();
    let General { executor, container, shell, directories, environment, token_variable, server, .. } =
        general;
    let (message, raise_stack_limit) = (general.message, general.raise_stack_limit);
    let isolation = auth.isolation;
    let name = container.as_ref().map(|container| container.name.clone());
    let ways = Job { shell, executor, batch, container: name, ..Job::default() };
    let job = Job { isolation, message, stages: auth.stages, raise_stack_limit, ..ways };
    let upkeep = Upkeep { create: auth.create, ..directories.upkeep.clone() };
    let mut job_environment = job.environment.clone();
    job_environment.extend(environment);
    Policy {
        limits: BTreeMap::new(),
        containers: container.into_iter().map(|one| (one.name.clone(), one)).collect(),
        credentials: BTreeMap::new(),
        file: file.to_path_buf(),
        dialect: Dialect::Jacamar,
        downscope: auth.downscope,
        keys_dir: PathBuf::from(DEFAULT_KEYS_DIR),
        gitlab: vec![GitLabServer { audience: auth.audience, ..server }],
        identity: IdentitySettings {
            token_variables: vec![token_variable],
            late_stages: auth.late_stages,
            ..IdentitySettings::default()
        },
        accounts: auth.accounts,
        directories: Directories { upkeep, ..directories },
        // A site that switches by its path has profiles that test them.
        job: Job { environment: job_environment, jacamar_variables: true, ..job },
        profiles: BTreeMap::new(),
        schedulers: BTreeMap::new(),
        maps: BTreeMap::new(),
        audit: auth.audit,
        validation: auth.validation,
        pam: None,
        rules: auth.rules,
        tests: Vec::new(),
    }
}

/// Jacamar takes an empty text for one that is not set.
fn set<'t>(table: &mut Section<'t>, key: &'static str) -> Option<At<'t, &'t str>> {
    table.text(key).filter(|at| !at.value.is_empty())
}

/// A text that must be there.
fn required<'t>(table: &mut Section<'t>, key: &'static str, help: &str) -> Option<At<'t, &'t str>> {
    if !table.has(key) {
        table.find(format!("there is no `{key}`"), help);
    }
    let at = table.text(key)?;
    if at.value.is_empty() {
        at.spot.find(format!("`{key}` is empty"), help);
    }
    (!at.value.is_empty()).then_some(at)
}

/// A list of names that decides who may run; none when it is empty.
///
/// An empty name in it is a finding: without it the list would be empty and let everybody pass, where Jacamar compares
/// every name with it and admits no job.
fn names<'t>(table: &mut Section<'t>, key: &'static str) -> Option<At<'t, Vec<At<'t, &'t str>>>> {
    let At { mut value, spot } = table.texts(key)?;
    value.retain(|one| {
        if one.value.is_empty() {
            let help = "remove it; a list without effect is `[]`, or no line at all";
            one.spot.find("empty name in a list", help);
        }
        !one.value.is_empty()
    });
    (!value.is_empty()).then_some(At { value, spot })
}

/// A list without its empty texts; none when nothing is left.
fn list<'t>(table: &mut Section<'t>, key: &'static str) -> Option<At<'t, Vec<At<'t, &'t str>>>> {
    let at = table.texts(key)?;
    let value: Vec<_> = at.value.into_iter().filter(|one| !one.value.is_empty()).collect();
    (!value.is_empty()).then_some(At { value, spot: at.spot })
}

/// A switch that is off unless it is set.
fn on(table: &mut Section<'_>, key: &'static str) -> bool {
    table.boolean(key).is_some_and(|at| at.value)
}

/// A switch that Nunbird does not have: off is as well, on is a finding.
fn refuse_on(table: &mut Section<'_>, key: &'static str, help: &str) {
    if let Some(at) = table.boolean(key).filter(|at| at.value) {
        at.spot.find(format!("`{key} = true` is not supported"), help);
    }
}

/// A list that Nunbird cannot honour: empty is as well, anything else is a finding.
fn refuse_list(table: &mut Section<'_>, key: &'static str, help: &str) {
    if let Some(at) = list(table, key) {
        at.spot.find(format!("`{key}` is not supported"), help);
    }
}

/// As [`refuse_list`], for a text.
fn refuse_text(table: &mut Section<'_>, key: &'static str, help: &str) {
    if let Some(at) = set(table, key) {
        at.spot.find(format!("`{key}` is not supported"), help);
    }
}

/// Keys that have no effect here. Their types are checked all the same.
fn ignore(
    table: &mut Section<'_>,
    texts: &[&'static str],
    switches: &[&'static str],
    numbers: &[&'static str],
) {
    for key in texts {
        table.text(key);
    }
    for key in switches {
        table.boolean(key);
    }
    for key in numbers {
        table.integer(key);
    }
}

/// Go's durations: `90s`, `1h30m`, `1.5h`, `500ms`, and those of Nunbird's own files: `2d`. In whole seconds, rounded up.
fn duration(table: &mut Section<'_>, key: &'static str, default: u64, most: u64) -> u64 {
    let Some(at) = set(table, key) else { return default };
    match go_duration(at.value).or_else(|| crate::duration::seconds(at.value)) {
        Some(seconds) if seconds <= most => seconds,
        Some(_) => {
            at.spot.find(format!("`{key}` is too long"), format!("write at most {most}s"));
            default
        }
        None => {
            at.spot.find("invalid duration", "write a number with `s`, `m` or `h`, such as `30s` or `1h30m`");
            default
        }
    }
}

/// As time.ParseDuration of Go reads it, without a sign.
fn go_duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (digits, tail) = rest.split_at_checked(number)?;
        let unit = tail.len() - tail.trim_start_matches(|c: char| !c.is_ascii_digit() && c != '.').len();
        let (unit, tail) = tail.split_at_checked(unit)?;
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty())
            || whole.len() > 12
            || fraction.len() > 9
            || fraction.contains('.')
        {
            return None;
        }
        let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
        let power = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        nanoseconds = nanoseconds
            .checked_add(number(whole)?.checked_mul(scale)?)?
            .checked_add(number(fraction)?.checked_mul(scale)? / power)?;
        rest = tail;
    }
    if text.is_empty() { None } else { u64::try_from(nanoseconds.div_ceil(1_000_000_000)).ok() }
}

/// `key=value` texts.
fn assignments<'v>(texts: impl IntoIterator<Item = At<'v, &'v str>>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for one in texts {
        match one.value.split_once('=') {
            Some((key, value)) => {
                values::check_variable(&At { value: key, spot: one.spot }, &At { value, spot: one.spot });
                all.insert(key.to_owned(), value.to_owned());
            }
            None => one.spot.find("expected an assignment", "write `NAME=value`"),
        }
    }
    all
}

#[cfg(test)]
mod tests;
