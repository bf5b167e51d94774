//! The limits of a job: one cgroup for all its stages, removed when the job has ended.
//!
//! This process enters cgroups of its own, below which `nunbird-auth` makes those of jobs; so
//! everything is in one test.

use nunbird_tests::process::runs;
use nunbird_tests::records;
use nunbird_tests::world::{Exit, Privilege, World};
use nunbird_tests::{Groups, Job, needs, skip};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIMITS: &str = "\
[limits.small]
memory = \"96MiB\"
swap = \"0KiB\"
cpus = \"0.5\"
pids = 60
max_memory = \"128MiB\"
max_pids = 100
nofile = 777
core = \"0KiB\"
way = \"v1\"

[job]
limits = \"small\"
";

const LOOK: &str = "\
for c in memory cpu pids; do p=$(grep \":$c:\" /proc/self/cgroup | cut -d: -f3); echo \"$c ${p##*/}\"; done
ulimit -n; ulimit -c
cat /sys/fs/cgroup/memory$(grep :memory: /proc/self/cgroup | cut -d: -f3)/memory.limit_in_bytes
cat /sys/fs/cgroup/pids$(grep :pids: /proc/self/cgroup | cut -d: -f3)/pids.max
";

fn ready(privilege: Privilege, old: &str, new: &str) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure("[job]\n", &LIMITS.replace(old, new));
    world
}

#[needs(root)]
fn a_job_has_its_limits_in_every_stage_and_its_group_goes_with_it() {
    let Some(groups) = Groups::enter() else {
        skip!("this machine has no control groups of version 1 that it may write to");
    };
    a_clean_up_whose_decider_ends_at_once_ends_the_group(&groups);
    after_a_restart_of_the_host_a_group_of_the_records_name_is_another_jobs(&groups);
    for privilege in Privilege::PRIVILEGED {
        limits_hold_in_every_stage(&groups, privilege);
    }
    amounts_that_users_ask_for_are_granted_or_reported(&groups);
    what_cannot_be_in_force_is_refused_or_reported(&groups);
    limits_of_a_disk_hold(&groups);
    a_late_job_that_does_not_end_keeps_no_other_out(&groups);
    a_group_that_does_not_empty_keeps_no_credentials(&groups);
    assert_eq!(groups.jobs(), Vec::<PathBuf>::new());
}

