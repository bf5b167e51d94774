//! Runs the machine with a simulated clock and simulated events and results, and checks its orders
//! and conclusions.

use super::{ABSENT_FOR, CommandResult, Event, Limits, Machine, Notice, Order, Output, Row};
use crate::description::{Description, slurm};
use crate::outcome::{CancelReason, StageOutcome};
use crate::record::{Began, Record, Refused};
use crate::state::End;
use std::time::Duration;

mod cancels;
mod forgets;
mod looking;
mod silence;

const LIMITS: Limits = Limits {
    absent_for: ABSENT_FOR,
    poll: Duration::from_secs(60),
    nfs: Duration::from_secs(30),
    grace: Duration::from_secs(20),
    deadline: None,
    seed: 5,
};

fn row(state: &str) -> Row {
    Row { id: "7".to_owned(), state: state.to_owned(), ..Row::default() }
}

fn waits(reason: &str) -> CommandResult {
    CommandResult::Row(Row { reason: reason.to_owned(), ..row("PENDING") })
}

fn reported(state: &str) -> CommandResult {
    CommandResult::Row(row(state))
}

fn silent() -> CommandResult {
    CommandResult::Unclear("Unable to contact slurm controller".to_owned())
}

fn record(code: i32) -> Record {
    Record {
        code,
        begun: true,
        result: true,
        start: 1,
        end: 2,
        host: "n1".to_owned(),
        hosts: "n1".to_owned(),
        bytes: [0, 0],
        cpu: None,
        memory: None,
    }
}

/// A machine and its clock.
struct Play<'d> {
    machine: Machine<'d>,
    now: Duration,
    orders: Vec<Order>,
    notices: Vec<Notice>,
}

impl<'d> Play<'d> {
    fn new(description: &'d Description, limits: Limits, earlier: bool, id: Option<&str>) -> Self {
        let machine = Machine::new(description, limits, earlier, id.map(str::to_owned));
        Play { machine, now: Duration::from_secs(1), orders: Vec::new(), notices: Vec::new() }
    }

    /// A submitted job that the queue has reported in this state.
    fn submitted(description: &'d Description, limits: Limits, state: &str) -> Self {
        let mut play = Play::new(description, limits, false, None);
        play.on(Order::Submit, CommandResult::Id("7".to_owned()));
        play.on(Order::Query, reported(state));
        play
    }

    /// A job whose script has begun.
    fn begun(description: &'d Description) -> Self {
        let mut play = Play::new(description, LIMITS, false, None);
        play.on(Order::Submit, CommandResult::Id("7".to_owned()));
        play.event(Event::Began(Began { id: "7".to_owned(), host: "n1".to_owned(), time: 1 }));
        play.event(Event::Output(Output::All));
        play
    }

    fn event(&mut self, event: Event) {
        self.machine.handle(self.now, event);
        self.notices.extend(self.machine.notices());
    }

    /// Advances the time until there is an order or an outcome.
    fn order(&mut self) -> Option<Order> {
        for _ in 0..1000 {
            if let Some(order) = self.machine.next(self.now) {
                self.orders.push(order);
                return Some(order);
            }
            if self.machine.outcome().is_some() {
                return None;
            }
            self.now = self
                .machine
                .next_wakeup(self.now)
                .expect("neither an order, nor an end, nor a time to wait for");
        }
        panic!("time passes and nothing happens");
    }

    /// Expects this order next, and passes it this result.
    #[track_caller]
    fn on(&mut self, order: Order, result: CommandResult) {
        assert_eq!(self.order(), Some(order), "after {:?}: {:?}", self.orders, self.machine.outcome());
        self.event(Event::CommandResult(order, result));
    }

    #[track_caller]
    fn ends(&mut self, outcome: StageOutcome) {
        assert_eq!(self.order(), None, "after {:?}", self.orders);
        assert_eq!(self.machine.outcome(), Some(&outcome));
    }

    fn counted(&self, order: Order) -> usize {
        self.orders.iter().filter(|one| **one == order).count()
    }
}

#[test]
fn success_takes_the_record_the_schedulers_word_and_all_output() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::Missing));
    play.on(Order::Query, reported("COMPLETING"));
    play.on(Order::Query, reported("COMPLETED"));
    assert_eq!(play.machine.outcome(), None);
    play.event(Event::Output(Output::All));
    play.ends(StageOutcome::Success);
    assert_eq!(play.orders.len(), 3);
}

#[test]
fn a_job_that_begins_at_once_costs_a_submission_and_one_question() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Recorded(record(0)));
    play.on(Order::Query, reported("COMPLETED"));
    play.ends(StageOutcome::Success);
    assert_eq!(play.orders, [Order::Submit, Order::Query]);
}

#[test]
fn a_day_in_the_queue_and_on_a_node_costs_about_a_question_a_minute_and_no_more() {
    let slurm = slurm();
    let mut play = Play::submitted(&slurm, LIMITS, "PENDING");
    while play.now < Duration::from_secs(3600) {
        play.on(Order::Query, reported("PENDING"));
    }
    play.event(Event::Began(Began { id: "7".to_owned(), host: "n1".to_owned(), time: 1 }));
    while play.now < Duration::from_secs(7200) {
        play.on(Order::Query, reported("RUNNING"));
    }
    assert!((90..=160).contains(&play.orders.len()), "{}", play.orders.len());
    let reports = play.notices.iter().filter(|notice| matches!(notice, Notice::Waits(_))).count();
    assert_eq!(reports, 1, "nothing changed, so nothing is reported");
}

