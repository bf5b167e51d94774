//! The usage card at the end of a job's log: what the job has used, beside what it was given.
//!
//! Pure; the shepherd prints it, without any privilege.

use nunbird_handover::JobLimits;
use nunbird_sys::cgroup::Usage;
use std::time::Duration;

/// One line: what was used, of what was given. What the kernel does not count is left out.
pub(crate) fn card(usage: &Usage, job: &JobLimits, wall: Duration) -> String {
    let of = |limit: Option<String>| limit.map_or_else(String::new, |limit| format!(" of {limit}"));
    let amounts = &job.amounts;
    let cpus = of(amounts.cpu.map(|n| format!("{}.{:03} processors", n / 1000, n % 1000)));
    let tenths =
        |microseconds: u64| format!("{}.{} s", microseconds / 1_000_000, microseconds / 100_000 % 10);
    let wall = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
    let parts = [
        Some(format!("stage {}", tenths(wall))),
        usage.cpu_time.map(|n| format!("processor time {}{cpus}", tenths(n))),
        usage.memory_peak.map(|n| format!("memory {}{}", mebibytes(n), of(amounts.memory.map(mebibytes)))),
        usage.pids_peak.map(|n| format!("processes {n}{}", of(amounts.pids.map(|n| n.to_string())))),
        usage.read.map(|n| format!("read {}", mebibytes(n))),
        usage.written.map(|n| format!("written {}", mebibytes(n))),
    ];
    format!("used by this job: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::{Duration, JobLimits, Usage, card};
    use nunbird_handover::{Amounts, Rlimits, Standing};

    #[test]
    fn the_card_sets_what_was_used_against_what_was_given() {
        let amounts = Amounts { memory: Some(64 << 20), cpu: Some(1500), ..Amounts::default() };
        let job = JobLimits {
            name: "small".to_owned(),
            amounts,
            rlimits: Rlimits::default(),
            standing: Standing::default(),
            disks: Vec::new(),
            group: None,
        };
        let usage = Usage {
            memory_peak: Some((12 << 20) + 1),
            cpu_time: Some(2_340_000),
            pids_peak: Some(7),
            ..Usage::default()
        };
        assert_eq!(
            card(&usage, &job, Duration::from_millis(3050)),
            "used by this job: stage 3.0 s, processor time 2.3 s of 1.500 processors, memory 13 MiB of 64 MiB, processes 7"
        );
    }
}
