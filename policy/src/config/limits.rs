//! `[limits.NAME]` and the `limits` of `[job]`, profiles and rules.
//!
//! The keys of single processes are those of limits.conf(5) that a job can use. `data` is covered by `as` and `memory`; `rss`,
//! `locks` and `maxlogins` have no effect in a kernel of today or on a job; `sigpending` and `msgqueue` count per account, whose
//! other jobs and logins they would hit; `rtprio` and the limit `nice` raise priority, which needs a capability that the
//! privileged program does not keep.

use super::disks;
use super::keys::{Form, Key, Setting, Table, Word, form};
use super::model::RuleLimits;
use super::reader::{At, Section};
use super::values;
use crate::limits::{CgroupDriver, LEAST_MEMORY, Limits, MOST_PIDS, OnExcess};
use crate::suggest;
use nunbird_handover::UNLIMITED;
use std::collections::BTreeMap;

const DAY: u64 = 86_400;
/// nunbird-session is started under the job's limits and refuses to begin with less, as nunbird-auth does
/// (`nunbird_sys::rlimits`).
const LEAST_FILES: u64 = 256;
/// With less, a program does not start, or a lookup of nunbird-session's fails in part.
const LEAST_ADDRESSES: u64 = 512 << 20;
const LEAST_STACK: u64 = 1 << 20;

/// Limits by name.
pub(super) type LimitsByName = BTreeMap<String, Limits>;

impl Word for OnExcess {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", OnExcess::Refuse), ("clamp", OnExcess::Clamp)];
}

impl Word for CgroupDriver {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", CgroupDriver::Auto),
        ("cgroupfs-v2", CgroupDriver::CgroupfsV2),
        ("cgroupfs-v1", CgroupDriver::CgroupfsV1),
        ("systemd", CgroupDriver::Systemd),
    ];
    const FORMER: &'static [(&'static str, &'static str)] =
        &[("delegated", "cgroupfs-v2"), ("v1", "cgroupfs-v1"), ("scope", "systemd")];
}

impl OnExcess {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        self.word()
    }
}

impl CgroupDriver {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        self.word()
    }
}

/// `[limits.NAME]`.
#[rustfmt::skip]
pub static LIMITS_KEYS: Table<Limits> = Table {
    path: "limits[]",
    defaults: || Limits::unlimited(""),
    keys: &[
        Key::<Limits>::new("memory", form!(Bytes: amounts.memory, LEAST_MEMORY),
            "memory of the job's processes together, page cache included").or("not limited"),
        Key::<Limits>::new("swap", form!(Bytes: amounts.swap, 0), "swap beside the memory; needs `memory`").or("not limited"),
        Key::<Limits>::new("cpus", form!(Cpus: amounts.cpu), "processors of the job, such as `1.5`").or("not limited"),
        Key::<Limits>::new("pids", form!(Number: amounts.pids, 10, MOST_PIDS), "processes and threads of the job").or("not limited"),
        Key::<Limits>::new("io_weight", form!(Number: amounts.io_weight, 1, 1000),
            "weight against other groups where they compete for a disk; a group without a setting has 100").or("not set"),
        Key::<Limits>::new("io_max", Form::Own { takes: "tables, below", get: disks::setting },
            "bandwidth and operations of disks; users cannot change them").or("not limited"),
        Key::<Limits>::new("max_memory", form!(Bytes: maximum.memory, LEAST_MEMORY),
            "the most that `NUNBIRD_MEMORY` may ask for; without it a job that sets the variable is refused").or("none"),
        Key::<Limits>::new("max_cpus", form!(Cpus: maximum.cpu), "the same for `NUNBIRD_CPUS`").or("none"),
        Key::<Limits>::new("max_pids", form!(Number: maximum.pids, 10, MOST_PIDS), "the same for `NUNBIRD_PIDS`").or("none"),
        Key::<Limits>::new("on_excess", form!(Word: on_excess, OnExcess),
            "what happens to a job that asks for more than the maximum: it is refused, or gets the maximum and a line in its log").was(&["above"]),
        Key::<Limits>::new("require", form!(Flag: require),
            "whether a job is refused when its limits cannot be set; with `false` it runs without any, with a warning in the job log"),
        Key::<Limits>::new("cgroup_driver", form!(Word: cgroup_driver, CgroupDriver), "how control groups are made, below").was(&["way"]),
        Key::<Limits>::new("nofile", form!(Number: rlimits.nofile, LEAST_FILES, 1 << 30),
            "open files of a process (`RLIMIT_NOFILE`)").or("the runner's"),
        Key::<Limits>::new("nproc", form!(Number: rlimits.nproc, 10, MOST_PIDS), "processes of the account (`RLIMIT_NPROC`)").or("the runner's"),
        Key::<Limits>::new("fsize", form!(BytesOrUnlimited: rlimits.fsize, 1 << 20), "size of a file (`RLIMIT_FSIZE`)").or("the runner's"),
        Key::<Limits>::new("core", form!(BytesOrUnlimited: rlimits.core, 0), "size of a core dump (`RLIMIT_CORE`)").or("the runner's"),
        Key::<Limits>::new("stack", form!(BytesOrUnlimited: rlimits.stack, LEAST_STACK),
            "soft limit of the stack, which users can raise to `stack_hard`; `\"unlimited\"` is the hard limit. Overrides `raise_stack_limit` of `[job]`").or("the runner's"),
        Key::<Limits>::new("stack_hard", form!(BytesOrUnlimited: rlimits.stack_hard, LEAST_STACK),
            "hard limit of the stack (`RLIMIT_STACK`)").or("the runner's"),
        Key::<Limits>::new("memlock", form!(BytesOrUnlimited: rlimits.memlock, 0),
            "memory that a process may lock (`RLIMIT_MEMLOCK`); InfiniBand needs `\"unlimited\"`").or("the runner's"),
        Key::<Limits>::new("as", form!(BytesOrUnlimited: rlimits.address_space, LEAST_ADDRESSES),
            "address space of a process (`RLIMIT_AS`)").or("the runner's"),
        Key::<Limits>::new("cpu_time", form!(Seconds: rlimits.cpu_time, 10, 36_500 * DAY),
            "processor time of a process (`RLIMIT_CPU`): it gets `SIGXCPU` then, and `SIGKILL` five seconds later").or("the runner's"),
        Key::<Limits>::new("nice", form!(Number: standing.nice, 0, 19),
            "nice value of the job's processes, which users can raise and not lower").or("the runner's"),
        Key::<Limits>::new("oom_score_adj", form!(Number: standing.oom_score_adj, 0, 1000),
            "added to the score of the out-of-memory killer; users can lower it to the runner's").or("the runner's"),
    ],
};

