//! Ends a job: a signal, a grace period, the scheduler's cancel command, its kill command, and the
//! wait for the confirmed end.
//!
//! gitlab-runner waits at most 300 seconds for a cancelled stage before it starts the cleanup
//! beside it, so the sequence here takes well below that. The cleanup continues where it stopped.

use super::description::Description;
use super::messages::Order;
use super::outcome::CancelReason;
use std::time::Duration;

/// From the scheduler's cancel command to its kill command: sites give a job 30 seconds after TERM
/// (Slurm's `KillWait`).
const BEFORE_KILL: Duration = Duration::from_secs(40);
/// From the request until the rest is left to the cleanup.
const GIVE_UP: Duration = Duration::from_secs(180);
/// The longest grace period. Policies allow less, in either dialect; a longer one would leave the
/// cancel and kill commands, and their repetition while the scheduler is unreachable, no time
/// before [`GIVE_UP`].
const LONGEST_GRACE: Duration = Duration::from_secs(120);
const HURRIED_KILL: Duration = Duration::from_secs(5);
/// From a command that failed to the next attempt; doubled after each failure.
const RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(16);

#[derive(Debug)]
pub(crate) struct Cancel {
    pub(crate) why: CancelReason,
    asked: Duration,
    hurried: bool,
    signalled: bool,
    cancelled: Option<Duration>,
    killed: bool,
    /// The earliest time of the next command, after one that failed.
    not_before: Duration,
    /// The delay after the next failure.
    retry: Duration,
}

impl Cancel {
    pub(crate) fn new(now: Duration, why: CancelReason) -> Self {
        Cancel {
            why,
            asked: now,
            hurried: false,
            signalled: false,
            cancelled: None,
            killed: false,
            not_before: now,
            retry: RETRY,
        }
    }

    /// A second request: no more grace.
    pub(crate) fn hurry(&mut self, now: Duration) {
        self.hurried = true;
        self.not_before = now;
        self.retry = RETRY;
    }

    pub(crate) fn given_up(&self, now: Duration) -> bool {
        now >= self.asked + GIVE_UP
    }

    /// When the next command is due.
    pub(crate) fn due(&self, grace: Duration) -> Duration {
        let step = match self.cancelled {
            None if !self.signalled || self.hurried => self.asked,
            None => self.grace_ends(grace),
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
            None if !self.signalled || self.hurried || now >= self.grace_ends(grace) => Some(Order::Cancel),
            Some(at) if !self.killed && now >= at + self.before_kill() => {
                self.killed = true;
                Some(description.kill.as_ref().map_or(Order::Cancel, |_| Order::Kill))
            }
            _ => None,
        }
    }

    pub(crate) fn answered(&mut self, now: Duration, order: Order, done: bool) {
        if !done {
            // The scheduler is unreachable: repeat the same command. A signal that could not be
            // delivered is not repeated.
            self.killed = self.killed && order != Order::Kill;
            self.not_before = now + self.retry;
            self.retry = (self.retry * 2).min(LONGEST_RETRY);
            return;
        }
        self.retry = RETRY;
        if order == Order::Cancel {
            self.cancelled.get_or_insert(now);
        }
    }

    fn grace_ends(&self, grace: Duration) -> Duration {
        self.asked + grace.min(LONGEST_GRACE)
    }

    fn before_kill(&self) -> Duration {
        if self.hurried { HURRIED_KILL } else { BEFORE_KILL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::slurm;

    /// The orders and their times, in seconds from the request, if each command completes at once.
    fn orders(grace: u64, runs: bool) -> Vec<(Order, u64)> {
        let (slurm, grace) = (slurm(), Duration::from_secs(grace));
        let asked = Duration::from_secs(1000);
        let (mut cancel, mut now, mut orders) =
            (Cancel::new(asked, CancelReason::Requested), asked, Vec::new());
        while !cancel.given_up(now) {
            match cancel.order(now, grace, runs, &slurm) {
                Some(order) => {
                    orders.push((order, (now - asked).as_secs()));
                    cancel.answered(now, order, true);
                }
                None => now = cancel.due(grace).max(now + Duration::from_secs(1)),
            }
        }
        orders
    }

    #[test]
    fn whatever_the_grace_the_schedulers_cancel_and_kill_come_before_the_end() {
        for grace in [0, 1, 90, 139, 140, 179, 180, 181, 3600, u64::from(u32::MAX), u64::MAX / 2] {
            let orders = orders(grace, true);
            let kinds: Vec<Order> = orders.iter().map(|(order, _)| *order).collect();
            assert_eq!(kinds, [Order::Signal, Order::Cancel, Order::Kill], "{grace} s");
            assert!(orders[2].1 + RETRY.as_secs() <= GIVE_UP.as_secs(), "{grace} s: {orders:?}");
        }
    }

    #[test]
    fn a_scheduler_that_is_away_is_asked_ever_more_seldom_and_at_once_when_it_is_back() {
        let (slurm, asked) = (slurm(), Duration::from_secs(1000));
        let (mut cancel, mut now, mut times) =
            (Cancel::new(asked, CancelReason::Requested), asked, Vec::new());
        while !cancel.given_up(now) {
            if let Some(order) = cancel.order(now, Duration::ZERO, false, &slurm) {
                assert_eq!(order, Order::Cancel);
                times.push((now - asked).as_secs());
                cancel.answered(now, order, false);
            }
            now = cancel.due(Duration::ZERO).max(now + Duration::from_secs(1));
        }
        assert_eq!(times[..6], [0, 2, 6, 14, 30, 46]);
        assert!(times.len() < 16, "{times:?}");
        cancel.answered(now, Order::Cancel, true);
        cancel.answered(now, Order::Kill, false);
        assert_eq!(cancel.not_before, now + RETRY);
    }

    #[test]
    fn a_grace_that_a_policy_can_give_is_kept_to_the_second() {
        for grace in [0, 30, 90] {
            assert_eq!(orders(grace, true)[1], (Order::Cancel, grace));
        }
    }
}
