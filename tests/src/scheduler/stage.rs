//! A stage of a CI job in a scheduler: the running launcher, and how it ended.

use super::interrupt::{patience, stop_if_interrupted};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_handover::Summary;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Differs from the exit codes of test scripts.
pub(crate) const BUILD_FAILURE: u8 = 110;
pub(crate) const SYSTEM_FAILURE: u8 = 120;

/// A running stage.
#[derive(Debug)]
pub struct Stage {
    child: Child,
    /// Whether the launcher is a child of the command: in a pid namespace of its own.
    below: bool,
    /// Of its handover, script, exit code and summary.
    directory: PathBuf,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// A stage that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Of the launcher; none when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error, as text.
    pub err: String,
    /// What the runner's exit-code file holds.
    pub exit_code: String,
    /// The launcher's report for the audit.
    pub summary: Option<Summary>,
}

impl Stage {
    /// Takes over a launcher that works in this directory.
    pub(crate) fn of(mut child: Child, directory: PathBuf) -> Self {
        let (out, err) = (Arc::default(), Arc::default());
        let readers = vec![
            read_into(child.stdout.take().expect("a pipe"), Arc::clone(&out)),
            read_into(child.stderr.take().expect("a pipe"), Arc::clone(&err)),
        ];
        Stage { child, below: false, directory, out, err, readers }
    }

    /// The same for a launcher that is the only child of a command.
    pub(crate) fn below(child: Child, directory: PathBuf) -> Self {
        let mut stage = Self::of(child, directory);
        stage.below = true;
        stage
    }

    fn pid(&self) -> Pid {
        let own = self.child.id();
        let below =
            || fs::read_to_string(format!("/proc/{own}/task/{own}/children")).ok()?.trim().parse().ok();
        let pid = if self.below { below() } else { None };
        Pid::from_raw(pid.unwrap_or(own.cast_signed()))
    }

    /// Sends a signal to the launcher.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a signal");
    }

    /// What it has written to standard output so far.
    pub fn out(&self) -> Vec<u8> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has written to standard error so far.
    pub fn err(&self) -> String {
        let err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&err).into_owned()
    }

    /// Waits until standard error contains this text.
    #[track_caller]
    pub fn wait_for_word(&self, word: &str) {
        let end = Instant::now() + patience() + Duration::from_secs(30);
        while !self.err().contains(word) {
            stop_if_interrupted();
            assert!(Instant::now() < end, "waited in vain for `{word}` in:\n{}", self.err());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the launcher as nothing else can.
    pub fn kill(self) -> Ended {
        self.signal(Signal::SIGKILL);
        self.finish()
    }

    /// Whether the launcher has ended.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Waits for its end, for longer than a launcher takes to give up on a cancel.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn finish(mut self) -> Ended {
        // The launcher gives up a cancel after 180 s.
        let end = Instant::now() + patience() + Duration::from_secs(140);
        while !self.has_ended() {
            stop_if_interrupted();
            assert!(Instant::now() < end, "the launcher does not end:\n{}", self.err());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.ended()
    }

    /// The same for a clean-up, which is waited for whatever has happened; none when it does not end.
    pub(super) fn end(mut self) -> Option<Ended> {
        let end = Instant::now() + Duration::from_secs(200);
        while !self.has_ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.has_ended().then(|| self.ended())
    }

    fn ended(mut self) -> Ended {
        let status = self.child.wait().expect("its end");
        for reader in self.readers.drain(..) {
            reader.join().expect("its output");
        }
        let summary = fs::read(self.directory.join("summary")).expect("a summary");
        Ended {
            status: status.code(),
            out: self.out(),
            err: self.err(),
            exit_code: fs::read_to_string(self.directory.join("exit_code"))
                .expect("an exit code")
                .trim()
                .to_owned(),
            summary: summary.first_chunk().and_then(Summary::parse),
        }
    }
}

/// A case that fails or is interrupted leaves its launcher running.
impl Drop for Stage {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

impl Ended {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Fails unless the stage succeeded.
    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        assert_eq!(self.status, Some(0), "{}\n{}", self.text(), self.err);
        self
    }

    /// Fails unless the script failed with this code and the user reads this.
    #[track_caller]
    pub fn failed(&self, code: i32, word: &str) -> &Self {
        assert_eq!(self.status, Some(BUILD_FAILURE.into()), "{}\n{}", self.text(), self.err);
        assert_eq!(self.exit_code, code.to_string(), "{}", self.err);
        assert!(self.err.contains(word), "no `{word}` in:\n{}", self.err);
        self
    }

    /// Fails unless the system failed and the user reads this.
    #[track_caller]
    pub fn system_failed(&self, word: &str) -> &Self {
        assert_eq!(self.status, Some(SYSTEM_FAILURE.into()), "{}\n{}", self.text(), self.err);
        assert!(self.err.contains(word), "no `{word}` in:\n{}", self.err);
        self
    }
}

fn read_into(
    mut source: impl Read + Send + 'static,
    into: Arc<Mutex<Vec<u8>>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(n @ 1..) = source.read(&mut chunk) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..n]);
        }
    })
}
