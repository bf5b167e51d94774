//! The tables of docs/policy-reference.md.

use crate::writer::setting;
use nunbird_policy::{ByJobToken, FACTS, KeyInfo, Local, key_info};

/// Each table as Markdown, by the name that docs/policy-reference.md has for it: a path of the configuration, or `conditions`.
pub fn reference_tables() -> Vec<(&'static str, String)> {
    let of_keys = key_info().into_iter().filter(|(path, _)| *path != "profile[]").map(|(path, keys)| {
        let rows: String = keys.iter().map(row).collect();
        let name = if path.is_empty() { "top level" } else { path };
        (name, format!("| key | type | default | meaning |\n|---|---|---|---|\n{rows}"))
    });
    of_keys.chain([("conditions", conditions())]).collect()
}

fn row(key: &KeyInfo) -> String {
    let value = key.default_value.as_ref().map(|value| format!("`{}`", setting(value)));
    let default = key.default.map(str::to_owned).or(value).unwrap_or_else(|| "none".to_owned());
    format!("| `{}` | {} | {default} | {} |\n", key.name, key.takes, key.doc)
}

fn conditions() -> String {
    let head = "| condition | claim | takes | proven by | asks for |\n|---|---|---|---|---|\n";
    let facts = FACTS.iter().map(|fact| {
        let key = fact.key.map_or_else(String::new, |key| format!("`{key}`"));
        let takes = if fact.key.is_some() { fact.takes() } else { "" };
        let proof = match fact.by_job_token {
            _ if fact.key.is_none() => "",
            ByJobToken::Proven => "both tokens",
            ByJobToken::OnlyFalse => "id token; job token only `false`",
            ByJobToken::Unknown => "id token",
        };
        let note = if fact.note.is_empty() { String::new() } else { format!(". {}", fact.note) };
        format!("| {key} | `{}` | {takes} | {proof} | {}{note} |\n", fact.claim, fact.doc)
    });
    let local =
        Local::KEYS.iter().map(|(key, takes, doc)| format!("| `{key}` | | {takes} | this host | {doc} |\n"));
    std::iter::once(head.to_owned()).chain(facts).chain(local).collect()
}
