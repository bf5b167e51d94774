//! Doubles of journald and of a syslog daemon, for one private system.

use crate::runner::{Session, StageOutcome};
use crate::world::World;
use crate::world::enter::{Mount, Spec};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// A private system whose `/run` and `/dev` belong to the test, with the sockets of journald and
/// syslog.
#[derive(Debug)]
pub struct Daemons {
    /// journald's socket.
    pub journal: UnixDatagram,
    /// `/dev/log`.
    pub log: UnixDatagram,
    mounts: [Mount; 2],
}

impl Daemons {
    /// Creates the directories and the sockets; the private system itself is unchanged.
    ///
    /// # Panics
    /// If that fails.
    pub fn start(world: &World) -> Self {
        let (run, dev) = (world.root().join("run"), world.root().join("dev"));
        fs::create_dir_all(run.join("systemd/journal")).expect("a directory");
        fs::create_dir(&dev).expect("a directory");
        for (name, minor) in [("null", 3), ("zero", 5), ("urandom", 9)] {
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
            let device = nix::sys::stat::makedev(1, minor);
            let path = dev.join(name);
            nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, mode, device).expect("a device");
            fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("a mode");
        }
        symlink("/proc/self/fd", dev.join("fd")).expect("a link");
        let socket = |path: &Path| {
            let socket = UnixDatagram::bind(path).expect("a socket");
            fs::set_permissions(path, Permissions::from_mode(0o666)).expect("a mode");
            socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            socket
        };
        Daemons {
            journal: socket(&run.join("systemd/journal/socket")),
            log: socket(&dev.join("log")),
            mounts: [
                Mount::Bind { source: run, target: "/run".into() },
                Mount::Bind { source: dev, target: "/dev".into() },
            ],
        }
    }

    /// Runs a stage in the private system with the daemons.
    ///
    /// # Panics
    /// On a booted host, which has its own.
    pub fn call(&self, stage: &str, session: &mut Session<'_>, mut spec: Spec) -> StageOutcome {
        spec.mounts.as_mut().expect("a namespace").extend(self.mounts.clone());
        session.call_spec(stage, &spec)
    }
}
