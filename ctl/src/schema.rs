//! The JSON schema of the configuration, generated from what its reader asks for.

use crate::output::{CtlError, OK, print_json};
use crate::schema_words;
use nunbird_handover::UNLIMITED;
use nunbird_policy::{KeyInfo, Kind, Setting, amount_text, cpus_text, duration_text, every_key, key_info};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The order of the units is the reader's: editors' regular expressions have no look-around.
const DURATION: &str = "^([0-9]+ ?[wdhms] ?)*[0-9]+ ?[wdhms]$";

/// Also in quotes.
fn number() -> Value {
    json!({ "type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+$" })
}

pub(crate) fn run() -> Result<u8, CtlError> {
    print_json(&schema())?;
    Ok(OK)
}

/// The schema (JSON Schema 2020-12) of `/etc/nunbird/config.toml`.
pub(crate) fn schema() -> Value {
    let parts = |path: &str| path.replace("[]", ".[]").split('.').map(str::to_owned).collect::<Vec<_>>();
    let keys = every_key().into_iter().map(|(path, kind)| (parts(&path), kind)).collect();
    let info = key_info().into_iter().flat_map(|(table, keys)| {
        let path = move |key: &KeyInfo| {
            if table.is_empty() { key.name.to_owned() } else { format!("{table}.{}", key.name) }
        };
        keys.into_iter().map(move |key| (path(&key), key))
    });
    let keys = Keys { keys, info: info.map(|(path, key)| (parts(&path), key)).collect() };
    let mut root = keys.object(&[]);
    if let Some(fields) = root.as_object_mut() {
        fields.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        let regex = json!({ "type": "object", "required": ["regex"], "additionalProperties": false,
            "properties": { "regex": { "type": "string" } } });
        let pattern = json!({ "anyOf": [{ "type": "string" }, regex] });
        fields.insert("$defs".to_owned(), json!({ "pattern": pattern }));
        fields.insert("title".to_owned(), json!("Nunbird configuration"));
    }
    root
}

/// A description as sentences, and the default where it is no value.
fn sentences(description: &str, default: &str) -> String {
    let mut letters = description.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if description.ends_with('.') { "" } else { "." };
    let default = if default.is_empty() { String::new() } else { format!(" Default: {default}.") };
    format!("{first}{}{end}{default}", letters.as_str())
}

/// A default as a configuration has it.
fn json_of(setting: &Setting) -> Value {
    match setting {
        Setting::Bytes(UNLIMITED) => json!("unlimited"),
        Setting::Bytes(bytes) => json!(amount_text(*bytes)),
        Setting::Cpus(thousandths) => json!(cpus_text(*thousandths)),
        Setting::Number(number) => json!(number),
        Setting::Numbers(numbers) => json!(numbers),
        Setting::Seconds(seconds) => json!(duration_text(*seconds)),
        Setting::Flag(flag) => json!(flag),
        Setting::Text(text) => json!(text),
        Setting::Texts(texts) => json!(texts),
        Setting::Variables(variables) => json!(variables),
        Setting::Patterns(patterns) => patterns.iter().map(|one| json!(one.to_string())).collect(),
        Setting::Table(table) | Setting::Dotted(table) => Value::Object(object_of(table)),
        Setting::Tables(tables) => tables.iter().map(|table| Value::Object(object_of(table))).collect(),
    }
}

