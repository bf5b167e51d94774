//! The test bed of Nunbird: doubles of everything around it, and a private machine to run it on.
//!
//! - [`fake`]: commands of batch schedulers that cannot be installed here.
//! - [`groups`]: control groups of a test program's own.
//! - [`host`]: a booted machine with systemd, journald, PAM and the package installed.
//! - [`issuer`]: a GitLab server as far as Nunbird and a job's scripts see it.
//! - [`runner`]: gitlab-runner's custom executor.
//! - [`scheduler`]: batch schedulers, real and fake, and the launcher before them.
//! - [`transcript`]: what strace(1) sees of the privileged program.
//! - [`world`]: a machine with its own accounts, configuration and installation, in a mount namespace.
//!
//! Most tests need one line: `World::new(Privilege::Setuid).job().script("id -un").run()`. A test that
//! needs root begins with [`require_root`]. Everything here panics where a product would return an error:
//! a test bed that does not stand is a failed test.

#![forbid(unsafe_code)]

pub mod fake;
pub mod groups;
pub mod host;
pub mod issuer;
pub mod runner;
pub mod scheduler;
pub mod transcript;
pub mod world;

pub use groups::Groups;
pub use host::{Host, require_host};
pub use issuer::{Issuer, JobFacts, JobToken, SigningKey};
pub use runner::{Cancel, Exit, Job, Outcome, Reason, RunnerVersion, Session, StageOutcome, Status};
pub use world::{Privilege, World};

/// Whether this test can run. `if !require_root() { return }` is the first line of every test that mounts
/// or changes ids.
///
/// # Panics
/// When the process is not root, unless `NUNBIRD_TESTS_ALLOW_SKIP` is `1`: then a line that begins with
/// `SKIPPED: ` goes to standard error and the answer is `false`. CI asserts that no such line appears.
#[must_use]
pub fn require_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let allowed = std::env::var_os("NUNBIRD_TESTS_ALLOW_SKIP").is_some_and(|v| v == "1");
    assert!(
        allowed,
        "this test makes mount namespaces and changes ids, so it needs root: run `sudo -E cargo test -p nunbird-tests`, \
         or set NUNBIRD_TESTS_ALLOW_SKIP=1 to skip it"
    );
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIPPED: {name}: not root");
    false
}
