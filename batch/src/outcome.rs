//! How a submitted stage ended, and its description for the user.

use super::messages::Row;
use super::state::End;
use super::words::lines;
use nunbird_handover::{BatchEnd, Untrusted};
use nunbird_stage::StageResult;
use serde::{Deserialize, Serialize};

/// Why a job is cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CancelReason {
    /// By gitlab-runner: the user, a timeout, or its own stop.
    Requested,
    /// The job did not start before the CI job's time was up.
    TooLate,
    /// The job can never start as requested.
    Never(String),
    /// The scheduler failed to start the job.
    Broken(String),
    /// The scheduler is going to run the job again.
    Requeued,
}

/// The end of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StageOutcome {
    Success,
    /// The script ended with this exit code.
    Failed(i32),
    /// The shell ended before the script began.
    NeverBegan(i32),
    /// The container that the script ran in did not report how it ended.
    NoResult,
    /// The scheduler refused the submission, with this message.
    Rejected(String),
    /// The submit command cannot be started.
    Impossible(String),
    /// The scheduler could not accept the job because of its own fault.
    Faulty(String),
    /// Cancelled by us, and the end is confirmed.
    Cancelled(CancelReason),
    /// Cancelled by us, and the end is not confirmed. The last state that the scheduler reported,
    /// if it responds.
    NotCancelled(CancelReason, Option<String>),
    /// Cancelled or killed by the scheduler, another user, or the kernel.
    Killed(End, Row),
    /// The scheduler gave up the job before the agent began.
    NotStarted(Row),
    /// The same, because what the job asks for is not available.
    Infeasible(Row),
    /// The scheduler reports success; the job's own record is missing.
    NoRecord(Row),
    /// The agent could not write its record.
    ExitUnknown(Row),
    /// Record and scheduler report success; some of the output is missing.
    OutputMissing,
    /// The record reports success, the scheduler does not.
    Contradiction(Row),
    /// The scheduler started the job again.
    StartedTwice(String),
    /// The scheduler does not know the job any more.
    Lost(Option<i32>),
}

/// What is reported to the runner, stored beside the job so that a second run of the stage reports
/// the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ending {
    /// `success`, `build_failure` or `system_failure`.
    pub(crate) verdict: RunnerStatus,
    /// The number for the runner's exit-code file.
    pub(crate) code: i32,
    /// Why, where it was not success.
    pub(crate) text: String,
    /// Whether the scheduler's job is known to have ended.
    pub(crate) over: bool,
    /// What has ended the script.
    #[serde(default)]
    pub(crate) by: By,
}

/// What has ended a script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// Nothing: it did not begin, or that is unknown.
    #[default]
    Nothing,
    /// Itself, or the scheduler and the kernel, as at a limit.
    Itself,
    /// The runner.
    Runner,
}

impl Ending {
    /// Whether the scheduler refused the submission. The refusal is verified once, at the cleanup.
    pub(crate) fn is_refusal(&self) -> bool {
        self.verdict == RunnerStatus::BuildFailure && !self.over
    }
}

/// Whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunnerStatus {
    Success,
    BuildFailure,
    SystemFailure,
}

impl RunnerStatus {
    pub(crate) fn verdict(self) -> Option<StageResult> {
        match self {
            RunnerStatus::Success => Some(StageResult::Success),
            RunnerStatus::BuildFailure => Some(StageResult::BuildFailure),
            RunnerStatus::SystemFailure => None,
        }
    }
}

/// The exit code that a shell reports for a process ended by SIGKILL.
const KILLED: i32 = 137;

impl StageOutcome {
    /// The same end, with the cause that only the scheduler's lines in the job's log contain.
    pub(crate) fn out_of_memory(self) -> Self {
        match self {
            StageOutcome::Killed(End::Failed | End::Cancelled, row) => {
                StageOutcome::Killed(End::OutOfMemory, row)
            }
            StageOutcome::Failed(KILLED) => StageOutcome::Killed(End::OutOfMemory, Row::default()),
            other => other,
        }
    }

    /// The outcome for the runner and the user. `script` is the exit code in the record, `title`
    /// the scheduler's name.
    pub(crate) fn ending(&self, script: Option<i32>, title: &str) -> Ending {
        let (verdict, text) = self.words(title);
        let code = match (self, script) {
            (StageOutcome::Failed(code) | StageOutcome::NeverBegan(code), _) => *code,
            (StageOutcome::Success, _) => 0,
            (_, Some(code)) => code,
            (_, None) => 1,
        };
        let over = !matches!(
            self,
            StageOutcome::NotCancelled(..)
                | StageOutcome::Lost(_)
                | StageOutcome::StartedTwice(_)
                | StageOutcome::Rejected(_)
        );
        let by = match self {
            StageOutcome::Failed(_) | StageOutcome::Killed(..) => By::Itself,
            StageOutcome::Cancelled(CancelReason::Requested) => By::Runner,
            _ => By::Nothing,
        };
        Ending { verdict, code, text, over, by }
    }

