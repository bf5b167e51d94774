//! The report's numbers.

use super::facts::{DAY, Facts, JobFacts};
use crate::time::moment;
use nunbird_handover::Untrusted;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Rows of a table that grows with the site; the rest is summed in one row more.
const ROWS: usize = 20;
/// Clean-ups that are named.
const SLOWEST: usize = 10;

/// Half, nine tenths and all of the values are at most these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) half: u64,
    pub(super) most: u64,
    pub(super) all: u64,
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let at = |tenths: usize| values.get((values.len() * tenths).div_ceil(10).max(1) - 1).copied();
        Some(Spread { half: at(5)?, most: at(9)?, all: at(10)? })
    }

    fn machine(spread: Option<&Self>) -> Value {
        spread.map_or(Value::Null, |s| json!({ "p50": s.half, "p90": s.most, "max": s.all }))
    }
}

/// Jobs that have a place, a group or anything else in common.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) name: String,
    pub(super) jobs: usize,
    pub(super) failed: usize,
    /// Seconds in GitLab's queue, in the scheduler's, and from admission to the end.
    pub(super) queued: Option<Spread>,
    pub(super) waited: Option<Spread>,
    pub(super) lasted: Option<Spread>,
    /// Thousandths of a core hour; none where no job was measured.
    pub(super) core_hours: Option<u64>,
    /// Limit and peak of memory, bytes, of jobs that have both.
    pub(super) asked: Option<Spread>,
    pub(super) used: Option<Spread>,
}

impl Share {
    fn of(name: String, jobs: &[&JobFacts]) -> Self {
        let spread =
            |of: fn(&JobFacts) -> Option<u64>| Spread::of(jobs.iter().filter_map(|job| of(job)).collect());
        let cpu: Vec<u64> = jobs.iter().filter_map(|job| job.cpu_ms).collect();
        let both = |of: fn(u64, u64) -> u64| {
            let jobs = jobs.iter().filter_map(|job| Some(of(job.memory_limit?, job.memory?)));
            Spread::of(jobs.collect())
        };
        Share {
            name,
            jobs: jobs.len(),
            failed: jobs.iter().filter(|job| job.failed).count(),
            queued: spread(|job| job.queued),
            waited: spread(|job| job.waited),
            lasted: spread(|job| job.lasted),
            core_hours: (!cpu.is_empty())
                .then(|| cpu.iter().fold(0_u64, |all, ms| all.saturating_add(*ms)) / 3600),
            asked: both(|limit, _| limit),
            used: both(|_, peak| peak),
        }
    }

    fn machine(&self) -> Value {
        json!({
            "name": self.name, "jobs": self.jobs, "failed": self.failed,
            "gitlab_queue_s": Spread::machine(self.queued.as_ref()),
            "scheduler_queue_s": Spread::machine(self.waited.as_ref()),
            "job_s": Spread::machine(self.lasted.as_ref()),
            "core_hours": self.core_hours.map(thousandths),
            "memory_limit": Spread::machine(self.asked.as_ref()),
            "memory_peak": Spread::machine(self.used.as_ref()),
        })
    }
}

/// A clean-up that took long.
#[derive(Debug)]
pub(super) struct SlowCleanup {
    pub(super) ms: u64,
    pub(super) job: String,
    pub(super) project: String,
    pub(super) decision: String,
}

/// Everything that the report shows.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) since: u64,
    pub(super) until: Option<u64>,
    /// Day (as a date), admissions, refusals; days without any between two others are there.
    pub(super) days: Vec<(String, usize, usize)>,
    /// Code, rule, count; the most frequent first.
    pub(super) denials: Vec<(String, String, usize)>,
    pub(super) all: Share,
    pub(super) executors: Vec<Share>,
    pub(super) groups: Vec<Share>,
    pub(super) cleanups: Vec<SlowCleanup>,
}

