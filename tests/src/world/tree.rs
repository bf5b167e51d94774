//! The machine as a tree that boots: what [`crate::host`] makes a container or a virtual machine of.

use super::enter::Inside;
use super::{Account, Paths, Privilege, RUNNER_GID, World, accounts, new_directory};
use crate::issuer::Issuer;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

impl World {
    /// A machine that boots: see [`crate::host`]. `make` makes the tree at a path, `install` puts the package into it.
    pub(crate) fn in_tree(make: impl FnOnce(&Path), install: impl FnOnce(&Path)) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "a host needs root");
        let directory = new_directory();
        let tree = directory.path().join("tree");
        make(&tree);
        let wanted = ["root", "nbt_runner", "alice", "bob", "ada", "daisy"];
        let mut accounts = accounts::standard();
        accounts.retain(|account| wanted.contains(&account.name.as_str()));
        crate::host::add_accounts(&tree, &accounts, &[("gitlab-runner", RUNNER_GID), ("lattice", 4200)]);
        install(&tree);
        let world = World {
            privilege: Privilege::Setuid,
            issuer: Issuer::start(),
            paths: Paths::packaged(),
            accounts,
            mounts: Some(Vec::new()),
            tree: Some(tree),
            pid1: Mutex::default(),
            repositories: Mutex::default(),
            directory,
        };
        let runner = world.runner();
        fs::create_dir(world.runner_directory()).expect("a directory");
        chown(world.runner_directory(), Some(runner.uid), Some(runner.gid)).expect("an owner");
        world.write_configuration("setuid", None, None);
        world
    }

    /// Where the runner's service of a host listens.
    pub(crate) fn service_socket(&self) -> PathBuf {
        self.runner_directory().join("calls.sock")
    }

    /// Tells which process is the host's systemd now.
    pub(crate) fn set_container(&self, pid1: Option<i32>) {
        *self.pid1.lock().unwrap_or_else(PoisonError::into_inner) = pid1;
    }

    /// The way in for an account's programs; none where the machine is not a tree.
    pub(super) fn inside(&self, account: &Account) -> Option<Inside> {
        self.tree.as_ref()?;
        if account.name == self.runner().name {
            return Some(Inside::Service(self.service_socket()));
        }
        let pid1 = *self.pid1.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Inside::Container(pid1.expect("a running host")))
    }
}
