//! What systemd changes for the programs that gitlab-runner starts: settings of its unit that
//! deprive `nunbird-auth` of its privilege, its files or the cgroups of jobs, and those that jobs
//! with limits need.
//!
//! A setting is not always the effective one: many imply `NoNewPrivileges=`, and `systemctl show`
//! does not report it (systemd.exec(5)). If the service runs, its main process is inspected as
//! well. `tests/tests/host_runner_unit.rs` shows on a booted host what each setting does to a job.

use crate::finding::Finding;
use crate::host_facts::JOBS;
use crate::patient;
use crate::runner_config::Service;
use crate::systemd::{self, Properties};
use nix::sys::statvfs::{FsFlags, statvfs};
use nunbird_cgroup::{Amounts, DiskAmounts, Way};
use nunbird_policy::{CgroupDriver, Downscope, Limits, Policy, RuleOutcome};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// The name in gitlab-runner's packages.
pub(crate) const DEFAULT: &str = "gitlab-runner.service";
/// How to get the settings of the package's drop-in.
const DROP_IN: &str = "mkdir -p /etc/systemd/system/UNIT.d && cp /opt/nunbird/share/gitlab-runner.service.d/10-nunbird.conf \
                       /etc/systemd/system/UNIT.d/ && systemctl daemon-reload && systemctl restart UNIT";
/// Tasks of gitlab-runner itself and of the processes that wait for the jobs.
const OWN_TASKS: u64 = 100;
/// The time limit of an inspection of what the runner's process sees.
const LOOK: Duration = Duration::from_secs(2);
/// `cap_setgid` and `cap_setuid` (linux/capability.h): systemd's name, bit.
const NEEDED: [(&str, u64); 2] = [("cap_setgid", 1 << 6), ("cap_setuid", 1 << 7)];
/// Settings that imply `NoNewPrivileges=` for a service with a `User=` (systemd.exec(5)), and their
/// values that do not.
const IMPLYING: [&str; 15] = [
    "DynamicUser",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "PrivateDevices",
    "ProtectClock",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "SystemCallArchitectures",
    "SystemCallFilter",
];
/// All other queried properties.
const PROPERTIES: [&str; 16] = [
    "LoadState",
    "MainPID",
    "User",
    "NoNewPrivileges",
    "PrivateUsers",
    "CapabilityBoundingSet",
    "SecureBits",
    "ProcSubset",
    "ProtectSystem",
    "ProtectHome",
    "ProtectControlGroups",
    "Delegate",
    "DelegateControllers",
    "KillMode",
    "TasksMax",
    "TimeoutStopUSec",
];

/// What the policy needs of the unit.
#[derive(Debug, Clone, Default)]
struct PolicyNeeds {
    /// Jobs run as another user than the runner's.
    privileged: bool,
    /// Some jobs have cgroups.
    groups: bool,
    /// cgroup v2 controllers that must be delegated; empty if jobs' cgroups are v1.
    delegated: BTreeSet<&'static str>,
    /// The most processes that one job may have, if all have such a limit.
    pids: Option<u64>,
    /// Jobs have PAM sessions, which should be closed on stop.
    sessions: bool,
    /// Concurrent jobs, from gitlab-runner's configuration.
    concurrent: u64,
    /// Seconds that a stopped runner waits for its jobs, likewise.
    shutdown: u64,
}

/// The main process of a running service.
#[derive(Debug, Clone, Default)]
struct RunnerProcess {
    /// `/proc/PID/status` (proc_pid_status(5)).
    status: String,
    /// Whether it cannot write job records.
    read_only: bool,
    /// Whether it sees only processes in `/proc`.
    blind: bool,
}

