//! One attempt at a job: the runner's private directory and the calls of the driver, one by one.
//!
//! [`Job::run`](super::Job::run) walks through a session by itself; a test that wants to do something
//! between two calls begins one with [`Job::begin`](super::Job::begin).

use super::environment;
use super::job::Job;
use super::outcome::StageOutcome;
use super::script::Scripts;
use super::stage::{self, Watch};
use super::variables::{self, Variable};
use super::{response, run};
use crate::world::enter::Spec;
use crate::world::process::write_executable;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The job's directories, as its scripts see them. Everything is empty until `config` has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) builds_dir: String,
    pub(super) project_dir: String,
    /// `CI_JOB_STATUS`.
    pub(super) status: &'static str,
}

impl Places {
    /// The directory of file variables: `<project>.tmp`.
    pub(super) fn temporary(&self) -> String {
        format!("{}.tmp", self.project_dir)
    }

    /// The path of a file variable.
    pub(super) fn file(&self, key: &str) -> String {
        format!("{}/{key}", self.temporary())
    }
}

/// One attempt at a job. Its directory is removed when it is dropped.
#[derive(Debug)]
pub struct Session<'a> {
    job: &'a Job<'a>,
    directory: PathBuf,
    pub(super) places: Places,
    job_env: Vec<(OsString, OsString)>,
    from_gitlab: Vec<Variable>,
    scripts: u32,
    left: Vec<i32>,
}

static COUNTER: AtomicU64 = AtomicU64::new(1);

impl<'a> Session<'a> {
    /// Makes the directory (`custom-executor<digits>`, mode 0700) and writes the job response into it.
    pub(super) fn begin(job: &'a Job<'a>) -> Self {
        let number = u64::from(std::process::id()) * 100_000 + COUNTER.fetch_add(1, Ordering::SeqCst);
        let directory = job.world.runner_directory().join(format!("custom-executor{number}"));
        let mut session = Session {
            job,
            directory,
            places: Places { builds_dir: String::new(), project_dir: String::new(), status: "running" },
            job_env: Vec::new(),
            from_gitlab: job.variables_from_gitlab(),
            scripts: 0,
            left: Vec::new(),
        };
        session.make_directory(&session.directory);
        let mut content = response::response(
            &job.facts,
            job.version,
            &job.repository(),
            &job.job_token,
            &session.from_gitlab,
            &[("script", &job.script), ("after_script", &job.after_script)],
        );
        for edit in &job.response_edits {
            edit(&mut content);
        }
        let bytes = response::bytes(&content);
        session.write(&session.directory.join("response.json"), &bytes, 0o600);
        session.places.status = "running";
        session
    }

    /// The runner's private directory of this attempt, the same path in the machine and on the host.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `JOB_RESPONSE_FILE`.
    pub fn response_file(&self) -> PathBuf {
        self.directory.join("response.json")
    }

    /// `BUILD_EXIT_CODE_FILE`.
    pub fn exit_code_file(&self) -> PathBuf {
        self.directory.join("build_exit_code")
    }

    /// Calls `config` and applies its output, if there is any.
    pub fn config(&mut self) -> StageOutcome {
        let spec = self.spec_of_config();
        let outcome = self.call("config", &spec, true);
        if outcome.succeeded() {
            // Output that cannot be used leaves the directories empty: `Job::run` reports it.
            let _unusable = run::take_answer(&outcome.stdout, self);
        }
        outcome
    }

    /// Calls `prepare`.
    pub fn prepare(&mut self) -> StageOutcome {
        let spec = self.spec(&self.job.commands.prepare, &[]);
        self.call("prepare", &spec, true)
    }

    /// Calls `run` with a script of the runner's own making for this stage: `prepare_script`, `get_sources`,
    /// `build_script`, `after_script`, `upload_artifacts_on_success`, `cleanup_file_variables`.
    ///
    /// # Panics
    /// For another name: [`Session::run_text`] takes any.
    pub fn stage(&mut self, name: &str) -> StageOutcome {
        let variables = self.variables();
        let (repository, server) = (self.job.repository(), self.job.world.issuer().plain_url());
        let scripts = Scripts {
            version: self.job.version,
            facts: &self.job.facts,
            variables: &variables,
            places: &self.places,
            repository: &repository,
            server: &server,
            job_token: &self.job.job_token,
        };
        let text = match name {
            "prepare_script" => scripts.prepare_script(),
            "get_sources" => scripts.get_sources(),
            "build_script" => scripts.step(&self.job.script),
            "after_script" => scripts.step(&self.job.after_script),
            "upload_artifacts_on_success" => scripts.upload_artifacts(&self.job.artifacts),
            "cleanup_file_variables" => scripts.cleanup_file_variables(),
            other => panic!("the double has no script for stage {other}"),
        };
        self.run_text(name, &text)
    }

