//! docs/policy-reference.md has an entry for each key, which the source makes, and notes below entries that are written by hand.
//! `make manual` writes the entries and keeps the notes.

use nunbird_render::{Entry, reference_entries};
use std::collections::BTreeMap;
use std::path::Path;

/// The entries of a part are between these comments, the first with the part's name.
const END: &str = "<!-- end of the keys -->";
const HEADING: &str = "#### ";

fn begin(name: &str) -> String {
    format!("<!-- generated: {name} -->\n")
}

/// What is written by hand below each entry: all after its two paragraphs.
fn notes(part: &str) -> BTreeMap<&str, &str> {
    let entries = part.split(HEADING).skip(1);
    let note = |entry| -> Option<(&str, &str)> {
        let (heading, text) = str::split_once(entry, "\n\n")?;
        let mut paragraphs = text.splitn(3, "\n\n").skip(2);
        Some((heading, paragraphs.next()?.trim_end()))
    };
    entries.filter_map(note).filter(|(_, note)| !note.is_empty()).collect()
}

/// The part as the source makes it, with the notes that it has now.
fn written(entries: &[Entry], now: &str) -> String {
    let notes = notes(now);
    let text = |Entry { heading, text }: &Entry| {
        let note = notes.get(heading.as_str()).map_or_else(String::new, |note| format!("\n{note}\n"));
        format!("{HEADING}{heading}\n\n{text}{note}\n")
    };
    entries.iter().map(text).collect()
}

#[test]
fn every_entry_of_the_reference_is_what_the_source_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy-reference.md");
    let text = std::fs::read_to_string(&path).expect("the reference");
    let mut wanted = text.clone();
    for (name, entries) in reference_entries() {
        let (before, rest) =
            wanted.split_once(&begin(name)).unwrap_or_else(|| panic!("the reference has no part `{name}`"));
        let (now, after) = rest.split_once(END).unwrap_or_else(|| panic!("the part `{name}` has no end"));
        wanted = format!("{before}{}{}{END}{after}", begin(name), written(&entries, now));
    }
    if std::env::var_os("NUNBIRD_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("the reference can be written");
    } else {
        assert!(text == wanted, "docs/policy-reference.md is not what the source makes: run `make manual`");
    }
    assert_eq!(wanted.matches("<!-- generated: ").count(), reference_entries().len(), "a part of no table");
}

#[test]
fn a_note_stays_below_its_entry_and_the_entry_is_made_again() {
    let now =
        "#### `a`\n\nType: old.\n\nOld.\n\nA note.\n\n| of |\n|---|\n\n#### `gone`\n\nType: x.\n\nX.\n\n";
    let entry = |name: &str| Entry { heading: format!("`{name}`"), text: "Type: new.\n\nNew.\n".to_owned() };
    let again = written(&[entry("a"), entry("b")], now);
    let wanted =
        "#### `a`\n\nType: new.\n\nNew.\n\nA note.\n\n| of |\n|---|\n\n#### `b`\n\nType: new.\n\nNew.\n\n";
    assert_eq!(again, wanted);
    assert_eq!(written(&[entry("a"), entry("b")], &again), wanted);
}

#[test]
fn every_heading_is_unique_so_that_pages_can_link_to_it() {
    let mut headings: Vec<String> =
        reference_entries().into_iter().flat_map(|(_, entries)| entries).map(|entry| entry.heading).collect();
    let count = headings.len();
    assert!(count > 150, "{count}");
    headings.sort();
    headings.dedup();
    assert_eq!(headings.len(), count);
}

#[test]
fn the_text_of_a_key_is_short() {
    for (name, entries) in reference_entries().iter().filter(|(name, _)| *name != "conditions") {
        for Entry { heading, text } in entries {
            assert!(text.len() <= 280, "{name}: {} bytes, say more in a note: {heading} {text}", text.len());
        }
    }
}