    /// The same as one word.
    pub(crate) fn end(&self) -> BatchEnd {
        match self {
            StageOutcome::Success => BatchEnd::Success,
            StageOutcome::Failed(_) | StageOutcome::NeverBegan(_) => BatchEnd::Failed,
            StageOutcome::Rejected(_) => BatchEnd::Rejected,
            StageOutcome::Impossible(_)
            | StageOutcome::Faulty(_)
            | StageOutcome::NotStarted(_)
            | StageOutcome::Cancelled(CancelReason::Broken(_)) => BatchEnd::NotStarted,
            StageOutcome::Infeasible(_)
            | StageOutcome::Cancelled(CancelReason::TooLate | CancelReason::Never(_)) => {
                BatchEnd::NeverStarted
            }
            StageOutcome::Cancelled(CancelReason::Requested) => BatchEnd::Cancelled,
            StageOutcome::Cancelled(CancelReason::Requeued) | StageOutcome::StartedTwice(_) => {
                BatchEnd::Requeued
            }
            StageOutcome::Killed(End::Cancelled, _) => BatchEnd::CancelledByOthers,
            StageOutcome::Killed(End::OutOfMemory, _) => BatchEnd::OutOfMemory,
            StageOutcome::Killed(End::TimedOut, _) => BatchEnd::TimedOut,
            StageOutcome::Killed(End::NodeFail, _) => BatchEnd::NodeFailed,
            StageOutcome::Killed(End::Preempted, _) => BatchEnd::Preempted,
            StageOutcome::Killed(End::Completed | End::Failed | End::Infeasible, _) => BatchEnd::Killed,
            StageOutcome::NotCancelled(..)
            | StageOutcome::NoRecord(_)
            | StageOutcome::ExitUnknown(_)
            | StageOutcome::OutputMissing
            | StageOutcome::NoResult
            | StageOutcome::Contradiction(_)
            | StageOutcome::Lost(_) => BatchEnd::Unknown,
        }
    }

    fn words(&self, title: &str) -> (RunnerStatus, String) {
        let again = "run the job again, or report it to the administrators";
        match self {
            StageOutcome::Success => (RunnerStatus::Success, String::new()),
            StageOutcome::Failed(code) => {
                (RunnerStatus::BuildFailure, format!("the script ended with exit code {code}"))
            }
            StageOutcome::NeverBegan(code) => (
                RunnerStatus::BuildFailure,
                format!(
                    "the shell ended with {code} before the stage's script began: look at your login profile for \
                     `exit`, for `exec`, and for uses of descriptor 4"
                ),
            ),
            StageOutcome::NoResult => (
                RunnerStatus::SystemFailure,
                format!(
                    "it is not known how the script ended in its container; see the lines above, and {again}"
                ),
            ),
            StageOutcome::Rejected(text) => {
                (RunnerStatus::BuildFailure, format!("{title} refused the job: {}", lines(text)))
            }
            StageOutcome::Impossible(text) => (
                RunnerStatus::SystemFailure,
                format!(
                    "{}; report it to the administrators: `scheduler_bin` may name another directory",
                    lines(text)
                ),
            ),
            StageOutcome::Faulty(text) => (
                RunnerStatus::SystemFailure,
                format!("{title} cannot accept jobs at present: {}; {again}", lines(text)),
            ),
            StageOutcome::Cancelled(why) => why.words(title),
            StageOutcome::NotCancelled(_, still) => {
                let says = match still.as_deref() {
                    None | Some("") => "does not respond".to_owned(),
                    Some(state) => format!("still reports {}", Untrusted(state)),
                };
                let text = format!(
                    "cannot confirm the end of the cancelled job: {title} {says}; the cleanup \
                     stage will cancel it again"
                );
                (RunnerStatus::SystemFailure, text)
            }
            StageOutcome::Killed(end, row) => killed(*end, row, title),
            StageOutcome::NotStarted(row) => (
                RunnerStatus::SystemFailure,
                format!("{title} could not start the job on {}: {}; {again}", node(row), because(row)),
            ),
            StageOutcome::Infeasible(row) => (
                RunnerStatus::BuildFailure,
                format!(
                    "{title} can never start the job ({}); change the job's scheduler arguments",
                    Untrusted(&row.reason)
                ),
            ),
            StageOutcome::NoRecord(row) => (
                RunnerStatus::SystemFailure,
                format!(
                    "{title} reports that the job succeeded on {}, but its own record did not \
                     appear here, so the result is unknown; the file system of the job's \
                     directory may be full, slow or not shared with the nodes: {again}",
                    node(row)
                ),
            ),
            StageOutcome::ExitUnknown(row) => (
                RunnerStatus::SystemFailure,
                format!(
                    "the script ended on {}, but its record could not be written; the file system \
                     of the job's directory may be full, or the directory was removed: {again}",
                    node(row)
                ),
            ),
            StageOutcome::OutputMissing => (
                RunnerStatus::SystemFailure,
                format!("the job succeeded, but a part of its output did not appear here; {again}"),
            ),
            StageOutcome::Contradiction(row) => (
                RunnerStatus::SystemFailure,
                format!("the script ended with 0, but {title} reports {}; {again}", because(row)),
            ),
            StageOutcome::StartedTwice(host) => (
                RunnerStatus::SystemFailure,
                format!(
                    "{title} started the job again on {}; a stage that has begun is not run a second time: {again}",
                    Untrusted(host)
                ),
            ),
            StageOutcome::Lost(code) => {
                let known = match code {
                    Some(code) => format!("its own record shows that the script ended with {code}"),
                    None => "it left no record".to_owned(),
                };
                (
                    RunnerStatus::SystemFailure,
                    format!("{title} does not know the job any more, and {known}; {again}"),
                )
            }
        }
    }
}

