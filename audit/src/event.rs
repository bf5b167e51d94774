//! What an event says. `docs/audit.md` has every field with its type, unit and meaning.
//!
//! No field is ever a secret: there is none that could hold a token, a variable's value or a script's text.

use nunbird_handover::{Amounts, Engine, JobLimits, JobSpec, Moment, RuleRef, Summary};
use nunbird_sys::clock;
use nunbird_unprivileged::process;
use serde::{Serialize, Serializer};
use std::fmt::Write;

/// Goes up when a field changes its meaning or goes; a new field does not raise it.
const SCHEMA: u32 = 1;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
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
    pub fn name(self) -> &'static str {
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
pub struct Event<'a> {
    pub schema: u32,
    /// Seconds since the epoch.
    pub time: u64,
    /// The same in UTC, RFC 3339.
    pub timestamp: String,
    pub outcome: Outcome,
    pub decision_id: &'a str,
    pub host: String,
    /// `config`, `prepare`, `run` or `cleanup`.
    pub stage: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub script: Option<&'a Script>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// What the job has used, when `cleanup` ends.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Used>,
    /// Seconds that the job waited in GitLab for a runner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_s: Option<u64>,
    /// Seconds since the admission, when `cleanup` ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_s: Option<u64>,
    /// What the job was given, when `cleanup` ends.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given<'a>>,
    /// Why it was denied, in one stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    /// Why it was denied, in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// Facts of the verified identity.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job<'a>>,
    /// The account, where the job got one.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account<'a>>,
    /// Where the job's script runs: `shell`, or the scheduler's name in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<&'a str>,
    /// The container of the user's scripts, where the job has one.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container<'a>>,
    /// What let its image pass, in `config` alone: the key of the container's table, with the pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a RuleRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<&'a str>,
    pub runner_uid: u32,
    pub privilege: &'static str,
    /// Refusals of this runner account without a verified identity that were not written since the last one that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
    /// The claims made the event too large.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub claims_left_out: bool,
    /// Where this event could not be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_written: Option<String>,
}

/// Facts of a verified identity.
#[derive(Debug, Clone, Serialize)]
pub struct Job<'a> {
    pub server: &'a str,
    pub job_id: u64,
    pub pipeline_id: u64,
    pub project_id: u64,
    pub project_path: &'a str,
    pub user_login: &'a str,
    pub user_id: u64,
    pub identity_source: &'a str,
    /// In `config` alone: later stages go by the record.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims<'a>>,
}

impl Job<'_> {
    /// The facts that it has as fields of its own, in the events of every stage.
    pub const FACTS: [&'static str; 6] =
        ["server", "project_id", "project_path", "user_login", "user_id", "identity_source"];
}

/// All other facts that rules may ask for, by name, so that a decision can be made again by another policy (`nunbirdctl diff`).
#[derive(Debug, Clone, Default)]
pub struct Claims<'a>(pub Vec<(&'static str, Claim<'a>)>);

/// The value of a fact.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Claim<'a> {
    Text(&'a str),
    Number(u64),
    Flag(bool),
    Texts(&'a [String]),
    Identities(Vec<ProviderIdentity<'a>>),
}

impl Serialize for Claims<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// One of the user's accounts with identity providers, as the claim has it: there may be two with one provider.
#[derive(Debug, Clone, Serialize)]
pub struct ProviderIdentity<'a> {
    pub provider: &'a str,
    pub extern_uid: &'a str,
}

/// The account of a job.
#[derive(Debug, Clone, Serialize)]
pub struct Account<'a> {
    #[serde(rename = "account")]
    pub name: &'a str,
    pub uid: u32,
}

/// The container of a job.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Container<'a> {
    /// The site's name of it.
    #[serde(rename = "container")]
    pub name: &'a str,
    /// The engine's name, or the path of its description.
    #[serde(rename = "container_engine")]
    pub engine: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<&'a str>,
}

impl<'a> Container<'a> {
    fn of(container: &'a nunbird_handover::Container) -> Self {
        Container {
            name: &container.name,
            engine: match &container.engine {
                Engine::Named(name) => name,
                Engine::Described(path) => path.to_str().unwrap_or_default(),
            },
            image: container.image.as_ref().map(|image| image.name.as_str()),
        }
    }
}

