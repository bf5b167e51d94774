//! What every test bed of a scheduler has: a directory, accounts, and a mount namespace that shows
//! them.
//!
//! Everything of a bed runs in mount namespaces that show other `passwd` and `group` files, which
//! is also how all its processes are found at the end: daemons, steps, jobs and launchers alike. A
//! bed of the caller's own account, for a site's real scheduler, has neither: it changes nothing on
//! the host but files below one directory.

use super::interrupt::{patience, stop_if_interrupted};
use crate::world::enter::{Mount, Spec};
use crate::world::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, getuid};
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The accounts: name and uid, which is also the gid.
const USERS: [(&str, u32); 3] = [("nbt_ann", 41101), ("nbt_bea", 41102), ("nbt_cyn", 41103)];

/// A directory with accounts of its own.
#[derive(Debug)]
pub struct Bed {
    /// The caller's account, if the bed has none of its own.
    own: Option<User>,
    /// The launcher that the caller names.
    launcher: Option<PathBuf>,
    /// Names that the launchers gave jobs in the queue, in a bed of the caller's account.
    tags: Mutex<Vec<String>>,
    /// Which cleanups failed there, and how.
    not_cleaned: Mutex<Vec<String>>,
    /// The tree whose `/usr` and `/etc` its programs see; `None` for the host's.
    tree: Option<PathBuf>,
    /// What its programs find besides the accounts.
    pub(super) mounts: Vec<Mount>,
    /// The process whose host name and network its programs use; `None` for the host's.
    pub(super) host: Option<u32>,
    /// The environment of an administrator.
    pub(super) environment: Vec<(String, String)>,
    // Last: everything else uses it.
    directory: TempDir,
}

/// An account as launchers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: PathBuf,
}

