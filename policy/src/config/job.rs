//! `[job]`: how scripts run, also of a profile.

use super::batch::{self, BatchSettings};
use super::container::{self, ContainerPolicy};
use super::executor::{Executor, SchedulerFile};
use super::keys::{Form, Key, Table, Word, form};
use super::limits;
use super::reader::Section;
use super::values;
use crate::DEFAULT_LAUNCHER;
use nunbird_handover::Isolation;
use std::collections::BTreeMap;
use std::path::PathBuf;

const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What a job gets that asks for an image, services or steps where it gets none of them: the site has no container for it, or one that
/// cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Images {
    /// It runs without.
    Ignore,
    /// It runs without, with a warning in the job log.
    #[default]
    Warn,
    /// It is refused.
    Refuse,
}

impl Word for Images {
    const WORDS: &'static [(&'static str, Self)] =
        &[("ignore", Images::Ignore), ("warn", Images::Warn), ("refuse", Images::Refuse)];
}

impl Images {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        self.word()
    }
}

/// How scripts run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The unprivileged launcher.
    pub launcher: PathBuf,
    /// The shell that runs stage scripts.
    pub shell: PathBuf,
    /// Whether it reads the user's profile.
    pub login_shell: bool,
    /// What is taken away from jobs.
    pub isolation: Isolation,
    /// Where the user's script runs.
    pub executor: Executor,
    /// The batch scheduler's settings; they count where `executor` is not [`Executor::Shell`].
    pub batch: BatchSettings,
    /// Environment of every job beside `HOME`, `USER`, `LOGNAME` and `SHELL`; holds `PATH` at least.
    pub environment: BTreeMap<String, String>,
    /// Whether `JACAMAR_CI` and `JACAMAR_CI_SHELL` are set in jobs.
    pub jacamar_variables: bool,
    /// What the user reads when the job is prepared.
    pub message: Option<String>,
    /// The stages that run, as [`nunbird_handover::SiteRules`] has them; all when empty.
    pub stages: Vec<String>,
    /// Whether the soft limit of the stack is the hard one.
    pub raise_stack_limit: bool,
    /// What a job gets that asks for an image, services or steps and gets none of them.
    pub images: Images,
    /// The container that its scripts run in, a key of [`Policy::containers`](super::Policy::containers); none for none.
    pub container: Option<String>,
    /// What a job may use, one of `Policy::limits`; nothing is limited where there is none.
    pub limits: Option<crate::Limits>,
}

/// The variables by which profiles and scripts notice Jacamar CI, each `true`.
pub(super) const JACAMAR_VARIABLES: [&str; 2] = ["JACAMAR_CI", "JACAMAR_CI_SHELL"];

impl Job {
    /// The variables of every job. What the site sets itself stays.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let mut all = self.environment.clone();
        for name in JACAMAR_VARIABLES.iter().filter(|_| self.jacamar_variables) {
            all.entry((*name).to_owned()).or_insert_with(|| "true".to_owned());
        }
        all
    }
}

impl Default for Job {
    fn default() -> Self {
        Job {
            launcher: PathBuf::from(DEFAULT_LAUNCHER),
            shell: PathBuf::from("/bin/bash"),
            login_shell: true,
            isolation: Isolation::default(),
            executor: Executor::default(),
            batch: BatchSettings::default(),
            environment: BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]),
            jacamar_variables: false,
            message: None,
            stages: Vec::new(),
            raise_stack_limit: false,
            images: Images::default(),
            container: None,
            limits: None,
        }
    }
}

/// The key that only `[job]` has: the launcher is the same for all jobs.
pub static LAUNCHER_KEYS: Table<Job> = Table {
    path: "job",
    defaults: Job::default,
    keys: &[Key::<Job>::new(
        "launcher",
        form!(Path: launcher),
        "owned by root and writable only by root; `nunbird-keys` is beside it",
    )],
};

