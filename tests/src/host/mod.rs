//! A host with systemd: a booted container of a minimal Debian with the project's RPM installed, real accounts, journald,
//! rsyslog, D-Bus, logind and PAM, and a runner's service.
//!
//! A [`Host`] is a [`World`] whose programs run in the container: those of the runner's account as children of its service
//! (`nbt-runner.service`, see [`service`]), all others by nsenter(1). So every job that runs in a `World` runs here as
//! well: `host.world().job().script("id -un").run()`.
//!
//! Limitations: its kernel, network, clock and boot id are the machine's, and its cgroups are v1,
//! where a service's controllers cannot be delegated.

mod container;
pub mod emulated;
pub mod service;
mod tree;
pub mod vm;

use crate::tree::must;
use crate::world::enter::{Ids, Spec};
use crate::world::{Account, Finished, World};
use container::Container;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The unit that runs the double of gitlab-runner.
pub const RUNNER_UNIT: &str = "nbt-runner.service";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A systemd host. Everything in it ends and is removed when it is dropped.
///
/// It is bound to the thread that booted it, whose end ends the container even when nothing is dropped.
#[derive(Debug)]
pub struct Host {
    // First, so that the container ends before its files are removed.
    container: Mutex<Option<Container>>,
    world: World,
    name: String,
    boots_machines: bool,
}

/// Whether this test can boot a host: as [`require_root`](crate::require_root), for tests that need a [`Host`].
///
/// If the machine has no v1 hierarchies of cgroups that it may write to, the test is on the list of
/// skipped tests: no setup can provide them.
#[must_use]
#[track_caller]
pub fn require_host() -> bool {
    if !crate::require_root() {
        return false;
    }
    let writable = nix::unistd::access("/sys/fs/cgroup/systemd", nix::unistd::AccessFlags::W_OK);
    if let Err(error) = writable {
        nunbird_skip::skip!(
            "a booted container needs /sys/fs/cgroup/systemd of this machine, writable: {error}"
        );
    }
    true
}

/// A process of the host, as the machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number on the machine, not in the container.
    pub pid: i32,
    /// Its real user id.
    pub uid: u32,
    /// State (proc_pid_stat(5)): `R`, `S`, `T`, `Z`, …
    pub state: char,
    /// Its arguments, joined by spaces.
    pub command: String,
}

impl Host {
    /// Makes and boots a host, with the package, the accounts of a `World`, and the runner's service started.
    ///
    /// # Panics
    /// Without root, systemd-nspawn, mmdebstrap or what [`require_host`] asks for.
    pub fn boot() -> Self {
        Self::boot_as(false)
    }

    /// As [`Host::boot`], with all that a real host's root may: to boot machines in it by systemd-nspawn(1).
    ///
    /// # Panics
    /// As [`Host::boot`].
    pub fn boot_for_machines() -> Self {
        Self::boot_as(true)
    }

