//! Dispositions are the whole process's, so that this test has a program of its own.

use nix::sys::signal::{SigSet, Signal, raise};
use nunbird_sys::process::{REQUESTS_TO_END, default_signals_but};

#[test]
fn a_request_to_end_that_waits_behind_a_mask_is_dropped_and_the_next_is_ignored() {
    SigSet::from(Signal::SIGTERM).thread_block().expect("a mask");
    raise(Signal::SIGTERM).expect("a signal that waits");
    default_signals_but(&REQUESTS_TO_END).expect("dispositions");
    for signal in REQUESTS_TO_END {
        let signal = Signal::try_from(signal).expect("a signal");
        assert!(!SigSet::thread_get_mask().expect("a mask").contains(signal));
        raise(signal).expect("a signal that is ignored");
    }
}
