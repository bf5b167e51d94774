//! Words of the outer script, quoted for the shell: text of jobs, sites and file systems, and between marks the script's own variables.

use nunbird_stage::words::quoted;
use std::ffi::OsStr;
use std::fmt::Write;

/// Marks a variable of the script in a word until it is quoted. [`crate::outer::Outer::text`] refuses a value of a job, a site or a file system
/// that has it.
pub(crate) const MARK: char = '\u{1}';
/// The variables that a word can have. What stands between two marks and is no name of these is text like any other, so that no
/// value can bring shell code.
const VARIABLES: [&str; 7] = ["r", "d", "layers", "images", "holder", "s", "n"];

/// One word of the shell, with the script's variables in it.
pub(crate) fn word(text: &str) -> String {
    let mut parts = text.split(MARK);
    let mut line = quoted(OsStr::new(parts.next().unwrap_or_default()));
    let mut is_variable = true;
    for part in parts {
        if is_variable && VARIABLES.contains(&part) {
            write!(line, "\"${part}\"").unwrap_or_default();
        } else if !part.is_empty() {
            line.push_str(&quoted(OsStr::new(part)));
        }
        is_variable = !is_variable;
    }
    line
}

pub(crate) fn words(list: &[String]) -> String {
    list.iter().map(|one| word(one)).collect::<Vec<_>>().join(" ")
}

/// One pass from left to right: a value with a placeholder in it stays as it is.
pub(crate) fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('@') {
        text.push_str(before);
        let found = parts.iter().find_map(|(name, value)| {
            let name = name.strip_prefix('@')?;
            Some((value, after.strip_prefix(name)?))
        });
        match found {
            Some((value, after)) => {
                text.push_str(value);
                rest = after;
            }
            None => {
                text.push('@');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::{MARK, fill, word};
    use std::process::Command;

    #[test]
    fn variables_of_the_script_stand_between_quotes() {
        assert_eq!(word("a b"), "'a b'");
        assert_eq!(word(&format!("--root={MARK}layers{MARK}/x'y")), r#"'--root='"$layers"'/x'\''y'"#);
        assert_eq!(word(&format!("{MARK}r{MARK}")), "''\"$r\"");
    }

    #[test]
    fn what_a_value_has_between_marks_is_text_and_never_code() {
        for code in ["(touch out)", "`touch out`", "IFS", "r}$(touch out)", ""] {
            let scratch = tempfile::tempdir().expect("a directory");
            let word = word(&format!("/images/{MARK}{code}{MARK}.sif"));
            let script = format!("printf %s {word}");
            let run = Command::new("/bin/sh").args(["-c", &script]).current_dir(&scratch).output();
            assert_eq!(run.expect("a shell").stdout, format!("/images/{code}.sif").into_bytes(), "{word}");
            assert_eq!(std::fs::read_dir(&scratch).expect("a directory").count(), 0, "{word}");
        }
    }

    #[test]
    fn a_value_that_looks_like_a_placeholder_stays() {
        let parts = [("@A@", "@B@ $@".to_owned()), ("@B@", "b".to_owned())];
        assert_eq!(fill("x@A@@B@ \"$@\" a@b", &parts), "x@B@ $@b \"$@\" a@b");
    }
}
