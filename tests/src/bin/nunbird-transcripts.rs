//! `make transcripts`: writes the generated part of docs/transcripts.md, everything below its marker.

#![forbid(unsafe_code)]

use nunbird_tests::{Privilege, transcript};
use std::path::PathBuf;

const MARKER: &str = "<!-- everything below is written by `make transcripts` -->\n";

fn main() {
    let file = PathBuf::from(std::env::args_os().nth(1).expect("usage: nunbird-transcripts FILE"));
    let old = std::fs::read_to_string(&file).expect("the document");
    let (prose, _) = old.split_once(MARKER).expect("the marker");
    let mut new = format!("{prose}{MARKER}\n");
    new.push_str("| privilege | call | process | loader, libc, runtime | its own |\n|---|---|---|---|---|\n");
    let modes = Privilege::PRIVILEGED;
    let calls = modes.map(transcript::calls);
    for (privilege, calls) in modes.into_iter().zip(&calls) {
        new.push_str(&transcript::table(privilege, calls));
    }
    new.push_str(&transcript::text(&calls[1]));
    std::fs::write(&file, new).expect("the document");
}
