//! What is written into which file for a limit, and how the kernel shows it.

use super::{Amounts, DiskAmounts, Way};

/// The period of a processor's quota, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;

/// One value to be written and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The controller whose group has the file.
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// What is read back when it is in force.
    pub(super) shown: String,
    /// Whether that is one line of several, each for a disk.
    pub(super) among_others: bool,
}

impl Setting {
    /// Whether this text of the kernel's means that the setting is in force.
    pub(super) fn is_in_force(&self, found: &str) -> bool {
        if self.among_others { found.lines().any(|line| line == self.shown) } else { found == self.shown }
    }
}

/// The limits of a job, in the order in which the kernel takes them: memory before memory and swap together.
pub(super) fn settings(amounts: &Amounts, way: Way) -> Vec<Setting> {
    match way {
        Way::Unified => unified(amounts),
        Way::Separate => separate(amounts),
    }
}

fn setting(controller: &'static str, file: &'static str, value: impl ToString) -> Setting {
    Setting { controller, file, value: value.to_string(), shown: value.to_string(), among_others: false }
}

fn of_disk(controller: &'static str, file: &'static str, value: impl ToString) -> Setting {
    Setting { among_others: true, ..setting(controller, file, value) }
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
    all.into_iter().flatten().chain(amounts.disks.iter().map(unified_disk)).collect()
}

/// All four in one line, in the kernel's order (`tg_prfill_limit`, block/blk-throttle.c).
fn unified_disk(disk: &DiskAmounts) -> Setting {
    let text = |value: Option<u64>| value.map_or_else(|| "max".to_owned(), |n| n.to_string());
    let (whole, part) = disk.number;
    let (read, write) = (text(disk.read), text(disk.write));
    let (read_ops, write_ops) = (text(disk.read_ops), text(disk.write_ops));
    let line = format!("{whole}:{part} rbps={read} wbps={write} riops={read_ops} wiops={write_ops}");
    of_disk("io", "io.max", line)
}

fn separate_disk(disk: &DiskAmounts) -> impl Iterator<Item = Setting> + use<> {
    let (whole, part) = disk.number;
    let all = [
        ("blkio.throttle.read_bps_device", disk.read),
        ("blkio.throttle.write_bps_device", disk.write),
        ("blkio.throttle.read_iops_device", disk.read_ops),
        ("blkio.throttle.write_iops_device", disk.write_ops),
    ];
    all.into_iter()
        .filter_map(move |(file, n)| Some(of_disk("blkio", file, format!("{whole}:{part} {}", n?))))
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
    all.into_iter().flatten().chain(amounts.disks.iter().flat_map(separate_disk)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Amounts, DiskAmounts, Way, settings};

    #[test]
    fn each_limit_has_its_file_in_both_versions() {
        let amounts = Amounts {
            memory: Some((64 << 20) + 1),
            swap: Some(0),
            cpu: Some(1500),
            pids: Some(50),
            io_weight: Some(200),
            disks: vec![DiskAmounts {
                number: (8, 16),
                read: Some(1 << 20),
                write_ops: Some(100),
                ..DiskAmounts::default()
            }],
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
                "io.weight=default 200",
                "io.max=8:16 rbps=1048576 wbps=max riops=max wiops=100"
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
                "blkio.weight=200",
                "blkio.throttle.read_bps_device=8:16 1048576",
                "blkio.throttle.write_iops_device=8:16 100"
            ]
        );
        assert!(settings(&Amounts::default(), Way::Unified).is_empty());
    }

    #[test]
    fn the_limit_of_a_disk_is_one_line_of_several_and_all_others_are_the_whole_file() {
        let disk = |n| DiskAmounts { number: (8, n), read: Some(1 << 20), ..DiskAmounts::default() };
        let amounts = Amounts { pids: Some(5), disks: vec![disk(0), disk(16)], ..Amounts::default() };
        let all = settings(&amounts, Way::Unified);
        let said =
            "8:0 rbps=1048576 wbps=max riops=max wiops=max\n8:16 rbps=1048576 wbps=10 riops=max wiops=max";
        let in_force: Vec<bool> = all.iter().map(|setting| setting.is_in_force(said)).collect();
        assert_eq!(in_force, [false, true, false]);
        assert!(all[0].is_in_force("5") && !all[0].is_in_force("5\n6") && !all[0].is_in_force(""));
    }

    #[test]
    fn the_controllers_that_are_needed_are_those_of_the_limits() {
        let some = Amounts { swap: Some(0), io_weight: Some(1), ..Amounts::default() };
        assert_eq!(some.controllers(Way::Unified), ["memory", "io"]);
        assert_eq!(some.controllers(Way::Separate), ["memory", "blkio"]);
    }
}
