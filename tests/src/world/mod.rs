//! A private system: accounts, configuration and an installation of Nunbird that only its own
//! programs see.
//!
//! Everything is below one directory `/var/tmp/nbt_…`, which is removed when the [`World`] is
//! dropped. Each program of the private system starts in a fresh mount namespace where parts of
//! that directory are mounted over the real paths (see [`World::host_path`]); nothing is ever
//! mounted for the rest of the host.
//!
//! | in the machine | what it shows |
//! |---|---|
//! | `/etc`, `/usr/local/bin`, `/var/lib` | the host's, with the machine's files on top, read-only |
//! | `/opt`, `/home`, `/tmp`, `/var/log`, `/var/lib/nunbird` | the machine's own, writable |

mod accounts;
mod configuration;
pub mod enter;
mod install;
mod keys;
pub(crate) mod process;
mod tree;

pub use accounts::{Account, RUNNER_GID};
pub use configuration::{AUDIENCE, Paths};
pub use process::{Exit, Finished, as_helper, copy_executable, under_test, write_executable};

use crate::issuer::Issuer;
use crate::runner::Job;
use enter::{Ids, Mount, Spec};
use nunbird_messages::Record;
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;

/// The source of the privilege of `nunbird-auth`, which also decides which account runs
/// gitlab-runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// gitlab-runner runs as root, `nunbird-auth` is mode 0755.
    RootRunner,
    /// gitlab-runner runs as `nbt_runner`, `nunbird-auth` is setuid-root, mode 4750 `root:gitlab-runner`.
    Setuid,
    /// gitlab-runner runs as `nbt_runner`, `nunbird-auth` is mode 0750 with `cap_setuid,cap_setgid=p`.
    FileCaps,
    /// gitlab-runner runs as `alice`, `nunbird-auth` is mode 0755, `downscope = "none"`.
    None,
}

impl Privilege {
    /// All four, for tests of what must be the same in each.
    pub const ALL: [Privilege; 4] =
        [Privilege::RootRunner, Privilege::Setuid, Privilege::FileCaps, Privilege::None];

    /// Those in which `nunbird-auth` changes to another user.
    pub const PRIVILEGED: [Privilege; 3] = [Privilege::RootRunner, Privilege::Setuid, Privilege::FileCaps];

    /// Those in which an ordinary account calls it, and its file has the privilege.
    pub const OF_FILE: [Privilege; 2] = [Privilege::Setuid, Privilege::FileCaps];

    /// The account that runs gitlab-runner.
    pub fn runner(self) -> &'static str {
        match self {
            Privilege::RootRunner => "root",
            Privilege::Setuid | Privilege::FileCaps => "nbt_runner",
            Privilege::None => "alice",
        }
    }

    /// The name that the audit file has for it.
    pub fn audit_name(self) -> &'static str {
        match self {
            Privilege::RootRunner => "root",
            Privilege::Setuid => "setuid",
            Privilege::FileCaps => "file-capabilities",
            Privilege::None => "none",
        }
    }
}

/// The machine, with a GitLab server of its own.
#[derive(Debug)]
pub struct World {
    privilege: Privilege,
    issuer: Issuer,
    paths: Paths,
    accounts: Vec<Account>,
    /// None where the process is not root: then there is no namespace and the host is the machine.
    mounts: Option<Vec<Mount>>,
    /// The tree of a host that boots, and the process that is its systemd while it runs.
    tree: Option<PathBuf>,
    pid1: Mutex<Option<i32>>,
    /// Whether the runner is a service elsewhere.
    served: bool,
    repositories: Mutex<HashMap<String, String>>,
    // Last, so that it is removed after everything that uses it.
    directory: TempDir,
}

impl Drop for World {
    /// A failed test leaves jobs without their `cleanup`, and the keeper of a PAM session would
    /// wait for it until the job's time is up.
    fn drop(&mut self) {
        if self.is_host() {
            return;
        }
        for entry in fs::read_dir(self.host_path("/var/lib/nunbird/jobs")).into_iter().flatten().flatten() {
            let keeper = Some(entry.path()).filter(|path| path.extension().is_some_and(|e| e == "session"));
            if let Some(mut keeper) = keeper.and_then(|path| UnixStream::connect(path).ok()) {
                let _gone = keeper.write_all(b"c");
            }
        }
    }
}

