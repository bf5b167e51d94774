//! The cost of a stage in a container, compared with the engine's own command for the same image, and how often an image is fetched when many
//! jobs want it at once.
//!
//! Pairs: the command, the stage, the command, the stage. What else the machine does slows both. The stage has the whole launcher in it.

use nunbird_handover::Task;
use nunbird_tests::containers::{Job, Node, Person, Registry, Release, samples};
use nunbird_tests::scheduler::Ended;
use std::time::{Duration, Instant};

const ROUNDS: usize = 30;
const CROWD: usize = 50;
const NAME: &str = "lattice/tools:1";

/// An engine, who uses it, and its command that does nothing; `NAME` stands for the image.
struct Peer {
    release: Release,
    engine: &'static str,
    person: &'static str,
    command: &'static str,
    /// What a stage may take longer, in ms.
    target: u32,
}

const PEERS: [Peer; 4] = [
    Peer {
        release: Release::Host,
        engine: "podman",
        person: "nbt_ann",
        command: "podman --cgroup-manager=cgroupfs run --rm -q --cgroups=disabled --userns=keep-id --network=host NAME /bin/sh -c :",
        target: 30,
    },
    Peer {
        release: Release::Host,
        engine: "podman",
        person: "nbt_cyn",
        command: "podman --cgroup-manager=cgroupfs --storage-driver=overlay --storage-opt=overlay.ignore_chown_errors=true run --rm -q --cgroups=disabled \
                  --network=host NAME /bin/sh -c :",
        target: 30,
    },
    Peer {
        release: Release::Host,
        engine: "charliecloud",
        person: "nbt_cyn",
        command: "ch-run \"$HOME\"/ci/images/127.0.0.1* -- /bin/sh -c :",
        target: 15,
    },
    Peer {
        release: Release::Host,
        engine: "bwrap",
        person: "nbt_cyn",
        command: "bwrap --unshare-pid --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp /bin/sh -c :",
        target: 15,
    },
];

/// Those that the host's release has not, in a tree of Debian's unstable one.
const NEWER: [Peer; 2] = [
    Peer {
        release: Release::Sid,
        engine: "apptainer",
        person: "nbt_cyn",
        command: "apptainer --quiet exec --userns --containall --no-home --no-eval --pwd=/ \"$HOME\"/ci/images/127.0.0.1* /bin/sh -c :",
        target: 15,
    },
    Peer {
        release: Release::Sid,
        engine: "podman",
        person: "nbt_ann",
        command: "podman --cgroup-manager=cgroupfs run --rm -q --cgroups=disabled --userns=keep-id --network=host NAME /bin/sh -c :",
        target: 30,
    },
];

/// Prints the rows.
pub(crate) fn rows() {
    table(&PEERS);
    crowd();
}

/// Prints the rows of one engine of the host.
pub(crate) fn of(engine: &str) {
    PEERS.iter().filter(|peer| peer.engine == engine).for_each(row);
}

/// Prints those of newer engines, among them Apptainer. Their tree is made once, in some minutes.
pub(crate) fn newer() {
    table(&NEWER);
}

fn table(peers: &[Peer]) {
    println!("\ncontainers: median of {ROUNDS} pairs, ms");
    println!("{:<34} {:>9} {:>9} {:>11} {:>9}", "", "command", "stage", "difference", "target");
    peers.iter().for_each(row);
}

fn machine(release: Release) -> (Node, Registry) {
    let (node, registry) = (Node::start(release), Registry::open());
    node.trust(&registry.ca_pem());
    registry.push(NAME, &samples::busybox());
    (node, registry)
}

fn job<'n>(node: &'n Node, peer: &Peer, image: &str) -> Job<'n> {
    let image = (peer.engine != "bwrap").then_some(image);
    Job::new(node, node.person(peer.person), peer.engine, image)
}

fn row(peer: &Peer) {
    let (node, registry) = machine(peer.release);
    let image = registry.name(NAME);
    let job = job(&node, peer, &image);
    succeeded(&job.prepare());
    let person = node.person(peer.person);
    let command = peer.command.replace("NAME", &image);
    // The first of each is not like the others: the engine pulls or unpacks.
    let (mut commands, mut stages, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (bare, stage) = (bare(&person, &command), stage(&job));
        if round > 0 {
            commands.push(bare);
            stages.push(stage);
            differences.push(stage.as_secs_f64() - bare.as_secs_f64());
        }
    }
    succeeded(&job.cleanup());
    let name =
        format!("{}, as {}", peer.engine, if peer.person == "nbt_ann" { "many ids" } else { "one id" });
    differences.sort_unstable_by(f64::total_cmp);
    let difference = differences.get(differences.len() / 2).map(|seconds| format!("{:+.1}", seconds * 1e3));
    let shown = |times: Vec<Duration>| middle(times).map(|time| format!("{:.1}", time.as_secs_f64() * 1e3));
    println!(
        "{name:<34} {:>9} {:>9} {:>11} {:>9}",
        shown(commands).unwrap_or_default(),
        shown(stages).unwrap_or_default(),
        difference.unwrap_or_default(),
        format!("+{}", peer.target),
    );
}

fn bare(person: &Person<'_>, command: &str) -> Duration {
    let begun = Instant::now();
    person.shell(command).success();
    begun.elapsed()
}

fn stage(job: &Job<'_>) -> Duration {
    let begun = Instant::now();
    let ended = job.run(":");
    let took = begun.elapsed();
    succeeded(&ended);
    took
}

fn middle(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[track_caller]
fn succeeded(ended: &Ended) {
    assert_eq!(ended.status, Some(0), "{}\n{}", String::from_utf8_lossy(&ended.out), ended.err);
}

/// Jobs of one account that want one image at once.
fn crowd() {
    println!("\n{CROWD} jobs of one image at once: how often the registry is asked for each part of it");
    for peer in [&PEERS[0], &PEERS[2]] {
        let (node, registry) = machine(peer.release);
        let image = registry.name(NAME);
        let jobs: Vec<_> = (0..CROWD).map(|_| job(&node, peer, &image)).collect();
        let begun = Instant::now();
        let stages: Vec<_> = jobs.iter().map(|job| job.start(Task::Prepare, "")).collect();
        for stage in stages {
            succeeded(&stage.finish());
        }
        let took = begun.elapsed().as_secs_f64();
        let most = registry.front().blobs().into_values().max().unwrap_or(0);
        println!("{:<34} {most:>9} pull, all prepared after {took:.1} s", peer.engine);
        for job in &jobs {
            succeeded(&job.cleanup());
        }
    }
}
