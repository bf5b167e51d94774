//! What a test needs for the runner in a container (`packaging/container`).

use super::samples;
use crate::tree::must;
use crate::world::process::{sibling, under_test};
use crate::world::{copy_executable, write_executable};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Makes the Debian packages of the programs under test in a directory, uncompressed: they are used once.
///
/// # Panics
/// Without dpkg-deb(1), or without the programs.
pub fn package(out: &Path) {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/deb/build.sh");
    let programs = under_test("nunbird-auth");
    let mut command = Command::new(build);
    command.arg("--prebuilt").arg(programs.parent().expect("a directory")).arg("--out").arg(out);
    must(command.env("DEB_COMPRESSION", "none"));
}

/// Copies the half of gitlab-runner's double that makes the calls into a directory.
///
/// # Panics
/// When it cannot be copied.
pub fn caller(to: &Path) {
    copy_executable(&sibling("nbt-runner"), &to.join("nbt-runner"));
}

/// Takes in the base image, and builds the image that has the runner, of what [`lay_out`] has made; for a shell in that directory.
pub const IMPORT: &str = "podman pull -q oci:layout:base | xargs -I{} podman tag {} localhost/site/debian:12 && rm -rf layout && \
    podman build -q -t localhost/site/gitlab-runner:v0.0.1 runner";
/// The arguments of a build with these two images.
pub const ARGUMENTS: &str = "--network=host --build-arg BASE=localhost/site/debian:12 --build-arg RUNNER=localhost/site/gitlab-runner --build-arg RUNNER_VERSION=0.0.1";

/// Makes in a home directory what the image of a runner in a container is built of, beside `packaging/container`: the directory `context`, the base image
/// in `layout`, and a gitlab-runner in `runner`, which is this shell script.
///
/// # Panics
/// As [`package`] and [`samples::nest`].
pub fn lay_out(home: &Path, runner: &str) {
    for name in ["context", "runner"] {
        fs::create_dir(home.join(name)).expect("a directory");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/container/nest.sh");
    fs::copy(script, home.join("context/nest.sh")).expect("a file");
    package(&home.join("context"));
    samples::nest().write(&home.join("layout"), "base");
    write_executable(&home.join("runner/gitlab-runner"), runner.as_bytes());
    let file = "FROM scratch\nCOPY gitlab-runner /usr/bin/gitlab-runner\n";
    fs::write(home.join("runner/Containerfile"), file).expect("a file");
}
