//! Launchers and daemons that are killed and restarted.

use nix::sys::signal::Signal;
use nunbird_tests::needs;
use nunbird_tests::scheduler::Slurm;
use std::time::{Duration, Instant};

#[needs(root)]
fn a_second_run_follows_the_job_that_a_killed_launcher_submitted() {
    let slurm = Slurm::shared();
    let held = slurm.job("nbt_ann").arguments("--hold");
    let stage = held.start("echo ran");
    let id = held.wait_for_state("PENDING");
    drop(stage.kill());
    std::fs::remove_file(held.stage_directory().join("job")).expect("as if killed before it wrote it");
    let stage = held.start("echo another");
    held.wait_for_state("PENDING");
    slurm.as_user("nbt_ann", &format!("scontrol release {id}"));
    let ended = stage.finish();
    ended.succeeded();
    assert_eq!((ended.text().as_str(), held.id().as_deref()), ("ran\n", Some(id.as_str())));

    let running = slurm.job("nbt_ann");
    let script = "touch \"$HOME/began\"; until [ -e \"$HOME/continue\" ]; do sleep 0.1; done; exit 5";
    let stage = running.start(script);
    running.wait_for_file("began");
    drop(stage.kill());
    std::fs::write(running.home().join("continue"), "").expect("a file");
    running.run(script).failed(5, "exit code 5");
    let submissions = running.calls().iter().filter(|call| call.starts_with("sbatch")).count();
    assert_eq!(submissions, 1);
}

#[needs(root)]
fn a_job_that_ended_while_no_launcher_lived_is_reported_by_the_next() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_bea");
    let stage = job.start("touch \"$HOME/alone\"; sleep 1; echo late; exit 6");
    job.wait_for_file("alone");
    drop(stage.kill());
    slurm.wait_for("its end", || job.state().as_deref() == Some("FAILED"));
    let ended = job.run("");
    assert_eq!(ended.text(), "late\n");
    ended.failed(6, "exit code 6");
}

#[needs(root)]
fn a_controller_that_is_restarted_costs_no_job() {
    let slurm = Slurm::start();
    let (held, running) = (slurm.job("nbt_ann").arguments("--hold"), slurm.job("nbt_bea"));
    let stages = [
        held.start("echo ran"),
        running.start("touch \"$HOME/r\"; until [ -e \"$HOME/go\" ]; do sleep 0.1; done; echo went; exit 4"),
    ];
    let id = held.wait_for_state("PENDING");
    running.wait_for_file("r");
    slurm.stop("slurmctld", Signal::SIGTERM);
    // The script ends while the scheduler is unreachable.
    std::fs::write(running.home().join("go"), "").expect("a file");
    slurm.wait_for("the record", || running.stage_directory().join("record").exists());
    slurm.wait_for("a question in vain", || running.calls().len() > 1);
    slurm.start_controller();
    slurm.as_user("nbt_ann", &format!("scontrol release {id}"));
    let [held, running] = stages.map(nunbird_tests::scheduler::Stage::finish);
    held.succeeded();
    running.failed(4, "exit code 4");
    assert_eq!((held.text().as_str(), running.text().as_str()), ("ran\n", "went\n"));
}

#[needs(root)]
fn a_controller_that_is_away_when_a_stage_is_submitted_costs_time_and_one_job() {
    let slurm = Slurm::start();
    let job = slurm.job("nbt_ann");
    slurm.stop("slurmctld", Signal::SIGTERM);
    let stage = job.start("echo ran >>\"$HOME/ran\"");
    slurm.wait_for("a submission in vain", || job.calls().iter().any(|call| call.starts_with("squeue")));
    slurm.start_controller();
    stage.finish().succeeded();
    assert_eq!(std::fs::read_to_string(job.home().join("ran")).expect("a file"), "ran\n");
}

#[needs(root)]
fn a_controller_killed_right_after_a_submission_makes_no_success_and_no_second_run() {
    let slurm = Slurm::start();
    let job = slurm.job("nbt_ann");
    let stage = job.start("echo ran >>\"$HOME/ran\"; until [ -e \"$HOME/go\" ]; do sleep 0.1; done");
    job.wait_for_line("ran");
    slurm.stop("slurmctld", Signal::SIGKILL);
    slurm.start_controller();
    // Its id may now belong to another user's job.
    let other = slurm.job("nbt_bea");
    let others = other.start("sleep 15");
    // The controller that forgot the start may start it again; one that did not waits for its end.
    let enough = Instant::now() + Duration::from_secs(8);
    let refused = job.stage_directory().join("refused");
    slurm.wait_for("a second start, or none", || refused.exists() || Instant::now() >= enough);
    std::fs::write(job.home().join("go"), "").expect("a file");
    let ended = stage.finish();
    if ended.status == Some(0) {
        assert_eq!(job.state().as_deref(), Some("COMPLETED"), "{}", ended.err);
        assert_eq!(
            slurm.admin(&format!("squeue -h -t all -j {} -o %u", job.id().expect("an id"))).trim(),
            "nbt_ann"
        );
    } else {
        // Or Slurm itself cancelled it, because it considers the node down.
        assert!(matches!(ended.status, Some(110 | 120)), "{ended:?}");
    }
    assert_eq!(std::fs::read_to_string(job.home().join("ran")).expect("a file"), "ran\n");
    drop(others.kill());
}

#[needs(root)]
fn munge_that_is_away_for_a_while_costs_only_time() {
    let slurm = Slurm::start();
    let running = slurm.job("nbt_ann");
    let stage = running.start("touch \"$HOME/r\"; until [ -e \"$HOME/go\" ]; do sleep 0.1; done; exit 3");
    running.wait_for_file("r");
    slurm.stop("munged", Signal::SIGKILL);
    let late = slurm.job("nbt_bea");
    let submitted = late.start("echo ran");
    slurm.wait_for("a submission in vain", || !late.calls().is_empty());
    std::fs::write(running.home().join("go"), "").expect("a file");
    slurm.wait_for("the record", || running.stage_directory().join("record").exists());
    std::fs::remove_file(slurm.path("munge/sock")).unwrap_or_default();
    slurm.start_munged();
    stage.finish().failed(3, "exit code 3");
    let ended = submitted.finish();
    ended.succeeded();
    assert_eq!(ended.text(), "ran\n");
}
