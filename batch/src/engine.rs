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
use super::command::RunningCommand;
use super::follow::{Passed, Tail};
use super::log::Log;
use super::machine::Machine;
use super::messages::{CommandResult, Event, Order, Output};
use super::outcome::StageOutcome;
use super::query_state::QueryState;
use super::record::{Began, Record, Refused};
use super::shared::{self, Moment, QueryLock, Shared, now};
use super::stage::{Intent, Stage};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::statfs;
use nunbird_handover::Summary;
use nunbird_stage::StageError;
use nunbird_stage::signals::Signals;
use nunbird_sys::memory::OwnProgram;
use nunbird_unprivileged::waiting::LONG;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often files are checked when no inotify event comes: on file systems that other hosts write
/// to.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The same after a long time without any change, of a job that runs and of one that waits in the queue.
const CHECK_INTERVAL_QUIET: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
/// The interval grows to this part of the time since the last change.
const QUIET_PART: u32 = 16;
/// How often files are checked whose changes this host's kernel reports, all the same. A check of a thousand launchers every
/// 10 s takes 3 % of a processor.
const CHECK_INTERVAL_REPORTED: Duration = Duration::from_secs(30);
/// At least this long a wait is one before which memory is given back again.
const LONG_CHECK: Duration = Duration::from_secs(4);
/// How long to wait for another launcher's query: a little longer than a query may take.
const SHARED_QUERY: Duration = Duration::from_secs(35);
/// The same for a launcher that needs the current state, because it may have a job to end.
const SHARED_QUERY_FRESH: Duration = Duration::from_secs(5);

/// What one stage needs to run.
pub(crate) struct Engine<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) intent: &'a Intent,
    pub(crate) machine: Machine<'a>,
    pub(crate) queries: QueryState<'a>,
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
    /// Whether this host's kernel reports every change of the stage's files.
    pub(crate) reported: bool,
    /// The inotify watch on `out`.
    pub(crate) output_watch: Option<WatchDescriptor>,
    /// The inotify watch on the directory of shared query results.
    pub(crate) shared_watch: Option<WatchDescriptor>,
    pub(crate) command: Option<StartedCommand>,
    /// `None` if every launcher runs its own queries.
    pub(crate) shared: Option<Shared>,
    /// The order that another launcher's query may answer.
    pub(crate) pending_query: Option<PendingQuery>,
    /// When the last event of the job other than output arrived.
    pub(crate) last_event: Moment,
    /// The id that is stored in the stage's files.
    pub(crate) stored_id: Option<String>,
    pub(crate) log_size: Option<u64>,
    pub(crate) checked: Option<Instant>,
    /// When something last changed: output, files of the agent, the job's state.
    pub(crate) changed: Instant,
    /// When memory is given back, after the start, after each command and after output; none once it has been.
    pub(crate) idle: Option<Instant>,
    /// Whether standard error is written before standard output in this turn.
    pub(crate) err_first: bool,
    pub(crate) cancel_requested: Option<Instant>,
    /// A second request to cancel within this time counts as the same one.
    pub(crate) repeat: Duration,
}

/// An order that waits for another launcher's query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingQuery {
    pub(crate) order: Order,
    /// The earliest start of a query whose result is accepted.
    since: Moment,
    until: Moment,
}

/// A running command.
#[derive(Debug)]
pub(crate) struct StartedCommand {
    pub(crate) order: Order,
    pub(crate) running: RunningCommand,
    /// Set if it lists all jobs of the account: when it began.
    pub(crate) for_all: Option<Moment>,
}

