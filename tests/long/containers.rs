//! Container engines of Debian's unstable release, on machines that have its `/usr`. By `make test-containers`.

#![forbid(unsafe_code)]

#[path = "../tests/containers/cases.rs"]
mod cases;
#[path = "../tests/containers/copies.rs"]
mod copies;
#[path = "../tests/containers/devices.rs"]
mod devices;
#[path = "../tests/containers/digests.rs"]
mod digests;
#[path = "../tests/containers/forged.rs"]
mod forged;
#[path = "../tests/containers/given.rs"]
mod given;
#[path = "../tests/containers/images.rs"]
mod images;
#[path = "../tests/containers/lacks.rs"]
mod lacks;
#[path = "../tests/containers/platforms.rs"]
mod platforms;
mod quadlet;
#[path = "../tests/containers/refused.rs"]
mod refused;
#[path = "../tests/containers/runner.rs"]
mod runner;
#[path = "../tests/containers/saved.rs"]
mod saved;
#[path = "../tests/containers/upsets.rs"]
mod upsets;

use cases::Setup;
use nunbird_tests::containers::{Example, Job, Node, Registry, Release, samples};
use nunbird_tests::needs;
use nunbird_tests::scheduler::set_patience;

const fn of(engine: &'static str, no_new_privileges: bool) -> Setup {
    Setup { release: Release::Sid, engine, no_new_privileges }
}

const EACH: [Setup; 4] =
    [of("bwrap", true), of("charliecloud", true), of("apptainer", false), of("apptainer", true)];

/// Those whose failures without user namespaces are explained.
const EACH_AND_PODMAN: [Setup; 3] = [of("bwrap", true), of("charliecloud", true), of("podman", true)];

/// The engines with images.
const WITH_PODMAN: [Setup; 4] =
    [of("podman", false), of("podman", true), of("apptainer", false), of("charliecloud", true)];

#[needs(root)]
fn the_newer_engines_run_an_image_as_a_plain_user() {
    let (node, registry) = (Node::start(Release::Sid), Registry::open());
    node.trust(&registry.ca_pem());
    registry.push("lattice/tools:1", &samples::busybox());
    let name = registry.name("lattice/tools:1");
    let ann = node.person("nbt_ann");
    let ids = "uid=41201(nbt_ann) gid=41201(nbt_ann)";
    let podman = format!(
        "podman --cgroup-manager=cgroupfs run --rm -q --cgroups=disabled --userns=keep-id {name} cat /etc/image"
    );
    assert_eq!(ann.shell(&podman).success(), "busybox");
    let apptainer = format!(
        "apptainer -q pull a.sif docker://{name} && apptainer -q exec --containall --no-home --pwd=/ a.sif id"
    );
    assert!(ann.shell(&apptainer).success().starts_with(ids));
    let charliecloud = format!(
        "export CH_IMAGE_STORAGE=$HOME/ch; ch-image pull {name} >&2 && ch-convert -i ch-image -o dir {name} a >&2 && ch-run a -- id"
    );
    assert!(ann.shell(&charliecloud).success().starts_with(ids));
    assert_eq!(
        ann.shell("apptainer --version; podman --version; ch-run --version").stdout.lines().count(),
        2
    );
}

