//! The limits of a job by transient units of systemd (`way = "scope"`), on a booted host whose control groups are of version 1.
//! Version 2 is in `long/vm_scope.rs`.

use nix::sys::signal::Signal;
use nunbird_tests::host::RUNNER_UNIT;
use nunbird_tests::records;
use nunbird_tests::{Cancel, Exit, Host, Job, Session, needs};
use std::time::{Duration, Instant};

const LIMITS: &str = "\
[limits.small]
memory = \"96MiB\"
cpus = \"0.1\"
pids = 60
way = \"scope\"

[job]
limits = \"small\"
";

/// Common code of the job scripts: the directory of the job's slice in a v1 hierarchy.
const SLICE: &str = "slice() { echo /sys/fs/cgroup/$1$(sed -n \"s/^[0-9]*:$1://p\" /proc/self/cgroup | sed 's|/[^/]*\\.scope$||'); }\n";

/// Leaves a process that is in no session and does not carry the mark of its job any more.
const LEAVES: &str =
    "setsid env -i sleep 600 </dev/null >/dev/null 2>&1 & until pgrep -x sleep >/dev/null; do :; done";

fn boot() -> Host {
    let host = Host::boot();
    host.world().write_keys();
    host.world().reconfigure("[job]\n", LIMITS);
    host
}

/// Units of jobs that systemd knows, however they ended; `nunbird.slice` is the site's.
fn units(host: &Host) -> Vec<String> {
    let listed =
        host.root("systemctl list-units --all --plain --no-legend 'nunbird-*.slice' 'nunbird-*.scope'");
    listed.success().lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

/// Groups of jobs in any hierarchy.
fn groups(host: &Host) -> String {
    host.root("find /sys/fs/cgroup -type d -name 'nunbird-*' -prune").success()
}

fn admitted<'j>(job: &'j Job<'_>) -> Session<'j> {
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "{}", call.log);
    }
    session
}

#[track_caller]
fn nothing_is_left(host: &Host) {
    assert_eq!((units(host), groups(host)), (Vec::new(), String::new()));
    assert_eq!(host.processes_of("alice"), []);
}

#[needs(host)]
fn the_limits_of_a_job_by_scopes_are_in_force_in_every_stage_and_nothing_of_it_stays() {
    let host = boot();
    let job = host.world().job();
    let mut session = admitted(&job);
    let slice = units(&host).pop().expect("a slice");
    assert!(slice.starts_with("nunbird-7001_") && slice.ends_with(".slice"), "{slice}");
    let shown = host.root(&format!("systemctl show -P MemoryMax -P TasksMax -P CPUQuotaPerSecUSec {slice}"));
    assert_eq!(shown.success().split_whitespace().collect::<Vec<_>>(), ["100ms", "100663296", "60"]);

    let look = format!(
        "{SLICE}for c in memory pids cpu; do basename $(slice $c); done; cat $(slice memory)/memory.limit_in_bytes \
         $(slice pids)/pids.max $(slice cpu)/cpu.cfs_quota_us $(slice cpu)/cpu.cfs_period_us"
    );
    for stage in ["get_sources", "build_script"] {
        let looked = session.run_text(stage, &look);
        let lines: Vec<&str> = looked.stdout.lines().collect();
        assert_eq!(lines, [&slice, &slice, &slice, "100663296", "60", "10000", "100000"], "{}", looked.log);
    }
    is_seen_in_systemctl_and_systemd_cgls(&host, &mut session, &slice);
    println!("| limit | way | set and read back | enforced |\n|---|---|---|---|");
    for (limit, read, enforced) in enforced(&mut session) {
        println!("| {limit} | scope v1 | {read} | {enforced} |");
    }
    println!("| swap | scope v1 | refused: systemd has no word for it | |");

    let left = "setsid env -i sleep 600 </dev/null >/dev/null 2>&1 & \
        setsid perl -e 'for (;;) { fork // select undef, undef, undef, 0.01 }' </dev/null >/dev/null 2>&1 & \
        setsid sh -c 'kill -STOP $$' </dev/null >/dev/null 2>&1 & sleep 1; echo left";
    assert!(session.run_text("build_script", left).succeeded());
    assert!(host.processes_of("alice").len() > 20);
    for _twice in 0..2 {
        let cleanup = session.cleanup();
        assert_eq!(cleanup.exit, Exit::Code(0), "{} {:?}", cleanup.log, host.world().audit().last());
        nothing_is_left(&host);
    }
    let audit = host.world().audit();
    let ended = audit.iter().rfind(|event| event["stage"] == "cleanup" && event["used_memory_peak"].is_u64());
    assert!(ended.is_some_and(|event| event["used_memory_peak"].as_u64() > Some(64 << 20)), "{ended:?}");
}

