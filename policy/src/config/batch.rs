//! Where scripts run: `executor`, `[batch]`, and the schedulers that a site describes itself.

use super::executor::{Executor, SchedulerFile};
use super::keys::{Form, Key, Setting, Table, form};
use super::reader::{At, Section};
use super::values;
use crate::{Location, suggest};
use nunbird_handover::{DEFAULT_STAGES, Rules, SCHEDULERS, Scheduler};
use std::collections::BTreeMap;
use std::path::PathBuf;

const HOUR: u64 = 3600;
/// The launcher sees a cancelled job gone within 180 seconds, of which the user's part is this at most.
pub(super) const LONGEST_GRACE: u64 = 90;

/// The CI variable with arguments for the submit command, as Jacamar names it.
pub(super) const DEFAULT_ARGUMENTS_VARIABLE: &str = "SCHEDULER_PARAMETERS";

/// How stages run by a batch scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSettings {
    /// The stages that are submitted; a name that ends in `*` is a prefix.
    pub stages: Vec<String>,
    /// Where the scheduler's commands are; none for the job's `PATH`.
    pub scheduler_bin: Option<PathBuf>,
    /// Environment of the scheduler's commands, on top of the job's.
    pub environment: BTreeMap<String, String>,
    /// CI variables that may hold arguments for the submit command; the first that is set counts.
    pub arguments_variables: Vec<String>,
    /// Whether arguments that Nunbird sets itself are left out, instead of failing the stage.
    pub allow_illegal_arguments: bool,
    /// Whether users may begin the name of the scheduler's job.
    pub job_prefix: bool,
    /// Bounds on the user's arguments.
    pub rules: Rules,
    /// Seconds between two looks at the queue while nothing happens.
    pub poll_interval: u64,
    /// Seconds to wait for files of an ended job to appear.
    pub nfs_timeout: u64,
    /// Seconds from a cancelled job's signal to the scheduler's cancel command.
    pub grace: u64,
}

impl Default for BatchSettings {
    fn default() -> Self {
        BatchSettings {
            stages: DEFAULT_STAGES.map(str::to_owned).to_vec(),
            scheduler_bin: None,
            environment: BTreeMap::new(),
            arguments_variables: vec![DEFAULT_ARGUMENTS_VARIABLE.to_owned()],
            allow_illegal_arguments: false,
            job_prefix: true,
            rules: Rules::default(),
            poll_interval: 60,
            nfs_timeout: 60,
            grace: 30,
        }
    }
}

/// `[batch]`.
#[rustfmt::skip]
pub static BATCH_KEYS: Table<BatchSettings> = Table {
    path: "batch",
    defaults: BatchSettings::default,
    keys: &[
        Key::<BatchSettings>::new("stages", Form::Texts { get: |t| Some(t.stages.clone()), set: |t, at| t.stages = stages(&at) },
            "gitlab-runner's names of the stages that are submitted, which may end in `*`; all others run on this host"),
        Key::<BatchSettings>::new("scheduler_bin", form!(PathOrNone: scheduler_bin), "directory of the scheduler's commands").or("the job's `PATH`"),
        Key::<BatchSettings>::new("environment", form!(Variables: environment, check_variable),
            "variables for the scheduler's commands, added to the job's: `SLURM_CONF`, `LD_LIBRARY_PATH`").or("none"),
        Key::<BatchSettings>::new("arguments_variables",
            Form::Texts { get: |t| Some(t.arguments_variables.clone()), set: |t, at| { t.arguments_variables = at.value.iter().filter_map(values::variable_name).collect() } },
            "CI variables that may hold arguments for the submit command, of which the first that is set counts; `[]` allows none"),
        Key::<BatchSettings>::new("allow_illegal_arguments", form!(Flag: allow_illegal_arguments),
            "arguments that Nunbird sets itself are left out, with a line in the job log, instead of failing the stage"),
        Key::<BatchSettings>::new("job_prefix", form!(Flag: job_prefix), "`SCHEDULER_JOB_PREFIX` begins the name of the scheduler's job"),
        Key::<BatchSettings>::new("default_arguments",
            Form::Texts { get: |t| Some(t.rules.default.clone()), set: |t, at| t.rules.default = arguments(&at) },
            "arguments before the user's, which override them").or("none"),
        Key::<BatchSettings>::new("forced_arguments",
            Form::Texts { get: |t| Some(t.rules.forced.clone()), set: |t, at| t.rules.forced = arguments(&at) },
            "arguments after the user's, which they override").or("none"),
        Key::<BatchSettings>::new("max_time", form!(Seconds: rules.most_time, 60, 366 * 24 * HOUR),
            "the longest time limit; a longer one is cut to it").or("none"),
        Key::<BatchSettings>::new("max_nodes", form!(Number: rules.most_nodes, 1, u64::MAX), "the most nodes; more is refused").or("none"),
        // The scheduler's arguments are compared in MiB.
        Key::<BatchSettings>::new("max_memory",
            Form::Bytes { get: |t| t.rules.most_memory.map(|mebibytes| mebibytes << 20), set: |t, bytes| t.rules.most_memory = Some(bytes >> 20), least: 1 << 20, unlimited: false },
            "the most memory in any one argument; more is refused").or("none"),
        Key::<BatchSettings>::new("partitions",
            Form::Texts { get: |t| t.rules.partitions.clone(), set: |t, at| t.rules.partitions = Some(names(&at)) },
            "partitions or queues that may be named; others are refused").or("all"),
        Key::<BatchSettings>::new("accounts", Form::Texts { get: |t| t.rules.accounts.clone(), set: |t, at| t.rules.accounts = Some(names(&at)) },
            "accounts that may be charged; others are refused").or("all"),
        Key::<BatchSettings>::new("qos", Form::Texts { get: |t| t.rules.qos.clone(), set: |t, at| t.rules.qos = Some(names(&at)) },
            "qualities of service that may be named; others are refused").or("all"),
        Key::<BatchSettings>::new("poll_interval", form!(Seconds: poll_interval, 5, HOUR), "between two queries of the queue while nothing happens"),
        Key::<BatchSettings>::new("nfs_timeout", form!(Seconds: nfs_timeout, 0, HOUR),
            "how long files of an ended job may take to appear on this host"),
        Key::<BatchSettings>::new("grace", form!(Seconds: grace, 0, LONGEST_GRACE),
            "from a cancelled job's signal to the scheduler's cancel command"),
    ],
};

