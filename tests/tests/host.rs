//! Jobs on a booted systemd host with the package installed: which account runs them, what the
//! journal contains, and what a stop of the runner's service, a reboot and a power cut leave.

use nunbird_tests::host::{Process, RUNNER_UNIT};
use nunbird_tests::{Exit, Host, Session, needs};
use serde_json::Value;
use std::fs;

/// The message of a call whose runner's service ended before it.
const SERVICE_ENDED: Exit = Exit::Code(nunbird_tests::host::service::SERVICE_ENDED as i32);

/// A script that fills its process group, its session and others with processes, and reports it
/// with a file.
const BUSY: &str = "sleep 301 & setsid sleep 302 </dev/null >/dev/null 2>&1 & (setsid sh -c 'sleep 303 &' >/dev/null 2>&1)\n\
    (kill -STOP $BASHPID; exec sleep 304) & (trap '' TERM; exec sleep 305) &\n\
    touch \"$HOME/busy\"; wait";

/// Runs `BUSY` as a stage and `act` once all of its five processes exist; returns how the call
/// ended.
fn while_busy(host: &Host, session: &mut Session<'_>, act: impl FnOnce()) -> Exit {
    std::thread::scope(|scope| {
        let call = scope.spawn(|| session.run_text("build_script", BUSY));
        let counts = |p: &Process| p.command.starts_with("sleep 30") || p.state == 'T';
        let busy = |host: &Host| {
            host.world().host_path("/home/alice/busy").exists()
                && host.processes_of("alice").iter().filter(|p| counts(p)).count() == 5
        };
        assert!(host.wait_until(busy), "{:?}", host.processes_of("alice"));
        act();
        call.join().expect("a stage").exit
    })
}

#[needs(host)]
fn a_job_runs_as_its_user_below_the_runners_service() {
    let host = Host::boot();
    assert_eq!(host.root("systemctl is-system-running").success(), "running");
    let outcome = host
        .world()
        .job()
        .script("id -u; grep name=systemd /proc/self/cgroup; stat -c %a:%G /opt/nunbird/bin/nunbird-auth")
        .after_script("echo and af''ter")
        .run()
        .expect_success();
    for words in ["\n4101\n", ":/system.slice/nbt-runner.service\n", "4750:gitlab-runner", "and after"] {
        assert!(outcome.log().contains(words), "{words:?} is not in the log:\n{}", outcome.log());
    }
    assert!(host.world().records().is_empty());
    assert!(host.wait_until(|host| host.processes_of("alice").is_empty()));
    let denied = host.world().job().facts(|facts| facts.user_login = "daisy".to_owned()).run();
    assert!(denied.names().iter().all(|name| ["config", "cleanup"].contains(name)), "{:?}", denied.names());
}

#[needs(host)]
fn an_account_that_chage_has_ended_gets_no_job() {
    let host = Host::boot();
    host.root("chage -E $(date +%F) alice").success();
    let denied = host.world().job().config();
    assert!(denied.log.contains("[account-expired]"), "{}", denied.log);
    host.root("chage -E $(date -d tomorrow +%F) alice").success();
    assert!(host.world().job().config().succeeded(), "a day is left");
}

