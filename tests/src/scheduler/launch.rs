//! The launcher, started as `nunbird-auth` starts it, for a CI job whose stages go to a scheduler.

use super::bed::{Bed, Person};
use super::stage::{BUILD_FAILURE, Ended, SYSTEM_FAILURE, Stage};
use super::{Cluster, Slurm};
use crate::world::process;
use nunbird_handover::{
    Account, Batch, ExitCodes, Handover, Identity, SUMMARY_SIZE, Shell, SiteRules, Task, UserText, Workspace,
};
use nunbird_messages::{Envelope, SessionAdditions, Version};
use nunbird_wire::Message;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// One CI job.
pub struct Job<'s, C: ?Sized = Slurm> {
    pub(super) cluster: &'s C,
    bed: &'s Bed,
    directory: PathBuf,
    /// What the launcher is given; change it before a stage.
    pub handover: Handover,
    /// What a PAM session around the next stage adds.
    pub session: Option<SessionAdditions>,
    starts: std::cell::Cell<u32>,
}

impl Slurm {
    /// A CI job of one of the accounts, with the launcher's own settings but quick looks at the queue.
    ///
    /// # Panics
    /// When its directories cannot be made.
    pub fn job(&self, user: &str) -> Job<'_> {
        Job::of(self, user)
    }
}

impl<C: ?Sized> std::fmt::Debug for Job<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CI job {}", self.handover.job_id)
    }
}

impl<'s, C: Cluster + ?Sized> Job<'s, C> {
    /// A CI job of one of a cluster's accounts.
    ///
    /// # Panics
    /// When its directories cannot be made.
    pub fn of(cluster: &'s C, user: &str) -> Self {
        let bed = cluster.bed();
        let number = bed.next_job();
        let directory = bed.path("launch").join(number.to_string());
        fs::create_dir(&directory).expect("a directory");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("a mode");
        let person = bed.person(user);
        let scheduler = cluster.setting();
        let mut batch = Batch::new(scheduler, person.home.join(format!(".nunbird/batch/{number}")));
        if cluster.counts_calls() {
            batch.scheduler_bin = Some(bed.path("bin"));
        }
        let calls = bed.path("calls").display().to_string();
        batch.environment =
            cluster.environment().into_iter().chain([("NBT_CALLS".to_owned(), calls)]).collect();
        batch.nfs_timeout = 5;
        batch.grace = 3;
        let path = bed.environment.iter().find(|(name, _)| name == "PATH").expect("a PATH").1.clone();
        let handover = handover(&person, &path, number, batch);
        let job = Job { cluster, bed, directory, handover, session: None, starts: 0.into() };
        let prepared = job.start_task(Task::Prepare, "").finish();
        assert_eq!(prepared.status, Some(0), "{}", prepared.err);
        job
    }
}

/// What only Slurm's own tests use.
impl Job<'_> {
    /// Waits until the queue says that the job is in this state, and gives its id.
    #[track_caller]
    pub fn wait_for_state(&self, state: &str) -> String {
        self.bed.wait_for(state, || self.state().as_deref() == Some(state));
        self.id().expect("an id")
    }

    /// The job's state in the queue's words.
    pub fn state(&self) -> Option<String> {
        let state = self.cluster.admin(&format!("squeue -h -a -t all -j {} -o %T", self.id()?));
        Some(state.trim().to_owned()).filter(|state| !state.is_empty())
    }
}

