//! A host that takes no logins for the moment takes no jobs where the site says so.

use crate::refusal::{Code, Refusal};
use nunbird_handover::Untrusted;
use nunbird_host::System;

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
    let Some(found) = system.nologin().map_err(|e| refuse("", &e))? else { return Ok(()) };
    let words: Vec<String> = found.text.split_whitespace().map(|word| Untrusted(word).to_string()).collect();
    Err(refuse(&words.join(" "), &format!("{} exists", found.file.display())))
}
