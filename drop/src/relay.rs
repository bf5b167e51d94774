//! The launcher's parent where the shepherd cannot signal it: signals come as bytes, one each, from a pipe or socket.
//!
//! Called by `nunbird-session` as root, and by `nunbird --sudo` as the user.

use nunbird_sys::fork::{Child, Ended};
use nunbird_sys::signals::{CHLD, CONT, HUP, INT, KILL, QUIT, TERM, USR1, USR2};
use nunbird_sys::watch::{Event, Watch};
use std::fs::File;
use std::io;

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

/// How the launcher ended, in two bytes: `e` and a status, or `s` and a signal.
pub fn words(ended: Ended) -> [u8; 2] {
    match ended {
        Ended::Exited(code) => [b'e', code.to_le_bytes()[0]],
        Ended::Killed(signal) => [b's', signal.to_le_bytes()[0]],
    }
}

/// What [`words`] said.
pub fn ended(kind: u8, number: u8) -> Option<Ended> {
    match kind {
        b'e' => Some(Ended::Exited(i32::from(number))),
        b's' => Some(Ended::Killed(i32::from(number))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{PASSED, ended, passed, words};
    use nunbird_sys::fork::Ended;
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

    #[test]
    fn two_bytes_say_how_a_launcher_has_ended() {
        for end in [Ended::Exited(0), Ended::Exited(255), Ended::Killed(9), Ended::Killed(64)] {
            let [kind, number] = words(end);
            assert_eq!(ended(kind, number), Some(end));
        }
        assert_eq!((words(Ended::Exited(3)), words(Ended::Killed(9))), ([b'e', 3], [b's', 9]));
        assert_eq!(ended(b'x', 1), None);
    }
}
