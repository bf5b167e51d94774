//! Where the messages of modules go: into the log of the stage that is running, or nowhere.

use nunbird_messages::Untrusted;
use nunbird_pam::{Heard, Tone};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;

/// The most lines of modules that reach one log.
const MAX_LINES: usize = 40;

/// A log, or none. Copies are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Voice(Rc<RefCell<Log>>);

#[derive(Debug, Default)]
struct Log {
    to: Option<File>,
    left: usize,
}

impl Voice {
    /// From now on this log is spoken to.
    pub(crate) fn turn(&self, to: Option<File>) {
        self.0.replace(Log { to, left: MAX_LINES });
    }

    /// Prints a line of this program's. A missing reader is no reason to stop.
    pub(crate) fn say(&self, text: &str) {
        if let Some(file) = &mut self.0.borrow_mut().to {
            let _unheard = file.write_all(text.as_bytes());
        }
    }

    /// Passes on what a module prints, as many lines as one log gets.
    pub(crate) fn pass(&self, heard: &Heard) {
        for line in heard.text.lines().filter(|line| !line.trim().is_empty()) {
            {
                let mut log = self.0.borrow_mut();
                let Some(fewer) = log.left.checked_sub(1) else { return };
                log.left = fewer;
            }
            let line = Untrusted(line);
            self.say(&match heard.tone {
                Tone::Information | Tone::Trouble => format!("nunbird: pam: {line}\n"),
                Tone::Question => format!("nunbird: pam: a module asks `{line}`, and there is no terminal\n"),
            });
        }
    }
}
