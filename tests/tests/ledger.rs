//! Rows of docs/cve-ledger.md that no other file tests.

use nunbird_tests::records;
use nunbird_tests::runner::{Session, StageOutcome};
use nunbird_tests::world::Account;
use nunbird_tests::{Exit, Privilege, World, needs};
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

/// `config` started by another program.
fn config_by(session: &mut Session<'_>, words: &[&str]) -> StageOutcome {
    let mut spec = session.spec_of_config();
    let program = std::mem::replace(&mut spec.program, words[0].into());
    let before: Vec<OsString> = words[1..].iter().map(OsString::from).collect();
    spec.arguments.splice(0..0, before.into_iter().chain([program]));
    session.call_spec("config", &spec)
}

#[needs(root)]
fn a_process_whose_securebits_would_keep_capabilities_is_refused() {
    let world = ready(Privilege::RootRunner);
    let job = world.job();
    let mut session = job.begin();
    for bit in ["no_setuid_fixup", "noroot"] {
        let outcome = config_by(&mut session, &["setpriv", "--securebits", &format!("+{bit}")]);
        assert_eq!(outcome.exit, Exit::Code(2), "{bit}: {}", outcome.log);
        assert!(outcome.stderr.contains("[privilege]"), "{bit}: {}", outcome.stderr);
    }
    assert!(session.config().succeeded());
}

#[needs(root)]
fn inherited_ambient_capabilities_do_not_reach_the_job() {
    let world = ready(Privilege::RootRunner);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let script = session.directory().join("through");
    session.write(&script, b"grep ^Cap /proc/self/status", 0o700);
    let mut spec = session.spec_of_run(&script, "build_script");
    let program = std::mem::replace(&mut spec.program, "setpriv".into());
    let words = ["--inh-caps", "+net_raw,+chown", "--ambient-caps", "+net_raw,+chown"].map(OsString::from);
    spec.arguments.splice(0..0, words.into_iter().chain([program]));
    let outcome = session.call_spec("build_script", &spec);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(outcome.stdout.contains(&format!("{set}:\t0000000000000000")), "{}", outcome.log);
    }
}

#[needs(root, in_each = Privilege::OF_FILE)]
fn in_a_user_namespace_of_the_caller_there_is_no_privilege_to_be_had(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    for words in [&["unshare", "--user"][..], &["unshare", "--user", "--map-root-user"]] {
        let outcome = config_by(&mut session, words);
        assert_ne!(outcome.exit, Exit::Code(0), "{words:?}: {}", outcome.log);
        assert!(world.records().is_empty() && outcome.stdout.is_empty(), "{}", outcome.log);
    }
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_working_directory_that_is_gone_or_closed_to_the_user_harms_nothing(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    let gone = config_by(
        &mut session,
        &["/bin/sh", "-c", "mkdir gone && cd gone && rmdir ../gone && exec \"$0\" \"$@\""],
    );
    assert!(gone.succeeded(), "{}", gone.log);
    // The runner starts every call in its private directory, where the user cannot be.
    assert!(session.prepare().succeeded());
    let stage = session.run_text("build_script", "pwd");
    assert_eq!(stage.stdout, "/home/alice/.nunbird/builds/vm/000\n".replace("vm", &host(&stage.stdout)));
}

fn host(path: &str) -> String {
    path.split('/').nth(5).unwrap_or("").to_owned()
}

/// The kernel counts processes by real uid, but neither root's nor those that hold `CAP_SYS_RESOURCE` or
/// `CAP_SYS_ADMIN` (getrlimit(2)). The program holds neither by then, so it is counted as its caller.
#[needs(root, in_each = Privilege::OF_FILE)]
fn a_limit_on_the_runners_processes_is_reported_and_nothing_runs_with_privilege_instead(
    privilege: Privilege,
) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    let outcome = config_by(&mut session, &["/bin/bash", "-c", "ulimit -u 1; exec \"$0\" \"$@\""]);
    assert_eq!(outcome.exit, Exit::Code(2), "{privilege:?}: {}", outcome.log);
    assert!(outcome.stderr.contains("[decider]"), "{}", outcome.stderr);
    assert!(world.records().is_empty() && outcome.stdout.is_empty(), "{}", outcome.log);
}

/// Processes of an account, gone when this is dropped.
struct Crowd<'a>(&'a World);