impl Figures {
    pub(super) fn of(facts: &Facts, since: u64, until: Option<u64>) -> Self {
        let mut denials: Vec<_> =
            facts.denials.iter().map(|((code, rule), count)| (code.clone(), rule.clone(), *count)).collect();
        denials.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1))));
        let mut slow: Vec<(u64, &JobFacts)> =
            facts.jobs.iter().filter_map(|job| Some((job.cleanup_ms?, job))).collect();
        slow.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.decision.cmp(&b.1.decision)));
        slow.truncate(SLOWEST);
        let cleanups = slow.into_iter().map(|(ms, job)| SlowCleanup {
            ms,
            job: job.id.clone(),
            project: job.project.clone(),
            decision: job.decision.clone(),
        });
        Figures {
            since,
            until,
            days: days(facts),
            denials,
            all: Share::of("all".to_owned(), &facts.jobs.iter().collect::<Vec<_>>()),
            executors: shares(&facts.jobs, |job| &job.executor),
            groups: shares(&facts.jobs, |job| &job.group),
            cleanups: cleanups.collect(),
        }
    }

    /// Refusals in all.
    pub(super) fn denied(&self) -> usize {
        self.denials.iter().map(|(.., count)| count).sum()
    }

    /// Such as `2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z`.
    pub(super) fn span(&self) -> String {
        let until = self.until.map_or_else(|| "now".to_owned(), moment);
        format!("{} to {until}", moment(self.since))
    }

    pub(super) fn machine(&self) -> Value {
        let shares = |all: &[Share]| all.iter().map(Share::machine).collect::<Vec<_>>();
        json!({
            "since": moment(self.since), "until": self.until.map(moment),
            "jobs": self.all.machine(), "denied": self.denied(),
            "days": self.days.iter().map(|(day, admitted, denied)| json!({
                "day": day, "admitted": admitted, "denied": denied,
            })).collect::<Vec<_>>(),
            "denials": self.denials.iter().map(|(code, rule, count)| json!({
                "code": code, "rule": rule, "count": count,
            })).collect::<Vec<_>>(),
            "executors": shares(&self.executors), "groups": shares(&self.groups),
            "slowest_cleanups": self.cleanups.iter().map(|one| json!({
                "ms": one.ms, "job_id": one.job, "project_path": one.project, "decision_id": one.decision,
            })).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}: {} jobs, of which {} failed; {} refusals\n",
            self.span(),
            self.all.jobs,
            self.all.failed,
            self.denied()
        );
        for (title, shares) in [("executor", &self.executors), ("group", &self.groups)] {
            text.push_str(&format!(
                "\n{:>6} {:>6} {:>10} {:>10} {:>10} {:>10} {:>14}  {title}\n",
                "jobs", "failed", "in GitLab", "in queue", "job", "core h", "memory"
            ));
            for share in shares {
                text.push_str(&format!(
                    "{:>6} {:>6} {:>10} {:>10} {:>10} {:>10} {:>14}  {}\n",
                    share.jobs,
                    share.failed,
                    half(share.queued, seconds),
                    half(share.waited, seconds),
                    half(share.lasted, seconds),
                    share.core_hours.map_or_else(|| "-".to_owned(), hours),
                    memory(share),
                    Untrusted(&share.name),
                ));
            }
        }
        if !self.executors.is_empty() {
            text.push_str("times are medians; memory is the median of what was used, of the median limit; core hours and waits in a \
                 scheduler are values that the job's account could have changed\n");
        }
        if !self.denials.is_empty() {
            text.push_str("\nrefusals  code, rule\n");
        }
        for (code, rule, count) in &self.denials {
            let rule = if rule.is_empty() { String::new() } else { format!(", {}", Untrusted(rule)) };
            text.push_str(&format!("{count:>8}  {}{rule}\n", Untrusted(code)));
        }
        if !self.cleanups.is_empty() {
            text.push_str("\n cleanup  slowest\n");
        }
        for one in &self.cleanups {
            text.push_str(&format!(
                "{:>8}  job {} of {} [{}]\n",
                milliseconds(one.ms),
                Untrusted(&one.job),
                Untrusted(&one.project),
                Untrusted(&one.decision)
            ));
        }
        text
    }
}

