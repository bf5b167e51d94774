//! The note of a machine: its ids and its tree, who keeps it and which control groups are its own. Its keeper holds a lock on it as long as it
//! lives. A machine can outlive its keeper, so that ids and tree are nobody else's before the note is gone, whatever is locked.

use crate::ids::Range;
use crate::places::state;
use crate::tree::Tree;
use crate::{Trouble, groups};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_files::directory::Directory;
use std::fs::{self, File};
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
    Err(Trouble::new("the decision id is not 32 hexadecimal digits"))
}

/// What systemd-nspawn calls a machine: a name of a host, 64 characters at most.
pub(crate) fn machine_name(decision: &str) -> String {
    format!("nb-{}", decision.get(..16).unwrap_or(decision))
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

    /// Writes down what the machine has, before anything is made of it.
    pub(crate) fn reserve(&mut self, range: &Range, tree: &Tree) -> std::io::Result<()> {
        self.0.write_all(
            format!("ids {} {}\ntree {}/{}\n", range.first, range.size, tree.name, tree.version).as_bytes(),
        )
    }

    /// Writes down who keeps the machine, which is this process, and the control groups that are about to be the machine's.
    pub(crate) fn write(&mut self, groups: &[PathBuf]) -> std::io::Result<()> {
        let mut text = format!("keeper {}\n", nunbird_sys::process::id()).into_bytes();
        for group in groups {
            text.extend([b"group ", group.as_os_str().as_bytes(), b"\n"].concat());
        }
        self.0.write_all(&text)
    }
}

/// What a note says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    ids: Option<(u32, u32)>,
    keeper: Option<i32>,
    groups: Vec<PathBuf>,
}

impl Said {
    fn read(file: &File) -> std::io::Result<Self> {
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut said = Said::default();
        for (kind, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match kind {
                "ids" => {
                    let (first, size) = value.split_once(' ').unwrap_or_default();
                    said.ids = first.parse().ok().zip(size.parse().ok());
                }
                "keeper" => said.keeper = value.parse().ok().filter(|keeper| *keeper > 1),
                "group" => said.groups.push(PathBuf::from(value)),
                // The tree is there for `nunbirdctl machines`.
                _ => {}
            }
        }
        said
    }
}

/// The ids of all machines that have a note, first and count: nobody else gets them, although their keeper may be dead and its locks gone.
pub(crate) fn reserved() -> Result<Vec<(u32, u32)>, Trouble> {
    let mut all = Vec::new();
    for decision in state()?.names().map_err(Trouble::of(crate::places::STATE))? {
        if check(&decision).is_err() {
            continue;
        }
        let path = Path::new(crate::places::STATE).join(decision);
        match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            other => {
                let said = other.and_then(|file| Said::read(&file));
                all.extend(said.map_err(Trouble::of(&path.display().to_string()))?.ids);
            }
        }
    }
    Ok(all)
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
    let Said { keeper, groups: own, .. } = Said::read(&file).map_err(Trouble::of(&shown))?;
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
    // A systemd-nspawn that is killed leaves these directories, which are empty on the host.
    for place in ["propagate", "unix-export"] {
        let left = format!("/run/systemd/nspawn/{place}/{}", machine_name(decision));
        match fs::remove_dir(&left) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Trouble::of(&left)(e)),
            _ => {}
        }
    }
    forget(&state()?, decision)
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn a_note_says_what_its_machine_has_and_a_part_of_one_what_is_in_it() {
        let text = "ids 1879048192 65536\ntree debian/1\nkeeper 77\ngroup /sys/fs/cgroup/a b\ngroup /sys/fs/cgroup/c\n";
        let groups = vec!["/sys/fs/cgroup/a b".into(), "/sys/fs/cgroup/c".into()];
        assert_eq!(Said::parse(text), Said { ids: Some((1_879_048_192, 65_536)), keeper: Some(77), groups });
        assert_eq!(
            Said::parse("ids 1879048192 65536\ntree "),
            Said { ids: Some((1_879_048_192, 65_536)), ..Said::default() }
        );
        assert_eq!(Said::parse("keeper 1\nkeeper -1\n"), Said::default());
    }
}
