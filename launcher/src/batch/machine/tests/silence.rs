//! A scheduler that answers some commands and not others.

use super::{Answer, LIMITS, Notice, Order, Play, silent};
use crate::batch::description::slurm;

/// A queue that answers says nothing of why nothing can be submitted.
#[test]
fn a_submission_that_fails_again_and_again_is_told_though_the_queue_answers() {
    let slurm = slurm();
    let mut play = Play::new(&slurm, LIMITS, false, None);
    while play.now.as_secs() < 300 {
        play.on(Order::Submit, silent());
        play.on(Order::Find, Answer::Absent);
        play.on(Order::Find, Answer::Absent);
    }
    let told =
        |notice: &Notice| matches!(notice, Notice::Silence(_, text) if text.contains("Unable to contact"));
    assert_eq!(play.notices.iter().filter(|notice| told(notice)).count(), 1, "{:?}", play.notices);
    // And ever more seldom tried.
    assert!(play.counted(Order::Submit) < 20, "{}", play.counted(Order::Submit));
    play.on(Order::Submit, Answer::Id("7".to_owned()));
}
