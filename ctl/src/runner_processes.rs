//! Processes of gitlab-runner that run now, and the unit that systemd runs them as.

use std::fs;

/// The pids of an account's processes by their real uid, which the jobs' shepherds have as well; of
/// root's processes, which include much else, those that are called gitlab-runner.
pub(crate) fn of(uid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<u32> = numbers.filter(|pid| is_one(*pid, uid)).collect();
    found.sort_unstable();
    found
}

fn is_one(pid: u32, uid: u32) -> bool {
    // The files of a process that forbids inspection belong to root.
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let real = field("Uid:").and_then(|uids| uids.split_whitespace().next()?.parse::<u32>().ok());
    real == Some(uid) && (uid != 0 || field("Name:") == Some("gitlab-runner"))
}

/// The service that one of these processes belongs to, by its cgroup; `None` if none of them
/// belongs to a service.
pub(crate) fn unit(processes: &[u32]) -> Option<String> {
    processes.iter().find_map(|pid| unit_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?))
}

/// From `/proc/PID/cgroup` (cgroups(7)). A login of the account is not a runner.
fn unit_in(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let services = paths.filter(|path| !path.starts_with("/user.slice/"));
    services.flat_map(|path| path.split('/').rev()).find(|part| part.ends_with(".service")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::unit_in;

    #[test]
    fn a_service_is_found_by_its_group_and_a_login_is_none() {
        let unit = |text: &str| unit_in(text);
        let ci = Some("ci-runner.service".to_owned());
        assert_eq!(unit("0::/system.slice/ci-runner.service/runner\n"), ci);
        assert_eq!(unit("4:memory:/system.slice/ci-runner.service\n1:name=systemd:/x\n0::/\n"), ci);
        assert_eq!(unit("0::/user.slice/user-990.slice/user@990.service/app.slice/x.service\n"), None);
        assert_eq!(unit("0::/system.slice/x.scope\nnonsense\n"), None);
    }
}
