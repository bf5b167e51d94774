//! A line to the local syslog daemon about a refusal that no event tells of.
//!
//! Where a refusal cannot be written to the places that the site has set, or comes before any of them is known, its id would stand in
//! the job log alone. As logger(1) does it: any account may send such a line, so it proves nothing, and this process
//! sends it with its caller's rights.

use super::encode;
use crate::refusal::Refusal;
use nunbird_files::foreign::Caller;
use nunbird_files::identity::FileIdentity;
use nunbird_handover::Untrusted;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

const LOG: &str = "/dev/log";
/// A daemon that hangs must not hang a job.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends the line; without a daemon there is no place that is left.
pub(crate) fn leave(stage: &str, caller: Option<Caller>, refusal: &Refusal, decision_id: &str) {
    let uid = caller.map_or(String::new(), |caller| format!(" for runner uid {}", caller.uid));
    let detail = refusal.detail.replace('\n', "; ");
    let what = format!("denied in {stage}{uid}: [{}] {}", refusal.code, escaped(&detail));
    let send = || {
        let _identity = caller.map(|caller| FileIdentity::assume(caller.uid, caller.gid)).transpose()?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to(&encode::trace(&what, decision_id), LOG)
    };
    let _nobody_listens = send();
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
