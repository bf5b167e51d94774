//! A Grid Engine of its own: `sge_qmaster` and `sge_execd` from Debian's packages, with private root and cell,
//! spool directories, accounts and administrator.
//!
//! Its daemons and clients tell hosts apart by name and take no loopback address, so that each has a host name and a
//! network of its own, which a process holds for as long as the bed lives. The ports are therefore always the same.

use super::bed::Bed;
use super::daemons::Daemons;
use super::faults;
use crate::world::enter::Mount;
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

const COMMANDS: [&str; 4] = ["qsub", "qstat", "qacct", "qdel"];
const HOST: &str = "nbtgrid";
/// The Debian packages' directory, which holds links to the programs only.
const PROGRAMS: &str = "/var/lib/gridengine";
const DEFAULTS: &str = "/usr/share/gridengine";
const TOOLS: &str = "/usr/lib/gridengine";

/// queue_conf(5): all that a queue must say.
const QUEUE: &str = "\
hostlist {host}
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH
ckpt_list NONE
pe_list mpi
rerun FALSE
slots 60
tmpdir /tmp
shell /bin/bash
prolog NONE
epilog NONE
shell_start_mode unix_behavior
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:60
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
";

/// queue_conf(5): limits, of which a queue must name all.
const LIMITS: [&str; 16] = [
    "s_rt", "h_rt", "s_cpu", "h_cpu", "s_fsize", "h_fsize", "s_data", "h_data", "s_stack", "h_stack",
    "s_core", "h_core", "s_rss", "h_rss", "s_vmem", "h_vmem",
];

/// sge_pe(5): slots on one host.
const PARALLEL: &str = "\
pe_name mpi
slots 60
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule $pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
";

/// A running Grid Engine.
#[derive(Debug)]
pub struct GridEngine {
    daemons: Daemons,
    // Last: everything else uses it.
    pub(super) bed: Bed,
}

