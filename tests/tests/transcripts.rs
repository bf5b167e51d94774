//! docs/transcripts.md is of today's program.

#![forbid(unsafe_code)]

use nunbird_tests::{Privilege, require_root, transcript};
use std::collections::BTreeMap;
use std::path::Path;

/// Own system calls by privilege, call and process; processes of one name are counted together.
fn counts(table: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let [privilege, call, process, _, own] = cells[..]
            && let Ok(own) = own.parse::<usize>()
        {
            *counts.entry(format!("{privilege}: {call}: {process}")).or_default() += own;
        }
    }
    counts
}

#[test]
fn the_numbers_of_system_calls_are_as_the_documentation_says() {
    if !require_root() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let document = std::fs::read_to_string(root.join("docs/transcripts.md")).expect("the document");
    let written = counts(&document);
    let modes = [Privilege::RootRunner, Privilege::Setuid, Privilege::FileCaps];
    let table: String = modes.map(|mode| transcript::table(mode, &transcript::calls(mode))).concat();
    let today = counts(&table);
    let rows = |of: &BTreeMap<String, usize>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(rows(&written), rows(&today), "run `make transcripts`");
    for (row, number) in &today {
        // Another libc or user database makes a few calls more or less, and so does a lock that is waited for.
        let tolerated = 5 + number / 10;
        assert!(
            written[row].abs_diff(*number) <= tolerated,
            "{row}: {number} system calls, and the document says {}; run `make transcripts`",
            written[row]
        );
    }
}

#[test]
fn worker_and_child_do_the_same_in_every_run_and_no_transcript_holds_content() {
    if !require_root() {
        return;
    }
    let [first, second] = [(); 2].map(|()| transcript::calls(Privilege::Setuid));
    for (first, second) in first.iter().zip(&second) {
        let worker = |call: &transcript::Call| {
            let of = call.processes.iter().find(|p| p.role == "worker" || p.role == "becomes the launcher");
            of.map(|process| process.lines.clone())
        };
        assert_eq!(worker(first), worker(second), "{}", first.name);
    }
    let text = transcript::text(&first);
    assert!(text.contains("capset(") && text.contains("execveat("), "{text}");
    for content in ["eyJ", "nbt_", "decision_id"] {
        assert!(!text.contains(content), "{content} is in\n{text}");
    }
}
