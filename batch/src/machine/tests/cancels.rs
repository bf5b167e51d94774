//! The machine with requests to cancel, and jobs that will not start.

use super::super::{CommandResult, Event, Limits, Order, Row};
use super::{LIMITS, Play, record, reported, row, silent, waits};
use crate::description::{named, slurm};
use crate::outcome::{CancelReason, RunnerStatus, StageOutcome};
use crate::record::Began;
use crate::state::End;
use std::time::Duration;

#[test]
fn a_running_job_gets_a_signal_then_time_then_the_cancel_then_the_kill() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    let asked = play.now;
    play.event(Event::Cancel(false));
    let mut steps = Vec::new();
    for _ in 0..500 {
        let Some(order) = play.order() else { break };
        let result = if order == Order::Query {
            reported("RUNNING")
        } else {
            steps.push((order, (play.now - asked).as_secs()));
            CommandResult::Done
        };
        play.event(Event::CommandResult(order, result));
    }
    assert_eq!(steps, [(Order::Signal, 0), (Order::Cancel, 20), (Order::Kill, 60)]);
    assert_eq!(
        play.machine.outcome(),
        Some(&StageOutcome::NotCancelled(CancelReason::Requested, Some("RUNNING".to_owned())))
    );
    assert!(play.now - asked < Duration::from_secs(300), "the runner's patience");
}

#[test]
fn a_waiting_job_is_cancelled_at_once_and_its_end_is_seen() {
    let slurm = slurm();
    let mut play = Play::submitted(&slurm, LIMITS, "PENDING");
    play.event(Event::Cancel(false));
    play.on(Order::Cancel, CommandResult::Done);
    play.on(Order::Query, reported("PENDING"));
    play.on(Order::Query, reported("CANCELLED"));
    play.ends(StageOutcome::Cancelled(CancelReason::Requested));
}

#[test]
fn a_job_that_began_since_the_last_look_is_signalled_first() {
    let slurm = slurm();
    let mut play = Play::submitted(&slurm, LIMITS, "PENDING");
    play.event(Event::Began(Began { id: "7".to_owned(), host: "n1".to_owned(), time: 1 }));
    play.event(Event::Cancel(false));
    play.on(Order::Signal, CommandResult::Done);
}

#[test]
fn a_second_request_takes_the_grace_away() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Cancel(false));
    play.on(Order::Signal, CommandResult::Done);
    play.event(Event::Cancel(true));
    play.on(Order::Cancel, CommandResult::Done);
    let cancelled = play.now;
    while play.order() != Some(Order::Kill) {
        play.event(Event::CommandResult(Order::Query, reported("COMPLETING")));
    }
    assert!(play.now <= cancelled + Duration::from_secs(6));
}

#[test]
fn a_cancel_before_the_submission_submits_nothing_and_one_during_it_cancels_what_came_of_it() {
    let slurm = slurm();
    let mut play = Play::new(&slurm, LIMITS, false, None);
    play.event(Event::Cancel(false));
    play.ends(StageOutcome::Cancelled(CancelReason::Requested));
    assert!(play.orders.is_empty());

    let mut play = Play::new(&slurm, LIMITS, false, None);
    assert_eq!(play.order(), Some(Order::Submit));
    play.event(Event::Cancel(false));
    assert_eq!(play.machine.outcome(), None);
    play.event(Event::CommandResult(Order::Submit, CommandResult::Id("7".to_owned())));
    play.on(Order::Cancel, CommandResult::Done);

    let mut play = Play::new(&slurm, LIMITS, false, None);
    assert_eq!(play.order(), Some(Order::Submit));
    play.event(Event::Cancel(false));
    play.event(Event::CommandResult(Order::Submit, silent()));
    play.on(Order::Cancel, silent());
    while let Some(order) = play.order() {
        play.event(Event::CommandResult(
            order,
            if order == Order::Cancel { CommandResult::Done } else { CommandResult::Absent },
        ));
    }
    play.ends(StageOutcome::Cancelled(CancelReason::Requested));
    assert_eq!(play.counted(Order::Submit), 1);
    assert!(play.counted(Order::Find) >= 2, "one look may come before the submission");
}

#[test]
fn success_after_a_cancel_is_never_success() {
    let slurm = slurm();
    let mut play = Play::begun(&slurm);
    play.event(Event::Cancel(false));
    play.event(Event::Recorded(record(0)));
    play.on(Order::Signal, CommandResult::Done);
    play.on(Order::Query, reported("COMPLETED"));
    play.ends(StageOutcome::Cancelled(CancelReason::Requested));
}

#[test]
fn a_job_that_can_never_start_is_cancelled_after_a_second_look() {
    let slurm = slurm();
    let mut play = Play::submitted(&slurm, LIMITS, "PENDING");
    play.on(Order::Query, waits("PartitionTimeLimit"));
    play.on(Order::Query, waits("PartitionTimeLimit"));
    play.on(Order::Cancel, CommandResult::Done);
    play.on(Order::Query, reported("CANCELLED"));
    play.ends(StageOutcome::Cancelled(CancelReason::Never("PartitionTimeLimit".to_owned())));

    let mut play = Play::submitted(&slurm, LIMITS, "PENDING");
    play.on(Order::Query, waits("PartitionTimeLimit"));
    play.on(Order::Query, waits("Priority"));
    play.on(Order::Query, waits("JobHeldUser"));
}

