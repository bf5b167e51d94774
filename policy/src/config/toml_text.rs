//! Keys, tables and values as the text of TOML.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

pub(super) struct Writer<'c> {
    pub(super) text: String,
    table: String,
    comment: &'c dyn Fn(&str) -> Option<String>,
}

impl<'c> Writer<'c> {
    /// `comment` gives the words that stand behind a key or a table, which is named by its path.
    pub(super) fn new(comment: &'c dyn Fn(&str) -> Option<String>) -> Self {
        Writer { text: String::new(), table: String::new(), comment }
    }

    // A String takes everything, so the results of writing are dropped.
    pub(super) fn key(&mut self, key: &str, value: &str) {
        let full = if self.table.is_empty() { key.to_owned() } else { format!("{}.{key}", self.table) };
        let _ = write!(self.text, "{key} = {value}");
        if let Some(comment) = (self.comment)(&full) {
            let _ = write!(self.text, "  # {}", one_line(&comment));
        }
        self.text.push('\n');
    }

    pub(super) fn open(&mut self, table: &str) {
        let _ = writeln!(self.text, "\n[{table}]");
        table.clone_into(&mut self.table);
        self.table_comment();
    }

    pub(super) fn array_table(&mut self, table: &str, index: usize) {
        let _ = writeln!(self.text, "\n[[{table}]]");
        self.table = format!("{table}[{index}]");
        self.table_comment();
    }

    fn table_comment(&mut self) {
        if let Some(comment) = (self.comment)(&self.table) {
            let _ = writeln!(self.text, "# {}", one_line(&comment));
        }
    }
}

pub(super) fn texts<T: AsRef<str>>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", all.join(", "))
}

pub(super) fn numbers(all: &[u64]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    format!("[{}]", all.join(", "))
}

pub(super) fn inline(pairs: &BTreeMap<String, String>) -> String {
    let all: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{} = {}", bare_or_quoted(key), quote(value))).collect();
    if all.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", all.join(", ")) }
}

pub(super) fn seconds(seconds: u64) -> String {
    let (number, unit) = match seconds {
        n if n > 0 && n % 86400 == 0 => (n / 86400, "d"),
        n if n > 0 && n % 3600 == 0 => (n / 3600, "h"),
        n if n > 0 && n % 60 == 0 => (n / 60, "m"),
        n => (n, "s"),
    };
    quote(&format!("{number}{unit}"))
}

pub(super) fn path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

pub(super) fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { quote(key) }
}

/// A basic string of TOML 1.0; every character that could deceive a reader is escaped.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || nunbird_handover::Untrusted::is_deceptive(c) => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn one_line(text: &str) -> String {
    nunbird_handover::Untrusted(&text.replace('\n', " ")).to_string()
}
