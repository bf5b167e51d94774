//! System calls of `nunbird-auth` as strace(1) records them, normalized to be the same from run to
//! run: docs/transcripts.md is written from them.
//!
//! execve(2) ignores setuid bits and file capabilities of a traced program unless the tracer may trace everything. So strace
//! runs as root here and takes the runner's ids for the program alone (`strace -u`): the transcript is that of the real
//! setuid program. Calls that only manage memory are left out; their number depends on the allocator.

use crate::world::{Privilege, World};
use crate::{Exit, Job, StageOutcome};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

mod tidy;

/// Not traced by strace.
const MEMORY: &str = "trace=!mmap,munmap,mremap,brk,madvise,mprotect,futex";

/// One process of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What it is for.
    pub role: &'static str,
    /// Calls of the dynamic loader, of libc and of Rust's runtime before the program's own first one.
    pub start: usize,
    /// Calls after that, to the end or to the launcher's start.
    pub own: usize,
    /// The latter, tidied.
    pub lines: Vec<String>,
}

/// One call of `nunbird-auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The stage and how it ended.
    pub name: &'static str,
    /// In the order in which they began.
    pub processes: Vec<Process>,
}

/// An allowed and a denied `config` and `run`, each traced.
///
/// # Panics
/// Without root or strace, and if a call ends unexpectedly.
pub fn calls(privilege: Privilege) -> Vec<Call> {
    let world = World::new(privilege);
    world.write_keys();
    let allowed = world.job();
    let mut session = allowed.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    let script = session.directory().join("script");
    session.write(&script, b"exit 0", 0o700);
    let run = session.spec_of_run(&script, "build_script");
    let run = traced(&world, "run, allowed", Exit::Code(0), run, |spec| session.call_spec("run", spec));
    let begun = |job: &Job<'_>, name, exit| {
        let mut session = job.begin();
        let spec = session.spec_of_config();
        traced(&world, name, exit, spec, |spec| session.call_spec("config", spec))
    };
    let config = begun(&world.job().id(7002), "config, allowed", Exit::Code(0));
    let refused = begun(&world.job().id(7003).token("a.b.c"), "config, denied", Exit::Code(1));
    let stranger = world.job().id(7009);
    let mut without_record = stranger.begin();
    let script = without_record.directory().join("script");
    without_record.write(&script, b"exit 0", 0o700);
    let spec = without_record.spec_of_run(&script, "build_script");
    let denied =
        traced(&world, "run, denied", Exit::Code(1), spec, |spec| without_record.call_spec("run", spec));
    vec![config, refused, run, denied]
}

fn traced(
    world: &World,
    name: &'static str,
    expected: Exit,
    mut spec: crate::world::enter::Spec,
    call: impl FnOnce(&crate::world::enter::Spec) -> StageOutcome,
) -> Call {
    let directory = tempfile::Builder::new().prefix("strace").tempdir_in(world.root()).expect("a directory");
    let file = directory.path().join("of").into_os_string();
    let program = std::mem::replace(&mut spec.program, "/usr/bin/strace".into());
    let mut words: Vec<OsString> = ["-ff", "-qq", "-a1", "-s", "32", "-e", "signal=none", "-e", MEMORY, "-o"]
        .map(OsString::from)
        .to_vec();
    words.push(file);
    if world.runner().uid != 0 {
        words.extend(["-u".into(), world.runner().name.clone().into()]);
        spec.ids = Some(world.account("root").ids());
    }
    words.push(program);
    spec.arguments.splice(0..0, words);
    let outcome = call(&spec);
    assert_eq!(outcome.exit, expected, "{name}: {}", outcome.log);
    Call { name, processes: processes(world, directory.path()) }
}

/// The processes of `nunbird-auth`, and none of the launcher's.
fn processes(world: &World, directory: &Path) -> Vec<Process> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("transcripts").flatten() {
        let pid = entry.file_name().to_string_lossy().replace("of.", "");
        let text = fs::read_to_string(entry.path()).expect("a transcript");
        texts.insert(pid, until_the_launcher(&text));
    }
    let first = texts.iter().find(|(_, lines)| lines.first().is_some_and(|l| l.starts_with("execve(")));
    let mut order = vec![first.expect("the program's start").0.clone()];
    let mut next = 0;
    while let Some(lines) = order.get(next).and_then(|pid| texts.get(pid)) {
        let forks = lines
            .iter()
            .filter(|l| ["clone(", "clone3(", "fork(", "vfork("].iter().any(|f| l.starts_with(f)));
        let children: Vec<String> = forks.filter_map(|l| Some(l.rsplit_once("= ")?.1.to_owned())).collect();
        order.extend(children);
        next += 1;
    }
    let roles: Vec<(String, &'static str)> =
        order.iter().enumerate().map(|(n, pid)| (pid.clone(), role(n, &texts[pid]))).collect();
    let one = |(pid, role): &(String, &'static str)| {
        let lines = &texts[pid];
        let start = if pid == &order[0] {
            lines.iter().position(|l| l.starts_with("close_range(3")).expect("the first step")
        } else {
            0
        };
        let own = lines.len() - start;
        Process { role, start, own, lines: tidy::tidy(&lines[start..], world.root(), &roles) }
    };
    roles.iter().map(one).collect()
}

fn until_the_launcher(text: &str) -> Vec<String> {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let end = lines.iter().position(|l| l.starts_with("execveat(")).map_or(lines.len(), |at| at + 1);
    lines[..end].to_vec()
}

fn role(number: usize, lines: &[String]) -> &'static str {
    let does = |word: &str| lines.iter().any(|line| line.contains(word));
    match number {
        0 => "nunbird-auth",
        _ if does("\"nunbird-keys\"") => "becomes nunbird-keys",
        _ if does("\"nunbird-decide\", \"verify\"") => "becomes the verifier",
        _ if does("[\"nunbird-decide\"]") => "becomes the decider",
        _ if does("execveat(") => "becomes the launcher",
        _ => "child",
    }
}

/// A row for each process of each call, in Markdown.
pub fn table(privilege: Privilege, calls: &[Call]) -> String {
    let row = |call: &Call, p: &Process| {
        format!("| {} | {} | {} | {} | {} |\n", privilege.audit_name(), call.name, p.role, p.start, p.own)
    };
    calls.iter().flat_map(|call| call.processes.iter().map(move |p| row(call, p))).collect()
}

/// The transcripts themselves, in Markdown.
pub fn text(calls: &[Call]) -> String {
    let mut text = String::new();
    for call in calls {
        for process in &call.processes {
            let lines = process.lines.join("\n");
            text.push_str(&format!("\n## `{}`: {}\n\n```\n{lines}\n```\n", call.name, process.role));
        }
    }
    text
}
