//! The test bed of Nunbird: doubles of everything around it, and a private system to run it on.
//!
//! - [`compliance`]: cases that every batch scheduler must pass.
//! - [`containers`]: machines with container engines, images, and a registry.
//! - [`daemons`]: sockets of journald and syslog daemons.
//! - [`fake`]: commands of batch schedulers that cannot be installed here.
//! - [`groups`]: a test program's own cgroups.
//! - [`host`]: a booted machine with systemd, journald, PAM and the package installed.
//! - [`issuer`]: a GitLab server as far as Nunbird and a job's scripts see it.
//! - [`runner`]: gitlab-runner's custom executor.
//! - [`scheduler`]: batch schedulers, real and fake, with the launcher.
//! - [`transcript`]: system calls of the privileged program, recorded by strace(1).
//! - [`world`]: a machine with its own accounts, configuration and installation, in a mount namespace.
//!
//! Most tests need one line: `World::new(Privilege::Setuid).job().script("id -un").run()`. A test
//! that needs root has [`#[needs(root)]`](needs). Everything here panics where a product would
//! return an error: a broken test bed is a failed test.

#![forbid(unsafe_code)]

pub mod compliance;
pub mod containers;
pub mod daemons;
pub mod fake;
pub mod groups;
pub mod host;
pub mod issuer;
pub mod process;
pub mod proxy;
pub mod records;
pub mod runner;
pub mod scheduler;
pub mod transcript;
pub mod tree;
pub mod world;

pub use daemons::Daemons;
pub use groups::Groups;
pub use host::{Host, require_host};
pub use issuer::{Issuer, JobFacts, JobToken, SigningKey};
pub use nunbird_skip::{needs, require_root, skip};
pub use runner::{Cancel, Exit, Job, Outcome, Reason, RunnerVersion, Session, StageOutcome, Status};
pub use world::{Privilege, World};
