//! Typed reading of TOML that keeps every finding: the value or a default goes on, the finding stays.
//!
//! A [`Section`] is one table, or the same table of several files read as one. Each key is asked for by name and
//! type; what nobody asked for is an unknown key, told together with its nearest neighbour among the names that were.

use crate::{Diagnostic, Place, suggest};
use nunbird_handover::Untrusted;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One file, with what was found wrong in it.
pub(super) struct Document<'t> {
    file: &'t Path,
    text: &'t str,
    lines: Vec<usize>,
    shared: &'t Shared,
}

/// What all files of one configuration gather.
#[derive(Default)]
pub(super) struct Shared {
    findings: RefCell<Vec<Diagnostic>>,
    origins: RefCell<BTreeMap<String, Place>>,
    asked: RefCell<BTreeMap<String, Kind>>,
}

impl Shared {
    pub(super) fn is_clean(&self) -> bool {
        self.findings.borrow().is_empty()
    }

    /// Findings, where each key came from, and which keys were asked for.
    pub(super) fn into_parts(self) -> (Vec<Diagnostic>, BTreeMap<String, Place>, BTreeMap<String, Kind>) {
        let mut findings = self.findings.into_inner();
        findings.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.place.file.clone(), d.place.line, d.place.column);
            key(a).cmp(&key(b))
        });
        (findings, self.origins.into_inner(), self.asked.into_inner())
    }
}

/// What a key holds, as the schema has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// One of these texts.
    Choice(Vec<&'static str>),
    /// `true` or `false`.
    Boolean,
    /// A whole number from 0.
    Integer,
    /// A text or an array of texts.
    Texts,
    /// A whole number or an array of them.
    Integers,
    /// A table.
    Table,
    /// A table whose keys are names of the site's choice.
    Named,
    /// An array of tables.
    Tables,
}

/// A byte of a file.
#[derive(Clone, Copy)]
pub(super) struct Spot<'t> {
    document: &'t Document<'t>,
    offset: usize,
}

impl Spot<'_> {
    pub(super) fn find(self, message: impl Into<String>, help: impl Into<String>) {
        let document = self.document;
        let place = document.place(self.offset);
        let index = usize::try_from(place.line).unwrap_or(1).saturating_sub(1);
        let start = document.lines.get(index).copied().unwrap_or(0);
        let line = document.text.get(start..).unwrap_or("").lines().next().unwrap_or("");
        let finding = Diagnostic {
            message: message.into(),
            place,
            source_line: line.to_owned(),
            help: Some(help.into()),
        };
        document.shared.findings.borrow_mut().push(finding);
    }

    pub(super) fn place(self) -> Place {
        self.document.place(self.offset)
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct At<'t, T> {
    pub(super) value: T,
    pub(super) spot: Spot<'t>,
}

impl<'t> Document<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str, shared: &'t Shared) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Document { file, text, lines, shared }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place { file: self.file.to_path_buf(), line: small(line), column: small(column) }
    }

    /// Parses the file. What is no TOML is a finding; the rest of the file is read all the same.
    pub(super) fn parse(&'t self) -> DeTable<'t> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            let message = error.message().trim_end_matches('.').to_owned();
            let help = match message.as_str() {
                "duplicate key" => "remove one of the two",
                _ => "see toml.io for the syntax; texts stand in quotes",
            };
            Spot { document: self, offset }.find(message, help);
        }
        table.into_inner()
    }
}

struct Part<'t> {
    document: &'t Document<'t>,
    table: &'t DeTable<'t>,
    start: usize,
}

/// A table. Dropping it without [`Section::finish`] would let unknown keys pass.
#[must_use]
pub(super) struct Section<'t> {
    parts: Vec<Part<'t>>,
    shared: &'t Shared,
    path: String,
    asked: Vec<&'static str>,
    /// What unknown keys may begin with.
    allowed: Option<&'static str>,
    /// Whether what is asked for is noted for the schema. Rules come by the thousand, and the first says it all.
    noting: bool,
}

