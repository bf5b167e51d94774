//! What cases have in common.

use crate::scheduler::{Cluster, Ended, Job, JobState, Possible, Stage};
use std::time::{SystemTime, UNIX_EPOCH};

/// One line of the table.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Whether it breaks the scheduler for others.
    pub(super) alone: bool,
    pub(super) run: fn(&dyn Cluster) -> Possible<()>,
}

/// A case that leaves the scheduler as it was.
pub(super) const fn case(name: &'static str, run: fn(&dyn Cluster) -> Possible<()>) -> Case {
    Case { name, alone: false, run }
}

/// A case that needs its own scheduler.
pub(super) const fn alone(name: &'static str, run: fn(&dyn Cluster) -> Possible<()>) -> Case {
    Case { name, alone: true, run }
}

pub(super) type AnyJob<'c> = Job<'c, dyn Cluster + 'c>;

/// A CI job that queries the queue frequently.
pub(super) fn job<'c>(cluster: &'c dyn Cluster, user: &str) -> AnyJob<'c> {
    let mut job = Job::of(cluster, user).arguments("");
    job.batch().poll_interval = 2;
    // As GitLab always sends it. It becomes the time limit if a case requests none.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    job.batch().deadline = Some(now + 7200);
    job
}

/// A script that creates the file `began`, waits for the file `go`, and continues.
pub(super) fn waiting(then: &str) -> String {
    format!(
        "echo began >>\"$HOME/began-$NUNBIRD_JOB_ID\"; until [ -e \"$HOME/go-$NUNBIRD_JOB_ID\" ]; do sleep 0.1; done; {then}"
    )
}

/// Waits until such a script has begun, and gives the scheduler's id.
pub(super) fn begun(job: &AnyJob<'_>) -> String {
    job.wait_for_line(&format!("began-{}", job.handover.job_id));
    job.wait_for_id()
}

/// How often it has begun.
pub(super) fn times_begun(job: &AnyJob<'_>) -> usize {
    let path = job.home().join(format!("began-{}", job.handover.job_id));
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Lets it continue.
pub(super) fn go(job: &AnyJob<'_>) {
    job.write_home(&format!("go-{}", job.handover.job_id));
}

/// Waits until the queue lists the job as waiting, and returns its id.
pub(super) fn pending(cluster: &dyn Cluster, job: &AnyJob<'_>) -> String {
    let id = job.wait_for_id();
    cluster.bed().wait_for("a waiting job", || cluster.standing(&id) == JobState::Waiting);
    id
}

/// Waits until the launcher has run this many commands more.
pub(super) fn more_calls(cluster: &dyn Cluster, job: &AnyJob<'_>, more: usize) {
    let before = job.calls().len();
    cluster.bed().wait_for("the launcher's next commands", || job.calls().len() >= before + more);
}

/// How many submissions the launchers of a job made.
pub(super) fn submissions(job: &AnyJob<'_>) -> usize {
    let submits = ["sbatch ", "qsub ", "bsub ", "flux batch ", "condor_submit "];
    let calls = job.calls();
    let all: Vec<&String> =
        calls.iter().filter(|call| submits.iter().any(|word| call.starts_with(word))).collect();
    // A bsub without -rn refuses it, and is called again without.
    let without = all.iter().filter(|call| call.starts_with("bsub ") && !call.contains(" -rn ")).count();
    if without > 0 { without } else { all.len() }
}

/// Fails if the launcher has run a command, if commands are recorded.
#[track_caller]
pub(super) fn runs_nothing(cluster: &dyn Cluster, job: &AnyJob<'_>) {
    assert!(!cluster.counts_calls() || job.calls().is_empty(), "{:?}", job.calls());
}

/// Fails unless the job is out of the queue, or known to have ended.
#[track_caller]
pub(super) fn is_over(cluster: &dyn Cluster, id: &str) {
    if cluster.asks().is_err() {
        return;
    }
    let standing = cluster.standing(id);
    assert!(matches!(standing, JobState::Ended | JobState::Gone), "{standing:?}");
}

/// Fails unless the stage failed as a script failure with this message.
#[track_caller]
pub(super) fn users_failure(ended: &Ended, word: &str) {
    ended.failed(ended.exit_code.parse().unwrap_or(-1), word);
    assert_ne!(ended.exit_code, "0", "{}", ended.err);
}

/// Fails if the stage succeeded.
#[track_caller]
pub(super) fn no_success(ended: &Ended) {
    assert!(ended.status.is_some_and(|status| status != 0), "{}\n{}", ended.text(), ended.err);
}

/// Waits for both.
pub(super) fn both(stages: [Stage; 2]) -> [Ended; 2] {
    stages.map(Stage::finish)
}