impl<'a> Crowd<'a> {
    fn gather(world: &'a World, number: u32) -> Self {
        let all = format!("for i in $(seq {number}); do sleep 300 >/dev/null 2>&1 & done");
        world.shell("crowd", &all).success();
        Crowd(world)
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        // All processes of this account belong to the test, including the one that reports it.
        let _killed_itself_too = self.0.shell("crowd", "kill -KILL -1");
    }
}

/// setresuid(2) succeeds for a user with too many processes, and execve(2) then fails with `EAGAIN`: until Linux 3.0
/// the first failed, and programs that did not look went on as root.
#[needs(root)]
fn a_limit_on_the_users_processes_is_reported_and_nothing_runs_with_privilege_instead() {
    let first = 20_000 + std::process::id() % 10_000 * 3;
    for (privilege, uid) in Privilege::PRIVILEGED.into_iter().zip(first..) {
        let mut world = World::new(privilege);
        // A uid of its own each time: the kernel counts for the whole host, and the dead until init has seen them.
        world.add_account(Account::new("crowd", uid));
        world.write_keys();
        let job = world.job().user("crowd");
        let mut session = job.prepared();
        let script = session.directory().join("script");
        session.write(&script, b"id -u >/tmp/ran", 0o700);
        let mut spec = session.spec_of_run(&script, "build_script");
        let program = std::mem::replace(&mut spec.program, "/bin/bash".into());
        // Room enough for the runner's account, whose processes belong to other tests, too.
        let limited = ["-c", "ulimit -u 200; exec \"$0\" \"$@\""].map(OsString::from);
        spec.arguments.splice(0..0, limited.into_iter().chain([program]));
        let ran = world.host_path("/tmp/ran");
        let alone = session.call_spec("build_script", &spec);
        assert!(alone.succeeded() && ran.exists(), "{privilege:?}: {}", alone.log);
        fs::remove_file(&ran).expect("what the script wrote");
        let crowd = Crowd::gather(&world, 210);
        let outcome = session.call_spec("build_script", &spec);
        drop(crowd);
        assert_eq!(outcome.exit, Exit::Code(2), "{privilege:?}: {}", outcome.log);
        assert!(outcome.stderr.contains("[launcher]"), "{}", outcome.stderr);
        assert!(!ran.exists(), "{privilege:?}: the script ran");
        assert!(session.cleanup().succeeded());
    }
}

#[needs(root, in_each = Privilege::ALL)]
fn the_job_has_a_session_of_its_own_and_no_standard_input(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let script = "readlink /proc/$$/fd/0; cut -d' ' -f6-7 /proc/$$/stat | sed \"s/^$$ /own /\"";
    let outcome = session.run_text("build_script", script);
    assert_eq!(outcome.stdout, "/dev/null\nown 0\n", "{privilege:?}: no terminal: {}", outcome.log);
}

#[needs(root)]
fn the_user_database_is_asked_only_after_the_token_was_verified() {
    let world = ready(Privilege::RootRunner);
    for (job, asks) in [(world.job().token("a.b.c"), false), (world.job(), true)] {
        let mut session = job.begin();
        let file = world.root().join("opened");
        let path = file.to_str().expect("a path");
        let outcome = config_by(&mut session, &["strace", "-f", "-qq", "-e", "trace=openat", "-o", path]);
        let opened = fs::read_to_string(&file).expect("a transcript");
        assert_eq!(
            opened.contains("/etc/passwd") || opened.contains("nsswitch"),
            asks,
            "{}\n{opened}",
            outcome.log
        );
    }
}

#[needs(root)]
fn a_call_that_is_killed_at_any_moment_leaves_whole_files() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut admitted = 0;
    for round in 0..60_u32 {
        let mut session = job.begin();
        let script = format!("\"$0\" \"$@\" & sleep 0.0{:02}; kill -KILL $!; wait $!", round % 40 / 2);
        let outcome = config_by(&mut session, &["/bin/bash", "-c", &script]);
        admitted += usize::from(outcome.stdout.contains("builds_dir"));
        for record in world.records() {
            assert_eq!(records::read(&record).account.name, "alice");
        }
        // Panics for half a line.
        let _ = world.audit();
        assert!(session.cleanup().succeeded(), "cleanup after a killed config");
    }
    assert!(world.records().is_empty());
    assert!(admitted < 60, "no call was killed in time");
    assert!(job.config().succeeded(), "the lock is free");
}

