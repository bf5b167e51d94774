//! How long a command of the scheduler may take.
//!
//! A controller that hangs is no different from one that is unreachable, but each command waits for
//! it. So a query gets a short timeout as long as the scheduler is not known to be slow, and now
//! and then a longer one in case it is.

use super::messages::Order;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(30);
/// The timeout of a submission. One that is cut off may have been accepted, and has to be looked
/// up.
const SUBMISSION: Duration = Duration::from_secs(60);
/// The timeout of a query is this multiple of the time that the last answered one took.
const SLACK: u32 = 4;
/// After this many queries in a row without an answer, the last of them gets a longer timeout.
const ROUND: u32 = 3;

#[derive(Debug)]
pub(crate) struct AnswerTime {
    usual: Duration,
    unanswered: u32,
}

impl AnswerTime {
    pub(crate) fn new() -> Self {
        AnswerTime { usual: SHORT, unanswered: 0 }
    }

    /// The timeout of this command now.
    pub(crate) fn of(&self, order: Order) -> Duration {
        match order {
            Order::Submit => SUBMISSION,
            _ if self.unanswered % ROUND == ROUND - 1 => LONG,
            _ => self.usual,
        }
    }

    /// Records that a command other than a submission ended by itself after this time, or was
    /// killed.
    pub(crate) fn took(&mut self, time: Option<Duration>) {
        match time {
            Some(time) => {
                self.usual = (time * SLACK).clamp(SHORT, LONG);
                self.unanswered = 0;
            }
            None => self.unanswered += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AnswerTime, LONG, SHORT, SUBMISSION};
    use crate::messages::Order;
    use std::time::Duration;

    #[test]
    fn a_scheduler_that_hangs_costs_little_and_a_slow_one_gets_the_time_that_it_needs() {
        let mut time = AnswerTime::new();
        let hangs: Vec<Duration> = (0..6)
            .map(|_| {
                let most = time.of(Order::Query);
                time.took(None);
                most
            })
            .collect();
        assert_eq!(hangs, [SHORT, SHORT, LONG, SHORT, SHORT, LONG]);
        time.took(Some(Duration::from_secs(6)));
        assert_eq!((time.of(Order::Find), time.of(Order::Submit)), (Duration::from_secs(24), SUBMISSION));
        time.took(Some(Duration::from_secs(20)));
        assert_eq!(time.of(Order::Cancel), LONG);
        time.took(Some(Duration::from_millis(5)));
        assert_eq!(time.of(Order::Cancel), SHORT);
    }
}
