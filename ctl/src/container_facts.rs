//! What containers need of this host: the engine, user namespaces, control groups, /dev/fuse, and a
//! store on a local disk. Only for containers that some jobs run in. [`crate::subid_facts`] has the
//! ids.
//!
//! What an engine needs is in its description.

use crate::finding::Finding;
use crate::subid_facts;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nunbird_container::description::{Description, Version};
use nunbird_container::networks::network;
use nunbird_container::outer::search_path;
use nunbird_handover::Untrusted;
use nunbird_policy::{ContainerPolicy, Job, Policy, RuleOutcome, RunAs};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Time for an engine to say its version.
const LONGEST: Duration = Duration::from_secs(10);
/// The most that is read of it.
const MOST: u64 = 4096;
/// nobody(7): root runs no program of others as itself.
const NOBODY: u32 = 65_534;

/// A container that jobs run in.
struct Used<'p> {
    from: &'p ContainerPolicy,
    /// Whether setuid programs have no effect in all of these jobs.
    one_id: bool,
    description: Description,
}

pub(crate) fn inspect(policy: &Policy, findings: &mut Vec<Finding>) {
    let used: Vec<Used<'_>> =
        policy.containers.values().filter_map(|from| used(policy, from, findings)).collect();
    for one in &used {
        engine(one, findings);
        store(policy, one, findings);
    }
    namespaces(&used, findings);
    let title = |needs: &dyn Fn(&Used<'_>) -> bool| {
        used.iter().find(|one| needs(one)).map(|one| one.description.title.as_str())
    };
    if let Some(title) = title(&|one| one.description.host.one_cgroup_version) {
        control_groups(title, findings);
    }
    if let Some(title) = title(&|one| one.description.host.fuse) {
        fuse(title, findings);
    }
    if let Some(title) = title(&|one| one.description.namespace.is_some() && !one.one_id) {
        subid_facts::inspect(policy, title, findings);
    }
}

fn used<'p>(policy: &Policy, from: &'p ContainerPolicy, findings: &mut Vec<Finding>) -> Option<Used<'p>> {
    let profiles = policy.profiles.values().map(|profile| &profile.job);
    let all = std::iter::once(&policy.job).chain(profiles);
    let jobs: Vec<&Job> = all.filter(|job| job.container.as_ref() == Some(&from.name)).collect();
    if jobs.is_empty() {
        return None;
    }
    match Description::of(&from.engine) {
        Ok(description) => {
            let one_id = jobs.iter().all(|job| job.isolation.no_new_privileges);
            Some(Used { from, one_id, description })
        }
        Err(why) => {
            let message = format!("[container.{}]: {}", from.name, why.lines().next().unwrap_or_default());
            let help =
                "every job in this container fails until it is corrected; docs/containers.md lists the keys";
            findings.push(Finding::error("engine", message, help).at(from.place.to_string()));
            None
        }
    }
}

