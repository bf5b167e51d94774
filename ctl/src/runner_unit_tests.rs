use super::{PolicyNeeds, RunnerProcess, judge};
use crate::systemd::{Properties, parse};

/// What systemd 252 prints for a service with `User=`, `Delegate=yes` and nothing else.
const SHOWN: &str = "\
MainPID=43
Delegate=yes
DelegateControllers=cpu cpuset io memory pids
TasksMax=28909
SecureBits=0
CapabilityBoundingSet=cap_chown cap_dac_override cap_kill cap_setgid cap_setuid cap_setpcap cap_sys_admin
User=gitlab-runner
DynamicUser=no
PrivateDevices=no
ProtectClock=no
ProtectControlGroups=no
PrivateUsers=no
ProtectHome=no
ProtectSystem=no
NoNewPrivileges=no
SystemCallFilter=~
SystemCallArchitectures=
LockPersonality=no
RestrictAddressFamilies=~
RestrictSUIDSGID=no
RestrictNamespaces=no
ProcSubset=all
KillMode=control-group
TimeoutStopUSec=2h 30s
LoadState=loaded
";

/// The relevant part of `/proc/PID/status`, of a service without restrictions.
const STATUS: &str =
    "Name:\tgitlab-runner\nUid:\t990\t990\t990\t990\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\n";

fn shown(from: &str, to: &str) -> Properties {
    assert!(SHOWN.contains(from), "{from}");
    parse(SHOWN.replace(from, to).as_bytes())
}

fn running(from: &str, to: &str) -> RunnerProcess {
    assert!(STATUS.contains(from), "{from}");
    RunnerProcess { status: STATUS.replace(from, to), ..RunnerProcess::default() }
}

fn needs() -> PolicyNeeds {
    PolicyNeeds {
        privileged: true,
        groups: true,
        delegated: ["memory", "pids"].into(),
        pids: Some(500),
        sessions: false,
        concurrent: 4,
        shutdown: 120,
    }
}

