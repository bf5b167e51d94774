//! When to query the scheduler next.
//!
//! Most events come from files, so the scheduler is queried rarely: once soon after the submission,
//! then at growing intervals, and again around the end. While it does not respond, the intervals
//! double. Each interval has jitter, so that a hundred jobs of one pipeline do not query at the
//! same moment.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(2);
/// How long the scheduler may be silent before the user is informed, and the interval of
/// repetition.
const REPORT_AFTER: Duration = Duration::from_secs(45);
const REPORT_AGAIN: Duration = Duration::from_secs(600);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Pace {
    /// `None` if no query is pending.
    due: Option<Duration>,
    /// The site's interval.
    interval: Duration,
    /// The next interval while waiting in the queue.
    waiting: Duration,
    /// The next interval around the end.
    closing: Duration,
    retry: Duration,
    silent: Option<Duration>,
    report_after: Duration,
    random: u64,
}

impl Pace {
    pub(crate) fn new(interval: Duration, seed: u64) -> Self {
        Pace {
            due: Some(Duration::ZERO),
            interval,
            waiting: FIRST.min(interval),
            closing: Duration::from_millis(250),
            retry: Duration::from_secs(1),
            silent: None,
            report_after: REPORT_AFTER,
            random: seed | 1,
        }
    }

    pub(crate) fn due(&self) -> Option<Duration> {
        self.due
    }

    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    pub(crate) fn at_once(&mut self) {
        self.due = Some(Duration::ZERO);
    }

    pub(crate) fn after(&mut self, now: Duration, pause: Duration) {
        self.due = Some(now + pause);
    }

    /// After the submission: one query whether the job exists.
    pub(crate) fn confirm(&mut self, now: Duration) {
        self.due = Some(now + FIRST.min(self.interval));
    }

    /// In the queue: 2, 4, 8 … seconds up to the site's interval.
    pub(crate) fn waiting(&mut self, now: Duration) {
        self.waiting = (self.waiting * 2).min(self.interval);
        self.due = Some(now + self.jittered(self.waiting));
    }

    /// Running: files report what happens.
    pub(crate) fn calm(&mut self, now: Duration) {
        self.due = Some(now + self.jittered(self.interval));
    }

    /// The script has ended. Of a hundred jobs Slurm knows that of 97 after this time.
    pub(crate) fn script_ended(&mut self, now: Duration) {
        self.closing = Duration::from_millis(200);
        self.due = Some(now + Duration::from_millis(30));
    }

    /// Something is about to change.
    pub(crate) fn soon(&mut self, now: Duration) {
        self.closing = Duration::from_millis(500);
        self.due = Some(now + Duration::from_millis(200));
    }

    /// The job is ending and its final state is not known yet. Nothing is scheduled if nothing of
    /// the job is left.
    pub(crate) fn closing(&mut self, now: Duration, near: bool) {
        if !near {
            return self.calm(now);
        }
        self.due = Some(now + self.closing);
        self.closing = (self.closing * 2).min(self.interval).min(Duration::from_secs(10));
    }

    /// The scheduler responded.
    pub(crate) fn answered(&mut self) {
        self.silent = None;
        self.retry = Duration::from_secs(1);
        self.report_after = REPORT_AFTER;
    }

    /// Whether the last command failed.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.is_some()
    }

    /// The scheduler did not answer a query. Returns since when, if the user is to be informed.
    pub(crate) fn failed(&mut self, now: Duration) -> Option<Duration> {
        self.due = Some(now + self.jittered(self.retry));
        self.retry = (self.retry * 2).min(LONGEST_RETRY);
        self.due_report(now)
    }

    /// The scheduler did not carry out an order, which may be a result, too: a query is due soon,
    /// and none is delayed. Returns the same as [`Pace::failed`].
    pub(crate) fn refused(&mut self, now: Duration) -> Option<Duration> {
        let soon = now + self.jittered(self.retry);
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        self.due_report(now)
    }

    fn due_report(&mut self, now: Duration) -> Option<Duration> {
        let since = *self.silent.get_or_insert(now);
        if now.saturating_sub(since) < self.report_after {
            return None;
        }
        self.report_after = now.saturating_sub(since) + REPORT_AGAIN;
        Some(since)
    }

    /// Up to a fifth more or less (xorshift; nothing depends on its quality).
    fn jittered(&mut self, pause: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        pause * 4 / 5 + pause * u32::try_from(self.random % 400).unwrap_or(0) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_in_the_queue_grow_to_the_interval_and_two_jobs_do_not_ask_in_step() {
        let pauses = |seed| {
            let mut pace = Pace::new(SECOND * 60, seed);
            let mut now = Duration::ZERO;
            let mut pauses = Vec::new();
            for _ in 0..10 {
                pace.waiting(now);
                let due = pace.due().expect("due");
                pauses.push(due - now);
                now = due;
            }
            pauses
        };
        let one = pauses(7);
        assert!(one[0] < SECOND * 5 && one[9] >= SECOND * 48 && one[9] <= SECOND * 72, "{one:?}");
        assert_ne!(one, pauses(8));
    }

    #[test]
    fn the_end_of_a_script_is_confirmed_soon_and_then_less_and_less_often() {
        let mut pace = Pace::new(SECOND * 60, 3);
        pace.script_ended(SECOND);
        let mut asked = vec![pace.due().expect("due")];
        while asked.len() < 4 {
            pace.closing(asked[asked.len() - 1], true);
            asked.push(pace.due().expect("due"));
        }
        let asked: Vec<_> = asked.iter().map(Duration::as_millis).collect();
        assert_eq!(asked, [1030, 1230, 1630, 2430]);
    }

    #[test]
    fn a_silent_scheduler_is_asked_less_and_less_often_and_the_user_is_informed_now_and_then() {
        let mut pace = Pace::new(SECOND * 60, 3);
        let (mut now, mut reports, mut asked) = (Duration::ZERO, 0, 0);
        while now < SECOND * 1500 {
            reports += usize::from(pace.failed(now).is_some());
            asked += 1;
            now = pace.due().expect("due");
        }
        assert!((2..=3).contains(&reports), "{reports}");
        assert!((20..=45).contains(&asked), "{asked}");
    }
}
