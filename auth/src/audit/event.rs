//! What an event says. `docs/audit.md` has every field with its type, unit and meaning.
//!
//! No field is ever a secret: there is none that could hold a token, a variable's value or a script's text.

use crate::opened::Script;
use nunbird_handover::{Amounts, JobLimits, Record, RuleRef, Summary};
use nunbird_policy::Subject;
use serde::Serialize;
use std::fmt::Write;

/// Goes up when a field changes its meaning or goes; a new field does not raise it.
pub(super) const SCHEMA: u32 = 1;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// `config` has decided that the job may run.
    Admitted,
    /// A call was refused.
    Denied,
    /// A stage's launcher is about to start.
    StageStarted,
    /// It has ended.
    StageEnded,
}

impl Outcome {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Outcome::Admitted => "admitted",
            Outcome::Denied => "denied",
            Outcome::StageStarted => "stage-started",
            Outcome::StageEnded => "stage-ended",
        }
    }
}

/// One event.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Event<'a> {
    pub(crate) schema: u32,
    /// Seconds since the epoch.
    pub(crate) time: u64,
    /// The same in UTC, RFC 3339.
    pub(crate) timestamp: String,
    pub(crate) outcome: Outcome,
    pub(crate) decision_id: &'a str,
    pub(crate) host: String,
    /// `config`, `prepare`, `run` or `cleanup`.
    pub(crate) stage: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) script: Option<&'a Script>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<End>,
    /// What the job has used, when `cleanup` ends.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Used>,
    /// Seconds that the job waited in GitLab for a runner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queued_s: Option<u64>,
    /// Seconds since the admission, when `cleanup` ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job_s: Option<u64>,
    /// What the job was given, when `cleanup` ends.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) given: Option<Given<'a>>,
    /// Why it was denied, in one stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'a str>,
    /// Why it was denied, in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<&'a str>,
    /// Facts of the verified identity.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<Job<'a>>,
    /// The account, where the job got one.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<Account<'a>>,
    /// Where the job's script runs: `shell`, or the scheduler's name in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) executor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<&'a RuleRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy_digest: Option<&'a str>,
    pub(crate) runner_uid: u32,
    pub(crate) privilege: &'static str,
    /// Refusals of this runner account without a verified identity that were not written since the last one that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) left_out: Option<u64>,
    /// The claims made the event too large.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) claims_left_out: bool,
    /// Where this event could not be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_written: Option<String>,
}

/// Facts of a verified identity.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Job<'a> {
    pub(crate) server: &'a str,
    pub(crate) job_id: u64,
    pub(crate) pipeline_id: u64,
    pub(crate) project_id: u64,
    pub(crate) project_path: &'a str,
    pub(crate) user_login: &'a str,
    pub(crate) user_id: u64,
    pub(crate) identity_source: &'a str,
    /// In `config` alone: later stages go by the record.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) claims: Option<Claims<'a>>,
}

/// Whatever else rules may ask, so that a decision can be made again by another policy (`nunbirdctl diff`).
#[derive(Debug, Clone, Serialize, Default)]
pub(crate) struct Claims<'a> {
    #[serde(rename = "ref")]
    pub(crate) git_ref: &'a str,
    pub(crate) namespace_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ref_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ref_protected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline_source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fork: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment_protected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runner_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_access_level: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) groups_direct: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) user_identities: Vec<ProviderIdentity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) validated: Option<&'a str>,
}

/// One of the user's accounts with identity providers, as the claim has it: there may be two with one provider.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProviderIdentity<'a> {
    pub(crate) provider: &'a str,
    pub(crate) extern_uid: &'a str,
}

impl<'a> Claims<'a> {
    pub(crate) fn of(subject: &'a Subject) -> Self {
        Claims {
            git_ref: &subject.git_ref,
            namespace_path: &subject.namespace_path,
            ref_type: subject.ref_type.as_deref(),
            ref_protected: subject.ref_protected,
            pipeline_source: subject.pipeline_source.as_deref(),
            fork: subject.fork,
            environment: subject.environment.as_deref(),
            environment_protected: subject.environment_protected,
            runner_id: subject.runner_id,
            user_email: subject.user_email.as_deref(),
            user_access_level: subject.access_level.as_deref(),
            groups_direct: subject.groups.as_deref(),
            user_identities: subject
                .identities
                .iter()
                .map(|(provider, extern_uid)| ProviderIdentity { provider, extern_uid })
                .collect(),
            validated: subject.validated.as_deref(),
        }
    }
}

/// The account of a job.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Account<'a> {
    #[serde(rename = "account")]
    pub(crate) name: &'a str,
    pub(crate) uid: u32,
}

/// The end of a stage. Either an exit code or a signal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// Milliseconds since the stage's start.
    pub(crate) duration_ms: u64,
    /// A stage in the batch scheduler, in its account's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<Summary>,
}

