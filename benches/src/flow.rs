//! What a runner feels beside one stage's time: output, stages at once, and the memory of a stage that waits.

use crate::measure::{now, quantile};
use crate::report::Fact;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use nunbird_tests::fake::{Dialect, Queue};
use nunbird_tests::runner::Session;
use nunbird_tests::world::enter::Spec;
use nunbird_tests::world::{Privilege, World};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The programs of a stage that waits.
const NAMES: [&str; 3] = ["nunbird-auth", "nunbird-decide", "nunbird"];
const MIB: usize = 64;
const PAIRS: usize = 9;
/// Stages of each thread.
const STAGES: usize = 24;

/// One part of it.
type Measure = fn(&World) -> Vec<Fact>;

/// All of it, or the part of this name, under a runner that is root.
pub(crate) fn facts(part: Option<&str>) -> Vec<Fact> {
    let world = World::new(Privilege::RootRunner);
    world.write_keys();
    let parts: [(&str, Measure); 7] = [
        ("output", |world| vec![output(world, "")]),
        ("at_once", at_once),
        ("memory", |world| memory(world, "")),
        ("records", |world| vec![records(world)]),
        ("script", |world| vec![script(world)]),
        // The last ones: they give the world a scheduler.
        ("batch", batch),
        ("crowd", crowd),
    ];
    let wanted = parts.into_iter().filter(|(name, _)| part.is_none_or(|part| part == *name));
    wanted.flat_map(|(_, measure)| measure(&world)).collect()
}

/// Output and memory of a stage in the fake of a batch scheduler.
fn batch(world: &World) -> Vec<Fact> {
    fake_scheduler(world);
    let where_ = ", in a batch scheduler";
    let mut facts = vec![output(world, where_), flow_of_output(world)];
    facts.extend(memory(world, where_));
    facts
}

/// PBS's commands, each of which acts on a queue whose jobs run on this host.
fn fake_scheduler(world: &World) {
    if world.configuration().contains("scheduler_bin") {
        return;
    }
    let program =
        fs::read(std::env::current_exe().expect("this program").with_file_name("nbt-fake-scheduler"));
    let program = program.expect("nbt-fake-scheduler is not built: cargo build -p nunbird-tests --bins");
    world.write_file("/opt/scheduler/fake", program, "root", 0o755);
    let queue = world.host_path("/opt/scheduler/queue");
    Queue::create(&queue).expect("a queue");
    for command in Dialect::Pbs.commands() {
        let text = format!("#!/bin/sh\nexec /opt/scheduler/fake pbs /opt/scheduler/queue {command} \"$@\"\n");
        world.write_file(&format!("/opt/scheduler/{command}"), text, "root", 0o755);
    }
    world
        .reconfigure("[job]\n", "[batch]\nscheduler_bin = \"/opt/scheduler\"\n\n[job]\nexecutor = \"pbs\"\n");
}

fn prepared<'w>(job: &'w nunbird_tests::Job<'w>) -> Session<'w> {
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    session
}

fn timed(world: &World, spec: &Spec) -> f64 {
    timed_output(world, spec).0
}

/// Seconds, and bytes of output.
fn timed_output(world: &World, spec: &Spec) -> (f64, usize) {
    let begun = now();
    let finished = world.run(spec);
    assert!(finished.succeeded(), "{:?} {}", finished.exit, finished.stderr);
    ((now() - begun).as_secs_f64(), finished.stdout.len())
}

/// Bytes a second of a stage's output, beside `cat | cat`.
fn output(world: &World, where_: &str) -> Fact {
    world.write_file("/tmp/nbt_large", "0123456789abcde\n".repeat(MIB << 16), "root", 0o644);
    let pipes = world.program("root", "/bin/sh", &["-c", "cat /tmp/nbt_large | cat"]);
    let ratios: Vec<f64> = (0..=PAIRS)
        .map(|n| {
            // A job each: in a scheduler a stage that has run is not run again.
            let job = world.job().id(8100 + n as u64);
            let session = prepared(&job);
            let script = session.directory().join("cat");
            session.write(&script, b"cat /tmp/nbt_large\n", 0o700);
            let stage = session.spec_of_run(&script, "build_script");
            let (pipes, (stage, bytes)) = (timed(world, &pipes), timed_output(world, &stage));
            assert_eq!(bytes, MIB << 20, "output is missing");
            pipes / stage
        })
        .skip(1)
        .collect();
    Fact {
        name: format!("output of {MIB} MiB{where_}, against `cat | cat`"),
        value: quantile(&ratios, 0.5),
        unit: "x".to_owned(),
        target: "at least 0.9".to_owned(),
    }
}

