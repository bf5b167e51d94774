//! A line to the local syslog daemon about a refusal that no event reports: where the decider could not be asked, or before a record is
//! found. Otherwise the id of such a decision would be in the job log alone.

use crate::context::Context;
use crate::refusal::Refusal;
use nunbird_files::identity::Caller;
use nunbird_host::Turn;
use nunbird_messages::Untrusted;
use std::path::Path;

/// Where a packaged installation has its audit file, beside which refusals are counted.
const DEFAULT_AUDIT_FILE: &str = "/var/log/nunbird/audit.jsonl";
/// `LOG_AUTHPRIV` and `LOG_WARNING` (syslog(3)).
const PRIORITY: u8 = 10 * 8 + 4;
/// The longest detail, in characters.
const MAX_DETAIL: usize = 1000;

/// Sends the line, unless this caller has had too many in this minute: anybody who may call this program can be refused as often as they like.
pub(crate) fn leave(context: &Context<'_>, refusal: Refusal) -> Refusal {
    let privilege = context.privilege;
    let turn = match privilege.source.is_privileged() {
        true => nunbird_host::turn(Path::new(DEFAULT_AUDIT_FILE), privilege.rights()),
        // Such a caller fills files of its own.
        false => Ok(Turn::Write(0)),
    };
    if matches!(turn, Ok(Turn::LeaveOut)) {
        let detail = format!(
            "{}\n(not written down: too many refusals without a verified identity in this minute)",
            refusal.detail
        );
        return Refusal { detail, ..refusal };
    }
    send(context.stage, Some(privilege.caller), &refusal, &context.decision_id);
    refusal
}

/// Sends the line without a count.
pub(crate) fn send(stage: &str, caller: Option<Caller>, refusal: &Refusal, decision_id: &str) {
    let uid = caller.map_or(String::new(), |caller| format!(" for runner uid {}", caller.uid));
    let detail: String = refusal.detail.replace('\n', "; ").chars().take(MAX_DETAIL).map(escaped).collect();
    let pid = nunbird_sys::process::id();
    let line = format!(
        "<{PRIORITY}>nunbird-auth[{pid}]: denied in {stage}{uid}: [{}] {detail} [{decision_id}]",
        refusal.code
    );
    nunbird_host::to_syslog(line.as_bytes(), caller);
}

/// A detail is clean already; this is for parts of it that were not.
fn escaped(c: char) -> String {
    match Untrusted::is_deceptive(c) {
        true => Untrusted(c.encode_utf8(&mut [0; 4])).to_string(),
        false => c.to_string(),
    }
}
