//! The environment: read once, then gone.

use std::ffi::OsString;

/// Takes the named variables and clears the whole environment.
///
/// Libraries read the environment behind their callers' backs (`GCONV_PATH`, `LOCPATH`, `TZ`, proxies, …);
/// after this there is nothing to read. The values come in the order of `names`.
pub fn take<const N: usize>(names: [&str; N]) -> [Option<OsString>; N] {
    let values = names.map(std::env::var_os);
    // SAFETY: clearenv is unsound only while another thread reads the environment. The privileged program has
    // one thread, and calls this before it does anything else.
    unsafe { libc::clearenv() };
    values
}
