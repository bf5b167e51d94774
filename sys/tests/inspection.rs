//! Who may look into a process: a flag of the whole process, so everything is in one test of a program of its own.

#![forbid(unsafe_code)]

use nix::sys::prctl::get_dumpable;
use nunbird_sys::process::{forbid_inspection, while_inspection_is_allowed};
use std::io;

#[test]
fn inspection_is_forbidden_again_after_what_needed_it_whether_that_succeeded_or_not() {
    forbid_inspection().expect("prctl");
    assert_eq!(get_dumpable(), Ok(false));
    for succeeds in [true, false] {
        let mut seen = None;
        let done = while_inspection_is_allowed(|| {
            seen = Some(get_dumpable());
            if succeeds { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EACCES)) }
        });
        assert_eq!((seen, done.is_ok()), (Some(Ok(true)), succeeds));
        assert_eq!(get_dumpable(), Ok(false));
    }
}