/// What the processes of a job have used together, where the kernel counts it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Used {
    /// Microseconds.
    #[serde(rename = "used_cpu_us", skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_time: Option<u64>,
    /// Bytes.
    #[serde(rename = "used_memory_peak", skip_serializing_if = "Option::is_none")]
    pub(crate) memory_peak: Option<u64>,
    #[serde(rename = "used_pids_peak", skip_serializing_if = "Option::is_none")]
    pub(crate) pids_peak: Option<u64>,
    /// Bytes.
    #[serde(rename = "used_read", skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<u64>,
    /// Bytes.
    #[serde(rename = "used_written", skip_serializing_if = "Option::is_none")]
    pub(crate) written: Option<u64>,
    #[serde(rename = "oom_kills", skip_serializing_if = "Option::is_none")]
    pub(crate) oom_kills: Option<u64>,
    /// Microseconds.
    #[serde(rename = "throttled_us", skip_serializing_if = "Option::is_none")]
    pub(crate) throttled: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) forks_refused: Option<u64>,
}

/// The limits of a job.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Given<'a> {
    /// The site's name of them.
    pub(crate) limits: &'a str,
    /// Bytes.
    #[serde(rename = "limit_memory", skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<u64>,
    /// Thousandths of a processor.
    #[serde(rename = "limit_cpu", skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<u64>,
    #[serde(rename = "limit_pids", skip_serializing_if = "Option::is_none")]
    pub(crate) pids: Option<u64>,
}

impl<'a> Given<'a> {
    pub(super) fn of(job: &'a JobLimits) -> Self {
        let Amounts { memory, cpu, pids, .. } = job.amounts;
        Given { limits: &job.name, memory, cpu, pids }
    }
}

impl Used {
    pub(super) fn of(usage: nunbird_cgroup::Usage) -> Self {
        Used {
            cpu_time: usage.cpu_time,
            memory_peak: usage.memory_peak,
            pids_peak: usage.pids_peak,
            read: usage.read,
            written: usage.written,
            oom_kills: usage.oom_kills,
            throttled: usage.throttled,
            forks_refused: usage.forks_refused,
        }
    }
}

impl Event<'_> {
    /// One line for people. What strangers wrote goes through [`nunbird_handover::Untrusted`].
    pub(crate) fn message(&self) -> String {
        use nunbird_handover::Untrusted;
        let mut text = match &self.job {
            Some(job) => format!("job {} of {}", job.job_id, Untrusted(job.project_path)),
            None => "a job".to_owned(),
        };
        if let Some(job) = &self.job {
            let _infallible = write!(text, " ({}, user {})", Untrusted(job.user_login), job.user_id);
        }
        let account = self.account.as_ref();
        let account = account.map_or(String::new(), |a| format!(" as {} (uid {})", Untrusted(a.name), a.uid));
        let stage = self.script.map_or(self.stage, |script| script.name.as_str());
        let said = match self.outcome {
            Outcome::Admitted => {
                let rule = self.rule.map_or("", |rule| rule.name.as_str());
                format!("admitted{account} by rule `{}`", Untrusted(rule))
            }
            Outcome::Denied => {
                let cause = self.detail.and_then(|detail| detail.lines().next()).unwrap_or("");
                let code = self.code.unwrap_or("");
                let more = self.left_out.map_or(String::new(), |n| format!(" (and {n} more, not written)"));
                format!("denied in {}: [{}] {}{more}", self.stage, Untrusted(code), Untrusted(cause))
            }
            Outcome::StageStarted => format!("{} started{account}", Untrusted(stage)),
            Outcome::StageEnded => format!("{} ended{account}{}", Untrusted(stage), self.end_in_words()),
        };
        let _infallible = write!(text, ": {} [{}]", said.trim_end_matches([':', ' ']), self.decision_id);
        text
    }

    fn end_in_words(&self) -> String {
        let Some(end) = &self.end else { return String::new() };
        let how = match (end.exit_code, end.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        };
        format!(" with {how} after {} ms", end.duration_ms)
    }
}

pub(super) fn job(record: &Record) -> Job<'_> {
    Job {
        server: &record.identity.server,
        job_id: record.job_id,
        pipeline_id: record.pipeline_id,
        project_id: record.project_id,
        project_path: &record.identity.project_path,
        user_login: &record.identity.user_login,
        user_id: record.identity.user_id,
        identity_source: &record.identity_source,
        claims: None,
    }
}

/// Seconds since the epoch as RFC 3339 has them, in UTC.
///
/// The calendar is the proleptic Gregorian one, whose 400 years have 146,097 days.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March put the leap day at their end.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let day = day - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn seconds_become_the_calendars_date() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
