//! A host that takes no logins for the moment takes no jobs where the site says so.

use crate::refusal::{Code, Refusal};
use nunbird_handover::Untrusted;
use nunbird_host::System;
use std::fs::File;
use std::io::{self, Read};

/// The most of its text that a user gets to read, in bytes.
const MAX_TEXT: u64 = 2048;

/// Refuses the job while `/etc/nologin` or `/run/nologin` exists, with its text for the user.
///
/// # Errors
/// A system refusal: the runner may try again, and so may the user.
pub fn check(system: &impl System) -> Result<(), Refusal> {
    let refuse = |text: &str, detail: &dyn std::fmt::Display| {
        let message = match text {
            "" => "no jobs run on this host at present".to_owned(),
            text => format!("no jobs run on this host at present: {text}"),
        };
        Refusal::system(Code::Nologin, message, detail)
            .help("try again when your site says that the host is back")
    };
    let Some(file) = system.nologin().map_err(|e| refuse("", &e))? else { return Ok(()) };
    let text = system.file(&file).ok().and_then(|file| read(&file).ok()).unwrap_or_default();
    let words: Vec<String> = text.split_whitespace().map(|word| Untrusted(word).to_string()).collect();
    Err(refuse(&words.join(" "), &format!("{} exists", file.display())))
}

/// The beginning of its text, for the user to read.
fn read(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MAX_TEXT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
