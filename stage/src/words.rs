//! Untrusted text as a word of a shell, and as a line for humans.

use nunbird_handover::Untrusted;
use std::ffi::OsStr;

/// One word of a POSIX shell. Text that is not UTF-8 does not get here: the handover is JSON.
pub fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

/// Whether a shell accepts this as a variable name.
pub fn is_name(name: &[u8]) -> bool {
    name.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// A command's output on one line, without empty lines: the first line, which may be followed by a
/// screen of usage, and the last three.
pub fn lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let Some((first, rest)) = lines.split_first() else { return "without a word".to_owned() };
    let mut shown = vec![Untrusted(first).to_string()];
    let last = &rest[rest.len().saturating_sub(3)..];
    if last.len() < rest.len() {
        shown.push("…".to_owned());
    }
    shown.extend(last.iter().map(|line| Untrusted(line).to_string()));
    shown.join("; ")
}

#[cfg(test)]
mod tests {
    use super::{lines, quoted};
    use std::ffi::OsStr;
    use std::process::Command;

    #[test]
    fn any_text_is_one_word_for_a_shell() {
        for word in ["", "a b", "it's", "'\"$(id)`id`\\", "a\nb", "*"] {
            let line = format!("printf %s {}", quoted(OsStr::new(word)));
            let output = Command::new("/bin/sh").args(["-c", &line]).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }

    #[test]
    fn a_reason_before_a_screen_of_usage_is_shown() {
        assert_eq!(lines("\n \n"), "without a word");
        assert_eq!(lines("a\n\n b\n"), "a; b");
        assert_eq!(lines("a\nb\nc\nd"), "a; b; c; d");
        assert_eq!(
            lines("no such queue\nusage: bsub\n[-q]\n[-n]\n[-sp job_priority]"),
            "no such queue; …; [-q]; [-n]; [-sp job_priority]"
        );
    }
}
