//! The booted container: systemd-nspawn(1) with its own cgroups in each v1 hierarchy, so that hosts
//! of tests that run at the same time do not share one, and systemd in it may set limits.
//!
//! The container shares the machine's network, because the double of the GitLab server listens there, and its
//! kernel: clock and boot id are the machine's.

use crate::tree::must;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Hierarchies of the machine in which a container gets a cgroup. `cpuset` would need its sets
/// written first.
const HIERARCHIES: [&str; 9] =
    ["cpu", "cpuacct", "memory", "pids", "blkio", "freezer", "devices", "systemd", "unified"];
const CGROUPS: &str = "/sys/fs/cgroup";

/// How long a boot or a shutdown may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// systemd as process 1 of a container.
#[derive(Debug)]
pub(super) struct Container {
    name: String,
    nspawn: Child,
    pid1: i32,
}

impl Container {
    /// Boots a tree, with `shared` visible at its own path, and waits until systemd has started everything.
    pub(super) fn boot(name: &str, tree: &Path, shared: &Path, boots_machines: bool) -> Self {
        for group in groups(name) {
            fs::create_dir_all(&group).unwrap_or_else(|e| panic!("{}: {e}", group.display()));
        }
        let console = tree.with_extension("console");
        let log = fs::File::options().create(true).append(true).open(&console).expect("a console log");
        // The shell enters the groups and becomes systemd-nspawn, which dies with the thread of the test.
        let enter: String =
            groups(name).map(|group| format!("echo $$ >{}/cgroup.procs && ", group.display())).collect();
        let (lower, upper) = super::tree::usr(tree);
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("{enter}exec setpriv --pdeathsig KILL systemd-nspawn \"$@\""))
            .arg("sh")
            .args(["--quiet", "--register=no", "--keep-unit", "--link-journal=no", "--console=pipe"])
            // Refused in containers otherwise, and there on a real host.
            .arg("--system-call-filter=@keyring")
            // A name of a host has no underscore.
            .arg(format!("--machine={}", name.replace('_', "-")))
            .arg(format!("--directory={}", tree.display()))
            .arg(format!("--overlay={}:{}:/usr", lower.display(), upper.display()))
            .arg(format!("--bind={}", shared.display()))
            .args(boots_machines.then_some("--capability=all"))
            .arg("/sbin/nbt-init")
            .envs(boots_machines.then_some(("SYSTEMD_SECCOMP", "0")))
            .env("LC_ALL", "C.UTF-8")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        let nspawn = command.spawn().expect("a shell");
        let mut container = Container { name: name.to_owned(), nspawn, pid1: 0 };
        container.wait_for_systemd(&console);
        container
    }

    /// The process that is systemd, as the machine counts.
    pub(super) fn pid1(&self) -> i32 {
        self.pid1
    }

    fn wait_for_systemd(&mut self, console: &Path) {
        let began = Instant::now();
        loop {
            if let Some(pid1) = child_named(self.nspawn.id(), "systemd") {
                self.pid1 = pid1;
                let state =
                    enter(pid1, 0, 0, &[]).args(["systemctl", "is-system-running", "--wait"]).output();
                let state = state.expect("nsenter").stdout;
                if matches!(state.trim_ascii(), b"running" | b"degraded") {
                    return;
                }
            }
            let console = || fs::read_to_string(console).unwrap_or_default();
            let ended = self.nspawn.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the container did not boot: {ended:?}\n{}", console());
            assert!(began.elapsed() < PATIENCE, "the container did not boot in {PATIENCE:?}\n{}", console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Shuts systemd down in order.
    pub(super) fn power_off(mut self) {
        must(enter(self.pid1, 0, 0, &[]).args(["systemctl", "poweroff", "--no-wall"]));
        let began = Instant::now();
        while self.nspawn.try_wait().expect("a child can be waited for").is_none() {
            assert!(began.elapsed() < PATIENCE, "the container did not shut down");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Drop removes the groups.
    }

    /// Ends everything at once, as a power cut does.
    pub(super) fn cut_power(self) {
        drop(self);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.nspawn.try_wait().is_ok_and(|ended| ended.is_none()) {
            // The end of its process 1 ends a pid namespace; the child is ours and not reaped, so
            // the pids are not reused.
            if self.pid1 > 0 && child_named(self.nspawn.id(), "systemd") == Some(self.pid1) {
                let _gone =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid1), nix::sys::signal::SIGKILL);
            }
            let began = Instant::now();
            while self.nspawn.try_wait().is_ok_and(|e| e.is_none())
                && began.elapsed() < Duration::from_secs(10)
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _gone = self.nspawn.kill();
            let _reaped = self.nspawn.wait();
        }
        for group in groups(&self.name) {
            remove_groups(&group);
        }
    }
}

/// A command in the container's namespaces with these ids; its words are added by the caller.
pub(super) fn enter(pid1: i32, uid: u32, gid: u32, groups: &[u32]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &pid1.to_string(), "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--wdns=/"])
        .args(["--", "setpriv", "--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
    if groups.is_empty() {
        command.arg("--clear-groups");
    } else {
        let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        command.args(["--groups", &groups.join(",")]);
    }
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.arg("--").env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

fn groups(name: &str) -> impl Iterator<Item = PathBuf> {
    let exists = |hierarchy: &&str| Path::new(CGROUPS).join(hierarchy).is_dir();
    HIERARCHIES.into_iter().filter(exists).map(move |hierarchy| Path::new(CGROUPS).join(hierarchy).join(name))
}

/// The child of a process that has this name.
fn child_named(parent: u32, name: &str) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children
        .split_whitespace()
        .find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name))
        .and_then(|pid| pid.parse().ok())
}

/// Removes a cgroup and those below it, waiting for the kernel to release processes that have
/// ended.
fn remove_groups(group: &Path) {
    for below in fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&below.path());
        }
    }
    let began = Instant::now();
    while fs::remove_dir(group).is_err() && group.exists() && began.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
}