impl<'t> Section<'t> {
    /// The root of a configuration of one file or more.
    pub(super) fn root(documents: &'t [Document<'t>], tables: &'t [DeTable<'t>], shared: &'t Shared) -> Self {
        let parts = documents
            .iter()
            .zip(tables)
            .map(|(document, table)| Part { document, table, start: 0 })
            .collect();
        Section { parts, shared, path: String::new(), asked: Vec::new(), allowed: None, noting: true }
    }

    /// Where the table begins; none where it does not stand in any file.
    pub(super) fn spot(&self) -> Option<Spot<'t>> {
        self.parts.first().map(|part| Spot { document: part.document, offset: part.start })
    }

    pub(super) fn is_present(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Tells that something is missing here: at the table's start, or at the file's.
    pub(super) fn find(&self, message: impl Into<String>, help: impl Into<String>) {
        if let Some(spot) = self.spot() {
            spot.find(message, help);
        }
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// As [`Section::key_path`], where somebody will read it.
    fn path_of_table(&self, key: &str) -> String {
        if self.noting || !self.path.contains("[]") { self.key_path(key) } else { self.path.clone() }
    }

    fn ask(&mut self, key: &'static str, kind: Kind) {
        self.asked.push(key);
        if self.noting {
            self.shared.asked.borrow_mut().insert(self.key_path(key), kind);
        }
    }

    /// Every file's value of the key.
    fn values(&self, key: &str) -> Vec<(Spot<'t>, &'t DeValue<'t>)> {
        let in_part = |part: &Part<'t>| {
            let (name, value) = part.table.get_key_value(key)?;
            // A table's header is the key's span; a value's own span is more exact.
            let offset = match value.get_ref() {
                DeValue::Table(_) => name.span().start,
                _ => value.span().start,
            };
            Some((Spot { document: part.document, offset }, value.get_ref()))
        };
        self.parts.iter().filter_map(in_part).collect()
    }

    /// The one value of the key. A second one, in another file, is a finding.
    fn one(&mut self, key: &'static str, kind: Kind) -> Option<(Spot<'t>, &'t DeValue<'t>)> {
        self.ask(key, kind);
        let values = self.values(key);
        let (first, second) = (values.first().copied()?, values.get(1));
        if let Some((spot, _)) = second {
            let message = format!("`{}` is set a second time", self.key_path(key));
            spot.find(message, format!("the first stands at {}; remove one of the two", first.0.place()));
        }
        if !self.path.contains("[]") {
            self.shared.origins.borrow_mut().insert(self.key_path(key), first.0.place());
        }
        Some(first)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<At<'t, &'t str>> {
        let (spot, value) = self.one(key, Kind::Text)?;
        text(spot, value)
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<At<'t, T>> {
        let names: Vec<&'static str> = choices.iter().map(|(name, _)| *name).collect();
        let (spot, value) = self.one(key, Kind::Choice(names.clone()))?;
        let given = text(spot, value)?;
        let found = choices.iter().find(|(name, _)| *name == given.value);
        if found.is_none() {
            unknown(spot, "value", given.value, &names);
        }
        found.map(|(_, value)| At { value: *value, spot })
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<At<'t, bool>> {
        let (spot, value) = self.one(key, Kind::Boolean)?;
        match value {
            DeValue::Boolean(value) => Some(At { value: *value, spot }),
            other => wrong_type(spot, other, "`true` or `false`"),
        }
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Option<At<'t, u64>> {
        let (spot, value) = self.one(key, Kind::Integer)?;
        integer(spot, value)
    }

    /// A text or an array of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<At<'t, Vec<At<'t, &'t str>>>> {
        let (spot, value) = self.one(key, Kind::Texts)?;
        Some(At { value: each(spot, value, text), spot })
    }

    /// A whole number or an array of them.
    pub(super) fn integers(&mut self, key: &'static str) -> Option<At<'t, Vec<u64>>> {
        let (spot, value) = self.one(key, Kind::Integers)?;
        Some(At { value: each(spot, value, integer).into_iter().map(|at| at.value).collect(), spot })
    }

    /// A value of a kind of its own: texts and tables mixed.
    pub(super) fn raw(&mut self, key: &'static str, kind: Kind) -> Option<Raw<'t>> {
        let (spot, value) = self.one(key, kind)?;
        Some(Raw { spot, value, path: self.key_path(key), shared: self.shared, noting: self.noting })
    }

    /// A table, empty where there is none.
    pub(super) fn table(&mut self, key: &'static str) -> Section<'t> {
        self.ask(key, Kind::Table);
        self.subsection(key, self.path_of_table(key))
    }

    fn subsection(&self, key: &str, path: String) -> Section<'t> {
        let mut parts = Vec::new();
        for (spot, value) in self.values(key) {
            match value {
                DeValue::Table(table) => {
                    parts.push(Part { document: spot.document, table, start: spot.offset });
                }
                other => {
                    let _: Option<()> = wrong_type(spot, other, "a table");
                }
            }
        }
        Section { parts, shared: self.shared, path, asked: Vec::new(), allowed: None, noting: self.noting }
    }

    /// Tables by name, `[key.NAME]`, in the order of their names.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<(At<'t, &'t str>, Section<'t>)> {
        self.ask(key, Kind::Named);
        let all = self.subsection(key, self.path_of_table(key));
        let mut names: BTreeMap<&'t str, Spot<'t>> = BTreeMap::new();
        for part in &all.parts {
            for (name, _) in part.table.iter() {
                let spot = Spot { document: part.document, offset: name.span().start };
                names.entry(name.get_ref().as_ref()).or_insert(spot);
            }
        }
        let path = format!("{}[]", self.key_path(key));
        names
            .into_iter()
            .map(|(name, spot)| (At { value: name, spot }, all.subsection(name, path.clone())))
            .collect()
    }

    /// Keys of the site's choice with texts behind them.
    pub(super) fn pairs(&mut self, key: &'static str) -> Vec<(At<'t, &'t str>, At<'t, &'t str>)> {
        self.ask(key, Kind::Named);
        let all = self.subsection(key, String::new());
        let mut pairs = Vec::new();
        for part in &all.parts {
            for (name, value) in part.table.iter() {
                let spot = Spot { document: part.document, offset: name.span().start };
                let value_spot = Spot { document: part.document, offset: value.span().start };
                if let Some(value) = text(value_spot, value.get_ref()) {
                    pairs.push((At { value: name.get_ref().as_ref(), spot }, value));
                }
            }
        }
        pairs
    }

    /// `[[key]]` of every file, in order.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Section<'t>> {
        self.ask(key, Kind::Tables);
        let path = format!("{}[]", self.key_path(key));
        let mut sections = Vec::new();
        for (spot, value) in self.values(key) {
            let DeValue::Array(array) = value else {
                let _: Option<()> = wrong_type(spot, value, &format!("tables, each headed `[[{key}]]`"));
                continue;
            };
            for element in array.iter() {
                let spot = Spot { document: spot.document, offset: element.span().start };
                match element.get_ref() {
                    DeValue::Table(table) => {
                        let part = Part { document: spot.document, table, start: spot.offset };
                        let (shared, noting) = (self.shared, self.noting && sections.is_empty());
                        let path = path.clone();
                        sections.push(Section {
                            parts: vec![part],
                            shared,
                            path,
                            asked: Vec::new(),
                            allowed: None,
                            noting,
                        });
                    }
                    other => {
                        let _: Option<()> = wrong_type(spot, other, "a table");
                    }
                }
            }
        }
        sections
    }

    /// Whether the key stands here, whatever it holds.
    pub(super) fn has(&self, key: &str) -> bool {
        self.parts.iter().any(|part| part.table.contains_key(key))
    }

    /// Lets keys pass that begin with this, such as those of features that come and go.
    pub(super) fn allow_prefix(&mut self, prefix: &'static str) {
        self.allowed = Some(prefix);
    }

    /// Tells every key that nobody asked for.
    pub(super) fn finish(self) {
        for part in &self.parts {
            for (key, _) in part.table.iter() {
                let name: &str = key.get_ref();
                let allowed = self.allowed.is_some_and(|prefix| name.starts_with(prefix));
                if allowed {
                    let place = Spot { document: part.document, offset: key.span().start }.place();
                    self.shared.origins.borrow_mut().insert(self.key_path(name), place);
                } else if !self.asked.contains(&name) {
                    let spot = Spot { document: part.document, offset: key.span().start };
                    unknown(spot, "key", name, &self.asked);
                }
            }
        }
    }
}

