//! Laying out the machine's directories and installing the programs under test in it.

use super::enter::Mount;
use super::process::{copy_executable, sibling, under_test};
use super::{Privilege, RUNNER_GID, World};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// Where the machine's places lie below its directory, more special ones first.
pub(super) const LAYOUT: [(&str, &str); 8] = [
    ("/var/lib/nunbird", "state"),
    ("/var/lib", "var-lib"),
    ("/var/log", "log"),
    ("/etc", "etc"),
    ("/opt", "opt"),
    ("/home", "home"),
    ("/tmp", "tmp"),
    ("/usr/local/bin", "local-bin"),
];

/// Places that show the host's files below the machine's.
const LAYERED: [&str; 3] = ["/etc", "/var/lib", "/usr/local/bin"];

/// Makes the directories and returns the mounts that put them into place.
pub(super) fn lay_out(root: &Path) -> Vec<Mount> {
    for (_, folder) in LAYOUT {
        directory(&root.join(folder), 0o755, 0);
    }
    directory(&root.join("var-lib/nunbird"), 0o755, 0);
    directory(&root.join("etc/nunbird"), 0o755, 0);
    // For the validation programs of tests.
    fs::write(root.join("etc/nunbird/floor"), "validation_user nunbird\n").expect("the floor");
    directory(&root.join("tmp"), 0o1777, 0);
    directory(&root.join("opt/nunbird"), 0o755, 0);
    let mut mounts: Vec<Mount> = LAYOUT
        .iter()
        .map(|(target, folder)| {
            let (target, source) = (target.into(), root.join(folder));
            if LAYERED.iter().any(|layered| Path::new(layered) == target) {
                Mount::Overlay { over: source, target }
            } else {
                Mount::Bind { source, target }
            }
        })
        .collect();
    // The overlay of /var/lib makes the mount point /var/lib/nunbird.
    mounts.sort_by_key(|mount| match mount {
        Mount::Overlay { target, .. }
        | Mount::Bind { target, .. }
        | Mount::ReadOnly { target, .. }
        | Mount::Full { target } => target.components().count(),
        Mount::Hiding { .. } => 0,
    });
    mounts
}

/// Copies the programs and makes the directories that they work in.
pub(super) fn programs(world: &World) {
    let (uid, gid) = (world.runner().uid, world.runner().gid);
    let paths = world.paths();
    let bin = world.host_path(&paths.bin);
    directory(&bin, 0o755, 0);
    for name in
        ["nunbird-auth", "nunbird-decide", "nunbird-validate", "nunbird", "nunbird-keys", "nunbirdctl"]
    {
        copy(&under_test(name), &bin.join(name), 0o755);
    }
    let privileged = world.privilege() != Privilege::None;
    if !privileged {
        copy(&under_test("nunbird-limits"), &bin.join("nunbird-limits"), 0o755);
    }
    if privileged {
        copy(&under_test("nunbird-machine"), &bin.join("nunbird-machine"), 0o700);
        copy(&under_test("nunbird-session"), &bin.join("nunbird-session"), 0o700);
        copy(&under_test("nunbird-limits"), &bin.join("nunbird-limits"), 0o711);
        // Not readable, so that the user cannot trace it before it has asked for that itself (execve(2)).
        fs::set_permissions(bin.join("nunbird"), fs::Permissions::from_mode(0o711)).expect("a mode");
    }
    protect(&bin.join("nunbird-auth"), world.privilege());
    let helper =
        if world.is_host() { world.root().join("helper") } else { world.host_path("/usr/local/bin") };
    directory(&helper, 0o755, 0);
    copy(&sibling("nbt-gitlab-runner"), &helper.join("gitlab-runner"), 0o755);
    directory(&world.runner_directory(), 0o755, uid);
    let keeper = if privileged { 990 } else { uid };
    directory(&world.host_path(&paths.keys), 0o755, keeper);
    if !world.is_host() {
        directory(&world.host_path("/var/lib/nunbird/jobs"), 0o700, 0);
        directory(&world.host_path("/var/lib/nunbird/people"), 0o700, 0);
        directory(&world.host_path("/var/log/nunbird"), 0o755, if privileged { 0 } else { uid });
    }
    if nix::unistd::geteuid().is_root() {
        chown(world.host_path(&paths.keys), Some(keeper), Some(if privileged { keeper } else { gid }))
            .expect("an owner");
    }
}

/// Puts the double of a program that was taken over in its place.
pub(super) fn hostile(world: &World, program: &str, double: &str) {
    replace(world, program, &sibling(double));
}

/// Puts the program back.
pub(super) fn genuine(world: &World, program: &str) {
    replace(world, program, &under_test(program));
}

fn replace(world: &World, program: &str, with: &Path) {
    let target = world.host_path(&world.paths().bin).join(program);
    fs::remove_file(&target).expect("removed");
    copy(with, &target, 0o755);
}

fn protect(auth: &Path, privilege: Privilege) {
    let mode = match privilege {
        Privilege::RootRunner | Privilege::None => return,
        Privilege::Setuid => 0o4750,
        Privilege::FileCaps => 0o750,
    };
    // First the owner: chown(2) clears the setuid bit and capabilities.
    chown(auth, Some(0), Some(RUNNER_GID)).expect("an owner");
    fs::set_permissions(auth, fs::Permissions::from_mode(mode)).expect("a mode");
    if privilege == Privilege::FileCaps {
        let done = Command::new("/usr/sbin/setcap")
            .arg("cap_setuid,cap_setgid=p")
            .arg(auth)
            .status()
            .expect("setcap runs");
        assert!(done.success(), "setcap failed on {}", auth.display());
    }
}

fn copy(from: &Path, to: &Path, mode: u32) {
    copy_executable(from, to);
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn directory(path: &Path, mode: u32, uid: u32) {
    fs::create_dir_all(path).expect("a directory");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    if nix::unistd::geteuid().is_root() {
        chown(path, Some(uid), Some(uid)).expect("an owner");
    }
}
