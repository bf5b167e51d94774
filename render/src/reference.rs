//! The entries of docs/policy-reference.md: one for each key and each condition.

use crate::writer::{heading, setting};
use nunbird_policy::{ByJobToken, FACTS, Fact, KeyInfo, Local, key_info};

/// One key or condition of the reference.
pub struct Entry {
    /// The heading without its mark: the key with its table, so that it is unique on the page.
    pub heading: String,
    /// Type, default and meaning, two paragraphs of Markdown.
    pub text: String,
}

/// The entries of each part, by the name that docs/policy-reference.md has for it: a path of the configuration, or `conditions`.
pub fn reference_entries() -> Vec<(&'static str, Vec<Entry>)> {
    let of_keys = key_info().into_iter().filter(|(path, _)| *path != "profile[]").map(|(path, keys)| {
        let name = if path.is_empty() { "top level" } else { path };
        (name, keys.iter().map(|key| of_key(path, key)).collect())
    });
    of_keys.chain([("conditions", conditions())]).collect()
}

fn of_key(path: &str, key: &KeyInfo) -> Entry {
    let name = key.name;
    let heading = match heading(path) {
        _ if path.is_empty() => format!("`{name}`"),
        (table, None) => format!("`{table} {name}`"),
        (table, Some(below)) => format!("`{table} {below}.{name}`"),
    };
    let value = key.default_value.as_ref().map(|value| format!("`{}`", setting(value)));
    let default = match key.default.map(str::to_owned).or(value).as_deref() {
        Some("required") => "Required.".to_owned(),
        Some(default) => format!("Default: {default}."),
        None => "Default: none.".to_owned(),
    };
    Entry { heading, text: format!("Type: {}. {default}\n\n{}\n", key.takes, sentence(key.doc)) }
}

/// With a capital letter and a full stop. Names of programs keep their first letter. What is "below" follows at once.
fn sentence(doc: &str) -> String {
    let doc = doc.trim_end_matches(", see below").trim_end_matches(", below");
    let mut letters = doc.chars();
    let capital = match letters.next() {
        Some(first) if !doc.starts_with("gitlab-runner") => first.to_uppercase().chain(letters).collect(),
        _ => doc.to_owned(),
    };
    format!("{capital}.")
}

fn conditions() -> Vec<Entry> {
    let local = Local::KEYS.iter().map(|(key, takes, doc)| of_local(key, takes, doc));
    FACTS.iter().copied().map(of_fact).chain(local).collect()
}

fn of_fact(fact: &Fact) -> Entry {
    let note = if fact.note.is_empty() { String::new() } else { format!(" {}.", fact.note) };
    let meaning = sentence(fact.doc) + &note;
    let Some(key) = fact.key else {
        let heading = format!("Claim `{}`", fact.claim);
        return Entry { heading, text: format!("In tests and audit events only.\n\n{meaning}\n") };
    };
    let proof = match fact.by_job_token {
        ByJobToken::Proven => "both tokens",
        ByJobToken::OnlyFalse => "an id token; a job token proves only `false`",
        ByJobToken::Unknown => "an id token",
    };
    let takes = fact.takes();
    Entry {
        heading: format!("Condition `{key}`"),
        text: format!("Type: {takes}. Claim: `{}`. Proven by {proof}.\n\n{meaning}\n", fact.claim),
    }
}

fn of_local(key: &str, takes: &str, doc: &str) -> Entry {
    Entry {
        heading: format!("Condition `{key}`"),
        text: format!("Type: {takes}. Proven by this host.\n\n{}\n", sentence(doc)),
    }
}