fn limits_hold_in_every_stage(groups: &Groups, privilege: Privilege) {
    let world = ready(privilege, "", "");
    let job = world.job();
    let mut session = job.begin();
    let config = session.config();
    assert!(config.succeeded(), "{privilege:?} {} {:?}", config.log, world.audit().last());
    assert!(session.prepare().succeeded());
    let mut names = Vec::new();
    for stage in ["get_sources", "build_script"] {
        let looked = session.run_text(stage, LOOK);
        let lines: Vec<&str> = looked.stdout.lines().collect();
        let name = lines.first().and_then(|line| line.strip_prefix("memory ")).expect("a group").to_owned();
        assert!(name.starts_with("nunbird-"), "{}", looked.log);
        let expected = [
            &format!("memory {name}"),
            &format!("cpu {name}"),
            &format!("pids {name}"),
            "777",
            "0",
            "100663296",
            "60",
        ];
        assert_eq!(lines, expected, "{}", looked.log);
        names.push(name);
    }
    assert_eq!(names[0], names[1], "one group for all stages");
    let hungry = session.run_text("build_script", "perl -e '$x = q(x) x (256 << 20)'; exit $?");
    assert_eq!(hungry.exit, Exit::Code(1), "{}", hungry.log);
    assert!(
        hungry
            .stderr
            .contains("out of memory: the kernel killed 1 process(es) of this job at its limit of 96 MiB"),
        "{}",
        hungry.log
    );
    // Kernels from 6.11 on count what is read only once a limit of a disk has been set.
    let read = fs::read_to_string("/sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes");
    let counts = read.is_ok_and(|text| text.lines().any(|line| line.contains("Read")));
    for row in [
        "nunbird: used by this job:\n",
        "nunbird:   queue      1 s in GitLab\n",
        " for the script, ",
        " of 0.5 processors",
        "nunbird:   memory     96 MiB of 96 MiB, 100 %\n",
        " of 60\n",
        if counts { "nunbird:   read       " } else { "" },
    ] {
        assert!(hungry.stderr.contains(row), "{row}: {}", hungry.log);
    }
    let after = session.run_text("after_script", "echo after");
    assert!(after.succeeded() && !after.stderr.contains("used by"), "once is enough: {}", after.log);
    let left =
        session.run_text("build_script", "setsid env -i sleep 600 </dev/null >/dev/null 2>&1 & echo $!");
    let pid = left.stdout.trim().to_owned();
    assert!(Path::new("/proc").join(&pid).exists(), "it left the session, and its mark");
    let cleanup = session.cleanup();
    assert_eq!(cleanup.exit, Exit::Code(0), "{privilege:?} {} {:?}", cleanup.log, world.audit().last());
    assert!(!runs(&pid), "{privilege:?}");
    assert_eq!(groups.jobs(), Vec::<PathBuf>::new());
    let ended = world.audit().into_iter().rfind(|event| event["outcome"] == "stage-ended").expect("an event");
    assert_eq!(ended["oom_kills"], 1, "{ended}");
    assert_eq!(
        (&ended["limits"], &ended["limit_memory"], &ended["limit_cpu"]),
        (&json!("small"), &json!(96 << 20), &json!(500))
    );
    assert_eq!((&ended["queued_s"], &ended["limit_pids"]), (&json!(1), &json!(60)), "{ended}");
    assert!(
        ended["job_s"].is_u64() && (!counts || ended["used_read"].is_u64()) && ended["throttled_us"].is_u64(),
        "{ended}"
    );
    assert!(ended["used_memory_peak"].as_u64() > Some(90 << 20) && ended["used_cpu_us"].is_u64(), "{ended}");
    assert_eq!(session.cleanup().exit, Exit::Code(0), "twice is fine");
}

/// The rates of version 1 are those of reads and of direct writes (blkio-controller.rst).
fn limits_of_a_disk_hold(groups: &Groups) {
    let disk = "io_max = [{ device = \"/\", read = \"2MiB\", write = \"2MiB\", write_ops = 1000 }]\nway =";
    let world = ready(Privilege::Setuid, "way =", disk);
    let job = world.job();
    let mut session = job.begin();
    let config = session.config();
    assert!(config.succeeded(), "{} {:?}", config.log, world.audit().last());
    let group =
        groups.jobs().into_iter().find(|path| path.starts_with("/sys/fs/cgroup/blkio")).expect("a group");
    let read = |file: &str| fs::read_to_string(group.join(file)).expect("a file").trim().to_owned();
    assert!(read("blkio.throttle.read_bps_device").ends_with(" 2097152"));
    assert!(read("blkio.throttle.write_bps_device").ends_with(" 2097152"));
    assert!(read("blkio.throttle.write_iops_device").ends_with(" 1000"));
    let script = "cd ~; stat -f -c %T .; s=$(date +%s%N)\n\
                  dd if=/dev/zero of=big bs=64k count=96 oflag=direct 2>/dev/null || echo failed\n\
                  e=$(date +%s%N); echo $(((e - s) / 1000000)); rm big\n\
                  { echo \"1:1 1\" >/sys/fs/cgroup/blkio$(grep :blkio: /proc/self/cgroup | cut -d: -f3)/blkio.throttle.write_bps_device; } 2>/dev/null || echo no\n";
    let wrote = session.run_text("build_script", script);
    let lines: Vec<&str> = wrote.stdout.lines().collect();
    assert!(lines[1].parse::<u64>().is_ok_and(|took| took > 2000), "6 MiB at 2 MiB/s: {}", wrote.log);
    assert_eq!(lines[2], "no", "{}", wrote.log);
    fs::write(
        group.join("blkio.throttle.read_bps_device"),
        read("blkio.throttle.read_bps_device").replace("2097152", "0"),
    )
    .expect("changed");
    let changed = session.run_text("build_script", "echo it ran");
    assert!(changed.stdout.is_empty() && changed.stderr.contains("[limits]"), "{}", changed.log);
    assert_eq!(session.cleanup().exit, Exit::Code(0));
}

