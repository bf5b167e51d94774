//! One session for a whole job: opened by `prepare`, closed by `cleanup`, and what happens if
//! either is missing.

use super::{NOTE, WITH_ROOT, begin, machine_with, notes, sessions, wait};
use nunbird_tests::{Exit, Privilege, Status, World, needs};
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const ACCOUNT: &str =
    "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n";
pub(crate) const PER_JOB: &str = "session = \"job\"\n";

pub(crate) fn machine(privilege: Privilege, service: &str) -> World {
    machine_with(privilege, &format!("{ACCOUNT}{service}{NOTE}"), PER_JOB)
}

/// The keepers' sockets.
pub(crate) fn sockets(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.host_path("/var/lib/nunbird/jobs")).expect("records").flatten();
    entries.map(|e| e.path()).filter(|path| path.extension().is_some_and(|e| e == "session")).collect()
}

/// The path of one, as the machine sees it.
pub(crate) fn door(world: &World) -> Option<String> {
    let socket = sockets(world).pop()?;
    Some(format!("/var/lib/nunbird/jobs/{}", socket.file_name()?.display()))
}

/// The two processes that hold the session of this machine's job: the one that waits and the one that calls modules.
pub(crate) fn keepers(world: &World) -> Vec<i32> {
    let Some(name) = door(world) else { return Vec::new() };
    let unix = fs::read_to_string("/proc/net/unix").expect("sockets");
    // That of a connection has the same path: only the flags of a listener are __SO_ACCEPTCON (net/unix/af_unix.c).
    let listens = |words: &[&str]| words.get(3) == Some(&"00010000") && words.last() == Some(&name.as_str());
    let mut rows = unix.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inode = rows.find_map(|words| listens(&words).then(|| words[6].to_owned()));
    let link = format!("socket:[{}]", inode.expect("a socket that a process listens at"));
    let holds = |pid: &i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|target| target == Path::new(&link))
    };
    let all = fs::read_dir("/proc").expect("proc").flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let caller = pids.find(holds).expect("who listens");
    let status = fs::read_to_string(format!("/proc/{caller}/status")).expect("a process");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    vec![parent.expect("a parent"), caller]
}

pub(crate) fn gone(pid: i32) -> bool {
    super::is_gone(&Path::new("/proc").join(pid.to_string()))
}

pub(crate) fn kill(world: &World, signal: &str, pid: i32) {
    assert_eq!(world.shell("root", &format!("kill -{signal} {pid}")).exit, Exit::Code(0));
}

#[needs(root, in_each = WITH_ROOT)]
fn one_session_serves_all_stages_of_a_job_and_nothing_of_it_is_left(privilege: Privilege) {
    let world = machine(privilege, "");
    let outcome =
        world.job().script("id -un; exit 7").after_script("id -un").run().expect(&Status::script_failure(7));
    assert!(outcome.stage("build_script").log.contains("alice"), "{}", outcome.log());
    assert!(!outcome.log().contains("warning"), "{}", outcome.log());
    assert_eq!(sessions(&world), (1, 1), "{:?}", outcome.names());
    assert!(notes(&world).iter().all(|note| note[1] == "alice" && note[2] == "0"), "{:?}", notes(&world));
    assert_eq!((sockets(&world), world.records()), (vec![], vec![]));
}

#[needs(root)]
fn what_the_session_gives_is_every_stages() {
    let service = "session required pam_keyinit.so force\n\
         session required pam_limits.so conf=/etc/nunbird/limits.conf\n\
         session optional pam_umask.so umask=0027\n\
         session required pam_env.so conffile=/etc/nunbird/pam_env.conf readenv=0\n";
    for privilege in WITH_ROOT {
        let settings = format!("{PER_JOB}environment = [\"NBT_*\", \"LD_*\", \"HOME\"]\n");
        let world = machine_with(privilege, &format!("{ACCOUNT}{service}{NOTE}"), &settings);
        world.write_file(
            "/etc/nunbird/limits.conf",
            "alice - nofile 77\nalice - priority 3\n",
            "root",
            0o644,
        );
        let variables =
            "NBT_ONE DEFAULT=one\nUNLISTED DEFAULT=x\nLD_PRELOAD DEFAULT=/tmp/evil.so\nHOME DEFAULT=/evil\n";
        world.write_file("/etc/nunbird/pam_env.conf", variables, "root", 0o644);
        let job = world.job();
        let mut session = job.begin();
        begin(&mut session);
        let pids = keepers(&world);
        let script = "echo \"limit $(ulimit -n)/$(ulimit -Hn)\"; umask; echo \"nice $(nice)\"; env | sort\n\
             keyctl show @s | awk 'NR == 2 {print \"serial\", $1}'; readlink /proc/self/ns/mnt\n\
             grep -E '^(Uid|Gid|Groups|CapPrm|CapEff):' /proc/self/status; ls -l /proc/self/fd; exit 3";
        let mut shown = Vec::new();
        for stage in ["get_sources", "build_script"] {
            let outcome = session.run_text(stage, script);
            assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
            let code = fs::read_to_string(session.exit_code_file()).expect("a code");
            assert_eq!(code.trim(), "3", "{}", outcome.log);
            for line in [
                "limit 77/77\n",
                "0027\n",
                "nice 3\n",
                "NBT_ONE=one\n",
                "HOME=/home/alice\n",
                "Uid:\t4101\t4101\t4101\t4101",
                "Groups:\t4101 4200",
                "CapPrm:\t0000000000000000",
                "CapEff:\t0000000000000000",
            ] {
                assert!(outcome.stdout.contains(line), "{line}: {}", outcome.log);
            }
            for word in ["evil", "UNLISTED", "memfd:nunbird-session"] {
                assert!(!outcome.log.contains(word), "{word}: {}", outcome.log);
            }
            let same = |line: &&str| line.starts_with("serial ") || line.starts_with("mnt:");
            shown.push(outcome.stdout.lines().filter(same).map(str::to_owned).collect::<Vec<_>>());
        }
        assert!(shown[0].len() == 2 && shown[0] == shown[1], "one keyring, one mount namespace: {shown:?}");
        assert!(shown[0][0].ends_with(&notes(&world)[0][3]), "{shown:?}");
        assert_eq!(keepers(&world), pids, "they live as long as the job");
        assert!(session.cleanup().succeeded());
        assert_eq!(sessions(&world), (1, 1));
        pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
    }
}