/// `[scheduler.NAME]`.
pub static SCHEDULER_KEYS: Table<SchedulerFile> = Table {
    path: "scheduler[]",
    defaults: || SchedulerFile {
        place: Location { file: "".into(), line: 0, column: 0 },
        description: PathBuf::new(),
    },
    keys: &[Key::<SchedulerFile>::new(
        "description",
        form!(Path: description),
        "a file as schedulers.md has it: owned by root and writable only by root, readable by the jobs' accounts",
    )
    .or("required")],
};

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
        let mut file = SchedulerFile { place: name.spot.place(), description: "/".into() };
        SCHEDULER_KEYS.read(&mut table, &mut file);
        table.finish();
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
    at.spot.find("unknown executor", help);
    None
}

/// `[batch]`, or the same keys of a profile over those of `base`.
pub(super) fn read(mut table: Section<'_>, base: &BatchSettings) -> BatchSettings {
    let mut settings = base.clone();
    BATCH_KEYS.read(&mut table, &mut settings);
    table.finish();
    settings
}

/// The value of the key `executor`.
pub(super) fn executor_setting(executor: &Executor) -> Option<Setting> {
    Some(Setting::Text(executor.name().to_owned()))
}

fn stages(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    if at.value.is_empty() {
        at.spot.find("no stage would go to the scheduler", "write `executor = \"shell\"`, or name a stage");
    }
    for one in &at.value {
        let name = one.value.strip_suffix('*').unwrap_or(one.value);
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') || one.value.is_empty()
        {
            let help = "write gitlab-runner's name of it, such as `build_script`; it may end in `*`";
            one.spot.find("invalid name of a stage", help);
        }
    }
    at.value.iter().map(|one| one.value.to_owned()).collect()
}

/// The scheduler's own libraries are often in places of their own, so `LD_LIBRARY_PATH` may be set here.
pub(super) fn check_variable(name: &At<'_, &str>, value: &At<'_, &str>) {
    let stand_in = if name.value == "LD_LIBRARY_PATH" { "PATH" } else { name.value };
    values::check_variable(&At { value: stand_in, spot: name.spot }, value);
}

/// Arguments of the submit command, as execve(2) gets them.
fn arguments(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    for one in at.value.iter().filter(|one| one.value.is_empty() || one.value.contains('\0')) {
        one.spot.find("invalid argument", "write one word of the submit command in each text");
    }
    at.value.iter().map(|one| one.value.to_owned()).collect()
}

/// A list that allows nothing is a finding: leaving the key out allows all, and one of the two was meant.
fn names(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    if at.value.is_empty() {
        at.spot.find(
            "an empty list allows nothing",
            "name what may be asked for, or remove the line to allow all",
        );
    }
    at.value.iter().map(|one| one.value.to_owned()).collect()
}
