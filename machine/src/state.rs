//! The note of a machine: who keeps it and which control groups are its own. Its keeper holds a lock on it as long as it lives.

use crate::places::state;
use crate::{Trouble, groups};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_files::directory::Directory;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel may take to end all processes of a machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest note, in bytes.
const LONGEST: u64 = 64 << 10;

/// Whether the id of a decision is one: it becomes the name of a file.
pub(crate) fn check(decision: &str) -> Result<(), Trouble> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if decision.len() == 32 && decision.bytes().all(digit) {
        return Ok(());
    }
    Err(Trouble::new("the id of the decision is none"))
}

/// The note of a machine that is about to start, locked.
#[derive(Debug)]
pub(crate) struct Note(Flock<File>);

impl Note {
    /// Makes it; nothing where there is one: the machine has been started before.
    pub(crate) fn make(decision: &str) -> Result<Option<Self>, Trouble> {
        let path = path(decision)?;
        let mut options = File::options();
        match options.write(true).create_new(true).mode(0o600).open(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(Trouble::of(&path.display().to_string())(e)),
            Ok(file) => match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => Ok(Some(Note(held))),
                Err((_, e)) => Err(Trouble::of(&path.display().to_string())(e.into())),
            },
        }
    }

    /// Writes down who keeps the machine, which is this process, and a control group that is about to be the machine's.
    pub(crate) fn write(&mut self, groups: &[PathBuf]) -> std::io::Result<()> {
        let mut text = format!("{}\n", nunbird_sys::process::id()).into_bytes();
        for group in groups {
            text.extend([group.as_os_str().as_bytes(), b"\n"].concat());
        }
        self.0.write_all(&text)
    }
}

fn path(decision: &str) -> Result<PathBuf, Trouble> {
    check(decision)?;
    state()?;
    Ok(Path::new(crate::places::STATE).join(decision))
}

/// Forgets a machine that is gone.
pub(crate) fn forget(notes: &Directory, decision: &str) -> Result<(), Trouble> {
    notes.remove(decision).map_err(Trouble::of("the machine's note"))
}

/// Ends a machine and comes back when nothing of it is left.
pub(crate) fn end(decision: &str) -> Result<(), Trouble> {
    let path = path(decision)?;
    let shown = path.display().to_string();
    let file = match File::open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Trouble::of(&shown))?,
    };
    let mut text = String::new();
    (&file).take(LONGEST).read_to_string(&mut text).map_err(Trouble::of(&shown))?;
    let mut lines = text.lines();
    let keeper = lines.next().and_then(|line| line.parse::<i32>().ok()).filter(|keeper| *keeper > 1);
    let own: Vec<PathBuf> = lines.map(PathBuf::from).collect();
    let mut left = PATIENCE.as_millis() / 5;
    let mut file = Some(file);
    // Step N12. While its keeper lives it has the lock, so the number is the keeper's still. With the keeper systemd-nspawn ends, but
    // the machine's first process does not.
    while let Some(unlocked) = file.take() {
        match Flock::lock(unlocked, FlockArg::LockExclusiveNonblock) {
            Ok(_) => break,
            Err((again, nix::Error::EWOULDBLOCK)) if left > 0 => {
                if let Some(keeper) = keeper {
                    let _already_gone = kill(Pid::from_raw(keeper), Signal::SIGKILL);
                }
                left -= 1;
                std::thread::sleep(Duration::from_millis(5));
                file = Some(again);
            }
            Err((_, e)) => return Err(Trouble::of(&shown)(e.into())),
        }
    }
    // Step N13. A group goes when its last process is gone.
    groups::remove(&own, PATIENCE)?;
    forget(&state()?, decision)
}
