//! How a process is ranked among others: its nice value, and its score with the out-of-memory killer.
//!
//! Both are inherited. Called by `nunbird-auth` before it becomes the user, without `CAP_SYS_NICE` and `CAP_SYS_RESOURCE`: it can
//! put a process behind others, never before them, and so can users.

use std::io;

const SCORE: &str = "/proc/self/oom_score_adj";

/// The nice value of this process, -20 to 19.
pub fn nice() -> i32 {
    // SAFETY: no pointer is passed. This process is there, so the call does not fail, and -1 is a value like the others.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Sets the nice value of this process and of all that it starts.
///
/// # Errors
/// As setpriority(2): `EACCES` for a value below the present one. `EIO` when the kernel shows another.
pub fn set_nice(value: i32) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if nice() == value { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
}

/// Sets the out-of-memory killer's score (proc_pid_oom_score_adj(5)), 0 to 1000, for this process and all that it starts.
///
/// The file is root's while the process is not dumpable (proc(5)): call it under root's filesystem ids.
///
/// # Errors
/// As open(2) and write(2): `EACCES` for a score below what the runner's was set to with privilege. `EIO` when the kernel says
/// that it is another.
pub fn set_oom_score(score: u16) -> io::Result<()> {
    std::fs::write(SCORE, score.to_string())?;
    let now = std::fs::read_to_string(SCORE)?;
    if now.trim() == score.to_string() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
}

/// Sets that score to 0 where no other is set: a job that inherits its runner's -1000 cannot be killed.
///
/// # Errors
/// As open(2) and write(2), when the score is below 0. One above 0 that the kernel does not let go is kept, as is
/// any in a process without `/proc`.
pub fn plain_oom_score() -> io::Result<()> {
    if is_below_zero()? {
        return set_oom_score(0);
    }
    let _kept = std::fs::write(SCORE, "0");
    Ok(())
}

/// Puts this process before all others in the out-of-memory killer's line: one that works on a stranger's bytes for a moment,
/// whose end is a refusal. Where there is no `/proc` to write to there is nothing to say it by.
///
/// # Errors
/// As [`set_oom_score`].
pub fn first_for_the_oom_killer() -> io::Result<()> {
    match set_oom_score(1000) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) => Ok(()),
        other => other,
    }
}

/// Makes sure that the score is not below 0, and leaves it otherwise.
///
/// # Errors
/// As open(2) and write(2), when it is and stays.
pub fn no_protection_from_the_oom_killer() -> io::Result<()> {
    if is_below_zero()? { set_oom_score(0) } else { Ok(()) }
}

fn is_below_zero() -> io::Result<bool> {
    match std::fs::read_to_string(SCORE) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        read => Ok(read?.trim_start().starts_with('-')),
    }
}