impl Engine<'_> {
    /// Returns when the stage's end is known and its output is passed on.
    pub(crate) fn run(&mut self) -> Result<StageOutcome, StageError> {
        self.watch = self.watched();
        let program = OwnProgram::look();
        let failed = |e: Errno| {
            StageError::new(
                "cannot wait for events of the job",
                e,
                "run the job again, or report it to the administrators",
            )
        };
        loop {
            let looked = self.check_files();
            self.collect_output();
            self.store_id()?;
            self.pass_output_on();
            while let Some(order) = self.machine.next(self.now()) {
                self.start(order);
            }
            self.log_notices();
            if let Some(outcome) = self.machine.outcome()
                && self.command.is_none()
            {
                return Ok(outcome.clone());
            }
            let long = looked && self.check_interval() >= LONG_CHECK;
            let due = long || self.idle.is_some_and(|idle| Instant::now() >= idle);
            let rest = (due && self.command.is_none()).then_some(program);
            if rest.is_some() {
                self.idle = None;
            }
            self.wait(rest).map_err(failed)?;
        }
    }

    /// The result of the stage, for the audit.
    pub(crate) fn summary(&self, outcome: &StageOutcome) -> Summary {
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
    pub(crate) fn finish(&mut self, text: &str, timeout: Duration) {
        self.log.close(&mut self.tails[1]);
        self.tails[1].add_text(text);
        let end = Instant::now() + timeout;
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
        self.reported = is_local(self.stage.path());
        for name in ["out", "err", "log"] {
            let added = watch.add_watch(&self.stage.path().join(name), AddWatchFlags::IN_MODIFY);
            self.reported &= added.is_ok();
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
            self.last_event = shared::now();
        }
        if !matches!(event, Event::Output(Output::All | Output::Missing) | Event::CommandResult(..)) {
            self.changed = Instant::now();
        }
        self.machine.handle(now, event);
    }

    /// How long after one check of the files the next one is due.
    fn check_interval(&self) -> Duration {
        let settled = self.command.is_none() && self.pending_query.is_none() && self.machine.is_settled();
        match settled {
            true => quiet_interval(self.reported, self.machine.began.is_some(), self.changed.elapsed()),
            false => CHECK_INTERVAL,
        }
    }

    /// Checks the agent's files, after an inotify event or when it is due, which is returned.
    fn check_files(&mut self) -> bool {
        let events = self.watch.as_ref().and_then(|watch| watch.read_events().ok()).unwrap_or_default();
        let interval = self.check_interval();
        let due = self.checked.is_none_or(|at| at.elapsed() >= interval);
        if events.is_empty() && !due {
            return false;
        }
        // A file has been removed or replaced, and what is in its place is not watched.
        self.reported &= !events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_IGNORED));
        if due {
            self.checked = Some(Instant::now());
            // A network file system drops its cached negative lookups when the directory is opened.
            drop(fs::read_dir(self.stage.path()));
        }
        for tail in &mut self.tails {
            tail.reopen_if_grown(due);
        }
        // Much output is no reason to check the other files equally often.
        let other = [self.output_watch, self.shared_watch];
        if due || events.iter().any(|event| !other.contains(&Some(event.wd))) {
            self.check_records();
        }
        if due || events.iter().any(|event| Some(event.wd) == self.shared_watch) {
            self.poll_shared_query();
        }
        due
    }

    fn check_records(&mut self) {
        let nonce = &self.intent.nonce;
        if self.machine.began.is_none()
            && let Some(began) = self.stage.read_text("began").and_then(|text| Began::parse(&text, nonce))
        {
            self.event(Event::Began(began));
        }
        let nonce = &self.intent.nonce;
        if let Some(refused) = self.stage.read_text("refused").and_then(|text| Refused::parse(&text, nonce)) {
            self.event(Event::Refused(refused));
        }
        let nonce = &self.intent.nonce;
        if self.machine.record.is_none()
            && let Some(record) = self.stage.read_text("record").and_then(|text| Record::parse(&text, nonce))
        {
            self.event(Event::Recorded(record));
        }
        // `None` if the file was removed, which is an event as well.
        let size = fs::metadata(self.stage.path().join("log")).ok().map(|log| log.len());
        if size != self.log_size {
            self.log_size = size;
            if self.machine.record.is_none() {
                self.event(Event::LogGrew);
            }
        }
    }

    /// Takes the result of the command that has ended.
    fn collect_output(&mut self) {
        let Some(StartedCommand { order, running, for_all }) = &mut self.command else { return };
        let (order, for_all) = (*order, *for_all);
        let output = match running.ended() {
            Ok(None) => return,
            Ok(Some(output)) => Ok(output),
            Err(e) => Err(e),
        };
        if let (Ok(output), true) = (&output, order != Order::Submit) {
            self.answer_time.took(output.status.is_some().then(|| running.age()));
        }
        self.command = None;
        self.idle = Some(Instant::now() + LONG);
        if let (Some(asked), Some(shared)) = (for_all, &mut self.shared) {
            match &output {
                Ok(output) => shared.store(asked, output),
                Err(_) => shared.release(),
            }
        }
        let result = match output {
            Ok(output) if for_all.is_some() => self.queries.result_for_all_jobs(&output),
            Ok(output) => {
                if order == Order::Limits {
                    self.limit(&output.out);
                }
                self.queries.result(order, &output)
            }
            Err(e) => CommandResult::Unclear(e.to_string()),
        };
        self.on_result(order, result);
    }

    /// Passes the result on as an event, unless another command of the same query must run first.
    fn on_result(&mut self, order: Order, result: CommandResult) {
        match self.queries.finish_query(order, result) {
            Some(result) => self.event(Event::CommandResult(order, result)),
            None => self.start(order),
        }
    }

    fn store_id(&mut self) -> Result<(), StageError> {
        if self.machine.id != self.stored_id {
            self.stored_id.clone_from(&self.machine.id);
            self.stage.store("job", &self.stored_id)?;
        }
        Ok(())
    }

    /// Sets the time limit: the CI job's remaining time, but no more than the partition allows.
    fn limit(&mut self, out: &str) {
        let Some(remaining) = self.remaining.take() else { return };
        let longest = self.queries.longest(self.partition.as_deref(), out);
        let seconds = (remaining.min(longest.unwrap_or(u64::MAX)) / 60 * 60).max(60);
        let arguments = self.queries.time_limit(seconds);
        self.log.remark(&mut self.tails[1], &super::log::time_limit(seconds, longest == Some(seconds)));
        self.queries.arguments.extend(arguments);
        self.chosen_limit = Some(seconds);
    }

    fn start(&mut self, order: Order) {
        if order == Order::Submit && self.remaining.is_some() {
            // The scheduler did not report its limits; ours applies alone.
            self.limit("");
        }
        if !self.use_shared_query(order) {
            self.run_own_command(order);
        }
    }

    /// Runs the order's own command.
    fn run_own_command(&mut self, order: Order) {
        let Some(call) = self.queries.command(order, self.machine.id.as_deref()) else {
            return self.on_result(order, CommandResult::Disabled);
        };
        let time = self.answer_time.of(order);
        match RunningCommand::start(&call, self.bin.as_deref(), &self.environment, time) {
            Ok(running) => self.command = Some(StartedCommand { order, running, for_all: None }),
            Err(e) => self.on_start_failure(order, &call.words, &e),
        }
    }

    fn on_start_failure(&mut self, order: Order, words: &[String], error: &io::Error) {
        let result = self.queries.not_started(order, words, error);
        self.on_result(order, result);
    }

    fn pass_output_on(&mut self) {
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
        if all == Output::Flowing {
            self.idle = Some(Instant::now() + LONG);
        }
        self.event(Event::Output(all));
    }

    fn log_notices(&mut self) {
        for notice in self.machine.notices() {
            self.changed = Instant::now();
            self.log.notice(&mut self.tails[1], &notice, self.machine.id.as_deref());
        }
    }

    /// Waits for the next event; gives memory back before that where it is time for it.
    fn wait(&mut self, rest: Option<OwnProgram>) -> nix::Result<()> {
        let timeout = self.timeout();
        let pending = self.tails.each_mut().map(|tail| tail.fill().then(|| tail.sink()));
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
        let sinks: Vec<BorrowedFd<'_>> = pending.iter().flatten().copied().collect();
        fds.extend(sinks.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLOUT)));
        if let Some(watch) = &self.watch {
            fds.push(PollFd::new(watch.as_fd(), PollFlags::POLLIN));
        }
        // Last of all: each function that is called after it brings its part of the program back.
        if let Some(program) = rest {
            program.give_back();
        }
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(e) => return Err(e),
        }
        let mut ready = fds[1..].iter().map(|fd| fd.any().unwrap_or(true)).collect::<Vec<_>>().into_iter();
        drop(fds);
        let ready = pending.map(|sink| sink.is_some() && ready.next().unwrap_or(false));
        // Each is the first one in turn: both may have one pipe, and who comes first may fill it.
        self.err_first = !self.err_first;
        for stream in if self.err_first { [1, 0] } else { [0, 1] } {
            if ready[stream] {
                self.tails[stream].push(&self.passed);
            }
        }
        if self.signals.request()?.is_some() {
            self.on_cancel_request();
        }
        Ok(())
    }

    fn on_cancel_request(&mut self) {
        self.drop_pending_query();
        if let Some(StartedCommand { order, running, .. }) = &mut self.command
            && !matches!(order, Order::Submit | Order::Signal | Order::Cancel | Order::Kill)
        {
            running.hurry();
        }
        match self.cancel_requested {
            None => {
                self.cancel_requested = Some(Instant::now());
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
        let look = self.checked.map_or(now, |at| at + self.check_interval());
        let command = self.command.as_ref().map(|asked| asked.running.deadline());
        let wake = self.machine.next_wakeup(self.now()).map(|at| self.clock + at);
        let idle = self.idle.filter(|_| self.command.is_none());
        let due = [Some(look), command, wake, idle].into_iter().flatten().min().unwrap_or(look);
        let wait = due.saturating_duration_since(now) + Duration::from_millis(1);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }

    /// Tries to answer this order by a query of all jobs; true if such a query is under way.
    fn use_shared_query(&mut self, order: Order) -> bool {
        if self.shared.is_none() || !matches!(order, Order::Query | Order::Find) {
            return false;
        }
        let now = now();
        let (since, timeout) = match order {
            // In the second half of the time since the last event.
            Order::Query if !self.machine.needs_fresh_state() => {
                (self.last_event + now.saturating_sub(self.last_event) / 2, SHARED_QUERY)
            }
            _ => (now, SHARED_QUERY_FRESH),
        };
        self.pending_query = Some(PendingQuery { order, since, until: now + timeout });
        self.poll_shared_query();
        true
    }

    /// Takes another launcher's result, or the lock to run a query, if one of them is available.
    fn poll_shared_query(&mut self) {
        let Some(pending_query) = self.pending_query else { return };
        if self.take_shared_result(pending_query) {
            return;
        }
        let Some(shared) = &mut self.shared else { return };
        match shared.try_lock() {
            QueryLock::HeldByOther if now() < pending_query.until => {}
            // A stopped process must not block the others.
            QueryLock::HeldByOther | QueryLock::Unavailable => {
                self.pending_query = None;
                self.run_own_command(pending_query.order);
            }
            // The previous holder may have stored a result between our check and its release of the
            // lock.
            QueryLock::Acquired if self.take_shared_result(pending_query) => self.release_query_lock(),
            QueryLock::Acquired => self.query_all_jobs(pending_query.order),
        }
    }

    /// Drops the order that waits for another launcher's query: something more urgent is due.
    fn drop_pending_query(&mut self) {
        if self.pending_query.take().is_some() {
            self.machine.withdraw_order();
        }
    }

    fn take_shared_result(&mut self, pending_query: PendingQuery) -> bool {
        let output = self.shared.as_ref().and_then(|shared| shared.result(pending_query.since));
        let Some(output) = output else { return false };
        self.pending_query = None;
        let result = self.queries.result_for_all_jobs(&output);
        self.event(Event::CommandResult(pending_query.order, result));
        true
    }

    fn release_query_lock(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.release();
        }
    }

    fn query_all_jobs(&mut self, order: Order) {
        self.pending_query = None;
        let Some(call) = self.queries.command_for_all_jobs() else { return self.run_own_command(order) };
        let at = now();
        let time = self.answer_time.of(order);
        match RunningCommand::start(&call, self.bin.as_deref(), &self.environment, time) {
            Ok(running) => self.command = Some(StartedCommand { order, running, for_all: Some(at) }),
            Err(e) => {
                self.release_query_lock();
                self.on_start_failure(order, &call.words, &e);
            }
        }
    }
}

