//! What a runner feels beside one stage's time: output, stages at once, and the memory of a stage that waits.

use crate::measure::quantile;
use crate::report::Fact;
use nunbird_tests::runner::Session;
use nunbird_tests::world::enter::Spec;
use nunbird_tests::world::{Privilege, World};
use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

const MIB: usize = 64;
const PAIRS: usize = 9;
/// Stages of each thread.
const STAGES: usize = 24;

/// All of it, under a runner that is root.
pub(crate) fn facts() -> Vec<Fact> {
    let world = World::new(Privilege::RootRunner);
    world.write_keys();
    let mut facts = vec![output(&world)];
    facts.extend(at_once(&world));
    facts.extend(memory(&world));
    facts
}

fn prepared<'w>(job: &'w nunbird_tests::Job<'w>) -> Session<'w> {
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    session
}

fn timed(world: &World, spec: &Spec) -> f64 {
    let begun = Instant::now();
    let finished = world.run(spec);
    assert!(finished.succeeded(), "{:?} {}", finished.exit, finished.stderr);
    begun.elapsed().as_secs_f64()
}

/// Bytes a second of a stage's output, beside `cat | cat`.
fn output(world: &World) -> Fact {
    world.write_file("/tmp/nbt_large", "0123456789abcde\n".repeat(MIB << 16), "root", 0o644);
    let job = world.job().id(8100);
    let session = prepared(&job);
    let script = session.directory().join("cat");
    session.write(&script, b"cat /tmp/nbt_large\n", 0o700);
    let stage = session.spec_of_run(&script, "build_script");
    let pipes = world.program("root", "/bin/sh", &["-c", "cat /tmp/nbt_large | cat"]);
    let ratios: Vec<f64> = (0..=PAIRS)
        .map(|_| {
            let (pipes, stage) = (timed(world, &pipes), timed(world, &stage));
            pipes / stage
        })
        .skip(1)
        .collect();
    Fact {
        name: format!("output of {MIB} MiB, against `cat | cat`"),
        value: quantile(&ratios, 0.5),
        unit: "x".to_owned(),
        target: "at least 0.9".to_owned(),
    }
}

/// Stages a second, at once, and the same number of `setpriv bash -l`.
fn at_once(world: &World) -> Vec<Fact> {
    let mut facts = Vec::new();
    for crowd in [1, 8, 32] {
        let jobs: Vec<_> = (0..crowd).map(|n| world.job().id(8200 + n)).collect();
        let sessions: Vec<_> = jobs.iter().map(prepared).collect();
        let stages: Vec<Spec> = sessions
            .iter()
            .map(|session| {
                let script = session.directory().join("empty");
                session.write(&script, b":\n", 0o700);
                session.spec_of_run(&script, "build_script")
            })
            .collect();
        let words = ["--reuid", "4101", "--regid", "4101", "--init-groups", "bash", "-l", "-c", ":"];
        let peers: Vec<Spec> =
            stages.iter().map(|_| world.program("root", "/usr/bin/setpriv", &words)).collect();
        let _warm = rate(world, &stages);
        let (ours, theirs) = (rate(world, &stages), rate(world, &peers));
        facts.push(fact(format!("stages a second, {crowd} at once"), ours, "/s", ""));
        facts.push(fact(
            format!("the same, against setpriv, bash -l ({theirs:.0}/s)"),
            ours / theirs,
            "x",
            "at least 0.6",
        ));
        for mut session in sessions {
            assert!(session.cleanup().succeeded());
        }
    }
    facts
}

fn fact(name: String, value: f64, unit: &str, target: &str) -> Fact {
    Fact { name, value, unit: unit.to_owned(), target: target.to_owned() }
}

fn rate(world: &World, specs: &[Spec]) -> f64 {
    let begun = Instant::now();
    thread::scope(|scope| {
        for spec in specs {
            scope.spawn(|| (0..STAGES).for_each(|_| assert!(timed(world, spec) > 0.0)));
        }
    });
    (specs.len() * STAGES) as f64 / begun.elapsed().as_secs_f64()
}

/// Proportional set sizes of the processes of a stage whose script waits.
fn memory(world: &World) -> Vec<Fact> {
    let job = world.job().id(8300);
    let mut session = prepared(&job);
    let before = sizes();
    let seen = thread::scope(|scope| {
        let stage = scope.spawn(|| session.run_text("build_script", "sleep 3\n"));
        thread::sleep(Duration::from_millis(1500));
        let seen = sizes();
        assert!(stage.join().expect("a stage").succeeded());
        seen
    });
    let of = |name: &str| seen.get(name).copied().unwrap_or(0.0) - before.get(name).copied().unwrap_or(0.0);
    let names = ["nunbird-auth", "nunbird-decide", "nunbird"];
    let mut facts: Vec<Fact> = names
        .iter()
        .map(|name| fact(format!("memory of a stage that waits: {name}"), of(name), "MiB", ""))
        .collect();
    let all = names.iter().map(|name| of(name)).sum();
    facts.push(fact(
        "memory of a stage that waits, all its processes of Nunbird".to_owned(),
        all,
        "MiB",
        "below 3",
    ));
    facts
}

/// Proportional set size in MiB of all processes, by the name of their program.
fn sizes() -> BTreeMap<String, f64> {
    let mut sizes = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let path = entry.path();
        let (Ok(program), Ok(text)) =
            (fs::read_link(path.join("exe")), fs::read_to_string(path.join("smaps_rollup")))
        else {
            continue;
        };
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<f64>().ok());
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        *sizes.entry(name).or_insert(0.0) += kib.unwrap_or(0.0) / 1024.0;
    }
    sizes
}
