//! Asking the queue together with the other launchers of the account.
//!
//! Where the description has a command for all jobs of an account, the questions about one job are answered from
//! its answer: by what another launcher has just asked, or by asking for all. A launcher that must know how things
//! are now accepts only a question that began after it wanted to know.

use super::command::Running;
use super::engine::{Asked, Engine};
use super::machine::{Event, Order};
use super::shared::{Moment, Turn, now};
use std::time::Duration;

/// How long to wait for another launcher's question: a little longer than a question may take.
const OTHERS: Duration = Duration::from_secs(35);
/// The same for a launcher in doubt, which may have a job to end.
const OTHERS_IN_DOUBT: Duration = Duration::from_secs(5);

/// An order that waits for another launcher's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) order: Order,
    /// The oldest question whose answer will do.
    since: Moment,
    until: Moment,
}

impl Engine<'_> {
    /// Whether this order may be answered by a question about all jobs; if so it is under way.
    pub(super) fn ask_together(&mut self, order: Order) -> bool {
        if self.shared.is_none() || !matches!(order, Order::Query | Order::Find) {
            return false;
        }
        let now = now();
        let (since, patience) = match order {
            // In the second half of the time since the last news.
            Order::Query if !self.machine.doubts() => (self.news + now.saturating_sub(self.news) / 2, OTHERS),
            _ => (now, OTHERS_IN_DOUBT),
        };
        self.waiting = Some(Waiting { order, since, until: now + patience });
        self.take_turn();
        true
    }

    /// Takes another's answer, or the turn to ask, when there is one to take.
    pub(super) fn take_turn(&mut self) {
        let Some(waiting) = self.waiting else { return };
        if self.take_answer(waiting) {
            return;
        }
        let Some(shared) = &mut self.shared else { return };
        match shared.turn() {
            Turn::Theirs if now() < waiting.until => {}
            // One that is stopped holds nobody up for ever.
            Turn::Theirs | Turn::Alone => {
                self.waiting = None;
                self.run_alone(waiting.order);
            }
            // The one before may have answered between our look and its end.
            Turn::Ours if self.take_answer(waiting) => self.leave_turn(),
            Turn::Ours => self.ask_for_all(waiting.order),
        }
    }

    /// Forgets the question that waits for another's answer: there is something better to do.
    pub(super) fn stop_waiting(&mut self) {
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
