//! A booted Debian with systemd, version 2 of control groups and a Podman that reads quadlet units (4.7 and later, which is Debian 13's), and a
//! person in it who has their own systemd without logging in.
//!
//! It is a container of systemd-nspawn(1) with a copy of the tree but for `/usr`, which nothing writes to. It has the version 2 hierarchy alone, also
//! on a machine whose controllers are those of version 1: it has no controllers then, so that nothing in it has limits.

use crate::scheduler::release::Release;
use crate::tree::must;
use crate::world::process::Finished;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PACKAGES: &str = "bash,ca-certificates,catatonit,crun,dbus,dbus-user-session,fuse-overlayfs,iproute2,libpam-systemd,netavark,passt,podman,slirp4netns,\
    systemd,systemd-sysv,uidmap";
/// What is of no use without a network of its own and a terminal.
const MASKED: [&str; 7] = [
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-modules-load.service",
    "console-getty.service",
    "getty.target",
];
/// The person: name, uid, which is also the gid.
const PERSON: (&str, u32) = ("nbt_dee", 41204);
/// There is no controller for the number of processes, and `/proc/sys` cannot be written in a container of systemd-nspawn.
const ENGINE: &str = "[containers]\npids_limit = 0\ndefault_sysctls = []\n";
/// How long a boot may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A booted host. Everything in it ends and is removed when it is dropped, or when the thread that booted it ends.
#[derive(Debug)]
pub struct Booted {
    nspawn: Child,
    pid1: i32,
    group: PathBuf,
    directory: TempDir,
}

