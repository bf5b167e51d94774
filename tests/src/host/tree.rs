//! The file tree of the host: a minimal Debian from the cache, with the project's RPM installed by rpm(8) and its scripts.
//!
//! A container's tree is a copy of all but `/usr`, which is 97 % of the bytes: there it has what the host changes, as the
//! upper layer of an overlay on the cached `/usr` ([`usr`]). A virtual machine's disk is made of a whole copy.

use crate::tree::{cached, must, own_suite};
use crate::world::process::{sibling, under_test};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the tree contains besides Debian's essential packages, one line of the file.
const PACKAGES: &str = include_str!("../../../packaging/booted/packages");

/// The tree that each host is a copy of.
pub(super) fn debian() -> PathBuf {
    cached("host", &own_suite(), PACKAGES.trim_end(), "")
}

/// What a tree needs for containers in a machine ([docs/machines.md](../../../docs/machines.md)), and what their test needs: a program without
/// libraries, of which an image can be made.
const NESTED: &str =
    "systemd,systemd-sysv,dbus,podman,crun,slirp4netns,uidmap,git,procps,python3,busybox-static";

/// A tree of a machine in which jobs run containers.
pub(super) fn nested() -> PathBuf {
    cached("nested", &own_suite(), NESTED, "")
}

/// Units that are useless in a container that shares the host's network and kernel.
const MASKED: [&str; 8] = [
    "systemd-journald-audit.socket",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-timesyncd.service",
    "systemd-resolved.service",
    "console-getty.service",
    "getty.target",
    "e2scrub_reap.service",
];

/// The first process of the container. systemd-nspawn mounts the v1 controllers read-only; this container has a cgroup
/// namespace below groups of its own, so systemd may write there. `cpuset` has no such group and stays as it is.
const INIT: &str = "#!/bin/sh\n\
    for c in cpu cpuacct memory pids blkio freezer devices; do mount -o remount,rw,bind /sys/fs/cgroup/$c; done\n\
    exec /lib/systemd/systemd\n";

/// The two layers of `/usr` of a tree that [`make`] has made: the cached one, which nothing changes, and the host's.
pub(super) fn usr(tree: &Path) -> (PathBuf, PathBuf) {
    (debian().join("usr"), tree.join("usr"))
}

/// Makes the tree of one container at `to`: the cached Debian without `/usr`.
pub(super) fn make(to: &Path) {
    let debian = debian();
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(&debian).expect("the cached tree").flatten() {
        if entry.file_name() != "usr" {
            must(Command::new("cp").arg("-a").arg(entry.path()).arg(to));
        }
    }
    // Directories that the host's own files are written to from outside; the kernel merges them with the cached ones.
    for directory in ["usr/sbin", "usr/local/bin", "usr/local/sbin"] {
        fs::create_dir_all(to.join(directory)).expect("a directory");
    }
    // systemd-nspawn looks here, and below no overlay, for the version that decides which hierarchies of cgroups it mounts.
    let mut version = Command::new("sh");
    version.args(["-c", "cp -a --parents usr/lib/*/systemd/libsystemd-shared-*.so \"$1\"", "sh"]).arg(to);
    must(version.current_dir(&debian));
    furnish(to);
}

/// Makes the tree of one virtual machine at `to`: the whole cached Debian.
pub(super) fn make_whole(to: &Path) {
    must(Command::new("cp").args(["-a", "--reflink=auto"]).arg(debian()).arg(to));
    furnish(to);
}

/// Writes what makes a tree a host of the tests.
fn furnish(to: &Path) {
    // A host has an identity of its own; an empty file has systemd make one.
    fs::write(to.join("etc/machine-id"), "").expect("a file");
    write(&to.join("sbin/nbt-init"), INIT, 0o755);
    write(&to.join("usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n", 0o755);
    write(&to.join("etc/fstab"), "", 0o644);
    write(&to.join("etc/hostname"), "nbt-host\n", 0o644);
    write(&to.join("etc/hosts"), "127.0.0.1 localhost nbt-host\n", 0o644);
    for unit in MASKED {
        symlink("/dev/null", to.join("etc/systemd/system").join(unit)).expect("a masked unit");
    }
    // A journal that outlives the boot.
    fs::create_dir_all(to.join("var/log/journal")).expect("a directory");
    for (program, name) in [("nbt-gitlab-runner", "gitlab-runner"), ("nbt-runner", "nbt-runner")] {
        let place = to.join("usr/local/bin").join(name);
        fs::copy(sibling(program), &place).expect("a program of the test bed");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
}

/// Installs the RPM of the programs under test, with its scripts. The runner's group must be there.
pub(super) fn install_package(tree: &Path) {
    let (lower, upper) = usr(tree);
    let work = tree.with_extension("work");
    fs::create_dir(&work).expect("a directory");
    let layers =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount -t overlay -o \"$1\" overlay \"$2\" && shift 2 && exec \"$@\"",
        "sh",
    ]);
    command.arg(layers).arg(&upper);
    install(command, tree);
    fs::remove_dir_all(&work).expect("removed");
}

/// As [`install_package`], into a tree that [`make_whole`] has made.
pub(super) fn install_package_whole(tree: &Path) {
    install(Command::new("env"), tree);
}

fn install(mut within: Command, tree: &Path) {
    let file = tree.with_extension("rpm");
    fs::write(&file, package()).expect("the package");
    within.args(["rpm", "--root"]).arg(tree).args(["--install", "--nodeps", "--nosignature"]).arg(&file);
    must(&mut within);
}

pub(super) fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// The RPM of the programs under test, built once in a test program. Its bytes, because nothing removes a file of a static.
pub(super) fn package() -> &'static [u8] {
    static PACKAGE: OnceLock<Vec<u8>> = OnceLock::new();
    PACKAGE.get_or_init(|| build(1))
}

/// An RPM of the programs under test, with a release of this number.
pub(super) fn build(release: u32) -> Vec<u8> {
    let out = tempfile::Builder::new().prefix("nbt_rpm_").tempdir().expect("a directory");
    let programs = under_test("nunbird-auth");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let built = must(
        Command::new(source.join("rpm/build.sh"))
            .arg("--prebuilt")
            .arg(programs.parent().expect("a directory"))
            .arg("--out")
            .arg(out.path())
            .args(["--", "--define", "_binary_payload w1.gzdio", "--define"])
            .arg(format!("nunbird_release {release}")),
    );
    let found = built.lines().find(|line| line.contains("/nunbird-0")).expect("the setuid package");
    fs::read(found).expect("the package")
}
