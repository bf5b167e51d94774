//! The timeouts of gitlab-runner that fit a configuration, in seconds.

use nunbird_policy::{Executor, Policy};

/// What a cancelled job on this host needs: above the launcher's 25 seconds.
const GRACEFUL: u64 = 60;
/// With a batch scheduler, which takes up to three minutes to end a job.
const GRACEFUL_BATCH: u64 = 200;
const FORCE: u64 = 10;
/// After both of them, a stopped runner waits for clean-ups.
const CLEANUPS: u64 = 50;
/// The server is asked for its keys, and about the job's user, for five seconds each.
const SERVER: u64 = 10;
/// What a stage takes beside what the policy gives its parts: two questions to the server, and a busy host.
const MARGIN: u64 = 60;

/// All timeouts.
pub(crate) struct Timeouts {
    pub(crate) graceful: u64,
    pub(crate) force: u64,
    pub(crate) shutdown: u64,
    pub(crate) stages: [StageTimeout; 3],
    pub(crate) batch: bool,
}

/// The timeout of config, prepare or cleanup.
pub(crate) struct StageTimeout {
    pub(crate) key: &'static str,
    /// Less than this ends a stage that does nothing but what the policy allows.
    pub(crate) least: u64,
    pub(crate) fitting: u64,
}

impl Timeouts {
    pub(crate) fn of(policy: &Policy) -> Self {
        let jobs = std::iter::once(&policy.job).chain(policy.profiles.values().map(|profile| &profile.job));
        let batch = jobs.into_iter().any(|job| job.executor != Executor::Shell);
        let graceful = if batch { GRACEFUL_BATCH } else { GRACEFUL };
        let stage = |key, parts: u64, usual: u64| StageTimeout {
            key,
            least: parts + SERVER,
            fitting: usual.max(parts + MARGIN),
        };
        Timeouts {
            graceful,
            force: FORCE,
            shutdown: graceful + FORCE + CLEANUPS,
            stages: [
                stage("config_exec_timeout", validation(policy), 60),
                stage("prepare_exec_timeout", pull(policy) + pam(policy), 300),
                stage("cleanup_exec_timeout", pam(policy), 300),
            ],
            batch,
        }
    }
}

impl StageTimeout {
    /// The parts of the policy that make [`StageTimeout::least`].
    pub(crate) fn why(&self, policy: &Policy) -> String {
        let mut parts = Vec::new();
        let mut part = |is_here: bool, seconds: u64, what: &str| {
            if is_here && seconds > 0 {
                parts.push(format!("{what} {seconds} s"));
            }
        };
        part(self.key == "config_exec_timeout", validation(policy), "[validation] may take");
        part(self.key == "prepare_exec_timeout", pull(policy), "a pull of a container's image may take");
        part(self.key != "config_exec_timeout", pam(policy), "[pam] may take");
        part(self.key == "config_exec_timeout", SERVER, "the GitLab server may take");
        if parts.is_empty() {
            "a busy file system takes longer than this host's usual one or two".to_owned()
        } else {
            parts.join(", ")
        }
    }
}

fn validation(policy: &Policy) -> u64 {
    policy.validation.as_ref().map_or(0, |validation| validation.timeout)
}

/// `config` has no session; `cleanup` may close the job's.
fn pam(policy: &Policy) -> u64 {
    policy.pam.as_ref().map_or(0, |pam| 2 * pam.timeout)
}

/// The longest pull of one image.
fn pull(policy: &Policy) -> u64 {
    let of = |container: &nunbird_policy::ContainerPolicy| {
        let helper =
            if container.credential_helpers.is_empty() { 0 } else { container.credential_helper_timeout };
        container.pull_timeout + helper
    };
    policy.containers.values().map(of).max().unwrap_or(0)
}