fn is_seen_in_systemctl_and_systemd_cgls(host: &Host, session: &mut Session<'_>, slice: &str) {
    std::thread::scope(|scope| {
        let call = scope.spawn(|| session.run_text("build_script", "touch ~/here; sleep 555"));
        assert!(host.wait_until(|host| host.world().host_path("/home/alice/here").exists()));
        let found = units(host);
        let unit = found.iter().find(|name| name.ends_with(".scope")).expect("a scope");
        assert!(unit.starts_with("nunbird-5-7001-"), "{found:?}");
        let status = host.root(&format!("systemctl status {unit}")).success();
        assert!(status.contains("CI job 7001 of alice") && status.contains("sleep 555"), "{status}");
        let tree = host.root("systemd-cgls --no-pager --unit nunbird.slice").success();
        for words in [slice, unit, "sleep 555"] {
            assert!(tree.contains(words), "{words}: {tree}");
        }
        println!("{tree}");
        host.root("pkill -x sleep").success();
        assert!(!call.join().expect("a stage").succeeded());
    });
}

/// Limits, the kernel's value of each, and its effect.
fn enforced(session: &mut Session<'_>) -> Vec<(&'static str, &'static str, String)> {
    let hungry = session.run_text("build_script", "perl -e '$x = q(x) x (256 << 20)'; exit $?");
    let reported = "out of memory: the kernel killed 1 process(es) of this job at its limit of 96 MiB";
    assert!(hungry.stderr.contains(reported), "{}", hungry.log);
    let forks = session.run_text(
        "build_script",
        "perl -e 'for (1..100) { $p = fork; if (!defined $p) { print qq(refused: $!\\n); last } if (!$p) { sleep 60; exit } push @p, $p }
         kill 9, @p'",
    );
    assert!(forks.stdout.contains("refused: Resource temporarily unavailable"), "{}", forks.log);
    let spin = session.run_text(
        "build_script",
        &format!("{SLICE}for n in 1 2 3 4 5 6 7 8; do timeout 3 sh -c 'while :; do :; done' & done; wait; grep throttled_time $(slice cpu)/cpu.stat"),
    );
    let throttled = spin.stdout.trim().strip_prefix("throttled_time ").and_then(|n| n.parse::<u64>().ok());
    // A tenth of a processor is less than the share of eight loops, however busy the machine is.
    assert!(throttled > Some(100_000_000), "{}", spin.log);
    vec![
        ("memory", "memory.limit_in_bytes 100663296", reported.to_owned()),
        ("cpus", "cpu.cfs_quota_us 10000", spin.stdout.trim().to_owned()),
        ("pids", "pids.max 60", forks.stdout.trim().to_owned()),
    ]
}

