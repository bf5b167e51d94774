//! Login sessions of jobs on cgroup v2: logind's scope is a cgroup elsewhere, and the job's belongs
//! to the runner's account, so only root can move a process from one to the other.

use nunbird_tests::host::vm::Vm;
use nunbird_tests::needs;
use std::fs;
use std::process::Command;

const LIMITS: &str = "[limits.small]\nmemory = \"96MiB\"\npids = 60\n\n[job]\nlimits = \"small\"\n";

const LOOK: &str = "\
g=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); echo \"group ${g##*/}\"; cat $g/memory.max $g/pids.max
loginctl show-session \"$XDG_SESSION_ID\" -p Name -p State -p Scope; stat -c 'runtime %a %U' \"$XDG_RUNTIME_DIR\"
systemctl --user is-system-running; perl -e '$x = q(x) x (256 << 20)' || echo hungry
";

#[needs(root)]
fn with_cgroup_2_a_job_in_a_session_of_logind_keeps_its_limits() {
    let vm = Vm::new(|world| {
        world.write_keys();
        world.reconfigure("[job]\n", LIMITS);
        world.reconfigure("[audit]\n", "[pam]\nsession = \"stage\"\n\n[audit]\n");
        let (calls, copies) = (world.host_path("/calls"), world.host_path("/jobs"));
        fs::create_dir(&calls).expect("a directory");
        fs::create_dir(&copies).expect("a directory");
        for name in ["stage", "job"] {
            let job = world.job();
            let session = job.begin();
            let script = session.directory().join("look");
            session.write(&script, LOOK.as_bytes(), 0o700);
            for (call, spec) in [
                ("config", session.spec_of_config()),
                ("prepare", session.spec_of_prepare()),
                ("look", session.spec_of_run(&script, "build_script")),
                ("cleanup", session.spec_of_cleanup()),
            ] {
                let text = serde_json::to_vec(&spec).expect("JSON");
                fs::write(calls.join(format!("{name}-{call}")), text).expect("a call");
            }
            // The session removes its directory.
            let copied = Command::new("cp").arg("-a").arg(session.directory()).arg(&copies).status();
            assert!(copied.expect("cp").success());
            let place = session.directory().parent().expect("a parent");
            fs::write(calls.join("directory"), place.display().to_string()).expect("a name");
        }
    });
    let shown = vm
        .boot(
            "cp -a /jobs/* \"$(cat /calls/directory)/\"; cp /opt/nunbird/share/pam.d/nunbird.debian /etc/pam.d/nunbird\n\
             mkdir -p /etc/systemd/logind.conf.d; printf '[Login]\\nUserStopDelaySec=0\\n' >/etc/systemd/logind.conf.d/nbt.conf\n\
             systemctl restart systemd-logind\n\
             for job in stage job; do\n\
             sed -i \"s/^session = .*/session = \\\"$job\\\"/\" /etc/nunbird/config.toml\n\
             for call in config prepare look look cleanup; do nbt-enter </calls/$job-$call 2>&1 | sed \"s/^/$job $call: /\"; done\n\
             for _ in $(seq 300); do [ -z \"$(loginctl list-sessions --no-legend)$(ls /run/user)\" ] && break; sleep 0.1; done\n\
             echo \"$job left: $(loginctl list-sessions --no-legend)$(ls /run/user)$(ls /var/lib/nunbird/jobs)$(pgrep nunbird)\"\n\
             find /sys/fs/cgroup/system.slice/nbt-runner.service -name 'nunbird-*' -printf \"$job left %f\\n\"\n\
             done; exit 0\n",
        )
        .success();
    println!("{shown}");
    for job in ["stage", "job"] {
        let counts = |line: &str| {
            let line = format!("{job} {line}");
            shown.lines().filter(|known| *known == line).count()
        };
        for line in ["100663296", "60", "Name=alice", "State=active", "runtime 700 alice", "hungry"] {
            assert_eq!(counts(&format!("look: {line}")), 2, "{job} {line}:\n{shown}");
        }
        assert_eq!(shown.matches(&format!("{job} look: group nunbird-")).count(), 2, "{shown}");
        assert_eq!(counts("left: "), 1, "{job}:\n{shown}");
        assert!(!shown.contains(&format!("{job} left nunbird-")), "{shown}");
    }
}