/// A root process stands for a setuid program of the job, which its user cannot end.
fn a_late_job_that_does_not_end_keeps_no_other_out(groups: &Groups) {
    let world = ready(Privilege::Setuid, "", "");
    let (late, next, others) = (world.job(), world.job().id(7002), world.job().id(7003).user("bob"));
    let mut late = late.begin();
    assert!(late.config().succeeded() && late.prepare().succeeded());
    let mut stubborn = Command::new("/bin/sleep").arg("300").spawn().expect("a process");
    for group in groups.jobs() {
        fs::write(group.join("cgroup.procs"), stubborn.id().to_string()).expect("moved");
    }
    records::change(&world.records().pop().expect("a record"), |record| record.expires_at = 1);
    let mut next = next.begin();
    assert!(next.config().stdout.contains("/001\""), "the late one keeps its slot until it is cleaned up");
    let (cleanup, admitted) = std::thread::scope(|scope| {
        let cleanup = scope.spawn(|| late.cleanup());
        while !is_open("freezer.state") && !cleanup.is_finished() {
            std::thread::yield_now();
        }
        let mut others = others.begin();
        let admitted = others.config();
        stubborn.kill().and_then(|()| stubborn.wait()).expect("its end");
        (cleanup.join().expect("an end"), admitted)
    });
    assert!(admitted.succeeded(), "{}", admitted.log);
    assert!(cleanup.succeeded() && !cleanup.log.contains("left alone"), "{}", cleanup.log);
    assert!(next.cleanup().succeeded());
    for group in groups.jobs() {
        fs::remove_dir(group).expect("of the job that was only admitted");
    }
}

/// As above. It takes as long as the kernel is given to end a job's processes.
fn a_group_that_does_not_empty_keeps_no_credentials(groups: &Groups) {
    let world = ready(Privilege::Setuid, "", "");
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    let spec = records::spec(&world.records().pop().expect("a record"));
    let secrets = format!("{}.tmp", spec.workspace.project_dir.display());
    let script = format!("mkdir -p {secrets} && echo secret >{secrets}/KEY");
    assert!(session.run_text("prepare_script", &script).succeeded());
    assert!(world.host_path(&secrets).exists());
    let mut stubborn = Command::new("/bin/sleep").arg("300").spawn().expect("a process");
    for group in groups.jobs() {
        fs::write(group.join("cgroup.procs"), stubborn.id().to_string()).expect("moved");
    }
    let cleanup = session.cleanup();
    assert!(!cleanup.succeeded() && cleanup.log.contains("could not be ended"), "{}", cleanup.log);
    assert!(!world.host_path(&secrets).exists() && !world.records().is_empty());
    stubborn.kill().and_then(|()| stubborn.wait()).expect("its end");
    assert!(session.cleanup().succeeded() && world.records().is_empty());
}

/// Whether a process has a file of this name open.
fn is_open(name: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("proc").flatten();
    let files = processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten();
    let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| target.ends_with(name))
}

fn config(world: &World, variable: &str, value: &str) -> (Exit, String, String) {
    let change = |job: Job<'_>| -> (Exit, String, String) {
        let mut session = job.begin();
        let config = session.config();
        let limits =
            if config.succeeded() { session.run_text("build_script", LOOK).stdout } else { String::new() };
        assert_eq!(session.cleanup().exit, Exit::Code(0));
        (config.exit, config.stderr, limits)
    };
    change(world.job().variable(variable, value))
}

