//! Injected faults: submissions that stop half-way, and a disk that fills up.

use super::{Job, Slurm};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::path::{Path, PathBuf};

/// Where a submission stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Before the controller is asked.
    Before,
    /// When it has accepted the job and the launcher does not know it yet.
    After,
}

impl Stop {
    fn name(self) -> &'static str {
        match self {
            Stop::Before => "before",
            Stop::After => "after",
        }
    }
}

/// A file system of three megabytes for data directories, in all namespaces that are made after it.
#[derive(Debug)]
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(super) fn mount(at: &Path) -> Self {
        fs::create_dir(at).expect("a directory");
        let options = Some("size=3m,mode=1777");
        mount(Some("nbt_small"), at, Some("tmpfs"), MsFlags::empty(), options).expect("a small disk");
        SmallDisk(at.to_owned())
    }

    pub(super) fn unmount(&self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("unmounted");
    }
}

/// A scheduler's command as launchers of a bed run it: it records each call, and a submission stops
/// where a test requests it.
pub(super) fn wrapper(command: &str) -> String {
    let begin = format!(
        "#!/bin/sh\n[ -n \"$NBT_CALLS\" ] || exec /usr/bin/{command} \"$@\"\n\
         at=$NBT_CALLS/$NUNBIRD_JOB_ID\necho \"{command} $*\" >>\"$at\"\n"
    );
    if command != "sbatch" {
        return begin + &format!("exec /usr/bin/{command} \"$@\"\n");
    }
    begin
        + "stop() { : >\"$at.reached\"; while [ -e \"$at.$1\" ]; do sleep 0.05; done; }\n\
           [ ! -e \"$at.before\" ] || stop before\n\
           [ -e \"$at.after\" ] || exec /usr/bin/sbatch \"$@\"\n\
           /usr/bin/sbatch \"$@\"\ncode=$?\nstop after\nexit $code\n"
}

impl Job<'_> {
    /// Has the next submissions stop there, until [`Job::let_go`].
    ///
    /// # Panics
    /// When the bed's files cannot be written.
    pub fn stop_submissions(&self, stop: Stop) {
        fs::write(self.stop_file(stop.name()), "").expect("a file");
    }

    /// Waits until a submission has stopped.
    #[track_caller]
    pub fn wait_for_stop(&self) {
        let reached = self.stop_file("reached");
        self.cluster.wait_for("a submission that stops", || reached.exists());
    }

    /// Lets submissions go on.
    ///
    /// # Panics
    /// When the bed's files cannot be removed.
    pub fn let_go(&self) {
        for name in ["reached", "before", "after"] {
            let file = self.stop_file(name);
            assert!(!file.exists() || fs::remove_file(&file).is_ok(), "{}", file.display());
        }
    }

    /// How many jobs the queue has of this CI job, ended ones too.
    pub fn submitted(&self) -> usize {
        self.count("--states=all")
    }

    /// How many of them have not ended.
    pub fn left(&self) -> usize {
        self.count("--states=PD,CF,R,S,ST,CG,SO")
    }

    fn count(&self, states: &str) -> usize {
        let names = self.cluster.admin(&format!("squeue -h -a {states} -o %j && echo all"));
        assert!(names.ends_with("all\n"), "the queue does not answer");
        names.lines().filter(|name| name.starts_with(&format!("nb{}-", self.handover.job_id))).count()
    }

    fn stop_file(&self, name: &str) -> PathBuf {
        self.cluster.bed.calls(self.handover.job_id).with_extension(name)
    }
}

impl Slurm {
    /// A CI job whose data directory lies on a disk of three megabytes.
    ///
    /// # Panics
    /// As [`Slurm::job`].
    pub fn job_on_a_small_disk(&self, user: &str) -> Job<'_> {
        let job = self.job(user);
        let data_dir = self.path("small").join(format!("{user}-{}", job.handover.job_id));
        job.at(&data_dir)
    }
}
