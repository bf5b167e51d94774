//! The daemons of a bed: started in it, ended one by one or all together, by pid.

use super::bed::Bed;
use crate::world::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Those that run, by name.
#[derive(Debug, Default)]
pub(super) struct Daemons(Mutex<Vec<(String, Child)>>);

impl Daemons {
    /// Starts one, which must stay in the foreground, with a log of its name. Gives its pid.
    pub(super) fn start(&self, bed: &Bed, name: &str, command: &str) -> u32 {
        let log = bed.path("log").join(name);
        let child = process::spawn(&bed.spec(&format!("exec {command} >>{} 2>&1", log.display())));
        let pid = child.id();
        self.all().push((name.to_owned(), child));
        pid
    }

    /// Ends one with a signal and waits for its end.
    pub(super) fn stop(&self, name: &str, signal: Signal) {
        let mut all = self.all();
        let at = all.iter().position(|(known, _)| known == name).expect("a running daemon");
        let (_, mut child) = all.remove(at);
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("a signal");
        child.wait().expect("its end");
    }

    /// Ends everything of the bed.
    pub(super) fn end(&self, bed: &Bed) {
        bed.end(|| {
            for (_, child) in self.all().iter_mut() {
                drop(child.try_wait());
            }
        });
        for (_, child) in self.all().iter_mut() {
            drop(child.wait());
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<(String, Child)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
