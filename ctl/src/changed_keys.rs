//! Every key in which two configurations differ, defaults included, and how many past jobs each
//! concerns.

use nunbird_policy::{Policy, Rule, RuleOutcome, RunAs};
use nunbird_render::to_toml;
use std::collections::BTreeMap;

/// One key with another value.
pub(crate) struct ChangedKey {
    /// As `rule.NAME.run_as`: rules, servers and tests by their names.
    pub(crate) key: String,
    /// As TOML; `None` if the key is missing.
    pub(crate) old: Option<String>,
    /// As TOML; `None` if the key is missing.
    pub(crate) new: Option<String>,
    /// Whether past decisions were made again with it.
    pub(crate) replayed: bool,
}

/// Every key that differs, in the order of their names.
pub(crate) fn between(old: &Policy, new: &Policy) -> Vec<ChangedKey> {
    let (old, new) = (keys(old), keys(new));
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let changed = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    changed
        .map(|name| ChangedKey {
            key: name.clone(),
            old: old.get(name).cloned(),
            new: new.get(name).cloned(),
            replayed: is_replayed(name),
        })
        .collect()
}

/// The values by their keys. Entries of an array of tables are identified by name, and the order of
/// names is a value.
fn keys(policy: &Policy) -> BTreeMap<String, String> {
    let (mut keys, mut table, mut array) = (BTreeMap::new(), String::new(), false);
    for line in to_toml(policy, &|_| None).lines() {
        if let Some(name) = line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
            (table, array) = (name.to_owned(), true);
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (table, array) = (name.to_owned(), false);
        } else if let Some((key, value)) = line.split_once(" = ") {
            if array && key == "name" {
                let order = keys.entry(format!("{table} order")).or_insert_with(String::new);
                order.push_str(&format!("{}{value}", if order.is_empty() { "" } else { ", " }));
                table = format!("{table}.{}", value.trim_matches('"'));
            }
            let full = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
            keys.insert(full, value.to_owned());
        }
    }
    keys
}

/// Whether a change of the key shows in decisions that are made again.
fn is_replayed(key: &str) -> bool {
    let (table, last) = (key.split('.').next().unwrap_or(""), key.rsplit('.').next().unwrap_or(""));
    match table {
        "rule" => !matches!(last, "profile" | "limits"),
        "rule order" | "map" => true,
        "gitlab" => matches!(last, "runner_ids" | "name" | "issuer"),
        "identity" => last == "sources",
        "accounts" => !matches!(last, "nologin" | "authorized_projects"),
        _ => false,
    }
}

/// How many past decisions each part of the two configurations concerns.
#[derive(Default)]
pub(crate) struct AffectedDecisions {
    decisions: usize,
    admitted: usize,
    parts: BTreeMap<String, usize>,
}

impl AffectedDecisions {
    /// Counts one decision: its server, and the rule that admits it by the old configuration and by
    /// the new one.
    pub(crate) fn count(&mut self, server: &str, admitted_by: &[(&Policy, Option<&Rule>)]) {
        self.decisions += 1;
        self.admitted += usize::from(admitted_by.iter().any(|(_, rule)| rule.is_some()));
        let mut parts = vec![format!("gitlab.{server}")];
        for (policy, rule) in admitted_by {
            let Some(rule) = rule else { continue };
            parts.push(format!("rule.{}", rule.name));
            parts.push(match &rule.profile {
                Some(profile) => format!("profile.{profile}"),
                None => "job".to_owned(),
            });
            parts.push(format!("scheduler.{}", policy.job_of(rule).0.executor.name()));
            parts.extend(policy.container_of(rule).map(|container| format!("container.{}", container.name)));
            parts.extend(policy.limits_of(rule).map(|limits| format!("limits.{}", limits.name)));
            if let RuleOutcome::RunAs(RunAs::Map(map)) = &rule.outcome {
                parts.push(format!("map.{map}"));
            }
        }
        parts.sort();
        parts.dedup();
        for part in parts {
            *self.parts.entry(part).or_default() += 1;
        }
    }

    /// How many decisions the key concerns.
    pub(crate) fn by(&self, key: &str) -> usize {
        let named = |table: &str| {
            let rest = key.strip_prefix(table)?.strip_prefix('.')?;
            let fits = |part: &str| {
                part.strip_prefix(table).and_then(|part| part.strip_prefix('.')).is_some_and(|name| {
                    rest.strip_prefix(name)
                        .or_else(|| rest.strip_prefix(&format!("\"{name}\"")))
                        .is_some_and(|rest| rest.starts_with('.'))
                })
            };
            Some(self.parts.iter().filter(|(part, _)| fits(part)).map(|(_, count)| count).sum())
        };
        if let Some(count) = ["gitlab", "rule", "profile", "scheduler", "limits", "container", "map"]
            .into_iter()
            .find_map(named)
        {
            return count;
        }
        match key.split('.').next() {
            Some("job") if key == "job.launcher" => self.admitted,
            Some("job" | "batch") => self.parts.get("job").copied().unwrap_or(0),
            Some("directories") if key == "directories.data_dir" => {
                self.parts.get("job").copied().unwrap_or(0)
            }
            Some("directories" | "pam" | "credential") => self.admitted,
            Some(test) if test.starts_with("test") => 0,
            _ => self.decisions,
        }
    }
}