impl CancelReason {
    fn words(&self, title: &str) -> (RunnerStatus, String) {
        match self {
            CancelReason::Requested => {
                (RunnerStatus::BuildFailure, "cancelled at the request of gitlab-runner".to_owned())
            }
            CancelReason::TooLate => (
                RunnerStatus::BuildFailure,
                format!(
                    "cancelled: the CI job's time was nearly up and {title} had not started it; give the CI job more \
                     time (`timeout:`), or ask for less"
                ),
            ),
            CancelReason::Requeued => (
                RunnerStatus::SystemFailure,
                format!(
                    "{title} put the job back into its queue after the script had begun; a stage \
                     is not run a second time: run the job again, or report it to the \
                     administrators"
                ),
            ),
            CancelReason::Never(reason) => (
                RunnerStatus::BuildFailure,
                format!(
                    "cancelled: {title} can never start the job ({}); change the job's scheduler arguments",
                    Untrusted(reason)
                ),
            ),
            CancelReason::Broken(reason) => (
                RunnerStatus::SystemFailure,
                format!(
                    "cancelled: {title} failed to start the job and will not try again ({}); \
                     report it to the administrators",
                    Untrusted(reason)
                ),
            ),
        }
    }
}

fn killed(end: End, row: &Row, title: &str) -> (RunnerStatus, String) {
    let node = node(row);
    let by = if row.by.is_empty() {
        format!("by its owner, an administrator or {title} itself")
    } else {
        by(&row.by)
    };
    match end {
        End::OutOfMemory => (
            RunnerStatus::BuildFailure,
            format!("killed: out of memory on {node}; ask for more memory in the job's scheduler arguments"),
        ),
        End::TimedOut => {
            let limit = match row.limit.as_str() {
                "" => String::new(),
                limit => format!(" {}", Untrusted(limit)),
            };
            (RunnerStatus::BuildFailure, format!("killed: time limit{limit} reached on {node}"))
        }
        End::Cancelled => {
            (RunnerStatus::BuildFailure, format!("cancelled {by}, not by this CI job{}", why(row)))
        }
        End::NodeFail => (
            RunnerStatus::SystemFailure,
            format!("node failure: {title} lost {node} while the job ran there; run the job again"),
        ),
        End::Preempted => (
            RunnerStatus::SystemFailure,
            format!("preempted: {title} gave {node} to a job of higher priority; run the job again"),
        ),
        End::Completed | End::Failed | End::Infeasible => (
            RunnerStatus::BuildFailure,
            format!("killed on {node} before its exit code was recorded: {title} reports {}", because(row)),
        ),
    }
}

/// Who cancelled: the uid, and the user name if this host knows it.
fn by(uid: &str) -> String {
    let user =
        uid.parse().ok().and_then(|uid| nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok()?);
    match user {
        Some(user) => format!("by {} (uid {})", Untrusted(&user.name), Untrusted(uid)),
        None => format!("by uid {}", Untrusted(uid)),
    }
}

