//! Typed reading of TOML that keeps every finding: the value or a default goes on, the finding stays.
//!
//! A [`Section`] is one table, or the same table of several files read as one. Each key is asked for by name and
//! type; a key that is never asked for is unknown, and is reported with the nearest known name.

use super::document::Shared;
pub(super) use super::document::{At, Document, Kind, Spot};
use super::keys::Word;
use super::toml_text::toml_key;
use crate::amount::whole;
use crate::{Location, suggest};
use nunbird_handover::Untrusted;
use std::collections::BTreeMap;
use std::rc::Rc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What to write for a table.
const TABLE: &str = "write a table, under a heading in `[ ]` or as `{ key = value }`";

/// How many keys a table is asked for at most, for one allocation in place of several: the conditions of a rule.
const MOST_ASKED: usize = 32;

struct Part<'t> {
    document: &'t Document<'t>,
    table: &'t DeTable<'t>,
    start: usize,
}

impl<'t> Part<'t> {
    /// The value of the key.
    fn value(&self, name: &str) -> Option<(Spot<'t>, &'t DeValue<'t>)> {
        let (name, value) = self.table.get_key_value(name)?;
        // A table's header is the key's span; a value's own span is more exact.
        let offset = match value.get_ref() {
            DeValue::Table(_) => name.span().start,
            _ => value.span().start,
        };
        Some((Spot { document: self.document, offset }, value.get_ref()))
    }
}

