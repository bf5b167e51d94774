//! A Slurm of its own: munged, slurmctld and two slurmd from Debian's packages, with private keys, ports,
//! directories and accounts.

use super::bed::Bed;
use super::daemons::Daemons;
use super::faults::{self, SmallDisk};
use super::kinds::Kind;
use super::release::Release;
use crate::world::enter::Mount;
use nix::sys::signal::Signal;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

const COMMANDS: [&str; 6] = ["sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo"];

/// What a release's tree has of it.
const PACKAGES: &str = "munge,slurmctld,slurmd,slurm-client";
/// The engines of containers that the tree of the newest release has beside it.
const ENGINES: &str = "apptainer,bubblewrap,ca-certificates,charliecloud,crun,fuse-overlayfs,netavark,passt,podman,skopeo,squashfs-tools,squashfuse,uidmap";

/// A running Slurm.
#[derive(Debug)]
pub struct Slurm {
    pub(super) kind: Kind,
    pub(super) release: Release,
    pub(super) ports: Vec<u16>,
    daemons: Daemons,
    small_disk: SmallDisk,
    // Last: everything else uses it.
    pub(super) bed: Bed,
}

impl Slurm {
    /// The Slurm of all tests that leave its daemons alone: started by the first, stopped after the last.
    ///
    /// # Panics
    /// As [`Slurm::start`].
    pub fn shared() -> Arc<Slurm> {
        static SHARED: Mutex<Weak<Slurm>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let slurm = Arc::new(Slurm::start());
            *shared = Arc::downgrade(&slurm);
            slurm
        })
    }

    /// Starts one and waits for its two nodes.
    ///
    /// # Panics
    /// Without root, and when it does not come up within a minute.
    pub fn start() -> Slurm {
        Self::start_kind(Kind::Plain)
    }

    /// Starts the Slurm of a Debian release.
    ///
    /// # Panics
    /// As [`Slurm::start`], and without mmdebstrap or a mirror where the release is not the host's.
    pub fn start_release(release: Release) -> Slurm {
        Self::start_with(Kind::Plain, release)
    }

    /// Starts one more of its kind and release.
    ///
    /// # Panics
    /// As [`Slurm::start_release`].
    #[must_use]
    pub fn another(&self) -> Slurm {
        Self::start_with(self.kind, self.release)
    }

    /// Starts one whose nodes and launchers can have containers of Podman, from a registry with a certificate of this authority.
    ///
    /// # Panics
    /// As [`Slurm::start`].
    pub fn start_for_containers(authority_pem: &str) -> Slurm {
        let mut bed = Bed::on("nbt_slurm_", None);
        let bundle = "/etc/ssl/certs/ca-certificates.crt";
        let known = fs::read_to_string(bundle).expect("the authorities of the host");
        let copy = bed.path("etc/authorities");
        fs::write(&copy, format!("{known}\n{authority_pem}")).expect("a file");
        bed.mounts.push(Mount::Bind { source: copy, target: bundle.into() });
        Self::start_on(bed, Kind::Plain, Release::Host)
    }

    pub(super) fn start_kind(kind: Kind) -> Slurm {
        Self::start_with(kind, Release::Host)
    }

    fn start_with(kind: Kind, release: Release) -> Slurm {
        let packages = match release {
            Release::Sid => format!("{PACKAGES},{ENGINES}"),
            Release::Host | Release::Trixie => PACKAGES.to_owned(),
        };
        let tree = release.tree("slurm", &packages);
        let mut bed = Bed::on("nbt_slurm_", tree.clone());
        if let Some(tree) = tree.filter(|_| release == Release::Sid) {
            // Apptainer mounts images at a directory there, by this device, which udev makes open to all.
            bed.mounts.push(Mount::Overlay { over: tree.join("var/lib"), target: "/var/lib".into() });
            let fuse = bed.path("fuse");
            crate::tree::must(Command::new("mknod").args(["-m", "666"]).arg(&fuse).args(["c", "10", "229"]));
            bed.mounts.push(Mount::Bind { source: fuse, target: "/dev/fuse".into() });
        }
        Self::start_on(bed, kind, release)
    }

    fn start_on(mut bed: Bed, kind: Kind, release: Release) -> Slurm {
        let configuration = bed.path("etc/slurm.conf").display().to_string();
        bed.environment.push(("SLURM_CONF".to_owned(), configuration));
        let ports = super::ports::free(4);
        // Before the first daemon: none sees what is mounted later.
        let small_disk = SmallDisk::mount(&bed.path("small"));
        let slurm = Slurm { kind, release, ports, daemons: Daemons::default(), small_disk, bed };
        slurm.lay_out();
        slurm.start_munged();
        if kind == Kind::Accounting {
            slurm.start_accounting();
        }
        slurm.start_controller();
        for node in slurm.nodes() {
            slurm.start_node(&node);
        }
        slurm.wait_for("two idle nodes", || {
            slurm.admin("sinfo -h -N -p debug -t idle -o %N").lines().count() == 2
        });
        slurm
    }

    /// Its version, as its commands print it.
    pub fn version(&self) -> String {
        self.admin("sinfo -V").trim().to_owned()
    }

    /// A path of this bed.
    pub fn path(&self, name: &str) -> PathBuf {
        self.bed.path(name)
    }

    /// The accounts' names.
    pub(super) fn users() -> [&'static str; 3] {
        Bed::users()
    }

    /// The uid of one of the bed's accounts.
    ///
    /// # Panics
    /// When there is none of this name.
    #[track_caller]
    pub fn uid(name: &str) -> u32 {
        Bed::uid(name)
    }

    /// The output of a shell command that root runs with this Slurm's configuration; empty if it
    /// fails.
    pub fn admin(&self, command: &str) -> String {
        self.bed.admin(command)
    }

    /// The same for one of the accounts.
    pub fn as_user(&self, user: &str, command: &str) -> String {
        self.admin(&self.bed.as_user(user, command))
    }

    /// The launcher under test.
    pub fn launcher(&self) -> PathBuf {
        self.bed.launcher()
    }

    /// Waits for something, asking a few times a second.
    ///
    /// # Panics
    /// When it has not come within a minute.
    #[track_caller]
    pub fn wait_for(&self, what: &str, come: impl FnMut() -> bool) {
        self.bed.wait_for(what, come);
    }

    /// Ends a daemon (`slurmctld`, `n1`, `n2`, `munged`) with a signal and waits for its end.
    pub fn stop(&self, name: &str, signal: Signal) {
        self.daemons.stop(name, signal);
    }

    /// Starts `munged`.
    pub fn start_munged(&self) {
        let at = self.path("munge");
        let at = at.display();
        self.daemon(
            "munged",
            &format!(
                "munged --foreground --key-file={at}/key --socket={at}/sock --pid-file={at}/pid --seed-file={at}/seed \
                 --num-threads=2"
            ),
        );
        self.wait_for("munged", || {
            self.admin(&format!("munge -n -S {at}/sock | unmunge -S {at}/sock")).contains("Success")
        });
    }

    /// Starts `slurmctld`, with the state it had, and waits for its answer.
    pub fn start_controller(&self) {
        self.daemon("slurmctld", "slurmctld -D");
        self.wait_for("slurmctld", || self.admin("scontrol ping").contains("UP"));
    }

    /// Starts the `slurmd` of a node.
    pub fn start_node(&self, node: &str) {
        self.daemon(node, &format!("slurmd -D -N {node}"));
    }

    pub(super) fn daemon(&self, name: &str, command: &str) {
        self.daemons.start(&self.bed, name, command);
    }

    fn lay_out(&self) {
        for (name, mode) in [("state", 0o700), ("spool", 0o755), ("munge", 0o755)] {
            fs::create_dir(self.path(name)).expect("a directory");
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let key: Vec<u8> =
            (0..64).map(|n: u8| n.wrapping_mul(37) ^ std::process::id().to_le_bytes()[0]).collect();
        fs::write(self.path("munge/key"), key).expect("a key");
        fs::set_permissions(self.path("munge/key"), fs::Permissions::from_mode(0o600)).expect("a mode");
        fs::write(self.path("etc/slurm.conf"), self.configuration()).expect("a configuration");
        fs::write(self.path("etc/cgroup.conf"), self.groups_of_kind()).expect("a configuration");
        fs::write(self.path("etc/plugstack.conf"), "# none\n").expect("a configuration");
        for command in COMMANDS {
            let path = self.path("bin").join(command);
            fs::write(&path, faults::wrapper(command)).expect("a command");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
    }

    /// Settings that make Slurm as fast as possible: decisions every second, short waits, no limits
    /// of the two real CPUs.
    fn configuration(&self) -> String {
        let at = self.path("");
        let at = at.display();
        let host = nix::unistd::gethostname().expect("a host name").to_string_lossy().into_owned();
        let host = host.split('.').next().expect("a host name").to_owned();
        let mut text = format!(
            "ClusterName=nbt\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={}\nSlurmUser=root\nAuthType=auth/munge\n\
             AuthInfo=socket={at}/munge/sock\nCredType=cred/munge\nStateSaveLocation={at}/state\n\
             SlurmdSpoolDir={at}/spool/%n\nSlurmctldPidFile={at}/spool/slurmctld.pid\nSlurmdPidFile={at}/spool/%n.pid\n\
             PlugStackConfig={at}/etc/plugstack.conf\nMailProg=/bin/true\nMpiDefault=none\n\
             {}PropagateResourceLimits=NONE\nReturnToService=2\n\
             SlurmctldTimeout=60\nSlurmdTimeout=60\nKillWait=3\nMinJobAge=300\nInactiveLimit=0\nWaittime=0\n\
             PreemptType=preempt/partition_prio\nPreemptMode=CANCEL\nSchedulerType=sched/builtin\n\
             SchedulerParameters=sched_interval=1,sched_min_interval=1,batch_sched_delay=0,default_queue_depth=500\n\
             PriorityType=priority/basic\nSelectType=select/cons_tres\nSelectTypeParameters=CR_CPU_Memory\n\
             DefMemPerCPU=10\nSlurmdParameters=config_overrides\n\
             JobAcctGatherType=jobacct_gather/linux\n",
            self.ports[0],
            self.lines_of_kind()
        );
        let [first, second] = self.nodes();
        for (node, port) in [(&first, self.ports[1]), (&second, self.ports[2])] {
            writeln!(
                text,
                "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=64 RealMemory=8000 State=UNKNOWN"
            )
            .expect("text");
            fs::create_dir(self.path("spool").join(node)).expect("a directory");
        }
        text + &format!(
            "PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE PreemptMode=OFF State=UP\n\
             PartitionName=hour Nodes={first} MaxTime=01:00:00 PreemptMode=OFF State=UP\n\
             PartitionName=spare Nodes={second} State=UP\n\
             PartitionName=urgent Nodes={second} PriorityTier=9 PreemptMode=OFF State=UP\n"
        )
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.daemons.end(&self.bed);
        self.remove_groups();
        self.small_disk.unmount();
    }
}
