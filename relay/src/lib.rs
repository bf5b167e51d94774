//! The launcher's parent where the shepherd cannot signal it: signals come as bytes, one each, from a pipe or socket.
//!
//! Called by `nunbird-session` as root, and by `nunbird --sudo` as the user.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod watch;

use nunbird_sys::fork::{Child, Ended};
use nunbird_sys::signals::{CHLD, CONT, HUP, INT, KILL, QUIT, TERM, USR1, USR2};
use std::fs::File;
use std::io;
use watch::{Event, Watch};

/// What a relay waits for, by [`Watch::begin`].
pub const HEEDED: [i32; 7] = [CHLD, HUP, INT, QUIT, TERM, USR1, USR2];
/// Signals that are passed on when they come as bytes; `KILL` for a clean-up whose time is up.
const PASSED: [i32; 7] = [HUP, INT, KILL, QUIT, TERM, USR1, USR2];

/// Passes signals on and waits for the launcher. The end of `control` is the shepherd's: the stage is not wanted any more.
///
/// # Errors
/// As signalfd(2), read(2) and waitpid(2).
pub fn follow(child: &Child, watch: &Watch, control: &File) -> io::Result<Ended> {
    let mut control = Some(control);
    loop {
        let signal = match watch.next(control)? {
            Event::Signal(CHLD) => None,
            Event::Signal(signal) => Some(signal),
            Event::Byte(byte) => passed([byte]),
            Event::Closed => {
                control = None;
                Some(TERM)
            }
        };
        if let Some(signal) = signal {
            // It may have ended this very moment; the next CHLD shows it. A user may have stopped it.
            let _gone = child.signal(signal);
            let _gone = child.signal(CONT);
        }
        if let Some(ended) = child.poll()? {
            return Ok(ended);
        }
    }
}

/// The signal that a byte of the shepherd's means, if it is one that is passed on.
pub fn passed([byte]: [u8; 1]) -> Option<i32> {
    Some(i32::from(byte)).filter(|signal| PASSED.contains(signal))
}

#[cfg(test)]
mod tests {
    use super::{PASSED, passed};
    use nunbird_sys::signals::{CHLD, KILL, TERM};

    #[test]
    fn a_byte_is_a_signal_only_where_it_is_one_of_those_that_are_passed_on() {
        let byte = |signal: i32| [u8::try_from(signal).unwrap()];
        for signal in PASSED {
            assert_eq!(passed(byte(signal)), Some(signal));
        }
        assert!(PASSED.contains(&KILL) && PASSED.contains(&TERM));
        for other in [0, CHLD, 19, 255] {
            assert_eq!(passed(byte(other)), None, "{other}");
        }
    }
}
