//! Clocks.

use nix::time::{ClockId, clock_gettime};
use std::io;

/// Seconds since the epoch.
///
/// # Errors
/// As clock_gettime(2), and for a clock that stands before 1970.
pub fn now() -> io::Result<u64> {
    seconds(ClockId::CLOCK_REALTIME)
}

/// Seconds since the machine booted, suspended time included; nobody can set it.
///
/// # Errors
/// As clock_gettime(2).
pub fn boottime() -> io::Result<u64> {
    seconds(ClockId::CLOCK_BOOTTIME)
}

fn seconds(clock: ClockId) -> io::Result<u64> {
    let time = clock_gettime(clock)?;
    u64::try_from(time.tv_sec()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
