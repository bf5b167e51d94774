//! The configuration that is in force, each value with the place where it stands.

use crate::arguments::Show;
use crate::files;
use crate::output::{Format, OK, Trouble, print, print_json};
use nunbird_policy::{Reading, to_toml};
use serde_json::{Map, Value, json};

pub(crate) fn run(options: &Show, format: Format) -> Result<u8, Trouble> {
    let reading = files::read(&options.configuration.configuration, format)?;
    let text = to_toml(&reading.policy, &|key| origin(&reading, key));
    let wanted = options.key.as_deref();
    let rows = rows(&text);
    let rows: Vec<&Row<'_>> = rows.iter().filter(|row| wanted.is_none_or(|key| row.key == key)).collect();
    if let (Some(key), true) = (wanted, rows.is_empty()) {
        return Err(Trouble::new(format!("there is no key `{key}`; `nunbirdctl show` lists them all")));
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

/// Where a key stands. Keys in arrays of tables have their table's place.
fn origin(reading: &Reading, key: &str) -> Option<String> {
    let place = |index: &str, places: &dyn Fn(usize) -> Option<String>| {
        let number = index.split(']').next().and_then(|n| n.parse().ok());
        // The line of the table's head says it once.
        (number.filter(|_| index.ends_with(']'))).and_then(places)
    };
    if let Some(index) = key.strip_prefix("rule[") {
        return place(index, &|n| reading.policy.rules.get(n).map(|rule| rule.place.to_string()));
    }
    if let Some(index) = key.strip_prefix("test[") {
        return place(index, &|n| reading.policy.tests.get(n).map(|test| test.place.to_string()));
    }
    if key.contains('[') {
        return None;
    }
    let is_table = ["identity", "accounts", "directories", "job", "audit", "validation"].contains(&key)
        || ((["profile.", "map.", "limits."].iter().any(|table| key.starts_with(table)))
            && key.matches('.').count() == 1);
    match reading.origins.get(key) {
        Some(place) => Some(place.to_string()),
        None if is_table => None,
        None if ["profile.", "map.", "limits."].iter().any(|table| key.starts_with(table)) => None,
        None => Some("default".to_owned()),
    }
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

/// Where the comment behind a value begins: at the first `  # ` outside of a text.
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