/// The journal's entries of `nunbird-auth`, and of others that claim the name.
fn journal(host: &Host) -> Vec<Value> {
    let text = host
        .root("journalctl --sync; journalctl --no-pager -o json SYSLOG_IDENTIFIER=nunbird-auth")
        .success();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[needs(host)]
fn a_real_journald_distinguishes_our_events_from_forged_ones_and_rsyslog_has_them_too() {
    let host = Host::boot();
    host.world().reconfigure("[audit]\n", "[audit]\njournald = true\nsyslog = \"local\"\n");
    let forged =
        "logger -t nunbird-auth admitted, says alice; echo also for''ged | systemd-cat -t nunbird-auth";
    host.world().job().script(forged).run().expect_success();
    let written = host.world().audit();
    let entries = journal(&host);
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    // The kernel passes the uid with the datagram; journald looks up the program by the process,
    // which may be gone by then.
    let ours = |entry: &&Value| text(entry, "_UID") == "4001";
    // By its native socket, and once more by the syslog socket, which journald reads as well.
    let (native, others): (Vec<&Value>, Vec<&Value>) =
        entries.iter().partition(|entry| ours(entry) && text(entry, "_TRANSPORT") == "journal");
    let (by_syslog, forged): (Vec<&Value>, Vec<&Value>) = others.into_iter().partition(ours);
    let ids: Vec<String> = native.iter().map(|entry| text(entry, "NUNBIRD_OUTCOME")).collect();
    let expected: Vec<String> = written.iter().map(|event| text(event, "outcome")).collect();
    assert!(expected.len() > 8, "{expected:?}");
    assert_eq!(ids, expected, "the journal has the same events as the file, in the same order");
    assert_eq!(by_syslog.len(), written.len());
    let exe = |entry: &Value| text(entry, "_EXE");
    let (known, unknown): (Vec<&Value>, Vec<&Value>) =
        native.iter().partition(|entry| exe(entry) == "/opt/nunbird/bin/nunbird-auth");
    println!("journald knew the program of {} events and came too late for {}", known.len(), unknown.len());
    assert!(!known.is_empty() && unknown.iter().all(|entry| exe(entry).is_empty()), "{unknown:?}");
    for entry in &known {
        assert_eq!(text(entry, "_SYSTEMD_UNIT"), RUNNER_UNIT);
    }
    for entry in &native {
        assert_eq!(text(entry, "NUNBIRD_DECISION_ID"), written[0]["decision_id"].as_str().expect("an id"));
    }
    assert_eq!(forged.len(), 2, "{forged:?}");
    for entry in &forged {
        assert_eq!(text(entry, "_UID"), "4101", "alice's words are alice's: {entry}");
    }
    let lines = || fs::read_to_string(host.world().host_path("/var/log/auth.log")).unwrap_or_default();
    let from_us = || lines().lines().filter(|line| line.contains(" nunbird-auth")).count();
    assert!(host.wait_until(|_| from_us() >= written.len()), "{}", lines());
}

#[needs(host)]
fn the_journal_knows_the_uid_of_an_event_whose_process_has_ended() {
    let host = Host::boot();
    host.world().reconfigure("[audit]\n", "[audit]\njournald = true\n");
    let job = host.world().job();
    let mut session = job.prepared();
    let before = journal(&host).len();
    let journald = |signal: &str| format!("kill -{signal} $(systemctl show -P MainPID systemd-journald)");
    host.root(&journald("STOP")).success();
    let cleanup = session.cleanup();
    host.root(&journald("CONT")).success();
    assert!(cleanup.succeeded(), "{}", cleanup.log);
    let entries = journal(&host).split_off(before);
    assert_eq!(entries.len(), 2, "start and end of cleanup: {entries:?}");
    for entry in entries {
        assert_eq!(entry["_UID"], "4001", "{entry}");
        assert!(entry["_EXE"].is_null(), "the guide says that it is missing: {entry}");
    }
}

#[needs(host)]
fn stopping_and_restarting_the_runners_service_leaves_no_process_of_a_job() {
    let host = Host::boot();
    for verb in ["stop", "restart"] {
        let job = host.world().job();
        let mut session = job.prepared();
        let exit = while_busy(&host, &mut session, || {
            host.root(&format!("systemctl {verb} {RUNNER_UNIT}")).success();
            // Not waited for: the stop has ended them before it returns.
            assert_eq!(host.processes_of("alice"), [], "after {verb}");
        });
        assert_eq!(exit, SERVICE_ENDED, "{verb}");
        assert_eq!(host.world().records().len(), 1, "nobody has cleaned up yet");
        host.root(&format!("systemctl start {RUNNER_UNIT}")).success();
        let cleanup = session.cleanup();
        assert!(cleanup.succeeded(), "{verb}: {}", cleanup.log);
        assert!(host.world().records().is_empty(), "{verb}");
        fs::remove_file(host.world().host_path("/home/alice/busy")).expect("a file of the job");
    }
    host.world().job().run().expect_success();
}

#[needs(host)]
fn a_job_of_before_a_reboot_is_reported_as_such_and_cleaned_up() {
    let host = Host::boot();
    let job = host.world().job();
    let mut session = job.prepared();
    host.power_off();
    host.start();
    let stage = session.run_text("build_script", "echo run''ning");
    assert!(!stage.succeeded() && stage.log.contains("[host-restarted]"), "{}", stage.log);
    assert!(!stage.log.contains("running"), "{}", stage.log);
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded() && host.world().records().is_empty(), "{}", cleanup.log);

    let job = host.world().job();
    let mut session = job.prepared();
    let exit = while_busy(&host, &mut session, || host.cut_power());
    assert_eq!(exit, SERVICE_ENDED);
    host.start();
    assert_eq!(host.processes_of("alice"), []);
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded(), "{}", cleanup.log);
    assert!(host.world().records().is_empty());
    let late = session.run_text("build_script", "echo run''ning");
    assert!(!late.succeeded() && !late.log.contains("running"), "{}", late.log);
}
