//! Whether somebody still uses a temporary file: by its job's record, or by a process that has it open or names it.

use super::records::Found;
use nix::sys::stat::FileStat;
use std::fs;
use std::path::Path;

/// What is in use on this host, as far as this account can see.
pub(super) struct Live {
    /// Device and inode of the job directories whose jobs are not over.
    directories: Vec<(u64, u64)>,
    /// Of each process its number, and its arguments, environment, directory and open files as one text.
    processes: Vec<(u32, String)>,
}

impl Live {
    pub(super) fn of(records: &[Found]) -> Self {
        let live = records.iter().filter(|found| found.over.is_err());
        let directories = live.filter_map(|found| found.record.as_ref());
        let directories = directories.map(|r| (r.job_directory.device, r.job_directory.inode)).collect();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let own = std::process::id();
        let processes =
            entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(|pid| *pid != own);
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
