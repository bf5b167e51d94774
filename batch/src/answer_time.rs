//! How long a command of the scheduler may take.
//!
//! A controller that hangs is no different from one that is away, but each command waits for it. So a question gets little time, as
//! long as the scheduler is not known to be slow, and now and then more, for one that is.

use super::news::Order;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(30);
/// A submission that is cut off may have been accepted, and has to be looked for.
const SUBMISSION: Duration = Duration::from_secs(60);
/// A question may take this many times as long as the last one that was answered.
const SLACK: u32 = 4;
/// Of so many questions in a row without an answer, the last one gets more time.
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

    /// The most that this command may take now.
    pub(crate) fn of(&self, order: Order) -> Duration {
        match order {
            Order::Submit => SUBMISSION,
            _ if self.unanswered % ROUND == ROUND - 1 => LONG,
            _ => self.usual,
        }
    }

    /// A command other than a submission took so long to end by itself, or did not.
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
    use crate::news::Order;
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
