//! The file tree of the host: a minimal Debian from the cache, copied for each host, with the project's
//! RPM installed by rpm(8) and its scripts.

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

/// Makes the tree of one host at `to`: the cached Debian and the package, installed.
pub(super) fn make(to: &Path) {
    must(Command::new("cp").args(["-a", "--reflink=auto"]).arg(debian()).arg(to));
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
    let file = tree.with_extension("rpm");
    fs::write(&file, package()).expect("the package");
    must(
        Command::new("rpm")
            .arg("--root")
            .arg(tree)
            .args(["--install", "--nodeps", "--nosignature"])
            .arg(&file),
    );
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
