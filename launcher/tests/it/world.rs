//! A home directory, a handover and the launcher, for one test.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown, getegid, geteuid};
use nunbird_handover::{
    Account, Credentials, ExitCodes, Handover, Identity, Shell, SiteRules, Task, Workspace,
};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Differs from every exit code that a script of these tests ends with.
pub(crate) const BUILD_FAILURE: i32 = 10;
pub(crate) const SYSTEM_FAILURE: i32 = 20;
const UNPRIVILEGED: u32 = 65532;

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Removed on drop.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) handover: Handover,
    /// Run by root in its own mount namespace, before the launcher.
    pub(crate) mounts: Option<String>,
    /// A command that starts the launcher.
    pub(crate) prefix: String,
    /// Whether the launcher becomes the account first.
    pub(crate) drops: bool,
    binary: PathBuf,
}

impl World {
    pub(crate) fn new() -> World {
        Self::with(Path::new(env!("CARGO_BIN_EXE_nunbird")))
    }

    /// With the launcher that uses short timeouts.
    pub(crate) fn impatient() -> World {
        let own = std::env::current_exe().expect("own path");
        let example =
            own.parent().and_then(Path::parent).expect("target directory").join("examples/impatient");
        assert!(example.exists(), "{} is missing: `cargo test -p nunbird` builds it", example.display());
        Self::with(&example)
    }

    fn with(binary: &Path) -> World {
        let dir = tempfile::tempdir().expect("temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("mode");
        let link = dir.path().join("nunbird");
        if fs::hard_link(binary, &link).is_err() {
            fs::copy(binary, &link).expect("copy of the launcher");
        }
        let (uid, gid) =
            if is_root() { (UNPRIVILEGED, UNPRIVILEGED) } else { (geteuid().as_raw(), getegid().as_raw()) };
        let handover = handover(&dir.path().join("home"), uid, gid);
        let world = World { dir, handover, mounts: None, prefix: String::new(), drops: true, binary: link };
        world.mkdir(&world.home(), 0o755);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.handover.account.home.clone()
    }

    /// Creates a directory that the account owns, with its parents.
    pub(crate) fn mkdir(&self, path: &Path, mode: u32) {
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            self.mkdir(parent, 0o700);
        }
        fs::create_dir(path).expect("directory");
        self.own(path);
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
    }

    /// Writes a file that the account owns.
    pub(crate) fn write(&self, path: &Path, text: &str) {
        fs::write(path, text).expect("file");
        self.own(path);
    }

    /// Creates a symbolic link that the account owns.
    pub(crate) fn link(&self, target: &Path, path: &Path) {
        std::os::unix::fs::symlink(target, path).expect("link");
        if is_root() {
            std::os::unix::fs::lchown(path, Some(self.uid()), Some(self.uid())).expect("lchown");
        }
    }

    fn own(&self, path: &Path) {
        if is_root() {
            chown(path, Some(self.uid().into()), Some(self.uid().into())).expect("chown");
        }
    }

    fn uid(&self) -> u32 {
        self.handover.account.uid
    }

    pub(crate) fn prepare(&mut self) -> Output {
        self.handover.task = Task::Prepare;
        self.start("").finish()
    }

    pub(crate) fn cleanup(&mut self) -> Output {
        self.handover.task = Task::Cleanup;
        self.start("").finish()
    }

    /// Runs a script as the stage `build_script`.
    pub(crate) fn run(&mut self, script: impl AsRef<[u8]>) -> Output {
        self.start_stage("build_script", script).finish()
    }

    pub(crate) fn start_stage(&mut self, stage: &str, script: impl AsRef<[u8]>) -> Running {
        self.handover.task = Task::Run(stage.to_owned());
        self.start(script)
    }

    /// Starts the launcher with the present state of the handover.
    pub(crate) fn start(&self, script: impl AsRef<[u8]>) -> Running {
        self.start_with(&self.handover.to_bytes().expect("handover"), script)
    }

    /// Starts the launcher with these bytes as the handover.
    pub(crate) fn start_with(&self, handover: &[u8], script: impl AsRef<[u8]>) -> Running {
        for (name, bytes) in [("handover", handover), ("script", script.as_ref()), ("exit_code", b"1\n")] {
            // A new file each time: a launcher that has just been started may not have opened the old one yet.
            let new = self.path("new");
            fs::write(&new, bytes).expect("file");
            fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("mode");
            fs::rename(&new, self.path(name)).expect("rename");
        }
        let become_user = if is_root() && self.drops {
            format!("setpriv --reuid={0} --regid={0} --clear-groups", self.uid())
        } else {
            String::new()
        };
        let text = format!(
            "{}; exec {} {become_user} ./nunbird 3<handover 4<script 5<>exit_code",
            self.mounts.as_deref().unwrap_or(":"),
            self.prefix,
        );
        let mut command = match self.mounts {
            Some(_) => Command::new("unshare"),
            None => Command::new("/bin/sh"),
        };
        if self.mounts.is_some() {
            command.args(["-m", "/bin/sh"]);
        }
        command.args(["-euc", &text]).current_dir(self.dir.path()).env("LEAKED", "secret");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().expect("start"))
    }

    /// Runs the launcher alone with these arguments and no descriptors.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$@\" 3<&- 4<&- 5<&-", "sh"]).arg(&self.binary).args(arguments);
        command.stdin(Stdio::null()).output().expect("output")
    }

    /// The content of the exit-code file, as the runner would read it.
    pub(crate) fn exit_code(&self) -> String {
        fs::read_to_string(self.path("exit_code")).expect("exit code")
    }
}

