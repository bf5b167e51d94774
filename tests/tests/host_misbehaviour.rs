//! Jobs that misbehave, one of each kind, on a booted systemd host: what is left of them when the runner has gone through
//! all its stages, `cleanup` included, and whether the next job of the same user runs.
//!
//! The table contains what is left today, and why. A kind that leaves more fails, and so does one
//! that leaves less than the table states: then the table is corrected.

use nunbird_tests::{Cancel, Host, Status, needs};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Left legitimately: the account's own file, which the next login of the same user finds as well.
const OWN_FILE: &str = "the user's own file in a place that is the user's to write to";

/// One kind of misbehaviour.
struct Kind {
    name: &'static str,
    script: &'static str,
    /// What is left, and why.
    left: &'static [(&'static str, &'static str)],
}

const fn kind(
    name: &'static str,
    script: &'static str,
    left: &'static [(&'static str, &'static str)],
) -> Kind {
    Kind { name, script, left }
}

const KINDS: &[Kind] = &[
    kind("setsid daemon", "setsid sleep 300 </dev/null >/dev/null 2>&1 &", &[]),
    kind("double fork", "(setsid sh -c 'sleep 300 &' </dev/null >/dev/null 2>&1 &)", &[]),
    kind("nohup", "nohup sleep 300 >/dev/null 2>&1 &", &[]),
    kind(
        "stopped process",
        "(kill -STOP $BASHPID; sleep 300) & until grep -q 'State:.T' /proc/$!/status; do :; done",
        &[],
    ),
    kind("ignores TERM", "(trap '' TERM HUP INT; exec sleep 300) &", &[]),
    kind(
        "fork storm up to the limit of processes",
        "python3 - <<'E'\nimport os, resource, time\nresource.setrlimit(resource.RLIMIT_NPROC, (150, 150))\n\
         try:\n while True:\n  if os.fork() == 0: os.setsid(); time.sleep(300); os._exit(0)\nexcept OSError as e: print(e)\nE",
        &[],
    ),
    kind(
        "process that changes its number all the time",
        "setsid python3 -c 'import os, time\nend = time.time() + 300\n\
         while time.time() < end:\n if os.fork(): os._exit(0)\n time.sleep(0.002)' </dev/null >/dev/null 2>&1 &",
        &[],
    ),
    kind("at", "echo 'exec sleep 300' | at now 2>&1; until pgrep -x -u alice sleep; do :; done", &[]),
    kind("cron", "echo '0 0 1 1 * true' | crontab -", &[("file crontab", OWN_FILE)]),
    kind("screen", "SCREENDIR=$HOME/.screen screen -dm sleep 300", &[]),
    kind("fills a tmpfs", "head -c 64M /dev/zero >/dev/shm/fill", &[("file /dev/shm", OWN_FILE)]),
    kind("temporary files", "mktemp; mktemp -d", &[("file /tmp", OWN_FILE)]),
    kind("keeps a deleted file open", "exec 9>held; rm held; setsid sleep 300 >/dev/null 2>&1 &", &[]),
    kind("deletes its build directory", "cd /; rm -rf \"$CI_PROJECT_DIR\" \"$CI_PROJECT_DIR.tmp\"", &[]),
    kind("chmod 000 its directories", "chmod 000 \"$CI_PROJECT_DIR\" \"$CI_PROJECT_DIR.tmp\"", &[]),
    kind("renames its directories", "mv \"$CI_PROJECT_DIR\" \"$CI_PROJECT_DIR.moved\"", &[]),
    kind(
        "symbolic link in the place of the temporary directory",
        "rm -rf \"$CI_PROJECT_DIR.tmp\"; ln -s \"$HOME/precious\" \"$CI_PROJECT_DIR.tmp\"",
        &[],
    ),
    kind(
        "symbolic link in the place of the build directory",
        "cd /; rm -rf \"$CI_PROJECT_DIR\"; ln -s \"$HOME/precious\" \"$CI_PROJECT_DIR\"",
        &[],
    ),
    kind(
        "fifo in the place of the temporary directory",
        "rm -rf \"$CI_PROJECT_DIR.tmp\"; mkfifo \"$CI_PROJECT_DIR.tmp\"",
        &[],
    ),
    kind("fifo where a file was", "rm README.md; mkfifo README.md", &[]),
    kind("huge output", "head -c 4M /dev/zero | tr '\\0' x | fold -w 120", &[]),
    kind("closes its output", "exec >&- 2>&-; sleep 300 & true", &[]),
    kind("kills its parent", "kill -KILL $PPID; sleep 300", &[]),
    kind(
        "traces its parent",
        "python3 -c 'import ctypes, os; print(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0))'; kill -STOP $PPID; kill -CONT $PPID",
        &[],
    ),
    kind("kernel thread's title", "(exec -a '[kworker/0:0]' setsid sleep 300 >/dev/null 2>&1) &", &[]),
    kind(
        "memory hog",
        "setsid python3 -c 'x = bytearray(200 << 20); open(\"hog\", \"w\"); import time; time.sleep(300)' >/dev/null 2>&1 & until [ -e hog ]; do :; done",
        &[],
    ),
    kind(
        "mounts in a user namespace",
        "setsid unshare -rm sh -c 'mount -t tmpfs nbt /mnt; exec sleep 300' >/dev/null 2>&1 &",
        &[],
    ),
    kind("cancelled with a daemon", "setsid sleep 300 >/dev/null 2>&1 & echo go''ing; wait", &[]),
];

