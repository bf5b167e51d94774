//! Who can signal, trace and read whom while a job runs, and what the end of each process means for the others.

use nunbird_tests::runner::Session;
use nunbird_tests::world::{Exit, Finished};
use nunbird_tests::{Privilege, StageOutcome, World, needs};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The processes of a running stage: `shepherd`, `launcher`, `job`.
type Pids = BTreeMap<&'static str, i32>;

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

/// Runs a stage that reports when `begin` is done, calls `during` with its processes while `end`
/// runs, and returns how the stage ended.
fn while_running_after(world: &World, begin: &str, end: &str, during: impl FnOnce(&Pids)) -> StageOutcome {
    while_called(world, begin, end, session_run, during)
}

/// As [`while_running_after`], with the stage called in another way.
fn while_called(
    world: &World,
    begin: &str,
    end: &str,
    call: impl FnOnce(&mut Session<'_>, &str) -> StageOutcome + Send,
    during: impl FnOnce(&Pids),
) -> StageOutcome {
    let job = world.job().limit(Duration::from_secs(30));
    let mut session = job.begin();
    assert!(session.config().succeeded());
    assert!(session.prepare().succeeded());
    let shown = world.host_path("/home/alice/pids");
    let _absent = fs::remove_file(&shown);
    let script = format!(
        "{begin}\necho $$ $PPID $(sed -n 's/^PPid:.//p' /proc/$PPID/status) > ~/pids.new; mv ~/pids.new ~/pids\n{end}\n"
    );
    std::thread::scope(|scope| {
        let stage = scope.spawn(|| call(&mut session, &script));
        during(&pids(&shown));
        stage.join().expect("the stage's thread")
    })
}

fn while_running(world: &World, end: &str, during: impl FnOnce(&Pids)) -> StageOutcome {
    while_running_after(world, "", end, during)
}

fn session_run(session: &mut Session<'_>, script: &str) -> StageOutcome {
    session.run_text("build_script", script)
}

fn pids(shown: &Path) -> Pids {
    let begun = Instant::now();
    while !shown.exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the script has not begun");
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = fs::read_to_string(shown).expect("process ids");
    let numbers: Vec<i32> = text.split_whitespace().map(|n| n.parse().expect("a number")).collect();
    let [job, launcher, parent] = numbers[..] else { panic!("{text}") };
    BTreeMap::from([("job", job), ("launcher", launcher), ("shepherd", parent)])
}

fn may(finished: &Finished) -> &'static str {
    if finished.exit == Exit::Code(0) { "yes" } else { "no" }
}

/// What an account may do to a process: signal it (kill(2) with 0), trace it (opening its memory asks for
/// `PTRACE_MODE_ATTACH`, proc(5)), read its environment (`PTRACE_MODE_READ`).
fn powers(world: &World, account: &str, pid: i32) -> [&'static str; 3] {
    let try_it = |command: String| may(&world.shell(account, &command));
    [
        try_it(format!("kill -0 {pid}")),
        try_it(format!(": < /proc/{pid}/mem")),
        try_it(format!("cat /proc/{pid}/environ > /dev/null")),
    ]
}

#[needs(root)]
fn who_can_signal_trace_and_read_whom_is_as_documented() {
    let mut table =
        String::from("| privilege | who | whom | signal | trace | read |\n|---|---|---|---|---|---|\n");
    for privilege in Privilege::PRIVILEGED {
        let world = ready(privilege);
        let outcome = while_running(&world, "while [ ! -e ~/enough ]; do sleep 0.05; done", |pids| {
            for (who, account) in [("runner", privilege.runner()), ("user", "alice"), ("another user", "bob")]
            {
                for whom in ["shepherd", "launcher", "job"] {
                    let [signal, trace, read] = powers(&world, account, pids[whom]);
                    let mode = privilege.audit_name();
                    writeln!(table, "| {mode} | {who} | {whom} | {signal} | {trace} | {read} |")
                        .expect("text");
                }
            }
            world.write_file("/home/alice/enough", "", "alice", 0o600);
        });
        assert!(outcome.succeeded(), "{}", outcome.log);
    }
    let documented = include_str!("../../docs/operation.md");
    assert!(documented.contains(&table), "docs/operation.md needs this table:\n{table}");
}

