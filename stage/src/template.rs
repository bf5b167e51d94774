//! The parts of a description: placeholders in words, and regular expressions.

use crate::words::quoted;
use regex_lite::Regex;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::ffi::OsStr;

/// A regular expression, checked when the description is read.
#[derive(Debug)]
pub struct Pattern(pub Regex);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Regex::new(&text).map(Pattern).map_err(serde::de::Error::custom)
    }
}

/// Whether one of these matches a part of the text.
pub fn any_matches(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.0.is_match(text))
}

/// A regular expression that must match a whole word.
#[derive(Debug)]
pub struct Whole(Regex);

impl Whole {
    /// Whether it does.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Regex::new(&format!("^(?:{text})$")).map(Whole).map_err(serde::de::Error::custom)
    }
}

/// Fills in the placeholders of a command's words. The word `{arguments}` becomes any number of
/// words.
pub fn fill(words: &[String], values: &BTreeMap<&'static str, String>, arguments: &[String]) -> Vec<String> {
    let mut filled = Vec::new();
    for word in words {
        if word == "{arguments}" {
            filled.extend_from_slice(arguments);
        } else {
            filled.push(fill_word(word, values));
        }
    }
    filled
}

/// The same for one word, or for a text. `{name:sh}` is the value quoted as one word of a POSIX
/// shell.
pub fn fill_word(word: &str, values: &BTreeMap<&'static str, String>) -> String {
    fill_with(word, &|name| match name.strip_suffix(":sh") {
        Some(name) => values.get(name).map(|value| quoted(OsStr::new(value))),
        None => values.get(name).cloned(),
    })
}

/// One pass from left to right: a value that looks like a placeholder is not expanded.
pub fn fill_with(word: &str, look: &dyn Fn(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        match after.split_once('}').and_then(|(name, after)| Some((look(name)?, after))) {
            Some((value, after)) => {
                filled.push_str(&value);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::fill;
    use std::collections::BTreeMap;

    #[test]
    fn a_value_that_looks_like_a_placeholder_stays_one_word_and_is_not_filled_again() {
        let values = BTreeMap::from([("tag", "{id} x".to_owned()), ("id", "7".to_owned())]);
        let words = ["a", "{arguments}", "--name={tag}", "{id}-{none}-{", "{{id}}"].map(str::to_owned);
        let filled = fill(&words, &values, &["{tag}".to_owned(), "b c".to_owned()]);
        assert_eq!(filled, ["a", "{tag}", "b c", "--name={id} x", "7-{none}-{", "{7}"]);
    }
}
