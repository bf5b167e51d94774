//! The event loop around a submitted stage: files, commands, signals and output become events for
//! the [`Machine`], and its orders become commands.
//!
//! Everything arrives at one poll(2), and nothing in the loop blocks elsewhere: a stage can be
//! cancelled while the scheduler does not respond and while nothing reads the output.
//!
//! If the description has a command that lists all jobs of an account, queries about one job are
//! answered from its result: either the result that another launcher has just stored, or one of our
//! own. A launcher that needs the current state accepts only a query that began after the need
//! arose.

use super::answer_time::AnswerTime;
use super::asking::Asking;
use super::command::Running;
use super::follow::{Passed, Tail};
use super::log::Log;
use super::machine::Machine;
use super::news::{Answer, Event, Order, Output};
use super::outcome::Outcome;
use super::record::{Began, Record, Refused};
use super::shared::{self, Moment, Shared, Turn, now};
use super::stage::{Intent, Stage};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nunbird_handover::Summary;
use nunbird_stage::Trouble;
use nunbird_stage::signals::Signals;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often files are checked when no inotify event comes: on file systems that other hosts write
/// to.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait for another launcher's query: a little longer than a query may take.
const OTHERS: Duration = Duration::from_secs(35);
/// The same for a launcher that needs the current state, because it may have a job to end.
const OTHERS_IN_DOUBT: Duration = Duration::from_secs(5);

/// What one stage needs to run.
pub(crate) struct Engine<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) intent: &'a Intent,
    pub(crate) machine: Machine<'a>,
    pub(crate) asking: Asking<'a>,
    pub(crate) bin: Option<PathBuf>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Seconds left to the CI job, for a time limit that nothing else set; `None` if one is set.
    pub(crate) remaining: Option<u64>,
    /// The time limit that this launcher chose, in seconds.
    pub(crate) chosen_limit: Option<u64>,
    pub(crate) partition: Option<String>,
    pub(crate) log: Log,
    pub(crate) signals: Signals,
    pub(crate) tails: [Tail<'a>; 2],
    pub(crate) passed: Passed,
    pub(crate) clock: Instant,
    pub(crate) answer_time: AnswerTime,
    pub(crate) watch: Option<Inotify>,
    /// The inotify watch on `out`.
    pub(crate) output_watch: Option<WatchDescriptor>,
    /// The inotify watch on the directory of shared query results.
    pub(crate) shared_watch: Option<WatchDescriptor>,
    pub(crate) command: Option<Asked>,
    /// `None` if every launcher runs its own queries.
    pub(crate) shared: Option<Shared>,
    /// The order that another launcher's query may answer.
    pub(crate) waiting: Option<Waiting>,
    /// When the last event of the job other than output arrived.
    pub(crate) news: Moment,
    /// The id that is stored in the stage's files.
    pub(crate) kept: Option<String>,
    pub(crate) log_size: Option<u64>,
    pub(crate) looked: Option<Instant>,
    pub(crate) asked: Option<Instant>,
    /// A second request to cancel within this time counts as the same one.
    pub(crate) repeat: Duration,
}

/// An order that waits for another launcher's query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) order: Order,
    /// The earliest start of a query whose result is accepted.
    since: Moment,
    until: Moment,
}

/// A running command.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) order: Order,
    pub(crate) running: Running,
    /// Set if it lists all jobs of the account: when it began.
    pub(crate) for_all: Option<Moment>,
}

