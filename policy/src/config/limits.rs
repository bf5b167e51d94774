//! `[limits.NAME]` and the `limits` of `[job]`, profiles and rules.

use super::model::RuleLimits;
use super::reader::{At, Section};
use super::values::{self, Values, number, processors, size};
use super::{disks, rlimits};
use crate::limits::{Above, LEAST_MEMORY, Limits, LimitsWay, Maximum};
use crate::suggest;
use nunbird_handover::Amounts;
use std::collections::BTreeMap;

/// Limits by name.
pub(super) type Known = BTreeMap<String, Limits>;

/// `[limits.NAME]`.
pub(super) fn all(root: &mut Section<'_>) -> Known {
    let mut known = Known::new();
    for (name, table) in root.named("limits") {
        values::check_label(&name, "set of limits");
        known.insert(name.value.to_owned(), one(name.value, table));
    }
    known
}

fn one(name: &str, mut table: Section<'_>) -> Limits {
    let t = &mut table;
    let amounts = Amounts {
        memory: size(t, "memory", LEAST_MEMORY),
        swap: size(t, "swap", 0),
        cpu: processors(t, "cpus"),
        pids: number(t, "pids", 10, 4 << 20),
        io_weight: number(t, "io_weight", 1, 1000),
    };
    if amounts.swap.is_some() && amounts.memory.is_none() {
        t.find("a limit of swap needs one of memory", "add `memory = \"4GiB\"`");
    }
    let maximum = Maximum {
        memory: size(t, "max_memory", LEAST_MEMORY),
        cpu: processors(t, "max_cpus"),
        pids: number(t, "max_pids", 10, 4 << 20),
    };
    for (key, given, most) in [
        ("memory", amounts.memory, maximum.memory),
        ("cpus", amounts.cpu, maximum.cpu),
        ("pids", amounts.pids, maximum.pids),
    ] {
        if given.zip(most).is_some_and(|(given, most)| given > most) {
            let help = format!("raise `max_{key}`, or lower `{key}`");
            t.find(
                format!("`{key}` is more than `max_{key}`, which is the most that users may ask for"),
                help,
            );
        }
    }
    let above = t.choice("above", &[("refuse", Above::Refuse), ("clamp", Above::Clamp)]);
    let require = t.flag("require", true);
    let (rlimits, standing) = rlimits::read(t);
    let limits = Limits {
        name: name.to_owned(),
        amounts,
        maximum,
        above: above.map_or(Above::Refuse, |at| at.value),
        require,
        way: way(t),
        rlimits,
        standing,
        disks: disks::read(t),
    };
    if limits.way == LimitsWay::Scope && !limits.disks.is_empty() {
        let help = "write another `way`, or no `io_max`";
        table.find("`way = \"scope\"` does not limit disks by `io_max`", help);
    }
    table.finish();
    limits
}

fn way(table: &mut Section<'_>) -> LimitsWay {
    let ways = [LimitsWay::Auto, LimitsWay::Delegated, LimitsWay::Separate, LimitsWay::Scope];
    let ways = ways.map(|way| (way.name(), way));
    table.choice("way", &ways).map_or(LimitsWay::Auto, |at| at.value)
}

/// `limits`, of `[job]` or of a profile; an empty name takes those of `[job]` away.
pub(super) fn named(table: &mut Section<'_>, base: Option<&Limits>, known: &Known) -> Option<Limits> {
    table.text("limits").map_or_else(|| base.cloned(), |at| of_name(&at, known))
}

/// `limits` of a rule; an empty name takes those of its profile and of `[job]` away.
pub(super) fn of_rule(at: &At<'_, &str>, known: &Known) -> RuleLimits {
    RuleLimits { limits: of_name(at, known), place: at.spot.place() }
}

fn of_name(at: &At<'_, &str>, known: &Known) -> Option<Limits> {
    let found = known.get(at.value).cloned();
    if found.is_none() && !at.value.is_empty() {
        unknown(at, known);
    }
    found
}

fn unknown(at: &At<'_, &str>, known: &Known) {
    let help = match suggest::nearest(at.value, known.keys().map(String::as_str)) {
        Some(near) => format!("write `{near}`"),
        None => "add a table `[limits.NAME]`".to_owned(),
    };
    at.spot.find("there are no such limits", help);
}
