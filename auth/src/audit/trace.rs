//! A line to the local syslog daemon about a refusal that no event tells of.
//!
//! Where a refusal cannot be written to the places that the site has set, or comes before any of them is known, its id would stand in
//! the job log alone.

use crate::refusal::Refusal;
use nunbird_audit::encode;
use nunbird_files::foreign::Caller;
use nunbird_handover::Untrusted;

/// Sends the line.
pub(crate) fn leave(stage: &str, caller: Option<Caller>, refusal: &Refusal, decision_id: &str) {
    let uid = caller.map_or(String::new(), |caller| format!(" for runner uid {}", caller.uid));
    let detail = refusal.detail.replace('\n', "; ");
    let what = format!("denied in {stage}{uid}: [{}] {}", refusal.code, escaped(&detail));
    nunbird_host::to_syslog(&encode::trace(&what, decision_id), caller);
}

/// A detail is clean already; this holds for whatever comes to be put into it.
fn escaped(text: &str) -> String {
    let each = |c: char| {
        if Untrusted::is_deceptive(c) {
            Untrusted(c.encode_utf8(&mut [0; 4])).to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().take(1000).map(each).collect()
}
