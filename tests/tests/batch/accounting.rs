//! What only a Slurm with accounting knows.

use nunbird_handover::BatchEnd;
use nunbird_tests::require_root;
use nunbird_tests::scheduler::{Slurm, Stage};

/// One test, because MariaDB takes its time to start.
#[test]
fn accounting_tells_who_cancelled_and_that_an_account_is_none() {
    if !require_root() {
        return;
    }
    let slurm = Slurm::with_accounting();
    let job = slurm.job("nbt_ann").arguments("-A nonesuch");
    job.run("true").failed(1, "Invalid account");

    let (waiting, running) = (slurm.job("nbt_bea").arguments("-A science --hold"), slurm.job("nbt_bea"));
    let stages = [waiting.start("true"), running.start("touch \"$HOME/runs\"; sleep 60")];
    let ids = [waiting.wait_for_state("PENDING"), running.wait_for_state("RUNNING")];
    running.wait_for_file("runs");
    slurm.admin(&format!("scancel {}", ids[0]));
    slurm.as_user("nbt_bea", &format!("scancel {}", ids[1]));
    let [waiting, running] = stages.map(Stage::finish);
    waiting.failed(1, "cancelled by root (uid 0), not by this CI job");
    let summary = waiting.summary.as_ref().expect("a summary");
    assert_eq!((summary.end, summary.queued_s, summary.ran_s), (BatchEnd::CancelledByOthers, None, None));
    running.failed(143, "cancelled by nbt_bea (uid 41102), not by this CI job");
}
