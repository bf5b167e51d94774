//! How a stage ends that is not cancelled.

use nix::sys::signal::Signal;
use nunbird_handover::BatchEnd;
use nunbird_messages::SessionAdditions;
use nunbird_tests::needs;
use nunbird_tests::scheduler::Slurm;
use std::fs;
use std::time::Instant;

#[needs(root)]
fn a_script_runs_in_the_allocation_as_its_user_with_its_output_and_success() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann");
    let script = "id -un; echo $SLURM_JOB_ID; pwd; echo error >&2; echo \"leak:$LEAKED\"; umask; printf end";
    let began = Instant::now();
    let ended = job.run(script);
    let seconds = began.elapsed().as_secs();
    ended.succeeded();
    let id = job.id().expect("an id");
    let builds = job.handover.workspace.builds_dir.display().to_string();
    assert_eq!(ended.text(), format!("nbt_ann\n{id}\n{builds}\nleak:\n0022\nend"));
    assert!(ended.err.contains("error\n"), "{}", ended.err);
    assert!(ended.err.contains(&format!("Slurm job {id}: waited ")), "{}", ended.err);
    assert!(!job.stage_directory().join("script").exists(), "the script holds secrets");
    let summary = ended.summary.expect("a summary for the audit");
    assert_eq!((summary.end, summary.scheduler_id), (BatchEnd::Success, Some(id)));
    assert!(summary.queued_s.is_some() && summary.ran_s.is_some());
    let calls = job.calls();
    // A busy Slurm takes seconds to complete a job, and the launcher asks at growing intervals until then.
    let most = 4 + usize::try_from(seconds / 2).expect("a time");
    assert!(calls.len() <= most, "a submission and few questions in {seconds} s: {calls:#?}");
}

#[needs(root)]
fn the_umask_of_the_session_is_the_scripts_in_the_allocation() {
    let slurm = Slurm::shared();
    let mut job = slurm.job("nbt_ann");
    // As pam_umask leaves it: `nunbird-session` adds it.
    job.session = Some(SessionAdditions { umask: 0o027, variables: Vec::new() });
    let ended =
        job.run("umask; : > \"$HOME/nbt_umask\"; stat -c %a \"$HOME/nbt_umask\"; rm \"$HOME/nbt_umask\"");
    ended.succeeded();
    assert_eq!(ended.text(), "0027\n640\n");
}

#[needs(root)]
fn a_login_profile_is_read_and_srun_gets_the_jobs_environment() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_cyn").arguments("-n 2");
    fs::write(job.home().join(".bash_profile"), "export FROM_PROFILE=yes\n").expect("a profile");
    let ended = job.run("export MINE=too; srun -n 2 sh -c 'echo $FROM_PROFILE $MINE $NUNBIRD_STAGE'");
    ended.succeeded();
    assert_eq!(ended.text(), "yes too build_script\nyes too build_script\n");
}

#[needs(root)]
fn what_ended_stays_ended() {
    let slurm = Slurm::shared();
    let jobs = [7, 255].map(|code| (code, slurm.job("nbt_ann")));
    let stages = jobs.each_ref().map(|(code, job)| job.start(&format!("exit {code}")));
    for (stage, (code, job)) in stages.into_iter().zip(&jobs) {
        stage.finish().failed(*code, &format!("ended with exit code {code}"));
        // The runner gets the same result again, and nothing is submitted.
        job.run("echo again; exit 0").failed(*code, "has already ended");
        assert_eq!(job.calls().iter().filter(|call| call.starts_with("sbatch")).count(), 1);
    }
}

#[needs(root)]
fn a_script_that_a_signal_ended_has_failed_with_its_number() {
    let slurm = Slurm::shared();
    let signals = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV];
    let jobs = signals.map(|signal| (signal, slurm.job("nbt_bea")));
    let stages = jobs.each_ref().map(|(signal, job)| job.start(&format!("kill -{} $$", *signal as i32)));
    for (stage, (signal, _)) in stages.into_iter().zip(&jobs) {
        let code = 128 + *signal as i32;
        stage.finish().failed(code, &format!("exit code {code}"));
    }
}

