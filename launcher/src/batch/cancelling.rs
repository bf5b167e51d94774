//! Ending a job: a signal, time to act on it, the scheduler's cancel, its kill, and the end seen.
//!
//! gitlab-runner waits at most 300 seconds for a stage that it has cancelled before it starts the cleanup beside
//! it, so everything here is over well before. The cleanup goes on where this ended.

use super::description::Description;
use super::machine::Order;
use super::outcome::Why;
use std::time::Duration;

/// From the scheduler's cancel to its kill: sites give a job 30 seconds after TERM (Slurm's `KillWait`).
const BEFORE_KILL: Duration = Duration::from_secs(40);
/// From the request to leaving the rest to the cleanup.
const GIVE_UP: Duration = Duration::from_secs(180);
const HURRIED_KILL: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Cancel {
    pub(crate) why: Why,
    asked: Duration,
    hurried: bool,
    signalled: bool,
    cancelled: Option<Duration>,
    killed: bool,
    /// Not before this: the last command failed.
    not_before: Duration,
}

impl Cancel {
    pub(crate) fn new(now: Duration, why: Why) -> Self {
        Cancel {
            why,
            asked: now,
            hurried: false,
            signalled: false,
            cancelled: None,
            killed: false,
            not_before: now,
        }
    }

    /// Asked again: no more grace.
    pub(crate) fn hurry(&mut self, now: Duration) {
        self.hurried = true;
        self.not_before = now;
    }

    pub(crate) fn given_up(&self, now: Duration) -> bool {
        now >= self.asked + GIVE_UP
    }

    /// When something is due.
    pub(crate) fn due(&self, grace: Duration) -> Duration {
        let step = match self.cancelled {
            None if !self.signalled || self.hurried => self.asked,
            None => self.asked + grace,
            Some(at) if !self.killed => at + self.before_kill(),
            Some(_) => self.asked + GIVE_UP,
        };
        step.max(self.not_before).min(self.asked + GIVE_UP)
    }

    /// The next command.
    pub(crate) fn order(
        &mut self,
        now: Duration,
        grace: Duration,
        runs: bool,
        description: &Description,
    ) -> Option<Order> {
        if now < self.not_before {
            return None;
        }
        if runs
            && !self.signalled
            && !self.hurried
            && self.cancelled.is_none()
            && description.signal.is_some()
        {
            self.signalled = true;
            return Some(Order::Signal);
        }
        match self.cancelled {
            None if !self.signalled || self.hurried || now >= self.asked + grace => Some(Order::Cancel),
            Some(at) if !self.killed && now >= at + self.before_kill() => {
                self.killed = true;
                Some(description.kill.as_ref().map_or(Order::Cancel, |_| Order::Kill))
            }
            _ => None,
        }
    }

    pub(crate) fn answered(&mut self, now: Duration, order: Order, done: bool) {
        if !done {
            // The scheduler is out of reach: the same again. A signal that did not arrive is not worth it.
            self.killed = self.killed && order != Order::Kill;
            self.not_before = now + RETRY;
        } else if order == Order::Cancel {
            self.cancelled.get_or_insert(now);
        }
    }

    fn before_kill(&self) -> Duration {
        if self.hurried { HURRIED_KILL } else { BEFORE_KILL }
    }
}
