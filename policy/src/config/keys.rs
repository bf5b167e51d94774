//! The keys of a table of the configuration, each defined once.
//!
//! A [`Table`] lists its keys with name, type, bounds, default and one sentence. Reading and writing them, the JSON schema, the
//! findings about former names, and the rows of docs/policy-reference.md come from it. docs/howto/setting.md says how to add one.

use super::document::{At, Kind};
use super::reader::{Raw, Section};
use super::values;
use crate::Pattern;
use crate::amount::{amount_text, bytes, cpus};
use crate::duration::{duration_text, seconds};
use crate::lens::Lens;
use nunbird_handover::{UNLIMITED, Untrusted};
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::de::DeValue;

/// A table of the configuration whose values fill a `T`.
pub struct Table<T: 'static> {
    /// Its path: `batch`, `limits[]` for one of the tables `[limits.NAME]`.
    pub path: &'static str,
    /// Its keys, in the order of the reference.
    pub keys: &'static [Key<T>],
    /// What holds where the table says nothing.
    pub defaults: fn() -> T,
}

/// One key.
pub struct Key<T: 'static> {
    name: &'static str,
    /// Names that it had in earlier versions, which stay valid.
    former: &'static [&'static str],
    /// The default in words, where it is no value of the key.
    default: Option<&'static str>,
    doc: &'static str,
    form: Form<T>,
}