/// A variable of the caller's environment; empty when it has none.
pub(super) fn variable(name: &str) -> String {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Bed {
    /// Creates one, with three accounts that do not exist elsewhere on the host.
    ///
    /// # Panics
    /// Without root.
    pub(super) fn new(prefix: &str) -> Bed {
        Self::on(prefix, None)
    }

    /// The same, with programs and configuration from a Debian tree, if one is named. The tree is
    /// read-only there; everything else is the host's.
    ///
    /// # Panics
    /// Without root.
    pub(super) fn on(prefix: &str, tree: Option<PathBuf>) -> Bed {
        let directory = tempfile::Builder::new().prefix(prefix).tempdir_in("/var/tmp").expect("a directory");
        let mut bed = Self::in_directory(directory, None);
        let (mut passwd, mut group) = (String::new(), String::new());
        for (name, uid) in USERS {
            let home = bed.path("home").join(name);
            writeln!(passwd, "{name}:x:{uid}:{uid}::{}:/bin/bash", home.display()).expect("text");
            writeln!(group, "{name}:x:{uid}:").expect("text");
            fs::create_dir(&home).expect("a home");
            fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("a mode");
            chown(&home, Some(uid), Some(uid)).expect("an owner");
        }
        for (file, ours) in [("passwd", passwd), ("group", group)] {
            let root = tree.as_deref().unwrap_or(Path::new("/"));
            let known = fs::read_to_string(root.join("etc").join(file)).expect("the accounts of the system");
            fs::write(bed.path("etc").join(file), known + &ours).expect("the bed's accounts");
        }
        // crun refuses hosts with both versions of control groups.
        let unified = PathBuf::from("/sys/fs/cgroup/unified");
        if unified.exists() {
            let empty = bed.path("empty");
            fs::create_dir(&empty).expect("a directory");
            bed.mounts.push(Mount::Bind { source: empty, target: unified });
        }
        if tree.is_some() {
            let hosts = bed.path("etc/hosts");
            fs::copy("/etc/hosts", &hosts).expect("the host's name");
            bed.mounts.push(Mount::Bind { source: hosts, target: PathBuf::from("/etc/hosts") });
        }
        bed.tree = tree;
        bed
    }

    /// Whether its programs have another network than the host's.
    pub(crate) fn has_own_network(&self) -> bool {
        self.host.is_some()
    }

    /// Whether it is a site's own scheduler that it is for.
    pub(crate) fn is_of_a_site(&self) -> bool {
        self.own.is_some()
    }

    /// One of the caller's own account, below this directory or its home directory, which compute nodes must share.
    ///
    /// # Errors
    /// When the directory cannot be made.
    ///
    /// # Panics
    /// When the caller is not in the user database.
    pub(super) fn own(parent: Option<&Path>, launcher: PathBuf) -> std::io::Result<Bed> {
        let user = User::from_uid(getuid()).expect("the user database").expect("an account");
        let parent = parent.unwrap_or(&user.dir);
        let directory = tempfile::Builder::new().prefix("nbt_compliance_").tempdir_in(parent)?;
        let mut bed = Self::in_directory(directory, Some(user));
        bed.launcher = Some(launcher);
        fs::create_dir(bed.path("home/own"))?;
        Ok(bed)
    }

    /// The launcher: the installed one at a site, else the one under test.
    pub fn launcher(&self) -> PathBuf {
        self.launcher.clone().unwrap_or_else(|| process::under_test("nunbird"))
    }

    fn in_directory(directory: TempDir, own: Option<User>) -> Bed {
        // Other users of a login node must not enter: handovers and scripts for the caller's
        // launcher are there.
        let outermost = if own.is_some() { 0o700 } else { 0o755 };
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(outermost)).expect("a mode");
        for (name, mode) in [
            ("etc", 0o755),
            ("log", 0o755),
            ("home", 0o755),
            ("bin", 0o755),
            ("launch", 0o711),
            ("calls", 0o1777),
        ] {
            let path = directory.path().join(name);
            fs::create_dir(&path).expect("a directory");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let path = match own {
            Some(_) => variable("PATH"),
            None => "/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        };
        let environment = vec![("PATH".to_owned(), path), ("LC_ALL".to_owned(), "C.UTF-8".to_owned())];
        Bed {
            own,
            launcher: None,
            tags: Mutex::default(),
            not_cleaned: Mutex::default(),
            tree: None,
            mounts: Vec::new(),
            host: None,
            environment,
            directory,
        }
    }

    /// Whether it has accounts of its own.
    pub(super) fn is_private(&self) -> bool {
        self.own.is_none()
    }

    /// A path of this bed.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The accounts' names.
    pub(super) fn users() -> [&'static str; 3] {
        USERS.map(|(name, _)| name)
    }

    /// One of the accounts. In a bed without its own, all of them are the caller.
    ///
    /// # Panics
    /// When there is none of this name.
    #[track_caller]
    pub(super) fn person(&self, name: &str) -> Person {
        match &self.own {
            Some(user) => Person {
                name: user.name.clone(),
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
                home: self.path("home/own"),
            },
            None => {
                let uid = Self::uid(name);
                Person { name: name.to_owned(), uid, gid: uid, home: self.path("home").join(name) }
            }
        }
    }

    #[track_caller]
    pub(super) fn uid(name: &str) -> u32 {
        USERS.iter().find(|(known, _)| *known == name).expect("an account of this bed").1
    }

    /// A shell command in the bed, as the administrator.
    pub(super) fn spec(&self, command: &str) -> Spec {
        let accounts = ["passwd", "group"].map(|file| Mount::Bind {
            source: self.path("etc").join(file),
            target: Path::new("/etc").join(file),
        });
        let trees = self.tree.iter().flat_map(|tree| {
            ["usr", "etc"]
                .map(|part| Mount::ReadOnly { source: tree.join(part), target: Path::new("/").join(part) })
        });
        let mounts = trees.chain(accounts).chain(self.mounts.clone());
        let environment = self.environment.iter().map(|(name, value)| (name.into(), value.into()));
        let shell = ["/bin/sh", "-c", command].map(str::to_owned);
        let host = self.host.map(|pid| {
            [
                "/usr/bin/nsenter".to_owned(),
                format!("--uts=/proc/{pid}/ns/uts"),
                format!("--net=/proc/{pid}/ns/net"),
            ]
        });
        let mut words = host.into_iter().flatten().chain(shell).map(OsString::from);
        Spec {
            mounts: self.is_private().then(|| mounts.collect()),
            ids: None,
            inside: None,
            no_new_privileges: false,
            program: words.next().expect("a program"),
            name: None,
            arguments: words.collect(),
            environment: environment.collect(),
            directory: "/".into(),
        }
    }

    /// The same for one of the accounts, as a command for [`Bed::admin`]. It must have no `'` in it.
    pub fn as_user(&self, user: &str, command: &str) -> String {
        if !self.is_private() {
            return command.to_owned();
        }
        let Person { uid, gid, .. } = self.person(user);
        format!("exec setpriv --reuid={uid} --regid={gid} --clear-groups sh -c '{command}'")
    }

    /// The output of a shell command, or how it failed.
    pub(super) fn asked(&self, command: &str) -> Result<String, String> {
        let mut spec = self.spec(command);
        if let Some(user) = &self.own {
            let home = user.dir.clone().into_os_string();
            spec.environment.extend([
                ("HOME".into(), home),
                ("USER".into(), user.name.clone().into()),
                ("LOGNAME".into(), user.name.clone().into()),
            ]);
        }
        let finished = process::run(&spec);
        match finished.succeeded() {
            true => Ok(finished.stdout),
            false => Err(format!(
                "`{command}` failed ({:?}): {}{}",
                finished.exit, finished.stdout, finished.stderr
            )),
        }
    }

    /// The output of a shell command; empty if it fails.
    pub fn admin(&self, command: &str) -> String {
        let finished = process::run(&self.spec(command));
        if finished.succeeded() { finished.stdout } else { String::new() }
    }

    /// Waits for a condition, polling a few times a second.
    ///
    /// # Panics
    /// When it has not come in time.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut come: impl FnMut() -> bool) {
        let end = Instant::now() + patience();
        while !come() {
            stop_if_interrupted();
            assert!(Instant::now() < end, "waited in vain for {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.path("log")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(20)..].join("\n");
            write!(text, "== {}\n{tail}\n", entry.path().display()).expect("text");
        }
        text
    }

    /// Notes the names of the jobs that stages below this directory submitted, before it goes.
    pub(super) fn note_tags(&self, batch: &Path) {
        for stage in fs::read_dir(batch).into_iter().flatten().flatten() {
            let intent = fs::read(stage.path().join("intent")).unwrap_or_default();
            let intent: serde_json::Value = serde_json::from_slice(&intent).unwrap_or_default();
            if let Some(tag) = intent["tag"].as_str() {
                self.tags.lock().unwrap_or_else(PoisonError::into_inner).push(tag.to_owned());
            }
        }
    }

    /// The names that were noted.
    pub(super) fn tags(&self) -> Vec<String> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a job's clean-up failed.
    pub(super) fn note_not_cleaned(&self, what: String) {
        self.not_cleaned.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// The clean-ups that failed.
    pub(super) fn not_cleaned(&self) -> Vec<String> {
        self.not_cleaned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the commands' wrappers record what the launchers of a CI job ran.
    pub(super) fn calls(&self, job: u64) -> PathBuf {
        self.path("calls").join(job.to_string())
    }

    /// Unique across beds, like the id of a CI job: launchers end the processes that carry their
    /// job's id.
    pub(super) fn next_job(&self) -> u64 {
        static JOBS: AtomicU64 = AtomicU64::new(1);
        u64::from(std::process::id()) * 10_000 + JOBS.fetch_add(1, Ordering::Relaxed)
    }

    /// Its processes of this name (proc_pid_comm(5)).
    pub(super) fn named(&self, name: &str) -> Vec<Pid> {
        let mut all = self.processes();
        all.retain(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        });
        all
    }

    /// Everything that lives in a mount namespace of this bed.
    fn processes(&self) -> Vec<Pid> {
        let mark = self.path("etc/passwd").display().to_string();
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |number: &i32| {
            fs::read_to_string(format!("/proc/{number}/mountinfo")).is_ok_and(|mounts| mounts.contains(&mark))
        };
        numbers.filter(ours).map(Pid::from_raw).collect()
    }

    /// Ends it all, while `reap` takes what the caller started itself.
    pub(super) fn end(&self, mut reap: impl FnMut()) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.is_private() && Instant::now() < end {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            for process in processes {
                // ESRCH: it ended meanwhile.
                let _ = kill(process, Signal::SIGKILL);
            }
            reap();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
