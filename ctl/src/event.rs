//! An event of the audit file, as a JSON object.

use serde_json::{Map, Value};

/// Its fields by name.
pub(crate) type Event = Map<String, Value>;

/// The field, without the quotes of a string, if it exists.
pub(crate) fn shown(event: &Event, name: &str) -> Option<String> {
    event.get(name).map(plain)
}

/// The value, without the quotes of a string.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