#[needs(root, in_each = Privilege::ALL)]
fn the_runners_signals_reach_a_job_of_another_user(privilege: Privilege) {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let world = ready(privilege);
        let outcome = while_running_after(
            &world,
            "trap 'echo heard; exit 9' TERM",
            "while :; do sleep 0.05; done",
            |pids| {
                let sent = world.shell(privilege.runner(), &format!("kill -{signal} {}", pids["shepherd"]));
                assert_eq!(sent.exit, Exit::Code(0), "{sent:?}");
            },
        );
        assert_eq!(outcome.exit, Exit::Code(1), "{signal}: {}", outcome.log);
        assert!(outcome.log.contains("heard"), "{signal}: {}", outcome.log);
    }
}

#[needs(root, in_each = Privilege::ALL)]
fn a_shepherd_that_is_killed_takes_the_job_along(privilege: Privilege) {
    let world = ready(privilege);
    let mut seen = Pids::new();
    let outcome = while_running(&world, "sleep 60", |pids| {
        seen.clone_from(pids);
        let sent = world.shell(privilege.runner(), &format!("kill -KILL {}", pids["shepherd"]));
        assert_eq!(sent.exit, Exit::Code(0), "{sent:?}");
    });
    assert_eq!(outcome.exit, Exit::Signal(9), "{}", outcome.log);
    for (name, pid) in seen {
        assert_ends(name, pid);
    }
}

#[needs(root, in_each = Privilege::ALL)]
fn a_launcher_that_is_killed_takes_the_job_along_and_is_no_success(privilege: Privilege) {
    let world = ready(privilege);
    let mut seen = Pids::new();
    let outcome = while_running(&world, "sleep 60", |pids| {
        seen.clone_from(pids);
        let sent = world.shell("alice", &format!("kill -KILL {}", pids["launcher"]));
        assert_eq!(sent.exit, Exit::Code(0), "{sent:?}");
    });
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[launcher-killed]"), "{}", outcome.stderr);
    assert_ends("job", seen["job"]);
}

#[needs(root, in_each = Privilege::ALL)]
fn the_shepherd_holds_no_capability_no_group_and_nothing_open_but_the_audit_file_and_the_decider(
    privilege: Privilege,
) {
    let world = ready(privilege);
    let outcome = while_running(&world, "while [ ! -e ~/enough ]; do sleep 0.05; done", |pids| {
        let directory = Path::new("/proc").join(pids["shepherd"].to_string());
        let status = fs::read_to_string(directory.join("status")).expect("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let (uids, gids, groups) = match privilege {
            Privilege::RootRunner => {
                let nobody = "2147483631";
                let uids = format!("{nobody} 4101 {nobody} 4101");
                (uids, [nobody; 4].join(" "), "")
            }
            Privilege::Setuid | Privilege::FileCaps => {
                ("4001 4101 4001 4101".to_owned(), "4001 4001 4001 4001".to_owned(), "")
            }
            Privilege::None => {
                ("4101 4101 4101 4101".to_owned(), "4101 4101 4101 4101".to_owned(), "4101 4200")
            }
        };
        assert_eq!(field("Uid:"), uids, "{privilege:?}");
        assert_eq!(field("Gid:"), gids, "{privilege:?}");
        assert_eq!(field("Groups:"), groups, "{privilege:?}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{privilege:?} {set}");
        }
        assert_eq!(field("NoNewPrivs:"), "1", "{privilege:?}");
        assert_eq!(field("Seccomp:"), "2", "{privilege:?}: a filter");
        let open = fs::read_dir(directory.join("fd")).expect("descriptors").flatten();
        let high = open.filter(|e| e.file_name().len() > 1 || e.file_name() > *"2");
        let mut high: Vec<_> = high.map(|entry| fs::read_link(entry.path()).expect("a link")).collect();
        high.sort();
        let [audit, decider] = &high[..] else { panic!("{privilege:?}: {high:?}") };
        assert!(audit.ends_with("audit.jsonl"), "{privilege:?}: {high:?}");
        assert!(decider.to_string_lossy().starts_with("socket:"), "{privilege:?}: {high:?}");
        world.write_file("/home/alice/enough", "", "alice", 0o600);
    });
    assert!(outcome.succeeded(), "{}", outcome.log);
}

