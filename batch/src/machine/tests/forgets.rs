//! The machine, played with a scheduler that keeps nothing about ended jobs.

use super::super::{Answer, Event, Output};
use super::{LIMITS, Play, record, says};
use crate::description::named;
use crate::news::Notice;
use crate::news::Order;
use crate::outcome::{Outcome, Why};

/// Everything that PBS without history says of a job that is gone.
fn vanish(play: &mut Play<'_>) {
    play.on(Order::Query, Answer::Absent);
    play.on(Order::Find, Answer::Absent);
}

#[test]
fn a_job_that_is_gone_with_a_record_and_all_its_output_has_ended() {
    let pbs = named("pbs");
    let mut play = Play::begun(&pbs);
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::All));
    play.on(Order::Query, Answer::Absent);
    play.ends(Outcome::Success);
}

#[test]
fn a_job_that_is_gone_without_a_record_is_lost_and_without_its_output_no_success() {
    let pbs = named("pbs");
    let mut play = Play::begun(&pbs);
    vanish(&mut play);
    while play.order().is_some() {
        play.event(Event::Answer(Order::Query, Answer::Absent));
    }
    assert_eq!(play.machine.outcome(), Some(&Outcome::Lost(None)));
    let mut play = Play::begun(&pbs);
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::Missing));
    play.on(Order::Query, Answer::Absent);
    play.ends(Outcome::OutputMissing);
}

#[test]
fn a_job_that_the_queue_still_has_has_not_ended_whatever_its_record_says() {
    let pbs = named("pbs");
    let mut play = Play::begun(&pbs);
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::All));
    play.on(Order::Query, says("E"));
    assert_eq!(play.machine.outcome(), None);
}

#[test]
fn a_cancelled_job_that_is_gone_is_cancelled_and_its_files_can_go() {
    let pbs = named("pbs");
    let mut play = Play::begun(&pbs);
    play.event(Event::Cancel(false));
    play.on(Order::Signal, Answer::Done);
    vanish(&mut play);
    while play.order().is_some() {
        play.event(Event::Answer(Order::Query, Answer::Absent));
    }
    assert_eq!(play.machine.outcome(), Some(&Outcome::Cancelled(Why::Asked)));
}

#[test]
fn a_job_that_was_moved_to_another_server_is_neither_put_back_nor_gone() {
    let pbs = named("pbs");
    let mut waiting = Play::submitted(&pbs, LIMITS, "M");
    assert!(matches!(waiting.notices.last(), Some(Notice::Waits(row)) if row.state == "M"));
    waiting.on(Order::Query, says("M"));

    let mut play = Play::begun(&pbs);
    for _ in 0..20 {
        play.on(Order::Query, says("M"));
    }
    assert_eq!((play.counted(Order::Cancel), play.machine.outcome()), (0, None));
    // Its own record is then all that tells how it ended.
    play.event(Event::Recorded(record(0)));
    play.event(Event::Output(Output::All));
    play.on(Order::Query, says("M"));
    play.ends(Outcome::Success);

    let mut play = Play::begun(&pbs);
    play.event(Event::Cancel(false));
    play.on(Order::Signal, Answer::Done);
    play.on(Order::Query, says("M"));
    play.event(Event::Recorded(record(143)));
    play.on(Order::Query, says("M"));
    play.ends(Outcome::Cancelled(Why::Asked));
}