#[test]
fn neither_witness_alone_makes_a_success() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Recorded(record(0)));
    play.on(Order::Query, reported("FAILED"));
    play.on(Order::Accounting, CommandResult::Disabled);
    play.on(Order::Detail, reported("FAILED"));
    play.ends(StageOutcome::Contradiction(row("FAILED")));

    let mut play = Play::submitted(&slurm, LIMITS, "COMPLETED");
    play.event(Event::Output(Output::All));
    let before = play.now;
    play.ends(StageOutcome::NoRecord(row("COMPLETED")));
    assert!(play.now >= before + LIMITS.nfs, "files of another host need time to appear");
}

#[test]
fn an_agent_that_could_not_write_its_record_is_no_failure_of_the_script() {
    let slurm = slurm();
    let exit = |exit: &str| Row { exit: exit.to_owned(), ..row("FAILED") };
    for (how, outcome) in [
        (exit("75:0"), StageOutcome::ExitUnknown(exit("75:0"))),
        (exit("0:9"), StageOutcome::Killed(End::Failed, exit("0:9"))),
    ] {
        let mut play = Play::begun(&slurm);
        play.on(Order::Query, reported("FAILED"));
        play.on(Order::Accounting, CommandResult::Disabled);
        play.on(Order::Detail, CommandResult::Row(how));
        play.ends(outcome);
    }
}

#[test]
fn the_scripts_own_code_is_reported_when_both_say_that_it_failed() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Recorded(record(255)));
    play.on(Order::Query, reported("FAILED"));
    play.ends(StageOutcome::Failed(255));
}

#[test]
fn the_schedulers_cause_counts_more_than_the_scripts_code() {
    let slurm = slurm();
    for (state, end) in [
        ("OUT_OF_MEMORY", End::OutOfMemory),
        ("TIMEOUT", End::TimedOut),
        ("NODE_FAIL", End::NodeFail),
        ("PREEMPTED", End::Preempted),
        ("CANCELLED", End::Cancelled),
    ] {
        for code in [0, 137] {
            let mut play = Play::begun(&slurm);
            play.event(Event::Recorded(record(code)));
            play.on(Order::Query, reported(state));
            play.on(Order::Accounting, CommandResult::Disabled);
            play.on(Order::Detail, reported(state));
            if (end, code) == (End::Cancelled, 0) {
                play.ends(StageOutcome::Contradiction(row(state)));
            } else {
                play.ends(StageOutcome::Killed(end, row(state)));
            }
        }
    }
}

#[test]
fn an_unknown_state_and_a_scheduler_that_does_not_answer_are_no_end() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Recorded(record(0)));
    for n in 0..40 {
        play.on(Order::Query, if n % 2 == 0 { silent() } else { reported("POWERING_DOWN") });
    }
    assert_eq!(play.machine.outcome(), None);
    play.on(Order::Query, reported("COMPLETED"));
    play.ends(StageOutcome::Success);
}

#[test]
fn a_long_silence_is_reported_to_the_user() {
    let slurm = slurm();
    let mut play = Play::submitted(&slurm, LIMITS, "PENDING");
    while play.now < Duration::from_secs(300) {
        play.on(Order::Query, silent());
    }
    let reports = play.notices.iter().filter(|notice| matches!(notice, Notice::Silence(_, _))).count();
    assert_eq!(reports, 1);
}

/// A scheduler whose queue does not list ended jobs, and whose commands take ids.
fn forgetful() -> Description {
    let mut description = slurm();
    description.forgets = true;
    description.cancel.command = vec!["qdel".to_owned(), "{id}".to_owned()];
    description
}

#[test]
fn a_rejected_submission_ends_the_stage_with_the_schedulers_words() {
    let slurm = slurm();
    let mut play = Play::new(&slurm, LIMITS, false, None);
    play.on(Order::Submit, CommandResult::Rejected("Invalid partition name specified".to_owned()));
    play.ends(StageOutcome::Rejected("Invalid partition name specified".to_owned()));
}

#[test]
fn a_second_start_that_the_agent_refused_is_no_success_and_no_failure_of_the_script() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Refused(Refused { id: "7".to_owned(), host: "n2".to_owned() }));
    play.on(Order::Query, reported("FAILED"));
    play.on(Order::Accounting, CommandResult::Disabled);
    play.on(Order::Detail, reported("FAILED"));
    play.ends(StageOutcome::StartedTwice("n2".to_owned()));
}

#[test]
fn a_job_that_is_put_back_into_the_queue_after_it_began_is_cancelled_after_a_second_look() {
    let slurm = slurm();
    for recorded in [None, Some(143)] {
        let mut play = Play::begun(&slurm);
        if let Some(code) = recorded {
            play.event(Event::Recorded(record(code)));
        }
        play.on(Order::Query, reported("PENDING"));
        play.on(Order::Query, reported("PENDING"));
        play.on(Order::Cancel, CommandResult::Done);
        play.on(Order::Query, reported("CANCELLED"));
        play.ends(StageOutcome::Cancelled(CancelReason::Requeued));
    }

    let mut play = Play::begun(&slurm);
    play.on(Order::Query, reported("PENDING"));
    play.on(Order::Query, reported("RUNNING"));
    play.on(Order::Query, reported("RUNNING"));
}

#[test]
fn output_that_is_here_is_passed_on_however_long_that_takes() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::Flowing));
    play.on(Order::Query, reported("COMPLETED"));
    for _ in 0..100 {
        play.now += Duration::from_secs(10);
        play.event(Event::Output(Output::Flowing));
        assert_eq!(play.machine.next(play.now), None);
        assert_eq!(play.machine.outcome(), None);
    }
    play.event(Event::Output(Output::All));
    play.ends(StageOutcome::Success);
}

#[test]
fn output_that_never_appears_is_no_success() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::Missing));
    play.on(Order::Query, reported("COMPLETED"));
    play.ends(StageOutcome::OutputMissing);
}