#[test]
fn a_job_that_cannot_start_in_time_is_cancelled_before_gitlab_ends_the_ci_job() {
    let slurm = slurm();
    let limits = Limits { deadline: Some(Duration::from_secs(600)), ..LIMITS };
    let mut play = Play::submitted(&slurm, limits, "PENDING");
    while play.order() == Some(Order::Query) {
        play.event(Event::CommandResult(Order::Query, waits("Resources")));
    }
    assert_eq!(play.orders.last(), Some(&Order::Cancel));
    assert!((540..545).contains(&play.now.as_secs()), "{:?}", play.now);
    play.event(Event::CommandResult(Order::Cancel, CommandResult::Done));
    play.on(Order::Query, reported("CANCELLED"));
    play.ends(StageOutcome::Cancelled(CancelReason::TooLate));
}

#[test]
fn a_job_whose_id_is_not_known_is_found_before_a_cancel_that_takes_ids() {
    let forgetful = super::forgetful();
    let mut play = Play::new(&forgetful, LIMITS, true, None);
    play.event(Event::Cancel(true));
    play.on(Order::Find, reported("PENDING"));
    play.on(Order::Cancel, CommandResult::Done);
}

#[test]
fn a_job_that_is_listed_without_its_id_is_found_by_its_tag() {
    let forgetful = super::forgetful();
    let mut play = Play::new(&forgetful, LIMITS, true, None);
    play.event(Event::Cancel(true));
    play.event(Event::Began(Began { id: String::new(), host: "n1".to_owned(), time: 1 }));
    play.on(Order::Find, reported("RUNNING"));
    assert!(play.order().is_some_and(|order| matches!(order, Order::Signal | Order::Cancel)));
}

#[test]
fn an_accounting_that_lags_behind_is_asked_again_for_who_cancelled_but_not_for_ever() {
    let slurm = slurm();
    let by = Row { by: "0".to_owned(), ..row("CANCELLED") };
    let mut play = Play::submitted(&slurm, LIMITS, "PENDING");
    play.on(Order::Query, reported("CANCELLED"));
    play.on(Order::Accounting, CommandResult::Absent);
    play.on(Order::Accounting, reported("PENDING"));
    play.on(Order::Accounting, CommandResult::Row(by.clone()));
    play.ends(StageOutcome::Killed(End::Cancelled, by));

    let mut play = Play::submitted(&slurm, LIMITS, "PENDING");
    play.on(Order::Query, reported("CANCELLED"));
    let begun = play.now;
    while play.order() == Some(Order::Accounting) {
        play.event(Event::CommandResult(Order::Accounting, CommandResult::Absent));
    }
    assert_eq!(play.orders.last(), Some(&Order::Detail));
    play.event(Event::CommandResult(Order::Detail, CommandResult::Absent));
    play.ends(StageOutcome::Killed(End::Cancelled, row("CANCELLED")));
    assert!(play.now <= begun + Duration::from_secs(10), "{:?}", play.now);
}

/// A cancel by name that finds nothing fails, as with many schedulers. Whatever the jitter, a query
/// comes between two cancels.
#[test]
fn a_cancel_that_finds_nothing_to_cancel_keeps_nobody_from_asking() {
    let slurm = slurm();
    for seed in 0..200 {
        let mut play = Play::new(&slurm, Limits { seed, ..LIMITS }, true, None);
        play.event(Event::Cancel(true));
        while let Some(order) = play.order() {
            let result = if order == Order::Find { CommandResult::Absent } else { silent() };
            play.event(Event::CommandResult(order, result));
        }
        assert_eq!(play.machine.outcome(), Some(&StageOutcome::Cancelled(CancelReason::Requested)), "{seed}");
        assert!(play.now.as_secs() < 15, "{seed}: {:?}", play.now);
    }
}

#[test]
fn a_job_that_the_scheduler_gave_up_for_what_it_asks_is_reported_at_once() {
    let flux = named("flux");
    let mut play = Play::new(&flux, LIMITS, false, None);
    play.on(Order::Submit, CommandResult::Id("f7".to_owned()));
    let given_up = Row { reason: "unsatisfiable request".to_owned(), ..row("UNSATISFIABLE") };
    play.on(Order::Query, CommandResult::Row(given_up.clone()));
    let heard = play.now;
    play.ends(StageOutcome::Infeasible(given_up.clone()));
    assert_eq!(play.now, heard, "nothing is waited for");
    let ending = StageOutcome::Infeasible(given_up).ending(None, "Flux");
    assert_eq!((ending.verdict, ending.code, ending.over), (RunnerStatus::BuildFailure, 1, true));
}