/// The same of more output in the scheduler, less a stage without any: what is left is the way that the bytes go, without the
/// submission and the end of the job.
fn flow_of_output(world: &World) -> Fact {
    const MIB: usize = 256;
    world.write_file("/tmp/nbt_larger", "0123456789abcde\n".repeat(MIB << 16), "root", 0o644);
    let pipes = world.program("root", "/bin/sh", &["-c", "cat /tmp/nbt_larger | cat"]);
    let stage = |id: u64, text: &str, expected: usize| {
        let job = world.job().id(id);
        let mut session = prepared(&job);
        let script = session.directory().join("cat");
        session.write(&script, text.as_bytes(), 0o700);
        let (time, bytes) = timed_output(world, &session.spec_of_run(&script, "build_script"));
        assert_eq!(bytes, expected, "output is missing");
        assert!(session.cleanup().succeeded());
        time
    };
    let ratios: Vec<f64> = (0..=PAIRS as u64)
        .map(|n| {
            let pipes = timed(world, &pipes);
            let much = stage(8130 + 2 * n, "cat /tmp/nbt_larger\n", MIB << 20);
            pipes / (much - stage(8131 + 2 * n, ":\n", 0))
        })
        .skip(1)
        .collect();
    let name =
        format!("output of {MIB} MiB in a batch scheduler, less a stage without any, against `cat | cat`");
    fact(name, quantile(&ratios, 0.5), "x", "at least 0.9")
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

/// A stage beside the records of many other jobs, against one beside none.
fn records(world: &World) -> Fact {
    const MANY: usize = 10_000;
    let job = world.job().id(8350);
    let session = prepared(&job);
    let spec = session.spec_of_prepare();
    let few: Vec<f64> = (0..PAIRS).map(|_| timed(world, &spec)).collect();
    let store = world.host_path("/var/lib/nunbird/jobs");
    let known = fs::read_dir(&store).expect("the store").flatten().map(|entry| entry.path());
    let known = known
        .filter(|path| path.is_file())
        .max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len()));
    let bytes = fs::read(known.expect("a record")).expect("a record");
    let other = |n: usize| store.join(format!("0-{n:016x}-1.record"));
    (0..MANY).for_each(|n| fs::write(other(n), &bytes).expect("a record"));
    let many: Vec<f64> = (0..PAIRS).map(|_| timed(world, &spec)).collect();
    (0..MANY).for_each(|n| fs::remove_file(other(n)).expect("a record"));
    let ratio = quantile(&many, 0.5) / quantile(&few, 0.5);
    fact(format!("prepare beside {MANY} records of other jobs, against beside none"), ratio, "x", "1")
}

/// A large script that does little, against an empty one: it is copied, its digest is taken, and the shell reads it.
fn script(world: &World) -> Fact {
    let job = world.job().id(8360);
    let session = prepared(&job);
    let path = session.directory().join("large");
    let line = format!(": {}\n", "x".repeat(1021));
    let took = |text: &str| {
        session.write(&path, text.as_bytes(), 0o700);
        let spec = session.spec_of_run(&path, "build_script");
        let all: Vec<f64> = (0..3).map(|_| timed(world, &spec)).collect();
        quantile(&all, 0.5)
    };
    let (empty, large) = (took(":\n"), took(&line.repeat(50 << 10)));
    let plain = world.host_path("/tmp/nbt_script");
    fs::write(&plain, line.repeat(50 << 10)).expect("a script");
    let bash = world.program("root", "/bin/bash", &["-c", ". /tmp/nbt_script"]);
    let alone: Vec<f64> = (0..3).map(|_| timed(world, &bash)).collect();
    fs::remove_file(plain).expect("a script");
    let ratio = (large - empty) / quantile(&alone, 0.5);
    fact("a script of 50 MiB, less an empty one, against bash that reads it".to_owned(), ratio, "x", "")
}

