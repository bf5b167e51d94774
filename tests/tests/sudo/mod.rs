//! `downscope = "sudo"`, with the host's own sudo and the sudoers file of the package: `nunbird-auth` has no privilege.

mod hangs;
mod jobs;
mod refuse;

use nunbird_tests::runner::Session;
use nunbird_tests::{Privilege, World};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

pub(crate) const SUDOERS: &str = "/etc/sudoers.d/nunbird";

/// The file of the package, for this machine's runner and its group `lattice`, of which alice and ada are members.
pub(crate) fn sudoers() -> String {
    let text = include_str!("../../../packaging/sudoers.d/nunbird");
    text.replace("gitlab-runner ALL", "nbt_runner ALL").replace("nunbird-jobs)", "lattice)")
}

/// A machine where gitlab-runner runs as `nbt_runner` and nothing of Nunbird's has privilege.
pub(crate) fn machine() -> World {
    let world = World::new(Privilege::FileCaps);
    world.write_keys();
    // Clears the capabilities (chown(2)).
    let auth = world.host_path("/opt/nunbird/bin/nunbird-auth");
    chown(&auth, Some(0), Some(0)).expect("an owner");
    fs::set_permissions(&auth, Permissions::from_mode(0o755)).expect("a mode");
    world.reconfigure("downscope = \"setuid\"", "downscope = \"sudo\"");
    world.reconfigure("/var/log/nunbird/audit.jsonl", "/var/log/nunbird/sudo/audit.jsonl");
    fs::create_dir(world.host_path("/var/log/nunbird/sudo")).expect("a directory");
    chown(world.host_path("/var/log/nunbird/sudo"), Some(4001), Some(4001)).expect("an owner");
    world.write_file(SUDOERS, sudoers(), "root", 0o440);
    world
}

/// A job that has been admitted and prepared.
pub(crate) fn begin(session: &mut Session<'_>) {
    let config = session.config();
    assert!(config.succeeded(), "{}", config.log);
    let prepare = session.prepare();
    assert!(prepare.succeeded(), "{}", prepare.log);
}
