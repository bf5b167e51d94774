//! The effective configuration, each value with its place.

use crate::arguments::Show;
use crate::files;
use crate::output::{CtlError, Format, OK, print, print_json};
use nunbird_policy::{Dialect, Location, Reading};
use nunbird_render::{JACAMAR_KEYS, KeyEffect, to_toml};
use serde_json::{Map, Value, json};

pub(crate) fn run(options: &Show, format: Format) -> Result<u8, CtlError> {
    let reading = files::read(&options.configuration.configuration, format)?;
    let text = to_toml(&reading.policy, &|key| origin(&reading, key));
    let wanted = options.key.as_deref();
    let rows = rows(&text);
    let rows: Vec<&Row<'_>> = rows.iter().filter(|row| wanted.is_none_or(|key| row.key == key)).collect();
    if let (Some(key), true) = (wanted, rows.is_empty()) {
        return Err(CtlError::new(format!("there is no key `{key}`; `nunbirdctl show` lists them all")));
    }
    match (format, wanted) {
        (Format::Text, None) => print(&text)?,
        (Format::Text, Some(_)) => {
            let lines: Vec<&str> = rows.iter().map(|row| row.line).collect();
            print(&format!("{}\n", lines.join("\n")))?;
        }
        (Format::Json, _) => {
            let all: Map<String, Value> = rows
                .iter()
                .map(|row| (row.key.clone(), json!({ "value": row.value, "origin": row.origin })))
                .collect();
            print_json(&Value::Object(all))?;
        }
    }
    Ok(OK)
}

/// Tables that inherit: a key that is missing there has another table's value.
const NAMED: [&str; 4] = ["profile.", "map.", "limits.", "scheduler."];
/// Tables with a name of their own.
const TABLES: [&str; 8] =
    ["identity", "accounts", "directories", "job", "batch", "audit", "validation", "pam"];

/// The place of a key. Keys of rules and tests have their table's place.
fn origin(reading: &Reading, key: &str) -> Option<String> {
    let place = |index: &str, places: &dyn Fn(usize) -> Option<String>| {
        let number = index.split(']').next().and_then(|n| n.parse().ok());
        // The line of the table's header already has it.
        (number.filter(|_| index.ends_with(']'))).and_then(places)
    };
    if let Some(index) = key.strip_prefix("rule[") {
        return place(index, &|n| reading.policy.rules.get(n).map(|rule| rule.place.to_string()));
    }
    if let Some(index) = key.strip_prefix("test[") {
        return place(index, &|n| reading.policy.tests.get(n).map(|test| test.place.to_string()));
    }
    let is_head = TABLES.contains(&key) || key.ends_with(']') || is_named_head(key);
    if is_head || key.starts_with("rule[") || key.starts_with("test[") {
        return None;
    }
    let place = reading.origins.get(key).or_else(|| jacamars(reading, key));
    match place {
        Some(place) => Some(place.to_string()),
        None if NAMED.iter().any(|table| key.starts_with(table)) => None,
        None => Some("default".to_owned()),
    }
}

/// `profile.NAME` and `profile.NAME.batch`, where NAME may be quoted and contain dots.
fn is_named_head(key: &str) -> bool {
    let Some(rest) = NAMED.iter().find_map(|table| key.strip_prefix(table)) else { return false };
    let name_end = match rest.strip_prefix('"') {
        Some(quoted) => quoted.find('"').map_or(rest.len(), |end| end + 2),
        None => rest.find('.').unwrap_or(rest.len()),
    };
    matches!(rest.get(name_end..), Some("" | ".batch"))
}

/// The place of the key of Jacamar's from which this one comes; of several the first that is set.
fn jacamars<'r>(reading: &'r Reading, key: &str) -> Option<&'r Location> {
    if reading.policy.dialect != Dialect::Jacamar {
        return None;
    }
    let key = key.replace("[0]", "[]");
    let honours = |native: &str| native == key || (native == "gitlab[].url" && key == "gitlab[].issuer");
    JACAMAR_KEYS
        .iter()
        .filter(|(_, _, effect)| matches!(effect, KeyEffect::Honoured(native) if honours(native)))
        .find_map(|(table, name, _)| reading.origins.get(&format!("{table}.{name}")))
}

/// One line of the text.
struct Row<'t> {
    key: String,
    value: &'t str,
    origin: Option<&'t str>,
    line: &'t str,
}

fn rows(text: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let (mut table, mut numbers) = (String::new(), std::collections::BTreeMap::<&str, usize>::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
            let number = numbers.entry(name).and_modify(|n| *n += 1).or_insert(0);
            table = format!("{name}[{number}].");
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((key, rest)) = line.split_once(" = ") {
            let (value, origin) = match comment(rest).and_then(|at| rest.split_at_checked(at)) {
                Some((value, comment)) => (value, comment.strip_prefix("  # ")),
                None => (rest, None),
            };
            rows.push(Row { key: format!("{table}{key}"), value, origin, line });
        }
    }
    rows
}

/// Where the comment after a value begins: at the first `  # ` outside of a string.
fn comment(rest: &str) -> Option<usize> {
    let (mut in_text, mut escaped) = (false, false);
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            ' ' if !in_text && rest.get(at..).is_some_and(|rest| rest.starts_with("  # ")) => {
                return Some(at);
            }
            _ => {}
        }
    }
    None
}
