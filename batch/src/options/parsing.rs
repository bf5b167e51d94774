//! Parses an argument text into options with their values.
//!
//! getopt_long(3) accepts any unambiguous prefix of an option's name, so a prefix of an option that
//! matters here is refused: otherwise `--outp=x` would pass as an unknown option. For a program
//! with a parser of its own, only options in the description are accepted.

use super::{Options, Style};
use nunbird_handover::{Account, Untrusted};

/// One option of an argument list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedOption {
    /// `-t`, `--time`, or `time` for an assignment.
    name: String,
    value: Option<String>,
    /// The resources in the value, if it holds several.
    parts: Vec<Resource>,
    /// As it was written.
    pub(super) words: Vec<String>,
}

/// A resource inside a value: `walltime=1:00:00`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resource {
    /// The name with the option: `-l walltime`.
    name: String,
    key: String,
    value: Option<String>,
    /// Whether it is inside another one's value: `mem` in `select=2:mem=1gb`.
    nested: bool,
}

/// A new value; `None` keeps the old one.
type Change = Result<Option<String>, String>;

impl ParsedOption {
    /// Everything that the option sets: names and values.
    pub(super) fn amounts(&self) -> impl Iterator<Item = (&String, Option<&String>)> {
        let parts = self.parts.iter().map(|part| (&part.name, part.value.as_ref()));
        std::iter::once((&self.name, self.value.as_ref())).chain(parts)
    }

    /// Replaces values by the function's results.
    pub(super) fn change(&mut self, new: &mut dyn FnMut(&String, &str) -> Change) -> Result<(), String> {
        if let Some(value) = new(&self.name, self.value.as_deref().unwrap_or_default())? {
            self.words = match self.name.starts_with('-') {
                true => vec![self.name.clone(), value.clone()],
                false => vec![format!("{}={value}", self.name)],
            };
            self.value = Some(value);
        }
        let mut changed = false;
        for part in &mut self.parts {
            if let Some(value) = new(&part.name, part.value.as_deref().unwrap_or_default())? {
                part.value = Some(value);
                changed = true;
            }
        }
        if changed {
            let written = |part: &Resource| match &part.value {
                Some(value) => format!("{}={value}", part.key),
                None => part.key.clone(),
            };
            let parts: Vec<String> = self.parts.iter().filter(|part| !part.nested).map(written).collect();
            self.value = Some(parts.join(","));
            self.words = vec![self.name.clone(), parts.join(",")];
        }
        Ok(())
    }
}

/// Splits as a shell would. GitLab expands its own variables; `$HOME` and `$USER` are not among
/// them, but users write them from habit, so these two are replaced, as text.
pub(super) fn split(text: &str, account: &Account) -> Result<Vec<String>, String> {
    let words = shell_words::split(text).map_err(|_| "a quote is not closed".to_owned())?;
    let home = account.home.to_string_lossy();
    let replace = |word: String| {
        let word = word.replace("${HOME}", &home).replace("$HOME/", &format!("{home}/"));
        let word = if word.ends_with("$HOME") { word.replace("$HOME", &home) } else { word };
        word.replace("${USER}", &account.name).replace("$USER", &account.name)
    };
    Ok(words.into_iter().map(replace).collect())
}

pub(super) fn shown(words: &[String]) -> String {
    format!("`{}`", Untrusted(&words.join(" ")))
}

/// The next word, as a value. A word that looks like an option is not accepted as one: the submit
/// command may parse it differently.
fn value_of<'a>(name: &str, words: &mut impl Iterator<Item = &'a String>) -> Result<&'a String, String> {
    match words.next() {
        Some(value) if !value.starts_with('-') => Ok(value),
        Some(_) => Err(format!(
            "{0} has no value; write a value that begins with `-` as {0}=-…; if {0} takes no \
             value, the administrators add it to `flags` in a copy of the scheduler's description",
            Untrusted(name)
        )),
        None => Err(format!("{} has no value", Untrusted(name))),
    }
}

fn not_an_option(word: &str) -> String {
    let word = shown(&[word.to_owned()]);
    format!("{word} is not an option; only options are accepted, the script is the stage's")
}

