//! An event of the audit file, as JSON has it.

use serde_json::{Map, Value};

/// Its fields by name.
pub(crate) type Event = Map<String, Value>;

/// The field without the quotes of a text, where there is one.
pub(crate) fn shown(event: &Event, name: &str) -> Option<String> {
    event.get(name).map(plain)
}

/// The value without the quotes of a text.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