/// What a host shows of the user's jobs: compared before and after.
fn traces(host: &Host, runner: &Path) -> BTreeSet<String> {
    let inside = PathBuf::from(format!("/proc/{}/root", host.pid1()));
    let below = |place: &'static str| names(&inside.join(place)).into_iter().map(move |name| (place, name));
    let mut found: BTreeSet<String> = ["tmp", "var/tmp", "dev/shm", "run/user"]
        .into_iter()
        .flat_map(below)
        .filter(|(_, name)| !name.starts_with("systemd-private"))
        .map(|(place, name)| format!("file /{place} {name}"))
        .collect();
    found.extend(
        names(&inside.join("var/spool/cron/crontabs")).into_iter().map(|name| format!("file crontab {name}")),
    );
    found.extend(
        names(runner)
            .into_iter()
            .filter(|n| n != "calls.sock")
            .map(|name| format!("file of the runner {name}")),
    );
    found.extend(temporary(&inside.join("home/alice/.nunbird")));
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", host.pid1())).expect("mounts");
    found.extend(
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|place| format!("mount {place}")),
    );
    found.extend(host.world().records().iter().map(|path| format!("record {}", path.display())));
    found
}

/// Directories of file variables and of batch stages that are still there.
fn temporary(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".tmp") {
            found.push(format!("file {}", entry.file_name().to_string_lossy()));
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(temporary(&entry.path()));
        }
    }
    found
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The words of the table that a trace falls under.
fn matches(trace: &str, known: &[(&str, &str)]) -> bool {
    known.iter().any(|(what, _)| trace.starts_with(what))
}

/// Runs one kind of job; returns what is left of it.
fn run(host: &Host, number: u64, kind: &Kind) -> BTreeSet<String> {
    let runner = host.world().host_path("/").with_file_name("runner");
    let before = traces(host, &runner);
    let job = host.world().job().id(number).file_variable("KEY", "the key\n").script(kind.script);
    let outcome = job.cancel_when("build_script", "going", Cancel::AtOnce).run();
    if matches!(kind.name, "setsid daemon" | "nohup" | "huge output") {
        assert_eq!(outcome.status, Status::Success, "{}: {}", kind.name, outcome.log());
    }
    // Processes that were signalled get time to end; those of the table stay.
    let stays = matches("process", kind.left);
    host.wait_until(|host| host.processes_of("alice").is_empty() != stays);
    let mut left: BTreeSet<String> = traces(host, &runner).difference(&before).cloned().collect();
    left.extend(
        host.processes_of("alice")
            .iter()
            .map(|process| format!("process {} {}", process.pid, process.command)),
    );
    left
}

/// Ends and removes what a kind has left.
fn sweep(host: &Host) {
    // A process that forks all the time is outrun by stopping everything first.
    let swept = "while pgrep -u alice >/dev/null; do pkill -STOP -u alice; pkill -KILL -u alice; done; \
        find /tmp /dev/shm /var/tmp -mindepth 1 -user alice -delete; crontab -r -u alice 2>/dev/null; true";
    host.root(swept).success();
    assert!(host.wait_until(|host| host.processes_of("alice").is_empty()));
}

/// The kinds are shared among two hosts, to halve the time.
#[needs(host)]
fn each_kind_of_misbehaving_job_leaves_what_the_table_says_and_the_next_job_runs() {
    judge(&KINDS[..KINDS.len() / 2]);
}

#[needs(host)]
fn each_kind_of_the_second_half_leaves_what_the_table_says_and_the_next_job_runs() {
    judge(&KINDS[KINDS.len() / 2..]);
}

fn judge(kinds: &[Kind]) {
    let host = Host::boot();
    host.root("runuser -u alice -- sh -c 'mkdir ~/precious; echo kept >~/precious/file'").success();
    let mut wrong = Vec::new();
    println!("{:<55} | {:<40} | next job | why", "kind", "left");
    for (number, kind) in (9000..).step_by(2).zip(kinds) {
        let mut left = run(&host, number, kind);
        sweep(&host);
        let next = host.world().job().id(number + 1).script("cat README.md").run();
        let runs = next.status == Status::Success;
        if !runs {
            left.insert(format!("next job fails: {}", next.log()));
        }
        let short: BTreeSet<&str> =
            left.iter().map(|trace| trace.split(' ').next().unwrap_or_default()).collect();
        let words = if left.is_empty() { "nothing".to_owned() } else { format!("{} {short:?}", left.len()) };
        let why: BTreeSet<&str> = kind.left.iter().map(|(_, why)| *why).collect();
        println!(
            "{:<55} | {words:<40} | {:<8} | {}",
            kind.name,
            if runs { "runs" } else { "FAILS" },
            why.into_iter().collect::<Vec<_>>().join("; ")
        );
        let more: Vec<&String> = left.iter().filter(|trace| !matches(trace, kind.left)).collect();
        let less: Vec<&str> = kind
            .left
            .iter()
            .map(|(what, _)| *what)
            .filter(|what| !left.iter().any(|trace| trace.starts_with(what)))
            .collect();
        if !more.is_empty() {
            wrong.push(format!("{}: left and not in the table: {more:?}", kind.name));
        }
        if !less.is_empty() {
            wrong.push(format!("{}: no longer left, take it off the table: {less:?}", kind.name));
        }
        if !runs {
            // So that one kind does not affect the next.
            host.root("rm -rf /home/alice/.nunbird /var/lib/nunbird/jobs/*").success();
        }
        assert_eq!(host.root("cat /home/alice/precious/file").success(), "kept", "{}", kind.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(host.root("systemctl is-system-running").success(), "running");
}
