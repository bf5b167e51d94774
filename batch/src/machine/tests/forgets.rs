//! The machine with a scheduler that keeps nothing about ended jobs.

use super::super::{CommandResult, Event, Output};
use super::{LIMITS, Play, record, reported};
use crate::description::named;
use crate::messages::Notice;
use crate::messages::Order;
use crate::outcome::{CancelReason, StageOutcome};

/// All output of PBS without history about a job that is gone.
fn vanish(play: &mut Play<'_>) {
    play.on(Order::Query, CommandResult::Absent);
    play.on(Order::Find, CommandResult::Absent);
}

#[test]
fn a_job_that_is_gone_with_a_record_and_all_its_output_has_ended() {
    let pbs = named("pbs");
    let mut play = Play::begun(&pbs);
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::All));
    play.on(Order::Query, CommandResult::Absent);
    play.ends(StageOutcome::Success);
}

#[test]
fn a_job_that_is_gone_without_a_record_is_lost_and_without_its_output_no_success() {
    let pbs = named("pbs");
    let mut play = Play::begun(&pbs);
    vanish(&mut play);
    while play.order().is_some() {
        play.event(Event::CommandResult(Order::Query, CommandResult::Absent));
    }
    assert_eq!(play.machine.outcome(), Some(&StageOutcome::Lost(None)));
    let mut play = Play::begun(&pbs);
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::Missing));
    play.on(Order::Query, CommandResult::Absent);
    play.ends(StageOutcome::OutputMissing);
}

#[test]
fn a_job_that_the_queue_still_has_has_not_ended_whatever_its_record_says() {
    let pbs = named("pbs");
    let mut play = Play::begun(&pbs);
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::All));
    play.on(Order::Query, reported("E"));
    assert_eq!(play.machine.outcome(), None);
}

#[test]
fn a_cancelled_job_that_is_gone_is_cancelled_and_its_files_can_go() {
    let pbs = named("pbs");
    let mut play = Play::begun(&pbs);
    play.event(Event::Cancel(false));
    play.on(Order::Signal, CommandResult::Done);
    vanish(&mut play);
    while play.order().is_some() {
        play.event(Event::CommandResult(Order::Query, CommandResult::Absent));
    }
    assert_eq!(play.machine.outcome(), Some(&StageOutcome::Cancelled(CancelReason::Requested)));
}

#[test]
fn a_job_that_was_moved_to_another_server_is_neither_put_back_nor_gone() {
    let pbs = named("pbs");
    let mut waiting = Play::submitted(&pbs, LIMITS, "M");
    assert!(matches!(waiting.notices.last(), Some(Notice::Waits(row)) if row.state == "M"));
    waiting.on(Order::Query, reported("M"));

    let mut play = Play::begun(&pbs);
    for _ in 0..20 {
        play.on(Order::Query, reported("M"));
    }
    assert_eq!((play.counted(Order::Cancel), play.machine.outcome()), (0, None));
    // Then only its own record shows how it ended.
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::All));
    play.on(Order::Query, reported("M"));
    play.ends(StageOutcome::Success);

    let mut play = Play::begun(&pbs);
    play.event(Event::Cancel(false));
    play.on(Order::Signal, CommandResult::Done);
    play.on(Order::Query, reported("M"));
    play.event(Event::Recorded(record(143)));
    play.on(Order::Query, reported("M"));
    play.ends(StageOutcome::Cancelled(CancelReason::Requested));
}
