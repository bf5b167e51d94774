//! Keys, tables and values as the text of TOML.

use nunbird_handover::UNLIMITED;
use nunbird_policy::{Pattern, Setting, amount_text, cpus_text, duration_text};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(crate) use nunbird_policy::{toml_key, toml_string};

pub(crate) struct Writer<'c> {
    pub(crate) text: String,
    table: String,
    comment: &'c dyn Fn(&str) -> Option<String>,
}

impl<'c> Writer<'c> {
    /// `comment` gives the comment after a key or a table, which is named by its path.
    pub(crate) fn new(comment: &'c dyn Fn(&str) -> Option<String>) -> Self {
        Writer { text: String::new(), table: String::new(), comment }
    }

    // A String takes everything, so the results of writing are dropped.
    pub(crate) fn key(&mut self, key: &str, value: &str) {
        let full = if self.table.is_empty() { key.to_owned() } else { format!("{}.{key}", self.table) };
        let _ = write!(self.text, "{key} = {value}");
        if let Some(comment) = (self.comment)(&full) {
            let _ = write!(self.text, "  # {}", one_line(&comment));
        }
        self.text.push('\n');
    }

    pub(crate) fn open(&mut self, table: &str) {
        let _ = writeln!(self.text, "\n[{table}]");
        table.clone_into(&mut self.table);
        self.table_comment();
    }

    pub(crate) fn array_table(&mut self, table: &str, index: usize) {
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

/// The heading of a table in a file, by the table's path; and the key of that table, where the path is of the keys below one.
pub(crate) fn heading(path: &str) -> (String, Option<&str>) {
    let (table, below) = match path.split_once('.') {
        Some((table, below)) => (table, Some(below.trim_end_matches("[]"))),
        None => (path, None),
    };
    let heading = match table.strip_suffix("[]") {
        Some(name @ ("gitlab" | "rule" | "test")) => format!("[[{name}]]"),
        Some(name) => format!("[{name}.NAME]"),
        None => format!("[{table}]"),
    };
    (heading, below)
}

/// The value of a key.
pub(crate) fn setting(value: &Setting) -> String {
    match value {
        Setting::Bytes(bytes) if *bytes == UNLIMITED => toml_string("unlimited"),
        Setting::Bytes(bytes) => toml_string(&amount_text(*bytes)),
        Setting::Cpus(thousandths) => cpus_text(*thousandths),
        Setting::Number(number) => number.to_string(),
        Setting::Numbers(all) => numbers(all),
        Setting::Seconds(seconds) => toml_string(&duration_text(*seconds)),
        Setting::Flag(flag) => flag.to_string(),
        Setting::Text(text) => toml_string(text),
        Setting::Texts(all) => texts(all),
        Setting::Variables(pairs) => inline(pairs),
        Setting::Patterns(all) => {
            let all: Vec<String> = all.iter().map(pattern).collect();
            format!("[{}]", all.join(", "))
        }
        Setting::Table(pairs) | Setting::Dotted(pairs) => table(pairs),
        Setting::Tables(all) => {
            let all: Vec<String> = all.iter().map(|pairs| table(pairs)).collect();
            format!("[{}]", all.join(", "))
        }
    }
}

fn table(pairs: &[(&str, Setting)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key} = {}", setting(value))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// A text that matches itself alone although it has a glob's characters becomes a regular expression.
fn pattern(pattern: &Pattern) -> String {
    let source = pattern.to_string();
    if pattern.is_regex() {
        format!("{{ regex = {} }}", toml_string(&source))
    } else if Pattern::new(&source).is_ok_and(|read| read == *pattern) {
        toml_string(&source)
    } else {
        format!("{{ regex = {} }}", toml_string(&regex_lite::escape(&source)))
    }
}

pub(crate) fn texts<T: AsRef<str>>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|text| toml_string(text.as_ref())).collect();
    format!("[{}]", all.join(", "))
}

pub(crate) fn numbers(all: &[u64]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    format!("[{}]", all.join(", "))
}

pub(crate) fn inline(pairs: &BTreeMap<String, String>) -> String {
    let all: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{} = {}", toml_key(key), toml_string(value))).collect();
    if all.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", all.join(", ")) }
}

fn one_line(text: &str) -> String {
    nunbird_handover::Untrusted(&text.replace('\n', " ")).to_string()
}