fn amounts_that_users_ask_for_are_granted_or_reported(groups: &Groups) {
    let world = ready(Privilege::Setuid, "", "");
    let (exit, log, limits) = config(&world, "NUNBIRD_MEMORY", "128MiB");
    assert_eq!(exit, Exit::Code(0), "{log}");
    assert!(
        limits.contains("\n134217728\n") && log.contains("NUNBIRD_MEMORY: 128MiB as asked for"),
        "{log}{limits}"
    );
    for (name, value, words) in [
        ("NUNBIRD_MEMORY", "129MiB", "asks for 129MiB, and 128MiB is the most that this site gives"),
        ("NUNBIRD_MEMORY", "-1", "`-1`, which is not an amount of memory"),
        ("NUNBIRD_MEMORY", "1e99", "not an amount of memory"),
        ("NUNBIRD_MEMORY", "∞", "not an amount of memory"),
        ("NUNBIRD_CPUS", "0.1", "this site lets jobs ask for no processors"),
    ] {
        let (exit, log, _) = config(&world, name, value);
        assert_eq!(exit, Exit::Code(1), "{name}={value}: {log}");
        assert!(log.contains("[limits]") && log.contains(words), "{name}={value}: {log}");
    }
    let world = ready(Privilege::Setuid, "way =", "above = \"clamp\"\nway =");
    let (_, log, limits) = config(&world, "NUNBIRD_PIDS", "4000");
    assert!(limits.ends_with("\n100\n") && log.contains("100 instead of 4000"), "{log}{limits}");
    assert_eq!(groups.jobs(), Vec::<PathBuf>::new());
}

fn what_cannot_be_in_force_is_refused_or_reported(groups: &Groups) {
    // The unified hierarchy of a host with version 1 has none of these controllers.
    let world = ready(Privilege::Setuid, "way = \"v1\"", "way = \"delegated\"");
    let (exit, log, _) = config(&world, "A", "b");
    assert_ne!(exit, Exit::Code(0), "{log}");
    assert!(log.contains("the limits for this job cannot be put in force on this host [limits]"), "{log}");
    let denied = world.audit().pop().expect("an event").to_string();
    assert!(denied.contains("controllers memory, cpu, pids are not available"), "{denied}");
    let world = ready(Privilege::Setuid, "way = \"v1\"", "way = \"delegated\"\nrequire = false");
    let (exit, log, _) = config(&world, "A", "b");
    assert_eq!(exit, Exit::Code(0), "{log}");
    assert!(log.contains("warning: this job runs WITHOUT the limits `small`"), "{log}");
    // What is missing on this host is reported to the admin.
    assert!(!log.contains("controllers"), "{log}");
    let admitted = |event: &&serde_json::Value| event["outcome"] == "admitted";
    let events = world.audit();
    let detail = events.iter().rev().find(admitted).expect("an event")["detail"].to_string();
    assert!(detail.contains("controllers memory, cpu, pids are not available"), "{detail}");
    // A user's request, which cannot be applied here either, is no way to run without limits.
    let (exit, log, _) = config(&world, "NUNBIRD_MEMORY", "128MiB");
    assert_eq!(exit, Exit::Code(1), "{log}");
    assert!(log.contains("the limits that this job asks for cannot be put in force"), "{log}");
    more_than_the_service_has_is_refused(groups);

    // There is no such disk, and a file system that lies on none.
    for (device, words) in
        [("/dev/nbt_none", "there is no such device here"), ("/proc", "it lies on no block device")]
    {
        let disk = format!("io_max = [{{ device = \"{device}\", read = \"2MiB\" }}]\nway =");
        let world = ready(Privilege::Setuid, "way =", &disk);
        let (exit, log, _) = config(&world, "A", "b");
        assert!(exit != Exit::Code(0) && log.contains("[limits]"), "{log}");
        let denied = world.audit().pop().expect("an event").to_string();
        assert!(denied.contains(words) && denied.contains(device), "{denied}");
    }
    let disk = |path| nunbird_cgroup::disk_of(Path::new(path)).ok();
    if disk("/").is_some() && disk("/") == disk("/usr") {
        let twice =
            "io_max = [{ device = \"/\", read = \"2MiB\" }, { device = \"/usr\", write = \"2MiB\" }]\nway =";
        let world = ready(Privilege::Setuid, "way =", twice);
        let (exit, log, _) = config(&world, "A", "b");
        assert!(exit != Exit::Code(0) && log.contains("[limits]"), "{log}");
        let denied = world.audit().pop().expect("an event").to_string();
        assert!(denied.contains("io_max: / and /usr are on the same disk, "), "{denied}");
    }
    assert_eq!(groups.jobs(), Vec::<PathBuf>::new());

    // Without privilege nothing can be created in cgroups that root owns.
    let world = ready(Privilege::None, "", "");
    let (exit, log, _) = config(&world, "A", "b");
    assert!(exit != Exit::Code(0) && log.contains("[limits]"), "{log}");

    let world = ready(Privilege::Setuid, "", "");
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let memory =
        groups.jobs().into_iter().find(|path| path.starts_with("/sys/fs/cgroup/memory")).expect("a group");
    fs::write(memory.join("memory.memsw.limit_in_bytes"), "-1").expect("changed");
    fs::write(memory.join("memory.limit_in_bytes"), "-1").expect("changed");
    let outcome = session.run_text("build_script", "id");
    assert!(outcome.stderr.contains("[limits]") && outcome.stdout.is_empty(), "{}", outcome.log);
    assert_eq!(session.cleanup().exit, Exit::Code(0));
}

