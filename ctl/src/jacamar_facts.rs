//! A Jacamar CI on this host whose release gives accounts by names that GitLab users choose: CVE-2026-107589, mended in 0.30.0.
//!
//! Its version is asked of the program itself, of which nothing is believed: a copy without a setuid bit and without capabilities
//! runs as nobody, with no new privileges, for a bounded time, and says a bounded text.

use crate::finding::Finding;
use crate::runner_config;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use nunbird_offspring::Adoption;
use nunbird_started::script::execute_script;
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::{exec, process, signals};
use nunbird_validate::foreign;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The programs: what the runner calls, and what the jobs' accounts call. Both are of one release.
const PROGRAMS: [&str; 2] = ["jacamar-auth", "jacamar"];
/// Where its packages and its `make install` put them.
const USUAL: [&str; 3] = ["/opt/jacamar/bin", "/usr/local/bin", "/usr/bin"];
/// The first release that refuses service accounts, as major, minor, patch.
const MENDED: (u32, u32, u32) = (0, 30, 0);
/// The overflow ids (`/proc/sys/kernel/overflowuid`), which own nothing.
const NOBODY: u32 = 65534;
/// Bytes of a program, and of what it says.
const LARGEST: u64 = 256 << 20;
const MOST_OUTPUT: usize = 16 << 10;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks in the usual places, in `PATH`, and at what gitlab-runner's configuration calls.
pub(crate) fn inspect(config: &Path, findings: &mut Vec<Finding>) {
    let called: BTreeSet<PathBuf> = runner_config::programs(config)
        .into_iter()
        .filter(|program| PROGRAMS.iter().any(|name| program.file_name().is_some_and(|n| n == *name)))
        .filter_map(|program| program.canonicalize().ok())
        .collect();
    let mut seen = BTreeSet::new();
    for directory in directories(&called) {
        let there = PROGRAMS.map(|name| directory.join(name)).into_iter();
        let there: Vec<PathBuf> = there.filter_map(|program| program.canonicalize().ok()).collect();
        let Some(first) = there.first().filter(|first| seen.insert((*first).clone())) else { continue };
        let in_use = there.iter().any(|program| called.contains(program));
        // One of the two may be unreadable for the account that asks.
        let answers: Vec<io::Result<Version>> = there.iter().map(|program| version(program)).collect();
        let known = answers.iter().find_map(|answer| answer.as_ref().ok());
        match known {
            Some(version) if version.is_mended() => {}
            Some(version) => findings.push(old(first, &version.text, in_use)),
            None => {
                let why = answers.iter().find_map(|answer| answer.as_ref().err()).map(ToString::to_string);
                findings.push(unknown(first, &why.unwrap_or_default()));
            }
        }
    }
}

/// Absolute, in order, each once.
fn directories(called: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let called = called.iter().filter_map(|program| program.parent().map(Path::to_path_buf));
    let all = called.chain(USUAL.map(PathBuf::from)).chain(std::env::split_paths(&path));
    let mut seen = BTreeSet::new();
    all.filter(|directory| directory.is_absolute() && seen.insert(directory.clone())).collect()
}

const HOLE: &str = "give a service account that a project's maintainer named like a local account that account's jobs (CVE-2026-107589)";

fn old(program: &Path, version: &str, in_use: bool) -> Finding {
    let shown = program.display();
    let help = "install Jacamar CI 0.30.0 or later, or remove it";
    if in_use {
        let message = format!(
            "{shown} is Jacamar CI {version}, and gitlab-runner calls it: releases before 0.30.0 {HOLE}"
        );
        Finding::error("jacamar", message, help)
    } else {
        let message = format!("{shown} is Jacamar CI {version}: releases before 0.30.0 {HOLE}");
        Finding::remark("jacamar", message, help)
    }
}

fn unknown(program: &Path, why: &str) -> Finding {
    let message = format!(
        "{}: Jacamar CI of an unknown version ({why}): releases before 0.30.0 {HOLE}",
        program.display()
    );
    Finding::remark("jacamar", message, "run it with `--version` as an account without privilege")
}

/// A release: three numbers, and the text that it printed, in characters that deceive nobody.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    numbers: (u32, u32, u32),
    before: bool,
    text: String,
}

