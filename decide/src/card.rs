//! The usage card at the end of a job's log: what the job has used, beside what it was given.
//!
//! Once a job, behind the user's script. What comes from a batch stage's launcher are numbers that the account states.

use nunbird_audit::Usage;
use nunbird_handover::{JobLimits, Summary, Untrusted};
use nunbird_host::refusal::print_error;
use std::time::Duration;

/// What there is to report.
#[derive(Debug)]
pub(crate) struct Card<'a> {
    /// What the job was given, where the site limits it.
    pub(crate) job: Option<&'a JobLimits>,
    /// What its group had used before the script, and has used now.
    pub(crate) usage: Option<(Usage, Usage)>,
    /// How long the script took.
    pub(crate) script: Duration,
    /// Seconds since the job was admitted.
    pub(crate) since: Option<u64>,
    /// Seconds that the job waited in GitLab for a runner.
    pub(crate) queued: Option<u64>,
    /// The script's job in the batch scheduler.
    pub(crate) batch: Option<&'a Summary>,
}

/// Whether a card is due behind this stage: the user's script, which has one of these two names (GitLab Runner's
/// `common/build.go`).
pub(crate) fn is_due(stage: &str) -> bool {
    matches!(stage, "build_script" | "step_script")
}

impl Card<'_> {
    pub(crate) fn print(&self) {
        let mut text = "nunbird: used by this job:\n".to_owned();
        for (name, value) in self.rows() {
            text.push_str(&format!("nunbird:   {name:<10} {value}\n"));
        }
        print_error(&text);
    }

    /// Names and values. What the kernel does not count is left out.
    fn rows(&self) -> Vec<(&'static str, String)> {
        let queue = self.queue().map(|value| ("queue", value));
        let time = std::iter::once(("time", self.time()));
        let rest = match (self.batch, &self.usage) {
            // The launcher's group says nothing of what ran in the scheduler's allocation.
            (Some(batch), _) => of_batch(batch),
            (None, Some((before, now))) => self.of_group(before, now),
            (None, None) => Vec::new(),
        };
        queue.into_iter().chain(time).chain(rest).collect()
    }

    fn queue(&self) -> Option<String> {
        let gitlab = self.queued.map(|queued| format!("{} in GitLab", long(queued)));
        let scheduler = self.batch.and_then(|batch| batch.queued_s);
        let scheduler = scheduler.map(|queued| format!("{} in the scheduler", long(queued.into())));
        let parts: Vec<String> = gitlab.into_iter().chain(scheduler).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn time(&self) -> String {
        let script = match self.batch.and_then(|batch| batch.ran_s) {
            Some(ran) => long(ran.into()),
            None => short(micros(self.script)),
        };
        let since =
            self.since.map_or_else(String::new, |since| format!(", {} since the job began", long(since)));
        format!("{script} for the script{since}")
    }

    fn of_group(&self, before: &Usage, now: &Usage) -> Vec<(&'static str, String)> {
        let amounts = self.job.map(|job| job.amounts).unwrap_or_default();
        let wall = micros(self.script);
        let during = |of: fn(&Usage) -> Option<u64>| Some(of(now)?.saturating_sub(of(before).unwrap_or(0)));
        let processor = during(|usage| usage.cpu_time).map(|used| {
            let held = during(|usage| usage.throttled).filter(|held| *held > 0);
            let held = held.map_or_else(String::new, |held| format!("; held back for {}", short(held)));
            format!("{}, {}{held}", short(used), share(used, wall, amounts.cpu))
        });
        let memory = now.memory_peak.map(|peak| match amounts.memory {
            Some(limit) => format!("{} of {}, {}", mebibytes(peak), mebibytes(limit), percent(peak, limit)),
            None => mebibytes(peak),
        });
        let processes = now.pids_peak.map(|peak| {
            let limit = amounts.pids.map_or_else(String::new, |limit| format!(" of {limit}"));
            let refused = now.forks_refused.filter(|refused| *refused > 0);
            let refused = refused.map_or_else(String::new, |n| format!("; {n} times refused a new one"));
            format!("{peak}{limit}{refused}")
        });
        let moved = |bytes: Option<u64>, limits: Vec<String>| {
            let bytes = bytes?;
            let rate = per_second(bytes, wall);
            let limits =
                if limits.is_empty() { String::new() } else { format!(" of at most {}", limits.join(", ")) };
            Some(format!("{}, {rate}{limits}", mebibytes(bytes)))
        };
        let rows = [
            ("processor", processor),
            ("memory", memory),
            ("processes", processes),
            ("read", moved(during(|usage| usage.read), self.most(|disk| disk.read))),
            ("written", moved(during(|usage| usage.written), self.most(|disk| disk.write))),
        ];
        rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The site's rates, each with its disk.
    fn most(&self, rate: fn(&nunbird_handover::DiskLimit) -> Option<u64>) -> Vec<String> {
        let disks = self.job.map(|job| job.disks.as_slice()).unwrap_or_default();
        let text = |disk: &nunbird_handover::DiskLimit| {
            let device = disk.device.to_string_lossy();
            Some(format!("{}/s ({})", mebibytes(rate(disk)?), Untrusted(&device)))
        };
        disks.iter().filter_map(text).collect()
    }
}

fn of_batch(batch: &Summary) -> Vec<(&'static str, String)> {
    let ran = batch.ran_s.map(|seconds| u64::from(seconds).saturating_mul(1_000_000));
    let processor = batch.cpu_ms.map(|used| {
        let used = used.saturating_mul(1000);
        ran.map_or_else(|| short(used), |ran| format!("{}, {}", short(used), share(used, ran, None)))
    });
    let memory = batch.memory_peak.map(mebibytes);
    let rows = [("processor", processor), ("memory", memory)];
    rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Processor time against the time that passed, both in microseconds, and against the processors given, in thousandths.
fn share(used: u64, wall: u64, given: Option<u64>) -> String {
    let average = used.saturating_mul(1000).checked_div(wall).unwrap_or(0);
    match given {
        Some(given) => {
            let most = wall.saturating_mul(given) / 1000;
            format!("{} of {} processors", percent(used, most), thousandths(given))
        }
        None => format!("{} processors on average", thousandths(average)),
    }
}

fn thousandths(n: u64) -> String {
    let text = format!("{}.{:02}", n / 1000, n % 1000 / 10);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn percent(part: u64, whole: u64) -> String {
    format!("{} %", part.saturating_mul(100).checked_div(whole).unwrap_or(0))
}

/// `wall` is in microseconds.
fn per_second(bytes: u64, wall: u64) -> String {
    let tenths = (u128::from(bytes) * 10_000_000 / u128::from(wall.max(1))) >> 20;
    format!("{}.{} MiB/s", tenths / 10, tenths % 10)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds: with a tenth below a minute.
fn short(microseconds: u64) -> String {
    match microseconds / 1_000_000 {
        seconds @ 0..60 => format!("{seconds}.{} s", microseconds / 100_000 % 10),
        seconds => long(seconds),
    }
}

fn long(seconds: u64) -> String {
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::{Card, Duration, JobLimits, Summary, Usage};
    use nunbird_handover::{Amounts, BatchEnd, DiskLimit, Rlimits, Standing};

    fn text(card: &Card<'_>) -> String {
        card.rows().iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    #[test]
    fn the_card_sets_what_was_used_against_what_was_given() {
        let amounts =
            Amounts { memory: Some(64 << 20), cpu: Some(1500), pids: Some(50), ..Amounts::default() };
        let disk = DiskLimit {
            device: "/scratch".into(),
            read: Some(10 << 20),
            write: None,
            read_ops: Some(100),
            write_ops: None,
        };
        let (rlimits, standing) = (Rlimits::default(), Standing::default());
        let job = JobLimits { name: "small".to_owned(), amounts, rlimits, standing, disks: vec![disk] };
        let before =
            Usage { cpu_time: Some(1_000_000), read: Some(5 << 20), written: Some(1), ..Usage::default() };
        let now = Usage {
            memory_peak: Some((12 << 20) + 1),
            cpu_time: Some(3_340_000),
            throttled: Some(250_000),
            pids_peak: Some(7),
            forks_refused: Some(0),
            read: Some(20 << 20),
            written: Some((1 << 20) + 1),
            ..Usage::default()
        };
        let card = Card {
            job: Some(&job),
            usage: Some((before, now)),
            script: Duration::from_millis(3050),
            since: Some(72),
            queued: Some(3700),
            batch: None,
        };
        assert_eq!(
            text(&card),
            "queue: 1 h 1 min in GitLab\n\
             time: 3.0 s for the script, 1 min 12 s since the job began\n\
             processor: 2.3 s, 51 % of 1.5 processors; held back for 0.2 s\n\
             memory: 13 MiB of 64 MiB, 18 %\n\
             processes: 7 of 50\n\
             read: 15 MiB, 4.9 MiB/s of at most 10 MiB/s (/scratch)\n\
             written: 1 MiB, 0.3 MiB/s\n"
        );
        let nothing =
            Card { job: None, usage: None, since: None, queued: None, script: Duration::ZERO, ..card };
        assert_eq!(text(&nothing), "time: 0.0 s for the script\n");
        let bare = Card { usage: Some((Usage::default(), now)), ..nothing };
        assert!(text(&bare).contains("processor: 3.3 s, 0 processors on average; held"), "{}", text(&bare));
    }

    #[test]
    fn of_a_batch_stage_the_schedulers_job_is_shown_and_not_the_launcher() {
        let summary = Summary {
            end: BatchEnd::Success,
            queued_s: Some(34),
            ran_s: Some(100),
            scheduler_id: Some("12".to_owned()),
            cpu_ms: Some(250_000),
            memory_peak: Some(3 << 30),
        };
        let launcher = Usage { cpu_time: Some(9), memory_peak: Some(9), ..Usage::default() };
        let card = Card {
            job: None,
            usage: Some((Usage::default(), launcher)),
            script: Duration::from_secs(150),
            since: Some(160),
            queued: None,
            batch: Some(&summary),
        };
        assert_eq!(
            text(&card),
            "queue: 34 s in the scheduler\ntime: 1 min 40 s for the script, 2 min 40 s since the job began\n\
             processor: 4 min 10 s, 2.5 processors on average\nmemory: 3072 MiB\n"
        );
    }
}