impl Booted {
    /// Boots one.
    ///
    /// # Panics
    /// Without root, systemd-nspawn, a hierarchy of version 2, or mmdebstrap and a mirror that serves the release.
    pub fn start() -> Self {
        let debian = Release::Trixie.tree("booted", PACKAGES).expect("a tree");
        let directory =
            tempfile::Builder::new().prefix("nbt_booted_").tempdir_in("/var/tmp").expect("a directory");
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).expect("a directory");
        for entry in fs::read_dir(&debian).expect("the tree").flatten() {
            if entry.file_name() != "usr" {
                must(Command::new("cp").arg("-a").arg(entry.path()).arg(&tree));
            }
        }
        // By this file systemd-nspawn knows the tree of a system, before it mounts anything.
        fs::create_dir_all(tree.join("usr/lib")).expect("a directory");
        fs::copy(debian.join("usr/lib/os-release"), tree.join("usr/lib/os-release")).expect("a file");
        furnish(&tree);
        for (name, numbers) in [("fuse", ["10", "229"]), ("tun", ["10", "200"])] {
            must(
                Command::new("mknod")
                    .args(["-m", "666"])
                    .arg(directory.path().join(name))
                    .arg("c")
                    .args(numbers),
            );
        }
        let name = directory.path().file_name().expect("a name").to_string_lossy().replace('_', "-");
        let unified = Path::new("/sys/fs/cgroup/unified");
        let root = if unified.is_dir() { unified } else { Path::new("/sys/fs/cgroup") };
        let group = root.join(&name);
        fs::create_dir(&group).expect("a control group");
        let console = File::create(directory.path().join("console")).expect("a file");
        let bind = |name: &str, to: &str| format!("--bind={}:{to}", directory.path().join(name).display());
        let script = format!(
            "echo $$ >{}/cgroup.procs && exec setpriv --pdeathsig KILL systemd-nspawn \"$@\"",
            group.display()
        );
        let nspawn = Command::new("/bin/sh")
            .args([
                "-c",
                &script,
                "sh",
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--link-journal=no",
                "--console=pipe",
            ])
            .args([
                "--capability=all".to_owned(),
                format!("--machine={name}"),
                format!("--directory={}", tree.display()),
            ])
            .arg(format!("--bind-ro={}:/usr", debian.join("usr").display()))
            .args([bind("fuse", "/dev/fuse"), bind("tun", "/dev/net/tun"), "/lib/systemd/systemd".to_owned()])
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .env("SYSTEMD_SECCOMP", "0")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a file"))
            .stderr(console)
            .spawn()
            .expect("a shell");
        let mut booted = Booted { nspawn, pid1: 0, group, directory };
        booted.wait();
        // Units of containers wait for it, and nothing else here asks for it.
        booted.root("systemctl start network-online.target").success();
        booted
    }

    fn wait(&mut self) {
        let began = Instant::now();
        while !self.is_up() {
            let console = || fs::read_to_string(self.directory.path().join("console")).unwrap_or_default();
            let ended = self.nspawn.try_wait().expect("a child can be waited for");
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "it did not boot: {ended:?}\n{}",
                console()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_up(&mut self) -> bool {
        let own = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let is_systemd = |pid: &&str| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "systemd\n")
        };
        let Some(pid1) = children.split_whitespace().find(is_systemd).and_then(|pid| pid.parse().ok()) else {
            return false;
        };
        self.pid1 = pid1;
        self.person("systemctl --user is-system-running --wait").stdout.starts_with("running")
    }

    /// The path on the machine of a file of this host outside of `/usr`.
    pub fn see(&self, path: &str) -> PathBuf {
        self.directory.path().join("tree").join(path.trim_start_matches('/'))
    }

    /// Runs a shell script as root.
    pub fn root(&self, script: &str) -> Finished {
        self.run(0, script, "")
    }

    /// Runs a shell script as the person, in their home directory.
    pub fn person(&self, script: &str) -> Finished {
        self.run(PERSON.1, script, "")
    }

    /// The same with an input.
    pub fn feed(&self, script: &str, input: &str) -> Finished {
        self.run(PERSON.1, script, input)
    }

    fn run(&self, id: u32, script: &str, input: &str) -> Finished {
        let home = if id == 0 { "/root".to_owned() } else { format!("/home/{}", PERSON.0) };
        let mut child = Command::new("nsenter")
            .args([
                "--target",
                &self.pid1.to_string(),
                "--mount",
                "--uts",
                "--ipc",
                "--pid",
                "--cgroup",
                "--wdns=/",
                "--",
            ])
            .args([
                "setpriv",
                &format!("--reuid={id}"),
                &format!("--regid={id}"),
                "--clear-groups",
                "env",
                "-i",
            ])
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", &format!("HOME={home}")])
            .args([&format!("XDG_RUNTIME_DIR=/run/user/{id}"), "sh", "-c", "cd && eval \"$1\"", "sh", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter starts");
        // A program that does not read it all is the test's affair.
        drop(child.stdin.take().expect("a pipe").write_all(input.as_bytes()));
        let Output { status, stdout, stderr } = child.wait_with_output().expect("a program ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished { exit: status.into(), stdout: text(&stdout), stderr: text(&stderr) }
    }
}

/// Accounts, masked units and the person's settings.
fn furnish(tree: &Path) {
    let (name, id) = PERSON;
    let add = |file: &str, line: String| {
        let mut file = File::options().append(true).create(true).open(tree.join(file)).expect("a file");
        writeln!(file, "{line}").expect("written");
    };
    add("etc/passwd", format!("{name}:x:{id}:{id}::/home/{name}:/bin/bash"));
    add("etc/group", format!("{name}:x:{id}:"));
    add("etc/shadow", format!("{name}:*:19000:0:99999:7:::"));
    for file in ["etc/subuid", "etc/subgid"] {
        add(file, format!("{name}:{}:65539", super::NESTING));
    }
    fs::write(tree.join("etc/machine-id"), "").expect("a file");
    for unit in MASKED {
        let place = tree.join("etc/systemd/system").join(unit);
        drop(fs::remove_file(&place));
        symlink("/dev/null", place).expect("a masked unit");
    }
    fs::create_dir_all(tree.join("var/lib/systemd/linger")).expect("a directory");
    fs::write(tree.join("var/lib/systemd/linger").join(name), "").expect("a file");
    let home = tree.join("home").join(name);
    let settings = home.join(".config/containers");
    fs::create_dir_all(&settings).expect("a directory");
    fs::write(settings.join("containers.conf"), ENGINE).expect("a file");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).expect("a mode");
    for path in [settings.as_path(), &home.join(".config"), &home] {
        chown(path, Some(id), Some(id)).expect("an owner");
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // The end of the first process ends a pid namespace; nsenter's commands are in it as well.
        let _ended = fs::write(self.group.join("cgroup.kill"), "1");
        let _gone = self.nspawn.kill();
        let _reaped = self.nspawn.wait();
        let began = Instant::now();
        while remove(&self.group).is_err() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Removes a control group and those below it.
fn remove(group: &Path) -> std::io::Result<()> {
    for below in fs::read_dir(group)?.flatten().filter(|entry| entry.path().is_dir()) {
        remove(&below.path())?;
    }
    fs::remove_dir(group)
}