/// Stages that wait at once; `NUNBIRD_BENCH_CROWD` is another number.
const SETTLED: Duration = Duration::from_secs(150);
const CROWD: u64 = 100;
/// Their jobs open it and end when it is closed.
const GATE: &str = "/tmp/nbt_gate";

/// What many stages that wait in the fake scheduler cost.
fn crowd(world: &World) -> Vec<Fact> {
    fake_scheduler(world);
    let crowd = std::env::var_os("NUNBIRD_BENCH_CROWD");
    let crowd = crowd.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(CROWD);
    // Each stage has a thread here, with pipes.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("a limit");
    let gate = world.host_path(GATE);
    mkfifo(&gate, Mode::from_bits_truncate(0o644)).expect("a FIFO");
    let open = File::options().read(true).write(true).open(&gate).expect("a FIFO");
    let jobs: Vec<_> = (0..crowd).map(|n| world.job().id(8400 + n).limit(Duration::from_secs(900))).collect();
    let mut sessions: Vec<_> = jobs.iter().map(prepared).collect();
    let script = format!("read -r _ <{GATE} || :\n");
    let seen = thread::scope(|scope| {
        let stages: Vec<_> = sessions
            .iter_mut()
            .map(|session| scope.spawn(|| session.run_text("build_script", &script)))
            .collect();
        // They submit, and each asks whether its job is known.
        thread::sleep(Duration::from_secs(25) + Duration::from_millis(100 * crowd));
        let (early, early_commands) = busy();
        // Until they are sure of it and ask at the site's interval.
        thread::sleep(SETTLED);
        let seen = Seen { early, early_commands, ..crowd_seen() };
        drop(open);
        for stage in stages {
            let outcome = stage.join().expect("a stage");
            assert!(outcome.succeeded(), "{:?} {}", outcome.exit, outcome.log);
        }
        seen
    });
    let each = |sum: f64| sum / crowd as f64;
    let all: f64 = seen.sizes.values().sum();
    let of = |what: &str| format!("{crowd} stages that wait in a batch scheduler: {what}");
    let mut facts = vec![fact(of("memory of each"), each(all), "MiB", "")];
    facts.extend(seen.sizes.iter().map(|(name, size)| fact(of(name), each(*size), "MiB", "")));
    facts.extend([
        fact(of("part of one processor, in the first minute"), seen.early * 100.0, "%", ""),
        fact(of("commands of the scheduler, in the first minute"), seen.early_commands * 100.0, "%", ""),
        fact(of("part of one processor"), seen.busy * 100.0, "%", "below 2 for 1,000"),
        fact(of("commands of the scheduler"), seen.commands * 100.0, "%", ""),
        fact(of("descriptors of each"), each(seen.descriptors), "", ""),
        fact(of("inotify watches of each"), each(seen.watches), "", ""),
        fact(of("with an inotify instance"), seen.watching, "", ""),
    ]);
    facts
}

struct Seen {
    sizes: BTreeMap<String, f64>,
    /// Parts of one processor: of Nunbird's processes, and of the commands of the scheduler that they start, in the first minute
    /// and later.
    early: f64,
    early_commands: f64,
    busy: f64,
    commands: f64,
    descriptors: f64,
    watches: f64,
    watching: f64,
}