/// Two processes that pass a number on, and back.
const RING: &str = r#"#include <mpi.h>
#include <stdio.h>
int main(int n, char **a) {
  int rank, size, token = 41;
  MPI_Init(&n, &a);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (rank == 0) {
    token++;
    MPI_Send(&token, 1, MPI_INT, 1, 0, MPI_COMM_WORLD);
    MPI_Recv(&token, 1, MPI_INT, size - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    printf("%d of %d processes\n", token, size);
  } else {
    MPI_Recv(&token, 1, MPI_INT, rank - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Send(&token, 1, MPI_INT, (rank + 1) % size, 0, MPI_COMM_WORLD);
  }
  MPI_Finalize();
  return 0;
}
"#;

#[needs(root)]
fn the_example_with_mpi_in_the_users_guide_runs_in_apptainer() {
    // Its image has half a gigabyte, which Apptainer compresses.
    set_patience(900);
    let example = Example::of_the_guide("mpi");
    let (node, registry) = (Node::start(Release::Sid), Registry::open());
    node.trust(&registry.ca_pem());
    let (site, name) = example.image.split_once('/').expect("a registry");
    registry.push(name, &samples::mpi());
    for no_new_privileges in [false, true] {
        let cyn = node.person("nbt_cyn");
        let cyn = if no_new_privileges { cyn.no_new_privileges() } else { cyn };
        let image = example.image.replace(site, &registry.host());
        let mut job = Job::new(&node, cyn, "apptainer", Some(&image));
        job.container().pull_timeout = 900;
        let project = job.handover.workspace.project_dir.display().to_string();
        node.write(&format!("{project}/ring.c"), RING);
        node.administer("chown -R 41203:41203 /home/nbt_cyn/ci; chmod 700 /home/nbt_cyn/ci");
        let prepared = job.prepare();
        assert_eq!(prepared.status, Some(0), "{}", prepared.err);
        let ran = job.run(&example.script(&project, &[]));
        assert_eq!(ran.status, Some(0), "{}\n{}", String::from_utf8_lossy(&ran.out), ran.err);
        assert_eq!(String::from_utf8_lossy(&ran.out), "42 of 2 processes\n");
        assert_eq!(job.cleanup().status, Some(0));
    }
}

/// The words of `podman run`, without what a unit and a command differ in.
fn words_of(line: &str) -> std::collections::BTreeSet<String> {
    let own = ["--detach", "-d", "--replace", "--rm", "--cgroups=split", "--sdnotify=conmon"];
    let line = line.replace("-v ", "--volume=").replace("--cap-add sys_admin", "--cap-add=SYS_ADMIN");
    let line = ["name", "hostname", "device", "security-opt", "secret"]
        .iter()
        .fold(line, |line, option| line.replace(&format!("--{option} "), &format!("--{option}=")));
    line.split_whitespace().filter(|word| !own.contains(word)).map(str::to_owned).collect()
}

/// Runs quadlet(1) over the units of the runner in a container; what `nunbird-nest start` hands to Podman is recorded by a double of it.
#[needs(root)]
fn the_units_are_what_start_runs() {
    let node = Node::start(Release::Sid);
    let packaging = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/container");
    let home = node.see("/home/nbt_dee");
    let copied = std::process::Command::new("cp").arg("-r").arg(packaging).arg(&home).status();
    assert!(copied.expect("cp").success());
    // It answers what `start` asks: every secret is there, and no container of that name until one was started.
    let podman = "#!/bin/sh\ncase $1 in run) shift; echo \"$*\" >$HOME/words ;; container) test -e $HOME/words && echo true ;; esac\n";
    node.write("/home/nbt_dee/bin/podman", podman);
    node.administer("chmod 755 /home/nbt_dee/bin/podman; chown -R nbt_dee: /home/nbt_dee");
    let dee = node.person("nbt_dee");
    dee.shell("PATH=$HOME/bin:$PATH container/nunbird-nest start").success();
    let started = words_of(&dee.run(["cat", "words"]).success());
    let generated = dee
        .shell("QUADLET_UNIT_DIRS=$HOME/container/units /usr/libexec/podman/quadlet -user -dryrun")
        .success();
    let line = generated.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/podman run "));
    assert_eq!(words_of(line.expect("a command")), started, "{generated}");
    for name in ["storage", "cache", "log"] {
        let made = format!("podman volume create --ignore nunbird-nest-{name}");
        assert!(generated.contains(&made), "{generated}");
    }
    // A key that quadlet does not know is an error of its own.
    node.administer("sed -i 's/^Unmask=/Unmaks=/' /home/nbt_dee/container/units/nunbird-nest.container");
    let wrong =
        dee.shell("QUADLET_UNIT_DIRS=$HOME/container/units /usr/libexec/podman/quadlet -user -dryrun");
    assert!(wrong.stderr.contains("Unmaks"), "{wrong:?}");
}