#[needs(root)]
fn a_stopped_call_holds_up_calls_of_its_own_runner_for_a_bounded_time() {
    let world = ready(Privilege::Setuid);
    let lock = world.host_path("/var/lib/nunbird/jobs/.lock-4001");
    assert!(world.job().config().succeeded());
    let held = fs::OpenOptions::new().write(true).open(&lock).expect("the lock");
    held.lock().expect("held");
    let outcome = world.job().id(7002).config();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[record-store]"), "{}", outcome.stderr);
    assert!(outcome.elapsed < Duration::from_secs(8), "{:?}", outcome.elapsed);
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_user_who_stops_the_launcher_of_cleanup_does_not_hold_the_runner(privilege: Privilege) {
    let mut world = World::new(privilege);
    // An account of its own: other tests' launchers run as alice on this host at the same time.
    world.add_account(Account::new("hunter", 4177));
    world.write_keys();
    let job = world.job().user("hunter").limit(Duration::from_secs(4));
    let mut session = job.prepared();
    // As a daemon of the user would: everything that becomes the user's is stopped at once.
    let hunt = "for i in $(seq 400); do pkill -STOP -u hunter -f 'nunbir[d]' || true; sleep 0.01; done";
    let outcome = std::thread::scope(|scope| {
        let hunter = scope.spawn(|| world.shell("hunter", hunt));
        std::thread::sleep(Duration::from_millis(300));
        let outcome = session.cleanup();
        let _ended = hunter.join();
        outcome
    });
    // What it stopped would outlive the test; all processes of this account are the test's.
    let _killed_itself_too = world.shell("hunter", "kill -KILL -1");
    // The runner's TERM ends the wait; what counts is that nothing of the job holds the runner's pipes.
    assert_ne!(outcome.exit, Exit::Abandoned, "{privilege:?}: {}", outcome.log);
}

#[needs(root)]
fn a_fetch_of_keys_that_hangs_is_ended_in_time() {
    let sleeper = fs::read(env!("CARGO_BIN_EXE_nbt-sleeper")).expect("a program");
    for privilege in Privilege::PRIVILEGED {
        let world = World::new(privilege);
        world.write_file("/opt/nunbird/bin/nunbird-keys", &sleeper, "root", 0o755);
        let outcome = world.job().config();
        assert!(outcome.stderr.contains("[no-keys]"), "{}", outcome.log);
        assert!(outcome.elapsed < Duration::from_secs(9), "{privilege:?}: {:?}", outcome.elapsed);
    }
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut sources = String::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                sources.push_str(&fs::read_to_string(path).expect("a source file"));
            }
        }
    }
    let mut named = 0;
    for document in ["docs/operation.md", "docs/cve-ledger.md", "docs/from-other-drivers.md"] {
        let text = fs::read_to_string(root.join(document)).expect("a document");
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.matches('_').count() >= 4 {
                named += 1;
                assert!(
                    sources.contains(&format!("fn {word}(")),
                    "{document} names {word}, which is no test"
                );
            }
        }
    }
    assert!(named > 80, "{named}");
}

#[test]
fn every_row_of_the_ledger_names_a_test_or_the_reason_why_there_is_none() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let text = fs::read_to_string(root.join("docs/cve-ledger.md")).expect("the ledger");
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| P") || line.starts_with("| N")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let test = cells.last().expect("a cell");
        let names_one = test.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| {
            // The test before this one looks whether it exists.
            word.matches('_').count() >= 4
        });
        assert!(names_one || test.strip_prefix("none: ").is_some_and(|why| why.len() > 10), "{line}");
        rows.extend(cells[0].split(", ").map(str::to_owned));
    }
    for number in 1..=48 {
        assert!(rows.contains(&format!("P{number}")), "P{number} has no row");
    }
}

#[test]
fn every_feature_of_the_other_drivers_has_a_test_or_the_reason_why_it_is_not_here() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let text = fs::read_to_string(root.join("docs/from-other-drivers.md")).expect("the page");
    let mut counts = Vec::new();
    for table in text.split("\n## ").skip(1) {
        let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| feature "));
        let mut count = 0;
        for (row, number) in rows.zip(1..) {
            assert!(row.starts_with(&format!("| {number}. ")), "{row}");
            for cell in row.trim_matches('|').split(" | ").skip(1).map(str::trim) {
                // The test above looks whether it exists.
                let names_one = cell
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .any(|word| word.matches('_').count() >= 4);
                let is_told = match cell.split([' ', ',', ':']).next() {
                    Some("yes") => names_one,
                    Some("no") => cell.starts_with("no, because "),
                    _ => false,
                };
                assert!(is_told, "{cell}: neither `yes` with a test nor `no, because`");
            }
            count = number;
        }
        counts.push(count);
    }
    assert_eq!(counts, [19, 14]);
}