/// What a container of a test that has failed, or has ended before its cleanup, leaves on the host: it is in namespaces of its own,
/// and its runtime directory in a place that all share. Tests of what a cleanup leaves assert it before.
impl Drop for World {
    fn drop(&mut self) {
        if self.handover.container.is_none() {
            return;
        }
        // Also of those whose ids a test has made from this one.
        let name = format!("nb-{}", &self.handover.decision_id[..20]);
        let mark = format!("NUNBIRD_CONTAINER={name}");
        for _ in 0..100 {
            let left = marked(mark.as_bytes());
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _gone = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for place in ["/tmp", "/var/tmp", "/dev/shm"] {
            for entry in fs::read_dir(place).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&name) {
                    drop(fs::remove_dir_all(entry.path()));
                }
            }
        }
    }
}

/// Processes with a variable of the environment that begins so.
fn marked(mark: &[u8]) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let has_mark = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one.starts_with(mark))
    };
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(has_mark).map(Pid::from_raw).collect()
}

/// Unique for each job, and for each test program that has ever run here: a job's processes and its
/// container's directories are found by it.
fn decision_id() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_nanos();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{:016x}{:08x}{number:08x}", time & u128::from(u64::MAX), std::process::id())
}

fn handover(home: &Path, uid: u32, gid: u32) -> Handover {
    let data_dir = home.join(".nunbird");
    let builds_dir = data_dir.join("builds/node01/0");
    Handover {
        version: nunbird_handover::FORMAT_VERSION,
        decision_id: decision_id(),
        job_id: 4711,
        task: Task::Prepare,
        account: Account {
            name: "nbt_alice".to_owned(),
            uid,
            gid,
            home: home.to_owned(),
            shell: "/bin/zsh".into(),
        },
        identity: Identity {
            server: "main".to_owned(),
            user_login: "alice".to_owned(),
            user_id: 42,
            project_path: "group/sub/project".to_owned(),
        },
        workspace: Workspace {
            project_dir: builds_dir.join("group/sub/project"),
            cache_dir: data_dir.join("cache"),
            builds_root: data_dir.clone(),
            data_dir,
            builds_dir,
        },
        shell: Shell { path: "/bin/bash".into(), login: false },
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        session_variables: std::collections::BTreeSet::new(),
        exit_codes: ExitCodes { build_failure: 10, system_failure: 20 },
        exit_code_file: true,
        umask: None,
        batch: None,
        container: None,
        credentials: Credentials::default(),
        credential_helpers: Vec::new(),
        site: SiteRules::default(),
        expires_at: u64::MAX,
        timed_out: false,
    }
}

/// A running launcher.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn finish(self) -> Output {
        self.0.wait_with_output().expect("output")
    }

    /// Reads standard output until a line says `ready`.
    pub(crate) fn ready(mut self) -> ReadyRunning {
        let mut out = BufReader::new(self.0.stdout.take().expect("stdout"));
        let mut line = String::new();
        while line != "ready\n" {
            line.clear();
            assert_ne!(out.read_line(&mut line).expect("line"), 0, "ended before it was ready");
        }
        ReadyRunning { running: self, out }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).expect("kill");
    }
}

/// How long words are waited for: a busy machine starts a container in some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The launcher, whose standard error is read line by line.
pub(crate) struct Watched {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: String,
    out: JoinHandle<Vec<u8>>,
}

impl Running {
    pub(crate) fn watched(self) -> Watched {
        let mut child = self.0;
        let mut out = child.stdout.take().expect("stdout");
        let err = BufReader::new(child.stderr.take().expect("stderr"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in err.split(b'\n') {
                let Ok(line) = line else { break };
                let _over = sender.send(String::from_utf8_lossy(&line).into_owned() + "\n");
            }
        });
        let out = thread::spawn(move || {
            let mut all = Vec::new();
            out.read_to_end(&mut all).map(|_| all).unwrap_or_default()
        });
        Watched { child, lines, said: String::new(), out }
    }
}

impl Watched {
    /// Waits until a line has these words.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.said.contains(words) {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push_str(&line),
                Err(e) => {
                    let _gone = self.child.kill();
                    panic!("no line with `{words}`: {e}: {}", self.said);
                }
            }
        }
    }

    pub(crate) fn finish(mut self) -> Output {
        let status = self.child.wait().expect("the launcher ends");
        let rest: String = self.lines.iter().collect();
        let stdout = self.out.join().expect("output");
        Output { status, stdout, stderr: (self.said + &rest).into_bytes() }
    }
}

/// The launcher, with a script that has printed `ready`.
pub(crate) struct ReadyRunning {
    running: Running,
    out: BufReader<std::process::ChildStdout>,
}

impl ReadyRunning {
    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Whether the launcher is still running.
    pub(crate) fn runs(&self) -> bool {
        runs(&self.running.0.id().to_string())
    }

    pub(crate) fn finish(mut self) -> Output {
        let mut stdout = Vec::new();
        self.out.read_to_end(&mut stdout).expect("output");
        Output { stdout, ..self.running.finish() }
    }
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with the output if the launcher ended with another exit code.
#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{:?}\n{}\n{}", output.status, out(output), err(output));
}

/// Whether a process runs; one that has ended and waits to be reaped does not.
pub(crate) fn runs(pid: &str) -> bool {
    let file = |name: &str| fs::read(format!("/proc/{}/{name}", pid.trim())).unwrap_or_default();
    let stat = String::from_utf8_lossy(&file("stat")).into_owned();
    let is_waited_for = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']));
    // The memory of one that is about to end is gone, and with it its arguments (proc(5)).
    !stat.is_empty() && !is_waited_for && !file("cmdline").is_empty()
}