/// `[limits.NAME]`.
pub(super) fn all(root: &mut Section<'_>) -> LimitsByName {
    let mut known = LimitsByName::new();
    for (name, table) in root.named("limits") {
        values::check_label(&name, "set of limits");
        known.insert(name.value.to_owned(), one(name.value, table));
    }
    known
}

fn one(name: &str, mut table: Section<'_>) -> Limits {
    let t = &mut table;
    let mut limits = Limits::unlimited(name);
    LIMITS_KEYS.read(t, &mut limits);
    limits.disks = disks::read(t);
    let Limits { amounts, maximum, rlimits, .. } = &limits;
    if amounts.swap.is_some() && amounts.memory.is_none() {
        t.find_at("swap", "a limit of swap needs one of memory", "add `memory = \"4G\"`");
    }
    for (key, amount, most) in [
        ("memory", amounts.memory, maximum.memory),
        ("cpus", amounts.cpu, maximum.cpu),
        ("pids", amounts.pids, maximum.pids),
    ] {
        if amount.zip(most).is_some_and(|(amount, most)| amount > most) {
            let message = format!("`{key}` is greater than `max_{key}`, the most that users may ask for");
            t.find_at(key, message, format!("raise `max_{key}`, or lower `{key}`"));
        }
    }
    let stacks = rlimits.stack.zip(rlimits.stack_hard);
    if stacks.is_some_and(|(soft, hard)| soft > hard && soft != UNLIMITED) {
        let message = "`stack` is greater than `stack_hard`, the hard limit";
        t.find_at("stack", message, "raise `stack_hard`, or lower `stack`");
    }
    if limits.cgroup_driver == CgroupDriver::Systemd && !limits.disks.is_empty() {
        let message = "`cgroup_driver = \"systemd\"` does not limit disks by `io_max`";
        t.find_at("io_max", message, "write another `cgroup_driver`, or no `io_max`");
    }
    table.finish();
    limits
}

/// The value of the key `limits`, of a job, a profile or a rule.
pub(super) fn setting(limits: Option<&Limits>) -> Option<Setting> {
    Some(Setting::Text(limits.map(|limits| limits.name.clone()).unwrap_or_default()))
}

/// `limits`, of `[job]` or of a profile; an empty name takes those of `[job]` away.
pub(super) fn named(table: &mut Section<'_>, base: Option<&Limits>, known: &LimitsByName) -> Option<Limits> {
    table.text("limits").map_or_else(|| base.cloned(), |at| of_name(&at, known))
}

/// `limits` of a rule; an empty name takes those of its profile and of `[job]` away.
pub(super) fn of_rule(at: &At<'_, &str>, known: &LimitsByName) -> RuleLimits {
    RuleLimits { limits: of_name(at, known), place: at.spot.place() }
}

fn of_name(at: &At<'_, &str>, known: &LimitsByName) -> Option<Limits> {
    let found = known.get(at.value).cloned();
    if found.is_none() && !at.value.is_empty() {
        unknown(at, known);
    }
    found
}

fn unknown(at: &At<'_, &str>, known: &LimitsByName) {
    let help = match suggest::nearest(at.value, known.keys().map(String::as_str)) {
        Some(near) => format!("write `{near}`"),
        None => "add a table `[limits.NAME]`".to_owned(),
    };
    at.spot.find("unknown limits", help);
}