/// Parts of one processor that Nunbird's processes take in half a minute, and the commands that they start.
fn busy() -> (f64, f64) {
    let used = || {
        own_processes()
            .iter()
            .map(|(_, path)| seconds(path))
            .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let (begun, at) = (used(), Instant::now());
    thread::sleep(Duration::from_secs(30));
    let (ended, passed) = (used(), at.elapsed().as_secs_f64());
    ((ended.0 - begun.0) / passed, (ended.1 - begun.1) / passed)
}

/// What Nunbird's processes are and do while all wait.
fn crowd_seen() -> Seen {
    let sizes = sizes();
    let (busy, commands) = busy();
    let (mut descriptors, mut watches, mut watching) = (0.0, 0.0, 0.0);
    for (_, path) in own_processes() {
        for entry in fs::read_dir(path.join("fd")).into_iter().flatten().flatten() {
            descriptors += 1.0;
            let info = path.join("fdinfo").join(entry.file_name());
            let info = fs::read_to_string(info).unwrap_or_default();
            let own = info.lines().filter(|line| line.starts_with("inotify ")).count();
            watches += own as f64;
            watching += f64::from(u8::from(own > 0));
        }
    }
    Seen { sizes, early: 0.0, early_commands: 0.0, busy, commands, descriptors, watches, watching }
}

/// Processors' time that a process has used, and the children that it has waited for.
fn seconds(path: &Path) -> (f64, f64) {
    let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
    let behind = stat.rsplit(')').next().unwrap_or("");
    // Of children there are ticks alone; sysconf(_SC_CLK_TCK) is 100 on every architecture of ours.
    let children: f64 =
        behind.split_whitespace().skip(13).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    let own = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
    let own: f64 = own.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    (own / 1e9, children / 100.0)
}

/// Proportional set sizes of the processes of a stage whose script waits.
fn memory(world: &World, where_: &str) -> Vec<Fact> {
    let job = world.job().id(8300);
    let mut session = prepared(&job);
    let seen = thread::scope(|scope| {
        let stage = scope.spawn(|| session.run_text("build_script", "sleep 12\n"));
        // Behind the first second memory is given back.
        thread::sleep(Duration::from_secs(8));
        let seen = sizes();
        keep_maps();
        assert!(stage.join().expect("a stage").succeeded());
        seen
    });
    let of = |name: &str| seen.get(name).copied().unwrap_or(0.0);
    let mut facts: Vec<Fact> = NAMES
        .iter()
        .map(|name| fact(format!("memory of a stage that waits{where_}: {name}"), of(name), "MiB", ""))
        .collect();
    let all = seen.values().sum();
    facts.push(fact(
        format!("memory of a stage that waits{where_}, all its processes of Nunbird"),
        all,
        "MiB",
        "below 3",
    ));
    facts
}

/// For a look at what the memory is: `target/bench/PROGRAM.smaps`.
fn keep_maps() {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
    fs::create_dir_all(directory).expect("target/bench");
    for (name, path) in own_processes() {
        let text = fs::read_to_string(path.join("smaps")).unwrap_or_default();
        fs::write(directory.join(format!("{name}.smaps")), text).expect("a file");
    }
}

/// Nunbird's processes below this one, by the name of their program: other tests may run beside this.
fn own_processes() -> Vec<(String, PathBuf)> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent =
            stat.rsplit(')').next().and_then(|behind| behind.split_whitespace().nth(1)?.parse().ok());
        parents.insert(pid, parent.unwrap_or(0_u32));
    }
    let below = |pid: &u32| {
        let above = std::iter::successors(Some(*pid), |pid| parents.get(pid).copied());
        above.take(64).any(|pid| pid == std::process::id())
    };
    let named = parents.keys().filter(|pid| below(pid)).filter_map(|pid| {
        let path = PathBuf::from(format!("/proc/{pid}"));
        let program = fs::read_link(path.join("exe")).ok()?;
        Some((program.file_name()?.to_string_lossy().into_owned(), path))
    });
    named.filter(|(name, _)| NAMES.contains(&name.as_str())).collect()
}

/// Proportional set size in MiB of these processes, by the name of their program.
fn sizes() -> BTreeMap<String, f64> {
    let mut sizes = BTreeMap::new();
    for (name, path) in own_processes() {
        let text = fs::read_to_string(path.join("smaps_rollup")).unwrap_or_default();
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<f64>().ok());
        *sizes.entry(name).or_insert(0.0) += kib.unwrap_or(0.0) / 1024.0;
    }
    sizes
}