#[needs(root)]
fn a_profile_that_ends_the_shell_is_no_success() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_bea");
    let profile = job.home().join(".bash_profile");
    fs::write(&profile, "[ \"$NUNBIRD_JOB_ID\" != 0 ] && case $NUNBIRD_STAGE in step_*) exit 0;; esac\n")
        .expect("a profile");
    let ended = job.start_stage("step_script", "echo begun").finish();
    fs::remove_file(profile).expect("removed");
    assert_eq!(ended.text(), "");
    ended.failed(1, "before the stage's script began");
}

#[needs(root)]
fn stages_that_are_not_the_users_script_run_on_the_runners_node() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann");
    let ended = job.start_stage("after_script", "echo \"id:$SLURM_JOB_ID\"").finish();
    ended.succeeded();
    assert_eq!((ended.text().as_str(), job.calls().len()), ("id:\n", 0));
    assert_eq!(ended.summary, None);
}

#[needs(root)]
fn a_time_limit_is_reported_as_such() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann").arguments("-t 1");
    let ended = job.run("echo begun; sleep 300; sleep 300");
    assert_eq!(ended.text(), "begun\n");
    ended.failed(143, "time limit 00:01:00 reached on n");
    assert_eq!(ended.summary.expect("a summary").end, BatchEnd::TimedOut);
}

#[needs(root)]
fn a_node_that_goes_down_is_reported_as_such_and_the_script_is_not_run_again() {
    let slurm = Slurm::start();
    let job = slurm.job("nbt_ann").arguments("-w n2");
    let stage = job.start("echo begun >>\"$HOME/begun\"; sleep 60");
    job.wait_for_state("RUNNING");
    job.wait_for_line("begun");
    slurm.admin("scontrol update nodename=n2 state=down reason=test");
    stage.finish().system_failed("node failure");
    assert_eq!(fs::read_to_string(job.home().join("begun")).expect("a file"), "begun\n");
}

#[needs(root)]
fn a_job_that_is_requeued_against_our_will_does_not_run_twice() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_cyn");
    let stage = job.start("echo begun >>\"$HOME/requeued\"; sleep 60");
    let id = job.wait_for_state("RUNNING");
    job.wait_for_line("requeued");
    slurm.admin(&format!("scontrol update jobid={id} requeue=1 && scontrol requeue {id}"));
    stage.finish().system_failed("not run a second time");
    assert_eq!(fs::read_to_string(job.home().join("requeued")).expect("a file"), "begun\n");
}

#[needs(root)]
fn an_agent_that_is_started_again_runs_nothing() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann");
    let stage = job.start("echo ran >>\"$HOME/once\"; until [ -e \"$HOME/enough\" ]; do sleep 0.1; done");
    job.wait_for_line("once");
    let agent = job.stage_directory().join("agent");
    let again = slurm.as_user("nbt_ann", &format!("timeout 20 sh {} 2>&1; echo $?", agent.display()));
    assert!(again.contains("not run a second time") && again.ends_with("75\n"), "{again}");
    fs::write(job.home().join("enough"), "").expect("a file");
    stage.finish().system_failed("not run a second time");
    assert_eq!(fs::read_to_string(job.home().join("once")).expect("a file"), "ran\n");
}

#[needs(root)]
fn a_job_that_another_cancelled_says_so() {
    let slurm = Slurm::shared();
    let (waiting, running) = (slurm.job("nbt_bea").arguments("--hold"), slurm.job("nbt_bea"));
    let stages = [waiting.start("true"), running.start("touch \"$HOME/runs\"; sleep 60")];
    let ids = [waiting.wait_for_state("PENDING"), running.wait_for_state("RUNNING")];
    running.wait_for_file("runs");
    for id in ids {
        slurm.admin(&format!("scancel {id}"));
    }
    let [waiting, running] = stages.map(nunbird_tests::scheduler::Stage::finish);
    waiting.failed(1, "cancelled by its owner, an administrator or Slurm itself, not by this CI job");
    running.failed(143, "cancelled by its owner, an administrator or Slurm itself, not by this CI job");
}