#[needs(host)]
fn jobs_by_scopes_end_when_they_are_cancelled_and_when_the_runners_service_stops() {
    let host = boot();
    let cancelled = host.world().job().script("echo begun; sleep 600").cancel_when(
        "build_script",
        "begun",
        Cancel::Gracefully,
    );
    let outcome = cancelled.run();
    assert!(outcome.names().contains(&"cleanup"), "{:?}", outcome.names());
    nothing_is_left(&host);

    // A process that has left the job's session gets no signals: a scope does not end with the
    // service.
    let job = host.world().job();
    let mut session = admitted(&job);
    let stays = format!("{LEAVES}\ntouch ~/busy; sleep 601");
    let exit = std::thread::scope(|scope| {
        let call = scope.spawn(|| session.run_text("build_script", &stays));
        assert!(host.wait_until(|host| host.world().host_path("/home/alice/busy").exists()));
        host.root(&format!("systemctl restart {RUNNER_UNIT}")).success();
        call.join().expect("a stage").exit
    });
    assert_ne!(exit, Exit::Code(0));
    assert!(
        host.wait_until(|host| host.processes_of("alice").len() == 1),
        "{:?}",
        host.processes_of("alice")
    );
    assert_eq!(units(&host).len(), 2, "the slice, and a scope with what has left: {:?}", units(&host));
    let outcome = session.run_text("build_script", "echo on we go");
    assert_ne!(outcome.exit, Exit::Code(0));
    assert!(outcome.log.contains("[runner-gone]"), "a job ends with its runner: {}", outcome.log);
    assert_eq!(session.cleanup().exit, Exit::Code(0));
    nothing_is_left(&host);
}

#[needs(host)]
fn a_stage_that_waits_for_systemd_can_be_cancelled() {
    let host = boot();
    let job = host.world().job();
    let canceller = job.canceller();
    let mut session = admitted(&job);
    let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(host.pid1()), signal);
    // systemd is busy with something else.
    signal(Signal::SIGSTOP).expect("stopped");
    let began = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let call = scope.spawn(|| session.run_text("build_script", "echo it runs; sleep 600"));
        std::thread::sleep(Duration::from_secs(2));
        canceller.cancel(Cancel::AtOnce);
        std::thread::sleep(Duration::from_secs(1));
        signal(Signal::SIGCONT).expect("continued");
        call.join().expect("a stage")
    });
    assert!(!outcome.succeeded() && !outcome.stdout.contains("it runs"), "{}", outcome.log);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}: {}", began.elapsed(), outcome.log);
    assert_eq!(session.cleanup().exit, Exit::Code(0));
    nothing_is_left(&host);
}

#[needs(host)]
fn a_stage_in_a_pam_session_is_in_a_scope_of_its_jobs_slice() {
    let host = boot();
    let world = host.world();
    host.root("cp /opt/nunbird/share/pam.d/nunbird.debian /etc/pam.d/nunbird").success();
    world.reconfigure("[audit]\n", "[pam]\nsession = \"stage\"\n\n[audit]\n");
    for span in ["stage", "job"] {
        let job = world.job();
        let mut session = admitted(&job);
        let slice = units(&host).into_iter().find(|name| name.ends_with(".slice")).expect("a slice");
        for stage in ["get_sources", "build_script"] {
            let looked =
                session.run_text(stage, &format!("{SLICE}basename $(slice memory); basename $(slice pids)"));
            let lines: Vec<&str> = looked.stdout.lines().collect();
            assert_eq!(lines, [&slice, &slice], "{span}: {} {:?}", looked.log, world.audit().last());
        }
        session.run_text("build_script", LEAVES);
        assert_eq!(session.cleanup().exit, Exit::Code(0));
        assert_eq!((units(&host), groups(&host)), (Vec::new(), String::new()), "{span}");
        if span == "stage" {
            world.reconfigure("session = \"stage\"", "session = \"job\"");
        }
    }
}