#[needs(root)]
fn the_processes_of_a_jobs_session_hold_nothing_of_a_stage_and_are_out_of_reach() {
    let world = machine(Privilege::Setuid, "");
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let name = door(&world).expect("a socket");
    let pids = keepers(&world);
    for pid in &pids {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten();
        let open: Vec<PathBuf> = fds.filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
        let known = |path: &&PathBuf| {
            let path = path.to_string_lossy();
            path == "/dev/null"
                || ["pipe:", "socket:", "anon_inode:"].iter().any(|start| path.starts_with(start))
        };
        assert!(open.iter().all(|path| known(&path)), "{open:?}");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let sid: i32 = rest.split_whitespace().nth(3).expect("a session").parse().expect("a number");
        assert_eq!(sid, pids[0], "a session of their own");
        for account in ["nbt_runner", "alice", "bob"] {
            for command in
                [format!("kill -0 {pid}"), format!("cat /proc/{pid}/environ"), format!(": < /proc/{pid}/mem")]
            {
                assert_ne!(world.shell(account, &command).exit, Exit::Code(0), "{account}: {command}");
            }
        }
    }
    let connect = format!(
        "/usr/bin/python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"{name}\"); s.send(b\"c\"); print(s.recv(9))'"
    );
    for account in ["nbt_runner", "alice"] {
        let refused = world.shell(account, &connect);
        assert!(refused.stderr.contains("PermissionError"), "{account}: {refused:?}");
    }
    // Text that is not a request is ignored.
    let nonsense = connect.replace("b\"c\"", "b\"x\"");
    assert_eq!(world.shell("root", &nonsense).stdout.trim(), "b''");
    assert!(session.run_text("build_script", "true").succeeded(), "it goes on");
    assert!(session.cleanup().succeeded());
}

#[needs(root, in_each = WITH_ROOT)]
fn when_the_keeper_of_a_session_dies_later_stages_are_denied_and_cleanup_reports_it(privilege: Privilege) {
    for (which, closed) in [(1, false), (0, true)] {
        let world = machine(privilege, "");
        let job = world.job();
        let mut session = job.begin();
        begin(&mut session);
        let pids = keepers(&world);
        kill(&world, "KILL", pids[which]);
        pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
        let outcome = session.run_text("build_script", "echo run''ning");
        assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
        assert!(outcome.log.contains("[pam-session]") && !outcome.log.contains("running"), "{}", outcome.log);
        assert_eq!(world.audit().last().expect("an event")["code"], "pam-session");
        let cleanup = session.cleanup();
        assert_eq!(cleanup.succeeded(), closed, "{}", cleanup.log);
        assert_eq!(cleanup.log.contains("[pam-session-lost]"), !closed, "{}", cleanup.log);
        let events = world.audit();
        assert_eq!(events.iter().any(|event| event["code"] == "pam-session-lost"), !closed, "{events:?}");
        assert_eq!((sockets(&world), world.records()), (vec![], vec![]));
        assert_eq!(sessions(&world), (1, usize::from(closed)), "{which}");
    }
}

