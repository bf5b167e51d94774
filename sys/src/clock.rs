//! Clocks.

use nix::time::{ClockId, clock_gettime};
use std::io;

/// Seconds since the epoch.
///
/// # Errors
/// As clock_gettime(2), and for a clock that shows a time before 1970.
pub fn now() -> io::Result<u64> {
    seconds(ClockId::CLOCK_REALTIME)
}

/// Seconds since the machine booted, suspended time included; it cannot be set.
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

/// Names this boot of the host: another one after each restart (random(4)). Empty where `/proc` shows processes alone
/// (`ProcSubset=pid` of systemd.exec(5)): then no restart is seen.
///
/// # Errors
/// As open(2) and read(2).
pub fn boot_id() -> io::Result<String> {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e),
    }
}
