//! The `when` and `unless` of a rule, and the claims of a test: the same facts by the same names.

use super::keys::{Setting, Word};
use super::model::Profile;
use super::reader::{At, Kind, Raw, Section};
use super::values;
use super::{GitLabServer, MapFile};
use crate::facts::{Content, FACTS, Fact, Field, IdField, TextField};
use crate::{Claim, Condition, IdentitySource, Limits, Local, Matcher, Pattern, Subject, Wanted, suggest};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// What rules may name.
pub(super) struct RuleNames<'k> {
    pub(super) profiles: &'k BTreeMap<String, Profile>,
    pub(super) maps: &'k BTreeMap<String, MapFile>,
    /// Whether a validation program is configured.
    pub(super) validated: bool,
    pub(super) gitlab: &'k [GitLabServer],
    pub(super) limits: &'k BTreeMap<String, Limits>,
}

impl Word for IdentitySource {
    const WORDS: &'static [(&'static str, Self)] = &IdentitySource::NAMES;
}

/// Reads the conditions. One that cannot be read is a finding, so that no rule is wider than its text.
pub(super) fn read(mut table: Section<'_>, known: &RuleNames<'_>) -> Vec<Condition> {
    // Nearly every rule has no `unless`.
    if table.is_of_no_use() {
        return Vec::new();
    }
    let mut all = Vec::new();
    let t = &mut table;
    for &fact in FACTS {
        // Nearly every rule has one condition or two.
        if t.is_read() {
            break;
        }
        let Some(key) = fact.key else { continue };
        let matcher = match fact.field {
            Field::Text(field, _) => patterns(t, key).map(|patterns| Matcher::Text(field, patterns)),
            Field::Id(field) => numbers(t, key).map(|ids| Matcher::Id(field, ids)),
            Field::Flag(lens) => t.boolean(key).map(|at| Matcher::Flag(lens, at.value)),
            Field::Source(lens) => t.choice(key).map(|at| Matcher::Source(lens, at.value)),
        };
        if let (Field::Text(_, Content::ServerName), Some(Matcher::Text(_, patterns))) =
            (fact.field, &matcher)
        {
            check_servers(t, patterns, known);
        }
        all.extend(matcher.map(|matcher| Condition::Fact(fact, matcher)));
    }
    let local = [
        patterns(t, "account").map(Local::Account),
        local_groups(t).map(Local::Group),
        uids(t).map(Local::Uid),
        shells(t).map(Local::Shell),
    ];
    all.extend(local.into_iter().flatten().map(Condition::Local));
    table.finish();
    all
}

/// The conditions as a configuration has them; none where there are none.
pub(super) fn setting(conditions: &[Condition]) -> Option<Setting> {
    let one = |condition: &Condition| {
        let value = match condition.wanted() {
            Wanted::Patterns(patterns) => Setting::Patterns(patterns.to_vec()),
            Wanted::Ids(ids) => Setting::Numbers(ids.to_vec()),
            Wanted::Flag(flag) => Setting::Flag(flag),
            Wanted::Word(word) => Setting::Text(word.to_owned()),
            Wanted::Texts(all) => Setting::Texts(all.into_iter().map(Cow::into_owned).collect()),
        };
        (condition.key(), value)
    };
    (!conditions.is_empty()).then(|| Setting::Dotted(conditions.iter().map(one).collect()))
}

/// A server that is not configured would make a rule that never fits, or a denial that never comes.
fn check_servers(table: &mut Section<'_>, patterns: &[Pattern], known: &RuleNames<'_>) {
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
    let raw = table.raw(key, Kind::Patterns)?;
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
            table.find("expected a pattern", "write a text, or `{ regex = \"…\" }`");
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
    made.map_err(|help| spot.find(format!("invalid pattern `{source}`"), help)).ok()
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
            at.spot.find("invalid range of uids", "write \"5000-59999\", or one uid");
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
    let mut subject = Subject {
        server: first_server.to_owned(),
        user_id: 1,
        project_id: 1,
        git_ref: "main".to_owned(),
        ..Subject::default()
    };
    for fact in FACTS {
        claim(t, fact, &mut subject);
    }
    if !t.has("namespace_path") {
        let parent = subject.project_path.rsplit_once('/').map_or("", |(parent, _)| parent);
        subject.namespace_path = parent.to_owned();
    }
    table.finish();
    Some(subject)
}

/// The claims of a test as a configuration has them.
pub(super) fn claims(subject: &Subject) -> Setting {
    let one = |fact: &&Fact| {
        let value = match fact.claim(subject)? {
            Claim::Text(text) => Setting::Text(text.to_owned()),
            Claim::Id(id) => Setting::Number(id),
            Claim::Flag(flag) => Setting::Flag(flag),
            Claim::Texts(all) => Setting::Texts(all.to_vec()),
            Claim::Identities(all) => Setting::Variables(all.iter().cloned().collect()),
        };
        Some((fact.claim, value))
    };
    Setting::Dotted(FACTS.iter().filter_map(one).collect())
}

/// Reads one claim; without its key the fact stays as it is.
fn claim(t: &mut Section<'_>, fact: &Fact, subject: &mut Subject) {
    let owned = |at: At<'_, &str>| at.value.to_owned();
    match fact.field {
        Field::Text(TextField::Known(lens), _) => {
            t.text(fact.claim).into_iter().for_each(|at| *(lens.get_mut)(subject) = owned(at));
        }
        Field::Text(TextField::Maybe(lens), _) => *(lens.get_mut)(subject) = t.text(fact.claim).map(owned),
        Field::Text(TextField::List(lens), _) => {
            let all = t.texts(fact.claim);
            *(lens.get_mut)(subject) = all.map(|at| at.value.into_iter().map(owned).collect());
        }
        Field::Text(TextField::Providers(lens), _) => {
            let all = t.pairs(fact.claim).into_iter();
            *(lens.get_mut)(subject) = all.map(|(provider, name)| (owned(provider), owned(name))).collect();
        }
        Field::Id(IdField::Known(lens)) => {
            t.integer(fact.claim).into_iter().for_each(|at| *(lens.get_mut)(subject) = at.value);
        }
        Field::Id(IdField::Maybe(lens)) => {
            *(lens.get_mut)(subject) = t.integer(fact.claim).map(|at| at.value);
        }
        Field::Flag(lens) => *(lens.get_mut)(subject) = t.boolean(fact.claim).map(|at| at.value),
        Field::Source(lens) => {
            t.choice(fact.claim).into_iter().for_each(|at| *(lens.get_mut)(subject) = at.value);
        }
    }
}