/// The interval of a job of which nothing is pending, that runs or waits in the queue and has not changed for a while.
fn quiet_interval(reported: bool, runs: bool, unchanged: Duration) -> Duration {
    if reported {
        return CHECK_INTERVAL_REPORTED;
    }
    let [running, waiting] = CHECK_INTERVAL_QUIET;
    (unchanged / QUIET_PART).clamp(CHECK_INTERVAL, if runs { running } else { waiting })
}

/// Whether all that writes to files there does so through this host's kernel: its own processes, and those of hosts that it exports
/// the file system to.
fn is_local(path: &Path) -> bool {
    let local =
        [statfs::EXT4_SUPER_MAGIC, statfs::XFS_SUPER_MAGIC, statfs::BTRFS_SUPER_MAGIC, statfs::TMPFS_MAGIC];
    statfs::statfs(path).is_ok_and(|found| local.contains(&found.filesystem_type()))
}

#[cfg(test)]
mod tests {
    use super::{is_local, quiet_interval};
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn quiet_files_are_looked_at_every_half_minute_where_the_kernel_reports_changes_and_less_often_elsewhere()
    {
        let interval = |reported, runs, unchanged| {
            quiet_interval(reported, runs, Duration::from_secs(unchanged)).as_millis()
        };
        for (reported, runs, unchanged, expected) in [
            (true, true, 0, 30_000),
            (true, false, 3600, 30_000),
            (false, true, 0, 1000),
            (false, true, 16, 1000),
            (false, true, 24, 1500),
            (false, true, 3600, 2000),
            (false, false, 32, 2000),
            (false, false, 80, 5000),
            (false, false, 3600, 5000),
        ] {
            assert_eq!(interval(reported, runs, unchanged), expected, "{reported} {runs} {unchanged}");
        }
        assert!(is_local(Path::new("/dev/shm")) && !is_local(Path::new("/proc")));
    }
}
