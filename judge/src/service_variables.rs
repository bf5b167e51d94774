//! Variables of services with the values that the job's variables have.
//!
//! The record of a job has no value of a variable, so this is done anew for each message to the launcher, as gitlab-runner does it for its
//! own executors (common/spec/variables.go): once, and what a value brings in is not expanded again.

use crate::refusal::{Code, Refusal};
use nunbird_handover::{Container, Untrusted};

/// Bytes of all names and values together in JSON: a message has room for no more.
const MOST: usize = 64 << 10;

/// Fills in the values. `variable` gives that of a variable of the job, and an error where it is no UTF-8 text.
///
/// # Errors
/// A denial for a variable that is no UTF-8 text, and for more than fits into a message.
pub fn fill(
    container: &mut Container,
    mut variable: impl FnMut(&str) -> Result<Option<String>, String>,
) -> Result<(), Refusal> {
    let mut bytes = 0_usize;
    for service in &mut container.services {
        let unfilled = service.variables.clone();
        for (name, value) in &mut service.variables {
            *value = expanded(value, |wanted| match unfilled.get(wanted).filter(|_| wanted != name) {
                // Another one of the service's own, as it stands there.
                Some(own) if !is_of_job(own, wanted) => Ok(Some(own.replace("$$", "$"))),
                _ => variable(wanted),
            })?;
            bytes = bytes.saturating_add(in_json(name)).saturating_add(in_json(value));
        }
    }
    if bytes > MOST {
        let detail = format!("{bytes} bytes of names and values; the most are {MOST}");
        return Err(Refusal::denied(
            Code::Variable,
            "the variables for this job's services are too long",
            detail,
        )
        .help("give the services fewer or shorter variables in .gitlab-ci.yml"));
    }
    Ok(())
}

/// The length of a text in the launcher's message, where a control character takes six bytes.
pub(crate) fn in_json(text: &str) -> usize {
    let of = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    text.chars().map(of).sum()
}

fn is_of_job(value: &str, name: &str) -> bool {
    value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) == Some(name)
}

fn expanded(
    text: &str,
    mut variable: impl FnMut(&str) -> Result<Option<String>, String>,
) -> Result<String, Refusal> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let (name, tail) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap_or((braced, "")),
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        if name.is_empty() {
            out.push('$');
        } else {
            let value = variable(name).map_err(|why| {
                let detail = format!("the variable {}: {why}", Untrusted(name));
                Refusal::denied(Code::Variable, "a variable of this job is not UTF-8", detail)
            })?;
            out.push_str(&value.unwrap_or_default());
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{expanded, in_json};

    #[test]
    fn the_length_in_json_is_that_of_json() {
        for text in ["plain", "ü\u{202e}", "\u{1}\u{1f}\"\\\n\r\t\u{7f}"] {
            assert_eq!(in_json(text) + 2, serde_json::to_string(text).expect("JSON").len(), "{text:?}");
        }
    }

    #[test]
    fn references_are_filled_in_once() {
        let value = |name: &str| {
            Ok(match name {
                "A" => Some("x$B".to_owned()),
                "LONG_1" => Some("y".to_owned()),
                _ => None,
            })
        };
        for (text, expected) in [
            ("$A", "x$B"),
            ("${A}z", "x$Bz"),
            ("$LONG_1/$LONG", "y/"),
            ("$$A", "$A"),
            ("a$", "a$"),
            ("$-", "$-"),
            ("${A", "x$B"),
            ("plain", "plain"),
        ] {
            assert_eq!(expanded(text, value).expect("text"), expected, "{text}");
        }
        assert!(expanded("$A", |_| Err("no UTF-8 text".to_owned())).is_err());
    }
}