#[needs(host)]
fn no_unit_stays_after_fifty_jobs_by_scopes_nor_after_jobs_that_were_lost() {
    let host = boot();
    for number in 0..50 {
        let outcome = host.world().job().id(8000 + number).script("true").run();
        outcome.expect_success();
    }
    nothing_is_left(&host);

    // The runner has lost this one; root reaps it when its time is up.
    let job = host.world().job();
    let mut session = admitted(&job);
    session.run_text("build_script", LEAVES);
    for record in host.world().records() {
        records::change(&record, |record| record.expires_at = 1);
    }
    let swept = host.root("/opt/nunbird/bin/nunbirdctl sweep --runner-user nbt_runner");
    assert!(swept.succeeded(), "{swept:?}");
    nothing_is_left(&host);

    // `config` was killed before it had written the record.
    let job = host.world().job();
    let mut session = admitted(&job);
    session.run_text("build_script", LEAVES);
    let kept = host.root("/opt/nunbird/bin/nunbirdctl sweep --runner-user nbt_runner").success();
    assert!(!kept.contains("control-group") && units(&host).len() == 2, "a job with a record: {kept}");
    host.root("rm /var/lib/nunbird/jobs/*.record").success();
    let swept = host.root("/opt/nunbird/bin/nunbirdctl sweep --runner-user nbt_runner").success();
    assert!(swept.contains(".slice (no record has it; 1 processes of it were ended)"), "{swept}");
    nothing_is_left(&host);

    // The slice was stopped, and with it the job's processes and limits.
    let job = host.world().job();
    let mut session = admitted(&job);
    host.root("systemctl stop nunbird.slice").success();
    let late = session.run_text("build_script", "echo without limits");
    assert!(!late.succeeded() && late.stdout.is_empty() && late.stderr.contains("[limits]"), "{}", late.log);
    assert_eq!(session.cleanup().exit, Exit::Code(0));
    nothing_is_left(&host);

    // A limit was removed.
    let job = host.world().job();
    let mut session = admitted(&job);
    host.root("systemctl set-property --runtime $(systemctl list-units --plain --no-legend 'nunbird-*.slice' | cut -d' ' -f1) MemoryMax=infinity").success();
    let late = session.run_text("build_script", "echo without limits");
    assert!(!late.succeeded() && late.stdout.is_empty() && late.stderr.contains("[limits]"), "{}", late.log);
    assert_eq!(session.cleanup().exit, Exit::Code(0));
    nothing_is_left(&host);
}

#[needs(host)]
fn where_systemd_makes_no_scopes_for_a_job_it_is_refused_and_the_site_reads_why() {
    let host = boot();
    let world = host.world();
    let refused = |words: &str| {
        let job = world.job();
        let mut session = job.begin();
        let config = session.config();
        assert!(!config.succeeded() && config.stderr.contains("[limits]"), "{}", config.log);
        let detail = world.audit().pop().expect("an event")["detail"].to_string();
        assert!(detail.contains(words), "{words}: {detail}");
        assert!(session.cleanup().succeeded());
        nothing_is_left(&host);
    };
    world.reconfigure("cpus =", "swap = \"0KiB\"\ncpus =");
    refused("systemd does not limit swap on version 1");
    world.reconfigure("swap = \"0KiB\"\n", "io_weight = 200\n");
    refused("blkio");
    world.reconfigure("io_weight = 200\n", "");

    let auth = "/opt/nunbird/bin/nunbird-auth";
    host.root(&format!("chmod 0750 {auth}; setcap cap_setuid,cap_setgid=p {auth}")).success();
    refused("needs root, because systemd accepts no other caller, but nunbird-auth has file capabilities");
    host.root(&format!("setcap -r {auth}; chmod 4750 {auth}")).success();

    host.root("mount --bind /run/nologin-none /run/systemd/private 2>/dev/null || { touch /run/nbt; mount --bind /run/nbt /run/systemd/private; }").success();
    refused("/run/systemd/private: ");
    world.reconfigure("way = \"scope\"", "way = \"scope\"\nrequire = false");
    let job = world.job();
    let mut session = job.begin();
    let config = session.config();
    assert!(config.succeeded() && config.stderr.contains("WITHOUT the limits `small`"), "{}", config.log);
    assert!(session.cleanup().succeeded());
}
