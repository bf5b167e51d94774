//! The runner's unit under a real systemd: which settings prevent jobs from running, whether
//! `nunbirdctl doctor` reports them, and the drop-in of the package.

use nunbird_tests::host::RUNNER_UNIT;
use nunbird_tests::{Host, needs};
use serde_json::Value;

const AUTH: &str = "/opt/nunbird/bin/nunbird-auth";
const LIMITS: &str =
    "[limits.small]\nmemory = \"96MiB\"\npids = 60\nway = \"v1\"\n\n[job]\nlimits = \"small\"\n";

/// Settings of the unit, and doctor's message for each; empty if jobs run. `SOCKET` is the
/// directory that the tests' runner itself must write.
const SETTINGS: [(&str, &str); 21] = [
    ("Nice=1", ""),
    ("NoNewPrivileges=yes", "NoNewPrivileges=yes"),
    ("RestrictSUIDSGID=yes", "implied by RestrictSUIDSGID="),
    ("LockPersonality=yes", "implied by LockPersonality="),
    ("SystemCallArchitectures=native", "implied by SystemCallArchitectures="),
    ("PrivateDevices=yes", "implied by PrivateDevices="),
    ("ProtectKernelTunables=yes", "implied by ProtectKernelTunables="),
    ("RestrictNamespaces=yes", "implied by RestrictNamespaces="),
    ("RestrictAddressFamilies=AF_UNIX AF_INET", "implied by RestrictAddressFamilies="),
    ("MemoryDenyWriteExecute=yes", "implied by MemoryDenyWriteExecute="),
    ("PrivateUsers=yes", "PrivateUsers=yes"),
    ("CapabilityBoundingSet=CAP_SETUID CAP_SETGID", ""),
    ("CapabilityBoundingSet=~CAP_SETGID", "without cap_setgid,"),
    ("SecureBits=noroot", "SecureBits=1"),
    ("ProtectSystem=full", ""),
    ("ProtectSystem=strict\\nReadWritePaths=SOCKET", "cannot write below /var/lib/nunbird/jobs"),
    ("ProtectSystem=strict\\nReadWritePaths=SOCKET /var/lib/nunbird /var/log/nunbird /home", ""),
    ("ProtectHome=yes", "ProtectHome=yes"),
    ("ProtectHome=read-only", "ProtectHome=read-only"),
    ("ProtectControlGroups=yes", "ProtectControlGroups=yes"),
    ("ProtectProc=invisible", ""),
];

/// Applies these settings.
fn set(host: &Host, settings: &str) {
    let socket = host.world().runner_directory();
    let settings = settings.replace("SOCKET", &socket.display().to_string());
    let place = format!("/etc/systemd/system/{RUNNER_UNIT}.d");
    host.root(&format!("mkdir -p {place} && printf '[Service]\\n{settings}\\n' >{place}/settings.conf"))
        .success();
    host.root(&format!("systemctl daemon-reload && systemctl restart {RUNNER_UNIT}")).success();
}

/// doctor's findings about the unit, as `severity message`.
fn doctor(host: &Host) -> Vec<String> {
    let runner = &host.world().runner().name;
    let said = host.root(&format!("/opt/nunbird/bin/nunbirdctl doctor --format json --runner-user {runner}"));
    let answer: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let findings = answer["findings"].as_array().expect("findings").iter();
    let of_unit = findings.filter(|finding| finding["code"] == "runner-unit");
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("a text").to_owned();
    of_unit.map(|finding| format!("{} {}", text(finding, "severity"), text(finding, "message"))).collect()
}

fn runs(host: &Host) -> bool {
    host.world().job().script("echo I am $(id -un)").run().log().contains("I am alice")
}

#[needs(host)]
fn doctor_finds_each_setting_of_the_runners_unit_that_keeps_jobs_from_running() {
    let host = Host::boot();
    host.world().write_keys();
    host.world().reconfigure("[job]\n", LIMITS);
    let with_capabilities = format!("chmod 0750 {AUTH} && setcap cap_setuid,cap_setgid=p {AUTH}");
    for (privilege, how) in [("setuid", "true"), ("file capabilities", with_capabilities.as_str())] {
        host.root(how).success();
        let all = SETTINGS.iter().filter(|(settings, _)| {
            privilege == "setuid" || settings.contains("Privileges") || settings.contains("Capab")
        });
        for (settings, words) in all {
            set(&host, settings);
            let said = doctor(&host);
            assert_eq!(runs(&host), words.is_empty(), "{privilege}: {settings}: {said:?}");
            match words.is_empty() {
                true => assert_eq!(said, Vec::<String>::new(), "{privilege}: {settings}"),
                false => assert!(
                    said.len() == 1
                        && said[0].starts_with(&format!("error {RUNNER_UNIT} "))
                        && said[0].contains(words),
                    "{privilege}: {settings}: {said:?}"
                ),
            }
        }
    }
    set(&host, "KillMode=process\\nTasksMax=50");
    let said = doctor(&host).join("\n");
    assert!(
        said.contains("KillMode=process: jobs outlive")
            && said.contains("TasksMax=50, but 1 concurrent jobs"),
        "{said}"
    );
    host.root(&format!("systemctl stop {RUNNER_UNIT}")).success();
    let said = doctor(&host).join("\n");
    assert!(said.contains("there is no gitlab-runner.service"), "{said}");
}