/// The type of a key, and where its value goes.
pub(super) enum Form<T: 'static> {
    /// An amount of bytes. `unlimited`: also that word, for [`UNLIMITED`].
    Bytes { get: fn(&T) -> Option<u64>, set: fn(&mut T, u64), least: u64, unlimited: bool },
    /// Processors, in thousandths of one.
    Cpus(Lens<T, Option<u64>>),
    /// A whole number.
    Number { get: fn(&T) -> Option<u64>, set: fn(&mut T, u64), least: u64, most: u64 },
    /// Whole numbers.
    Numbers(Lens<T, Vec<u64>>),
    /// A duration, in seconds.
    Seconds { get: fn(&T) -> Option<u64>, set: fn(&mut T, u64), least: u64, most: u64 },
    /// `true` or `false`.
    Flag { get: fn(&T) -> Option<bool>, set: fn(&mut T, bool) },
    /// One word of several.
    Word {
        words: fn() -> Vec<&'static str>,
        former: &'static [(&'static str, &'static str)],
        get: fn(&T) -> Option<&'static str>,
        set: fn(&mut T, &str),
    },
    /// An absolute path.
    Path { get: fn(&T) -> Option<String>, set: fn(&mut T, PathBuf) },
    /// A text, which `set` checks.
    Text { get: fn(&T) -> Option<String>, set: fn(&mut T, &At<'_, &str>) },
    /// A text or an array of texts, which `set` checks.
    Texts { get: fn(&T) -> Option<Vec<String>>, set: fn(&mut T, At<'_, Vec<At<'_, &str>>>) },
    /// Environment variables, added to those that are there.
    Variables { at: Lens<T, BTreeMap<String, String>>, check: fn(&At<'_, &str>, &At<'_, &str>) },
    /// A value that the table's own code reads, because it needs more than the key.
    Own { takes: &'static str, get: fn(&T) -> Option<Setting> },
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Bytes; [`UNLIMITED`] is `unlimited`.
    Bytes(u64),
    /// Thousandths of a processor.
    Cpus(u64),
    /// A whole number.
    Number(u64),
    /// Whole numbers.
    Numbers(Vec<u64>),
    /// A duration in seconds.
    Seconds(u64),
    /// `true` or `false`.
    Flag(bool),
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// Names and values.
    Variables(BTreeMap<String, String>),
    /// A pattern or several.
    Patterns(Vec<Pattern>),
    /// An inline table.
    Table(Vec<(&'static str, Setting)>),
    /// Inline tables.
    Tables(Vec<Vec<(&'static str, Setting)>>),
    /// A table whose keys are written as dotted ones, a line each.
    Dotted(Vec<(&'static str, Setting)>),
}

/// A key in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub name: &'static str,
    /// Names that it had in earlier versions.
    pub former: &'static [&'static str],
    /// Values of earlier versions, with those of today.
    pub former_words: &'static [(&'static str, &'static str)],
    /// The type and its bounds. Markdown.
    pub takes: String,
    /// The default in words; none where [`KeyInfo::default_value`] is the default.
    pub default: Option<&'static str>,
    /// The default.
    pub default_value: Option<Setting>,
    /// What it does. Markdown.
    pub doc: &'static str,
    /// The least and the greatest whole number.
    pub bounds: Option<(u64, u64)>,
}

impl<T> Table<T> {
    /// Reads every key that is there into `target`; a key that is not leaves it as it is.
    pub(super) fn read(&self, section: &mut Section<'_>, target: &mut T) {
        for key in self.keys {
            // Nearly every rule has three keys of ten.
            if section.is_read() {
                break;
            }
            section.rename(key.name, key.former);
            key.read(section, target);
        }
    }

    /// The keys that `of` has, with their values.
    pub(super) fn settings(&self, of: &T) -> Vec<(&'static str, Setting)> {
        self.keys.iter().filter_map(|key| Some((key.name, key.value(of)?))).collect()
    }

    /// The keys in words, for the reference and the schema.
    pub fn info(&self) -> Vec<KeyInfo> {
        let defaults = (self.defaults)();
        self.keys.iter().map(|key| key.info(&defaults)).collect()
    }
}

impl<T> Key<T> {
    pub(super) const fn new(name: &'static str, form: Form<T>, doc: &'static str) -> Self {
        Key { name, former: &[], default: None, doc, form }
    }

    /// With the default in words.
    pub(super) const fn or(self, default: &'static str) -> Self {
        Key { default: Some(default), ..self }
    }

    /// With names of earlier versions.
    pub(super) const fn was(self, former: &'static [&'static str]) -> Self {
        Key { former, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its value in `of`; none where the key would not be written.
    pub fn value(&self, of: &T) -> Option<Setting> {
        match &self.form {
            Form::Bytes { get, .. } => get(of).map(Setting::Bytes),
            Form::Cpus(at) => (at.get)(of).map(Setting::Cpus),
            Form::Number { get, .. } => get(of).map(Setting::Number),
            Form::Numbers(at) => Some(Setting::Numbers((at.get)(of).clone())),
            Form::Seconds { get, .. } => get(of).map(Setting::Seconds),
            Form::Flag { get, .. } => get(of).map(Setting::Flag),
            Form::Word { get, .. } => get(of).map(|word| Setting::Text(word.to_owned())),
            Form::Path { get, .. } | Form::Text { get, .. } => get(of).map(Setting::Text),
            Form::Texts { get, .. } => get(of).map(Setting::Texts),
            Form::Variables { at, .. } => Some(Setting::Variables((at.get)(of).clone())),
            Form::Own { get, .. } => get(of),
        }
    }

    fn info(&self, defaults: &T) -> KeyInfo {
        let from =
            |least: &u64, unit: &str| if *least == 0 { String::new() } else { format!(" from `{unit}`") };
        let mut bounds = None;
        let takes = match &self.form {
            Form::Bytes { least, unlimited, .. } => {
                let or = if *unlimited { ", or `\"unlimited\"`" } else { "" };
                format!("amount{}{or}", from(least, &amount_text(*least)))
            }
            Form::Cpus(_) => "processors".to_owned(),
            Form::Number { least, most, .. } => {
                bounds = Some((*least, *most));
                match (*least, *most) {
                    (0, u64::MAX) => "number".to_owned(),
                    (_, u64::MAX) => format!("number from {least}"),
                    _ => format!("number, {least} to {most}"),
                }
            }
            Form::Numbers(_) => "numbers".to_owned(),
            Form::Seconds { least, most, .. } => {
                format!("duration, `{}` to `{}`", duration_text(*least), duration_text(*most))
            }
            Form::Flag { .. } => "`true` or `false`".to_owned(),
            Form::Word { words, .. } => {
                let quoted: Vec<String> = words().iter().map(|word| format!("`\"{word}\"`")).collect();
                match quoted.split_last() {
                    Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                    _ => quoted.concat(),
                }
            }
            Form::Path { .. } => "path".to_owned(),
            Form::Text { .. } => "text".to_owned(),
            Form::Texts { .. } => "texts".to_owned(),
            Form::Variables { .. } => "table of texts".to_owned(),
            Form::Own { takes, .. } => (*takes).to_owned(),
        };
        let default_value = if self.default.is_none() { self.value(defaults) } else { None };
        let Key { name, former, default, doc, .. } = *self;
        let former_words = if let Form::Word { former, .. } = &self.form { *former } else { &[] };
        KeyInfo { name, former, former_words, takes, default, default_value, doc, bounds }
    }

    fn read(&self, section: &mut Section<'_>, target: &mut T) {
        let name = self.name;
        match &self.form {
            Form::Bytes { set, least, unlimited, .. } => {
                if let Some(amount) = amount(section, name, *least, *unlimited) {
                    set(target, amount);
                }
            }
            Form::Cpus(at) => {
                if let Some(thousandths) = processors(section, name) {
                    *(at.get_mut)(target) = Some(thousandths);
                }
            }
            Form::Number { set, least, most, .. } => {
                if let Some(number) = number(section, name, *least, *most) {
                    set(target, number);
                }
            }
            Form::Numbers(at) => {
                if let Some(numbers) = section.integers(name) {
                    *(at.get_mut)(target) = numbers.value;
                }
            }
            Form::Seconds { set, least, most, .. } => {
                if let Some(seconds) = duration(section, name, *least, *most) {
                    set(target, seconds);
                }
            }
            Form::Flag { set, .. } => {
                if let Some(flag) = section.boolean(name) {
                    set(target, flag.value);
                }
            }
            Form::Word { words, former, set, .. } => {
                if let Some(word) = section.word(name, words, former) {
                    set(target, word.value);
                }
            }
            Form::Path { set, .. } => {
                if let Some(at) = section.text(name) {
                    set(target, values::path(&at));
                }
            }
            Form::Text { set, .. } => {
                if let Some(at) = section.text(name) {
                    set(target, &at);
                }
            }
            Form::Texts { set, .. } => {
                if let Some(at) = section.texts(name) {
                    set(target, at);
                }
            }
            Form::Variables { at, check } => {
                for (name, value) in section.pairs(name) {
                    check(&name, &value);
                    (at.get_mut)(target).insert(name.value.to_owned(), value.value.to_owned());
                }
            }
            Form::Own { .. } => {}
        }
    }
}

fn amount(section: &mut Section<'_>, name: &'static str, least: u64, unlimited: bool) -> Option<u64> {
    let help = "write a number with `K`, `M`, `G` or `T` in quotes, such as `\"4G\"`";
    let raw = section.raw(name, if unlimited { Kind::AmountOrUnlimited } else { Kind::Amount })?;
    let Some(text) = raw.as_text() else { return raw.wrong_type("string", help) };
    if unlimited && text == "unlimited" {
        return Some(UNLIMITED);
    }
    let found = bytes(text).filter(|bytes| *bytes >= least);
    if found.is_none() {
        let from = if least == 0 { String::new() } else { format!(" from {}", amount_text(least)) };
        raw.spot.find(format!("expected an amount{from}, found `{}`", Untrusted(text)), help);
    }
    found
}

fn processors(section: &mut Section<'_>, name: &'static str) -> Option<u64> {
    let help = "write a number such as `1.5`, with at most three decimals";
    let raw: Raw<'_> = section.raw(name, Kind::Cpus)?;
    let text = match raw.value {
        DeValue::String(text) => text.as_ref(),
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        _ => return raw.wrong_type("number of processors", help),
    };
    let found = cpus(text);
    if found.is_none() {
        let message =
            format!("expected a number of processors from 0.01 to 100000, found `{}`", Untrusted(text));
        raw.spot.find(message, help);
    }
    found
}

fn number(section: &mut Section<'_>, name: &'static str, least: u64, most: u64) -> Option<u64> {
    let at = section.integer(name)?;
    if !(least..=most).contains(&at.value) {
        let help = if most == u64::MAX {
            format!("write {least} or more")
        } else {
            format!("write {least} to {most}")
        };
        at.spot.find(format!("`{name}` is out of range: {}", at.value), help);
        return None;
    }
    Some(at.value)
}

pub(super) fn duration(section: &mut Section<'_>, name: &'static str, least: u64, most: u64) -> Option<u64> {
    let help = "write numbers with `w`, `d`, `h`, `m` or `s` in quotes, such as `\"90s\"` or `\"1h30m\"`";
    let raw = section.raw(name, Kind::Duration)?;
    let Some(text) = raw.as_text() else { return raw.wrong_type("string", help) };
    let found = seconds(text).filter(|seconds| (least..=most).contains(seconds));
    if found.is_none() {
        let (least, most) = (duration_text(least), duration_text(most));
        raw.spot
            .find(format!("expected a duration from {least} to {most}, found `{}`", Untrusted(text)), help);
    }
    found
}

/// Types with one word for each value.
pub(super) trait Word: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
    /// Words of earlier versions, which stay valid, with the words of today.
    const FORMER: &'static [(&'static str, &'static str)] = &[];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| *word)
    }

    fn of(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
    }
}

/// Types of fields that hold a whole number within a key's bounds.
pub(super) trait Whole: Copy {
    fn number(self) -> Option<u64>;
    fn of(number: u64) -> Self;
}

macro_rules! whole {
    ($($type:ty),*) => {$(
        impl Whole for $type {
            fn number(self) -> Option<u64> {
                Some(u64::from(self))
            }
            fn of(number: u64) -> Self {
                <$type>::try_from(number).unwrap_or(<$type>::MAX)
            }
        }
        impl Whole for Option<$type> {
            fn number(self) -> Option<u64> {
                self.map(u64::from)
            }
            fn of(number: u64) -> Self {
                Some(Whole::of(number))
            }
        }
    )*};
}
whole!(u8, u16, u32, u64);

/// Forms of keys whose value is a field: `form!(Flag: login_shell)`.
macro_rules! form {
    (Bytes: $($f:ident).+, $least:expr) => {
        $crate::config::keys::Form::Bytes {
            get: |t| t.$($f).+, set: |t, n| t.$($f).+ = Some(n), least: $least, unlimited: false,
        }
    };
    (BytesOrUnlimited: $($f:ident).+, $least:expr) => {
        $crate::config::keys::Form::Bytes {
            get: |t| t.$($f).+, set: |t, n| t.$($f).+ = Some(n), least: $least, unlimited: true,
        }
    };
    (Cpus: $($f:ident).+) => { $crate::config::keys::Form::Cpus($crate::lens::lens!($($f).+)) };
    (Flag: $($f:ident).+) => {
        $crate::config::keys::Form::Flag { get: |t| Some(t.$($f).+), set: |t, flag| t.$($f).+ = flag }
    };
    (FlagOrNone: $($f:ident).+) => {
        $crate::config::keys::Form::Flag { get: |t| t.$($f).+, set: |t, flag| t.$($f).+ = Some(flag) }
    };
    (Number: $($f:ident).+, $least:expr, $most:expr) => {
        $crate::config::keys::Form::Number {
            get: |t| $crate::config::keys::Whole::number(t.$($f).+),
            set: |t, n| t.$($f).+ = $crate::config::keys::Whole::of(n),
            least: $least,
            most: $most,
        }
    };
    (Seconds: $($f:ident).+, $least:expr, $most:expr) => {
        $crate::config::keys::Form::Seconds {
            get: |t| $crate::config::keys::Whole::number(t.$($f).+),
            set: |t, n| t.$($f).+ = $crate::config::keys::Whole::of(n),
            least: $least,
            most: $most,
        }
    };
    (Word: $($f:ident).+, $type:ty) => {
        $crate::config::keys::Form::Word {
            words: || <$type as $crate::config::keys::Word>::WORDS.iter().map(|(word, _)| *word).collect(),
            former: <$type as $crate::config::keys::Word>::FORMER,
            get: |t| Some($crate::config::keys::Word::word(t.$($f).+)),
            set: |t, word| {
                if let Some(value) = <$type as $crate::config::keys::Word>::of(word) {
                    t.$($f).+ = value;
                }
            },
        }
    };
    (WordOrNone: $($f:ident).+, $type:ty) => {
        $crate::config::keys::Form::Word {
            words: || <$type as $crate::config::keys::Word>::WORDS.iter().map(|(word, _)| *word).collect(),
            former: <$type as $crate::config::keys::Word>::FORMER,
            get: |t| t.$($f).+.map($crate::config::keys::Word::word),
            set: |t, word| t.$($f).+ = $crate::config::keys::Word::of(word),
        }
    };
    (Text: $($f:ident).+) => {
        $crate::config::keys::Form::Text {
            get: |t| Some(t.$($f).+.clone()), set: |t, at| at.value.clone_into(&mut t.$($f).+),
        }
    };
    (TextOrNone: $($f:ident).+) => {
        $crate::config::keys::Form::Text { get: |t| t.$($f).+.clone(), set: |t, at| t.$($f).+ = Some(at.value.to_owned()) }
    };
    (Path: $($f:ident).+) => {
        $crate::config::keys::Form::Path {
            get: |t| Some(t.$($f).+.to_string_lossy().into_owned()), set: |t, path| t.$($f).+ = path,
        }
    };
    (PathOrNone: $($f:ident).+) => {
        $crate::config::keys::Form::Path {
            get: |t| t.$($f).+.as_ref().map(|path| path.to_string_lossy().into_owned()),
            set: |t, path| t.$($f).+ = Some(path),
        }
    };
    (Variables: $($f:ident).+, $check:expr) => {
        $crate::config::keys::Form::Variables { at: $crate::lens::lens!($($f).+), check: $check }
    };
}
pub(super) use form;