impl GridEngine {
    /// The one of all cases that leave its daemons alone: started by the first, stopped after the last.
    ///
    /// # Panics
    /// As [`GridEngine::start`].
    pub fn shared() -> Arc<GridEngine> {
        static SHARED: Mutex<Weak<GridEngine>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let engine = Arc::new(GridEngine::start());
            *shared = Arc::downgrade(&engine);
            engine
        })
    }

    /// Starts one and waits for its host and queue.
    ///
    /// # Panics
    /// Without root or Debian's packages, and when it does not come up within a minute.
    pub fn start() -> GridEngine {
        assert!(
            Path::new(TOOLS).join("sge_qmaster").exists(),
            "no Grid Engine here: run `make setup` as root"
        );
        let bed = Bed::new("nbt_grid_");
        let mut engine = GridEngine { daemons: Daemons::default(), bed };
        engine.hold_host();
        engine.lay_out();
        engine.start_master();
        engine.administer(&format!("-as {HOST}"));
        engine.schedule_at_once();
        engine.daemons.start(&engine.bed, "sge_execd", "env SGE_ND=1 sge_execd");
        engine.bed.wait_for("the host", || engine.bed.admin("qhost").contains("lx-"));
        engine.add_queue();
        engine.bed.wait_for("the queue", || engine.bed.admin("qstat -f").contains("main.q@"));
        engine
    }

    /// Starts `sge_qmaster`, with the jobs it had, and waits for its answer.
    pub(super) fn start_master(&self) {
        // SGE_ND: in the foreground (sge_qmaster.c).
        self.daemons.start(&self.bed, "sge_qmaster", "env SGE_ND=1 sge_qmaster");
        self.bed.wait_for("sge_qmaster", || self.bed.admin("qconf -sh").contains(HOST));
    }

    /// Ends `sge_qmaster` in order.
    pub(super) fn stop_master(&self) {
        self.daemons.stop("sge_qmaster", Signal::SIGTERM);
    }

    /// What leads its commands to it.
    pub(super) fn leads(bed: &Bed) -> Vec<(String, String)> {
        let root = bed.path("grid").display().to_string();
        [
            ("SGE_ROOT", root.as_str()),
            ("SGE_CELL", "cell"),
            ("SGE_QMASTER_PORT", "6444"),
            ("SGE_EXECD_PORT", "6445"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Makes the bed's host name and network.
    fn hold_host(&mut self) {
        let hosts = self.bed.path("etc/hosts");
        fs::write(&hosts, format!("127.0.0.1 localhost\n10.99.0.1 {HOST}\n")).expect("the bed's hosts");
        self.bed.mounts.push(Mount::Bind { source: hosts, target: PathBuf::from("/etc/hosts") });
        let leads = Self::leads(&self.bed);
        self.bed.environment.extend(leads);
        let up = self.bed.path("etc/up");
        let pid = self.daemons.start(
            &self.bed,
            "host",
            &format!(
                "unshare --uts --net sh -ec 'hostname {HOST}; ip link set lo up; ip address add 10.99.0.1/32 dev lo; \
                 : >{}; exec sleep infinity'",
                up.display()
            ),
        );
        self.bed.wait_for("a host", || up.exists());
        self.bed.host = Some(pid);
    }

    /// As Debian's `init_cluster` does, but with files that can be read, and root as the administrator.
    fn lay_out(&self) {
        let (root, spool) = (self.bed.path("grid"), self.bed.path("spool"));
        let common = root.join("cell/common");
        for directory in [&common, &spool.join("qmaster"), &spool.join("execd")] {
            fs::create_dir_all(directory).expect("a directory");
        }
        let (at, spool) = (root.display(), spool.display());
        let parameters = format!("{at}/cell/common;{spool}/qmaster");
        let bootstrap = format!(
            "admin_user none\ndefault_domain none\nignore_fqdn true\nspooling_method classic\nspooling_lib libspoolc\n\
             spooling_params {parameters}\nbinary_path {at}/bin\nqmaster_spool_dir {spool}/qmaster\nsecurity_mode none\n\
             listener_threads 2\nworker_threads 2\nscheduler_threads 1\njvm_threads 0\n"
        );
        fs::write(common.join("bootstrap"), bootstrap).expect("a configuration");
        fs::write(common.join("act_qmaster"), format!("{HOST}\n")).expect("a configuration");
        let configuration = self.bed.path("etc/configuration");
        fs::write(&configuration, self.configuration()).expect("a configuration");
        self.must(&format!(
            "cd {PROGRAMS} && cp -a bin lib utilbin util {at} && cd {TOOLS} && \
             ./spoolinit classic libspoolc \"{parameters}\" init && ./spooldefaults configuration {} && \
             ./spooldefaults complexes {DEFAULTS}/util/resources/centry && \
             ./spooldefaults usersets {DEFAULTS}/util/resources/usersets && ./spooldefaults managers root",
            configuration.display()
        ));
        for command in COMMANDS {
            let path = self.bed.path("bin").join(command);
            fs::write(&path, faults::wrapper(command)).expect("a command");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
    }

    /// sge_conf(5), as fast as it gets. A job's processes are found by a group of `gid_range` on the whole machine, so
    /// that no two Grid Engines may have one in common.
    fn configuration(&self) -> String {
        static ENGINES: AtomicU32 = AtomicU32::new(0);
        let engine = ENGINES.fetch_add(1, Ordering::Relaxed);
        assert!(engine < 6, "the groups of this process are used up");
        let first = 100_000_000 + std::process::id() * 400 + engine * 64;
        let defaults =
            fs::read_to_string(Path::new(DEFAULTS).join("default-configuration")).expect("defaults");
        let lines = defaults.lines().map(|line| match line.split_whitespace().next() {
            Some("execd_spool_dir") => format!("execd_spool_dir {}", self.bed.path("spool/execd").display()),
            Some("load_report_time") => "load_report_time 00:00:01".to_owned(),
            Some("execd_params") => "execd_params ENABLE_ADDGRP_KILL=true".to_owned(),
            Some("gid_range") => format!("gid_range {first}-{}", first + 63),
            Some("mailer") => "mailer /bin/true".to_owned(),
            Some("reporting_params") => {
                "reporting_params accounting=true reporting=false flush_time=00:00:01 joblog=false sharelog=00:00:00"
                    .to_owned()
            }
            _ => line.to_owned(),
        });
        lines.map(|line| line + "\n").collect()
    }

    fn schedule_at_once(&self) {
        let file = self.bed.path("etc/scheduling");
        let changes = "s/^schedule_interval.*/schedule_interval 0:0:1/; s/^flush_\\(submit\\|finish\\)_sec.*/flush_\\1_sec 1/";
        self.must(&format!("qconf -ssconf | sed '{changes}' >{}", file.display()));
        self.administer(&format!("-Msconf {}", file.display()));
    }

    fn add_queue(&self) {
        let limits: String = LIMITS.map(|limit| format!("{limit} INFINITY\n")).concat();
        let queue = format!("qname main.q\n{}{limits}", QUEUE.replace("{host}", HOST));
        for (name, option, text) in [("parallel", "-Ap", PARALLEL), ("queue", "-Aq", queue.as_str())] {
            let file = self.bed.path("etc").join(name);
            fs::write(&file, text).expect("a configuration");
            self.administer(&format!("{option} {}", file.display()));
        }
    }

    #[track_caller]
    fn administer(&self, arguments: &str) {
        self.must(&format!("qconf {arguments}"));
    }

    /// A command that must not fail.
    #[track_caller]
    pub(super) fn must(&self, command: &str) {
        let said = self.bed.admin(&format!("{{ {command}; }} 2>&1; echo \"code $?\""));
        assert!(said.ends_with("code 0\n"), "{command}: {said}");
    }
}

impl Drop for GridEngine {
    fn drop(&mut self) {
        self.daemons.end(&self.bed);
    }
}