pub(crate) fn inspect(policy: &Policy, unit: &str, service: Service, findings: &mut Vec<Finding>) {
    let names = [PROPERTIES.as_slice(), IMPLYING.as_slice()].concat();
    let Some(properties) = systemd::show(unit, &names) else {
        return findings.push(Finding::remark(
            "runner-unit",
            format!("systemctl does not respond, so the settings of {unit} were not inspected"),
            format!("systemctl show {unit}"),
        ));
    };
    if properties.get("LoadState").map(String::as_str) != Some("loaded") {
        return findings.push(Finding::remark(
            "runner-unit",
            format!("there is no {unit}, so its settings were not inspected"),
            "name the runner's unit with --unit; it must not have NoNewPrivileges=yes",
        ));
    }
    let pid = properties.get("MainPID").and_then(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid > 0);
    findings.extend(judge(unit, &properties, pid.and_then(process).as_ref(), &needs(policy, service)));
}

fn process(pid: u32) -> Option<RunnerProcess> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // In its own mount namespace. Only root can look there.
    let root = format!("/proc/{pid}/root");
    // In a child: the runner chooses what is below its root, including a file system that never
    // responds.
    let looked = patient::once(LOOK, || {
        let records = statvfs(format!("{root}{JOBS}").as_str());
        let read_only = records.is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY));
        let blind = !Path::new(&format!("{root}/proc/sys/kernel")).exists()
            && Path::new(&format!("{root}/proc")).exists();
        vec![u8::from(read_only), u8::from(blind)]
    });
    let [read_only, blind] = looked.ok()??.try_into().ok()?;
    Some(RunnerProcess { status, read_only: read_only == 1, blind: blind == 1 })
}

fn needs(policy: &Policy, service: Service) -> PolicyNeeds {
    let admitting = policy.rules.iter().filter(|rule| !matches!(rule.outcome, RuleOutcome::Deny(_)));
    let limits: Vec<Option<&Limits>> = admitting.map(|rule| policy.limits_of(rule)).collect();
    // If every controller belongs to a v1 hierarchy, this file does not exist (cgroup-v2.rst).
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let delegated = limits.iter().flatten().filter(|limits| match limits.cgroup_driver {
        CgroupDriver::Auto => unified,
        CgroupDriver::CgroupfsV2 => true,
        CgroupDriver::CgroupfsV1 | CgroupDriver::Systemd => false,
    });
    let pids: Option<Vec<u64>> = limits
        .iter()
        .map(|limits| limits.and_then(|limits| limits.maximum.pids.max(limits.amounts.pids)))
        .collect();
    PolicyNeeds {
        privileged: policy.downscope != Downscope::None,
        // Those that systemd makes are not below this unit.
        groups: limits.iter().flatten().any(|limits| limits.cgroup_driver != CgroupDriver::Systemd),
        delegated: delegated.flat_map(|limits| controllers(limits)).collect(),
        pids: pids.and_then(|all| all.into_iter().max()),
        sessions: policy.pam.is_some(),
        concurrent: service.concurrent,
        shutdown: service.shutdown,
    }
}

fn controllers(limits: &Limits) -> Vec<&'static str> {
    let nunbird_handover::Amounts { memory, swap, cpu, pids, io_weight } = limits.amounts;
    let (memory, cpu) = (memory.or(limits.maximum.memory), cpu.or(limits.maximum.cpu));
    // Only whether there are any matters.
    let disks = limits.disks.iter().map(|_| DiskAmounts::default()).collect();
    Amounts { memory, swap, cpu, pids: pids.or(limits.maximum.pids), io_weight, disks }
        .controllers(Way::Unified)
}

/// A time span as systemctl(1) prints it, `1min 30s`; `None` for `infinity` and for what cannot be
/// parsed.
fn seconds(text: &str) -> Option<u64> {
    let part = |part: &str| {
        let digits = part.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = part.get(..digits)?.parse().ok()?;
        let unit = match part.get(digits..)? {
            "ms" | "us" => return Some(0),
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        number.checked_mul(unit)
    };
    if text.is_empty() {
        return None;
    }
    text.split_whitespace().try_fold(0_u64, |sum, text| sum.checked_add(part(text)?))
}

fn judge(
    unit: &str,
    properties: &Properties,
    process: Option<&RunnerProcess>,
    needs: &PolicyNeeds,
) -> Vec<Finding> {
    let mut unit = Unit { unit, properties, process, findings: Vec::new() };
    if needs.privileged {
        unit.privilege();
        unit.files();
    }
    unit.groups(needs);
    unit.time_to_stop(needs);
    unit.findings
}

struct Unit<'a> {
    unit: &'a str,
    properties: &'a Properties,
    process: Option<&'a RunnerProcess>,
    findings: Vec<Finding>,
}