/// The script of a `run`.
#[derive(Debug, Clone, Serialize)]
pub struct Script {
    /// gitlab-runner's name of the stage: `build_script`, …
    #[serde(rename = "script")]
    pub name: String,
    /// SHA-256 of the bytes that are run, in hexadecimal.
    #[serde(rename = "script_sha256")]
    pub digest: String,
}

/// The end of a stage. Either an exit code or a signal.
#[derive(Debug, Clone, Serialize)]
pub struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Milliseconds since the stage's start.
    pub duration_ms: u64,
    /// A stage in the batch scheduler, in its account's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Summary>,
}

/// What the processes of a job have used together, where the kernel counts it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Used {
    /// Microseconds.
    #[serde(rename = "used_cpu_us", skip_serializing_if = "Option::is_none")]
    pub cpu_time: Option<u64>,
    /// Bytes.
    #[serde(rename = "used_memory_peak", skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
    #[serde(rename = "used_pids_peak", skip_serializing_if = "Option::is_none")]
    pub pids_peak: Option<u64>,
    /// Bytes.
    #[serde(rename = "used_read", skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// Bytes.
    #[serde(rename = "used_written", skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    #[serde(rename = "oom_kills", skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Microseconds.
    #[serde(rename = "throttled_us", skip_serializing_if = "Option::is_none")]
    pub throttled: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forks_refused: Option<u64>,
}

/// The limits of a job.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Given<'a> {
    /// The site's name of them.
    pub limits: &'a str,
    /// Bytes.
    #[serde(rename = "limit_memory", skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    #[serde(rename = "limit_cpu", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    #[serde(rename = "limit_pids", skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

impl<'a> Given<'a> {
    fn of(job: &'a JobLimits) -> Self {
        let Amounts { memory, cpu, pids, .. } = job.amounts;
        Given { limits: &job.name, memory, cpu, pids }
    }
}

impl Used {
    /// What the kernel has counted.
    pub fn of(usage: crate::Usage) -> Self {
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

/// The call of `nunbird-auth` that an event is about.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// 32 lower-case hexadecimal digits.
    pub decision_id: &'a str,
    /// `config`, `prepare`, `run` or `cleanup`.
    pub stage: &'a str,
    /// The script of a `run`.
    pub script: Option<&'a Script>,
    /// What the job has used, once it is over.
    pub usage: Option<Used>,
    /// The account that runs gitlab-runner.
    pub runner_uid: u32,
    /// Where the privilege comes from.
    pub privilege: &'static str,
}

impl<'a> Event<'a> {
    /// An event of a call, with what the job's record says where there is one.
    pub fn of(call: &Circumstances<'a>, record: Option<&'a JobSpec>, outcome: Outcome) -> Self {
        let time = clock::now().unwrap_or(0);
        let over = record.filter(|_| outcome == Outcome::StageEnded && call.stage == "cleanup");
        Event {
            schema: SCHEMA,
            time,
            timestamp: Moment::of(time).rfc3339(),
            outcome,
            decision_id: call.decision_id,
            host: process::short_host_name(),
            stage: call.stage,
            script: call.script,
            end: None,
            usage: call.usage.filter(|_| outcome == Outcome::StageEnded),
            queued_s: record
                .filter(|_| over.is_some() || outcome == Outcome::Admitted)
                .and_then(|record| record.queued_s),
            job_s: over.map(|record| time.saturating_sub(record.admitted_at)),
            given: over.and_then(|record| record.limits.as_ref()).map(Given::of),
            code: None,
            detail: None,
            job: record.map(job),
            account: record.map(|r| Account { name: &r.account.name, uid: r.account.uid }),
            executor: record.map(|r| r.batch.as_ref().map_or("shell", |batch| batch.name.as_str())),
            container: record.and_then(|r| r.container.as_ref()).map(Container::of),
            image_rule: None,
            rule: record.map(|r| &r.rule),
            policy_digest: record.map(|r| r.policy_digest.as_str()),
            runner_uid: call.runner_uid,
            privilege: call.privilege,
            left_out: None,
            claims_left_out: false,
            not_written: None,
        }
    }

    /// One line for people. What strangers wrote goes through [`nunbird_handover::Untrusted`].
    pub fn message(&self) -> String {
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

fn job(record: &JobSpec) -> Job<'_> {
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