/// A value that may be of more than one type.
pub(super) struct Raw<'t> {
    pub(super) spot: Spot<'t>,
    value: &'t DeValue<'t>,
    path: String,
    shared: &'t Shared,
    noting: bool,
}

impl<'t> Raw<'t> {
    pub(super) fn as_text(&self) -> Option<&'t str> {
        match self.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => None,
        }
    }

    pub(super) fn as_boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_table(&self) -> Option<Section<'t>> {
        match self.value {
            DeValue::Table(table) => {
                let part = Part { document: self.spot.document, table, start: self.spot.offset };
                let (shared, path) = (self.shared, self.path.clone());
                Some(Section {
                    parts: vec![part],
                    shared,
                    path,
                    asked: Vec::new(),
                    allowed: None,
                    noting: self.noting,
                })
            }
            _ => None,
        }
    }

    /// The value itself, or the elements of the array that it is.
    pub(super) fn elements(&self) -> Vec<Raw<'t>> {
        let one = |spot, value| {
            let (path, shared, noting) = (self.path.clone(), self.shared, self.noting);
            Raw { spot, value, path, shared, noting }
        };
        match self.value {
            DeValue::Array(array) => array
                .iter()
                .map(|element| {
                    let offset = element.span().start;
                    one(Spot { document: self.spot.document, offset }, element.get_ref())
                })
                .collect(),
            value => vec![one(self.spot, value)],
        }
    }

    pub(super) fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        wrong_type(self.spot, self.value, wanted)
    }
}

