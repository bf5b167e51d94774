//! Whether `nunbird-auth` can see that an account has expired: shadow(5) is not everybody's to read.

use crate::finding::Finding;
use crate::programs;
use nunbird_policy::{Downscope, Policy};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SHADOW: &str = "/etc/shadow";
/// `nunbird-auth` keeps no right over modes, so not even root reads what its mode closes to root.
const OWNER_READS: u32 = 0o400;

/// Looks, where nothing else judges accounts.
pub(crate) fn look(policy: &Policy, findings: &mut Vec<Finding>) {
    if policy.downscope != Downscope::Setuid || policy.pam.is_some() {
        return;
    }
    let closed = Path::new(SHADOW).metadata().is_ok_and(|meta| meta.mode() & OWNER_READS == 0);
    let why = if programs::has_capabilities(&programs::auth(policy)) {
        "with file capabilities it may not read shadow(5)".to_owned()
    } else if closed {
        format!("{SHADOW} is closed by its mode, to root as well")
    } else {
        return;
    };
    findings.push(Finding::remark(
        "expiry",
        format!("nunbird-auth does not see that an account has expired: {why}"),
        "use `[pam]` with pam_unix(8) in `account`, or lock accounts otherwise: with a login shell that no job may have, or a \
         group that a rule denies",
    ));
}