#[needs(host)]
fn jobs_with_limits_run_below_the_runners_service_with_the_packages_drop_in() {
    let host = Host::boot();
    host.world().write_keys();
    host.world().reconfigure("[job]\n", LIMITS);
    let unit = host.world().host_path("/etc/systemd/system").join(RUNNER_UNIT);
    let text = std::fs::read_to_string(&unit).expect("a unit");
    assert!(text.contains("Delegate=yes\n"));
    std::fs::write(&unit, text.replace("Delegate=yes\n", "")).expect("a unit");
    let shown = "systemctl show -p Delegate -p KillMode nbt-runner.service";
    host.root(&format!("systemctl daemon-reload && systemctl restart {RUNNER_UNIT}")).success();
    assert_eq!(
        host.root(shown).success().lines().collect::<Vec<_>>(),
        ["Delegate=no", "KillMode=control-group"]
    );
    // As the file itself says, for this unit.
    let packaged = "/opt/nunbird/share/gitlab-runner.service.d/10-nunbird.conf";
    let file = host.root(&format!("cat {packaged}")).success();
    let lines = file.lines().filter_map(|line| line.strip_prefix("#   ")).collect::<Vec<_>>();
    assert_eq!(lines.len(), 3, "{file}");
    host.root(
        &lines
            .join("\n")
            .replace("system/gitlab-runner", "system/nbt-runner")
            .replace("restart gitlab", "restart nbt"),
    )
    .success();
    assert_eq!(
        host.root(shown).success().lines().collect::<Vec<_>>(),
        ["Delegate=yes", "KillMode=control-group"]
    );
    assert_eq!(
        host.root("systemctl show -p TimeoutStopUSec nbt-runner.service").success().trim(),
        "TimeoutStopUSec=5min"
    );
    let verified = host.root(&format!("systemd-analyze verify --recursive-errors=no {RUNNER_UNIT}"));
    // systemd 252 has no DelegateSubgroup=, and continues.
    let trouble = verified
        .stderr
        .lines()
        .filter(|line| !line.contains("Unknown key") || !line.contains("'DelegateSubgroup'"));
    assert_eq!(trouble.collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(doctor(&host), Vec::<String>::new());

    let script = "grep -E ':(memory|pids):' /proc/self/cgroup; m=$(grep :memory: /proc/self/cgroup | cut -d: -f3)\n\
                  cat /sys/fs/cgroup/memory$m/memory.limit_in_bytes";
    let outcome = host.world().job().script(script).run().expect_success();
    let below = format!(":memory:/system.slice/{RUNNER_UNIT}/nunbird-");
    for words in [below.as_str(), "\n100663296\n"] {
        assert!(outcome.log().contains(words), "{words:?}: {}", outcome.log());
    }
    // Of the packaged five minutes the test waits for none.
    let sooner = format!("/etc/systemd/system/{RUNNER_UNIT}.d/20-sooner.conf");
    host.root(&format!("printf '[Service]\\nTimeoutStopSec=10\\n' >{sooner} && systemctl daemon-reload"))
        .success();
    let job = host.world().job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    std::thread::scope(|scope| {
        let call = scope.spawn(|| {
            session.run_text(
                "build_script",
                "trap '' TERM; setsid env -i sleep 300 & touch ~/busy; wait; sleep 300",
            )
        });
        let busy = |host: &Host| host.world().host_path("/home/alice/busy").exists();
        assert!(host.wait_until(busy));
        host.root(&format!("systemctl stop {RUNNER_UNIT}")).success();
        // One that was killed in a system call of its file system is there until that returns.
        let gone = host.wait_until(|host| host.processes_of("alice").is_empty());
        assert!(gone, "{:?}", host.processes_of("alice"));
        call.join().expect("a stage");
    });
    host.root(&format!("systemctl start {RUNNER_UNIT}")).success();
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded() && host.world().records().is_empty(), "{}", cleanup.log);
}

#[needs(host)]
fn a_stop_of_the_service_closes_the_session_of_a_job_that_it_has() {
    let host = Host::boot();
    let world = host.world();
    let note = "#!/bin/sh\necho $PAM_TYPE >> /var/log/nbt_session\n";
    world.write_file("/usr/local/bin/nbt_note", note, "root", 0o755);
    let service = "auth required pam_permit.so\naccount required pam_permit.so\n\
                   session required pam_exec.so /usr/local/bin/nbt_note\n";
    world.write_file("/etc/pam.d/nunbird", service, "root", 0o644);
    world.reconfigure("[audit]\n", "[pam]\nsession = \"job\"\n\n[audit]\n");
    let dir = format!("/etc/systemd/system/{RUNNER_UNIT}.d");
    let packaged = "/opt/nunbird/share/gitlab-runner.service.d/10-nunbird.conf";
    host.root(&format!("mkdir {dir} && cp {packaged} {dir}/ && systemctl daemon-reload")).success();
    host.root(&format!("systemctl restart {RUNNER_UNIT}")).success();
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    let noted = |host: &Host| host.root("cat /var/log/nbt_session").success();
    assert_eq!(noted(&host), "open_session");
    host.root(&format!("systemctl stop {RUNNER_UNIT}")).success();
    assert_eq!(noted(&host), "open_session\nclose_session");
    host.root(&format!("systemctl start {RUNNER_UNIT}")).success();
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded() && world.records().is_empty(), "{}", cleanup.log);
}
