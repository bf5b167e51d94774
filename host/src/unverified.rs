//! How many refusals of calls without a verified identity are written.
//!
//! Such a call needs no token, so a runner account that was taken over can make hundreds a second. Each is counted by one
//! byte that is appended to a file of root's beside the audit file, one file for each runner account and minute. Nothing is locked:
//! the caller may stop this process at any time, which must not stop others. A runner account can keep its own
//! refusals out of the audit file in this way, as it can by ending the process before it writes.

use nunbird_files::directory::Directory;
use nunbird_wire::choice;
use std::io;

/// Refusals of one runner account that are written in a minute.
const MOST: u64 = 60;

const SECONDS: u64 = 60;

/// Whether a refusal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is, and so many were not since the last one.
    Write(u64),
    /// Too many were in this minute; it is counted.
    LeaveOut,
}

choice!(Turn { 0 => Write(left_out), 1 => LeaveOut });

/// Counts a refusal of this runner account at this time, in seconds since the epoch.
///
/// # Errors
/// As [`Directory::count`]: on a full disk it cannot be counted, so it must not be written.
pub fn turn(directory: &Directory, runner_uid: u32, now: u64) -> io::Result<Turn> {
    let own = format!(".unverified-{runner_uid}-{}", now / SECONDS);
    match directory.count(&own)? {
        1 => Ok(Turn::Write(left_out(directory, runner_uid, &own)?)),
        n if n <= MOST => Ok(Turn::Write(0)),
        _ => Ok(Turn::LeaveOut),
    }
}

/// What was left out in earlier minutes, whose files go.
fn left_out(directory: &Directory, runner_uid: u32, own: &str) -> io::Result<u64> {
    let prefix = format!(".unverified-{runner_uid}-");
    let mut sum = 0_u64;
    for name in directory.text_names()?.iter().filter(|name| name.starts_with(&prefix) && *name != own) {
        // Another call may have removed it.
        sum = sum.saturating_add(directory.size(name).unwrap_or(0).saturating_sub(MOST));
        directory.remove(name)?;
    }
    Ok(sum)
}