impl Unit<'_> {
    /// A property's value, empty if systemd does not know it.
    fn value(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }

    /// A field of the main process's status.
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.process?.status.lines();
        lines
            .filter_map(|line| line.split_once(':'))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.trim())
    }

    fn error(&mut self, what: &str, setting: &str) {
        let help = format!("systemctl edit {}: `{setting}` under [Service], and restart it", self.unit);
        self.findings.push(Finding::error("runner-unit", format!("{} {what}", self.unit), help));
    }

    /// Something that the package's drop-in fixes.
    fn lacks(&mut self, make: fn(&'static str, String, String) -> Finding, what: &str) {
        let help = DROP_IN.replace("UNIT", self.unit);
        self.findings.push(make("runner-unit", format!("{} {what}", self.unit), help));
    }

    /// systemd kills what is left after its own timeout, whatever gitlab-runner still waits for.
    fn time_to_stop(&mut self, needs: &PolicyNeeds) {
        let Some(stop) = seconds(self.value("TimeoutStopUSec")) else { return };
        if stop <= needs.shutdown {
            let what = format!(
                "has TimeoutStopSec={stop}, but gitlab-runner's shutdown_timeout is {} s",
                needs.shutdown
            );
            let more = needs.shutdown.saturating_add(30);
            let help = format!("systemctl edit {}: `TimeoutStopSec={more}` under [Service]", self.unit);
            self.findings.push(Finding::remark("runner-patience", format!("{} {what}", self.unit), help));
        }
    }

    fn is_roots(&self) -> bool {
        matches!(self.value("User"), "" | "root" | "0")
    }

    /// What prevents a setuid bit, file capabilities, sudo or a root runner from becoming another
    /// user.
    fn privilege(&mut self) {
        if !self.is_roots() {
            self.no_new_privileges();
        }
        if self.value("PrivateUsers") == "yes" {
            let what = "has PrivateUsers=yes: in its user namespace no job can become its user";
            self.error(what, "PrivateUsers=no");
        }
        if !matches!(self.value("SecureBits"), "" | "0") {
            let what = format!(
                "has SecureBits={}, with which nunbird-auth refuses every job",
                self.value("SecureBits")
            );
            self.error(&what, "SecureBits=");
        }
        let bound = self.field("CapBnd").and_then(|mask| u64::from_str_radix(mask, 16).ok());
        let set = self.value("CapabilityBoundingSet");
        let has = |name: &str, bit: u64| match bound {
            Some(mask) => mask & bit != 0,
            None => {
                !self.properties.contains_key("CapabilityBoundingSet")
                    || set.split(' ').any(|has| has == name)
            }
        };
        let missing: Vec<_> =
            NEEDED.iter().filter(|(name, bit)| !has(name, *bit)).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            let what = format!(
                "has a CapabilityBoundingSet without {}, so no job can become its user",
                missing.join(", ")
            );
            self.error(&what, &format!("CapabilityBoundingSet={}", missing.join(" ").to_uppercase()));
        }
    }

    fn no_new_privileges(&mut self) {
        let implying: Vec<&str> =
            IMPLYING.into_iter().filter(|name| !matches!(self.value(name), "" | "no" | "0" | "~")).collect();
        let inert = "makes the setuid bit and the capabilities of nunbird-auth ineffective";
        if self.value("NoNewPrivileges") == "yes" {
            self.error(&format!("has NoNewPrivileges=yes, which {inert}"), "NoNewPrivileges=no");
        } else if self.field("NoNewPrivs") == Some("1") {
            let settings: Vec<String> = implying.iter().map(|name| format!("{name}=")).collect();
            let cause = match settings.is_empty() {
                true => "whatever started systemd's service so".to_owned(),
                false => settings.join(", "),
            };
            self.error(
                &format!("runs with no_new_privs, implied by {cause}, which {inert}"),
                &settings.join(" "),
            );
        } else if self.process.is_none() && !implying.is_empty() {
            let message = format!(
                "{} does not run, and with its {} it may get no_new_privs, which {inert}",
                self.unit,
                implying.join(", ")
            );
            let help = format!("systemctl start {}, and run this again", self.unit);
            self.findings.push(Finding::remark("runner-unit", message, help));
        }
    }

    /// Directories that the service, and so no stage of a job, can write or see.
    fn files(&mut self) {
        // A kernel or container that does not support it ignores it silently.
        if self.value("ProcSubset") == "pid" && self.process.is_none_or(|process| process.blind) {
            self.error(
                "has ProcSubset=pid, which hides the boot id, so no job is admitted",
                "ProcSubset=all",
            );
        }
        let strict = self.value("ProtectSystem") == "strict";
        if self.process.map_or(strict, |process| process.read_only) {
            let what = format!("cannot write below {JOBS} (ProtectSystem={})", self.value("ProtectSystem"));
            self.error(&what, "ProtectSystem=full");
        }
        let home = self.value("ProtectHome");
        if matches!(home, "yes" | "read-only" | "tmpfs") {
            let what = format!("has ProtectHome={home}, so no job can find or write its home directory");
            self.error(&what, "ProtectHome=no");
        }
    }

    /// What the cgroups of jobs need, and all jobs when the service is stopped.
    fn groups(&mut self, needs: &PolicyNeeds) {
        if needs.groups && self.value("ProtectControlGroups") == "yes" {
            self.error(
                "has ProtectControlGroups=yes, so jobs cannot get their limits",
                "ProtectControlGroups=no",
            );
        }
        let given: Vec<&str> = self.value("DelegateControllers").split(' ').collect();
        let missing: Vec<&str> =
            needs.delegated.iter().copied().filter(|name| !given.contains(name)).collect();
        if !needs.delegated.is_empty() && self.value("Delegate") != "yes" {
            self.lacks(Finding::error, "has no Delegate=yes, without which jobs cannot get their limits");
        } else if !missing.is_empty() {
            let what = format!(
                "delegates {}, but limits of jobs also need {}",
                given.join(", "),
                missing.join(", ")
            );
            self.lacks(Finding::error, &what);
        }
        let kill = self.value("KillMode").to_owned();
        if needs.sessions && kill == "mixed" {
            let what = "has KillMode=mixed, which kills PAM sessions as soon as gitlab-runner has \
                        ended: they are not closed";
            self.lacks(Finding::remark, what);
        }
        if !matches!(kill.as_str(), "" | "control-group" | "mixed") {
            let (make, more): (fn(_, _, _) -> _, _) = match needs.delegated.is_empty() {
                true => (Finding::remark, ""),
                false => (Finding::error, ", and systemd cannot start it again above their cgroups"),
            };
            self.lacks(make, &format!("has KillMode={kill}: jobs outlive its stop{more}"));
        }
        let most = self.value("TasksMax").parse::<u64>().ok().filter(|most| *most != u64::MAX);
        let wanted = needs.pids.map(|pids| pids.saturating_mul(needs.concurrent).saturating_add(OWN_TASKS));
        if let (Some(most), Some(wanted)) = (most, wanted)
            && most < wanted
        {
            let what = format!(
                "has TasksMax={most}, but {} concurrent jobs may have {wanted} processes including the runner's own",
                needs.concurrent
            );
            self.lacks(Finding::remark, &what);
        }
    }
}

#[cfg(test)]
#[path = "runner_unit_tests.rs"]
mod tests;
