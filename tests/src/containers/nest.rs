//! What a test needs for the runner in a container (`packaging/container`).

use crate::tree::must;
use crate::world::copy_executable;
use crate::world::process::{sibling, under_test};
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
