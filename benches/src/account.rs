//! Where a stage's time goes: process starts, system calls, page faults and instructions of each process, in `config`, `prepare`, `run` and
//! `cleanup` of one job under a runner that is root.
//!
//! The instructions are counted one by one (`steps.rs`), which takes minutes; the time of a stage below it says nothing.

use crate::steps::{FORKED, program};
use nunbird_tests::Exit;
use nunbird_tests::runner::Session;
use nunbird_tests::world::enter::Spec;
use nunbird_tests::world::{Privilege, World};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long a call may take that is stopped after each instruction.
const PATIENCE: Duration = Duration::from_secs(600);

/// A way of looking at a call: the program before it, by `OUT`, and variables.
struct Look {
    words: Vec<OsString>,
    steps: bool,
}

/// What was seen of a program's processes.
#[derive(Default)]
struct Row {
    starts: u64,
    calls: u64,
    faults: u64,
    /// Instructions in the program's own file, in libc, in the loader, elsewhere.
    instructions: [u64; 4],
}

/// Prints the tables. Without `steps` there are no instructions in them, and it takes seconds. What strace(1) wrote stays in `target/bench`.
pub(crate) fn print(steps: bool) {
    let own: OsString = std::env::current_exe().expect("this program").into_os_string();
    let looks = [
        Look {
            words: vec![
                "/usr/bin/strace".into(),
                "-f".into(),
                "-qq".into(),
                "-a1".into(),
                "-s64".into(),
                "-o".into(),
            ],
            steps: false,
        },
        Look { words: vec![own.clone(), "steps".into()], steps: false },
        Look { words: vec![own, "steps".into()], steps: true },
    ];
    let mut stages: BTreeMap<&'static str, BTreeMap<String, Row>> = BTreeMap::new();
    for (number, look) in looks.iter().enumerate().filter(|(_, look)| steps || !look.steps) {
        // A world of its own each, so that all see a first job.
        let world = World::new(Privilege::RootRunner);
        world.write_keys();
        world.configure(&world.configuration().replace("audience =", "user_check = \"off\"\naudience ="));
        let job = world.job().limit(PATIENCE);
        let mut session = job.begin();
        assert!(session.config().succeeded(), "config");
        for stage in ["config", "prepare", "run", "cleanup"] {
            let Some(text) = looked_at(&world, &mut session, stage, look) else {
                println!("`{stage}` does not bear to be slowed down: no instructions");
                continue;
            };
            let rows = stages.entry(stage).or_default();
            match number {
                0 => {
                    keep(stage, &text);
                    calls(&text, rows);
                }
                1 => faults(&text, rows),
                _ => instructions(&text, rows),
            }
        }
    }
    for stage in ["config", "prepare", "run", "cleanup"] {
        println!("\n### `{stage}`\n");
        println!(
            "| program | processes | system calls | page faults | instructions: own | libc | loader | other |"
        );
        println!("|---|--:|--:|--:|--:|--:|--:|--:|");
        for (name, row) in stages.get(stage).into_iter().flatten() {
            let [own, libc, loader, other] = row.instructions;
            println!(
                "| {name} | {} | {} | {} | {own} | {libc} | {loader} | {other} |",
                row.starts, row.calls, row.faults
            );
        }
    }
}

/// For a look at the calls themselves.
fn keep(stage: &str, text: &str) {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
    fs::create_dir_all(directory).expect("target/bench");
    fs::write(directory.join(format!("{stage}.strace")), text).expect("what was seen");
}

fn looked_at(world: &World, session: &mut Session<'_>, stage: &'static str, look: &Look) -> Option<String> {
    let out = world.host_path("/tmp").join("nbt_look");
    let script = session.directory().join("empty");
    // The call of a second job: in the first one its session learned where the job works.
    let other = world.job().id(7002).limit(PATIENCE);
    let mut second = other.begin();
    let mut spec: Spec = match stage {
        "config" => second.spec_of_config(),
        "prepare" => session.spec_of_prepare(),
        "cleanup" => session.spec_of_cleanup(),
        _ => {
            session.write(&script, b":\n", 0o700);
            session.spec_of_run(&script, "build_script")
        }
    };
    let program = std::mem::replace(&mut spec.program, look.words[0].clone());
    let before: Vec<OsString> =
        look.words[1..].iter().cloned().chain(["/tmp/nbt_look".into(), program]).collect();
    spec.arguments.splice(0..0, before);
    if look.steps {
        spec.environment.push(("NBT_STEPS".into(), "1".into()));
    }
    let outcome = match stage {
        "config" => second.call_spec(stage, &spec),
        _ => session.call_spec(stage, &spec),
    };
    if look.steps && outcome.exit != Exit::Code(0) {
        // The next stage needs it.
        match stage {
            "prepare" => assert!(session.prepare().succeeded()),
            "cleanup" => assert!(session.cleanup().succeeded()),
            _ => {}
        }
        return None;
    }
    assert_eq!(outcome.exit, Exit::Code(0), "{stage}: {}", outcome.log);
    let text = fs::read_to_string(&out).expect("what was seen");
    fs::remove_file(&out).expect("what was seen");
    Some(text)
}

/// `PID call(…) = …`: each process by the program that it has become.
fn calls(text: &str, rows: &mut BTreeMap<String, Row>) {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for line in text.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if call.starts_with("---") || call.starts_with("+++") || call.starts_with("<...") {
            continue;
        }
        let name = names.entry(pid).or_insert_with(|| FORKED.to_owned());
        if let Some((_, words)) =
            call.split_once('[').filter(|_| call.starts_with("execve") && !call.contains("= -1"))
        {
            let words = words.split(']').next().unwrap_or("").split(", ").map(|word| word.trim_matches('"'));
            let words: Vec<&str> = words.collect();
            *name = program(&words);
        }
        rows.entry(name.clone()).or_default().calls += 1;
    }
}

fn faults(text: &str, rows: &mut BTreeMap<String, Row>) {
    for line in text.lines().filter(|line| !line.starts_with('@')) {
        let mut words = line.split('\t');
        let (Some(name), Some(faults)) = (words.next(), words.next()) else { continue };
        let row = rows.entry(name.to_owned()).or_default();
        row.starts += 1;
        row.faults += faults.parse::<u64>().unwrap_or(0);
    }
}

fn instructions(text: &str, rows: &mut BTreeMap<String, Row>) {
    for line in text.lines().filter(|line| !line.starts_with('@')) {
        let words: Vec<&str> = line.split('\t').collect();
        let [name, _, file, count] = words.as_slice() else { continue };
        let place = match *file {
            file if file.contains("libc.so") => 1,
            file if file.contains("ld-linux") => 2,
            file if file.contains("nunbird") || file.contains("bash") => 0,
            _ => 3,
        };
        let row = rows.entry((*name).to_owned()).or_default();
        row.instructions[place] += count.parse::<u64>().unwrap_or(0);
    }
}
