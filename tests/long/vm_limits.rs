//! The limits of jobs on cgroup v2, below the runner's service, with a kernel that has the
//! controllers.
//!
//! One boot runs `vm_limits.sh`, which makes the runner's calls and prints what it observes as
//! lines `fact …`; they are checked here. The lines of the jobs themselves begin with the job's
//! name and the call's.

use nunbird_tests::host::vm::Vm;
use nunbird_tests::needs;
use nunbird_tests::world::World;
use std::fs;
use std::path::Path;
use std::process::Command;

const LIMITS: &str = "\
[limits.small]
memory = \"96MiB\"
swap = \"0KiB\"
cpus = \"0.5\"
pids = 60

[job]
limits = \"small\"
";

/// What the scripts of jobs have in common: the job's own group, above a scope of systemd's.
const GROUP: &str =
    "g=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)\ncase $g in *.scope) g=${g%/*};; esac\n";

/// Calls, the stage that each is, and its script.
const SCRIPTS: [(&str, &str, &str); 10] = [
    ("sources", "get_sources", "echo \"group ${g##*/}\"\n"),
    (
        "look",
        "build_script",
        "echo \"group ${g##*/}\"; cd $g; grep -s . memory.max memory.swap.max cpu.max pids.max io.weight; exit 0\n",
    ),
    ("hungry", "build_script", "perl -e '$x = q(x) x (256 << 20)'; k=$?; echo \"swapped: $(cat $g/memory.swap.current) after $k\"; exit $k\n"),
    (
        "forks",
        "build_script",
        "perl -e 'for (1..100) { $p = fork; if (!defined $p) { print qq(refused: $!\\n); last } if (!$p) { sleep 60; exit } push @p, $p }
         kill 9, @p; print scalar(@p), qq( started\\n)'; grep max $g/pids.events\n",
    ),
    (
        "spin",
        "build_script",
        "for n in 1 2; do timeout 4 sh -c 'while :; do :; done' & done; wait; grep -E 'nr_throttled|throttled_usec' $g/cpu.stat\n",
    ),
    (
        "escape",
        "build_script",
        "cd $g; for file in memory.max pids.max cgroup.procs ../cgroup.procs ../runner/cgroup.procs ../cgroup.subtree_control; do
         { echo 0 >$file; } 2>/dev/null && echo \"wrote $file\"; done; mkdir below 2>/dev/null && echo made; echo tried\n",
    ),
    ("stay", "build_script", "setsid env -i sleep 600 </dev/null >/dev/null 2>&1 & echo left\n"),
    (
        "storm",
        "build_script",
        "setsid perl -e 'for (;;) { fork // select undef, undef, undef, 0.01 }' </dev/null >/dev/null 2>&1 &
         setsid sh -c 'kill -STOP $$' </dev/null >/dev/null 2>&1 &
         until read n <$g/pids.current && [ $n -gt 50 ]; do :; done; echo raging\n",
    ),
    (
        "write",
        "build_script",
        "cd $g; cat io.max; cd; s=$(date +%s%N); dd if=/dev/zero of=big bs=64k count=128 conv=fsync 2>/dev/null
         e=$(date +%s%N); echo \"took $(((e - s) / 1000000))\"; nice; cat /proc/self/oom_score_adj; ulimit -n; ulimit -l\n",
    ),
    ("stay_here", "build_script", "touch ~/started; sleep 600\n"),
];

/// Jobs and their users.
const JOBS: [(&str, &str); 12] = [
    ("one", "alice"),
    ("two", "bob"),
    ("three", "alice"),
    ("four", "alice"),
    ("five", "alice"),
    ("six", "alice"),
    ("seven", "alice"),
    ("eight", "alice"),
    ("nine", "alice"),
    ("ten", "alice"),
    ("eleven", "alice"),
    ("twelve", "bob"),
];

fn write_job(
    world: &World,
    name: &str,
    user: &str,
    scripts: &[(&str, &str, String)],
    calls: &Path,
    copies: &Path,
) {
    let job = world.job().user(user);
    let session = job.begin();
    let mut specs = vec![
        ("config", session.spec_of_config()),
        ("prepare", session.spec_of_prepare()),
        ("cleanup", session.spec_of_cleanup()),
    ];
    for (call, stage, text) in scripts {
        let script = session.directory().join(call);
        session.write(&script, text.as_bytes(), 0o700);
        specs.push((call, session.spec_of_run(&script, stage)));
    }
    for (call, spec) in specs {
        fs::write(calls.join(format!("{name}-{call}")), serde_json::to_vec(&spec).expect("JSON"))
            .expect("a call");
    }
    // The session removes its directory.
    let copied = Command::new("cp").arg("-a").arg(session.directory()).arg(copies).status();
    assert!(copied.expect("cp").success());
    let place = session.directory().parent().expect("a parent");
    fs::write(calls.join("directory"), place.display().to_string()).expect("a name");
}

/// A machine with these jobs' calls.
pub(super) fn machine(jobs: &[(&str, &str)]) -> Vm {
    let scripts = SCRIPTS.map(|(call, stage, text)| (call, stage, format!("{GROUP}{text}")));
    Vm::new(|world| write_jobs(world, LIMITS, jobs, &scripts))
}

