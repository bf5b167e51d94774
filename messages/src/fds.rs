//! The file descriptors that the launcher inherits beside standard input, output and error.
//!
//! They are passed open because the launcher's user may not open them by name: gitlab-runner keeps the
//! script and the exit-code file in a directory that only the runner's account can enter.

use std::os::fd::RawFd;

/// A sealed memory file with one [`crate::Envelope`].
pub const HANDOVER_FD: RawFd = 3;
/// The stage's script, opened for reading. Present for `run` only.
pub const SCRIPT_FD: RawFd = 4;
/// gitlab-runner's `BUILD_EXIT_CODE_FILE`, opened for writing. Present for `run` when the
/// runner offers the file (17.9 and later).
pub const EXIT_CODE_FD: RawFd = 5;
/// A file of [`SUMMARY_SIZE`] zeros, opened for writing, for the launcher's summary of a stage in the batch scheduler. Present for
/// `run` of a stage that goes to one.
pub const SUMMARY_FD: RawFd = 9;
/// The size of that file in bytes.
pub const SUMMARY_SIZE: usize = 256;

/// For `nunbird-session`, which gets a [`crate::SessionOrder`] at [`HANDOVER_FD`]: the launcher, opened for reading.
pub const LAUNCHER_FD: RawFd = 6;
/// For `nunbird-session`: a pipe from the shepherd. Its first byte lets the session begin, each later one is the number of a
/// signal for the launcher, and its end is the shepherd's.
pub const CONTROL_FD: RawFd = 7;
/// For `nunbird-session`: a pipe for at most one [`crate::RefusedBy`], which is why there is no session.
pub const REPORT_FD: RawFd = 8;