    /// Calls `run` with any text as the script.
    pub fn run_text(&mut self, name: &str, script: &str) -> StageOutcome {
        self.scripts += 1;
        let folder = self.directory.join(format!("script{}", 1_000_000 + self.scripts));
        self.make_directory(&folder);
        let file = folder.join("script");
        self.write(&file, script.as_bytes(), 0o700);
        let spec = self.spec(&self.job.commands.run, &[file.as_os_str(), OsStr::new(name)]);
        let cancellable = name == "build_script" || self.job.canceller.cancelled().is_none();
        self.call(name, &spec, cancellable)
    }

    /// Calls `cleanup`.
    pub fn cleanup(&mut self) -> StageOutcome {
        let spec = self.spec(&self.job.commands.cleanup, &[]);
        self.call("cleanup", &spec, false)
    }

    /// The call as it would be made, to change it: see [`Session::call_spec`].
    pub fn spec_of_run(&self, script: &Path, name: &str) -> Spec {
        self.spec(&self.job.commands.run, &[script.as_os_str(), OsStr::new(name)])
    }

    /// The call of `config` as it would be made, of a job that the server knows.
    pub fn spec_of_config(&self) -> Spec {
        self.job.tell_server();
        self.spec(&self.job.commands.config, &[])
    }

    /// The call of `prepare` as it would be made.
    pub fn spec_of_prepare(&self) -> Spec {
        self.spec(&self.job.commands.prepare, &[])
    }

    /// The call of `cleanup` as it would be made.
    pub fn spec_of_cleanup(&self) -> Spec {
        self.spec(&self.job.commands.cleanup, &[])
    }

    /// Makes any call, with the runner's timeouts and signals.
    pub fn call_spec(&mut self, name: &str, spec: &Spec) -> StageOutcome {
        self.call(name, spec, true)
    }

    /// Writes a file as the runner's account, over what is there.
    pub fn write(&self, path: &Path, contents: &[u8], mode: u32) {
        match mode & 0o111 {
            0 => fs::write(path, contents).expect("a file of the runner"),
            _ => write_executable(path, contents),
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        self.give_to_runner(path);
    }

    pub(super) fn set_answer(&mut self, places: Places, job_env: Vec<(OsString, OsString)>) {
        self.places = places;
        self.job_env = job_env;
    }

    pub(super) fn set_status(&mut self, status: &'static str) {
        self.places.status = status;
    }

    pub(super) fn job(&self) -> &'a Job<'a> {
        self.job
    }

    fn variables(&self) -> Vec<Variable> {
        variables::all(&self.from_gitlab, &self.job.facts, self.job.version, &self.places)
    }

    /// The environment's four groups in order: the runner's own, fixed names, `job_env`, the job's variables.
    fn spec(&self, arguments: &[OsString], appended: &[&OsStr]) -> Spec {
        let job = self.job;
        let runner = &job.world.runner().name;
        let mut spec = job.world.program(runner, &job.commands.program, &[] as &[&OsStr]);
        spec.arguments =
            arguments.iter().cloned().chain(appended.iter().map(|&word| word.to_owned())).collect();
        let mut pairs = std::mem::take(&mut spec.environment);
        pairs.extend(job.environment.iter().cloned());
        pairs.extend(environment::fixed(&self.directory, job.version.has_exit_code_file()));
        pairs.extend(self.job_env.iter().cloned());
        pairs.extend(environment::custom(&self.variables(), &self.places));
        spec.environment = environment::last_wins(pairs);
        spec.directory = self.directory.clone().into_os_string();
        spec
    }

    fn call(&mut self, name: &str, spec: &Spec, cancellable: bool) -> StageOutcome {
        let job = self.job;
        let watch = Watch {
            canceller: &job.canceller,
            triggers: &job.triggers,
            cancellable,
            graceful: job.graceful,
            force: job.force,
            limit: job.limit,
            runner: job.world.runner_ids(),
        };
        stage::call(name, spec, &watch, &mut self.left)
    }

    fn make_directory(&self, path: &Path) {
        fs::DirBuilder::new().mode(0o700).create(path).expect("a directory of the runner");
        self.give_to_runner(path);
    }

    fn give_to_runner(&self, path: &Path) {
        if let Some(ids) = self.job.world.runner_ids() {
            chown(path, Some(ids.uid), Some(ids.gid)).expect("an owner");
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        for group in &self.left {
            // What the runner's account could not end, the test bed can, unless it ended by itself.
            let _gone = stage::signal_group(*group, "KILL", None);
        }
        // As the runner: what is left there is removed with the machine.
        let _left = fs::remove_dir_all(&self.directory);
    }
}
