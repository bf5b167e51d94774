//! Login sessions of jobs: pam_systemd(8) and a real logind, with the service of the package, on a booted host.
//!
//! logind puts the process that opens a session into its own scope, whose cgroup is not the job's.

use nunbird_tests::{Host, StageOutcome, needs};

/// What a stage sees of its session, one thing a line.
const LOOK: &str = "\
loginctl show-session \"$XDG_SESSION_ID\" -p Name -p Class -p State -p Service -p Scope
stat -c 'runtime %a %U %F' \"$XDG_RUNTIME_DIR\"
echo \"directory $XDG_RUNTIME_DIR\"; echo mine > \"$XDG_RUNTIME_DIR/nbt\" && cat \"$XDG_RUNTIME_DIR/nbt\"
sed 's/^/group /' /proc/self/cgroup
for c in memory pids; do cat /sys/fs/cgroup/$c$(grep \":$c:\" /proc/self/cgroup | cut -d: -f3)/$c.{limit_in_bytes,max} 2>/dev/null; done; :
";

const LIMITS: &str =
    "[limits.small]\nmemory = \"96MiB\"\npids = 60\nway = \"v1\"\n\n[job]\nlimits = \"small\"\n";

/// A host whose jobs get sessions of the package's service for Debian, and whose logind does not linger.
fn host(settings: &str) -> Host {
    let host = Host::boot();
    let world = host.world();
    host.root("cp /opt/nunbird/share/pam.d/nunbird.debian /etc/pam.d/nunbird").success();
    world.write_file("/etc/systemd/logind.conf.d/nbt.conf", "[Login]\nUserStopDelaySec=0\n", "root", 0o644);
    host.root("systemctl restart systemd-logind").success();
    world.reconfigure("[audit]\n", &format!("[pam]\n{settings}\n[audit]\n"));
    host
}

fn has(outcome: &StageOutcome, line: &str) {
    assert!(outcome.stdout.lines().any(|known| known == line), "{line}: {}", outcome.log);
}

/// Sessions that logind has, and directories in `/run/user`.
fn left(host: &Host) -> String {
    host.root(
        "loginctl list-sessions --no-legend; ls /run/user; systemctl list-units --no-legend 'session-*'",
    )
    .success()
}

#[needs(host)]
fn a_stage_has_a_session_of_logind_with_a_runtime_directory_and_both_go_with_it() {
    let host = host("");
    let job = host.world().job();
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "{}", call.log);
    }
    let shown = session.run_text("build_script", LOOK);
    assert!(shown.succeeded(), "{}", shown.log);
    for line in [
        "Name=alice",
        "Class=background",
        "State=active",
        "Service=nunbird",
        "runtime 700 alice directory",
        "directory /run/user/4101",
        "mine",
    ] {
        has(&shown, line);
    }
    assert!(
        shown.stdout.contains("/user.slice/user-4101.slice/session-"),
        "without limits it is logind's: {}",
        shown.log
    );
    assert!(session.cleanup().succeeded());
    assert!(host.wait_until(|host| left(host).is_empty()), "{}", left(&host));
    assert!(host.wait_until(|host| host.processes_of("alice").is_empty()));
}

#[needs(host)]
fn one_session_of_logind_serves_a_whole_job_that_keeps_its_limits() {
    let host = host("session = \"job\"\n");
    host.world().reconfigure("[job]\n", LIMITS);
    let job = host.world().job();
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "{}", call.log);
    }
    let mut scopes = Vec::new();
    for stage in ["get_sources", "build_script"] {
        let shown = session.run_text(stage, LOOK);
        assert!(shown.succeeded(), "{}", shown.log);
        for line in ["Name=alice", "State=active", "runtime 700 alice directory", "100663296", "60"] {
            has(&shown, line);
        }
        scopes.extend(shown.stdout.lines().find(|line| line.starts_with("Scope=")).map(str::to_owned));
    }
    assert!(scopes.len() == 2 && scopes[0] == scopes[1], "{scopes:?}");
    assert!(left(&host).contains("alice"), "it lasts between the stages");
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded() && !cleanup.log.contains("warning"), "{}", cleanup.log);
    assert!(host.wait_until(|host| left(host).is_empty()), "{}", left(&host));
    assert!(
        !host.processes().iter().any(|process| process.command.contains("nunbird")),
        "{:?}",
        host.processes()
    );

    // What users may do to their own session ends their own job, and does no harm.
    let job = host.world().job();
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "{}", call.log);
    }
    session.run_text("build_script", "loginctl terminate-session \"$XDG_SESSION_ID\"");
    assert!(host.wait_until(|host| left(host).is_empty()), "{}", left(&host));
    let later = session.run_text("after_script", "echo run''ning");
    assert!(later.log.contains("[pam-session]") && !later.log.contains("running"), "{}", later.log);
    assert!(session.cleanup().succeeded());
    assert!(
        !host.processes().iter().any(|process| process.command.contains("nunbird")),
        "{:?}",
        host.processes()
    );
}

