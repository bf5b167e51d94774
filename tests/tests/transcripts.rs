//! docs/transcripts.md matches today's program.

use nunbird_tests::{Privilege, needs, transcript};
use std::collections::BTreeMap;
use std::path::Path;

/// System calls of our own code by privilege, call and process; processes of one name are counted
/// together.
fn counts(table: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let [privilege, call, process, _, own] = cells[..]
            && let Ok(own) = own.parse::<usize>()
        {
            *counts.entry(format!("{privilege}: {call}: {process}")).or_default() += own;
        }
    }
    counts
}

#[needs(root)]
fn the_numbers_of_system_calls_are_as_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let document = std::fs::read_to_string(root.join("docs/transcripts.md")).expect("the document");
    let written = counts(&document);
    let modes = Privilege::PRIVILEGED;
    let table: String = modes.map(|mode| transcript::table(mode, &transcript::calls(mode))).concat();
    let today = counts(&table);
    let rows = |of: &BTreeMap<String, usize>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(rows(&written), rows(&today), "run `make transcripts`");
    for (row, number) in &today {
        // Another libc or user database makes a few calls more or less, and so does waiting for a
        // lock.
        let tolerated = 5 + number / 10;
        assert!(
            written[row].abs_diff(*number) <= tolerated,
            "{row}: {number} system calls, and the document says {}; run `make transcripts`",
            written[row]
        );
    }
}

#[needs(root)]
fn the_children_do_the_same_in_every_run_and_no_transcript_holds_content() {
    let [first, second] = [(); 2].map(|()| transcript::calls(Privilege::Setuid));
    for (first, second) in first.iter().zip(&second) {
        let children = |call: &transcript::Call| -> Vec<Vec<String>> {
            let becomes = call.processes.iter().filter(|process| process.role.starts_with("becomes "));
            becomes.map(|process| process.lines.clone()).collect()
        };
        assert_eq!(children(first), children(second), "{}", first.name);
    }
    let text = transcript::text(&first);
    assert!(text.contains("capset(") && text.contains("execveat("), "{text}");
    for content in ["eyJ", "nbt_", "decision_id"] {
        assert!(!text.contains(content), "{content} is in\n{text}");
    }
}

/// What PAM's modules or a keeper of its session did to the score comes after the site's was set, and an inherited -1000 makes jobs
/// that nothing can kill.
#[needs(root)]
fn the_score_with_the_oom_killer_is_looked_at_once_more_between_the_limits_and_the_change_of_ids() {
    for mode in Privilege::PRIVILEGED {
        let mut looked_at = 0;
        for call in transcript::calls(mode) {
            for process in call.processes.iter().filter(|p| p.role == "becomes the launcher") {
                let last = |word: &str| process.lines.iter().rposition(|line| line.contains(word));
                let limits = last("prlimit64(0, RLIMIT_CORE, {").expect("limits");
                let ids = process.lines.iter().position(|line| line.starts_with("setresuid(")).expect("ids");
                let between = process.lines.get(limits..ids).unwrap_or_default();
                let looks = |line: &&String| line.contains("\"/proc/self/oom_score_adj\", O_RDONLY");
                assert_eq!(between.iter().filter(looks).count(), 1, "{mode:?}, {}: {between:#?}", call.name);
                looked_at += 1;
            }
        }
        assert!(looked_at > 0, "{mode:?}");
    }
}

/// Some files of the kernel's judge their opener by effective uid and capabilities, and keep the opener for ever.
#[needs(root)]
fn the_program_holds_two_capabilities_and_none_and_its_callers_uid_while_it_opens_what_that_names() {
    for mode in Privilege::PRIVILEGED {
        let caller = if mode == Privilege::RootRunner { 0 } else { 4001 };
        let assumed = format!("setresuid(-1, {caller}, -1) = 0");
        let both = "1<<CAP_SETGID|1<<CAP_SETUID";
        let [kept, lent] = [both, "0"]
            .map(|effective| format!("{{effective={effective}, permitted={both}, inheritable=0}}"));
        for call in transcript::calls(mode) {
            let lines = &call.processes.first().expect("the program").lines;
            let (mut uid, mut capabilities, mut of_caller, mut of_root) = ("", "", 0, 0);
            for line in lines {
                let seen = || format!("{mode:?}, {}: {line} after {uid} and {capabilities}", call.name);
                if line.starts_with("setresuid(-1, ") {
                    uid = line;
                } else if line.starts_with("capset(") {
                    capabilities = line;
                } else if line.starts_with("openat(AT_FDCWD, \"/runner/") {
                    of_caller += 1;
                    assert!(uid == assumed && capabilities.contains(&lent), "{}", seen());
                } else if line.starts_with("open") && line.contains("nunbird") {
                    of_root += 1;
                    assert!(capabilities.contains(&kept), "{}", seen());
                }
            }
            assert!(of_caller > 0 && of_root > 0, "{mode:?}, {}: {of_caller} {of_root}", call.name);
        }
    }
}