/// A table. Dropping it without [`Section::finish`] would let unknown keys pass.
#[must_use]
pub(super) struct Section<'t> {
    parts: Vec<Part<'t>>,
    shared: &'t Shared,
    path: Rc<str>,
    /// The path by which places of keys are kept, with names and indices in place of `[]`; none where none are kept.
    origin: Option<String>,
    asked: Vec<&'static str>,
    /// How many of the keys of a table of one file have been asked for.
    found: usize,
    /// What unknown keys may begin with.
    allowed: Option<&'static str>,
    /// Keys with the names that they had in earlier versions.
    former: Vec<(&'static str, &'static [&'static str])>,
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
        let (path, origin) = (Rc::from(""), Some(String::new()));
        Section {
            parts,
            shared,
            path,
            origin,
            asked: Vec::new(),
            found: 0,
            allowed: None,
            former: Vec::new(),
            noting: true,
        }
    }

    /// One table of one file, which begins at `spot`.
    fn of_table(
        spot: Spot<'t>,
        table: &'t DeTable<'t>,
        shared: &'t Shared,
        path: Rc<str>,
        noting: bool,
    ) -> Self {
        let part = Part { document: spot.document, table, start: spot.offset };
        Section {
            parts: vec![part],
            shared,
            path,
            origin: None,
            asked: Vec::with_capacity(MOST_ASKED),
            found: 0,
            allowed: None,
            former: Vec::new(),
            noting,
        }
    }

    /// Where the table begins; none where no file has it.
    pub(super) fn spot(&self) -> Option<Spot<'t>> {
        self.parts.first().map(|part| Spot { document: part.document, offset: part.start })
    }

    pub(super) fn is_present(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether reading it would change nothing: no file has it, and what it could have had is known.
    pub(super) fn is_of_no_use(&self) -> bool {
        self.parts.is_empty() && !self.notes()
    }

    /// Whether every key that the table has was asked for, so that asking for others changes nothing: what it could have had is known.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.parts.as_slice(), [part] if part.table.len() == self.found) && !self.notes()
    }

    fn notes(&self) -> bool {
        self.noting && self.shared.keeps
    }

    /// Reports a finding at the table's start, or at the file's.
    pub(super) fn find(&self, message: impl Into<String>, help: impl Into<String>) {
        if let Some(spot) = self.spot() {
            spot.find(message, help);
        }
    }

    fn origin_of(&self, key: &str) -> Option<String> {
        let table = self.origin.as_ref()?;
        Some(if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") })
    }

    /// Notes where the value of a key comes from.
    pub(super) fn keep_origin(&self, key: &str, spot: Spot<'_>) {
        if !self.shared.keeps {
            return;
        }
        if let Some(path) = self.origin_of(key) {
            self.shared.origins.borrow_mut().insert(path, spot.place());
        }
    }

    fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// As [`Section::key_path`], where somebody will read it.
    fn path_of_table(&self, key: &str) -> Rc<str> {
        if self.noting || !self.path.contains("[]") {
            self.key_path(key).into()
        } else {
            Rc::clone(&self.path)
        }
    }

    fn ask(&mut self, key: &'static str, kind: impl FnOnce() -> Kind) {
        self.asked.push(key);
        if self.notes() {
            self.shared.asked.borrow_mut().insert(self.key_path(key), kind());
        }
    }

    /// Lets the key be read by names that it had in earlier versions.
    pub(super) fn rename(&mut self, key: &'static str, former: &'static [&'static str]) {
        if !former.is_empty() {
            self.former.push((key, former));
        }
    }

    /// The names by which the key can be read.
    fn names_of<'k>(&self, key: &'k str) -> impl Iterator<Item = &'k str> + use<'k> {
        let renamed = self.former.iter().find(|(name, _)| *name == key);
        std::iter::once(key).chain(renamed.map_or(&[][..], |(_, former)| *former).iter().copied())
    }

    /// Every file's value of the key.
    fn values<'s>(&'s self, key: &'s str) -> impl Iterator<Item = (Spot<'t>, &'t DeValue<'t>)> + use<'s, 't> {
        let of_part = move |part: &'s Part<'t>| self.names_of(key).filter_map(move |name| part.value(name));
        self.parts.iter().flat_map(of_part)
    }

    /// The one value of the key. A second one, in another file, is a finding.
    fn one(&mut self, key: &'static str, kind: impl FnOnce() -> Kind) -> Option<(Spot<'t>, &'t DeValue<'t>)> {
        self.ask(key, kind);
        // Nearly every table: one file has it, and its keys have always had their names.
        if let ([part], []) = (self.parts.as_slice(), self.former.as_slice()) {
            let first = part.value(key)?;
            self.keep_origin(key, first.0);
            self.count(key);
            return Some(first);
        }
        let mut values = self.values(key);
        let first = values.next()?;
        if let Some((spot, _)) = values.next() {
            set_twice(spot, &self.key_path(key), first.0);
        }
        self.keep_origin(key, first.0);
        for former in self.names_of(key).skip(1).filter(|former| self.has_name(former)) {
            self.shared.note_former(first.0.place(), former, key);
        }
        Some(first)
    }

    /// Counts a key that is there and has just been asked for: once, however often that is, because another key must not pass for it.
    fn count(&mut self, key: &'static str) {
        if self.asked.split_last().is_none_or(|(_, before)| !before.contains(&key)) {
            self.found += 1;
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<At<'t, &'t str>> {
        let (spot, value) = self.one(key, || Kind::Text)?;
        text(spot, value)
    }

    /// A word of a [`Word`].
    pub(super) fn choice<T: Word>(&mut self, key: &'static str) -> Option<At<'t, T>> {
        let At { value, spot } =
            self.word(key, || T::WORDS.iter().map(|(word, _)| *word).collect(), T::FORMER)?;
        T::of(value).map(|value| At { value, spot })
    }

    /// One of `words`, or a word of an earlier version, of which `former` has today's.
    pub(super) fn word(
        &mut self,
        key: &'static str,
        words: impl Fn() -> Vec<&'static str>,
        former: &[(&'static str, &'static str)],
    ) -> Option<At<'t, &'static str>> {
        let (spot, value) = self.one(key, || Kind::Choice(words()))?;
        let given = text(spot, value)?.value;
        if let Some((old, new)) = former.iter().find(|(old, _)| *old == given) {
            self.shared.note_former(spot.place(), old, new);
            return Some(At { value: *new, spot });
        }
        let words = words();
        let found = words.iter().find(|word| **word == given);
        if found.is_none() {
            unknown(spot, "value", given, &words);
        }
        found.map(|word| At { value: *word, spot })
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<At<'t, bool>> {
        let (spot, value) = self.one(key, || Kind::Boolean)?;
        match value {
            DeValue::Boolean(value) => Some(At { value: *value, spot }),
            other => wrong_type(spot, other, "boolean", "write `true` or `false`, without quotes"),
        }
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Option<At<'t, u64>> {
        let (spot, value) = self.one(key, || Kind::Integer)?;
        integer(spot, value)
    }

    /// A text or an array of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<At<'t, Vec<At<'t, &'t str>>>> {
        let (spot, value) = self.one(key, || Kind::Texts)?;
        Some(At { value: each(spot, value, text), spot })
    }

    /// A whole number or an array of them.
    pub(super) fn integers(&mut self, key: &'static str) -> Option<At<'t, Vec<u64>>> {
        let (spot, value) = self.one(key, || Kind::Integers)?;
        Some(At { value: each(spot, value, integer).into_iter().map(|at| at.value).collect(), spot })
    }

    /// A value of a kind of its own: texts and tables mixed.
    pub(super) fn raw(&mut self, key: &'static str, kind: Kind) -> Option<Raw<'t>> {
        let (spot, value) = self.one(key, || kind)?;
        let path = self.path_of_table(key);
        Some(Raw { spot, value, path, shared: self.shared, noting: self.noting })
    }

    /// A table, empty where there is none.
    pub(super) fn table(&mut self, key: &'static str) -> Section<'t> {
        self.ask(key, || Kind::Table);
        if let ([part], []) = (self.parts.as_slice(), self.former.as_slice())
            && part.table.contains_key(key)
        {
            self.count(key);
        }
        self.subsection(key, self.path_of_table(key))
    }

    fn subsection(&self, key: &str, path: Rc<str>) -> Section<'t> {
        let mut parts = Vec::new();
        for (spot, value) in self.values(key) {
            match value {
                DeValue::Table(table) => {
                    parts.push(Part { document: spot.document, table, start: spot.offset });
                }
                other => {
                    let _: Option<()> = wrong_type(spot, other, "table", TABLE);
                }
            }
        }
        let origin = self.origin_of(key);
        let (shared, noting) = (self.shared, self.noting);
        let asked = Vec::with_capacity(if parts.is_empty() { 0 } else { MOST_ASKED });
        Section { parts, shared, path, origin, asked, found: 0, allowed: None, former: Vec::new(), noting }
    }

    /// Tables by name, `[key.NAME]`, in the order of their names.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<(At<'t, &'t str>, Section<'t>)> {
        self.ask(key, || Kind::Named);
        let all = self.subsection(key, self.path_of_table(key));
        let mut names: BTreeMap<&'t str, Spot<'t>> = BTreeMap::new();
        for part in &all.parts {
            for (name, _) in part.table.iter() {
                let spot = Spot { document: part.document, offset: name.span().start };
                names.entry(name.get_ref().as_ref()).or_insert(spot);
            }
        }
        let path: Rc<str> = format!("{}[]", self.key_path(key)).into();
        names
            .into_iter()
            .map(|(name, spot)| {
                let section = all.subsection(name, Rc::clone(&path));
                let origin = all.origin_of(&toml_key(name));
                (At { value: name, spot }, Section { origin, ..section })
            })
            .collect()
    }

    /// Keys of the site's choice with texts as values.
    pub(super) fn pairs(&mut self, key: &'static str) -> Vec<(At<'t, &'t str>, At<'t, &'t str>)> {
        self.ask(key, || Kind::Named);
        if let Some((spot, _)) = self.values(key).next() {
            self.keep_origin(key, spot);
        }
        let all = self.subsection(key, Rc::from(""));
        let mut pairs = Vec::new();
        let mut first: BTreeMap<&'t str, Spot<'t>> = BTreeMap::new();
        for part in &all.parts {
            for (name, value) in part.table.iter() {
                let spot = Spot { document: part.document, offset: name.span().start };
                if let Some(first) = first.insert(name.get_ref().as_ref(), spot) {
                    let path = self.key_path(key);
                    set_twice(spot, &format!("{path}.{}", Untrusted(name.get_ref())), first);
                }
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
        self.ask(key, || Kind::Tables);
        let path: Rc<str> = format!("{}[]", self.key_path(key)).into();
        let mut sections = Vec::new();
        for (spot, value) in self.values(key) {
            let DeValue::Array(array) = value else {
                let _: Option<()> =
                    wrong_type(spot, value, "array of tables", &format!("head each table with `[[{key}]]`"));
                continue;
            };
            for element in array.iter() {
                let spot = Spot { document: spot.document, offset: element.span().start };
                match element.get_ref() {
                    DeValue::Table(table) => {
                        // Rules come by the thousand, and the first has asked for all their keys.
                        let noting = self.noting && sections.is_empty();
                        let section = Section::of_table(spot, table, self.shared, Rc::clone(&path), noting);
                        // Rules and tests have one place each, their head's.
                        let kept = key == "gitlab";
                        let origin =
                            kept.then(|| self.origin_of(&format!("{key}[{}]", sections.len()))).flatten();
                        sections.push(Section { origin, ..section });
                    }
                    other => {
                        let _: Option<()> = wrong_type(spot, other, "table", TABLE);
                    }
                }
            }
        }
        sections
    }

    /// Whether the table has the key, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.names_of(key).any(|name| self.has_name(name))
    }

    fn has_name(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.table.contains_key(name))
    }

    /// The place of the key's value, for a finding about it.
    pub(super) fn spot_of(&self, key: &str) -> Option<Spot<'t>> {
        self.values(key).next().map(|(spot, _)| spot)
    }

    /// The text of a key that has been read, with its place; none where its value is of another type, which is a finding already.
    pub(super) fn text_of(&self, key: &str) -> Option<At<'t, &'t str>> {
        match self.values(key).next()? {
            (spot, DeValue::String(text)) => Some(At { value: text.as_ref(), spot }),
            _ => None,
        }
    }

    /// As [`Section::spot_of`].
    pub(super) fn place_of(&self, key: &str) -> Option<Location> {
        self.spot_of(key).map(Spot::place)
    }

    /// A finding about a key: at its value, or at the table's start where it has none.
    pub(super) fn find_at(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        match self.spot_of(key) {
            Some(spot) => spot.find(message, help),
            None => self.find(message, help),
        }
    }

    /// A finding about two keys of this table that contradict each other.
    pub(super) fn clash_at(
        &self,
        key: &str,
        other: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        match self.spot_of(key) {
            Some(spot) => spot.clash(self.spot_of(other), message, help),
            None => self.find_at(other, message, help),
        }
    }

    /// Lets keys pass that begin with this, such as those of features that come and go.
    pub(super) fn allow_prefix(&mut self, prefix: &'static str) {
        self.allowed = Some(prefix);
    }

    /// Reports every key that was never asked for.
    pub(super) fn finish(self) {
        if self.is_read() {
            return;
        }
        for part in &self.parts {
            for (key, _) in part.table.iter() {
                let name: &str = key.get_ref();
                let allowed = self.allowed.is_some_and(|prefix| name.starts_with(prefix));
                if allowed && !self.shared.keeps {
                    continue;
                }
                if allowed {
                    let place = Spot { document: part.document, offset: key.span().start }.place();
                    self.shared.origins.borrow_mut().insert(self.key_path(name), place);
                } else if !self.asked.contains(&name)
                    && !self.asked.iter().any(|key| self.names_of(key).any(|known| known == name))
                {
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
    pub(super) value: &'t DeValue<'t>,
    pub(super) path: Rc<str>,
    pub(super) shared: &'t Shared,
    pub(super) noting: bool,
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
                Some(Section::of_table(self.spot, table, self.shared, Rc::clone(&self.path), self.noting))
            }
            _ => None,
        }
    }

    /// The value itself, or the elements of the array that it is.
    pub(super) fn elements(&self) -> Vec<Raw<'t>> {
        let one = |spot, value| {
            let (path, shared, noting) = (Rc::clone(&self.path), self.shared, self.noting);
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

    pub(super) fn wrong_type<T>(&self, expected: &str, help: &str) -> Option<T> {
        wrong_type(self.spot, self.value, expected, help)
    }
}

fn text<'t>(spot: Spot<'t>, value: &'t DeValue<'t>) -> Option<At<'t, &'t str>> {
    match value {
        DeValue::String(text) => Some(At { value: text.as_ref(), spot }),
        other => wrong_type(spot, other, "string", "write it in quotes"),
    }
}

fn integer<'t>(spot: Spot<'t>, value: &'t DeValue<'t>) -> Option<At<'t, u64>> {
    match value {
        DeValue::Integer(number) => {
            let parsed = u64::from_str_radix(number.as_str(), number.radix());
            if parsed.is_err() {
                spot.find("this integer is negative or too large", "write a whole number from 0");
            }
            parsed.ok().map(|value| At { value, spot })
        }
        // As processors have it: other tools write all their values in quotes.
        DeValue::String(text) if whole(text).is_some() => whole(text).map(|value| At { value, spot }),
        other => wrong_type(spot, other, "integer", "write a whole number, without quotes"),
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

/// Two files set one key. Neither can be meant over the other.
fn set_twice(second: Spot<'_>, path: &str, first: Spot<'_>) {
    second.clash(Some(first), format!("duplicate key `{path}`"), "remove one of the two");
}

/// A value of another type than the key has, in TOML's words for both.
fn wrong_type<T>(spot: Spot<'_>, value: &DeValue<'_>, expected: &str, help: &str) -> Option<T> {
    spot.find(format!("expected {expected}, found {}", value.type_str()), help);
    None
}

fn unknown(spot: Spot<'_>, what: &str, name: &str, known: &[&'static str]) {
    let help = match suggest::nearest(name, known.iter().copied()) {
        Some(near) => format!("write `{near}`"),
        None if known.is_empty() => "nothing is known here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    };
    spot.find(format!("unknown {what} `{}`", Untrusted(name)), help);
}
