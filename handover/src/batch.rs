//! What the launcher needs to run stages in the site's batch scheduler.
//!
//! Decided with privilege from the configuration and from the job's own variables, used without any. What is
//! text here is text from outside: the scheduler's description is the site's, the arguments are the CI user's.
//! The launcher judges both as the mapped user, so that nothing of them is parsed with privilege.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The settings of a job whose stages go to a batch scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Which scheduler, and how it is spoken to.
    pub scheduler: Scheduler,
    /// Names of the stages to submit; a name that ends in `*` stands for all that begin so. The other stages
    /// run on the runner's node. See [`DEFAULT_STAGES`].
    pub stages: Vec<String>,
    /// The directory of this job's batch files, below the account's `data_dir` and on a file system that the
    /// compute nodes share. No other job has the same one.
    pub directory: PathBuf,
    /// Where the scheduler's commands are; none for the `PATH`.
    pub scheduler_bin: Option<PathBuf>,
    /// Environment of the scheduler's commands, on top of the job's.
    pub environment: BTreeMap<String, String>,
    /// The user's arguments for the submit command, from the first variable of the site's list that is set.
    pub arguments: Option<UserText>,
    /// `SCHEDULER_JOB_PREFIX`: begins the name of the scheduler's job.
    pub job_prefix: Option<String>,
    /// `SCHEDULER_SIGNAL`: what a cancelled job gets first, a name such as `TERM` or `SIGUSR1`; `TERM` when none.
    pub cancel_signal: Option<String>,
    /// `COPY_SCHEDULER_LOGS`: the user's directory for copies of a job's files.
    pub copy_logs: Option<String>,
    /// Seconds from that signal to the scheduler's own cancel command.
    pub grace: u32,
    /// What the site says about the user's arguments.
    pub rules: Rules,
    /// Whether arguments that Nunbird sets itself are dropped with a word to the user instead of failing the stage.
    pub allow_illegal_args: bool,
    /// Seconds between two looks at the queue while nothing happens. The first looks come sooner.
    pub poll_interval: u32,
    /// Seconds to wait for files of an ended job to appear on this host. An upper bound: a job's own record says
    /// how many bytes to expect.
    pub nfs_timeout: u32,
    /// Seconds since the epoch at which GitLab ends the CI job, where known.
    pub deadline: Option<u64>,
}

/// The stages that hold what the user wrote: the script, by its names in all releases of gitlab-runner.
pub const DEFAULT_STAGES: [&str; 3] = ["build_script", "step_script", "step_*"];

/// The schedulers that the launcher knows, each with the other names that configurations have for it.
pub const SCHEDULERS: [(&str, &[&str]); 7] = [
    ("slurm", &["sbatch"]),
    ("pbs", &[]),
    ("lsf", &["bsub"]),
    ("flux", &[]),
    ("cobalt", &["qsub"]),
    ("gridengine", &["sge"]),
    ("htcondor", &["condor"]),
];

/// How a scheduler is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// One of [`SCHEDULERS`], by its first name.
    Named(String),
    /// A file with a description in TOML, as docs/schedulers.md has it: root's, or the account's own.
    Described(PathBuf),
}

impl Scheduler {
    /// The built-in scheduler of this name.
    pub fn named(name: &str) -> Option<Scheduler> {
        let known = SCHEDULERS.iter().find(|(first, others)| *first == name || others.contains(&name));
        known.map(|(first, _)| Scheduler::Named((*first).to_owned()))
    }
}

/// What the job record keeps of the batch settings: everything but what the job's variables say, which the runner sends
/// anew with each stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchPlan {
    /// The executor's name in the configuration.
    pub name: String,
    /// The settings of the site.
    pub settings: Batch,
    /// Names of CI variables that may hold arguments for the submit command; the first that is set counts.
    pub arguments_variables: Vec<String>,
    /// Whether users may begin the name of the scheduler's job by `SCHEDULER_JOB_PREFIX`.
    pub job_prefix: bool,
}

impl BatchPlan {
    /// The settings of one stage.
    ///
    /// # Errors
    /// What `variable` says about a variable whose value cannot be had.
    pub fn with<E>(&self, variable: impl Fn(&str) -> Result<Option<String>, E>) -> Result<Batch, E> {
        let mut batch = self.settings.clone();
        for name in &self.arguments_variables {
            if let Some(text) = variable(name)? {
                batch.arguments = Some(UserText { variable: name.clone(), text });
                break;
            }
        }
        if self.job_prefix {
            batch.job_prefix = variable("SCHEDULER_JOB_PREFIX")?;
        }
        batch.cancel_signal = variable("SCHEDULER_SIGNAL")?;
        batch.copy_logs = variable("COPY_SCHEDULER_LOGS")?;
        Ok(batch)
    }
}