/// Writes the calls of jobs, each with these stages, under a configuration with these tables before and in `[job]`.
pub(super) fn write_jobs(
    world: &World,
    tables: &str,
    jobs: &[(&str, &str)],
    scripts: &[(&str, &str, String)],
) {
    world.write_keys();
    world.reconfigure("[job]\n", tables);
    let (calls, copies) = (world.host_path("/calls"), world.host_path("/jobs"));
    fs::create_dir(&calls).expect("a directory");
    fs::create_dir(&copies).expect("a directory");
    for (name, user) in jobs {
        write_job(world, name, user, scripts, &calls, &copies);
    }
}

/// What the script must observe.
const FACTS: [&str; 30] = [
    "swap is on",
    "plain has no Delegate=yes",
    "dropped in mixed findings 0",
    "before processes 1 groups 0",
    "service processes 0 given cpu io memory pids",
    "leaf has the runner",
    "groups 2",
    "one escape exit 0",
    "stayed alice 1 bob 1",
    "ended alice 0 bob 1 groups 1",
    "one cleanup exit 0",
    "ended all alice 0 bob 0 groups 0",
    "audit oom_kills 1",
    "three look exit 2",
    "four stay_here exit 126",
    "restarted active",
    "after restart alice 0 groups 0 processes 1",
    "four look exit 2",
    "four cleanup exit 0",
    "five look exit 0",
    "capabilities cap_setgid,cap_setuid=p alice 0 groups 0",
    "seven cleanup exit 0",
    "reaped 0 alice 0 groups 0 records 0",
    "swept 0 alice 0 bob 1 groups 1",
    "twelve look exit 0",
    "ten look exit 0",
    "root root alice 0 groups 0",
    "alone cannot start it again",
    "kept failed alice 1 groups 1",
    "end active groups 0 alice 0",
];

/// The expected form of a line, one for each row of the table: limit, what was read back, and its
/// effect.
const ENFORCED: [(&str, &str, &str); 4] = [
    (
        "memory",
        "one look: memory.max:100663296",
        "one hungry: nunbird: out of memory: the kernel killed 1 process(es) of this job at its limit of 96 MiB",
    ),
    ("swap", "one look: memory.swap.max:0", "one hungry: swapped: 0 after 137"),
    ("cpus", "one look: cpu.max:50000 100000", "one spin: nr_throttled "),
    ("pids", "one look: pids.max:60", "one forks: refused: Resource temporarily unavailable"),
];

/// Prints the rows of the table for a value of `way`, and checks that job `one` showed each.
pub(super) fn rows(output: &str, way: &str) {
    let begins = |wanted: &str| output.lines().find(|line| line.starts_with(wanted));
    println!("| limit | way | set and read back | enforced |\n|---|---|---|---|");
    for (limit, read, enforced) in ENFORCED {
        let found = [begins(read), begins(enforced)];
        let [read, enforced] = found.map(|line| line.unwrap_or("NO"));
        println!("| {limit} | {way} | {read} | {enforced} |");
        assert!(found.iter().all(Option::is_some), "{limit}: {output}");
    }
    let value = |words: &str| begins(words).and_then(|line| line[words.len()..].trim().parse::<u64>().ok());
    assert!(value("one spin: nr_throttled ") > Some(10), "{output}");
    // Two loops for four seconds on half a CPU; eight seconds without the limit, or nearly.
    assert!(value("one spin: throttled_usec ") > Some(1_000_000), "{output}");
    assert!(!output.contains("one escape: wrote") && !output.contains("one escape: made"), "{output}");
}

#[needs(root)]
fn with_cgroup_2_the_limits_of_jobs_below_a_delegated_service_are_in_force_and_their_groups_go() {
    let output = machine(&JOBS).boot(include_str!("vm_limits.sh")).success();
    let begins = |wanted: &str| output.lines().find(|line| line.starts_with(wanted));
    rows(&output, "delegated v2");
    let value = |words: &str| begins(words).and_then(|line| line[words.len()..].trim().parse::<u64>().ok());
    let group = |call: &str| begins(&format!("{call}: group ")).and_then(|line| line.rsplit(' ').next());
    assert!(group("one sources").is_some_and(|name| name.starts_with("nunbird-")), "{output}");
    assert_eq!(group("one sources"), group("one look"), "one group for all stages");
    assert_ne!(group("one look"), group("two look"), "each job has its own");
    for call in ["two", "five", "six", "ten"] {
        assert!(begins(&format!("{call} look: memory.max:100663296")).is_some(), "{call}: {output}");
    }
    let weight = begins("seven look: io.weight:default 200");
    println!("| io_weight | delegated v2 | {} | not tried |", weight.unwrap_or("NO"));
    assert!(weight.is_some(), "{output}");
    // Through the page cache, which version 2 counts for the job: 8 MiB at 2 MiB a second.
    let io = output
        .lines()
        .find(|line| line.starts_with("seven write: ") && line.contains(" rbps="))
        .unwrap_or("NO");
    println!("| disks | delegated v2 | {io} | 8 MiB in {:?} ms |", value("seven write: took "));
    assert!(io.ends_with(" rbps=max wbps=2097152 riops=max wiops=max"), "{output}");
    assert!(value("seven write: took ") > Some(2500), "{output}");
    // The nice value, the oom score and the descriptors of the site.
    for line in ["seven write: 7", "seven write: 250", "seven write: 4000"] {
        assert!(output.lines().any(|found| found == line), "{line}: {output}");
    }
    assert!(
        begins("seven write: nunbird:   written ").is_some_and(|row| row.contains("of at most 2 MiB/s (/)")),
        "{output}"
    );
    for fact in FACTS {
        assert!(output.lines().any(|line| line == format!("fact {fact}")), "{fact}: {output}");
    }
}