/// A process that this program could not signal would stay for ever.
#[needs(root)]
fn decider_and_verifier_end_by_themselves_after_fifteen_minutes_and_a_stages_decider_later() {
    let mut seen = Vec::new();
    for call in transcript::calls(Privilege::Setuid) {
        let expected = if call.name.starts_with("config") { "alarm(900) = 0" } else { "alarm(…) = 0" };
        let deciding = |role: &str| matches!(role, "becomes the decider" | "becomes the verifier");
        for process in call.processes.iter().filter(|process| deciding(process.role)) {
            let first = process.lines.iter().find(|line| line.starts_with("alarm("));
            assert_eq!(first.map(String::as_str), Some(expected), "{}: {}", call.name, process.role);
            seen.push((call.name, process.role));
        }
    }
    assert_eq!(seen.len(), 5, "two of each config, and one of the stage that runs: {seen:?}");
}

/// Steps 3 to 7 of operation.md: nothing is opened in a process that its caller has prepared.
#[needs(root)]
fn the_process_is_put_in_order_and_holds_two_capabilities_before_it_opens_anything() {
    let both = "1<<CAP_SETGID|1<<CAP_SETUID";
    let reduced = format!("{{effective={both}, permitted={both}, inheritable=0}}) = 0");
    let steps = [
        "close_range(3, ",
        "rt_sigaction(",
        "rt_sigprocmask(SIG_SETMASK, []",
        "prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0",
        "umask(077)",
        "chdir(\"/\") = 0",
        "prctl(PR_SET_CHILD_SUBREAPER, 0) = 0",
        "waitid(P_ALL, ",
        "getresuid(",
        "prctl(PR_GET_SECUREBITS) = 0",
        "prlimit64(0, RLIMIT_FSIZE, {",
        "prlimit64(0, RLIMIT_CORE, {rlim_cur=0",
        "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL",
        reduced.as_str(),
    ];
    for mode in Privilege::PRIVILEGED {
        for call in transcript::calls(mode) {
            let lines = &call.processes.first().expect("the program").lines;
            let opens = lines.iter().position(|line| line.starts_with("open")).expect("a file");
            let mut before = lines[..opens].iter();
            for step in steps {
                let taken = before.any(|line| line.contains(step));
                assert!(taken, "{mode:?}, {}: {step} is not in its place: {:#?}", call.name, &lines[..opens]);
            }
        }
    }
}

/// Step 15 of operation.md, in its order.
#[needs(root)]
fn decider_and_verifier_give_everything_up_before_they_start() {
    for mode in Privilege::PRIVILEGED {
        for call in transcript::calls(mode) {
            for process in &call.processes {
                let id = match process.role {
                    "becomes the verifier" => 2_147_483_632_u32,
                    "becomes the decider" => 2_147_483_629,
                    _ => continue,
                };
                let of_stage = call.name.starts_with("run");
                let [gids, uids] =
                    ["setresgid", "setresuid"].map(|name| format!("{name}({id}, {id}, {id}) = 0"));
                let mut steps = vec![
                    "alarm(",
                    "prlimit64(0, RLIMIT_AS, {rlim_cur=262144*1024, rlim_max=262144*1024}, NULL) = 0",
                    "\"/dev/null\"",
                    "close_range(3, 4294967295, CLOSE_RANGE_CLOEXEC) = 0",
                    "setgroups(0, []) = 0",
                    gids.as_str(),
                    uids.as_str(),
                    "{effective=0, permitted=0, inheritable=0}) = 0",
                    "PR_CAP_AMBIENT_CLEAR_ALL",
                    "KEYCTL_JOIN_SESSION_KEYRING",
                    "setresuid(-1, 0, -1) = -1 EPERM",
                    "prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0",
                    "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) = 0",
                    "prctl(PR_SET_PDEATHSIG, SIGKILL) = 0",
                    "getppid()",
                ];
                steps.extend(of_stage.then_some("setsid() = "));
                steps.extend(["rt_sigaction(", "rt_sigprocmask(SIG_SETMASK, []", "execveat("]);
                let mut lines = process.lines.iter();
                for step in steps {
                    let seen = format!("{mode:?}, {}, {}", call.name, process.role);
                    let taken = lines.any(|line| line.contains(step));
                    assert!(taken, "{seen}: {step} is not in its place: {:#?}", process.lines);
                }
                let first = process.lines.iter().any(|line| line.contains("oom_score_adj"));
                assert_ne!(first, of_stage, "a job could choose the decider of its stage as a victim");
            }
        }
    }
}
