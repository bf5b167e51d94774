//! The sandboxes of the two processes without privilege, observed from outside with strace(1).

use nunbird_tests::{Privilege, World, needs};
use std::path::Path;

/// What the verifier does once its filter is active: memory, randomness, open descriptors, its
/// exit.
const VERIFYING: [&str; 16] = [
    "brk",
    "close",
    "fstat",
    "futex",
    "getrandom",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "pread64",
    "read",
    "sigaltstack",
    "statx",
    "write",
];
/// What the decider does in addition.
const DECIDING: [&str; 7] = ["clock_gettime", "fcntl", "getpid", "recvfrom", "recvmsg", "sendto", "uname"];

/// System calls of the process that became `nunbird-decide` with these arguments, in order.
fn calls_of(directory: &Path, arguments: &str) -> Vec<String> {
    let transcripts = std::fs::read_dir(directory).expect("transcripts").flatten();
    let mut texts = transcripts.map(|entry| std::fs::read_to_string(entry.path()).expect("a transcript"));
    let text = texts.find(|text| text.contains(arguments) && text.contains("MODE_FILTER"));
    text.expect("a process with a filter").lines().map(str::to_owned).collect()
}

#[needs(root)]
fn decider_and_verifier_do_nothing_but_compute_once_they_are_in_their_sandboxes() {
    // Under a tracer a setuid bit has no effect, so the runner is root here; what the two do is the
    // same.
    let world = World::new(Privilege::RootRunner);
    world.write_keys();
    for (job, expected) in
        [(world.job(), 0), (world.job().token("a.b.c"), 1), (world.job().without_token(), 1)]
    {
        let mut session = job.begin();
        let mut spec = session.spec_of_config();
        let program = std::mem::replace(&mut spec.program, "/usr/bin/strace".into());
        let transcripts = world.root().join("transcripts");
        let _absent = std::fs::remove_dir_all(&transcripts);
        std::fs::create_dir(&transcripts).expect("a directory");
        let words = ["-ff", "-qq", "-o"].map(std::ffi::OsString::from);
        let file = transcripts.join("of").into_os_string();
        spec.arguments.splice(0..0, words.into_iter().chain([file, program]));
        let outcome = session.call_spec("config", &spec);
        assert_eq!(outcome.exit, nunbird_tests::Exit::Code(expected), "{}", outcome.log);
        let verifier = calls_of(&transcripts, "[\"nunbird-decide\", \"verify\"]");
        only_computes(&verifier, 2_147_483_632, "RLIMIT_NOFILE, {rlim_cur=0, rlim_max=0}", &VERIFYING);
        let decider = calls_of(&transcripts, "[\"nunbird-decide\"]");
        let both = [VERIFYING.as_slice(), &DECIDING].concat();
        only_computes(&decider, 2_147_483_629, "RLIMIT_NPROC, {rlim_cur=0, rlim_max=0}", &both);
    }
}

#[track_caller]
fn only_computes(calls: &[String], id: u32, bound: &str, allowed: &[&str]) {
    let at = calls.iter().position(|call| call.contains("MODE_FILTER")).expect("the filter");
    let (before, after) = calls.split_at(at + 1);
    let ids = [format!("setresgid({id}, {id}, {id})"), format!("setresuid({id}, {id}, {id})")];
    for step in [
        "\"1000\", 4)",
        "RLIMIT_AS, {rlim_cur=262144*1024, rlim_max=262144*1024}",
        "RLIMIT_DATA, {rlim_cur=262144*1024, rlim_max=262144*1024}",
        "setgroups(0",
        &ids[0],
        &ids[1],
        "capset(",
        "PR_SET_PDEATHSIG, SIGKILL",
        "PR_SET_DUMPABLE, SUID_DUMP_DISABLE",
        "PR_SET_NO_NEW_PRIVS, 1",
        bound,
    ] {
        let taken = |call: &String| call.contains(step) && (call.contains("= 0") || call.ends_with("= 4"));
        assert!(before.iter().any(taken), "{step} is not in\n{before:#?}");
    }
    let (exit, computing) = after.split_last().expect("an exit");
    assert!(exit.starts_with("exit_group(0)"), "{exit}");
    for call in computing {
        let name = call.split('(').next().unwrap_or("");
        // Refused calls are harmless, but the C library makes few calls that are refused.
        assert!(allowed.contains(&name), "{call}");
    }
}

/// What fills a job response up to `room` bytes in different shapes, each of which a parser may turn into more memory.
fn large(shape: &str, room: usize) -> serde_json::Value {
    match shape {
        "variables" => vec![serde_json::json!({"key": "K", "value": ""}); room / 24].into(),
        "numbers" => vec![serde_json::json!(1); room / 2].into(),
        "escapes" => serde_json::json!([{"key": "K", "value": "\u{1}".repeat(room / 6)}]),
        _ => (0..100).map(|_| vec![serde_json::json!([]); room / 310]).collect::<Vec<_>>().into(),
    }
}

#[needs(root)]
fn the_largest_job_responses_fit_into_the_workers_memory() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    // A worker has two seconds, and one that was built without optimization decodes thirty times slower.
    let debug = std::env::var_os("NUNBIRD_BIN_DIR").is_some_and(|path| Path::new(&path).ends_with("debug"));
    let most = if debug { 2 << 20 } else { 16 << 20 };
    for (place, shape) in
        [("variables", "variables"), ("variables", "escapes"), ("unknown", "numbers"), ("unknown", "arrays")]
    {
        let job = world.job().response(move |response| match (place, large(shape, most - (64 << 10))) {
            ("variables", serde_json::Value::Array(more)) => {
                response["variables"].as_array_mut().expect("variables").extend(more);
            }
            (_, more) => response["unknown"] = more,
        });
        let mut session = job.begin();
        let size = std::fs::metadata(session.response_file()).expect("a response").len();
        let most = u64::try_from(most).expect("a size");
        assert!((most - (1 << 20)..most).contains(&size), "{shape}: {size}");
        let outcome = session.config();
        assert!(outcome.succeeded(), "{shape}: {} {:?}", outcome.log, world.audit().last());
        assert!(session.cleanup().succeeded());
    }
}
