//! Container engines of Debian's unstable release, on machines that have its `/usr`. By `make test-containers`.

#![forbid(unsafe_code)]

#[path = "../tests/containers/cases.rs"]
mod cases;
#[path = "../tests/containers/copies.rs"]
mod copies;
#[path = "../tests/containers/digests.rs"]
mod digests;
#[path = "../tests/containers/images.rs"]
mod images;

use cases::Setup;
use nunbird_tests::containers::{Node, Registry, Release, samples};
use nunbird_tests::needs;

const fn of(engine: &'static str, no_new_privileges: bool) -> Setup {
    Setup { release: Release::Sid, engine, no_new_privileges }
}

const EACH: [Setup; 4] =
    [of("bwrap", true), of("charliecloud", true), of("apptainer", false), of("apptainer", true)];

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
