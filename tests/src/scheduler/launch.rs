//! The launcher, started as `nunbird-auth` starts it, for a CI job whose stages go to a scheduler.

use super::bed::{Bed, Person};
use super::{Cluster, Slurm};
use crate::world::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_handover::{
    Account, Batch, ExitCodes, Handover, Identity, SUMMARY_SIZE, Scheduler, Shell, SiteRules, Summary, Task,
    UserText, Workspace,
};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Told apart from what scripts of tests end with.
const BUILD_FAILURE: u8 = 110;
const SYSTEM_FAILURE: u8 = 120;

/// One CI job.
pub struct Job<'s, C: ?Sized = Slurm> {
    pub(super) cluster: &'s C,
    bed: &'s Bed,
    directory: PathBuf,
    /// What the launcher is given; change it before a stage.
    pub handover: Handover,
    starts: std::cell::Cell<u32>,
}

/// A stage of it, at work.
#[derive(Debug)]
pub struct Stage {
    child: Child,
    directory: PathBuf,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// A stage that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Of the launcher; none when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error, as text.
    pub err: String,
    /// What the runner's exit-code file holds.
    pub exit_code: String,
    /// What the launcher told for the audit.
    pub summary: Option<Summary>,
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
        let scheduler = Scheduler::Named(cluster.scheduler().to_owned());
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
        let job = Job { cluster, bed, directory, handover, starts: 0.into() };
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

    /// The scheduler's commands that the launchers of this job ran, in order.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.bed.calls(self.handover.job_id)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn start_task(&self, task: Task, script: &str) -> Stage {
        self.starts.set(self.starts.get() + 1);
        let at = self.directory.join(self.starts.get().to_string());
        fs::create_dir(&at).expect("a directory");
        let handover = Handover { task, ..self.handover.clone() };
        for (name, bytes) in [
            ("handover", handover.to_bytes().expect("a handover")),
            ("script", script.into()),
            ("exit_code", b"1\n".to_vec()),
            ("summary", vec![0; SUMMARY_SIZE]),
        ] {
            fs::write(at.join(name), bytes).expect("a file");
            fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        let Account { uid, gid, .. } = &handover.account;
        let (launcher, at_text) = (process::under_test("nunbird"), at.display());
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
        let mut child = process::spawn(&spec);
        let (out, err) = (Arc::default(), Arc::default());
        let readers = vec![
            read_into(child.stdout.take().expect("a pipe"), Arc::clone(&out)),
            read_into(child.stderr.take().expect("a pipe"), Arc::clone(&err)),
        ];
        Stage { child, directory: at, out, err, readers }
    }
}

impl Stage {
    /// Sends a signal to the launcher.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("a signal");
    }

    /// What it has written to standard output so far.
    pub fn out(&self) -> Vec<u8> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has written to standard error so far.
    pub fn err(&self) -> String {
        let err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&err).into_owned()
    }

    /// Waits until standard error says this.
    #[track_caller]
    pub fn wait_for_word(&self, word: &str) {
        let end = Instant::now() + Duration::from_secs(90);
        while !self.err().contains(word) {
            assert!(Instant::now() < end, "waited in vain for `{word}` in:\n{}", self.err());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the launcher as nothing else can.
    pub fn kill(self) -> Ended {
        self.signal(Signal::SIGKILL);
        self.finish()
    }

    /// Whether the launcher has ended.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Waits for its end, for longer than a launcher takes to give up on a cancel.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn finish(mut self) -> Ended {
        let end = Instant::now() + Duration::from_secs(200);
        while !self.has_ended() {
            if Instant::now() >= end {
                self.signal(Signal::SIGKILL);
                panic!("the launcher does not end:\n{}", self.err());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = self.child.wait().expect("its end");
        for reader in self.readers.drain(..) {
            reader.join().expect("its output");
        }
        let summary = fs::read(self.directory.join("summary")).expect("a summary");
        Ended {
            status: status.code(),
            out: self.out(),
            err: self.err(),
            exit_code: fs::read_to_string(self.directory.join("exit_code"))
                .expect("an exit code")
                .trim()
                .to_owned(),
            summary: summary.first_chunk().and_then(Summary::parse),
        }
    }
}

impl Ended {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Fails unless the stage succeeded.
    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        assert_eq!(self.status, Some(0), "{}\n{}", self.text(), self.err);
        self
    }

    /// Fails unless the script failed with this code and the user reads this.
    #[track_caller]
    pub fn failed(&self, code: i32, word: &str) -> &Self {
        assert_eq!(self.status, Some(BUILD_FAILURE.into()), "{}\n{}", self.text(), self.err);
        assert_eq!(self.exit_code, code.to_string(), "{}", self.err);
        assert!(self.err.contains(word), "no `{word}` in:\n{}", self.err);
        self
    }

    /// Fails unless the system failed and the user reads this.
    #[track_caller]
    pub fn system_failed(&self, word: &str) -> &Self {
        assert_eq!(self.status, Some(SYSTEM_FAILURE.into()), "{}\n{}", self.text(), self.err);
        assert!(self.err.contains(word), "no `{word}` in:\n{}", self.err);
        self
    }
}

fn read_into(
    mut source: impl Read + Send + 'static,
    into: Arc<Mutex<Vec<u8>>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(n @ 1..) = source.read(&mut chunk) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..n]);
        }
    })
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
        exit_codes: ExitCodes { build_failure: BUILD_FAILURE, system_failure: SYSTEM_FAILURE },
        exit_code_file: true,
        umask: None,
        batch: Some(batch),
        site: SiteRules::default(),
        expires_at: u64::MAX,
    }
}
