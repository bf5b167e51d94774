//! Past events in few lines: one for each job, or the number of events of each kind.

use crate::event::{Event, shown};
use crate::time::moment;
use nunbird_handover::Untrusted;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Jobs by their decisions, in the order in which they began.
#[derive(Default)]
pub(crate) struct Jobs {
    of: HashMap<String, usize>,
    all: Vec<Job>,
}

/// One job, as far as its events show.
#[derive(Default)]
struct Job {
    decision: String,
    start: u64,
    /// The time of its `cleanup`, or of its denial.
    end: Option<u64>,
    /// `job_id`, `project_path`, `user_login`, `account`, `rule`.
    known: BTreeMap<&'static str, String>,
    /// The first failure.
    failed: Option<String>,
    usage: BTreeMap<&'static str, u64>,
}

const KNOWN: [&str; 4] = ["job_id", "project_path", "user_login", "account"];
const USAGE: [&str; 4] = ["used_cpu_us", "used_memory_peak", "job_s", "queued_s"];

impl Jobs {
    pub(crate) fn add(&mut self, event: &Event) {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("");
        let number = |name: &str| event.get(name).and_then(Value::as_u64);
        let decision = text("decision_id").to_owned();
        let index = *self.of.entry(decision.clone()).or_insert(self.all.len());
        if index == self.all.len() {
            self.all.push(Job { decision, start: number("time").unwrap_or(0), ..Job::default() });
        }
        let Some(job) = self.all.get_mut(index) else { return };
        for name in KNOWN {
            if let Some(value) = shown(event, name) {
                job.known.insert(name, value);
            }
        }
        if let Some(rule) = event.get("rule").and_then(|rule| rule.get("name")).and_then(Value::as_str) {
            job.known.insert("rule", rule.to_owned());
        }
        for name in USAGE {
            if let Some(value) = number(name) {
                job.usage.insert(name, value);
            }
        }
        let stage = if event.contains_key("script") { text("script") } else { text("stage") };
        let failed = match (text("outcome"), number("signal"), number("exit_code")) {
            ("denied", ..) => Some(format!("denied [{}] in {stage}", text("code"))),
            ("stage-ended", Some(signal), _) => Some(format!("signal {signal} in {stage}")),
            ("stage-ended", _, Some(code)) if code != 0 => Some(format!("exit code {code} in {stage}")),
            _ => None,
        };
        let over = (text("outcome") == "stage-ended" && text("stage") == "cleanup")
            || (text("outcome") == "denied" && text("stage") == "config");
        if over {
            job.end = number("time");
        }
        if job.failed.is_none() {
            job.failed = failed;
        }
    }

    fn last(&self, lines: Option<usize>) -> &[Job] {
        let from = lines.map_or(0, |lines| self.all.len().saturating_sub(lines));
        self.all.get(from..).unwrap_or(&[])
    }

    pub(crate) fn text(&self, lines: Option<usize>) -> String {
        self.last(lines).iter().map(Job::line).collect()
    }

    pub(crate) fn machine(&self, lines: Option<usize>) -> Vec<Value> {
        self.last(lines).iter().map(Job::machine).collect()
    }
}

impl Job {
    fn ended(&self) -> String {
        match (&self.failed, self.end) {
            (Some(failed), _) => failed.clone(),
            (None, Some(_)) => "ok".to_owned(),
            (None, None) => "not over".to_owned(),
        }
    }

    fn line(&self) -> String {
        let known = |name: &str| {
            let value = self.known.get(name).map_or("-", String::as_str);
            Untrusted(value).to_string()
        };
        let end = self.end.map_or_else(|| "-".to_owned(), moment);
        let mut usage = String::new();
        if let Some(seconds) = self.end.map(|end| end.saturating_sub(self.start)) {
            usage.push_str(&format!(", {seconds} s"));
        }
        if let Some(cpu) = self.usage.get("used_cpu_us") {
            usage.push_str(&format!(", {} s CPU time", cpu / 1_000_000));
        }
        if let Some(memory) = self.usage.get("used_memory_peak") {
            usage.push_str(&format!(", {} MiB", memory >> 20));
        }
        format!(
            "{} {end} job {} of {} by {} as {} ({}): {}{usage}\n",
            moment(self.start),
            known("job_id"),
            known("project_path"),
            known("user_login"),
            known("account"),
            known("rule"),
            Untrusted(&self.ended()),
        )
    }

    fn machine(&self) -> Value {
        let mut job = json!({
            "decision_id": self.decision, "start": moment(self.start), "end": self.end.map(moment),
            "ended": self.ended(), "seconds": self.end.map(|end| end.saturating_sub(self.start)),
        });
        if let Some(fields) = job.as_object_mut() {
            for (name, value) in &self.known {
                let number = (*name == "job_id").then(|| value.parse::<u64>().ok()).flatten();
                fields
                    .insert((*name).to_owned(), number.map_or_else(|| json!(value), |number| json!(number)));
            }
            fields.extend(self.usage.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        }
        job
    }
}

/// The number of events of each kind.
#[derive(Default)]
pub(crate) struct Counts(BTreeMap<&'static str, BTreeMap<String, usize>>);

impl Counts {
    pub(crate) fn add(&mut self, event: &Event) {
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        let mut count = |kind, value: Option<&str>| {
            if let Some(value) = value {
                *self.0.entry(kind).or_default().entry(value.to_owned()).or_default() += 1;
            }
        };
        count("outcome", text("outcome"));
        if text("outcome") == Some("denied") {
            count("code", text("code"));
        }
        if text("outcome") == Some("admitted") {
            count("rule", event.get("rule").and_then(|rule| rule.get("name")).and_then(Value::as_str));
            count("account", text("account"));
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (kind, values) in &self.0 {
            let mut values: Vec<(&String, &usize)> = values.iter().collect();
            values.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
            for (value, count) in values {
                text.push_str(&format!("{kind:<8} {count:>9}  {}\n", Untrusted(value)));
            }
        }
        text
    }

    pub(crate) fn machine(&self) -> Value {
        json!(self.0)
    }
}