    fn boot_as(boots_machines: bool) -> Self {
        let world = World::in_tree(tree::make, tree::install_package);
        let name = format!("nbt_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::SeqCst));
        let host = Host { container: Mutex::default(), world, name, boots_machines };
        write_runner_unit(&host.world);
        host.start();
        host
    }

    /// The host's accounts, configuration, GitLab server and jobs.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Boots the host again after [`Host::power_off`] or [`Host::cut_power`].
    pub fn start(&self) {
        let tree = self.world.host_path("/");
        let container =
            Container::boot(&self.name, &tree, &self.world.runner_directory(), self.boots_machines);
        self.world.set_container(Some(container.pid1()));
        *self.container() = Some(container);
    }

    /// Shuts the host down in order.
    pub fn power_off(&self) {
        self.world.set_container(None);
        let container = self.container().take();
        container.expect("a running host").power_off();
    }

    /// Ends the host like a power cut: every process by SIGKILL.
    pub fn cut_power(&self) {
        self.world.set_container(None);
        let container = self.container().take();
        container.expect("a running host").cut_power();
    }

    fn container(&self) -> MutexGuard<'_, Option<Container>> {
        self.container.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that is the host's systemd, as the machine counts.
    ///
    /// # Panics
    /// When the host does not run.
    pub fn pid1(&self) -> i32 {
        self.container().as_ref().expect("a running host").pid1()
    }

    /// Runs a shell command as the host's root.
    pub fn root(&self, command: &str) -> Finished {
        self.world.shell("root", &format!("PATH=/usr/sbin:/sbin:$PATH; {command}"))
    }

    /// Puts an RPM of the programs under test with this release into `/root` of the host, where the installed one has release 1; returns
    /// its path there.
    pub fn package(&self, release: u32) -> String {
        let path = format!("/root/nunbird-{release}.rpm");
        let contents = if release == 1 { tree::package().to_vec() } else { tree::build(release) };
        fs::write(self.world.host_path(&path), contents).expect("a package");
        path
    }

    /// Processes of the host that belong to an account, zombies included.
    pub fn processes_of(&self, account: &str) -> Vec<Process> {
        let uid = self.world.account(account).uid;
        self.processes().into_iter().filter(|process| process.uid == uid).collect()
    }

    /// All processes of the host.
    pub fn processes(&self) -> Vec<Process> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.pid1()).expect("a running host");
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| namespace(*pid).as_ref() == Some(&own)).filter_map(process).collect()
    }

    /// Waits until a condition holds; says whether it did within ten seconds.
    pub fn wait_until(&self, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(10) {
            if condition(self) {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        *self.container() = None;
        // Jobs leave directories without permission and files of every kind; rm(1) as root takes them all.
        must(Command::new("rm").arg("-rf").arg(self.world.host_path("/")));
    }
}

/// The cached tree that each host is a copy of, for scripts that boot their own (`packaging/booted/host.sh`).
///
/// # Panics
/// Without root, mmdebstrap or a mirror.
pub fn debian_tree() -> PathBuf {
    tree::debian()
}

/// A tree of a machine in which jobs run containers.
///
/// # Panics
/// As [`debian_tree`].
pub fn nested_tree() -> PathBuf {
    tree::nested()
}

/// Writes and enables the runner's unit.
fn write_runner_unit(world: &World) {
    let unit = format!(
        "[Unit]\nDescription=The tests' double of gitlab-runner\n\n[Service]\nType=notify\nUser={}\n\
         ExecStart=/usr/local/bin/nbt-runner {}\nDelegate=yes\nTimeoutStopSec=20\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        world.runner().name,
        world.service_socket().display(),
    );
    let units = world.host_path("/etc/systemd/system");
    tree::write(&units.join(RUNNER_UNIT), &unit, 0o644);
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).expect("a directory");
    std::os::unix::fs::symlink(format!("../{RUNNER_UNIT}"), wants.join(RUNNER_UNIT))
        .expect("an enabled unit");
}

fn process(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
    if command.is_empty() {
        command = format!("[{}]", field("Name:")?);
    }
    Some(Process {
        pid,
        uid: field("Uid:")?.split_whitespace().next()?.parse().ok()?,
        state: field("State:")?.chars().next()?,
        command,
    })
}

/// The command that runs a program in the namespaces of a host's systemd.
pub(crate) fn into(pid1: i32, spec: &Spec) -> Command {
    let root = Ids { uid: 0, gid: 0, groups: Vec::new() };
    let Ids { uid, gid, groups } = spec.ids.as_ref().unwrap_or(&root);
    let mut command = container::enter(pid1, *uid, *gid, groups);
    // Not nsenter's own: PATH finds it on the machine.
    command.arg("env").arg("-i");
    for (name, value) in &spec.environment {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        command.arg(pair);
    }
    command.arg(&spec.program).args(&spec.arguments);
    command
}

/// Adds accounts to the tree's own: `passwd`, `group`, `shadow` and homes. Those that Debian has stay.
pub(crate) fn add_accounts(tree: &Path, accounts: &[Account], groups: &[(&str, u32)]) {
    let etc = tree.join("etc");
    let read = |file: &str| fs::read_to_string(etc.join(file)).expect("a file of the user database");
    let known = |text: &str, name: &str| text.lines().any(|line| line.split(':').next() == Some(name));
    let (mut passwd, mut group, mut shadow) = (read("passwd"), read("group"), read("shadow"));
    for (name, gid) in groups {
        group += &format!("{name}:x:{gid}:{}\n", members(accounts, *gid));
    }
    for Account { name, uid, gid, home, shell, has_home, .. } in accounts {
        if known(&passwd, name) {
            continue;
        }
        passwd += &format!("{name}:x:{uid}:{gid}::{home}:{shell}\n");
        shadow += &format!("{name}:*:20000:0:99999:7:::\n");
        let mut ids = group.lines().filter_map(|line| line.split(':').nth(2)?.parse::<u32>().ok());
        if !ids.any(|id| id == *gid) {
            group += &format!("{name}:x:{gid}:\n");
        }
        let place: PathBuf = tree.join(home.trim_start_matches('/'));
        if *has_home && !place.exists() {
            fs::create_dir(&place).expect("a home directory");
            fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).expect("a mode");
            chown(&place, Some(*uid), Some(*gid)).expect("an owner");
        }
    }
    for (file, text) in [("passwd", passwd), ("group", group), ("shadow", shadow)] {
        fs::write(etc.join(file), text).expect("a file of the user database");
    }
}

fn members(accounts: &[Account], gid: u32) -> String {
    let members: Vec<&str> =
        accounts.iter().filter(|a| a.groups.contains(&gid)).map(|account| account.name.as_str()).collect();
    members.join(",")
}