/// Every finding, as it is printed.
fn found(properties: &Properties, process: Option<&RunnerProcess>, needs: &PolicyNeeds) -> Vec<String> {
    judge("ci.service", properties, process, needs).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_one(found: &[String], words: &[&str]) {
    assert!(found.len() == 1 && words.iter().all(|words| found[0].contains(words)), "{words:?}: {found:#?}");
}

#[test]
fn a_plain_unit_with_delegation_has_all_that_jobs_need() {
    let plain = parse(SHOWN.as_bytes());
    assert_eq!(found(&plain, Some(&running("", "")), &needs()), Vec::<String>::new());
    assert_eq!(found(&plain, None, &needs()), Vec::<String>::new());
}

#[test]
fn what_keeps_jobs_from_their_limits_is_found_with_the_way_out() {
    let of = |from: &str, to: &str| found(&shown(from, to), None, &needs());
    let help =
        "cp /opt/nunbird/share/gitlab-runner.service.d/10-nunbird.conf /etc/systemd/system/ci.service.d/";
    assert_one(
        &of("Delegate=yes", "Delegate=no"),
        &["error[runner-unit]: ci.service has no Delegate=yes", help],
    );
    assert_one(
        &of("io memory pids", "io"),
        &["error", "delegates cpu, cpuset, io,", "need memory, pids", help],
    );
    assert_one(&of("KillMode=control-group", "KillMode=process"), &["error", "cannot start it again", help]);
    assert_one(
        &of("=28909", "=2000"),
        &["remark", "TasksMax=2000, but 4 concurrent jobs may have 2100", help],
    );
    assert_one(&of("Groups=no", "Groups=yes"), &["error", "ProtectControlGroups=no` under [Service]"]);
    assert_eq!(of("=28909", "=infinity"), Vec::<String>::new());
    assert_eq!(of("=28909", "=18446744073709551615"), Vec::<String>::new());
    assert_eq!(of("KillMode=control-group", "KillMode=mixed"), Vec::<String>::new());
    let sessions = PolicyNeeds { sessions: true, ..needs() };
    assert_one(
        &found(&shown("KillMode=control-group", "KillMode=mixed"), None, &sessions),
        &["remark", "KillMode=mixed", "they are not closed", help],
    );
}

#[test]
fn jobs_without_control_groups_need_no_delegation() {
    let without = PolicyNeeds { groups: false, delegated: [].into(), pids: None, ..needs() };
    let of = |from: &str, to: &str| found(&shown(from, to), None, &without);
    for (from, to) in [("Delegate=yes", "Delegate=no"), ("=28909", "=50"), ("Groups=no", "Groups=yes")] {
        assert_eq!(of(from, to), Vec::<String>::new(), "{to}");
    }
    assert_one(&of("KillMode=control-group", "KillMode=none"), &["remark", "jobs outlive its stop\n"]);
}

#[test]
fn what_leaves_the_privileged_program_without_privilege_is_found() {
    let of = |from: &str, to: &str| found(&shown(from, to), None, &needs());
    assert_one(
        &of("NewPrivileges=no", "NewPrivileges=yes"),
        &["error", "NoNewPrivileges=yes", "`NoNewPrivileges=no`"],
    );
    assert_one(&of("PrivateUsers=no", "PrivateUsers=yes"), &["error", "PrivateUsers=yes"]);
    assert_one(&of("SecureBits=0", "SecureBits=4"), &["error", "SecureBits=4"]);
    assert_one(
        &of("cap_setgid ", ""),
        &["error", "without cap_setgid,", "`CapabilityBoundingSet=CAP_SETGID`"],
    );
    assert_one(&of("SUIDSGID=no", "SUIDSGID=yes"), &["remark", "does not run", "RestrictSUIDSGID"]);
    assert_one(
        &of("ProtectSystem=no", "ProtectSystem=strict"),
        &["error", "cannot write below /var/lib/nunbird/jobs"],
    );
    assert_one(&of("ProtectHome=no", "ProtectHome=read-only"), &["error", "ProtectHome=read-only"]);
    assert_one(&of("ProcSubset=all", "ProcSubset=pid"), &["error", "ProcSubset=pid"]);
}

#[test]
fn the_process_itself_says_more_than_the_settings_of_its_unit() {
    let of = |from: &str, to: &str, process: &RunnerProcess| found(&shown(from, to), Some(process), &needs());
    let inert = running("NoNewPrivs:\t0", "NoNewPrivs:\t1");
    let words = ["error", "implied by LockPersonality=, which", "`LockPersonality=` under"];
    assert_one(&of("LockPersonality=no", "LockPersonality=yes", &inert), &words);
    assert_one(&of("", "", &inert), &["error", "implied by whatever started"]);
    let free = running("", "");
    assert_eq!(of("LockPersonality=no", "LockPersonality=yes", &free), Vec::<String>::new());
    // ReadWritePaths= and kernels that cannot.
    assert_eq!(of("ProtectSystem=no", "ProtectSystem=strict", &free), Vec::<String>::new());
    assert_eq!(of("ProcSubset=all", "ProcSubset=pid", &free), Vec::<String>::new());
    assert_one(&of("", "", &running("1ffffffffff", "1ffffffff7f")), &["error", "without cap_setuid,"]);
    let read_only = RunnerProcess { read_only: true, ..free };
    assert_one(&of("", "", &read_only), &["error", "cannot write"]);
}

#[test]
fn a_root_runner_needs_no_new_privileges_and_jobs_of_ones_own_none_at_all() {
    let root = shown("User=gitlab-runner", "User=");
    let inert = running("NoNewPrivs:\t0", "NoNewPrivs:\t1");
    assert_eq!(found(&root, Some(&inert), &needs()), Vec::<String>::new());
    let own = PolicyNeeds { privileged: false, ..needs() };
    let all = shown("PrivateUsers=no\nProtectHome=no", "PrivateUsers=yes\nProtectHome=yes");
    assert_eq!(found(&all, Some(&inert), &own), Vec::<String>::new());
    assert_eq!(found(&all, Some(&inert), &needs()).len(), 3);
}

#[test]
fn a_unit_that_is_killed_before_its_runner_has_waited_for_its_jobs_is_found() {
    let with = |to: &str| found(&shown("TimeoutStopUSec=2h 30s", to), Some(&running("", "")), &needs());
    for enough in ["TimeoutStopUSec=2min 1s", "TimeoutStopUSec=infinity", "TimeoutStopUSec=1d 500ms", "X=1"] {
        assert_eq!(with(enough), Vec::<String>::new(), "{enough}");
    }
    assert_one(
        &with("TimeoutStopUSec=1min 30s"),
        &["TimeoutStopSec=90", "shutdown_timeout is 120 s", "TimeoutStopSec=150"],
    );
}
