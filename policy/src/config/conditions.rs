//! The `when` and `unless` of a rule, and the claims of a test: the same facts by the same names.

use super::model::{Condition, GitLabServer, MapFile, Profile};
use super::reader::{At, Kind, Raw, Section};
use super::values;
use crate::{IdentitySource, Limits, Pattern, Subject, suggest};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// What rules may name.
pub(super) struct Known<'k> {
    pub(super) profiles: &'k BTreeMap<String, Profile>,
    pub(super) maps: &'k BTreeMap<String, MapFile>,
    /// Whether a validation program is configured.
    pub(super) validated: bool,
    pub(super) gitlab: &'k [GitLabServer],
    pub(super) limits: &'k BTreeMap<String, Limits>,
}

const SOURCES: [(&str, IdentitySource); 2] =
    [("id_token", IdentitySource::IdToken), ("job_token", IdentitySource::JobToken)];

/// Reads the conditions. One that cannot be read is a finding, so that no rule is wider than it is written.
pub(super) fn read(mut table: Section<'_>, known: &Known<'_>) -> Vec<Condition> {
    let mut all = Vec::new();
    let t = &mut table;
    if let Some(patterns) = patterns(t, "server") {
        check_servers(t, &patterns, known);
        all.push(Condition::Server(patterns));
    }
    all.extend(t.choice("identity_source", &SOURCES).map(|at| Condition::IdentitySource(at.value)));
    all.extend(patterns(t, "project").map(Condition::Project));
    all.extend(numbers(t, "project_id").map(Condition::ProjectId));
    all.extend(patterns(t, "namespace").map(Condition::Namespace));
    all.extend(patterns(t, "user").map(Condition::User));
    all.extend(numbers(t, "user_id").map(Condition::UserId));
    all.extend(patterns(t, "user_email").map(Condition::UserEmail));
    all.extend(patterns(t, "group").map(Condition::Group));
    all.extend(patterns(t, "access_level").map(Condition::AccessLevel));
    all.extend(patterns(t, "ref").map(Condition::Ref));
    all.extend(patterns(t, "ref_type").map(Condition::RefType));
    all.extend(t.boolean("ref_protected").map(|at| Condition::RefProtected(at.value)));
    all.extend(patterns(t, "pipeline_source").map(Condition::PipelineSource));
    all.extend(t.boolean("fork").map(|at| Condition::Fork(at.value)));
    all.extend(patterns(t, "identity").map(Condition::Identity));
    all.extend(patterns(t, "environment").map(Condition::Environment));
    all.extend(t.boolean("environment_protected").map(|at| Condition::EnvironmentProtected(at.value)));
    all.extend(numbers(t, "runner_id").map(Condition::RunnerId));
    all.extend(patterns(t, "account").map(Condition::Account));
    all.extend(local_groups(t).map(Condition::LocalGroup));
    all.extend(uids(t).map(Condition::Uid));
    all.extend(shells(t).map(Condition::Shell));
    table.finish();
    all
}

/// A server that is not configured would make a rule that never fits, or a denial that never comes.
fn check_servers(table: &mut Section<'_>, patterns: &[Pattern], known: &Known<'_>) {
    for pattern in patterns {
        if !known.gitlab.iter().any(|server| pattern.matches(&server.name)) {
            let names: Vec<&str> = known.gitlab.iter().map(|server| server.name.as_str()).collect();
            let help = match suggest::nearest(&pattern.to_string(), names.iter().copied()) {
                Some(name) => format!("write `{name}`"),
                None => format!("configured: {}", names.join(", ")),
            };
            table.find(format!("no configured server has the name `{pattern}`"), help);
        }
    }
}

fn patterns(table: &mut Section<'_>, key: &'static str) -> Option<Vec<Pattern>> {
    let raw = table.raw(key, Kind::Texts)?;
    let elements = raw.elements();
    if elements.is_empty() {
        raw.spot.find("an empty list matches nothing", "name a value, or remove the condition");
    }
    Some(elements.iter().filter_map(pattern).collect())
}

