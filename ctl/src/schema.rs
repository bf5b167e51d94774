//! The JSON schema of the configuration, generated from what its reader asks for.

use crate::output::{CtlError, OK, print_json};
use nunbird_policy::{Kind, every_key};
use serde_json::{Map, Value, json};

pub(crate) fn run() -> Result<u8, CtlError> {
    print_json(&schema())?;
    Ok(OK)
}

/// The schema (JSON Schema 2020-12) of `/etc/nunbird/config.toml`.
pub(crate) fn schema() -> Value {
    let keys: Vec<(Vec<String>, Kind)> = every_key()
        .into_iter()
        .map(|(path, kind)| (path.replace("[]", ".[]").split('.').map(str::to_owned).collect(), kind))
        .collect();
    let mut root = object(&keys, &[]);
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

/// The object whose keys begin with `prefix`.
fn object(keys: &[(Vec<String>, Kind)], prefix: &[String]) -> Value {
    let mut properties = Map::new();
    for (path, kind) in keys {
        if path.len() == prefix.len() + 1
            && path.starts_with(prefix)
            && let Some(name) = path.last()
            && name != "[]"
        {
            properties.insert(name.clone(), value(keys, path, kind));
        }
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn value(keys: &[(Vec<String>, Kind)], path: &[String], kind: &Kind) -> Value {
    let below = |more: &str| [path, &[more.to_owned()]].concat();
    let one_or_many = |one: Value| json!({ "anyOf": [one, { "type": "array", "items": one }] });
    match kind {
        // An account may be looked up, and the audit file may be turned off.
        Kind::Text if path.ends_with(&["run_as".to_owned()]) => {
            json!({ "anyOf": [{ "type": "string" }, object(keys, path)] })
        }
        Kind::Text if path == ["audit", "file"] => json!({ "type": ["string", "boolean"] }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Choice(names) => json!({ "enum": names }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer => json!({ "type": "integer", "minimum": 0 }),
        Kind::Integers => one_or_many(json!({ "type": "integer", "minimum": 0 })),
        Kind::Texts if path.iter().any(|part| part == "when") => {
            one_or_many(json!({ "$ref": "#/$defs/pattern" }))
        }
        Kind::Texts => one_or_many(json!({ "type": "string" })),
        Kind::Table => object(keys, path),
        Kind::Tables => json!({ "type": "array", "items": object(keys, &below("[]")) }),
        Kind::Named => {
            let inner = below("[]");
            let known = keys.iter().any(|(path, _)| path.starts_with(&inner));
            let each = if known { object(keys, &inner) } else { json!({ "type": "string" }) };
            json!({ "type": "object", "additionalProperties": each })
        }
    }
}
