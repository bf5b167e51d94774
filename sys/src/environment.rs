//! The environment: read once, then gone.

use std::ffi::OsString;

/// Takes the whole environment: the variables in their order, as they were.
///
/// Libraries read the environment behind their callers' backs (`GCONV_PATH`, `LOCPATH`, `TZ`, proxies, …);
/// after this there is nothing to read.
pub fn take() -> Vec<(OsString, OsString)> {
    let variables = std::env::vars_os().collect();
    // SAFETY: clearenv is unsound only while another thread reads the environment. The privileged program has
    // one thread, and calls this before it does anything else.
    unsafe { libc::clearenv() };
    variables
}
