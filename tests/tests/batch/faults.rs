//! What fails during a stage: its launcher while it submits, its files, its disk, its place in the
//! queue.

use nunbird_handover::BatchEnd;
use nunbird_tests::needs;
use nunbird_tests::scheduler::{Slurm, Stop};
use std::fs;

#[needs(root)]
fn a_launcher_killed_while_it_submits_leaves_a_job_that_the_next_one_follows_or_none() {
    let slurm = Slurm::shared();
    for (stop, left) in [(Stop::Before, 0), (Stop::After, 1)] {
        let job = slurm.job("nbt_ann");
        let ran = format!("flight-{left}");
        let script = format!("echo ran >>\"$HOME/{ran}\"");
        job.stop_submissions(stop);
        let stage = job.start(&script);
        job.wait_for_stop();
        drop(stage.kill());
        job.let_go();
        assert_eq!(job.submitted(), left, "{stop:?}");
        job.run(&script).succeeded();
        assert_eq!(job.submitted(), 1, "{stop:?}");
        assert_eq!(fs::read_to_string(job.home().join(ran)).expect("a file"), "ran\n");
    }
}

#[needs(root)]
fn a_cleanup_after_a_launcher_killed_while_it_submits_leaves_no_job() {
    let slurm = Slurm::shared();
    for (stop, left) in [(Stop::Before, 0), (Stop::After, 1)] {
        let job = slurm.job("nbt_cyn").arguments("--hold");
        job.stop_submissions(stop);
        let stage = job.start("true");
        job.wait_for_stop();
        drop(stage.kill());
        job.let_go();
        job.cleanup().succeeded();
        let name = format!("nb{}-", job.handover.job_id);
        let states = slurm.admin("squeue -h -a -t all -o '%j|%T'");
        let states: Vec<_> = states.lines().filter(|line| line.starts_with(&name)).collect();
        assert_eq!(states.len(), left, "{states:?}");
        assert!(states.iter().all(|line| line.ends_with("|CANCELLED")), "{states:?}");
        assert!(!job.stage_directory().exists());
    }
}

#[needs(root)]
fn output_and_directory_that_vanish_under_a_running_script_make_no_success() {
    let slurm = Slurm::shared();
    let jobs = ["out", ""].map(|file| (file, slurm.job("nbt_ann")));
    let script = "echo before; touch \"$HOME/v$NUNBIRD_JOB_ID\"; \
        until [ -e \"$HOME/w$NUNBIRD_JOB_ID\" ]; do sleep 0.1; done; echo after";
    let stages = jobs.each_ref().map(|(_, job)| job.start(script));
    for (file, job) in &jobs {
        let number = job.handover.job_id;
        job.wait_for_file(&format!("v{number}"));
        match *file {
            "" => fs::remove_dir_all(job.stage_directory()).expect("removed"),
            file => fs::remove_file(job.stage_directory().join(file)).expect("removed"),
        }
        fs::write(job.home().join(format!("w{number}")), "").expect("a file");
    }
    for (stage, (file, _)) in stages.into_iter().zip(&jobs) {
        let ended = stage.finish();
        ended.system_failed(if file.is_empty() { "" } else { "its record could not be written" });
    }
}

#[needs(root)]
fn a_disk_that_fills_up_makes_no_success_and_is_cleaned_up_all_the_same() {
    let slurm = Slurm::start();
    let (filling, late) = (slurm.job_on_a_small_disk("nbt_bea"), slurm.job_on_a_small_disk("nbt_cyn"));
    // The script does not notice that its output is lost.
    filling.run("head -c 8000000 /dev/zero || true; exit 0").system_failed("cannot write");
    // A disk that is full before anything was submitted.
    late.run("true").system_failed("No space left");
    assert_eq!((filling.submitted(), late.submitted()), (1, 0));
    for job in [filling, late] {
        job.cleanup().succeeded();
        assert!(!job.stage_directory().exists());
    }
}

#[needs(root)]
fn a_preempted_job_is_reported_as_such_and_the_script_is_not_run_again() {
    let slurm = Slurm::start();
    let job = slurm.job("nbt_bea").arguments("-p spare --exclusive");
    let stage = job.start("echo begun >>\"$HOME/spare\"; sleep 60");
    job.wait_for_line("spare");
    let urgent = slurm.job("nbt_cyn").arguments("-p urgent --exclusive");
    let other = urgent.start("echo went");
    let ended = stage.finish();
    ended.system_failed("preempted: Slurm gave n2");
    assert_eq!(ended.summary.expect("a summary").end, BatchEnd::Preempted);
    assert_eq!(other.finish().succeeded().text(), "went\n");
    assert_eq!(fs::read_to_string(job.home().join("spare")).expect("a file"), "begun\n");
}

#[needs(root)]
fn a_script_that_takes_too_much_memory_is_killed_and_the_user_reads_why() {
    let Some(slurm) = Slurm::with_groups() else { return };
    let much = slurm.job("nbt_ann").arguments("--mem=50");
    // The script continues and ends with 0: the kernel killed one of its processes.
    let ended = much.run("head -c 300000000 /dev/zero | tail -c 300000000 | wc -c; exit 0");
    ended.failed(1, "killed: out of memory on nbt");
    assert_eq!(ended.summary.expect("a summary").end, BatchEnd::OutOfMemory);
    // A script within its limit succeeds, and the last line shows what it used.
    let little = slurm.job("nbt_bea").arguments("--mem=200");
    let ended = little.run("head -c 50000000 /dev/zero | tail -c 50000000 | wc -c");
    assert_eq!(ended.succeeded().text(), "50000000\n");
    assert!(ended.err.contains("peak memory "), "{}", ended.err);
}

#[needs(root)]
fn too_much_memory_is_reported_where_slurm_bounds_it_without_control_groups() {
    let slurm = Slurm::over_memory_kill();
    let ended = slurm
        .job("nbt_ann")
        .arguments("--mem=50")
        .run("echo begun; head -c 300000000 /dev/zero | tail -c 300000000 | { sleep 60 && wc -c; }");
    ended.failed(1, "killed: out of memory on n");
    assert_eq!(ended.summary.as_ref().expect("a summary").end, BatchEnd::OutOfMemory);
    assert_eq!(ended.text(), "begun\n");
}

/// The account's programs can replace a stage's file by anything, on any host that shares the
/// directory.
#[needs(root)]
fn a_named_pipe_among_a_stages_files_holds_nobody_up() {
    let slurm = Slurm::shared();
    let jobs = ["refused", "intent", "ending", "job", "lock"].map(|name| (name, slurm.job("nbt_ann")));
    let stages = jobs.each_ref().map(|(name, job)| {
        let pipe = job.stage_directory().join(name);
        job.start(&format!("rm -f {0}; mkfifo {0}; echo made", pipe.display()))
    });
    for (stage, (name, job)) in stages.into_iter().zip(&jobs) {
        // Bounded, unlike the wait for the launcher's end.
        stage.wait_for_word("exit code 0");
        assert_eq!(stage.finish().succeeded().text(), "made\n", "{name}");
        job.cleanup().succeeded();
    }
    let job = slurm.job("nbt_bea");
    job.run("true").succeeded();
    let stage = job.stage_directory();
    slurm.as_user("nbt_bea", &format!("cd {} && rm ending intent && mkfifo intent", stage.display()));
    // What a cleanup cannot read it reports, and keeps.
    job.cleanup().system_failed("not a regular file");
    assert!(stage.exists());
}
