//! Where scripts run: `executor`, `[batch]`, and the schedulers that a site describes itself.

use super::executor::{BatchSettings, Executor, SchedulerFile};
use super::reader::{At, Section};
use super::values::{self, Values};
use crate::{amount, suggest};
use nunbird_handover::{Rules, SCHEDULERS, Scheduler};
use std::collections::BTreeMap;

const HOUR: u64 = 3600;
/// The launcher sees a cancelled job gone within 180 seconds, of which the user's part is this at most.
pub(super) const LONGEST_GRACE: u64 = 90;

/// `[scheduler.NAME]`.
pub(super) fn schedulers(root: &mut Section<'_>) -> BTreeMap<String, SchedulerFile> {
    let mut schedulers = BTreeMap::new();
    for (name, mut table) in root.named("scheduler") {
        values::check_label(&name, "scheduler");
        if name.value == "shell" || Scheduler::named(name.value).is_some() {
            name.spot.find("this scheduler is built in", "give yours a name of its own");
        }
        if !table.has("description") {
            let help = "add `description = \"/etc/nunbird/schedulers/pjm.toml\"`; docs/schedulers.md says how to write it";
            name.spot.find("this scheduler has no description", help);
        }
        let description = table.path("description", "/");
        table.finish();
        let file = SchedulerFile { place: name.spot.place(), description };
        schedulers.insert(name.value.to_owned(), file);
    }
    schedulers
}

/// `executor`, of `[job]` or of a profile.
pub(super) fn executor(
    table: &mut Section<'_>,
    base: &Executor,
    described: &BTreeMap<String, SchedulerFile>,
) -> Executor {
    let Some(at) = table.text("executor") else { return base.clone() };
    executor_of(&at, described.keys().map(String::as_str)).unwrap_or_default()
}

pub(super) fn executor_of<'d>(
    at: &At<'_, &str>,
    described: impl Iterator<Item = &'d str> + Clone,
) -> Option<Executor> {
    if at.value == "shell" {
        return Some(Executor::Shell);
    }
    if let Some(Scheduler::Named(name)) = Scheduler::named(at.value) {
        return Some(Executor::Scheduler(name));
    }
    if described.clone().any(|name| name == at.value) {
        return Some(Executor::Described(at.value.to_owned()));
    }
    let built_in = SCHEDULERS.iter().flat_map(|(first, others)| others.iter().chain([first])).copied();
    let known: Vec<&str> = ["shell"].into_iter().chain(built_in).chain(described).collect();
    let help = match suggest::nearest(at.value, known.iter().copied()) {
        Some(name) => format!("write `{name}`"),
        None => format!("known: {}; add a table `[scheduler.NAME]` for one of your own", known.join(", ")),
    };
    at.spot.find("there is no such executor", help);
    None
}

/// `[batch]`, or the same keys of a profile over those of `base`.
pub(super) fn read(mut table: Section<'_>, base: &BatchSettings) -> BatchSettings {
    let t = &mut table;
    let mut environment = base.environment.clone();
    environment.extend(scheduler_environment(t));
    let settings = BatchSettings {
        stages: stages(t).unwrap_or_else(|| base.stages.clone()),
        scheduler_bin: t
            .text("scheduler_bin")
            .map_or_else(|| base.scheduler_bin.clone(), |at| Some(values::path(&at))),
        environment,
        arguments_variables: variables(t).unwrap_or_else(|| base.arguments_variables.clone()),
        allow_illegal_arguments: t.flag("allow_illegal_arguments", base.allow_illegal_arguments),
        job_prefix: t.flag("job_prefix", base.job_prefix),
        rules: rules(t, &base.rules),
        poll_interval: t.seconds("poll_interval", base.poll_interval, 5..=HOUR),
        nfs_timeout: t.seconds("nfs_timeout", base.nfs_timeout, 0..=HOUR),
        grace: t.seconds("grace", base.grace, 0..=LONGEST_GRACE),
    };
    table.finish();
    settings
}

