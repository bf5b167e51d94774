//! Whether `nunbird-auth` can see that an account has expired: not every account may read
//! shadow(5).

use crate::finding::Finding;
use crate::programs;
use nunbird_policy::{Downscope, Policy};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SHADOW: &str = "/etc/shadow";
/// `nunbird-auth` keeps no capability that overrides modes, so even root cannot read what the mode
/// denies to root.
const OWNER_READS: u32 = 0o400;

/// Checks, if nothing else checks accounts.
pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    if policy.downscope != Downscope::Setuid || policy.pam.is_some() {
        return;
    }
    let closed = Path::new(SHADOW).metadata().is_ok_and(|meta| meta.mode() & OWNER_READS == 0);
    let why = if programs::has_capabilities(&programs::auth(policy)) {
        "with file capabilities it may not read shadow(5)".to_owned()
    } else if closed {
        format!("{SHADOW} is not readable by its mode, not even for root")
    } else {
        return;
    };
    findings.push(Finding::remark(
        "expiry",
        format!("nunbird-auth does not see that an account has expired: {why}"),
        "use `[pam]` with pam_unix(8) in `account`, or lock accounts in another way: with a login \
         shell that jobs may not have, or a group that a rule denies",
    ));
}
