//! Whether a temporary file is still in use: by its job's record, or by a process that has it open
//! or names it.

use super::records::JobRecord;
use crate::patient;
use nix::sys::stat::FileStat;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// The most that is read of a process's arguments, and again of its environment, in bytes.
const MOST: u64 = 4 << 20;
/// The time limit for reading a process's memory.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time limit for reading that of all processes together.
const TOTAL: Duration = Duration::from_secs(10);

/// The directories of jobs that have not ended, by device and inode.
#[derive(Debug)]
pub(super) struct Directories(Vec<(u64, u64)>);

impl Directories {
    pub(super) fn of(records: &[JobRecord]) -> Self {
        let live = records.iter().filter(|found| found.over.is_err());
        let directories = live.filter_map(|found| found.record.as_ref());
        Directories(directories.map(|r| (r.job_directory.device, r.job_directory.inode)).collect())
    }
}

/// What is in use on this host, as far as this account can see.
#[derive(Debug)]
pub(super) struct InUse {
    directories: Directories,
    /// For each process of root's or the runner's: its pid, and its arguments, environment,
    /// directory and open files as one text; `None` if its memory cannot be read.
    processes: Vec<(u32, Option<String>)>,
}

impl InUse {
    /// Processes of other accounts are ignored: they could name every file to keep it. A stage's
    /// shepherd has the runner's real uid, or root starts it.
    pub(super) fn of(directories: Directories, runners: &[u32]) -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let own = std::process::id();
        let processes = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
        let processes: Vec<u32> = processes
            .filter(|pid| *pid != own && real_uid(*pid).is_some_and(|uid| uid == 0 || runners.contains(&uid)))
            .collect();
        // If no child can be made, nothing is known of any process.
        let texts = patient::each(&processes, PATIENCE, TOTAL, |pid| text_of(*pid)).unwrap_or_default();
        let texts = texts.into_iter().chain(std::iter::repeat(None));
        let names = |(pid, text): (u32, Option<Vec<u8>>)| {
            let text = text.map(|text| String::from_utf8_lossy(&text).into_owned() + &links_of(pid));
            (pid, text)
        };
        InUse { directories, processes: processes.into_iter().zip(texts).map(names).collect() }
    }

    /// What uses it; `None` if nothing does. A process in another mount namespace has another path
    /// for it, so only its name is compared. A process whose memory cannot be read may use
    /// anything.
    pub(super) fn user_of(&self, stat: &FileStat, name: &str) -> Option<String> {
        if self.directories.0.contains(&(stat.st_dev, stat.st_ino)) {
            return Some("its job has not ended".to_owned());
        }
        let wanted = format!("/{name}");
        self.processes.iter().find_map(|(pid, names)| match names {
            Some(names) => names.contains(&wanted).then(|| format!("process {pid} uses it")),
            None => Some(format!("process {pid} may use it: its arguments cannot be read")),
        })
    }
}

/// The account that started a process; `None` for one that has ended. The files of a process that
/// forbids inspection belong to root.
fn real_uid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_whitespace().next()?.parse().ok()
}

/// Arguments and environment. Reading them waits for the process's memory, forever if its owner
/// arranges it: see [`patient`]. What this account may not read counts as empty.
fn text_of(pid: u32) -> Vec<u8> {
    let mut text = Vec::new();
    for name in ["cmdline", "environ"] {
        if let Ok(file) = fs::File::open(format!("/proc/{pid}/{name}")) {
            // Permission may be refused only now.
            let _as_far_as_it_came = file.take(MOST).read_to_end(&mut text);
        }
        text.push(0);
    }
    text
}

/// Directory, root, program and open files, which the kernel reports without accessing memory or
/// file system.
fn links_of(pid: u32) -> String {
    let process = Path::new("/proc").join(pid.to_string());
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut names = String::new();
    for link in open.chain([process.join("cwd"), process.join("root"), process.join("exe")]) {
        if let Ok(target) = fs::read_link(link) {
            names.push('\0');
            names.push_str(&target.to_string_lossy());
        }
    }
    names
}
