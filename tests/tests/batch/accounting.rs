//! Information that only a Slurm with accounting has.

use nunbird_handover::BatchEnd;
use nunbird_tests::needs;
use nunbird_tests::scheduler::{Slurm, Stage};
use std::time::{SystemTime, UNIX_EPOCH};

/// One test, because MariaDB takes long to start.
#[needs(root)]
fn accounting_shows_who_cancelled_and_that_an_account_is_none() {
    let slurm = Slurm::with_accounting();
    let job = slurm.job("nbt_ann").arguments("-A nonesuch");
    job.run("true").failed(1, "Invalid account");

    // A time limit that the user did not set is no reason to refuse the job.
    let made = slurm.admin(
        "sacctmgr -iQ add qos short set MaxWall=2 && sacctmgr -iQ modify user nbt_ann set qos+=short && echo made",
    );
    assert!(made.contains("made"), "{made}");
    let mut job = slurm.job("nbt_ann").arguments("-A science --qos=short");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    job.batch().deadline = Some(now + 3600);
    let ended = job.run("scontrol -o show job $SLURM_JOB_ID | grep -o 'TimeLimit=[^ ]*'");
    ended.succeeded();
    assert_eq!(ended.text(), "TimeLimit=00:02:00\n");
    assert!(ended.err.contains("which Nunbird chose (QOSMaxWallDurationPerJobLimit)"), "{}", ended.err);
    assert_eq!(job.submitted(), 2);
    let job = slurm.job("nbt_ann").arguments("-A science --qos=short --time=10");
    job.run("true").failed(1, "can never start the job (QOSMaxWallDurationPerJobLimit)");
    assert_eq!(job.submitted(), 1);

    limits_of_submitted_jobs_pass_by_themselves(&slurm);

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

fn limits_of_submitted_jobs_pass_by_themselves(slurm: &Slurm) {
    let made = slurm.admin("sacctmgr -iQ modify user nbt_cyn set MaxSubmitJobs=1 && echo made");
    assert!(made.contains("made"), "{made}");
    let (first, mut second, third) = (slurm.job("nbt_cyn"), slurm.job("nbt_cyn"), slurm.job("nbt_cyn"));
    second.batch().poll_interval = 2;
    let waits = "until [ -e \"$HOME/all\" ]; do sleep 0.1; done";
    let running = first.start(waits);
    first.wait_for_state("RUNNING");
    let [mut waiting, cancelled] = [second.start("echo ran"), third.start("true")];
    for stage in [&waiting, &cancelled] {
        stage.wait_for_word("waiting to submit: Slurm accepts no more of your jobs for now (sbatch: error: AssocMaxSubmitJobLimit");
    }
    // Slurm has no job of it that would have to be cancelled.
    cancelled.signal(nix::sys::signal::Signal::SIGTERM);
    cancelled.finish().failed(1, "cancelled");
    assert!(!waiting.has_ended());
    first.write_home("all");
    running.finish().succeeded();
    let ended = waiting.finish();
    assert_eq!(ended.succeeded().text(), "ran\n");
    assert_eq!(ended.err.matches("waiting to submit").count(), 1, "{}", ended.err);
    slurm.admin("sacctmgr -iQ modify user nbt_cyn set MaxSubmitJobs=-1");
}
