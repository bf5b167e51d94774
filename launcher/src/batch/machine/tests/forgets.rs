//! The machine, played with a scheduler that keeps nothing about ended jobs.

use super::super::{Answer, Event, Output};
use super::{Play, record};
use crate::batch::description::named;
use crate::batch::machine::Order;
use crate::batch::outcome::{Outcome, Why};

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
    play.on(Order::Query, super::says("E"));
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
