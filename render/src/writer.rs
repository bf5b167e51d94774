//! Keys, tables and values as the text of TOML.

use nunbird_handover::UNLIMITED;
use nunbird_policy::{Setting, amount_text, cpus_text, duration_text};
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
        Setting::Tables(all) => {
            let pair = |(key, value): &(&str, Setting)| format!("{key} = {}", setting(value));
            let table =
                |pairs: &Vec<_>| format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "));
            format!("[{}]", all.iter().map(table).collect::<Vec<_>>().join(", "))
        }
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
