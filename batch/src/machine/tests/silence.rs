//! A scheduler that responds to some commands and not to others.

use super::{CommandResult, Event, LIMITS, Notice, Order, Play, silent, waits};
use crate::description::slurm;
use crate::outcome::StageOutcome;

/// A queue that responds does not explain why nothing can be submitted.
#[test]
fn a_submission_that_fails_repeatedly_is_reported_although_the_queue_answers() {
    let slurm = slurm();
    let mut play = Play::new(&slurm, LIMITS, false, None);
    while play.now.as_secs() < 300 {
        play.on(Order::Submit, silent());
        play.on(Order::Find, CommandResult::Absent);
        play.on(Order::Find, CommandResult::Absent);
    }
    let reports =
        |notice: &Notice| matches!(notice, Notice::Silence(_, text) if text.contains("Unable to contact"));
    assert_eq!(play.notices.iter().filter(|notice| reports(notice)).count(), 1, "{:?}", play.notices);
    // Attempts become rarer, too.
    assert!(play.counted(Order::Submit) < 20, "{}", play.counted(Order::Submit));
    play.on(Order::Submit, CommandResult::Id("7".to_owned()));
}

/// A cancel may have no effect; then the scheduler is not queried as fast as it responds.
#[test]
fn a_job_that_stays_in_the_queue_after_its_cancel_is_asked_about_ever_more_seldom() {
    let slurm = slurm();
    let mut requeued = Play::begun(&slurm);
    let mut never = Play::submitted(&slurm, LIMITS, "PENDING");
    for play in [&mut requeued, &mut never] {
        while let Some(order) = play.order() {
            let result = if order == Order::Query { waits("BadConstraints") } else { CommandResult::Done };
            play.event(Event::CommandResult(order, result));
        }
        let still = Some("PENDING".to_owned());
        assert!(
            matches!(play.machine.outcome(), Some(StageOutcome::NotCancelled(_, output)) if *output == still)
        );
        assert!(
            play.now.as_secs() > 180 && play.counted(Order::Query) < 40,
            "{}",
            play.counted(Order::Query)
        );
    }
    let words = requeued.machine.outcome().expect("an end").ending(None, "Slurm").text;
    assert!(words.contains("Slurm still reports PENDING"), "{words}");
}
