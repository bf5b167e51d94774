//! File trees of Debian releases, made by mmdebstrap(1) once.
//!
//! A tree is kept in `/var/cache/nunbird-tests`, named by what went into it, so that it is made again when
//! the list of packages changes. Two test programs that need it at the same time make it once.

use aws_lc_rs::digest::{SHA256, digest};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CACHE: &str = "/var/cache/nunbird-tests";

/// The release that Debian never finishes.
const UNSTABLE: &str = "sid";

/// Runs a command that has to succeed; returns its standard output.
#[track_caller]
pub(crate) fn must(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A tree of these packages of a release from the cache, made when it is missing and finished by a shell script that
/// runs in it.
///
/// # Panics
/// Without root, mmdebstrap or a mirror that serves the release.
pub(crate) fn cached(kind: &str, suite: &str, packages: &str, finish: &str) -> PathBuf {
    let mirror = mirror();
    once(kind, suite, &format!("{mirror} {packages}{finish}"), |unfinished| {
        let mut make = Command::new("mmdebstrap");
        if suite == UNSTABLE {
            // A mirror that is a few days old is no reason to skip tests: its lists are signed
            // nevertheless.
            make.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
        }
        must(
            make.args(["--quiet", "--variant=apt", &format!("--include={packages}"), suite])
                .arg(unfinished)
                .arg(&mirror)
                .env("LC_ALL", "C.UTF-8"),
        );
        let path = "/usr/sbin:/usr/bin:/sbin:/bin";
        must(Command::new("chroot").arg(unfinished).args(["sh", "-c", finish]).env("PATH", path));
    })
}

/// The files of these packages for another architecture, in the same cache. No program of them has run, so that `finish`, a shell
/// script that runs beside the tree with its path as `$1`, does what their scripts would have done. No documentation, no modules.
///
/// # Panics
/// Without root, mmdebstrap or a mirror that serves them.
pub(crate) fn unpacked(kind: &str, architecture: &str, packages: &str, finish: &str) -> PathBuf {
    let (suite, mirror) = (own_suite(), mirror());
    once(&format!("{kind}-{architecture}"), &suite, &format!("{mirror} {packages}{finish}"), |unfinished| {
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=extract", &format!("--architectures={architecture}")]);
        for left_out in ["/usr/share/doc", "/usr/share/locale", "/usr/share/man", "/lib/modules"] {
            make.arg(format!("--dpkgopt=path-exclude={left_out}/*"));
        }
        make.arg(format!("--include={packages}")).arg(&suite).arg(unfinished).arg(&mirror);
        must(make.env("LC_ALL", "C.UTF-8"));
        must(Command::new("sh").args(["-euc", finish, "sh"]).arg(unfinished));
    })
}

/// A program of a package of the host's own release, which is not installed: of a daemon that the tests do not need, say.
///
/// # Panics
/// Without root, or a mirror that serves the package.
pub fn program_of(package: &str, path: &str) -> PathBuf {
    let (suite, mirror) = (own_suite(), mirror());
    let tree = once(package, &suite, &format!("{mirror} {package}"), |unfinished| {
        fs::create_dir_all(unfinished).expect("a directory");
        let download = "apt-get -qq update && apt-get -qq download \"$1\" && dpkg-deb -x \"$1\"_*.deb . && rm \"$1\"_*.deb";
        must(Command::new("sh").args(["-euc", download, "sh", package]).current_dir(unfinished));
    });
    tree.join(path)
}

/// A tree of the cache, named by what goes into it, which `make` fills when it is missing.
fn once(kind: &str, suite: &str, inputs: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let mut name = format!("{kind}-{suite}-");
    for byte in &digest(&SHA256, format!("{suite} {inputs}").as_bytes()).as_ref()[..6] {
        write!(name, "{byte:02x}").expect("text");
    }
    fs::create_dir_all(CACHE).expect("a cache directory");
    let lock = File::create(Path::new(CACHE).join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("a lock");
    let tree = Path::new(CACHE).join(&name);
    if !tree.exists() {
        let unfinished = tree.with_extension("new");
        must(Command::new("rm").arg("-rf").arg(&unfinished));
        make(&unfinished);
        fs::rename(&unfinished, &tree).expect("a finished tree");
    }
    tree
}

/// The host's own release: the programs under test are linked with its C library.
pub fn own_suite() -> String {
    let release = fs::read_to_string("/etc/os-release").expect("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.expect("a Debian release with a code name").to_owned()
}

/// The mirror that this machine is set up with.
pub fn mirror() -> String {
    let sources = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let lines: String = sources.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let found = lines.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("URIs:" | "deb")).then(|| words.next().map(str::to_owned))?
    });
    found.unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}
