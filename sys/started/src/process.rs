//! The ends of processes: this one's, and those of its parent and its child.

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nunbird_sys::fork::Child;
use std::io;

/// Ends this process by this signal, as another process ended whose status it reports.
pub fn end_by(signal: i32) -> ! {
    // SAFETY: SIG_DFL installs no handler, and neither call takes a pointer.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        // One that is ignored by default, or blocked.
        libc::_exit(128_i32.saturating_add(signal))
    }
}

/// Takes back what [`nunbird_sys::process::die_with_parent`] asked for.
///
/// # Errors
/// As prctl(2).
pub fn outlive_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(None)?)
}

/// Whether the child has been stopped since the last time that this was asked.
pub fn was_stopped(child: &Child) -> bool {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
    let id = Id::Pid(nix::unistd::Pid::from_raw(child.pid()));
    matches!(waitid(id, flags), Ok(WaitStatus::Stopped(..)))
}
