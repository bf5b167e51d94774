//! How long the suite waits for a scheduler, and whether it was interrupted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

static PATIENCE: AtomicU64 = AtomicU64::new(60);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long a job may take to start, and a queue to respond.
pub(super) fn patience() -> Duration {
    Duration::from_secs(PATIENCE.load(Ordering::Relaxed))
}

/// Sets the time in seconds that a job may take to start: a minute unless it is set.
pub fn set_patience(seconds: u64) {
    PATIENCE.store(seconds, Ordering::Relaxed);
}

/// Ends every wait of every case, so that each cleans up after itself.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Fails the case that waits, after [`interrupt`].
#[track_caller]
pub(super) fn stop_if_interrupted() {
    assert!(std::thread::panicking() || !is_interrupted(), "interrupted");
}
