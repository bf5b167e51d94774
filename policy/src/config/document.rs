//! The files of a configuration, and what reading them gathers: findings, places, and the keys that were asked for.

use super::PartialReading;
use super::listed::{self, CONFIGURATIONS};
use crate::url::without_credentials;
use crate::{Diagnostic, Location, Policy};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

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
    /// Whether places and keys are kept, beside the findings: for people and the schema, at each start of a program for nothing.
    pub(super) keeps: bool,
    pub(super) findings: RefCell<Vec<Diagnostic>>,
    pub(super) origins: RefCell<BTreeMap<String, Location>>,
    pub(super) asked: RefCell<BTreeMap<String, Kind>>,
    pub(super) former: RefCell<Vec<FormerName>>,
}

/// A key or a value that is written as in an earlier version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerName {
    /// The place of the value.
    pub place: Location,
    /// What is written.
    pub former: &'static str,
    /// Its name today.
    pub name: &'static str,
}

impl Shared {
    pub(super) fn is_clean(&self) -> bool {
        self.findings.borrow().is_empty()
    }

    pub(super) fn note_former(&self, place: Location, former: &'static str, name: &'static str) {
        self.former.borrow_mut().push(FormerName { place, former, name });
    }

    /// All that was gathered, with the policy that was read.
    pub(super) fn into_reading(self, policy: Option<Policy>) -> PartialReading {
        let mut findings = self.findings.into_inner();
        findings.sort_by(|a, b| {
            let key = |d: &Diagnostic| (d.place.file.clone(), d.place.line, d.place.column);
            key(a).cmp(&key(b))
        });
        PartialReading {
            policy,
            findings,
            origins: self.origins.into_inner(),
            keys: self.asked.into_inner(),
            former: self.former.into_inner(),
        }
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
    /// A whole number from 0, or a text with one.
    Integer,
    /// A text or an array of texts.
    Texts,
    /// A pattern or an array of patterns: texts, and tables with a regular expression.
    Patterns,
    /// A number, or a text with one.
    Cpus,
    /// A text with an amount of bytes.
    Amount,
    /// The same, or `unlimited`.
    AmountOrUnlimited,
    /// A text with a duration.
    Duration,
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
    pub(super) document: &'t Document<'t>,
    pub(super) offset: usize,
}

impl Spot<'_> {
    pub(super) fn find(self, message: impl Into<String>, help: impl Into<String>) {
        self.found(message.into(), help.into(), None);
    }

    /// A finding about two places that contradict each other.
    pub(super) fn clash(self, other: Option<Spot<'_>>, message: impl Into<String>, help: impl Into<String>) {
        self.found(message.into(), help.into(), other.map(Spot::place));
    }

    fn found(self, message: String, help: String, other: Option<Location>) {
        let document = self.document;
        let place = document.place(self.offset);
        let index = usize::try_from(place.line).unwrap_or(1).saturating_sub(1);
        let start = document.lines.get(index).copied().unwrap_or(0);
        let line = document.text.get(start..).unwrap_or("").lines().next().unwrap_or("");
        let finding = Diagnostic {
            message,
            place,
            other,
            // A site's first try may be `http://user:password@proxy`, and findings are pasted into tickets.
            source_line: match document.file == Path::new(CONFIGURATIONS) {
                true => listed::without_values(line),
                false => without_credentials(line).into_owned(),
            },
            help: Some(help),
        };
        document.shared.findings.borrow_mut().push(finding);
    }

    pub(super) fn place(self) -> Location {
        self.document.place(self.offset)
    }
}

/// A value and its place.
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

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    fn place(&self, offset: usize) -> Location {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Location { file: self.file.to_path_buf(), line: small(line), column: small(column) }
    }

    /// Parses the file. What is no TOML is a finding; the rest of the file is read all the same.
    pub(super) fn parse(&'t self) -> DeTable<'t> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            let message = error.message().trim_end_matches('.').to_owned();
            let rest = self.text.get(offset..).and_then(|rest| rest.lines().next()).unwrap_or("");
            let mut other = None;
            let help = match message.as_str() {
                "duplicate key" => {
                    other = self.earlier(offset);
                    "remove one of the two"
                }
                _ if rest.contains(['“', '”', '„', '‘', '’', '«', '»']) => {
                    "these are typographic quotes; write the plain `\"`"
                }
                _ => "see toml.io for the syntax; strings are in quotes",
            };
            Spot { document: self, offset }.clash(other, message, help);
        }
        table.into_inner()
    }

    /// The line before `offset` with the same head, or with the same key in the same table, as a line of its own.
    fn earlier(&'t self, offset: usize) -> Option<Spot<'t>> {
        let word = |line: &str| -> String {
            let line = line.trim_start();
            let end = if line.starts_with('[') { line.find(']') } else { line.find('=') };
            line.get(..end.unwrap_or(0)).unwrap_or("").trim_end().to_owned()
        };
        let index = self.lines.partition_point(|start| *start <= offset).checked_sub(1)?;
        let line_at = |start: usize| self.text.get(start..).unwrap_or("").lines().next().unwrap_or("");
        let lines = self.lines.get(..=index)?;
        let last = *lines.last()?;
        let wanted = word(line_at(last));
        let indent = line_at(last).len() - line_at(last).trim_start().len();
        // What is wrong may be further right, in an inline table.
        if offset > last + indent + wanted.len() {
            return None;
        }
        let is_head = wanted.starts_with('[');
        for start in lines.iter().rev().skip(1) {
            let line = line_at(*start);
            if word(line) == wanted && !wanted.is_empty() {
                let indent = line.len() - line.trim_start().len();
                return Some(Spot { document: self, offset: start + indent });
            }
            if !is_head && line.trim_start().starts_with('[') {
                return None;
            }
        }
        None
    }
}

/// One file of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}
