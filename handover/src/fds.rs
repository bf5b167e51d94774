//! The file descriptors that the launcher inherits beside standard input, output and error.
//!
//! They are passed open because the launcher's user may not open them by name: gitlab-runner keeps the
//! script and the exit-code file in a directory that only the runner's account can enter.

use std::os::fd::RawFd;

/// A sealed memory file with one JSON [`crate::Handover`].
pub const HANDOVER_FD: RawFd = 3;
/// The stage's script, opened for reading. Present for [`crate::Task::Run`] only.
pub const SCRIPT_FD: RawFd = 4;
/// gitlab-runner's `BUILD_EXIT_CODE_FILE`, opened for writing. Present for [`crate::Task::Run`] when the
/// runner offers the file (17.9 and later): see [`crate::Handover::exit_code_file`].
pub const EXIT_CODE_FD: RawFd = 5;
/// A file of [`crate::SUMMARY_SIZE`] zeros, opened for writing, for one [`crate::Summary`]. Present for
/// [`crate::Task::Run`] where somebody wants to know what became of the stage in the batch scheduler.
pub const SUMMARY_FD: RawFd = 9;

/// For `nunbird-session`, which gets a [`crate::SessionOrder`] at [`HANDOVER_FD`]: the launcher, opened for reading.
pub const LAUNCHER_FD: RawFd = 6;
/// For `nunbird-session`: a pipe from the shepherd. Its first byte lets the session begin, each later one is the number of a
/// signal for the launcher, and its end is the shepherd's.
pub const CONTROL_FD: RawFd = 7;
/// For `nunbird-session`: a pipe for at most one [`crate::SessionReport`].
pub const REPORT_FD: RawFd = 8;
