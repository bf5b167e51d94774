//! Stages that wait, and submissions that Slurm refuses.

use nunbird_tests::needs;
use nunbird_tests::scheduler::Slurm;
use std::time::{SystemTime, UNIX_EPOCH};

fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

#[needs(root)]
fn what_slurm_does_not_take_is_reported_in_its_words() {
    let slurm = Slurm::shared();
    for (arguments, word) in [
        ("-p nonesuch", "invalid partition specified: nonesuch"),
        ("--nonesuch=1", "unrecognized option"),
        ("-N 1000", "can never start the job (PartitionConfig)"),
    ] {
        let job = slurm.job("nbt_ann").arguments(arguments);
        job.run("true").failed(1, word);
    }
}

#[needs(root)]
fn the_cleanup_of_a_refused_submission_asks_once_and_does_not_wait() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann").arguments("-p nonesuch");
    job.run("true").failed(1, "invalid partition specified: nonesuch");
    let before = job.calls().len();
    let begin = std::time::Instant::now();
    job.cleanup().succeeded();
    assert!(begin.elapsed() < std::time::Duration::from_secs(4), "{:?}", begin.elapsed());
    let calls = job.calls();
    let questions: Vec<_> = calls[before..].iter().filter(|call| !call.contains("scancel")).collect();
    assert_eq!(questions.len(), 1, "{calls:?}");
}

#[needs(root)]
fn tasks_and_lists_of_nodes_stay_within_the_nodes_that_the_site_allows() {
    let slurm = Slurm::shared();
    let bounded = |arguments: &str, most| {
        let mut job = slurm.job("nbt_ann").arguments(arguments);
        job.batch().rules.most_nodes = Some(most);
        job.run("echo $SLURM_JOB_NUM_NODES")
    };
    for arguments in ["-n2 --ntasks-per-node=1", "-w n1,n2", "-n 100", "-N1 -w n1,n2"] {
        bounded(arguments, 1).failed(1, "Slurm refused the job");
    }
    assert_eq!(bounded("-n2 --ntasks-per-node=1", 2).succeeded().text(), "2\n");
    // A limit is not a request.
    assert_eq!(bounded("-n2", 2).succeeded().text(), "1\n");
}

#[needs(root)]
fn arguments_that_no_command_can_be_given_fail_the_stage_at_once() {
    let slurm = Slurm::shared();
    // A word of a command has less than 128 KiB (execve(2)); here the account's name makes it longer.
    let job = slurm.job("nbt_ann").arguments(&format!("--constraint={}", "$USER".repeat(20_000)));
    let stage = job.start("true");
    stage.wait_for_word("Argument list too long");
    stage.finish().failed(1, "Slurm refused the job");
    assert_eq!(job.submitted(), 0);
}

#[needs(root)]
fn what_nunbird_sets_itself_is_refused_before_anything_is_submitted() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann").arguments("-N1 --output=mine.txt");
    job.run("true").failed(1, "must not have `--output=mine.txt`");
    assert!(job.calls().is_empty());
}

#[needs(root)]
fn a_scheduler_that_is_not_installed_is_the_systems_failure_and_leaves_nothing_to_clean() {
    let slurm = Slurm::shared();
    let mut job = slurm.job("nbt_ann");
    job.batch().scheduler_bin = Some("/nonexistent".into());
    job.run("true").system_failed("cannot run sbatch");
    job.cleanup().succeeded();
    assert!(!job.stage_directory().exists());
}

#[needs(root)]
fn a_held_job_waits_says_so_in_a_section_and_runs_when_it_is_released() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann").arguments("--hold");
    let stage = job.start("echo ran");
    stage.wait_for_word("JobHeldUser");
    let id = job.wait_for_state("PENDING");
    slurm.as_user("nbt_ann", &format!("scontrol release {id}"));
    let ended = stage.finish();
    ended.succeeded();
    let (start, end) = (ended.err.find("section_start:"), ended.err.find("section_end:"));
    assert!(start.is_some() && start < end, "{:?}", ended.err);
    assert_eq!(ended.text(), "ran\n");
}

#[needs(root)]
fn a_job_that_can_never_start_is_cancelled_with_the_reason() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_bea").arguments("-p hour -t 5:00:00");
    job.run("true").failed(1, "can never start the job (PartitionTimeLimit)");
    assert_eq!(job.state().as_deref(), Some("CANCELLED"));
}

#[needs(root)]
fn the_ci_jobs_time_becomes_the_limit_and_a_job_that_cannot_start_in_it_is_cancelled() {
    let slurm = Slurm::shared();
    let limit = |id: &str| slurm.admin(&format!("squeue -h -a -t all -j {id} -o %l")).trim().to_owned();

    let mut job = slurm.job("nbt_ann");
    job.batch().deadline = Some(epoch() + 630);
    job.run("true").succeeded();
    assert_eq!(limit(&job.id().expect("an id")), "10:00");

    let mut job = slurm.job("nbt_ann").arguments("-p hour");
    job.batch().deadline = Some(epoch() + 86_400);
    job.run("true").succeeded();
    assert_eq!(limit(&job.id().expect("an id")), "1:00:00");

    let mut job = slurm.job("nbt_ann").arguments("--hold");
    job.batch().deadline = Some(epoch() + 64);
    job.run("true").failed(1, "had not started it");
    assert_eq!(job.state().as_deref(), Some("CANCELLED"));
}
