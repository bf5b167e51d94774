//! One call of the driver: its process group, its pipes, and its end by itself or by the runner's signals.
//!
//! As in `helpers/process/killer_unix.go`: SIGTERM to the group, then SIGKILL after a while, then
//! the process is abandoned. A call has ended when the process has and both pipes are at their end,
//! so a daemon that keeps a pipe open delays the stage. Signals are sent with the ids of the
//! runner's account.

use super::outcome::StageOutcome;
use crate::world::enter::{Ids, Spec};
use crate::world::{Exit, process};
use std::io::Read;
use std::process::Child;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a job is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// The Cancel button: only the user's script ends; `after_script` and `cleanup_file_variables` follow.
    Gracefully,
    /// Forced cancel, or the job was deleted: no stage follows but `cleanup`.
    AtOnce,
    /// The job's time is up: no stage follows but `cleanup`.
    Timeout,
}

/// Cancels a job from another thread. Clones cancel the same job.
#[derive(Debug, Clone, Default)]
pub struct Canceller(Arc<AtomicU8>);

impl Canceller {
    /// Cancels the job; the stage that runs ends by a signal.
    pub fn cancel(&self, how: Cancel) {
        let number = match how {
            Cancel::Gracefully => 1,
            Cancel::AtOnce => 2,
            Cancel::Timeout => 3,
        };
        self.0.store(number, Ordering::SeqCst);
    }

    /// Whether and how the job was cancelled.
    pub fn cancelled(&self) -> Option<Cancel> {
        match self.0.load(Ordering::SeqCst) {
            1 => Some(Cancel::Gracefully),
            2 => Some(Cancel::AtOnce),
            3 => Some(Cancel::Timeout),
            _ => None,
        }
    }
}

/// A cancel that waits for text in the log of a stage.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    pub(super) stage: String,
    pub(super) words: String,
    pub(super) how: Cancel,
}

/// The events for which a call is watched.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) canceller: &'a Canceller,
    pub(super) triggers: &'a [Trigger],
    /// Whether a cancel ends this call: `cleanup` goes on, and after a graceful cancel so do late stages.
    pub(super) cancellable: bool,
    pub(super) graceful: Duration,
    pub(super) force: Duration,
    /// After this the call is ended as by a timeout, so that a test never hangs.
    pub(super) limit: Duration,
    pub(super) runner: Option<Ids>,
}

#[derive(Debug, Default)]
struct Chunks {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    both: Vec<u8>,
}

/// Calls the driver and waits for its end. A process that could not be ended is added to `left`.
pub(super) fn call(name: &str, spec: &Spec, watch: &Watch<'_>, left: &mut Vec<i32>) -> StageOutcome {
    let started = Instant::now();
    let mut child = process::spawn(spec);
    let group = i32::try_from(child.id()).expect("a process id");
    let chunks = Arc::new(Mutex::new(Chunks::default()));
    let readers = [
        reader(child.stdout.take().expect("a pipe"), &chunks, |c| &mut c.stdout),
        reader(child.stderr.take().expect("a pipe"), &chunks, |c| &mut c.stderr),
    ];
    let mut killer = Killer { group, watch, term: None, kill: None, unkillable: false };
    let mut process = Process { child, exit: None };
    let exit = loop {
        let at_end = readers.iter().all(JoinHandle::is_finished);
        if let (Some(exit), true) = (process.exit(), at_end) {
            break exit;
        }
        for trigger in watch.triggers.iter().filter(|trigger| trigger.stage == name) {
            if contains(&chunks, &trigger.words) && watch.canceller.cancelled().is_none() {
                watch.canceller.cancel(trigger.how);
            }
        }
        if started.elapsed() > watch.limit {
            watch.canceller.cancel(Cancel::Timeout);
            killer.step(true);
        } else {
            killer.step(watch.cancellable && watch.canceller.cancelled().is_some());
        }
        if killer.gave_up() {
            left.push(group);
            break Exit::Abandoned;
        }
        std::thread::sleep(Duration::from_millis(4));
    };
    let chunks = chunks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    StageOutcome {
        name: name.to_owned(),
        exit,
        stdout: text(&chunks.stdout),
        stderr: text(&chunks.stderr),
        log: text(&chunks.both),
        elapsed: started.elapsed(),
        signalled: killer.term.is_some(),
        unkillable: killer.unkillable,
    }
}

/// The driver's process. One that could not be ended is left without being waited for, as the runner does.
struct Process {
    child: Child,
    exit: Option<Exit>,
}

impl Process {
    fn exit(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().expect("a child can be waited for").map(Exit::from);
        }
        self.exit
    }
}

fn reader<R: Read + Send + 'static>(
    mut pipe: R,
    chunks: &Arc<Mutex<Chunks>>,
    own: fn(&mut Chunks) -> &mut Vec<u8>,
) -> JoinHandle<()> {
    let chunks = Arc::clone(chunks);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = pipe.read(&mut buffer) {
            let mut chunks = chunks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            own(&mut chunks).extend_from_slice(&buffer[..n]);
            chunks.both.extend_from_slice(&buffer[..n]);
        }
    })
}

fn contains(chunks: &Mutex<Chunks>, words: &str) -> bool {
    let chunks = chunks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    chunks.both.windows(words.len()).any(|window| window == words.as_bytes())
}

struct Killer<'a> {
    group: i32,
    watch: &'a Watch<'a>,
    term: Option<Instant>,
    kill: Option<Instant>,
    unkillable: bool,
}

impl Killer<'_> {
    fn step(&mut self, end: bool) {
        match (self.term, self.kill) {
            (None, _) if end => {
                self.term = Some(Instant::now());
                if !self.signal("TERM") {
                    self.send_kill();
                }
            }
            (Some(term), None) if term.elapsed() > self.watch.graceful => self.send_kill(),
            _ => {}
        }
    }

    fn send_kill(&mut self) {
        self.kill = Some(Instant::now());
        self.unkillable = !self.signal("KILL");
    }

    fn gave_up(&self) -> bool {
        self.kill.is_some_and(|at| at.elapsed() > self.watch.force)
    }

    fn signal(&self, name: &str) -> bool {
        signal_group(self.group, name, self.watch.runner.as_ref())
    }
}

/// Signals a process group with the ids of an account; `None` for our own ids. Returns whether
/// kill(2) allowed it.
pub(super) fn signal_group(group: i32, signal: &str, ids: Option<&Ids>) -> bool {
    let spec = Spec {
        mounts: None,
        inside: None,
        ids: ids.cloned(),
        no_new_privileges: false,
        program: "/bin/sh".into(),
        name: None,
        arguments: ["-c".into(), format!("kill -s {signal} -- -{group}").into()].into(),
        environment: Vec::new(),
        directory: "/".into(),
    };
    process::run(&spec).exit == Exit::Code(0)
}