/// The largest shares first, and the rest as one.
fn shares(jobs: &[JobFacts], name: impl Fn(&JobFacts) -> &str) -> Vec<Share> {
    let mut by: BTreeMap<&str, Vec<&JobFacts>> = BTreeMap::new();
    for job in jobs {
        by.entry(name(job)).or_default().push(job);
    }
    let mut all: Vec<(&str, Vec<&JobFacts>)> = by.into_iter().collect();
    all.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.0.cmp(b.0)));
    let rest: Vec<&JobFacts> =
        all.split_off(ROWS.min(all.len())).into_iter().flat_map(|(_, jobs)| jobs).collect();
    let named = all.into_iter().map(|(name, jobs)| {
        let name = if name.is_empty() { "(unknown)" } else { name };
        Share::of(name.to_owned(), &jobs)
    });
    let mut found: Vec<Share> = named.collect();
    if !rest.is_empty() {
        found.push(Share::of("(others)".to_owned(), &rest));
    }
    found
}

/// A year and a day between two days at most: a wrong clock does not fill the page.
fn days(facts: &Facts) -> Vec<(String, usize, usize)> {
    let (Some(first), Some(last)) = (facts.days.keys().next(), facts.days.keys().next_back()) else {
        return Vec::new();
    };
    let first = *first.max(&last.saturating_sub(366));
    (first..=*last)
        .map(|day| {
            let (admitted, denied) = facts.days.get(&day).copied().unwrap_or_default();
            let date = moment(day.saturating_mul(DAY));
            (date.split('T').next().unwrap_or(&date).to_owned(), admitted, denied)
        })
        .collect()
}

/// As a number of JSON's; a number of this form is one.
fn thousandths(value: u64) -> Value {
    format!("{}.{:03}", value / 1000, value % 1000).parse::<f64>().map_or(Value::Null, |hours| json!(hours))
}

pub(super) fn half(spread: Option<Spread>, show: fn(u64) -> String) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| show(spread.half))
}

/// Such as `12.5`, of thousandths of an hour; `0.003` where tenths would say nothing.
pub(super) fn hours(thousandths: u64) -> String {
    match thousandths {
        0..10_000 => format!("{}.{:03}", thousandths / 1000, thousandths % 1000),
        _ => format!("{}.{}", thousandths / 1000, thousandths / 100 % 10),
    }
}

/// Such as `45 s`, `12 min`, `3 h 05 min`.
pub(super) fn seconds(s: u64) -> String {
    match s {
        0..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        _ => format!("{} h {:02} min", s / 3600, s / 60 % 60),
    }
}

pub(super) fn milliseconds(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { seconds(ms / 1000) }
}

/// Such as `1.2/4.0 GiB`: used, of the limit.
pub(super) fn memory(share: &Share) -> String {
    let gib = |bytes: u64| {
        let tenths = bytes.saturating_mul(10) >> 30;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match (share.used, share.asked) {
        (Some(used), Some(asked)) => format!("{}/{} GiB", gib(used.half), gib(asked.half)),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Spread, hours, seconds};

    #[test]
    fn a_spread_is_of_values_that_there_are() {
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(Spread::of(vec![7]), Some(Spread { half: 7, most: 7, all: 7 }));
        let spread = Spread::of((1..=100).rev().collect());
        assert_eq!(spread, Some(Spread { half: 50, most: 90, all: 100 }));
        assert_eq!(Spread::of(vec![1, 2, 3]), Some(Spread { half: 2, most: 3, all: 3 }));
    }

    #[test]
    fn amounts_are_shown_in_units_that_people_use() {
        assert_eq!([hours(12_345), hours(9_999), hours(3)], ["12.3", "9.999", "0.003"]);
        assert_eq!(
            [seconds(119), seconds(120), seconds(7199), seconds(11_100)],
            ["119 s", "2 min", "119 min", "3 h 05 min"]
        );
    }
}