fn stages(table: &mut Section<'_>) -> Option<Vec<String>> {
    let at = table.texts("stages")?;
    if at.value.is_empty() {
        at.spot.find("no stage would go to the scheduler", "write `executor = \"shell\"`, or name a stage");
    }
    for one in &at.value {
        let name = one.value.strip_suffix('*').unwrap_or(one.value);
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') || one.value.is_empty()
        {
            let help = "write gitlab-runner's name of it, such as `build_script`; a `*` may stand at its end";
            one.spot.find("this is no name of a stage", help);
        }
    }
    Some(at.value.iter().map(|one| one.value.to_owned()).collect())
}

fn variables(table: &mut Section<'_>) -> Option<Vec<String>> {
    let at = table.texts("arguments_variables")?;
    Some(at.value.iter().filter_map(values::variable_name).collect())
}

/// The scheduler's own libraries are often in places of their own, so `LD_LIBRARY_PATH` may stand here.
fn scheduler_environment(table: &mut Section<'_>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    for (name, value) in table.pairs("environment") {
        check_variable(&name, &value);
        environment.insert(name.value.to_owned(), value.value.to_owned());
    }
    environment
}

pub(super) fn check_variable(name: &At<'_, &str>, value: &At<'_, &str>) {
    let stand_in = if name.value == "LD_LIBRARY_PATH" { "PATH" } else { name.value };
    values::check_variable(&At { value: stand_in, spot: name.spot }, value);
}

fn rules(table: &mut Section<'_>, base: &Rules) -> Rules {
    let list =
        |t: &mut Section<'_>, key, base: &Vec<String>| arguments(t, key).unwrap_or_else(|| base.clone());
    let some = |t: &mut Section<'_>, key, base: &Option<Vec<String>>| names(t, key).or_else(|| base.clone());
    let most_time = table.seconds("max_time", base.most_time.unwrap_or(0), 60..=366 * 24 * HOUR);
    Rules {
        default: list(table, "default_arguments", &base.default),
        forced: list(table, "forced_arguments", &base.forced),
        most_time: (most_time != 0).then_some(most_time),
        most_nodes: positive(table, "max_nodes").or(base.most_nodes),
        most_memory: memory(table).or(base.most_memory),
        partitions: some(table, "partitions", &base.partitions),
        accounts: some(table, "accounts", &base.accounts),
        qos: some(table, "qos", &base.qos),
    }
}

/// Words for the submit command: one word each, as execve(2) gets them.
fn arguments(table: &mut Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let at = table.texts(key)?;
    for one in at.value.iter().filter(|one| one.value.is_empty() || one.value.contains('\0')) {
        one.spot.find("this is no argument", "write one word of the submit command in each text");
    }
    Some(at.value.iter().map(|one| one.value.to_owned()).collect())
}

/// A list that allows nothing is a finding: leaving the key out allows all, and one of the two was meant.
fn names(table: &mut Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let at = table.texts(key)?;
    if at.value.is_empty() {
        at.spot.find(
            "an empty list allows nothing",
            "name what may be asked for, or remove the line to allow all",
        );
    }
    Some(at.value.iter().map(|one| one.value.to_owned()).collect())
}

fn positive(table: &mut Section<'_>, key: &'static str) -> Option<u64> {
    let at = table.integer(key)?;
    if at.value == 0 {
        at.spot.find("nothing could run", "write a number from 1, or remove the line for no bound");
    }
    Some(at.value)
}

/// In MiB, rounded down.
fn memory(table: &mut Section<'_>) -> Option<u64> {
    let at = table.text("max_memory")?;
    let mebibytes = amount::bytes(at.value).map(|bytes| bytes >> 20).filter(|mebibytes| *mebibytes > 0);
    if mebibytes.is_none() {
        at.spot.find(
            "this is no amount of memory",
            "write a whole number with `MiB`, `GiB` or `TiB`, such as `64GiB`",
        );
    }
    mebibytes
}
