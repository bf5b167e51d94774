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
            served: false,
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

    /// Has the runner's calls made by an `nbt-runner` of somewhere else, which listens in a directory that is shared with that place.
    /// Gives the path of the directory, which both have to see there; `account` is the runner as this machine has it.
    ///
    /// # Panics
    /// When the directory cannot be made.
    pub fn serve_elsewhere(&mut self, shared: &Path, account: Account) -> PathBuf {
        fs::create_dir(shared).expect("a directory");
        chown(shared, Some(account.uid), Some(account.gid)).expect("an owner");
        let place = self.runner_directory();
        fs::remove_dir(&place).expect("an empty directory");
        std::os::unix::fs::symlink(shared, &place).expect("a link");
        self.add_account(account);
        self.served = true;
        place
    }

    /// The way in for an account's programs; none where the machine is not a tree, but for those of a runner elsewhere.
    pub(super) fn inside(&self, account: &Account) -> Option<Inside> {
        let of_runner = account.name == self.runner().name;
        if of_runner && (self.served || self.tree.is_some()) {
            return Some(Inside::Service(self.service_socket()));
        }
        self.tree.as_ref()?;
        let pid1 = *self.pid1.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Inside::Container(pid1.expect("a running host")))
    }
}