/// A glob, or `{ regex = "…" }`.
fn pattern(raw: &Raw<'_>) -> Option<Pattern> {
    let (made, source, spot) = if let Some(mut table) = raw.as_table() {
        let regex = table.text("regex");
        if regex.is_none() && !table.has("regex") {
            table.find("this is no pattern", "write a text, or `{ regex = \"…\" }`");
        }
        table.finish();
        let regex = regex?;
        (Pattern::regex(regex.value), regex.value, regex.spot)
    } else {
        let Some(text) = raw.as_text() else {
            return raw.wrong_type("string or table", "write a string in quotes, or `{ regex = \"…\" }`");
        };
        (Pattern::new(text).map_err(str::to_owned), text, raw.spot)
    };
    made.map_err(|help| spot.find(format!("`{source}` is no pattern"), help)).ok()
}

fn numbers(table: &mut Section<'_>, key: &'static str) -> Option<Vec<u64>> {
    let at = table.integers(key)?;
    if at.value.is_empty() {
        at.spot.find("an empty list matches nothing", "name a value, or remove the condition");
    }
    Some(at.value)
}

fn local_groups(table: &mut Section<'_>) -> Option<Vec<String>> {
    let at = table.texts("local_group")?;
    if at.value.is_empty() {
        at.spot.find("an empty list matches nothing", "name a group, or remove the condition");
    }
    for name in at.value.iter().filter(|name| name.value.contains(['*', '?']) || name.value.is_empty()) {
        name.spot.find("a local group is given by its exact name", "name each group");
    }
    Some(at.value.iter().map(|name| name.value.to_owned()).collect())
}

fn shells(table: &mut Section<'_>) -> Option<Vec<PathBuf>> {
    let at = table.texts("shell")?;
    if at.value.is_empty() {
        at.spot.find("an empty list matches nothing", "name a shell, or remove the condition");
    }
    Some(at.value.iter().map(values::path).collect())
}

fn uids(table: &mut Section<'_>) -> Option<Vec<RangeInclusive<u32>>> {
    let at = table.texts("uid")?;
    if at.value.is_empty() {
        at.spot.find("an empty list matches nothing", "write a range such as \"5000-59999\"");
    }
    Some(at.value.iter().filter_map(range).collect())
}

fn range(at: &At<'_, &str>) -> Option<RangeInclusive<u32>> {
    let (low, high) = at.value.split_once('-').unwrap_or((at.value, at.value));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    match (digits(low), digits(high)) {
        (Some(low), Some(high)) if low <= high => Some(low..=high),
        _ => {
            at.spot.find("this is no range of uids", "write \"5000-59999\", or one uid");
            None
        }
    }
}

/// The facts of a job as a test writes them down. Names are those of GitLab's claims.
pub(super) fn subject(mut table: Section<'_>, first_server: &str) -> Option<Subject> {
    if !table.is_present() {
        return None;
    }
    let t = &mut table;
    for key in ["user_login", "project_path"] {
        if !t.has(key) {
            t.find(format!("these claims have no `{key}`"), "a test says at least who and which project");
        }
    }
    let text = |t: &mut Section<'_>, key| t.text(key).map(|at| at.value.to_owned());
    let number = |t: &mut Section<'_>, key| t.integer(key).map(|at| at.value);
    let project_path = text(t, "project_path").unwrap_or_default();
    let parent = project_path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
    let subject = Subject {
        server: text(t, "server").unwrap_or_else(|| first_server.to_owned()),
        source: t.choice("identity_source", &SOURCES).map_or(IdentitySource::IdToken, |at| at.value),
        user_login: text(t, "user_login").unwrap_or_default(),
        user_id: number(t, "user_id").unwrap_or(1),
        user_email: text(t, "user_email"),
        access_level: text(t, "user_access_level"),
        groups: t.texts("groups_direct").map(|at| at.value.iter().map(|one| one.value.to_owned()).collect()),
        identities: t
            .pairs("user_identities")
            .into_iter()
            .map(|(provider, uid)| (provider.value.to_owned(), uid.value.to_owned()))
            .collect(),
        namespace_path: text(t, "namespace_path").unwrap_or(parent),
        project_path,
        project_id: number(t, "project_id").unwrap_or(1),
        git_ref: text(t, "ref").unwrap_or_else(|| "main".to_owned()),
        ref_type: text(t, "ref_type"),
        ref_protected: t.boolean("ref_protected").map(|at| at.value),
        pipeline_source: text(t, "pipeline_source"),
        fork: t.boolean("fork").map(|at| at.value),
        environment: text(t, "environment"),
        environment_protected: t.boolean("environment_protected").map(|at| at.value),
        runner_id: number(t, "runner_id"),
        validated: text(t, "validated"),
    };
    table.finish();
    Some(subject)
}