impl Version {
    /// From the line `Version: 0.27.4` of `--version`. Something like `-rc1` behind the numbers comes before the release.
    fn read(output: &str) -> Option<Version> {
        let value = output.lines().find_map(|line| line.trim().strip_prefix("Version:"))?.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '~' | '_');
        if value.is_empty() || value.len() > 40 || !value.chars().all(plain) {
            return None;
        }
        let text = value.strip_prefix('v').unwrap_or(value);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (numbers, rest) = text.split_at(end);
        let mut parts = numbers.trim_end_matches('.').split('.').map(str::parse::<u32>);
        let numbers = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next().unwrap_or(Ok(0)).ok()?);
        let suffix = rest.trim_start_matches(['-', '~', '_', '+']);
        let before = suffix.starts_with(|c: char| c.is_ascii_alphabetic()) && !rest.starts_with('+');
        Some(Version { numbers, before, text: text.to_owned() })
    }

    fn is_mended(&self) -> bool {
        self.numbers > MENDED || (self.numbers == MENDED && !self.before)
    }
}

fn version(program: &Path) -> io::Result<Version> {
    let output = ask(&trusted(program)?)?;
    Version::read(&output).ok_or_else(|| io::Error::other("`--version` prints no version"))
}

/// Opens a program that its owner alone may write, who is root or the account that asks: the others' are not run, not even as
/// nobody.
fn trusted(program: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(program)?;
    let meta = file.metadata()?;
    let owned = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    if !meta.is_file() || meta.mode() & 0o111 == 0 {
        return Err(io::Error::other("not an executable file"));
    }
    if !owned || meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write it, so it is not run"));
    }
    Ok(file)
}

/// What a copy of the program says to `--version`.
fn ask(program: &File) -> io::Result<String> {
    let copy = foreign::sealed_program(c"jacamar", program, LARGEST, &mut vec![0; 64 << 10], |_| {})?;
    let (output, output_end) = io::pipe()?;
    let (errors, errors_end) = io::pipe()?;
    let adoption = Adoption::begin()?;
    let parent = process::id();
    let privileged = geteuid().is_root();
    let child = fork_into(|| {
        let Err(error) = become_program(&copy, privileged, parent, (&output_end, &errors_end));
        error.raw_os_error().unwrap_or(1).clamp(1, 125)
    })?;
    drop((output_end, errors_end));
    let output = foreign::listen(&child, [output, errors], MOST_OUTPUT, TIMEOUT);
    let uid = if privileged { NOBODY } else { geteuid().as_raw() };
    adoption.end_all(uid, TIMEOUT)?;
    match output.ended {
        Ok(Ended::Exited(0)) => Ok(String::from_utf8_lossy(&output.output).into_owned()),
        Ok(Ended::Exited(code)) => Err(io::Error::other(format!("`--version` ends with {code}"))),
        Ok(Ended::Killed(signal)) => Err(io::Error::other(format!("`--version` ends by signal {signal}"))),
        Err(e) => Err(e),
    }
}

/// In the child. The order is that of a privileged program: groups before gid before uid, since none of them could follow.
fn become_program(
    program: &File,
    privileged: bool,
    parent: i32,
    (output, errors): (&io::PipeWriter, &io::PipeWriter),
) -> io::Result<Infallible> {
    exec::outputs_to(output, errors)?;
    process::null_stdin()?;
    process::new_session()?;
    process::set_umask(0o077);
    std::env::set_current_dir("/")?;
    let seconds = TIMEOUT.as_secs();
    process::end_after(u32::try_from(seconds).unwrap_or(u32::MAX).saturating_add(1));
    foreign::bound_resources(seconds)?;
    if privileged {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setgroups(&[])?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
    }
    process::die_with_parent(signals::KILL, parent)?;
    process::no_new_privileges()?;
    process::default_signals()?;
    let words = |all: &[&str]| all.iter().filter_map(|word| CString::new(*word).ok()).collect::<Vec<_>>();
    let environment = words(&["PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=/"]);
    execute_script(program, &words(&["jacamar", "--version"]), &environment)
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn the_version_is_the_line_of_that_name_and_releases_before_0_30_0_are_old() {
        let mended = |text: &str| Version::read(text).map(|version| version.is_mended());
        for (text, expected) in [
            ("Version: 0.27.4\nGit Commit: abc\nGo Version: go1.25\n", Some(false)),
            ("Version: 0.30.0\n", Some(true)),
            ("Version: v0.30.1", Some(true)),
            ("Version:  1.0.0 \n", Some(true)),
            ("Version: 0.100.0", Some(true)),
            ("Version: 0.3.0", Some(false)),
            ("Version: 0.30", Some(true)),
            ("Version: 0.30.0-rc1", Some(false)),
            ("Version: 0.30.0~pre.2", Some(false)),
            ("Version: 0.30.0.pre.abc", Some(false)),
            ("Version: 0.30.0-1", Some(true)),
            ("Version: 0.30.0+site", Some(true)),
            ("jacamar 0.27.4", None),
            ("Version: \u{1b}[31m0.30.0", None),
            ("Version: develop", None),
            ("Version: 99999999999.0.0", None),
            ("", None),
        ] {
            assert_eq!(mended(text), expected, "{text}");
        }
    }
}