fn object_of(table: &[(&'static str, Setting)]) -> Map<String, Value> {
    table.iter().map(|(key, value)| ((*key).to_owned(), json_of(value))).collect()
}

/// Every key by its path, and what is known of those of Nunbird's tables.
struct Keys {
    keys: Vec<(Vec<String>, Kind)>,
    info: BTreeMap<Vec<String>, KeyInfo>,
}

impl Keys {
    /// The object whose keys begin with `prefix`.
    fn object(&self, prefix: &[String]) -> Value {
        let mut properties = Map::new();
        for (path, kind) in &self.keys {
            if path.len() == prefix.len() + 1
                && path.starts_with(prefix)
                && let Some(name) = path.last()
                && name != "[]"
            {
                let info = self.info_of(path);
                let value = self.described(path, kind, info);
                for former in info.map_or(&[][..], |info| info.former) {
                    let mut deprecated = value.clone();
                    deprecated["deprecated"] = json!(true);
                    deprecated["description"] = json!(format!("the former name of `{name}`"));
                    properties.insert((*former).to_owned(), deprecated);
                }
                properties.insert(name.clone(), value);
            }
        }
        json!({ "type": "object", "additionalProperties": false, "properties": properties })
    }

    /// A profile has the keys of `[job]` and of `[batch]` as well as its own.
    fn info_of(&self, path: &[String]) -> Option<&KeyInfo> {
        self.info.get(path).or_else(|| match path {
            [profile, _, name] if profile == "profile" => {
                self.info.get(&["job".to_owned(), name.clone()][..])
            }
            [profile, _, batch, name] if profile == "profile" => {
                self.info.get(&[batch.clone(), name.clone()][..])
            }
            _ => None,
        })
    }

    fn described(&self, path: &[String], kind: &Kind, info: Option<&KeyInfo>) -> Value {
        let mut value = self.value(path, kind);
        let Some(info) = info else {
            if let Some((description, default)) = schema_words::of(path) {
                value["description"] = json!(sentences(&description, default));
            }
            return value;
        };
        let of_profile = path.first().is_some_and(|table| table == "profile");
        match (info.default, &info.default_value) {
            _ if of_profile => {
                let table = if path.len() > 3 { "[batch]" } else { "[job]" };
                let table = if info.name == "data_dir" { "[directories]" } else { table };
                value["description"] = json!(sentences(info.doc, &format!("that of `{table}`")));
            }
            (None, Some(default)) => {
                value["description"] = json!(sentences(info.doc, ""));
                value["default"] = json_of(default);
            }
            (words, _) => {
                value["description"] = json!(sentences(info.doc, words.unwrap_or("none")));
            }
        }
        if let (Kind::Integer, Some((least, most))) = (kind, info.bounds) {
            value["minimum"] = json!(least);
            if most != u64::MAX {
                value["maximum"] = json!(most);
            }
        }
        if let Some(Value::Array(words)) = value.get_mut("enum") {
            words.extend(info.former_words.iter().map(|(former, _)| json!(former)));
        }
        value
    }

    fn value(&self, path: &[String], kind: &Kind) -> Value {
        let below = |more: &str| [path, &[more.to_owned()]].concat();
        let one_or_many = |one: Value| json!({ "anyOf": [one, { "type": "array", "items": one }] });
        match kind {
            // An account may be looked up, and the audit file may be turned off.
            Kind::Text if path.ends_with(&["run_as".to_owned()]) => {
                json!({ "anyOf": [{ "type": "string" }, self.object(path)] })
            }
            Kind::Text if path == ["audit", "file"] => json!({ "type": ["string", "boolean"] }),
            Kind::Text => json!({ "type": "string" }),
            Kind::Choice(names) => json!({ "enum": names }),
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Integer => number(),
            Kind::Cpus => json!({ "type": ["number", "string"], "pattern": "^[0-9]+([.][0-9]{1,3})?$" }),
            Kind::Amount => json!({ "type": "string", "pattern": "^[0-9]+ ?[KMGT](iB)?$" }),
            Kind::AmountOrUnlimited => {
                json!({ "type": "string", "pattern": "^([0-9]+ ?[KMGT](iB)?|unlimited)$" })
            }
            Kind::Duration => json!({ "type": "string", "pattern": DURATION }),
            Kind::Integers => one_or_many(number()),
            Kind::Patterns => one_or_many(json!({ "$ref": "#/$defs/pattern" })),
            Kind::Texts => one_or_many(json!({ "type": "string" })),
            Kind::Table => self.object(path),
            Kind::Tables => json!({ "type": "array", "items": self.object(&below("[]")) }),
            Kind::Named => {
                let inner = below("[]");
                let known = self.keys.iter().any(|(path, _)| path.starts_with(&inner));
                let each = if known { self.object(&inner) } else { json!({ "type": "string" }) };
                json!({ "type": "object", "additionalProperties": each })
            }
        }
    }
}
