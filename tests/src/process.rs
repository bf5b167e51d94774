//! Whether a process of this host runs.

use std::fs;

/// Whether a process runs, by its number. One that has ended does not, though its parent has not waited for it, nor one that is about to: its memory
/// is gone, and with it its arguments (proc(5)), so it can execute nothing any more.
#[must_use]
pub fn runs(pid: &str) -> bool {
    let file = |name: &str| fs::read(format!("/proc/{}/{name}", pid.trim())).unwrap_or_default();
    let stat = String::from_utf8_lossy(&file("stat")).into_owned();
    let is_waited_for = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']));
    !stat.is_empty() && !is_waited_for && !file("cmdline").is_empty()
}
