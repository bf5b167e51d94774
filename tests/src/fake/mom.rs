//! A job's mom: one process of the job's account for each job, from its submission to its end.
//!
//! It polls for requests and for the end of what it runs fifty times a second; other processes see
//! it only through the queue. A scheduler ends a job by a sequence of signals. Their order is the
//! real one (OpenPBS: TERM and KILL after kill_delay; LSF: INT, TERM, KILL; Flux: TERM for a batch
//! script, then KILL; Grid Engine: KILL; HTCondor: TERM to the first process alone, then KILL after
//! the vacate time; Cobalt: TERM, KILL), their pauses are one second in place of five to six
//! hundred.

use super::queue::{Cause, End, Job, JobState, MomRequest, Queue, now};
use super::{Dialect, cobalt, htcondor};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, setsid};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_secs(1);

struct Mom<'a> {
    dialect: Dialect,
    at: &'a Path,
    job: Job,
    child: Option<Child>,
    begun: Instant,
    /// How many requests have been handled.
    done: usize,
    /// Why the job was asked to end, by whom, and when.
    ending: Option<(Cause, u32, Instant)>,
    signals_sent: usize,
    requeue: bool,
    /// Not before.
    again: Instant,
}

/// Lives as long as the job.
pub(super) fn main(dialect: Dialect, at: &Path, number: u64) -> io::Result<()> {
    // Out of reach of a process that kills the submitting command. EPERM: it is a leader already.
    let _ = setsid();
    let job = Queue::open(at)?.job(number).ok_or(io::ErrorKind::NotFound)?;
    let begun = Instant::now();
    let mut mom = Mom {
        dialect,
        at,
        job,
        child: None,
        begun,
        done: 0,
        ending: None,
        signals_sent: 0,
        requeue: false,
        again: begun,
    };
    while mom.job.is_live() {
        mom.round()?;
        std::thread::sleep(LOOK);
    }
    Ok(())
}

