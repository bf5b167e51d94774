//! The environment of the launcher, and so of the job: built from the record, never from what was inherited.
//!
//! Called by the privileged programs before it gives privilege up. The names are of two kinds that never meet: the account's
//! own, and the site's, which the policy keeps from being the account's or the loader's (`check_variable`).

use nunbird_handover::Account;
use std::collections::BTreeMap;
use std::ffi::{CString, NulError};
use std::os::unix::ffi::OsStrExt;

/// `HOME`, `USER`, `LOGNAME`, `SHELL` and the configuration's variables; nothing that was inherited.
///
/// # Errors
/// When a value holds a NUL byte.
pub fn of(account: &Account, environment: &BTreeMap<String, String>) -> Result<Vec<CString>, NulError> {
    let own = [
        ("HOME", account.home.as_os_str().as_bytes()),
        ("USER", account.name.as_bytes()),
        ("LOGNAME", account.name.as_bytes()),
        ("SHELL", account.shell.as_os_str().as_bytes()),
    ];
    let configured = environment.iter().map(|(key, value)| (key.as_str(), value.as_bytes()));
    own.into_iter()
        .chain(configured)
        .map(|(key, value)| CString::new([key.as_bytes(), b"=", value].concat()))
        .collect()
}