impl World {
    /// A machine with the standard accounts (`alice`, `bob`, `ada` and those that must never run a job: see
    /// `tests/src/world/accounts.rs`), the programs installed and the default configuration.
    ///
    /// The keys directory is empty: the first `config` has them fetched. [`World::refresh_keys`] does it before.
    ///
    /// # Panics
    /// Without root, or without the programs under test.
    pub fn new(privilege: Privilege) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "World::new needs root; World::of_this_user does not");
        let directory = new_directory();
        let mounts = install::lay_out(directory.path());
        let mut world = World {
            privilege,
            issuer: Issuer::start(),
            paths: Paths::packaged(),
            accounts: accounts::standard(),
            mounts: Some(mounts),
            tree: None,
            pid1: Mutex::default(),
            served: false,
            repositories: Mutex::default(),
            directory,
        };
        world.write_accounts();
        install::programs(&world);
        let downscope = if privilege == Privilege::None { "none" } else { "setuid" };
        world.write_configuration(downscope, None, None);
        world
    }

    /// A machine that is the host itself, for the user that runs this process, without privilege: everything
    /// of Nunbird's below one directory, `downscope = "none"`. What it leaves behind is an empty
    /// `~/.local/state/nunbird/jobs`.
    ///
    /// # Panics
    /// Without an entry of the user in the user database, or without the programs under test.
    pub fn of_this_user() -> Self {
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid)
            .ok()
            .flatten()
            .expect("an entry of this user in the user database");
        let directory = new_directory();
        let account = Account {
            gid: user.gid.as_raw(),
            home: user.dir.display().to_string(),
            shell: user.shell.display().to_string(),
            ..Account::new(&user.name, uid.as_raw())
        };
        let world = World {
            privilege: Privilege::None,
            issuer: Issuer::start(),
            paths: Paths::below(directory.path()),
            accounts: vec![account],
            mounts: None,
            tree: None,
            pid1: Mutex::default(),
            served: false,
            repositories: Mutex::default(),
            directory,
        };
        install::programs(&world);
        let root = world.root().display();
        let (data, path) =
            (format!("{root}/data-$USER"), format!("{root}/helper:/usr/local/bin:/usr/bin:/bin"));
        world.write_configuration("none", Some(data), Some(path));
        world
    }

    /// How the programs are installed.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// The machine's GitLab server.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The machine's GitLab server, to take it down.
    pub fn issuer_mut(&mut self) -> &mut Issuer {
        &mut self.issuer
    }

    /// Where Nunbird's files are, as the machine's programs see them.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The directory that holds the machine.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// An account.
    ///
    /// # Panics
    /// When there is none of this name.
    #[track_caller]
    pub fn account(&self, name: &str) -> &Account {
        self.accounts.iter().find(|account| account.name == name).expect("an account of this machine")
    }

    /// The account that runs gitlab-runner.
    pub fn runner(&self) -> &Account {
        if self.is_host() { &self.accounts[0] } else { self.account(self.privilege.runner()) }
    }

    /// Adds an account, or changes the one of this name.
    pub fn add_account(&mut self, account: Account) {
        self.accounts.retain(|known| known.name != account.name);
        self.accounts.push(account);
        self.write_accounts();
    }

    /// Takes an account out of the user database; its home stays.
    pub fn remove_account(&mut self, name: &str) {
        self.accounts.retain(|known| known.name != name);
        self.write_accounts();
    }

    /// A job of this machine's GitLab server.
    pub fn job(&self) -> Job<'_> {
        Job::new(self)
    }

    /// The GitLab login of a job that says nothing else: `alice`, or this process's user where the host is the machine.
    pub(crate) fn default_user(&self) -> &str {
        if self.is_host() { &self.accounts[0].name } else { "alice" }
    }

    /// The configuration's text.
    pub fn configuration(&self) -> String {
        fs::read_to_string(self.host_path(&self.paths.configuration)).expect("a configuration")
    }

    /// Replaces the configuration's text; owner and mode stay.
    pub fn configure(&self, text: &str) {
        fs::write(self.host_path(&self.paths.configuration), text).expect("a configuration");
    }

    /// Replaces a piece of the configuration's text.
    ///
    /// # Panics
    /// When the piece is not in it.
    #[track_caller]
    pub fn reconfigure(&self, old: &str, new: &str) {
        let text = self.configuration();
        assert!(text.contains(old), "not in the configuration: {old}\n{text}");
        self.configure(&text.replace(old, new));
    }

    /// Where the host has a path of the machine: to look at files and to change them behind Nunbird's back.
    ///
    /// For a path that the machine shares with the host read-only, such as `/etc/nunbird/x`, this is the
    /// layer on top, so a file written there appears in the machine.
    pub fn host_path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        if self.is_host() || path.starts_with(self.root()) {
            return path.to_path_buf();
        }
        if let Some(tree) = &self.tree {
            return tree.join(path.strip_prefix("/").unwrap_or(path));
        }
        install::LAYOUT
            .iter()
            .find_map(|(target, folder)| Some(self.root().join(folder).join(path.strip_prefix(target).ok()?)))
            .unwrap_or_else(|| path.to_path_buf())
    }

    /// Writes a file of the machine, making directories (root's, mode 0755) on the way.
    pub fn write_file(&self, path: &str, contents: impl AsRef<[u8]>, owner: &str, mode: u32) {
        let file = self.host_path(path);
        fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
        match mode & 0o111 {
            0 => fs::write(&file, contents).expect("a file"),
            _ => process::write_executable(&file, contents.as_ref()),
        }
        let Account { uid, gid, .. } = self.account(owner);
        chown(&file, Some(*uid), Some(*gid)).expect("an owner");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    /// What to start a program of the machine with, as an account: change it, then [`World::run`] it.
    pub fn program<S: AsRef<OsStr>>(
        &self,
        account: &str,
        program: impl AsRef<OsStr>,
        arguments: &[S],
    ) -> Spec {
        let account = self.account(account);
        let pairs = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", account.home.as_str()),
            ("USER", account.name.as_str()),
            ("LANG", "C.UTF-8"),
        ];
        Spec {
            mounts: self.mounts.clone(),
            inside: self.inside(account),
            ids: (!self.is_host()).then(|| account.ids()),
            no_new_privileges: false,
            program: program.as_ref().to_owned(),
            name: None,
            arguments: arguments.iter().map(|argument| argument.as_ref().to_owned()).collect(),
            environment: pairs.map(|(name, value)| (OsString::from(name), OsString::from(value))).to_vec(),
            directory: "/".into(),
        }
    }

    /// Runs a program of the machine to its end.
    pub fn run(&self, spec: &Spec) -> Finished {
        process::run(spec)
    }

    /// Runs a shell command in the machine, as an account.
    pub fn shell(&self, account: &str, command: &str) -> Finished {
        self.run(&self.program(account, "/bin/sh", &["-c", command]))
    }

    /// The audit file's lines.
    ///
    /// # Panics
    /// When one is not JSON.
    pub fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.host_path(&self.paths.audit)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line in the audit file")).collect()
    }

    /// Lets a hostile program decide from now on (`nbt-hostile-decider`).
    pub fn take_over_decider(&self) {
        install::hostile(self, "nunbird-decide", "nbt-hostile-decider");
    }

    /// Puts the genuine one back.
    pub fn give_back_decider(&self) {
        install::genuine(self, "nunbird-decide");
    }

    /// Lets a hostile program make control groups from now on (`nbt-hostile-limits`).
    pub fn take_over_limits(&self) {
        install::hostile(self, "nunbird-limits", "nbt-hostile-limits");
    }

    /// Puts the genuine one back.
    pub fn give_back_limits(&self) {
        install::genuine(self, "nunbird-limits");
    }

    /// Lets a hostile program start and end machines from now on (`nbt-hostile-machine`).
    pub fn take_over_machine(&self) {
        install::hostile(self, "nunbird-machine", "nbt-hostile-machine");
    }

    /// Replaces `nunbird-validate` by one that was taken over and reports what `/etc/nunbird/attack` says (`src/bin/nbt-hostile-validate.rs`).
    pub fn take_over_validate(&self) {
        install::hostile(self, "nunbird-validate", "nbt-hostile-validate");
    }

    /// The job records that are kept now, as the host has them (`downscope = "none"` keeps them in the user's home).
    pub fn records(&self) -> Vec<PathBuf> {
        let jobs = match self.privilege {
            Privilege::None => Path::new(&self.runner().home).join(".local/state/nunbird/jobs"),
            _ => "/var/lib/nunbird/jobs".into(),
        };
        let entries = fs::read_dir(self.host_path(jobs)).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with(Record::SUFFIX))
            .collect()
    }

    /// The repository of a project: made at its first use. Returns the commit on `main`.
    pub(crate) fn repository(&self, project: &str) -> String {
        let mut known = self.repositories.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let files = [("README.md", "a project of the test bed\n"), ("data/lattice.txt", "4 4 4 8\n")];
        let add = || self.issuer.add_repository(project, &files);
        known.entry(project.to_owned()).or_insert_with(add).clone()
    }

    /// The runner's parent of the jobs' private directories: the same path in the machine and on the host.
    pub fn runner_directory(&self) -> PathBuf {
        self.root().join("runner")
    }

    /// Ids to give to files of the runner; none where this process is the runner.
    pub(crate) fn runner_ids(&self) -> Option<Ids> {
        (!self.is_host()).then(|| self.runner().ids())
    }

    /// Whether the host itself is the machine.
    pub(crate) fn is_host(&self) -> bool {
        self.mounts.is_none()
    }

    fn write_accounts(&mut self) {
        accounts::write(&self.accounts, &self.root().join("etc"), &self.root().join("home"));
    }

    fn write_configuration(&self, downscope: &str, data_dir: Option<String>, job_path: Option<String>) {
        let server_url = self.issuer.url();
        let settings = configuration::Settings {
            paths: &self.paths,
            downscope,
            server_url: &server_url,
            data_dir,
            job_path,
        };
        self.configure(&configuration::text(&settings));
        fs::write(self.host_path(&self.paths.ca_file), self.issuer.ca_pem())
            .expect("the authority's certificate");
    }
}

fn new_directory() -> TempDir {
    let directory =
        tempfile::Builder::new().prefix("nbt_").tempdir_in("/var/tmp").expect("a directory in /var/tmp");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    directory
}