/// The value of a CI variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserText {
    /// The variable's name, for messages.
    pub variable: String,
    /// Its value, as GitLab expanded it.
    pub text: String,
}

/// Bounds on the user's arguments. Each change of theirs is reported to the user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Arguments that stand before the user's, so that the user's win.
    pub default: Vec<String>,
    /// Arguments that stand behind the user's and win.
    pub forced: Vec<String>,
    /// Longest time limit, in seconds. A longer one is cut to it.
    pub most_time: Option<u64>,
    /// Most nodes. A request for more is refused.
    pub most_nodes: Option<u64>,
    /// Most memory of any one amount in the arguments, in MiB. A request for more is refused.
    pub most_memory: Option<u64>,
    /// Partitions or queues that may be named; none for all.
    pub partitions: Option<Vec<String>>,
    /// Accounts that may be charged; none for all.
    pub accounts: Option<Vec<String>>,
    /// Qualities of service that may be named; none for all.
    pub qos: Option<Vec<String>>,
}

impl Batch {
    /// Settings that say nothing but where and by which scheduler.
    pub fn new(scheduler: Scheduler, directory: PathBuf) -> Self {
        Batch {
            scheduler,
            stages: DEFAULT_STAGES.map(str::to_owned).to_vec(),
            directory,
            scheduler_bin: None,
            environment: BTreeMap::new(),
            arguments: None,
            job_prefix: None,
            cancel_signal: None,
            copy_logs: None,
            grace: 30,
            rules: Rules::default(),
            allow_illegal_args: false,
            poll_interval: 60,
            nfs_timeout: 60,
            deadline: None,
        }
    }

    /// Whether a stage goes to the scheduler.
    pub fn submits(&self, stage: &str) -> bool {
        self.stages.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => stage.starts_with(beginning),
            None => stage == pattern,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, BatchPlan, SCHEDULERS, Scheduler};

    #[test]
    fn only_the_stages_named_go_to_the_scheduler() {
        let mut batch = Batch::new(Scheduler::Named("slurm".to_owned()), "/d".into());
        for (stage, expected) in [
            ("build_script", true),
            ("step_script", true),
            ("step_release", true),
            ("after_script", false),
            ("get_sources", false),
            ("build_script_x", false),
        ] {
            assert_eq!(batch.submits(stage), expected, "{stage}");
        }
        batch.stages = vec!["*".to_owned()];
        assert!(batch.submits("get_sources"));
    }

    #[test]
    fn a_field_that_nobody_knows_is_an_error() {
        let batch = Batch::new(Scheduler::Described("/x".into()), "/d".into());
        let text = serde_json::to_string(&batch).expect("text");
        assert_eq!(serde_json::from_str::<Batch>(&text).expect("the same"), batch);
        let more = text.replacen('{', "{\"more\":1,", 1);
        assert!(serde_json::from_str::<Batch>(&more).is_err());
    }
    #[test]
    fn every_name_of_a_scheduler_leads_to_its_first() {
        for (first, others) in SCHEDULERS {
            for name in others.iter().chain([&first]) {
                assert_eq!(Scheduler::named(name), Some(Scheduler::Named(first.to_owned())), "{name}");
            }
        }
        assert_eq!(Scheduler::named("Slurm"), None);
        let names: Vec<&str> =
            SCHEDULERS.iter().flat_map(|(first, others)| others.iter().chain([first]).copied()).collect();
        let different: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(different.len(), names.len(), "no name stands for two");
    }

    #[test]
    fn the_first_variable_that_is_set_has_the_arguments() {
        let settings = Batch::new(Scheduler::Named("slurm".to_owned()), "/d".into());
        let names = ["A", "B", "C"].map(str::to_owned).to_vec();
        let name = "slurm".to_owned();
        let mut plan = BatchPlan { name, settings, arguments_variables: names, job_prefix: true };
        let variable = |name: &str| match name {
            "A" => Ok(None),
            "C" => Err("never asked"),
            other => Ok(Some(format!("of {other}"))),
        };
        let batch = plan.with(variable).expect("values");
        let arguments = batch.arguments.expect("arguments");
        assert_eq!((arguments.variable.as_str(), arguments.text.as_str()), ("B", "of B"));
        assert_eq!(batch.job_prefix.as_deref(), Some("of SCHEDULER_JOB_PREFIX"));
        assert_eq!(batch.cancel_signal.as_deref(), Some("of SCHEDULER_SIGNAL"));
        plan.job_prefix = false;
        assert_eq!(plan.with(variable).expect("values").job_prefix, None);
        plan.arguments_variables.reverse();
        assert_eq!(plan.with(variable), Err("never asked"));
    }
}
