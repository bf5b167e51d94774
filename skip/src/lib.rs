//! The one way in which a test is left out: it is written to a list that CI reads, with the reason.
//!
//! The test harness hides what a passing test prints, so a test that prints why it did nothing counts as passed. Every
//! test crate depends on this one, and nothing that is shipped does. `tests/tests/gate.rs` finds every other way.
//!
//! The list is the file that `NUNBIRD_SKIPS` names, `target/skipped` of this tree where it is unset: one line for each
//! test, `name<TAB>file:line<TAB>reason`, appended.

#![forbid(unsafe_code)]

pub use nunbird_skip_macros::needs;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::OnceLock;

static LIST: OnceLock<File> = OnceLock::new();

/// Leaves the test out, for the reason that the arguments format, and returns the default of its type from it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {
        return $crate::left_out(&format!($($reason)+))
    };
}

/// As [`skip!`], for a part of a test: it is written down, and the test goes on.
#[macro_export]
macro_rules! skip_part {
    ($($reason:tt)+) => {
        $crate::left_out::<()>(&format!($($reason)+))
    };
}

/// Whether the process is root. Where it is not and `NUNBIRD_TESTS_ALLOW_SKIP` is `1`, the test is on the list.
///
/// # Panics
/// Without root, unless tests may be left out.
#[must_use]
#[track_caller]
pub fn require_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let allowed = std::env::var_os("NUNBIRD_TESTS_ALLOW_SKIP").is_some_and(|v| v == "1");
    assert!(
        allowed,
        "this test changes ids or mounts, so it needs root: run it as root, or set NUNBIRD_TESTS_ALLOW_SKIP=1 to leave it out"
    );
    left_out("needs root")
}

/// Writes the calling test to the list and to standard error.
///
/// # Panics
/// When the list cannot be written: a test must not be left out unseen.
#[track_caller]
pub fn left_out<T: Default>(reason: &str) -> T {
    let place = Location::caller();
    let thread = std::thread::current();
    let name = thread.name().filter(|name| *name != "main").map_or_else(program, str::to_owned);
    let line = format!("{name}\t{}:{}\t{}\n", place.file(), place.line(), reason.replace(['\n', '\t'], " "));
    eprint!("SKIPPED: {line}");
    // One write, so that lines of processes at the same time do not mix (O_APPEND).
    let written = list().write(line.as_bytes()).expect("the list of skipped tests");
    assert_eq!(written, line.len(), "the list of skipped tests has a part of a line");
    T::default()
}

/// Opens the list; for tests that change ids or mounts before they know that they cannot run.
///
/// # Panics
/// When it cannot be opened.
pub fn open_list() {
    list();
}

fn list() -> &'static File {
    LIST.get_or_init(|| {
        let path = std::env::var_os("NUNBIRD_SKIPS").map_or_else(default_list, PathBuf::from);
        let opened = OpenOptions::new().append(true).create(true).open(&path);
        opened.unwrap_or_else(|error| panic!("the list of skipped tests, {}: {error}", path.display()))
    })
}

fn default_list() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/skipped"))
}

/// A test program without a harness has no thread that is named after a test.
fn program() -> String {
    let own = std::env::current_exe().ok();
    own.as_deref()
        .and_then(|path| path.file_stem())
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned())
}