impl<C: Cluster + ?Sized> Job<'_, C> {
    /// Sets the user's `SCHEDULER_PARAMETERS`.
    #[must_use]
    pub fn arguments(mut self, text: &str) -> Self {
        let always = self.cluster.always();
        self.batch().arguments =
            Some(UserText { variable: "SCHEDULER_PARAMETERS".to_owned(), text: format!("{always} {text}") });
        self
    }

    /// Moves its data, to a directory that the account makes.
    #[must_use]
    pub(super) fn at(mut self, data_dir: &Path) -> Self {
        let number = self.handover.job_id;
        let make =
            self.bed.as_user(&self.handover.account.name, &format!("mkdir -m 700 {}", data_dir.display()));
        self.bed.admin(&make);
        self.batch().directory = data_dir.join(format!("batch/{number}"));
        self.handover.workspace = workspace(data_dir);
        let prepared = self.start_task(Task::Prepare, "").finish();
        assert_eq!(prepared.status, Some(0), "{}", prepared.err);
        self
    }

    /// The settings.
    ///
    /// # Panics
    /// Never: a job of this bed has them.
    pub fn batch(&mut self) -> &mut Batch {
        self.handover.batch.as_mut().expect("settings")
    }

    /// The account's home directory.
    pub fn home(&self) -> &Path {
        &self.handover.account.home
    }

    /// The directory of the script's stage.
    ///
    /// # Panics
    /// Never: a job of this bed has one.
    pub fn stage_directory(&self) -> PathBuf {
        self.handover.batch.as_ref().expect("settings").directory.join("build_script")
    }

    /// Runs the user's script to its end.
    pub fn run(&self, script: &str) -> Ended {
        self.start(script).finish()
    }

    /// Starts the user's script.
    pub fn start(&self, script: &str) -> Stage {
        self.start_stage("build_script", script)
    }

    /// Starts a stage by the runner's name of it.
    pub fn start_stage(&self, name: &str, script: &str) -> Stage {
        self.start_task(Task::Run(name.to_owned()), script)
    }

    /// Runs the prepare stage once more, after a change of what the launcher is given.
    ///
    /// # Panics
    /// When it fails.
    pub fn prepare(&self) {
        let prepared = self.try_prepare();
        assert_eq!(prepared.status, Some(0), "{}", prepared.err);
    }

    /// The same, however it ends.
    pub fn try_prepare(&self) -> Ended {
        self.start_task(Task::Prepare, "").finish()
    }

    /// Runs the cleanup stage.
    pub fn cleanup(&self) -> Ended {
        self.start_task(Task::Cleanup, "").finish()
    }

    /// Waits until the launcher knows the scheduler's id.
    #[track_caller]
    pub fn wait_for_id(&self) -> String {
        self.bed.wait_for("the scheduler's id", || self.id().is_some_and(|id| !id.is_empty()));
        self.id().expect("an id")
    }

    /// Makes an empty file in the home directory.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn write_home(&self, name: &str) {
        fs::write(self.home().join(name), "").expect("a file");
    }

    /// The scheduler's id, once the launcher knows it.
    pub fn id(&self) -> Option<String> {
        let text = fs::read_to_string(self.stage_directory().join("job")).ok()?;
        Some(text.trim().trim_matches('"').to_owned())
    }

    /// Waits until the user's script has made this file in the home directory.
    #[track_caller]
    pub fn wait_for_file(&self, name: &str) {
        self.bed.wait_for(name, || self.home().join(name).exists());
    }

    /// Waits until a file in the home directory has a whole line: `echo` makes it a moment before that, in which its shell can be ended.
    pub fn wait_for_line(&self, name: &str) {
        let read = || fs::read_to_string(self.home().join(name)).unwrap_or_default();
        self.bed.wait_for(name, || read().ends_with('\n'));
    }

    /// The scheduler's commands that the launchers of this job ran, in order.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.bed.calls(self.handover.job_id)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl<C: ?Sized> Job<'_, C> {
    fn start_task(&self, task: Task, script: &str) -> Stage {
        if let (Task::Cleanup, false, Some(batch)) = (&task, self.bed.is_private(), &self.handover.batch) {
            self.bed.note_tags(&batch.directory);
        }
        self.starts.set(self.starts.get() + 1);
        let at = self.directory.join(self.starts.get().to_string());
        fs::create_dir(&at).expect("a directory");
        let handover = Handover { task, ..self.handover.clone() };
        let message = handover.message().expect("a handover");
        let envelope = Envelope { version: Version, message, session: self.session.clone() };
        for (name, bytes) in [
            ("handover", envelope.to_bytes()),
            ("script", script.into()),
            ("exit_code", b"1\n".to_vec()),
            ("summary", vec![0; SUMMARY_SIZE]),
        ] {
            fs::write(at.join(name), bytes).expect("a file");
            fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        let Account { uid, gid, .. } = &handover.account;
        let (launcher, at_text) = (self.bed.launcher(), at.display());
        let drop = match self.bed.is_private() {
            true => format!("setpriv --reuid={uid} --regid={gid} --clear-groups "),
            false => String::new(),
        };
        let mut spec = self.bed.spec(&format!(
            "cd {at_text} && exec {drop}{} 3<handover 4<script 5<>exit_code 9<>summary",
            launcher.display()
        ));
        spec.environment.push(("LEAKED".into(), "secret".into()));
        spec.environment.push(("SBATCH_PARTITION".into(), "nonesuch".into()));
        Stage::of(process::spawn(&spec), at)
    }
}

/// A site's job must be cleaned up by its case: a case may have failed, or been interrupted,
/// anywhere.
impl<C: ?Sized> Drop for Job<'_, C> {
    fn drop(&mut self) {
        if self.bed.is_private() {
            return;
        }
        let ended = self.start_task(Task::Cleanup, "").end();
        if ended.as_ref().is_none_or(|ended| ended.status != Some(0)) {
            let said = ended.map(|ended| ended.err).unwrap_or_default();
            self.bed.note_not_cleaned(format!(
                "CI job {} was not cleaned up: {}",
                self.handover.job_id,
                said.trim()
            ));
        }
    }
}

/// No two jobs have the same, on no cluster: a job's processes are found by it.
fn decision_id() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{:024x}{:08x}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn workspace(data_dir: &Path) -> Workspace {
    let builds_dir = data_dir.join("builds/node01/0");
    Workspace {
        project_dir: builds_dir.join("group/project"),
        cache_dir: data_dir.join("cache"),
        builds_root: data_dir.to_owned(),
        data_dir: data_dir.to_owned(),
        builds_dir,
    }
}

fn handover(person: &Person, path: &str, number: u64, batch: Batch) -> Handover {
    Handover {
        version: nunbird_handover::FORMAT_VERSION,
        decision_id: decision_id(),
        job_id: number,
        task: Task::Prepare,
        account: Account {
            name: person.name.clone(),
            uid: person.uid,
            gid: person.gid,
            home: person.home.clone(),
            shell: "/bin/bash".into(),
        },
        identity: Identity {
            server: "main".to_owned(),
            user_login: person.name.clone(),
            user_id: 42,
            project_path: "group/project".to_owned(),
        },
        workspace: workspace(&person.home.join(".nunbird")),
        shell: Shell { path: "/bin/bash".into(), login: true },
        environment: BTreeMap::from([("PATH".to_owned(), path.to_owned())]),
        session_variables: std::collections::BTreeSet::new(),
        exit_codes: ExitCodes { build_failure: BUILD_FAILURE, system_failure: SYSTEM_FAILURE },
        exit_code_file: true,
        umask: None,
        batch: Some(batch),
        container: None,
        credentials: nunbird_handover::Credentials::default(),
        credential_helpers: Vec::new(),
        site: SiteRules::default(),
        expires_at: u64::MAX,
        timed_out: false,
    }
}