/// The keys that `[job]` and profiles have.
#[rustfmt::skip]
pub static JOB_KEYS: Table<Job> = Table {
    path: "job",
    defaults: Job::default,
    keys: &[
        Key::<Job>::new("executor", Form::Own { takes: "text", get: |t| batch::executor_setting(&t.executor) },
            "where the user's script runs: `shell`, on this host; a scheduler, below; or a `[scheduler.NAME]`"),
        Key::<Job>::new("shell", form!(Path: shell), "a POSIX shell"),
        Key::<Job>::new("login_shell", form!(Flag: login_shell), "whether the shell reads the user's profile"),
        Key::<Job>::new("no_new_privileges", form!(Flag: isolation.no_new_privileges),
            "setuid programs and file capabilities have no effect in jobs"),
        Key::<Job>::new("block_tty_injection", form!(Flag: isolation.block_tty_injection),
            "`TIOCSTI` and `TIOCLINUX` fail with `EPERM`; needs `no_new_privileges`"),
        Key::<Job>::new("limit_setuid", form!(Flag: isolation.limit_setuid),
            "the setuid(2) family fails with `EPERM` for ids that are not the job's; needs `no_new_privileges`"),
        Key::<Job>::new("environment", form!(Variables: environment, values::check_variable),
            "variables of every job, beside `HOME`, `USER`, `LOGNAME` and `SHELL`"),
        Key::<Job>::new("jacamar_variables", form!(Flag: jacamar_variables),
            "whether `JACAMAR_CI` and `JACAMAR_CI_SHELL` are `true` in jobs, for profiles and scripts that test them; with a file of Jacamar CI they are"),
        Key::<Job>::new("message", Form::Text { get: |t| Some(t.message.clone().unwrap_or_default()), set: |t, at| t.message = values::message(at) },
            "what the user reads when the job is prepared, at most 4096 bytes").or("none"),
        Key::<Job>::new("stages", Form::Texts { get: |t| Some(t.stages.clone()), set: |t, at| t.stages = values::stages(&at.value) },
            "gitlab-runner's stages that run; a name may end in `*`. Others are skipped, with a line in the job log").or("all"),
        Key::<Job>::new("raise_stack_limit", form!(Flag: raise_stack_limit),
            "the soft limit of the stack is the hard one where a stage runs on this host"),
        Key::<Job>::new("images", form!(Word: images, Images),
            "where there is no `container`, a job with `image:`, `services:` or `run:` runs without, runs with a warning in its log, or is denied (`images`)"),
        Key::<Job>::new("container", Form::Own { takes: "text", get: |t| container::setting(t.container.as_ref()) },
            "the NAME of a table `[container.NAME]` for the user's scripts; `\"\"` for none").or("none"),
        Key::<Job>::new("limits", Form::Own { takes: "text", get: |t| limits::setting(t.limits.as_ref()) },
            "the NAME of a table `[limits.NAME]`; `\"\"` for none").or("none"),
    ],
};

/// What `executor`, `limits` and `container` may name.
pub(super) struct JobNames<'k> {
    pub(super) schedulers: &'k BTreeMap<String, SchedulerFile>,
    pub(super) limits: &'k limits::LimitsByName,
    pub(super) containers: &'k BTreeMap<String, ContainerPolicy>,
}

/// `[job]`.
pub(super) fn read(mut table: Section<'_>, known: &JobNames<'_>) -> Job {
    let mut job = Job::default();
    LAUNCHER_KEYS.read(&mut table, &mut job);
    read_shared(&mut table, &mut job, known);
    table.finish();
    job
}

/// The keys that `[job]` and profiles have; what the table does not say stays as it is.
pub(super) fn read_shared(table: &mut Section<'_>, job: &mut Job, known: &JobNames<'_>) {
    JOB_KEYS.read(table, job);
    job.executor = batch::executor(table, &job.executor, known.schedulers);
    job.limits = limits::named(table, job.limits.as_ref(), known.limits);
    job.container = container::named(table, job.container.as_ref(), known.containers);
    let isolation = &mut job.isolation;
    // The kernel takes a filter from a process without privilege only together with no_new_privs (seccomp(2)).
    for (key, filter) in [
        ("block_tty_injection", &mut isolation.block_tty_injection),
        ("limit_setuid", &mut isolation.limit_setuid),
    ] {
        if *filter && !isolation.no_new_privileges {
            if table.has(key) {
                let help = "add `no_new_privileges = true`; setuid programs (sudo, ping, fusermount) then have no effect in jobs";
                table.find_at(key, "a filter of system calls needs no_new_privileges", help);
            } else {
                *filter = false;
            }
        }
    }
}