impl Options {
    pub(super) fn parse(&self, words: &[String]) -> Result<Vec<ParsedOption>, String> {
        let mut given = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match self.style {
                Style::Getopt | Style::Argparse => self.getopt(word, &mut words, &mut given)?,
                Style::Words => given.push(self.word(word, &mut words)?),
                Style::Assignments => given.push(self.assignment(word)?),
            }
        }
        Ok(given)
    }

    fn getopt<'a>(
        &self,
        word: &str,
        words: &mut impl Iterator<Item = &'a String>,
        all: &mut Vec<ParsedOption>,
    ) -> Result<(), String> {
        if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
            all.push(self.long(word, long, words)?);
            return Ok(());
        }
        match word.strip_prefix('-').filter(|short| !short.is_empty() && *short != "-") {
            Some(short) => self.short(short, words, all),
            None => Err(not_an_option(word)),
        }
    }

    fn long<'a>(
        &self,
        word: &str,
        long: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<ParsedOption, String> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (format!("--{name}"), Some(value.to_owned())),
            None => (format!("--{long}"), None),
        };
        let is = |known: &&String| **known == name;
        if !self.known().any(|known| is(&known))
            && let Some(full) = self.known().find(|known| known.starts_with(name.as_str()))
        {
            return Err(format!(
                "{} may mean {full}; write the whole name",
                shown(std::slice::from_ref(&name))
            ));
        }
        if value.is_some() || self.flags.contains(&name) {
            self.check_space(&name, word)?;
            return Ok(self.given(name, value, vec![word.to_owned()]));
        }
        let value = value_of(&name, words)?.clone();
        self.check_space(&name, &value)?;
        // One word: if the submit command has a flag of this name, it refuses this; given two
        // words, it would take the second one as the script, and all that follows, the site's
        // arguments and ours, as that script's arguments.
        let words = vec![format!("{word}={value}")];
        Ok(self.given(name, Some(value), words))
    }

    /// `-N2`, `-N 2`, and several letters in one word. What is written in one word stays one word:
    /// `-N=2` means 2 nodes for argparse, but `-N` and `=2` is not a number.
    fn short<'a>(
        &self,
        letters: &str,
        words: &mut impl Iterator<Item = &'a String>,
        all: &mut Vec<ParsedOption>,
    ) -> Result<(), String> {
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let name = format!("-{letter}");
            // argparse takes `-5` and `-.5` as numbers, and so as the script.
            if self.style == Style::Argparse && !letter.is_ascii_alphabetic() {
                return Err(not_an_option(&name));
            }
            if self.flags.contains(&name) {
                all.push(self.given(name.clone(), None, vec![name]));
                continue;
            }
            let given = match rest.as_str() {
                "" => {
                    let value = value_of(&name, words)?.clone();
                    let words = vec![name.clone(), value.clone()];
                    self.given(name, Some(value), words)
                }
                glued => {
                    self.check_space(&name, glued)?;
                    let value = match self.style {
                        Style::Argparse => glued.strip_prefix('=').unwrap_or(glued),
                        _ => glued,
                    };
                    let words = vec![format!("{name}{glued}")];
                    self.given(name, Some(value.to_owned()), words)
                }
            };
            all.push(given);
            return Ok(());
        }
        Ok(())
    }

    /// argparse takes a word with a space as the script, whatever it begins with, unless it knows
    /// the option: all that follows, the site's arguments and ours, would be that script's
    /// arguments.
    fn check_space(&self, name: &str, text: &str) -> Result<(), String> {
        if self.style != Style::Argparse || !text.contains(' ') || self.known().any(|known| known == name) {
            return Ok(());
        }
        Err(format!(
            "{} cannot have a space in its value; if it may, the administrators add it to \
             `values` in a copy of the scheduler's description",
            Untrusted(name)
        ))
    }

    /// `-pe mpi 4`. A program with a parser of its own may interpret an unknown word in any way.
    fn word<'a>(
        &self,
        word: &str,
        words: &mut impl Iterator<Item = &'a String>,
    ) -> Result<ParsedOption, String> {
        if !word.starts_with('-') {
            return Err(not_an_option(word));
        }
        let name = word.to_owned();
        if self.flags.contains(&name) {
            return Ok(self.given(name.clone(), None, vec![name]));
        }
        if self.pairs.contains(&name) {
            let (first, second) = (value_of(&name, words)?.clone(), value_of(&name, words)?.clone());
            let words = vec![name.clone(), first, second.clone()];
            return Ok(self.given(name, Some(second), words));
        }
        if !self.known().any(|known| *known == name) {
            return Err(format!(
                "{} is not a known option here; write an option and its value as two words",
                shown(&[name])
            ));
        }
        let value = value_of(&name, words)?.clone();
        let words = vec![name.clone(), value.clone()];
        Ok(self.given(name, Some(value), words))
    }

    fn given(&self, name: String, value: Option<String>, words: Vec<String>) -> ParsedOption {
        let parts = match &value {
            Some(value) if self.resources.contains(&name) => parts(&name, value),
            _ => Vec::new(),
        };
        ParsedOption { name, value, parts, words }
    }

    /// `request_cpus=4`. The name may contain nothing that makes it another one, the value no
    /// second line. HTCondor also accepts the names of attributes, `RequestCpus`, which differ in
    /// case and underscores.
    fn assignment(&self, word: &str) -> Result<ParsedOption, String> {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            format!("{} is not an assignment; only `name=value` is accepted", shown(&[word.to_owned()]))
        })?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(plain) || value.contains(|c: char| c.is_control()) {
            return Err(format!(
                "{} is not accepted: its name or value has characters that are not allowed",
                shown(&[word.to_owned()])
            ));
        }
        let bare = |name: &str| name.replace('_', "");
        let known = self.known().find(|known| bare(known) == bare(&name));
        let name = known.cloned().unwrap_or(name);
        let words = vec![format!("{name}={value}")];
        Ok(ParsedOption { name, value: Some(value), parts: Vec::new(), words })
    }

    /// Every option that has a meaning here.
    fn known(&self) -> impl Iterator<Item = &String> {
        let lists =
            [&self.time, &self.nodes, &self.size, &self.memory, &self.partition, &self.account, &self.qos];
        let opaque = [&self.opaque.time, &self.opaque.nodes, &self.opaque.memory, &self.opaque.partition];
        let more = [&self.flags, &self.values, &self.pairs, &self.resources];
        lists.into_iter().chain(opaque).chain(more).chain(self.owned.values()).flatten()
    }
}

/// `select=2:mem=1gb+1:mem=4gb,walltime=1:00:00`. Names are case-insensitive, as in PBS; taking one
/// name for another that is limited errs on the safe side.
fn parts(option: &str, value: &str) -> Vec<Resource> {
    let part = |text: &str, nested| {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim().to_owned())),
            None => (text.trim(), None),
        };
        let name = format!("{option} {}", key.to_ascii_lowercase());
        Resource { name, key: key.to_owned(), value, nested }
    };
    let mut parts = Vec::new();
    for piece in value.split(',') {
        let whole = part(piece, false);
        let inner = whole.value.clone().unwrap_or_default();
        parts.push(whole);
        let resources = inner.split(['+', ':']).filter(|inner| inner.contains('='));
        parts.extend(resources.map(|inner| part(inner, true)));
    }
    parts
}
