//! What is counted of each event. No label has a user's, a project's or a job's name: their number has no bound.

use super::exposition::{Families, Histogram};
use super::{number, text};
use crate::codes;
use crate::event::{Event, batch_usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Upper bounds in seconds: what a stage costs, what a person waits for, what a batch job lasts.
const SECONDS: [u64; 12] = [1, 5, 15, 60, 300, 900, 3600, 14_400, 43_200, 86_400, 259_200, 604_800];
/// Rules, codes and executors are the site's, but some words come from programs that run as users.
const MOST_SERIES: usize = 200;
/// The label value of all series above that.
const OTHERS: &str = "(others)";

/// A series of a family: values of the family's labels, in their order.
type Labels = Vec<String>;

/// All counts so far.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Counts {
    admitted: Vec<(Labels, u64)>,
    refusals: Vec<(Labels, u64)>,
    stages: Vec<(Labels, u64)>,
    batch_ends: Vec<(Labels, u64)>,
    /// Milliseconds.
    cpu: Vec<(Labels, u64)>,
    gitlab_queue: Vec<(Labels, Histogram)>,
    scheduler_queue: Vec<(Labels, Histogram)>,
    jobs: Vec<(Labels, Histogram)>,
    cleanups: Vec<(Labels, Histogram)>,
    oom_kills: u64,
    unread_lines: u64,
    gaps: u64,
}

impl Counts {
    pub(super) fn add(&mut self, event: &Event) {
        let executor = || vec![text(event, "executor").to_owned()];
        match text(event, "outcome") {
            "admitted" => {
                let rule = event.get("rule").and_then(|rule| rule.get("name")).and_then(Value::as_str);
                let labels = vec![rule.unwrap_or("").to_owned(), text(event, "executor").to_owned()];
                *series(&mut self.admitted, labels) += 1;
                if let Some(queued) = number(event, "queued_s") {
                    series(&mut self.gitlab_queue, Vec::new()).observe(&SECONDS, queued);
                }
            }
            "denied" => {
                let labels = vec![text(event, "code").to_owned(), text(event, "stage").to_owned()];
                let others = number(event, "left_out").unwrap_or(0);
                let count = series(&mut self.refusals, labels);
                *count = count.saturating_add(others).saturating_add(1);
            }
            "stage-ended" => self.ended(event, executor),
            _ => {}
        }
    }

    fn ended(&mut self, event: &Event, executor: impl Fn() -> Labels) {
        let stage = text(event, "stage");
        let result = match (number(event, "signal"), number(event, "exit_code")) {
            (Some(_), _) => "signal",
            (None, Some(0)) => "ok",
            _ => "failed",
        };
        *series(&mut self.stages, vec![stage.to_owned(), result.to_owned()]) += 1;
        let mut cpu = number(event, "used_cpu_us").map(|us| us / 1000);
        if let Some(batch) = event.get("batch").and_then(Value::as_object) {
            let end = vec![text(event, "executor").to_owned(), text(batch, "end").to_owned()];
            *series(&mut self.batch_ends, end) += 1;
            let (queued, batch_cpu) = batch_usage(event);
            if let Some(queued) = queued {
                series(&mut self.scheduler_queue, executor()).observe(&SECONDS, queued);
            }
            cpu = cpu.into_iter().chain(batch_cpu).reduce(u64::saturating_add);
        }
        if let Some(cpu) = cpu {
            let sum = series(&mut self.cpu, executor());
            *sum = sum.saturating_add(cpu);
        }
        if stage == "cleanup" {
            let ms = number(event, "duration_ms").unwrap_or(0);
            series(&mut self.cleanups, Vec::new()).observe(&SECONDS, ms.div_ceil(1000));
            if let Some(lasted) = number(event, "job_s") {
                series(&mut self.jobs, executor()).observe(&SECONDS, lasted);
            }
            self.oom_kills = self.oom_kills.saturating_add(number(event, "oom_kills").unwrap_or(0));
        }
    }

    /// A line that is no event.
    pub(super) fn unread(&mut self) {
        self.unread_lines = self.unread_lines.saturating_add(1);
    }

    /// The rest of a rotated file could not be found.
    pub(super) fn gap(&mut self) {
        self.gaps = self.gaps.saturating_add(1);
    }

    pub(super) fn families(&self) -> Families {
        let mut all = Families::default();
        let rule = ["rule", "executor"];
        all.counters("nunbird_jobs_admitted_total", "Jobs that were admitted.", &rule, &self.admitted);
        let with_class = |(labels, count): &(Labels, u64)| {
            let class = labels.first().map_or("", |code| codes::class(code)).to_owned();
            (labels.iter().cloned().chain([class]).collect(), *count)
        };
        let refusals: Vec<(Labels, u64)> = self.refusals.iter().map(with_class).collect();
        all.counters(
            "nunbird_refusals_total",
            "Calls that were refused.",
            &["code", "stage", "class"],
            &refusals,
        );
        let stage = ["stage", "result"];
        all.counters(
            "nunbird_stages_ended_total",
            "Stages that ended: ok, failed, or by a signal.",
            &stage,
            &self.stages,
        );
        let end = ["executor", "end"];
        all.counters("nunbird_batch_ends_total", "How stages in a scheduler ended.", &end, &self.batch_ends);
        let executor = ["executor"];
        let help = "CPU time that was measured: of jobs with limits on this host, and of stages in a scheduler, which the job's account could have changed.";
        all.thousandths("nunbird_cpu_seconds_total", help, &executor, &self.cpu);
        let help = "Seconds that a job waited in GitLab for a runner.";
        all.histograms("nunbird_gitlab_queue_seconds", help, &[], &SECONDS, &self.gitlab_queue);
        let help = "Seconds that a stage waited in the scheduler.";
        all.histograms("nunbird_scheduler_queue_seconds", help, &executor, &SECONDS, &self.scheduler_queue);
        let help = "Seconds from a job's admission to its end.";
        all.histograms("nunbird_job_seconds", help, &executor, &SECONDS, &self.jobs);
        let help = "Seconds of a job's cleanup, rounded up.";
        all.histograms("nunbird_cleanup_seconds", help, &[], &SECONDS, &self.cleanups);
        let help = "Processes that the kernel killed because their job's memory was used up.";
        all.counters("nunbird_oom_kills_total", help, &[], &[(Vec::new(), self.oom_kills)]);
        let help = "Lines of the audit file that are no events, such as half a line of a full disk.";
        all.counters("nunbird_audit_lines_unread_total", help, &[], &[(Vec::new(), self.unread_lines)]);
        let help = "Rotated audit files that were gone before they were counted to the end.";
        all.counters("nunbird_audit_gaps_total", help, &[], &[(Vec::new(), self.gaps)]);
        all
    }
}

