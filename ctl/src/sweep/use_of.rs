//! Whether somebody still uses a temporary file: by its job's record, or by a process that has it open or names it.

use super::records::Found;
use nix::sys::stat::FileStat;
use std::fs;
use std::path::Path;

/// What is in use on this host, as far as this account can see.
pub(super) struct Live {
    /// Device and inode of the job directories whose jobs are not over.
    directories: Vec<(u64, u64)>,
    /// Of each process of root's or the runner's its number, and its arguments, environment, directory and open files as one
    /// text.
    processes: Vec<(u32, String)>,
}

impl Live {
    /// Processes of anybody else count for nothing and are not looked at: they could name every file to keep it, and reading
    /// the arguments of a process waits for its memory (proc_pid_cmdline(5)), which may lie on a file system of its user's
    /// that never answers. A stage's shepherd has the runner's real uid, or root starts it.
    pub(super) fn of(records: &[Found], runner: Option<u32>) -> Self {
        let live = records.iter().filter(|found| found.over.is_err());
        let directories = live.filter_map(|found| found.record.as_ref());
        let directories = directories.map(|r| (r.job_directory.device, r.job_directory.inode)).collect();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let own = std::process::id();
        let processes = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
        let processes = processes
            .filter(|pid| *pid != own && real_uid(*pid).is_some_and(|uid| uid == 0 || runner == Some(uid)));
        Live { directories, processes: processes.map(|pid| (pid, names_of(pid))).collect() }
    }

    /// Who uses it; none where nobody does. A process in another mount namespace has another path for it, so its name
    /// alone counts.
    pub(super) fn user_of(&self, stat: &FileStat, name: &str) -> Option<String> {
        if self.directories.contains(&(stat.st_dev, stat.st_ino)) {
            return Some("its job is not over".to_owned());
        }
        let wanted = format!("/{name}");
        let user = self.processes.iter().find(|(_, names)| names.contains(&wanted));
        user.map(|(pid, _)| format!("process {pid} uses it"))
    }
}

/// Who started a process; none for one that has ended. The owner of its files is root's for any that forbids inspection.
fn real_uid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_whitespace().next()?.parse().ok()
}

/// Everything by which a process names files. What this account may not read counts as nothing.
fn names_of(pid: u32) -> String {
    let process = Path::new("/proc").join(pid.to_string());
    let read = |file: &str| fs::read(process.join(file)).unwrap_or_default();
    let mut names = String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned();
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    for link in open.chain([process.join("cwd"), process.join("root"), process.join("exe")]) {
        if let Ok(target) = fs::read_link(link) {
            names.push('\0');
            names.push_str(&target.to_string_lossy());
        }
    }
    names
}
