//! Requests to cancel, and what a cleanup finds.

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nunbird_tests::needs;
use nunbird_tests::scheduler::{Slurm, Stop};
use std::fs::{self, File};

#[needs(root)]
fn a_cancelled_script_gets_term_and_time_and_its_code_is_reported() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann");
    let stage =
        job.start("trap 'echo tidy; exit 9' TERM; touch \"$HOME/trapped\"; while :; do sleep 0.1; done");
    job.wait_for_file("trapped");
    stage.signal(Signal::SIGTERM);
    let ended = stage.finish();
    assert_eq!(ended.text(), "tidy\n");
    ended.failed(9, "cancelled");
    assert_eq!(job.state().as_deref(), Some("FAILED"), "it ended by itself");
}

#[needs(root)]
fn the_users_signal_comes_instead_of_term() {
    let slurm = Slurm::shared();
    let mut job = slurm.job("nbt_ann");
    job.batch().cancel_signal = Some("SIGUSR1".to_owned());
    let stage = job.start("trap 'echo usr1; exit 8' USR1; touch \"$HOME/usr1\"; while :; do sleep 0.1; done");
    job.wait_for_file("usr1");
    stage.signal(Signal::SIGTERM);
    let ended = stage.finish();
    assert_eq!(ended.text(), "usr1\n");
    ended.failed(8, "cancelled");
}

#[needs(root)]
fn a_script_that_ignores_every_signal_is_gone_when_the_launcher_ends() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_bea");
    let stage = job.start("trap '' TERM; echo $$ >\"$HOME/deaf\"; while :; do sleep 1; done");
    job.wait_for_file("deaf");
    stage.signal(Signal::SIGTERM);
    stage.finish().failed(1, "cancelled");
    assert_eq!(job.state().as_deref(), Some("CANCELLED"));
    let pid = std::fs::read_to_string(job.home().join("deaf")).expect("a pid");
    slurm.wait_for("the script's end", || !std::path::Path::new("/proc").join(pid.trim()).exists());
}

#[needs(root)]
fn a_waiting_job_leaves_the_queue() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_cyn").arguments("--hold");
    let stage = job.start("true");
    job.wait_for_state("PENDING");
    stage.signal(Signal::SIGTERM);
    stage.finish().failed(1, "cancelled");
    assert_eq!(job.state().as_deref(), Some("CANCELLED"));
}

#[needs(root)]
fn a_cleanup_cancels_what_a_killed_launcher_left_and_removes_its_files() {
    let slurm = Slurm::shared();
    for (arguments, state) in [("--hold", "PENDING"), ("", "RUNNING")] {
        let job = slurm.job("nbt_ann").arguments(arguments);
        let stage = job.start("touch \"$HOME/left_alone\"; exec sleep 100");
        let id = job.wait_for_state(state);
        if state == "RUNNING" {
            // A job whose agent has not begun yet fails when its files are removed.
            job.wait_for_file("left_alone");
        }
        drop(stage.kill());
        job.cleanup().succeeded();
        let left = slurm.admin(&format!("squeue -h -a -t all -j {id} -o %T"));
        assert_eq!(left.trim(), "CANCELLED", "{state}: {:#?}", job.calls());
        assert!(!job.stage_directory().parent().expect("a parent").exists());
        // A second cleanup, and one of a job that never existed, have nothing to do.
        job.cleanup().succeeded();
    }
}

#[needs(root)]
fn a_cleanup_finds_a_job_whose_id_nobody_wrote_down() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann").arguments("--hold");
    let stage = job.start("true");
    let id = job.wait_for_state("PENDING");
    drop(stage.kill());
    std::fs::remove_file(job.stage_directory().join("job")).expect("forgotten");
    job.cleanup().succeeded();
    assert_eq!(slurm.admin(&format!("squeue -h -a -t all -j {id} -o %T")).trim(), "CANCELLED");
}

#[needs(root)]
fn a_request_to_cancel_during_the_submission_leaves_no_job() {
    let slurm = Slurm::shared();
    for stop in [Stop::Before, Stop::After] {
        let job = slurm.job("nbt_cyn");
        job.stop_submissions(stop);
        let stage = job.start("sleep 100");
        job.wait_for_stop();
        stage.signal(Signal::SIGTERM);
        stage.wait_for_word("cancelled: ending the scheduler's job");
        job.let_go();
        let ended = stage.finish();
        assert_eq!(ended.status, Some(110), "{stop:?}: {}", ended.err);
        assert!(ended.err.contains("cancelled at the request of gitlab-runner"), "{stop:?}: {}", ended.err);
        assert_eq!(job.left(), 0, "{stop:?}");
    }
}

#[needs(root)]
fn a_suspended_job_is_waited_for_and_can_be_cancelled() {
    let slurm = Slurm::shared();
    let (waited, cancelled) = (slurm.job("nbt_bea"), slurm.job("nbt_bea"));
    let script =
        "touch \"$HOME/s$NUNBIRD_JOB_ID\"; until [ -e \"$HOME/resumed\" ]; do sleep 0.1; done; echo resumed";
    let stages = [waited.start(script), cancelled.start(script)];
    for job in [&waited, &cancelled] {
        job.wait_for_file(&format!("s{}", job.handover.job_id));
        let id = job.wait_for_state("RUNNING");
        slurm.admin(&format!("scontrol suspend {id}"));
        job.wait_for_state("SUSPENDED");
    }
    let [one, other] = stages;
    other.signal(Signal::SIGTERM);
    other.finish().failed(1, "cancelled at the request of gitlab-runner");
    assert_eq!(cancelled.left(), 0);
    std::fs::write(waited.home().join("resumed"), "").expect("a file");
    slurm.admin(&format!("scontrol resume {}", waited.id().expect("an id")));
    assert_eq!(one.finish().succeeded().text(), "resumed\n");
}

#[needs(root)]
fn a_launcher_that_is_stopped_while_it_asks_for_all_does_not_keep_the_others_from_ending_their_jobs() {
    let slurm = Slurm::start();
    let job = slurm.job("nbt_ann");
    job.run("true").succeeded();
    // In place of that launcher: its lock is held, and no result comes.
    let shared = fs::read_dir(job.home().join(".nunbird/batch")).expect("a directory");
    let lock =
        shared.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "lock"));
    let lock = File::open(lock.expect("a lock")).expect("a file");
    let _held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).expect("held");
    let job = slurm.job("nbt_ann");
    let stage = job.start("touch \"$HOME/alone\"; sleep 100");
    job.wait_for_file("alone");
    stage.signal(Signal::SIGTERM);
    stage.finish().failed(143, "cancelled at the request of gitlab-runner");
    assert_eq!(job.left(), 0);
}