/// The value of these labels, which is made where it is missing.
fn series<T: Default>(family: &mut Vec<(Labels, T)>, mut labels: Labels) -> &mut T {
    let known =
        |family: &[(Labels, T)], labels: &Labels| family.iter().position(|(known, _)| known == labels);
    let mut index = known(family, &labels);
    if index.is_none() && family.len() >= MOST_SERIES {
        labels.iter_mut().for_each(|label| OTHERS.clone_into(label));
        index = known(family, &labels);
    }
    let index = index.unwrap_or_else(|| {
        family.push((labels, T::default()));
        family.len() - 1
    });
    &mut family[index].1
}

#[cfg(test)]
mod tests {
    use super::{Counts, MOST_SERIES};
    use crate::event::Event;
    use serde_json::{Value, json};

    fn event(value: Value) -> Event {
        let Value::Object(event) = value else { panic!("not an event") };
        event
    }

    #[test]
    fn each_kind_of_event_is_counted_once_by_its_labels() {
        let mut counts = Counts::default();
        let admitted =
            json!({ "outcome": "admitted", "rule": { "name": "hpc" }, "executor": "slurm", "queued_s": 4 });
        for value in [
            admitted.clone(),
            admitted,
            json!({ "outcome": "denied", "code": "no-rule", "stage": "config", "left_out": 9 }),
            json!({ "outcome": "stage-started", "stage": "run" }),
            json!({ "outcome": "stage-ended", "stage": "run", "exit_code": 1, "executor": "slurm", "duration_ms": 120_000,
                    "batch": { "end": "failed", "queued_s": 100, "used_cpu_ms": 1500 } }),
            // No stage of two minutes waits for years, or uses more than there is.
            json!({ "outcome": "stage-ended", "stage": "run", "exit_code": 0, "executor": "slurm", "duration_ms": 120_000,
                    "batch": { "end": "success", "queued_s": u32::MAX, "used_cpu_ms": u64::MAX } }),
            json!({ "outcome": "stage-ended", "stage": "run", "signal": 9 }),
            json!({ "outcome": "stage-ended", "stage": "cleanup", "exit_code": 0, "executor": "slurm", "duration_ms": 5001,
                    "job_s": 700, "used_cpu_us": 2_000_000, "oom_kills": 2 }),
        ] {
            counts.add(&event(value));
        }
        let text = counts.families().text();
        for line in [
            "nunbird_jobs_admitted_total{rule=\"hpc\",executor=\"slurm\"} 2",
            "nunbird_refusals_total{code=\"no-rule\",stage=\"config\",class=\"denial\"} 10",
            "nunbird_stages_ended_total{stage=\"run\",result=\"failed\"} 1",
            "nunbird_stages_ended_total{stage=\"run\",result=\"signal\"} 1",
            "nunbird_stages_ended_total{stage=\"cleanup\",result=\"ok\"} 1",
            "nunbird_batch_ends_total{executor=\"slurm\",end=\"failed\"} 1",
            "nunbird_cpu_seconds_total{executor=\"slurm\"} 3.500",
            "nunbird_gitlab_queue_seconds_bucket{le=\"1\"} 0",
            "nunbird_gitlab_queue_seconds_bucket{le=\"5\"} 2",
            "nunbird_gitlab_queue_seconds_sum 8",
            "nunbird_scheduler_queue_seconds_bucket{executor=\"slurm\",le=\"60\"} 0",
            "nunbird_scheduler_queue_seconds_bucket{executor=\"slurm\",le=\"300\"} 1",
            "nunbird_job_seconds_count{executor=\"slurm\"} 1",
            "nunbird_cleanup_seconds_bucket{le=\"5\"} 0",
            "nunbird_cleanup_seconds_bucket{le=\"15\"} 1",
            "nunbird_oom_kills_total 2",
            "nunbird_audit_lines_unread_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn words_of_others_make_a_bounded_number_of_series() {
        let mut counts = Counts::default();
        let kinds = MOST_SERIES as u64 + 50;
        for kind in 0..kinds {
            let end = format!("end{kind}");
            counts.add(&event(json!({
                "outcome": "stage-ended", "stage": "run", "executor": "slurm", "batch": { "end": end, "used_cpu_ms": u64::MAX },
            })));
        }
        assert_eq!(counts.batch_ends.len(), MOST_SERIES + 1);
        let all: u64 = counts.batch_ends.iter().map(|(_, count)| count).sum();
        assert_eq!(all, kinds);
    }
}
