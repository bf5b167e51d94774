//! Typed values: a text, a number, or one of several; a value of another type is a finding.

use super::document::{At, Shared, Spot};
use super::reader::Section;
use crate::suggest;
use nunbird_handover::Untrusted;
use toml::Spanned;
use toml::de::DeValue;

/// A value that may be of more than one type.
pub(super) struct Raw<'t> {
    pub(super) spot: Spot<'t>,
    pub(super) value: &'t DeValue<'t>,
    pub(super) path: String,
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
                Some(Section::of_table(self.spot, table, self.shared, self.path.clone(), self.noting))
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

    pub(super) fn wrong_type<T>(&self, expected: &str, help: &str) -> Option<T> {
        wrong_type(self.spot, self.value, expected, help)
    }
}

pub(super) fn text<'t>(spot: Spot<'t>, value: &'t DeValue<'t>) -> Option<At<'t, &'t str>> {
    match value {
        DeValue::String(text) => Some(At { value: text.as_ref(), spot }),
        other => wrong_type(spot, other, "string", "write it in quotes"),
    }
}

pub(super) fn integer<'t>(spot: Spot<'t>, value: &'t DeValue<'t>) -> Option<At<'t, u64>> {
    match value {
        DeValue::Integer(number) => {
            let parsed = u64::from_str_radix(number.as_str(), number.radix());
            if parsed.is_err() {
                spot.find("this integer is negative or too large", "write a whole number from 0");
            }
            parsed.ok().map(|value| At { value, spot })
        }
        other => wrong_type(spot, other, "integer", "write a whole number, without quotes"),
    }
}

pub(super) fn each<'t, T>(
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
pub(super) fn set_twice(second: Spot<'_>, path: &str, first: Spot<'_>) {
    let help = format!("the first stands at {}; remove one of the two", first.place());
    second.find(format!("`{path}` is set a second time"), help);
}

/// A value of another type than the key has, in TOML's words for both.
pub(super) fn wrong_type<T>(spot: Spot<'_>, value: &DeValue<'_>, expected: &str, help: &str) -> Option<T> {
    spot.find(format!("expected {expected}, found {}", value.type_str()), help);
    None
}

pub(super) fn unknown(spot: Spot<'_>, what: &str, name: &str, known: &[&'static str]) {
    let help = match suggest::nearest(name, known.iter().copied()) {
        Some(near) => format!("write `{near}`"),
        None if known.is_empty() => "nothing is known here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    };
    spot.find(format!("unknown {what} `{}`", Untrusted(name)), help);
}