impl Engine<'_> {
    /// Returns when the stage's end is known and its output is passed on.
    pub(crate) fn run(&mut self) -> Result<Outcome, Trouble> {
        self.watch = self.watched();
        let failed = |e: Errno| {
            Trouble::new(
                "cannot wait for events of the job",
                e,
                "run the job again, or report it to the administrators",
            )
        };
        loop {
            self.look();
            self.collect();
            self.keep_id()?;
            self.pass_on();
            while let Some(order) = self.machine.next(self.now()) {
                self.start(order);
            }
            self.tell();
            if let Some(outcome) = self.machine.outcome()
                && self.command.is_none()
            {
                return Ok(outcome.clone());
            }
            self.wait().map_err(failed)?;
        }
    }

    /// The result of the stage, for the audit.
    pub(crate) fn summary(&self, outcome: &Outcome) -> Summary {
        let machine = &self.machine;
        let seconds = |from: u64, to: u64| u32::try_from(to.saturating_sub(from)).ok();
        Summary {
            end: outcome.end(),
            queued_s: machine.began.as_ref().and_then(|began| seconds(self.intent.time, began.time)),
            ran_s: machine.record.as_ref().and_then(|record| seconds(record.start, record.end)),
            scheduler_id: machine.id.clone(),
            cpu_ms: machine.record.as_ref().and_then(|record| record.cpu),
            memory_peak: machine.record.as_ref().and_then(|record| record.memory),
        }
    }

    /// Writes the remaining log lines, as long as the runner reads them.
    pub(crate) fn finish(&mut self, text: &str, patience: Duration) {
        self.log.close(&mut self.tails[1]);
        self.tails[1].say(text);
        let end = Instant::now() + patience;
        while self.tails[1].fill() && Instant::now() < end {
            let mut fds = [PollFd::new(self.tails[1].sink(), PollFlags::POLLOUT)];
            if matches!(poll(&mut fds, PollTimeout::from(200_u8)), Ok(1..)) {
                self.tails[1].push(&self.passed);
            }
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    fn watched(&mut self) -> Option<Inotify> {
        // If the host has no inotify watches left, files are checked every second.
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
        watch.add_watch(self.stage.path(), AddWatchFlags::IN_MOVED_TO).ok()?;
        for name in ["out", "err", "log"] {
            let added = watch.add_watch(&self.stage.path().join(name), AddWatchFlags::IN_MODIFY);
            // A file that was removed and made again is found at the next check.
            if let (Ok(added), "out") = (added, name) {
                self.output_watch = Some(added);
            }
        }
        if let Some(shared) = &self.shared {
            self.shared_watch = watch.add_watch(shared.directory(), AddWatchFlags::IN_MOVED_TO).ok();
        }
        Some(watch)
    }

    fn event(&mut self, event: Event) {
        let now = self.now();
        if !matches!(event, Event::Output(_)) {
            self.news = shared::now();
        }
        self.machine.take(now, event);
    }

    /// Checks the agent's files, after an inotify event or when a second has passed.
    fn look(&mut self) {
        let events = self.watch.as_ref().and_then(|watch| watch.read_events().ok()).unwrap_or_default();
        let due = self.looked.is_none_or(|at| at.elapsed() >= LOOK);
        if events.is_empty() && !due {
            return;
        }
        if due {
            self.looked = Some(Instant::now());
            // A network file system drops its cached negative lookups when the directory is opened.
            drop(fs::read_dir(self.stage.path()));
        }
        for tail in &mut self.tails {
            tail.stir(due);
        }
        // Much output is no reason to check the other files equally often.
        let other = [self.output_watch, self.shared_watch];
        if due || events.iter().any(|event| !other.contains(&Some(event.wd))) {
            self.look_at_records();
        }
        if due || events.iter().any(|event| Some(event.wd) == self.shared_watch) {
            self.take_turn();
        }
    }

    fn look_at_records(&mut self) {
        let nonce = &self.intent.nonce;
        if self.machine.began.is_none()
            && let Some(began) = self.stage.told("began").and_then(|text| Began::parse(&text, nonce))
        {
            self.event(Event::Began(began));
        }
        let nonce = &self.intent.nonce;
        if let Some(refused) = self.stage.told("refused").and_then(|text| Refused::parse(&text, nonce)) {
            self.event(Event::Refused(refused));
        }
        let nonce = &self.intent.nonce;
        if self.machine.record.is_none()
            && let Some(record) = self.stage.told("record").and_then(|text| Record::parse(&text, nonce))
        {
            self.event(Event::Recorded(record));
        }
        // `None` if the file was removed, which is an event as well.
        let size = fs::metadata(self.stage.path().join("log")).ok().map(|log| log.len());
        if size != self.log_size {
            self.log_size = size;
            if self.machine.record.is_none() {
                self.event(Event::Stirred);
            }
        }
    }

    /// Takes the result of the command that has ended.
    fn collect(&mut self) {
        let Some(Asked { order, running, for_all }) = &mut self.command else { return };
        let (order, for_all) = (*order, *for_all);
        let said = match running.ended() {
            Ok(None) => return,
            Ok(Some(said)) => Ok(said),
            Err(e) => Err(e),
        };
        if let (Ok(said), true) = (&said, order != Order::Submit) {
            self.answer_time.took(said.status.is_some().then(|| running.age()));
        }
        self.command = None;
        if let (Some(asked), Some(shared)) = (for_all, &mut self.shared) {
            match &said {
                Ok(said) => shared.keep(asked, said),
                Err(_) => shared.leave(),
            }
        }
        let answer = match said {
            Ok(said) if for_all.is_some() => self.asking.answer_about_all(&said),
            Ok(said) => {
                if order == Order::Limits {
                    self.limit(&said.out);
                }
                self.asking.answer(order, &said)
            }
            Err(e) => Answer::Unclear(e.to_string()),
        };
        self.hear(order, answer);
    }

    /// Passes the result on as an event, unless another command of the same query must run first.
    fn hear(&mut self, order: Order, answer: Answer) {
        match self.asking.settle(order, answer) {
            Some(answer) => self.event(Event::Answer(order, answer)),
            None => self.start(order),
        }
    }

    fn keep_id(&mut self) -> Result<(), Trouble> {
        if self.machine.id != self.kept {
            self.kept.clone_from(&self.machine.id);
            self.stage.keep("job", &self.kept)?;
        }
        Ok(())
    }

    /// Sets the time limit: the CI job's remaining time, but no more than the partition allows.
    fn limit(&mut self, out: &str) {
        let Some(remaining) = self.remaining.take() else { return };
        let longest = self.asking.longest(self.partition.as_deref(), out);
        let seconds = (remaining.min(longest.unwrap_or(u64::MAX)) / 60 * 60).max(60);
        let arguments = self.asking.time_limit(seconds);
        self.log.remark(&mut self.tails[1], &super::log::time_limit(seconds, longest == Some(seconds)));
        self.asking.arguments.extend(arguments);
        self.chosen_limit = Some(seconds);
    }

    fn start(&mut self, order: Order) {
        if order == Order::Submit && self.remaining.is_some() {
            // The scheduler did not report its limits; ours applies alone.
            self.limit("");
        }
        if !self.ask_together(order) {
            self.run_alone(order);
        }
    }

    /// Runs the order's own command.
    fn run_alone(&mut self, order: Order) {
        let Some(call) = self.asking.call(order, self.machine.id.as_deref()) else {
            return self.hear(order, Answer::Disabled);
        };
        let time = self.answer_time.of(order);
        match Running::start(&call, self.bin.as_deref(), &self.environment, time) {
            Ok(running) => self.command = Some(Asked { order, running, for_all: None }),
            Err(e) => self.could_not_start(order, &call.words, &e),
        }
    }

    fn could_not_start(&mut self, order: Order, words: &[String], error: &io::Error) {
        let answer = self.asking.missing(order, words, error);
        self.hear(order, answer);
    }

    fn pass_on(&mut self) {
        let expected = self.machine.record.as_ref().map(|record| record.bytes);
        let mut all = Output::All;
        for (tail, stream) in self.tails.iter_mut().zip(0..) {
            tail.fill();
            all = match (all, tail.progress(expected.map(|bytes| bytes[stream]))) {
                (Output::Flowing, _) | (_, Output::Flowing) => Output::Flowing,
                (Output::Missing, _) | (_, Output::Missing) => Output::Missing,
                _ => Output::All,
            };
        }
        self.event(Event::Output(all));
    }

    fn tell(&mut self) {
        for notice in self.machine.notices() {
            self.log.notice(&mut self.tails[1], &notice, self.machine.id.as_deref());
        }
    }

    fn wait(&mut self) -> nix::Result<()> {
        let timeout = self.timeout();
        let pending = self.tails.each_mut().map(|tail| tail.fill().then(|| tail.sink()));
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
        let sinks: Vec<BorrowedFd<'_>> = pending.iter().flatten().copied().collect();
        fds.extend(sinks.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLOUT)));
        if let Some(watch) = &self.watch {
            fds.push(PollFd::new(watch.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(e) => return Err(e),
        }
        let mut ready = fds[1..].iter().map(|fd| fd.any().unwrap_or(true)).collect::<Vec<_>>().into_iter();
        drop(fds);
        for (tail, sink) in self.tails.iter_mut().zip(pending) {
            if sink.is_some() && ready.next().unwrap_or(false) {
                tail.push(&self.passed);
            }
        }
        if self.signals.request()?.is_some() {
            self.asked_to_cancel();
        }
        Ok(())
    }

    fn asked_to_cancel(&mut self) {
        self.stop_waiting();
        if let Some(Asked { order, running, .. }) = &mut self.command
            && !matches!(order, Order::Submit | Order::Signal | Order::Cancel | Order::Kill)
        {
            running.hurry();
        }
        match self.asked {
            None => {
                self.asked = Some(Instant::now());
                self.log.remark(&mut self.tails[1], "cancelled: ending the scheduler's job");
                self.event(Event::Cancel(false));
            }
            Some(at) if at.elapsed() >= self.repeat => {
                self.log.remark(&mut self.tails[1], "cancelled again: killing the scheduler's job");
                self.event(Event::Cancel(true));
            }
            Some(_) => {}
        }
    }

    fn timeout(&self) -> PollTimeout {
        let now = Instant::now();
        let look = self.looked.map_or(now, |at| at + LOOK);
        let command = self.command.as_ref().map(|asked| asked.running.deadline());
        let wake = self.machine.wake(self.now()).map(|at| self.clock + at);
        let due = [Some(look), command, wake].into_iter().flatten().min().unwrap_or(look);
        let wait = due.saturating_duration_since(now) + Duration::from_millis(1);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }

    /// Tries to answer this order by a query of all jobs; true if such a query is under way.
    fn ask_together(&mut self, order: Order) -> bool {
        if self.shared.is_none() || !matches!(order, Order::Query | Order::Find) {
            return false;
        }
        let now = now();
        let (since, patience) = match order {
            // In the second half of the time since the last event.
            Order::Query if !self.machine.doubts() => (self.news + now.saturating_sub(self.news) / 2, OTHERS),
            _ => (now, OTHERS_IN_DOUBT),
        };
        self.waiting = Some(Waiting { order, since, until: now + patience });
        self.take_turn();
        true
    }

    /// Takes another launcher's result, or the lock to run a query, if one of them is available.
    fn take_turn(&mut self) {
        let Some(waiting) = self.waiting else { return };
        if self.take_answer(waiting) {
            return;
        }
        let Some(shared) = &mut self.shared else { return };
        match shared.turn() {
            Turn::Theirs if now() < waiting.until => {}
            // A stopped process must not block the others.
            Turn::Theirs | Turn::Alone => {
                self.waiting = None;
                self.run_alone(waiting.order);
            }
            // The previous holder may have stored a result between our check and its release of the
            // lock.
            Turn::Ours if self.take_answer(waiting) => self.leave_turn(),
            Turn::Ours => self.ask_for_all(waiting.order),
        }
    }

    /// Drops the order that waits for another launcher's query: something more urgent is due.
    fn stop_waiting(&mut self) {
        if self.waiting.take().is_some() {
            self.machine.withdraw();
        }
    }

    fn take_answer(&mut self, waiting: Waiting) -> bool {
        let said = self.shared.as_ref().and_then(|shared| shared.answer(waiting.since));
        let Some(said) = said else { return false };
        self.waiting = None;
        let answer = self.asking.answer_about_all(&said);
        self.event(Event::Answer(waiting.order, answer));
        true
    }

    fn leave_turn(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.leave();
        }
    }

    fn ask_for_all(&mut self, order: Order) {
        self.waiting = None;
        let Some(call) = self.asking.call_about_all() else { return self.run_alone(order) };
        let at = now();
        let time = self.answer_time.of(order);
        match Running::start(&call, self.bin.as_deref(), &self.environment, time) {
            Ok(running) => self.command = Some(Asked { order, running, for_all: Some(at) }),
            Err(e) => {
                self.leave_turn();
                self.could_not_start(order, &call.words, &e);
            }
        }
    }
}
