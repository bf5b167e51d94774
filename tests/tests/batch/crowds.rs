//! Many jobs at once.

use nunbird_tests::needs;
use nunbird_tests::scheduler::Slurm;

#[needs(root)]
fn twenty_jobs_of_a_user_ask_the_scheduler_together() {
    let slurm = Slurm::shared();
    let jobs: Vec<_> = (0..20).map(|_| slurm.job("nbt_bea").arguments("--hold")).collect();
    let stages: Vec<_> = jobs.iter().map(|job| job.start("echo ran")).collect();
    let ids: Vec<_> = jobs.iter().map(|job| job.wait_for_state("PENDING")).collect();
    for stage in &stages {
        stage.wait_for_word("JobHeldUser");
    }
    slurm.as_user("nbt_bea", &format!("scontrol release {}", ids.join(",")));
    for stage in stages {
        assert_eq!(stage.finish().succeeded().text(), "ran\n");
    }
    let calls: Vec<String> = jobs.iter().flat_map(|job| job.calls()).collect();
    let of = |command: &str| calls.iter().filter(|call| call.starts_with(command)).count();
    // The queue reported to each that it is held and that it has ended: forty queries.
    assert_eq!(of("sbatch"), 20);
    assert!(of("squeue") <= 20, "{} questions: {calls:#?}", of("squeue"));
}

/// One job for each exit code, so that it also tests every exit code.
#[needs(root)]
fn two_hundred_and_fifty_six_jobs_of_three_users_at_once_end_with_their_own_output_and_exit_code() {
    let slurm = Slurm::patient();
    let users = ["nbt_ann", "nbt_bea", "nbt_cyn"];
    let jobs: Vec<_> = (0..256).map(|n| slurm.job(users[n % 3])).collect();
    let stages: Vec<_> =
        jobs.iter().enumerate().map(|(n, job)| job.start(&format!("echo {n}; exit {n}"))).collect();
    for (n, stage) in stages.into_iter().enumerate() {
        let ended = stage.finish();
        match i32::try_from(n).expect("small") {
            0 => drop(ended.succeeded()),
            code => drop(ended.failed(code, &format!("ended with exit code {code}"))),
        }
        assert_eq!(ended.text(), format!("{n}\n"), "{}", ended.err);
    }
    let calls: Vec<String> = jobs.iter().flat_map(|job| job.calls()).collect();
    assert_eq!(calls.iter().filter(|call| call.starts_with("sbatch")).count(), 256);
    assert!(calls.len() <= 256 * 2, "{} commands for 256 jobs", calls.len());
}