fn node(row: &Row) -> String {
    match row.nodes.as_str() {
        "" | "(null)" | "None assigned" => "its node".to_owned(),
        nodes => Untrusted(nodes).to_string(),
    }
}

/// The scheduler's reason in parentheses, if there is one.
fn why(row: &Row) -> String {
    match row.reason.as_str() {
        "" | "None" => String::new(),
        reason => format!(" ({})", Untrusted(reason)),
    }
}

fn because(row: &Row) -> String {
    let mut words = Vec::new();
    if !row.state.is_empty() {
        words.push(Untrusted(&row.state).to_string());
    }
    if !matches!(row.reason.as_str(), "" | "None" | "NonZeroExitCode") {
        words.push(format!("reason {}", Untrusted(&row.reason)));
    }
    match row.exit.split_once(':') {
        None if matches!(row.exit.as_str(), "" | "0" | "-") => {}
        None => words.push(format!("exit code {}", Untrusted(&row.exit))),
        Some(("0", "0")) => {}
        Some(("0", signal)) => words.push(format!("signal {}", Untrusted(signal))),
        Some((code, _)) => words.push(format!("exit code {}", Untrusted(code))),
    }
    if words.is_empty() { "it gives no reason".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::{CancelReason, RunnerStatus, StageOutcome};
    use crate::messages::Row;
    use crate::state::End;

    fn row(state: &str, limit: &str, exit: &str, by: &str) -> Row {
        Row {
            state: state.to_owned(),
            nodes: "n12".to_owned(),
            limit: limit.to_owned(),
            exit: exit.to_owned(),
            by: by.to_owned(),
            ..Row::default()
        }
    }

    #[test]
    fn causes_are_stated_in_plain_words_with_who_must_act() {
        let killed = |end, row| StageOutcome::Killed(end, row).ending(Some(137), "Slurm");
        for (ending, verdict, words) in [
            (
                killed(End::OutOfMemory, row("OUT_OF_MEMORY", "", "0:125", "")),
                RunnerStatus::BuildFailure,
                "out of memory on n12",
            ),
            (
                killed(End::TimedOut, row("TIMEOUT", "00:30:00", "0:15", "")),
                RunnerStatus::BuildFailure,
                "time limit 00:30:00 reached",
            ),
            (
                killed(End::Cancelled, row("CANCELLED", "", "", "0")),
                RunnerStatus::BuildFailure,
                "cancelled by root (uid 0)",
            ),
            (
                killed(End::NodeFail, row("NODE_FAIL", "", "", "")),
                RunnerStatus::SystemFailure,
                "node failure: Slurm lost n12",
            ),
            (killed(End::Preempted, row("PREEMPTED", "", "", "")), RunnerStatus::SystemFailure, "preempted"),
        ] {
            assert_eq!(ending.verdict, verdict, "{words}");
            assert!(ending.text.contains(words), "{}", ending.text);
            assert_eq!(ending.code, 137);
        }
        let ending = StageOutcome::NotStarted(row("FAILED", "", "0:53", "")).ending(None, "Slurm");
        assert!(ending.text.contains("on n12: FAILED, signal 53"), "{}", ending.text);
    }

    #[test]
    fn words_of_others_cannot_write_into_the_log() {
        let evil = "x\u{1b}[31m\r\nsection_start:1:a\r";
        let row = Row { nodes: evil.to_owned(), ..row(evil, evil, evil, "4294967290") };
        for outcome in [
            StageOutcome::Killed(End::TimedOut, row.clone()),
            StageOutcome::Killed(End::Cancelled, row.clone()),
            StageOutcome::NotStarted(row.clone()),
            StageOutcome::Contradiction(row),
            StageOutcome::Rejected(evil.to_owned()),
            StageOutcome::Cancelled(CancelReason::Never(evil.to_owned())),
            StageOutcome::StartedTwice(evil.to_owned()),
        ] {
            let text = outcome.ending(None, "Slurm").text;
            assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
        }
    }

    #[test]
    fn only_an_end_that_was_seen_spares_the_cleanup_its_cancel() {
        let over = |outcome: StageOutcome| outcome.ending(None, "Slurm").over;
        assert!(
            over(StageOutcome::Success)
                && over(StageOutcome::Failed(3))
                && over(StageOutcome::Cancelled(CancelReason::Requested))
        );
        assert!(
            !over(StageOutcome::Lost(Some(0)))
                && !over(StageOutcome::NotCancelled(CancelReason::Requested, None))
        );
        assert!(
            !over(StageOutcome::Rejected(String::new())) && !over(StageOutcome::StartedTwice(String::new()))
        );
    }
}
