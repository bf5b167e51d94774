//! What is written into which file for a limit, and how the kernel says it back.

use super::{Amounts, Way};

/// The period of a processor's quota, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;

/// One value to be written and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The controller whose group has the file.
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// What the kernel says when it is in force.
    pub(super) says: String,
}

/// The limits of a job, in the order in which the kernel takes them: memory before memory and swap together.
pub(super) fn settings(amounts: &Amounts, way: Way) -> Vec<Setting> {
    match way {
        Way::Unified => unified(amounts),
        Way::Separate => separate(amounts),
    }
}

fn setting(controller: &'static str, file: &'static str, value: impl ToString) -> Setting {
    Setting { controller, file, value: value.to_string(), says: value.to_string() }
}

/// The kernel counts memory in whole pages and rounds down (`page_counter_memparse`).
fn pages(bytes: u64) -> u64 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(4096);
    bytes - bytes % page
}

/// Microseconds of processor time in a period.
fn quota(thousandths: u64) -> u64 {
    thousandths.saturating_mul(PERIOD / 1000)
}

fn unified(amounts: &Amounts) -> Vec<Setting> {
    let all = [
        amounts.memory.map(|n| setting("memory", "memory.max", pages(n))),
        amounts.swap.map(|n| setting("memory", "memory.swap.max", pages(n))),
        amounts.cpu.map(|n| setting("cpu", "cpu.max", format!("{} {PERIOD}", quota(n)))),
        amounts.pids.map(|n| setting("pids", "pids.max", n)),
        amounts.io_weight.map(|n| setting("io", "io.weight", format!("default {n}"))),
    ];
    all.into_iter().flatten().collect()
}

fn separate(amounts: &Amounts) -> Vec<Setting> {
    // Version 1 limits memory and swap together.
    let both = amounts.swap.zip(amounts.memory).map(|(swap, memory)| memory.saturating_add(swap));
    let all = [
        amounts.memory.map(|n| setting("memory", "memory.limit_in_bytes", pages(n))),
        both.map(|n| setting("memory", "memory.memsw.limit_in_bytes", pages(n))),
        amounts.cpu.map(|_| setting("cpu", "cpu.cfs_period_us", PERIOD)),
        amounts.cpu.map(|n| setting("cpu", "cpu.cfs_quota_us", quota(n))),
        amounts.pids.map(|n| setting("pids", "pids.max", n)),
        amounts.io_weight.map(|n| setting("blkio", "blkio.weight", n)),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{Amounts, Way, settings};

    #[test]
    fn each_limit_has_its_file_in_both_versions() {
        let amounts = Amounts {
            memory: Some((64 << 20) + 1),
            swap: Some(0),
            cpu: Some(1500),
            pids: Some(50),
            io_weight: Some(200),
        };
        let written = |way| {
            settings(&amounts, way).iter().map(|s| format!("{}={}", s.file, s.value)).collect::<Vec<_>>()
        };
        assert_eq!(
            written(Way::Unified),
            [
                "memory.max=67108864",
                "memory.swap.max=0",
                "cpu.max=150000 100000",
                "pids.max=50",
                "io.weight=default 200"
            ]
        );
        assert_eq!(
            written(Way::Separate),
            [
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=67108864",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "pids.max=50",
                "blkio.weight=200"
            ]
        );
        assert!(settings(&Amounts::default(), Way::Unified).is_empty());
    }

    #[test]
    fn the_controllers_that_are_needed_are_those_of_the_limits() {
        let some = Amounts { swap: Some(0), io_weight: Some(1), ..Amounts::default() };
        assert_eq!(some.controllers(Way::Unified), ["memory", "io"]);
        assert_eq!(some.controllers(Way::Separate), ["memory", "blkio"]);
    }
}
