//! A Slurm of its own: munged, slurmctld and two slurmd from Debian's packages, with private keys, ports,
//! directories and accounts.
//!
//! Everything runs in mount namespaces that show other `passwd` and `group` files, which is also how all that
//! belongs to a bed is found in the end: daemons, steps, jobs and launchers alike.

use super::faults::{self, SmallDisk};
use super::kinds::Kind;
use crate::world::enter::{Mount, Spec};
use crate::world::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The accounts: name and uid, which is also the gid.
const USERS: [(&str, u32); 3] = [("nbt_ann", 41101), ("nbt_bea", 41102), ("nbt_cyn", 41103)];
const COMMANDS: [&str; 6] = ["sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Slurm.
#[derive(Debug)]
pub struct Slurm {
    pub(super) kind: Kind,
    pub(super) ports: Vec<u16>,
    daemons: Mutex<Vec<(String, Child)>>,
    pub(super) jobs: AtomicU64,
    small_disk: SmallDisk,
    // Last: everything else uses it.
    directory: TempDir,
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

    pub(super) fn start_kind(kind: Kind) -> Slurm {
        let directory =
            tempfile::Builder::new().prefix("nbt_slurm_").tempdir_in("/var/tmp").expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        // All held until all are known, so that no two are the same.
        let held: Vec<TcpListener> =
            (0..4).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a port")).collect();
        let ports = held.iter().map(|port| port.local_addr().expect("a port").port()).collect();
        drop(held);
        // Before the first daemon: none sees what is mounted later.
        let small_disk = SmallDisk::mount(&directory.path().join("small"));
        let slurm =
            Slurm { kind, ports, daemons: Mutex::default(), jobs: AtomicU64::new(1), small_disk, directory };
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

    /// A path of this bed.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The accounts' names.
    pub(super) fn users() -> [&'static str; 3] {
        USERS.map(|(name, _)| name)
    }

    /// The uid of one of the bed's accounts.
    ///
    /// # Panics
    /// When there is none of this name.
    #[track_caller]
    pub fn uid(name: &str) -> u32 {
        USERS.iter().find(|(known, _)| *known == name).expect("an account of this bed").1
    }

    /// What a shell command says that root runs with this Slurm's configuration. Its failure is an empty answer.
    pub fn admin(&self, command: &str) -> String {
        let finished = process::run(&self.spec(command));
        if finished.succeeded() { finished.stdout } else { String::new() }
    }

    /// The same for one of the accounts.
    pub fn as_user(&self, user: &str, command: &str) -> String {
        let uid = Self::uid(user);
        self.admin(&format!("exec setpriv --reuid={uid} --regid={uid} --clear-groups sh -c '{command}'"))
    }

    /// Waits for something, asking a few times a second.
    ///
    /// # Panics
    /// When it has not come within a minute.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut come: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !come() {
            assert!(Instant::now() < end, "waited in vain for {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends a daemon (`slurmctld`, `n1`, `n2`, `munged`) with a signal and waits for its end.
    pub fn stop(&self, name: &str, signal: Signal) {
        let mut daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        let at = daemons.iter().position(|(known, _)| known == name).expect("a running daemon");
        let (_, mut child) = daemons.remove(at);
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("a signal");
        child.wait().expect("its end");
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

    pub(super) fn spec(&self, command: &str) -> Spec {
        let configuration = self.path("etc/slurm.conf").display().to_string();
        let pairs = [
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("SLURM_CONF", configuration.as_str()),
            ("LC_ALL", "C.UTF-8"),
        ];
        let mounts = ["passwd", "group"].map(|file| Mount::Bind {
            source: self.path("etc").join(file),
            target: Path::new("/etc").join(file),
        });
        Spec {
            mounts: Some(mounts.to_vec()),
            ids: None,
            inside: None,
            no_new_privileges: false,
            program: "/bin/sh".into(),
            name: None,
            arguments: vec!["-c".into(), command.into()],
            environment: pairs.map(|(name, value)| (name.into(), value.into())).to_vec(),
            directory: "/".into(),
        }
    }

    pub(super) fn daemon(&self, name: &str, command: &str) {
        let log = self.path("log").join(name);
        let child = process::spawn(&self.spec(&format!("exec {command} >>{} 2>&1", log.display())));
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), child));
    }

    fn lay_out(&self) {
        for (name, mode) in [
            ("etc", 0o755),
            ("state", 0o700),
            ("log", 0o755),
            ("spool", 0o755),
            ("munge", 0o755),
            ("home", 0o755),
            ("bin", 0o755),
            ("launch", 0o711),
            ("calls", 0o1777),
        ] {
            fs::create_dir(self.path(name)).expect("a directory");
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let key: Vec<u8> =
            (0..64).map(|n: u8| n.wrapping_mul(37) ^ std::process::id().to_le_bytes()[0]).collect();
        fs::write(self.path("munge/key"), key).expect("a key");
        fs::set_permissions(self.path("munge/key"), fs::Permissions::from_mode(0o600)).expect("a mode");
        let (mut passwd, mut group) = (String::new(), String::new());
        for (name, uid) in USERS {
            let home = self.path("home").join(name);
            writeln!(passwd, "{name}:x:{uid}:{uid}::{}:/bin/bash", home.display()).expect("text");
            writeln!(group, "{name}:x:{uid}:").expect("text");
            fs::create_dir(&home).expect("a home");
            fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("a mode");
            chown(&home, Some(uid), Some(uid)).expect("an owner");
        }
        for (file, ours) in [("passwd", passwd), ("group", group)] {
            let hosts = fs::read_to_string(Path::new("/etc").join(file)).expect("the host's accounts");
            fs::write(self.path("etc").join(file), hosts + &ours).expect("the bed's accounts");
        }
        fs::write(self.path("etc/slurm.conf"), self.configuration()).expect("a configuration");
        fs::write(self.path("etc/cgroup.conf"), self.groups_of_kind()).expect("a configuration");
        fs::write(self.path("etc/plugstack.conf"), "# none\n").expect("a configuration");
        for command in COMMANDS {
            let path = self.path("bin").join(command);
            fs::write(&path, faults::wrapper(command)).expect("a command");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
    }

    /// As fast as Slurm gets: decisions every second, short waits, no limits of the two real processors.
    fn configuration(&self) -> String {
        let at = self.directory.path().display();
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

    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.path("log")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            write!(
                text,
                "== {}\n{}\n",
                entry.path().display(),
                lines[lines.len().saturating_sub(20)..].join("\n")
            )
            .expect("text");
        }
        text
    }

    /// Everything that lives in a mount namespace of this bed.
    pub(super) fn processes(&self) -> Vec<Pid> {
        let mark = self.path("etc/passwd").display().to_string();
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let ours = |number: &i32| {
            fs::read_to_string(format!("/proc/{number}/mountinfo")).is_ok_and(|mounts| mounts.contains(&mark))
        };
        numbers.filter(ours).map(Pid::from_raw).collect()
    }

    /// Where the commands' wrappers write down what the launchers of a CI job ran.
    pub(super) fn calls(&self, job: u64) -> PathBuf {
        self.path("calls").join(job.to_string())
    }

    pub(super) fn next_job(&self) -> u64 {
        self.jobs.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            for process in processes {
                // ESRCH: it ended meanwhile.
                let _ = kill(process, Signal::SIGKILL);
            }
            for (_, child) in self.daemons.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
                drop(child.try_wait());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for (_, child) in self.daemons.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            drop(child.wait());
        }
        self.remove_groups();
        self.small_disk.unmount();
    }
}