/// Whether the engine is where jobs look for it, and not older than its description.
fn engine(one: &Used<'_>, findings: &mut Vec<Finding>) {
    let Used { from, description, .. } = one;
    let wanted = match &from.program {
        Some(program) => program.clone(),
        None => PathBuf::from(&description.program),
    };
    let path = from.environment.get("PATH").map_or(search_path(), String::as_str);
    let found = match wanted.is_absolute() {
        true => Some(wanted.clone()),
        false => std::env::split_paths(path).map(|place| place.join(&wanted)).find(|file| is_program(file)),
    };
    let Some(program) = found.filter(|file| is_program(file)) else {
        let place = if wanted.is_absolute() { String::new() } else { format!(" in {path}") };
        let message =
            format!("[container.{}]: no program {}{place}", from.name, Untrusted(&wanted.to_string_lossy()));
        let help = format!(
            "install {} on this host and on the nodes where jobs run, or set `program`, or `PATH` in `environment`",
            description.title
        );
        findings.push(Finding::error("engine", message, help).at(from.place.to_string()));
        return;
    };
    let Some(version) = &description.version else { return };
    match said_version(version, &program, path) {
        Ok(said) if is_older(&said, &version.oldest) => {
            let message = format!(
                "{} is {} {said}; the description of it is for {} and later",
                program.display(),
                description.title,
                version.oldest
            );
            findings.push(Finding::remark("engine", message, "install a newer one"));
        }
        Ok(_) => {}
        Err(why) => {
            let message = format!("{} does not say its version: {why}", program.display());
            findings.push(Finding::remark("engine", message, "see whether it runs at all"));
        }
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn said_version(version: &Version, program: &Path, path: &str) -> Result<String, String> {
    let words = version.command.iter().map(|word| word.replace("{program}", &program.display().to_string()));
    let words: Vec<String> = words.collect();
    let (first, rest) = words.split_first().ok_or("it has no command for that")?;
    let mut command = Command::new(first);
    command
        .args(rest)
        .env_clear()
        .env("PATH", path)
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/")
        .env("USER", "nobody")
        .current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let end = Instant::now() + LONGEST;
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if Instant::now() >= end {
            drop(child.kill());
            drop(child.wait());
            return Err("it did not end in time".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // Some engines say it as an error.
    let mut said = Vec::new();
    let streams: [Option<Box<dyn Read>>; 2] = [
        child.stdout.take().map(|out| Box::new(out) as _),
        child.stderr.take().map(|err| Box::new(err) as _),
    ];
    for stream in streams.into_iter().flatten() {
        stream.take(MOST).read_to_end(&mut said).map_err(|e| e.to_string())?;
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    let found = version.found.0.captures(&said).and_then(|found| Some(found.get(1)?.as_str().to_owned()));
    found.ok_or_else(|| Untrusted(said.lines().next().unwrap_or("it says nothing")).to_string())
}

/// Compares numbers between dots; what is no number ends the comparison.
fn is_older(version: &str, oldest: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> { text.split('.').map_while(|part| part.parse().ok()).collect() };
    numbers(version) < numbers(oldest)
}

fn setting(name: &str) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().to_owned())
}

fn namespaces(used: &[Used<'_>], findings: &mut Vec<Finding>) {
    let needs = |one: &&Used<'_>| one.description.host.user_namespaces;
    let Some(first) = used.iter().find(needs).or(used.first()) else { return };
    let title = &first.description.title;
    let mut find = |message: String, help: &str| {
        findings.push(match first.description.host.user_namespaces {
            true => Finding::error(
                "user-namespaces",
                format!("{message}, so no container of {title} starts"),
                help,
            ),
            false => {
                let less = format!("{message}, so {title} needs its setuid program and can do less");
                Finding::remark("user-namespaces", less, help)
            }
        });
    };
    if setting("user/max_user_namespaces").is_some_and(|value| value == "0") {
        find("user.max_user_namespaces is 0".to_owned(), "sysctl user.max_user_namespaces=15000");
    }
    if setting("kernel/unprivileged_userns_clone").is_some_and(|value| value == "0") {
        find("kernel.unprivileged_userns_clone is 0".to_owned(), "sysctl kernel.unprivileged_userns_clone=1");
    }
    if !Path::new("/proc/self/ns/user").exists() {
        find("the kernel has no user namespaces".to_owned(), "use a kernel with CONFIG_USER_NS");
    }
    if setting("kernel/apparmor_restrict_unprivileged_userns").is_some_and(|value| value == "1") {
        findings.push(Finding::remark(
            "user-namespaces",
            format!(
                "AppArmor gives user namespaces only to programs with a profile that says `userns`; without one no container of {title} starts"
            ),
            "load such a profile for the engine and for unshare(1), or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ));
    }
}

/// The container stays in the group of its job, so nothing has to be delegated; but there must be one
/// version of them.
fn control_groups(title: &str, findings: &mut Vec<Finding>) {
    let is_version_2 =
        |path: &str| statfs(path).is_ok_and(|status| status.filesystem_type() == CGROUP2_SUPER_MAGIC);
    if !is_version_2("/sys/fs/cgroup") && is_version_2("/sys/fs/cgroup/unified") {
        findings.push(Finding::error(
            "control-groups",
            format!("both versions of control groups are mounted, where {title} starts no container"),
            "boot with systemd.unified_cgroup_hierarchy=1, or unmount /sys/fs/cgroup/unified",
        ));
    }
}

fn fuse(title: &str, findings: &mut Vec<Finding>) {
    let help =
        "modprobe fuse, and chmod 666 /dev/fuse (udev does so where the kernel module is loaded at boot)";
    match Path::new("/dev/fuse").metadata() {
        Ok(meta) if meta.permissions().mode() & 0o006 == 0o006 => {}
        Ok(meta) => {
            let mode = meta.permissions().mode() & 0o777;
            let message = format!(
                "/dev/fuse has mode {mode:04o}, so accounts cannot use it: {title} works only where the kernel mounts for it"
            );
            findings.push(Finding::remark("fuse", message, help));
        }
        Err(e) => {
            let message = format!("/dev/fuse: {e}: {title} works only where the kernel mounts for it");
            findings.push(Finding::remark("fuse", message, help));
        }
    }
}

/// The store's directory, or the nearest one above it that is there.
fn store(policy: &Policy, one: &Used<'_>, findings: &mut Vec<Finding>) {
    if !one.description.has_store() {
        return;
    }
    for store in stores(policy, one.from) {
        let Some(there) = store.ancestors().find(|path| path.exists()) else { continue };
        if let Some(kind) = network(there) {
            let message = format!(
                "[container.{}]: {} is on {kind}, where {} keeps no images: owners, links and locks of other ids do not work there",
                one.from.name,
                there.display(),
                one.description.title
            );
            let help = "set `store` to a directory on a local disk, such as /var/tmp/nunbird-$UID";
            findings.push(Finding::error("store", message, help).at(one.from.place.to_string()));
            return;
        }
    }
}

/// For the accounts that rules name, and else the part that does not depend on the account.
fn stores(policy: &Policy, from: &ContainerPolicy) -> Vec<PathBuf> {
    let Some(template) = &from.store else { return vec![PathBuf::from("/var/tmp")] };
    let host = crate::host::ThisHost::default();
    let named = policy.rules.iter().filter_map(|rule| match &rule.outcome {
        RuleOutcome::RunAs(RunAs::Account(name)) => Some(name),
        _ => None,
    });
    let of_account = |name: &String| {
        let account = nunbird_policy::Host::account(&host, name).ok()??;
        nunbird_policy::account_path(template, &account)
    };
    let fixed = template.split('$').next().filter(|fixed| !fixed.is_empty()).map(PathBuf::from);
    named.filter_map(of_account).chain(fixed).collect()
}

#[cfg(test)]
mod tests {
    use super::is_older;

    #[test]
    fn versions_are_compared_number_by_number() {
        for (version, oldest, expected) in [
            ("4.3.1", "4.3", false),
            ("4.10", "4.3", false),
            ("3.4.4", "4.3", true),
            ("0.31", "0.31", false),
            ("0.31~pre", "0.31", true),
            ("1.4.5-1", "1.3", false),
        ] {
            assert_eq!(is_older(version, oldest), expected, "{version} {oldest}");
        }
    }
}
