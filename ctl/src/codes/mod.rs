//! `nunbirdctl explain CODE`: what the word in brackets at the end of a refusal means, and what to do.

mod entry;
mod page;
mod table;

use crate::output::{CtlError, Format, OK, print, print_json};
use entry::CodeEntry;
use nunbird_handover::{Code, Untrusted};
use nunbird_policy::nearest;
use serde_json::{Value, json};
use std::fmt::Write;

/// Explains one code, or lists all if none is given.
pub(crate) fn run(word: Option<&str>, format: Format) -> Result<u8, CtlError> {
    let Some(word) = word else { return list(format) };
    let code = find(word)?;
    match format {
        Format::Text => print(&text(code))?,
        Format::Json => print_json(&machine(code))?,
    }
    Ok(OK)
}

/// How gitlab-runner treats refusals with this code: `denial`, `system failure`, or either; nothing for a code that this version does not know.
pub(crate) fn class(code: &str) -> &'static str {
    Code::ALL.iter().find(|known| known.name() == code).map_or("", |code| table::entry(*code).class.name())
}

/// Prints docs/codes.md.
pub(crate) fn page() -> Result<u8, CtlError> {
    print(&page::markdown())?;
    Ok(OK)
}

fn list(format: Format) -> Result<u8, CtlError> {
    match format {
        Format::Text => {
            let lines = Code::ALL.iter().fold(String::new(), |lines, code| {
                let entry = table::entry(*code);
                lines + &format!("{:<24}  {}\n", code.name(), first_sentence(entry.meaning))
            });
            print(&lines)?;
        }
        Format::Json => {
            print_json(&json!({ "codes": Code::ALL.iter().map(|code| machine(*code)).collect::<Vec<_>>() }))?;
        }
    }
    Ok(OK)
}

/// The code of this name, with or without the brackets around it in a job log.
fn find(word: &str) -> Result<Code, CtlError> {
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    let names = || Code::ALL.iter().map(|code| code.name());
    Code::ALL.iter().find(|code| code.name() == bare).copied().ok_or_else(|| {
        let help = match nearest(bare, names()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "`nunbirdctl explain --codes` lists all".to_owned(),
        };
        CtlError::new(format!("no refusal has the code `{}`\n{help}", Untrusted(word)))
    })
}

fn text(code: Code) -> String {
    let CodeEntry { class, reader, meaning, user, admin } = table::entry(code);
    let mut text = format!("{code}: {} ({})\n", class.name(), exit_status(class));
    for (title, words) in [("meaning", meaning), ("for the CI user", user), ("for the admin", admin)] {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{title}:\n{}", wrapped(&pasteable(words)));
    }
    let _ = writeln!(text, "\nwho can act on it: {}", reader.name());
    text
}

fn machine(code: Code) -> Value {
    let CodeEntry { class, reader, meaning, user, admin } = table::entry(code);
    json!({
        "code": code.name(),
        "class": class.name(),
        "exit": class.exit(),
        "reader": reader.name(),
        "meaning": pasteable(meaning),
        "user": pasteable(user),
        "admin": pasteable(admin),
    })
}

/// An entry's text, in which commands work when they are pasted.
fn pasteable(text: &str) -> String {
    text.replace("`nunbirdctl ", "`/opt/nunbird/bin/nunbirdctl ")
}

fn exit_status(class: entry::Class) -> String {
    let numbers: Vec<String> = class.exit().iter().map(u8::to_string).collect();
    format!("exit status {}", numbers.join(" or "))
}

fn first_sentence(text: &str) -> &str {
    text.split_inclusive(". ").next().unwrap_or(text).trim_end()
}

/// Lines of at most 100 characters, indented.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 98 {
            lines.push_str(&format!("  {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines + &format!("  {line}\n")
}

#[cfg(test)]
mod tests {
    use super::{Code, entry, page, table};

    #[test]
    fn docs_codes_md_is_what_the_table_makes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/codes.md");
        let kept = std::fs::read_to_string(path).expect("docs/codes.md");
        assert!(kept == page::markdown(), "docs/codes.md is out of date: run `make manual`");
    }

    #[test]
    fn every_entry_has_whole_sentences_for_both_readers_that_fit_a_table() {
        for code in Code::ALL {
            let entry::CodeEntry { meaning, user, admin, .. } = table::entry(*code);
            for text in [meaning, user, admin] {
                assert!(
                    text.starts_with(|c: char| !c.is_whitespace()) && !text.contains("  "),
                    "{code}: {text}"
                );
                assert!(text.ends_with(['.', '?', ')', '`']), "{code}: {text}");
                assert!(!text.contains(['|', '\n']), "{code}: {text}");
            }
        }
    }
}
