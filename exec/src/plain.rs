//! Texts without quotes as GitLab's reader of YAML 1.1, Ruby's Psych, has them.

use regex_lite::Regex;
use std::sync::LazyLock;

/// The longest text that is looked at as a number, in bytes.
const LONGEST_NUMBER: usize = 64;

/// A number without quotes as Ruby prints it.
pub(crate) fn plain(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let number = digits.replace('_', "");
    let all = |of: &str, radix: u32| !of.is_empty() && of.chars().all(|c| c.is_digit(radix));
    let whole = match number.as_bytes() {
        [b'0', b'x', ..] if all(&number[2..], 16) => i128::from_str_radix(&number[2..], 16).ok(),
        [b'0', b'b', ..] if all(&number[2..], 2) => i128::from_str_radix(&number[2..], 2).ok(),
        [b'0', _, ..] if all(&number, 8) => i128::from_str_radix(&number, 8).ok(),
        [b'1'..=b'9', ..] | [b'0'] if all(&number, 10) => number.parse().ok(),
        _ => None,
    };
    if let Some(whole) = whole {
        return format!("{}{whole}", if whole == 0 { "" } else { sign });
    }
    let fraction = number.split_once('.').filter(|(a, b)| all(a, 10) && (b.is_empty() || all(b, 10)));
    match fraction.and_then(|_| number.parse::<f64>().ok()) {
        // Beyond this Ruby writes an exponent.
        Some(value) if value < 1e16 && (value == 0.0 || value >= 1e-4) => format!("{sign}{value:?}"),
        _ => text.to_owned(),
    }
}

/// Texts without quotes that are kept as they are here, and what GitLab's reader makes of them.
static OTHERWISE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let kinds = [
        (r"^:.", "a symbol, without the colon"),
        (r"^-?[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?$", "a date or time, which it refuses"),
        (r"^[-+]?[0-9][0-9_]*(:[0-5]?[0-9]){1,2}(\.[0-9_]*)?$", "a number to the base 60"),
        (r"^[-+]?([0-9][0-9_]*|0x[0-9a-fA-F_]+)(,[0-9a-fA-F_]*)+$", "a number without the commas"),
        (r"^[-+]?([0-9][0-9_,]*)?\.[0-9]*[eE][-+][0-9]+$", "a number with an exponent"),
        (r"^[-+]?\.[0-9]+$|^[-+]?[0-9_,]+,[0-9_,]*\.[0-9]*$", "a number"),
        (r"(?i)^[-+]?\.inf$|^\.nan$", "a number"),
    ];
    kinds.into_iter().filter_map(|(pattern, kind)| Some((Regex::new(pattern).ok()?, kind))).collect()
});

/// What GitLab's reader makes of a text without quotes, if that is not what it is here.
pub(crate) fn otherwise(text: &str) -> Option<&'static str> {
    // Most texts are commands and names.
    let mut first = text.chars();
    let begins = match first.next() {
        Some('+' | '-' | '.') => first.next().is_some_and(|c| c.is_ascii_digit() || ".iInN".contains(c)),
        Some(c) => c == ':' || c.is_ascii_digit(),
        None => false,
    };
    if !begins || text.len() > LONGEST_NUMBER {
        return None;
    }
    OTHERWISE.iter().find(|(pattern, _)| pattern.is_match(text)).map(|(_, kind)| *kind)
}