fn assert_ends(name: &str, pid: i32) {
    let begun = Instant::now();
    let gone = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // This machine's init may not reap: a zombie has ended.
        status.is_empty() || status.contains("State:\tZ")
    };
    while !gone() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{name} {pid} lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a caller can leave open, and its terminal, are nothing to a privileged process that stays as long as the stage.
#[needs(root, in_each = Privilege::ALL)]
fn shepherd_and_launcher_have_no_descriptor_no_session_and_no_core_of_the_callers(privilege: Privilege) {
    let world = ready(privilege);
    let prelude = "exec 0</etc/hostname 7</etc/passwd 63</etc/group; ulimit -S -c $(ulimit -H -c)";
    let outcome = while_called(
        &world,
        "",
        "while [ ! -e ~/enough ]; do sleep 0.05; done",
        |session, script| super::process::call_through(session, prelude, Some(script)),
        |pids| {
            let of = |name: &str| Path::new("/proc").join(pids[name].to_string());
            let open = fs::read_dir(of("shepherd").join("fd")).expect("descriptors").flatten();
            let open: Vec<_> = open.map(|entry| fs::read_link(entry.path()).expect("a link")).collect();
            let callers = ["/etc/passwd", "/etc/group"];
            assert!(!open.iter().any(|file| callers.iter().any(|known| file.ends_with(known))), "{open:?}");
            assert_eq!(fs::read_link(of("launcher").join("fd/0")).expect("a link"), Path::new("/dev/null"));
            let stat = fs::read_to_string(of("launcher").join("stat")).expect("stat");
            let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
            let [session, terminal] = [fields[3], fields[4]];
            assert_eq!((session, terminal), (pids["launcher"].to_string().as_str(), "0"), "{stat}");
            let limits = fs::read_to_string(of("shepherd").join("limits")).expect("limits");
            let core =
                limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
            assert_eq!(core.split_whitespace().next(), Some("0"), "{limits}");
            // Of a process that is not dumpable they are root's (proc(5)).
            let environment = fs::metadata(of("shepherd").join("environ")).expect("metadata");
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&environment), 0);
            world.write_file("/home/alice/enough", "", "alice", 0o600);
        },
    );
    assert!(outcome.succeeded(), "{}", outcome.log);
}

/// Resident and whole size, in KiB, of what a process maps of its program's file and cannot write to.
fn own_code(pid: i32) -> (u64, u64) {
    let directory = Path::new("/proc").join(pid.to_string());
    let program = fs::metadata(directory.join("exe")).expect("a program").ino();
    let text = fs::read_to_string(directory.join("smaps")).expect("maps");
    let mut counts = false;
    let (mut resident, mut size) = (0, 0);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, rights, _, device, inode, ..] if rights.len() == 4 && device.contains(':') => {
                counts = !rights.contains('w') && inode == program.to_string();
            }
            ["Rss:", kib, _] if counts => resident += kib.parse::<u64>().expect("a number"),
            ["Size:", kib, _] if counts => size += kib.parse::<u64>().expect("a number"),
            _ => {}
        }
    }
    (resident, size)
}

/// A site has hundreds of stages that wait for hours.
#[needs(root)]
fn decider_and_launcher_of_a_stage_that_waits_have_given_their_code_back() {
    let world = ready(Privilege::Setuid);
    let outcome = while_running(&world, "while [ ! -e ~/enough ]; do sleep 0.05; done", |pids| {
        let decider = fs::read_dir("/proc").expect("processes").flatten().find_map(|entry| {
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let is_it = status.contains(&format!("\nPPid:\t{}\n", pids["shepherd"]))
                && status.starts_with("Name:\tnunbird-decide\n");
            is_it.then(|| entry.file_name().to_str()?.parse::<i32>().ok()).flatten()
        });
        // The shepherd's program is so small that the pages which come back around each page that is used are half of it.
        let processes = [("decider", decider.expect("a decider")), ("launcher", pids["launcher"])];
        let begun = Instant::now();
        loop {
            let seen = processes.map(|(name, pid)| (name, own_code(pid)));
            if seen.iter().all(|(_, (resident, size))| *size > 0 && resident * 2 < *size) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "KiB of code, resident and all: {seen:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        world.write_file("/home/alice/enough", "", "alice", 0o600);
    });
    assert!(outcome.succeeded(), "{}", outcome.log);
}
