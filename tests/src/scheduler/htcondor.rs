//! An HTCondor pool of its own on one host, from Debian 13's packages in a tree, with private directories, port and
//! accounts.

use super::bed::Bed;
use super::daemons::Daemons;
use super::faults;
use super::release::Release;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const COMMANDS: [&str; 4] = ["condor_submit", "condor_q", "condor_history", "condor_rm"];
const PACKAGES: &str =
    "bubblewrap,ca-certificates,charliecloud,condor,crun,fuse-overlayfs,netavark,podman,skopeo,uidmap";

/// Settings that make HTCondor as fast as possible: cycles every second or two. Callers are
/// authenticated by the file system, and nothing listens beyond the host. Jobs see the host's
/// directories.
const CONFIGURATION: &str = "\
RELEASE_DIR = /usr
LIB = $(RELEASE_DIR)/lib/condor
LIBEXEC = $(RELEASE_DIR)/libexec/condor
SHARE = $(RELEASE_DIR)/share/condor
LOCAL_CONFIG_DIR =
LOCAL_CONFIG_FILE =
LOCAL_DIR = {at}/pool
LOG = {at}/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
CRED_STORE_DIR = $(LOCAL_DIR)/cred
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/passwords
SEC_TOKEN_SYSTEM_DIRECTORY = $(LOCAL_DIR)/tokens
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
use ROLE: CentralManager
use ROLE: Submit
use ROLE: Execute
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
SEC_DEFAULT_ENCRYPTION = OPTIONAL
SEC_DEFAULT_INTEGRITY = OPTIONAL
UID_DOMAIN = nbt
FILESYSTEM_DOMAIN = nbt
TRUST_UID_DOMAIN = True
ALLOW_ADMINISTRATOR = root@nbt, condor@nbt
ALLOW_DAEMON = root@nbt, condor@nbt
ALLOW_NEGOTIATOR = root@nbt, condor@nbt
ALLOW_READ = *
ALLOW_WRITE = *
NUM_CPUS = 64
MEMORY = 16000
NUM_SLOTS = 1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
RUNBENCHMARKS = False
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 2
UPDATE_INTERVAL = 3
POLLING_INTERVAL = 2
STARTER_UPDATE_INTERVAL = 2
SHADOW_QUEUE_UPDATE_INTERVAL = 5
CLAIM_WORKLIFE = 60
JOB_START_DELAY = 0
START = True
PREEMPT = False
KILLING_TIMEOUT = 2
MASTER_BACKOFF_CONSTANT = 1
BASE_CGROUP =
CGROUP_V1 =
MOUNT_UNDER_SCRATCH =
USE_PID_NAMESPACES = False
CREDD_OAUTH_MODE = False
MAIL = /bin/true
";

/// A running pool.
#[derive(Debug)]
pub struct HtCondor {
    daemons: Daemons,
    // Last: everything else uses it.
    pub(super) bed: Bed,
}

impl HtCondor {
    /// Starts one and waits for its queue and its slot.
    ///
    /// # Panics
    /// Without root, mmdebstrap or a mirror, and when it does not come up within a minute.
    pub fn start() -> HtCondor {
        let mut bed = Bed::on("nbt_condor_", Release::Trixie.tree("htcondor", PACKAGES));
        let leads = Self::leads(&bed);
        bed.environment.extend(leads);
        let pool = HtCondor { daemons: Daemons::default(), bed };
        pool.lay_out();
        pool.daemons.start(&pool.bed, "condor_master", "condor_master -f");
        for (what, question) in [
            ("the slot", "condor_status -af Name"),
            ("the queue", "condor_status -schedd -af Name"),
            ("an answer", "condor_q -allusers -totals"),
        ] {
            pool.bed.wait_for(what, || !pool.bed.admin(question).trim().is_empty());
        }
        pool
    }

    /// Its version, as its commands print it.
    pub fn version(&self) -> String {
        self.bed.admin("condor_version").lines().next().unwrap_or_default().to_owned()
    }

    /// What leads its commands to it.
    pub(super) fn leads(bed: &Bed) -> Vec<(String, String)> {
        vec![("CONDOR_CONFIG".to_owned(), bed.path("etc/condor_config").display().to_string())]
    }

    /// Stops the queue as a crash of its host does, and the master, which would start it again.
    pub(super) fn stop_queue(&self) {
        self.signal("condor_master", Signal::SIGSTOP);
        self.signal("condor_schedd", Signal::SIGKILL);
        // A shadow that outlives its queue takes a job's end from the node and cannot report it:
        // HTCondor then starts the job again. Without a shadow the node keeps the end until the
        // queue asks.
        for shadow in self.bed.named("condor_shadow") {
            // ESRCH: it ended meanwhile.
            let _ = kill(shadow, Signal::SIGKILL);
        }
    }

    /// Lets the master start the queue again, and waits for its answer.
    pub(super) fn start_queue(&self) {
        self.signal("condor_master", Signal::SIGCONT);
        self.bed.wait_for("the queue", || !self.bed.admin("condor_q -allusers -totals").trim().is_empty());
    }

    /// Ends all of the node at once: what manages it, and what runs there.
    pub(super) fn lose_node(&self) {
        let startds = self.bed.named("condor_startd");
        assert!(!startds.is_empty(), "no condor_startd runs");
        let all: Vec<Pid> =
            startds.into_iter().flat_map(|startd| [vec![startd], below(startd)].concat()).collect();
        for process in all {
            // ESRCH: it ended meanwhile.
            let _ = kill(process, Signal::SIGKILL);
        }
    }

    fn signal(&self, name: &str, signal: Signal) {
        let all = self.bed.named(name);
        assert!(!all.is_empty(), "no {name} runs");
        for process in all {
            kill(process, signal).expect("a signal");
        }
    }

    fn lay_out(&self) {
        let port = super::ports::free(1)[0];
        let text = CONFIGURATION
            .replace("{at}", self.bed.path("").display().to_string().trim_end_matches('/'))
            .replace("{port}", &port.to_string());
        fs::write(self.bed.path("etc/condor_config"), text).expect("a configuration");
        let pool = self.bed.path("pool");
        let made = self.bed.admin(&format!(
            "mkdir {0} && cd {0} && mkdir spool execute lock run && mkdir -m 700 cred passwords tokens && \
             chown condor: {0} spool execute lock run {1} && chmod 1777 execute && echo made",
            pool.display(),
            self.bed.path("log").display()
        ));
        assert_eq!(made, "made\n", "the pool's directories");
        for command in COMMANDS {
            let path = self.bed.path("bin").join(command);
            fs::write(&path, faults::wrapper(command)).expect("a command");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
    }
}

impl Drop for HtCondor {
    fn drop(&mut self) {
        self.daemons.end(&self.bed);
    }
}

/// The children of a process and theirs (proc_pid_task_children(5)).
fn below(pid: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = text.split_whitespace().filter_map(|number| number.parse().ok().map(Pid::from_raw));
    children.flat_map(|child| [vec![child], below(child)].concat()).collect()
}