fn text<'t>(spot: Spot<'t>, value: &'t DeValue<'t>) -> Option<At<'t, &'t str>> {
    match value {
        DeValue::String(text) => Some(At { value: text.as_ref(), spot }),
        other => wrong_type(spot, other, "a text in quotes"),
    }
}

fn integer<'t>(spot: Spot<'t>, value: &'t DeValue<'t>) -> Option<At<'t, u64>> {
    match value {
        DeValue::Integer(number) => {
            let parsed = u64::from_str_radix(number.as_str(), number.radix());
            if parsed.is_err() {
                spot.find("this is no number for this key", "write a whole number from 0");
            }
            parsed.ok().map(|value| At { value, spot })
        }
        other => wrong_type(spot, other, "a whole number"),
    }
}

fn each<'t, T>(
    spot: Spot<'t>,
    value: &'t DeValue<'t>,
    one: impl Fn(Spot<'t>, &'t DeValue<'t>) -> Option<At<'t, T>>,
) -> Vec<At<'t, T>> {
    match value {
        DeValue::Array(array) => array
            .iter()
            .filter_map(|element: &Spanned<DeValue<'t>>| {
                one(Spot { document: spot.document, offset: element.span().start }, element.get_ref())
            })
            .collect(),
        value => one(spot, value).into_iter().collect(),
    }
}

fn wrong_type<T>(spot: Spot<'_>, value: &DeValue<'_>, wanted: &str) -> Option<T> {
    spot.find(format!("{} stands here", article(value.type_str())), format!("write {wanted}"));
    None
}

fn article(kind: &str) -> String {
    match kind {
        "integer" | "array" => format!("an {kind}"),
        "string" => "a text".to_owned(),
        _ => format!("a {kind}"),
    }
}

fn unknown(spot: Spot<'_>, what: &str, name: &str, known: &[&'static str]) {
    let help = match suggest::nearest(name, known.iter().copied()) {
        Some(near) => format!("write `{near}`"),
        None if known.is_empty() => "nothing is known here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    };
    spot.find(format!("unknown {what} `{}`", Untrusted(name)), help);
}

/// One file of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}