#[needs(root)]
fn a_stage_whose_keeper_dies_ends_and_a_session_that_is_asked_to_end_closes() {
    for (which, signal, closed) in
        [(1, "KILL", false), (0, "KILL", true), (1, "TERM", true), (0, "TERM", true)]
    {
        let world = machine(Privilege::Setuid, "");
        let job = world.job();
        let mut session = job.begin();
        begin(&mut session);
        let pids = keepers(&world);
        let shown = world.host_path("/home/alice/going");
        let outcome = std::thread::scope(|scope| {
            let stage = scope.spawn(|| session.run_text("build_script", "echo > ~/going; sleep 300"));
            wait(|| Some(()).filter(|()| shown.exists()));
            kill(&world, signal, pids[which]);
            stage.join().expect("a stage")
        });
        assert!(!outcome.succeeded(), "{signal} {which}: {}", outcome.log);
        pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
        assert_eq!(sessions(&world), (1, usize::from(closed)), "{signal} {which}");
        let cleanup = session.cleanup();
        assert_eq!(cleanup.succeeded(), closed, "{signal} {which}: {}", cleanup.log);
    }
}

#[needs(root)]
fn a_cancelled_stage_leaves_the_session_to_the_job() {
    use nunbird_tests::{Cancel, Reason};
    for privilege in WITH_ROOT {
        for how in [Cancel::Gracefully, Cancel::AtOnce] {
            let world = machine(privilege, "");
            world
                .job()
                .script("echo go''ing; sleep 300")
                .after_script("echo af''ter")
                .cancel_when("build_script", "going", how)
                .run()
                .expect(&Status::failed(Reason::Canceled));
            wait(|| Some(()).filter(|()| sessions(&world) == (1, 1)));
            assert_eq!(sockets(&world), Vec::<PathBuf>::new());
        }
    }
}

#[needs(root)]
fn the_session_of_a_job_without_clean_up_ends_by_its_own_clock_or_by_the_sweep() {
    let by_clock = machine_with(
        Privilege::Setuid,
        &format!("{ACCOUNT}{NOTE}"),
        &format!("{PER_JOB}\n[identity]\nlate_stages = \"33s\"\n"),
    );
    // GitLab's token has expired, and the late stages' time will in three seconds.
    let job = by_clock.job().claim("exp", (nunbird_tests::issuer::now() - 30).into());
    let mut session = job.begin();
    begin(&mut session);
    let pids = keepers(&by_clock);
    wait(|| Some(()).filter(|()| sessions(&by_clock) == (1, 1)));
    pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
    assert_eq!(sockets(&by_clock), Vec::<PathBuf>::new());
    assert!(session.cleanup().succeeded());

    let by_sweep = machine(Privilege::RootRunner, "");
    let job = by_sweep.job();
    let mut session = job.begin();
    begin(&mut session);
    let pids = keepers(&by_sweep);
    let record = by_sweep.records().pop().expect("a record");
    nunbird_tests::records::change(&record, |record| record.expires_at = 1);
    let swept = by_sweep.shell("root", "/opt/nunbird/bin/nunbirdctl sweep --runner-user nbt_runner");
    assert!(swept.succeeded(), "{swept:?}");
    assert_eq!(sessions(&by_sweep), (1, 1), "{swept:?}");
    pids.iter().for_each(|pid| wait(|| Some(()).filter(|()| gone(*pid))));
    assert_eq!((sockets(&by_sweep), by_sweep.records()), (vec![], vec![]));
}

#[needs(root, in_each = WITH_ROOT)]
fn a_jobs_oom_score_and_few_descriptors_are_the_launchers_and_not_those_of_roots_processes(
    privilege: Privilege,
) {
    let service = "session required pam_limits.so conf=/etc/nunbird/limits.conf\n";
    let world = machine(privilege, service);
    world.write_file("/etc/nunbird/limits.conf", "alice - nofile 64\n", "root", 0o644);
    world.reconfigure("[job]\n", "[limits.small]\noom_score_adj = 250\n[job]\nlimits = \"small\"\n");
    let job = world.job();
    let mut session = job.begin();
    begin(&mut session);
    let pids = keepers(&world);
    for _ in 0..2 {
        let script = "echo \"oom $(cat /proc/self/oom_score_adj) files $(ulimit -Sn)\"";
        let outcome = session.run_text("build_script", script);
        assert!(outcome.succeeded(), "{}", outcome.log);
        assert!(outcome.stdout.contains("oom 250 files 64\n"), "{}", outcome.log);
    }
    for pid in pids {
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
        assert_eq!(score.trim(), "0", "root's are not the first that are killed");
    }
    assert!(session.cleanup().succeeded());
    assert_eq!(sessions(&world), (1, 1));

    // A hard limit that root cannot raise everywhere: the stage runs under it, or the cause is named.
    world.write_file("/etc/nunbird/limits.conf", "alice - nofile 16\n", "root", 0o644);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prepare = session.prepare();
    let why = world.audit().last().expect("an event").to_string();
    assert!(prepare.succeeded() || why.contains("RLIMIT_NOFILE"), "{}: {why}", prepare.log);
    assert!(session.cleanup().succeeded());
    assert_eq!(sessions(&world), (2, 2));
}
