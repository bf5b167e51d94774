//! The machine with submissions whose result is unknown, and jobs that must be looked up.

use super::super::{CommandResult, Event, Limits, Notice, Order, Output};
use super::{LIMITS, Play, record, reported, silent};
use crate::description::slurm;
use crate::outcome::{CancelReason, RunnerStatus, StageOutcome};
use crate::record::Began;
use std::time::Duration;

#[test]
fn an_unclear_submission_is_looked_for_by_its_tag_and_never_repeated_while_it_may_be_there() {
    let slurm = slurm();
    let mut play = Play::new(&slurm, LIMITS, false, None);
    play.on(Order::Submit, silent());
    play.on(Order::Find, silent());
    play.on(Order::Find, CommandResult::Absent);
    play.on(Order::Find, reported("PENDING"));
    play.on(Order::Query, reported("PENDING"));
    assert_eq!((play.counted(Order::Submit), play.machine.id.as_deref()), (1, Some("7")));

    let mut play = Play::new(&slurm, LIMITS, false, None);
    play.on(Order::Submit, silent());
    play.on(Order::Find, CommandResult::Absent);
    let first = play.now;
    play.on(Order::Find, CommandResult::Absent);
    assert!(play.now >= first + Duration::from_secs(5), "one look may come before the submission");
    play.on(Order::Submit, CommandResult::Id("8".to_owned()));
}

#[test]
fn a_launcher_that_comes_after_one_that_was_killed_looks_before_it_submits() {
    let slurm = slurm();
    let mut play = Play::new(&slurm, LIMITS, true, None);
    play.on(Order::Find, reported("RUNNING"));
    assert_eq!(play.machine.id.as_deref(), Some("7"));

    let mut play = Play::new(&slurm, LIMITS, true, None);
    play.on(Order::Find, CommandResult::Absent);
    play.on(Order::Find, CommandResult::Absent);
    play.on(Order::Submit, CommandResult::Id("9".to_owned()));

    let mut play = Play::new(&slurm, LIMITS, true, Some("7"));
    play.on(Order::Query, reported("RUNNING"));
}

#[test]
fn the_job_that_runs_is_ours_whatever_id_the_submission_gave() {
    let slurm = slurm();
    let mut play = Play::new(&slurm, LIMITS, false, None);
    play.on(Order::Submit, CommandResult::Id("9".to_owned()));
    play.event(Event::Began(Began { id: "7".to_owned(), host: "n1".to_owned(), time: 1 }));
    assert_eq!(play.machine.id.as_deref(), Some("7"));
}

#[test]
fn a_job_that_vanished_is_looked_up_everywhere_and_then_lost_whatever_its_record_says() {
    let slurm = slurm();
    for code in [None, Some(0)] {
        let mut play = Play::begun(&slurm);
        if let Some(code) = code {
            play.event(Event::Recorded(record(code)));
            play.event(Event::Output(Output::All));
        }
        play.on(Order::Query, CommandResult::Absent);
        play.on(Order::Find, CommandResult::Absent);
        play.on(Order::Accounting, CommandResult::Absent);
        while play.order().is_some() {
            play.event(Event::CommandResult(Order::Query, CommandResult::Absent));
        }
        assert_eq!(play.machine.outcome(), Some(&StageOutcome::Lost(code)));
    }
}

#[test]
fn a_job_that_the_accounting_remembers_is_not_lost() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Recorded(record(0)));
    play.on(Order::Query, CommandResult::Absent);
    play.on(Order::Find, CommandResult::Absent);
    play.on(Order::Accounting, reported("COMPLETED"));
    play.ends(StageOutcome::Success);
}

#[test]
fn a_script_that_failed_in_a_job_that_vanished_has_failed() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Recorded(record(3)));
    play.on(Order::Query, CommandResult::Absent);
    play.on(Order::Find, CommandResult::Absent);
    play.on(Order::Accounting, CommandResult::Disabled);
    play.on(Order::Query, CommandResult::Absent);
    play.ends(StageOutcome::Failed(3));
}

#[test]
fn a_job_that_is_one_too_many_is_submitted_again_with_growing_pauses_until_its_time_is_up() {
    let slurm = slurm();
    let later = || CommandResult::Later("AssocMaxSubmitJobLimit".to_owned());
    let limits = Limits { deadline: Some(Duration::from_secs(3600)), ..LIMITS };
    let mut play = Play::new(&slurm, limits, false, None);
    for _ in 0..5 {
        play.on(Order::Submit, later());
    }
    let output = |play: &Play<'_>| play.notices.iter().filter(|n| matches!(n, Notice::Later(_))).count();
    assert_eq!(output(&play), 1);
    play.on(Order::Submit, CommandResult::Id("7".to_owned()));

    let mut play = Play::new(&slurm, limits, false, None);
    while let Some(order) = play.order() {
        play.event(Event::CommandResult(order, later()));
    }
    assert_eq!(play.machine.outcome(), Some(&StageOutcome::Cancelled(CancelReason::TooLate)));
    assert!((3540..3610).contains(&play.now.as_secs()), "{:?}", play.now);
    assert!(output(&play) == 1 && play.counted(Order::Submit) < 80, "{}", play.counted(Order::Submit));

    let mut play = Play::new(&slurm, limits, false, None);
    play.on(Order::Submit, later());
    play.event(Event::Cancel(false));
    play.ends(StageOutcome::Cancelled(CancelReason::Requested));
}

#[test]
fn a_submission_that_fails_by_the_schedulers_own_fault_is_repeated_and_then_the_systems_failure() {
    let slurm = slurm();
    let fault = || CommandResult::Faulty("I/O error writing script/environment to file".to_owned());
    let mut play = Play::new(&slurm, LIMITS, false, None);
    play.on(Order::Submit, fault());
    play.on(Order::Submit, fault());
    play.on(Order::Submit, CommandResult::Id("7".to_owned()));

    let mut play = Play::new(&slurm, LIMITS, false, None);
    while let Some(order) = play.order() {
        play.event(Event::CommandResult(order, fault()));
    }
    assert!(play.now.as_secs() < 120, "{:?}", play.now);
    let ending = play.machine.outcome().expect("an end").ending(None, "Slurm");
    assert_eq!(ending.verdict, RunnerStatus::SystemFailure);
    assert!(ending.text.contains("Slurm cannot accept jobs at present: I/O error"), "{}", ending.text);
}