#[needs(host)]
fn a_session_of_logind_does_not_take_a_stage_out_of_the_jobs_limits() {
    let host = host("");
    host.world().reconfigure("[job]\n", LIMITS);
    let job = host.world().job();
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "{}", call.log);
    }
    let shown = session.run_text("build_script", LOOK);
    assert!(shown.succeeded(), "{}", shown.log);
    for line in ["Name=alice", "State=active", "runtime 700 alice directory", "100663296", "60"] {
        has(&shown, line);
    }
    let hungry = session.run_text("build_script", "python3 -c 'x = bytearray(256 << 20)'");
    assert!(!hungry.succeeded() && hungry.log.contains("out of memory"), "{}", hungry.log);
    assert!(session.cleanup().succeeded());
    assert!(host.wait_until(|host| left(host).is_empty()), "{}", left(&host));
}

/// A user's signals to the leader of their own session, which belongs to root: logind sends them.
const SIGNAL: &str = "loginctl kill-session --kill-whom=leader --signal=@ \"$XDG_SESSION_ID\" \
     || loginctl kill-session --kill-who=leader --signal=@ \"$XDG_SESSION_ID\"\n";

#[needs(host)]
fn a_user_who_stops_or_kills_the_process_of_root_that_holds_the_session_holds_nothing_up() {
    for span in ["stage", "job"] {
        let host = host(&format!("session = \"{span}\"\n"));
        let job = host.world().job();
        let begun = || {
            let mut session = job.begin();
            for call in [session.config(), session.prepare()] {
                assert!(call.succeeded(), "{span}: {}", call.log);
            }
            session
        };
        let nothing_left = || {
            assert!(host.wait_until(|host| left(host).is_empty()), "{span}: {}", left(&host));
            let none = |host: &Host| !host.processes().iter().any(|p| p.command.contains("nunbird"));
            assert!(host.wait_until(none), "{span}: {:?}", host.processes());
            assert_eq!(host.root("ls /var/lib/nunbird/jobs | grep -v lock || :").success(), "", "{span}");
        };

        let mut session = begun();
        let stop = SIGNAL.replace('@', "STOP");
        let stopped = session.run_text("build_script", &format!("{stop}sleep 1; echo still''here"));
        assert!(stopped.succeeded() && stopped.stdout.contains("stillhere"), "{span}: {}", stopped.log);
        if span == "job" {
            // Between its stages.
            host.root("loginctl kill-session --signal=STOP $(loginctl list-sessions --no-legend | awk '/alice/ {print $1}')").success();
        }
        let later = session.run_text("after_script", "echo run''ning");
        assert!(later.succeeded() && later.stdout.contains("running"), "{span}: {}", later.log);
        let cleanup = session.cleanup();
        assert!(cleanup.succeeded() && !cleanup.log.contains("warning"), "{span}: {}", cleanup.log);
        nothing_left();

        // A user who does it repeatedly loses the session, and the stage with it.
        for signals in [format!("while :; do {stop}done"), format!("{}sleep 60", SIGNAL.replace('@', "KILL"))]
        {
            let mut session = begun();
            let ended = session.run_text("build_script", &signals);
            assert!(!ended.succeeded(), "{span}: {}", ended.log);
            let cleanup = session.cleanup();
            // For a stage's own session the stage reports it; for a job's, cleanup reports that it
            // was not closed.
            let lost = span == "job";
            assert_eq!(cleanup.succeeded(), !lost, "{span}: {}", cleanup.log);
            assert_eq!(cleanup.log.contains("[pam-session-lost]"), lost, "{span}: {}", cleanup.log);
            nothing_left();
        }
    }
}
