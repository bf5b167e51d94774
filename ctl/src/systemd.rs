//! What systemd knows of a unit, queried with systemctl(1): a fixed program, an empty environment,
//! a bounded output in a bounded time. This may run as root, and a service manager that hangs must
//! not block an admin.

use nunbird_sys::answer;
use std::collections::BTreeMap;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Its path in every distribution; `/bin` is the same directory on all supported ones.
const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// The most output, in bytes: a filter of system calls is a long line.
const MOST: usize = 256 << 10;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Properties of a unit by name, as `systemctl show` prints them.
pub(crate) type Properties = BTreeMap<String, String>;

/// Whether systemd is this host's init (sd_booted(3)).
pub(crate) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// These properties of a unit; those that this version of systemd does not know are left out.
/// `None` if it does not respond.
pub(crate) fn show(unit: &str, names: &[&str]) -> Option<Properties> {
    let mut child = Command::new(SYSTEMCTL)
        .args(["--no-pager", "show", "--property", &names.join(","), "--", unit])
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let pipe = PipeReader::from(OwnedFd::from(child.stdout.take()?));
    let output = answer::read_to_end(pipe, MOST, TIMEOUT);
    if output.is_err() {
        let _already_ended = child.kill();
    }
    let ended = child.wait();
    output.ok().filter(|_| ended.is_ok_and(|status| status.success())).map(|output| parse(&output))
}

/// One property of a unit.
pub(crate) fn property(unit: &str, name: &str) -> Option<String> {
    show(unit, &[name])?.remove(name)
}

/// Lines `NAME=value`.
pub(crate) fn parse(output: &[u8]) -> Properties {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}
