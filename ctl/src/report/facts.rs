//! Jobs and refusals, gathered from events of the audit file (docs/audit.md).

use crate::event::{Event, batch_usage, shown};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// In seconds.
pub(super) const DAY: u64 = 86_400;

/// One admitted job. Durations are none where no event has them: the job is not over, or was never measured.
#[derive(Debug, Default)]
pub(super) struct JobFacts {
    pub(super) id: String,
    pub(super) decision: String,
    pub(super) project: String,
    /// The project's namespace.
    pub(super) group: String,
    /// `shell`, or the scheduler's name.
    pub(super) executor: String,
    /// Seconds in GitLab's queue.
    pub(super) queued: Option<u64>,
    /// Seconds in the scheduler's queue, of all stages.
    pub(super) waited: Option<u64>,
    /// Seconds from admission to the end.
    pub(super) lasted: Option<u64>,
    /// CPU time in milliseconds, of the stages on this host and of those in the scheduler.
    pub(super) cpu_ms: Option<u64>,
    /// Peak and limit of memory, in bytes.
    pub(super) memory: Option<u64>,
    pub(super) memory_limit: Option<u64>,
    /// Milliseconds of `cleanup`.
    pub(super) cleanup_ms: Option<u64>,
    /// A stage failed, was refused, or was ended by a signal.
    pub(super) failed: bool,
}

/// All that the report counts.
#[derive(Debug, Default)]
pub(super) struct Facts {
    of: HashMap<String, usize>,
    pub(super) jobs: Vec<JobFacts>,
    /// Admissions and refusals of each day since the epoch.
    pub(super) days: BTreeMap<u64, (usize, usize)>,
    /// Refusals by code and rule; without a rule where none was reached.
    pub(super) denials: BTreeMap<(String, String), usize>,
}

impl Facts {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.denials.is_empty()
    }

    pub(super) fn add(&mut self, event: &Event, time: u64) {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("");
        let (outcome, stage) = (text("outcome"), text("stage"));
        if outcome == "denied" {
            // Refusals that were counted and not written were this runner account's in the same minutes.
            let others = event.get("left_out").and_then(Value::as_u64).unwrap_or(0);
            let count = 1 + usize::try_from(others).unwrap_or(0);
            let rule = event.get("rule").and_then(|rule| rule.get("name")).and_then(Value::as_str);
            let key = (text("code").to_owned(), rule.unwrap_or("").to_owned());
            *self.denials.entry(key).or_default() += count;
            if stage == "config" {
                self.days.entry(time / DAY).or_default().1 += count;
            }
        }
        let decision = text("decision_id");
        if outcome == "admitted" {
            self.days.entry(time / DAY).or_default().0 += 1;
            self.of.insert(decision.to_owned(), self.jobs.len());
            self.jobs.push(JobFacts { decision: decision.to_owned(), ..JobFacts::default() });
        }
        // A job that was admitted before the span is not one of it.
        let Some(job) = self.of.get(decision).and_then(|index| self.jobs.get_mut(*index)) else { return };
        job.learn(event);
    }
}

impl JobFacts {
    fn learn(&mut self, event: &Event) {
        let number = |name: &str| event.get(name).and_then(Value::as_u64);
        for (name, field) in [
            ("job_id", &mut self.id),
            ("project_path", &mut self.project),
            ("namespace_path", &mut self.group),
            ("executor", &mut self.executor),
        ] {
            if let Some(value) = shown(event, name) {
                *field = value;
            }
        }
        self.queued = number("queued_s").or(self.queued);
        self.lasted = number("job_s").or(self.lasted);
        self.memory = number("used_memory_peak").max(self.memory);
        self.memory_limit = number("limit_memory").or(self.memory_limit);
        let mut cpu_ms = number("used_cpu_us").map(|us| us / 1000);
        let (waited, batch_cpu) = batch_usage(event);
        self.waited = sum(self.waited, waited);
        cpu_ms = sum(cpu_ms, batch_cpu);
        self.cpu_ms = sum(self.cpu_ms, cpu_ms);
        let is = |name: &str, value: &str| event.get(name).and_then(Value::as_str) == Some(value);
        if is("outcome", "stage-ended") {
            self.failed |= event.contains_key("signal") || number("exit_code").is_some_and(|code| code != 0);
            if is("stage", "cleanup") {
                self.cleanup_ms = number("duration_ms");
            }
        }
        self.failed |= is("outcome", "denied");
    }
}

/// None where neither is known. Values of a hostile event do not overflow.
fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