impl Mom<'_> {
    fn round(&mut self) -> io::Result<()> {
        for request in self.requests() {
            self.take(request)?;
        }
        if self.dialect == Dialect::HtCondor && self.ending.is_none() && htcondor::periodic_remove(&self.job)
        {
            self.job.more.insert("policy".to_owned(), "yes".to_owned());
            self.ending = Some((Cause::Cancelled, self.job.uid, Instant::now()));
        }
        match (&mut self.child, self.ending) {
            (None, Some((cause, by, _))) => self.end(End { cause, code: None, signal: None, by }),
            (None, None) if self.job.more.contains_key("infeasible") => {
                self.end(End { cause: Cause::Infeasible, code: Some(1), signal: None, by: 0 })
            }
            (None, None) if !self.job.held && Instant::now() >= self.again => self.start(),
            (None, None) => Ok(()),
            (Some(child), _) => {
                if let Some(status) = child.try_wait()? {
                    return self.ended(status.code(), status.signal());
                }
                self.keep_limit()?;
                self.press();
                Ok(())
            }
        }
    }

    fn requests(&mut self) -> Vec<MomRequest> {
        let path = self.at.join("jobs").join(self.job.number.to_string()).join("request");
        // A job that the queue has lost continues without requests.
        let text = fs::read_to_string(path).unwrap_or_default();
        let requests: Vec<MomRequest> =
            text.lines().skip(self.done).filter_map(|line| serde_json::from_str(line).ok()).collect();
        self.done += requests.len();
        requests
    }

    fn take(&mut self, request: MomRequest) -> io::Result<()> {
        match request {
            MomRequest::Hold => self.job.held = true,
            MomRequest::Release => self.job.held = false,
            MomRequest::Signal(number) => {
                if let Ok(signal) = Signal::try_from(number) {
                    self.send(signal);
                }
                return Ok(());
            }
            MomRequest::Cancel(uid) => self.tell_to_end(Cause::Cancelled, uid),
            MomRequest::Kill(uid) => {
                self.tell_to_end(Cause::Cancelled, uid);
                self.send(Signal::SIGKILL);
            }
            MomRequest::End(cause) => {
                self.tell_to_end(cause, 0);
                self.send(Signal::SIGKILL);
            }
            MomRequest::Requeue => {
                self.requeue = true;
                self.send(Signal::SIGKILL);
            }
        }
        self.save()
    }

    fn tell_to_end(&mut self, cause: Cause, by: u32) {
        if self.ending.is_none() {
            self.ending = Some((cause, by, Instant::now()));
            if self.child.is_some() {
                self.job.standing = JobState::Leaving;
            }
        }
    }

    /// Sends the signals that are due.
    fn press(&mut self) {
        let Some((cause, _, since)) = self.ending else { return };
        let row: &[Signal] = match (self.dialect, cause) {
            (Dialect::Lsf, Cause::Time) => {
                &[Signal::SIGUSR2, Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL]
            }
            (Dialect::Lsf, _) => &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL],
            (Dialect::GridEngine, _) => &[Signal::SIGKILL],
            (_, _) => &[Signal::SIGTERM, Signal::SIGKILL],
        };
        while let Some(signal) = row.get(self.signals_sent)
            && since.elapsed() >= PAUSE * u32::try_from(self.signals_sent).unwrap_or(u32::MAX)
        {
            if self.dialect == Dialect::HtCondor && *signal == Signal::SIGTERM {
                self.send_to_first(*signal);
            } else {
                self.send(*signal);
            }
            self.signals_sent += 1;
        }
    }

    fn send(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // ESRCH: it has just ended.
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    fn send_to_first(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // ESRCH: it has just ended.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        }
    }

    fn keep_limit(&mut self) -> io::Result<()> {
        let Some(limit) = self.job.limit else { return Ok(()) };
        let real = Duration::from_secs_f64(limit as f64 * Queue::minute(self.at) as f64 / 60.0);
        if self.ending.is_some() || self.begun.elapsed() < real {
            return Ok(());
        }
        self.tell_to_end(Cause::Time, 0);
        self.save()
    }

    fn start(&mut self) -> io::Result<()> {
        let job = &mut self.job;
        let open =
            |path: &Path| -> io::Result<File> { OpenOptions::new().create(true).append(true).open(path) };
        let (Ok(out), Some((program, arguments))) = (open(&job.output), job.program.split_first()) else {
            return self.end(End { cause: Cause::Node, code: None, signal: None, by: 0 });
        };
        let err = match &job.error {
            Some(path) => open(path)?,
            None => out.try_clone()?,
        };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&job.environment).process_group(0);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        command.current_dir(if job.directory.is_dir() { job.directory.as_path() } else { Path::new("/tmp") });
        job.standing = JobState::Running;
        job.started = Some(now());
        job.runs += 1;
        self.begun = Instant::now();
        // Before it begins: an observer that sees it run must see that the queue knows.
        self.save()?;
        self.child = Some(command.spawn()?);
        Ok(())
    }

    fn ended(&mut self, code: Option<i32>, signal: Option<i32>) -> io::Result<()> {
        if matches!(self.dialect, Dialect::Pbs | Dialect::HtCondor) {
            // The end of a task's first process is the end of the task (OpenPBS, mom_main.c: kill_job; HTCondor's starter).
            self.send(Signal::SIGKILL);
        }
        self.child = None;
        if self.requeue && self.ending.is_none() {
            self.requeue = false;
            self.job.standing = JobState::Waiting;
            self.job.started = None;
            self.again = Instant::now() + PAUSE * 2;
            return self.save();
        }
        let (cause, by) = self.ending.map_or((Cause::Itself, 0), |(cause, by, _)| (cause, by));
        if self.dialect == Dialect::HtCondor && htcondor::holds(&mut self.job, cause) {
            // It stays in the queue, held, until it is removed.
            self.ending = None;
            return self.save();
        }
        self.end(End { cause, code, signal, by })
    }

    fn end(&mut self, end: End) -> io::Result<()> {
        self.job.standing = JobState::Ended;
        self.job.ended = Some(now());
        self.job.end = Some(end);
        if self.dialect == Dialect::Cobalt {
            cobalt::write_log(&self.job);
        }
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        match Queue::open(self.at)?.save(&self.job) {
            // The queue has lost the job.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