/// On v1 a cgroup cannot get more CPU time than its parent: the user's request would make every
/// limit fail, and the job would run without any if the site allows it.
fn more_than_the_service_has_is_refused(groups: &Groups) {
    let own = groups.own("cpu");
    fs::write(own.join("cpu.cfs_quota_us"), "50000").expect("half a processor");
    let more = "require = false\nmax_cpus = \"4\"\nway =";
    let world = ready(Privilege::Setuid, "way =", more);
    let (exit, log, limits) = config(&world, "A", "b");
    assert_eq!(exit, Exit::Code(0), "{log}");
    assert!(!log.contains("WITHOUT"), "{log}{limits}");
    let (exit, log, _) = config(&world, "NUNBIRD_CPUS", "2");
    assert_eq!(exit, Exit::Code(1), "{log}");
    assert!(log.contains("the limits that this job asks for cannot be put in force"), "{log}");
    fs::write(own.join("cpu.cfs_quota_us"), "-1").expect("as before");
}

/// A process in the job's group that carries no mark of the job, by its number.
fn unmarked(session: &mut nunbird_tests::runner::Session<'_>) -> String {
    let left = "setsid env -i sleep 600 </dev/null >/dev/null 2>&1 &\n\
                until [ \"$(cat /proc/$!/comm)\" = sleep ]; do sleep 0.02; done; echo $!";
    session.run_text("build_script", left).stdout.trim().to_owned()
}

fn a_clean_up_whose_decider_ends_at_once_ends_the_group(groups: &Groups) {
    let world = ready(Privilege::Setuid, "", "");
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    let pid = unmarked(&mut session);
    world.take_over_decider();
    world.write_file("/etc/nunbird/attack", "", "root", 0o644);
    let cleanup = session.cleanup();
    assert_eq!(cleanup.exit, Exit::Code(2), "{}", cleanup.log);
    assert!(cleanup.log.contains("[decider]"), "{}", cleanup.log);
    assert!(!runs(&pid) && groups.jobs().is_empty(), "{}", cleanup.log);
    assert_eq!(world.records().len(), 1, "no launcher has cleared anything away");
    world.give_back_decider();
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded() && world.records().is_empty(), "{}", cleanup.log);
}

/// The kernel keeps no group when the host restarts: one that has the name by now was not made for this record.
fn after_a_restart_of_the_host_a_group_of_the_records_name_is_another_jobs(groups: &Groups) {
    let world = ready(Privilege::Setuid, "", "");
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    let pid = unmarked(&mut session);
    let record = world.records().pop().expect("a record");
    let before = records::read(&record);
    // As if the host had restarted since.
    records::change(&record, |record| record.boot_id = "00000000-0000-4000-8000-000000000000".to_owned());
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded() && world.records().is_empty(), "{}", cleanup.log);
    assert!(runs(&pid) && !groups.jobs().is_empty(), "{}", cleanup.log);
    fs::write(&record, nunbird_wire::Message::to_bytes(&before)).expect("a record");
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded() && !runs(&pid) && groups.jobs().is_empty(), "{}", cleanup.log);
}
