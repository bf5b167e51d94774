//! A file of the user's own, read by a forked child that has become the user for good: no privilege meets the user's files, and a home
//! directory on a network file system that does not trust root is read all the same.

use crate::memory;
use crate::rights::Rights;
use nunbird_drop::surrender::{self, Ids};
use nunbird_files::own_file::{self, Doubt};
use nunbird_sys::fork::{Child, Ended, fork_into};
use nunbird_sys::kernel::Linux;
use nunbird_sys::users::UserEntry;
use nunbird_sys::{answer, process, signals};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a home directory may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// When the child ends itself, where no process may signal it, in seconds.
const SECONDS: u32 = 3;
/// How long a child that was killed is waited for: one that a dead server holds may never end.
const END: Duration = Duration::from_millis(200);

/// The child's byte for each doubt.
const DOUBTS: [(u8, Doubt); 6] = [
    (b'h', Doubt::Home),
    (b'u', Doubt::Unreadable),
    (b'k', Doubt::Kind),
    (b'o', Doubt::Owner),
    (b'w', Doubt::Writable),
    (b's', Doubt::Size),
];

/// What became of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnFile {
    /// There is none.
    Missing,
    /// It does not count.
    Doubted(Doubt),
    /// Its content, which the user has written.
    Content(Vec<u8>),
}

/// Reads `inside` of the account's home directory, of at most `limit` bytes.
///
/// # Errors
/// When the child gives no answer in time.
pub(crate) fn read(
    account: &UserEntry,
    inside: &Path,
    limit: u64,
    rights: Rights,
) -> Result<OwnFile, String> {
    let failed = |detail: &dyn std::fmt::Display| format!("uid {}: {detail}", account.uid);
    let (reader, writer) = io::pipe().map_err(|e| failed(&e))?;
    let parent = process::id();
    let child = fork_into(|| i32::from(answer(account, inside, limit, rights, parent, &writer).is_err()))
        .map_err(|e| failed(&format!("fork: {e}")))?;
    drop(writer);
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    match answer::read_to_end(reader, most, PATIENCE) {
        Ok(bytes) => {
            let ended = child.wait().map_err(|e| failed(&e))?;
            let decoded = decode(bytes).filter(|_| ended == Ended::Exited(0));
            decoded.ok_or_else(|| failed(&format!("the child that reads as the user ended badly: {ended:?}")))
        }
        Err(e) => {
            let _already_gone = child.kill_as(account.uid);
            reap(&child);
            Err(failed(&format!("no answer from the home directory: {e}")))
        }
    }
}

/// Waits for a killed child, unless its file system holds it.
fn reap(child: &Child) {
    let deadline = Instant::now() + END;
    while matches!(child.poll(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The child's whole life.
fn answer(
    account: &UserEntry,
    inside: &Path,
    limit: u64,
    rights: Rights,
    parent: i32,
    pipe: &io::PipeWriter,
) -> io::Result<()> {
    process::end_after(SECONDS);
    process::close_all_but(pipe.as_raw_fd())?;
    memory::bound(rights)?;
    let surrendered = if rights.can_change_user {
        let ids = Ids { uid: account.uid, gid: account.gid, groups: account.groups.clone() };
        surrender::become_user(&mut Linux, &ids)
    } else {
        surrender::stay_user(&mut Linux, account.uid, account.gid)
    };
    surrendered.map_err(|failure| failure.error)?;
    process::forbid_inspection()?;
    process::no_new_privileges()?;
    process::die_with_parent(signals::KILL, parent)?;
    let word = match own_file::read(&account.home, inside, account.uid, limit) {
        Ok(None) => vec![b'N'],
        Ok(Some(content)) => [b"R", content.as_slice()].concat(),
        Err(doubt) => {
            let word = DOUBTS.iter().find(|(_, known)| *known == doubt).map_or(b'u', |(word, _)| *word);
            vec![b'D', word]
        }
    };
    let mut pipe = pipe;
    pipe.write_all(&word)
}

fn decode(mut bytes: Vec<u8>) -> Option<OwnFile> {
    match bytes.as_slice() {
        [b'N'] => Some(OwnFile::Missing),
        [b'D', word] => {
            DOUBTS.iter().find(|(known, _)| known == word).map(|(_, doubt)| OwnFile::Doubted(*doubt))
        }
        [b'R', ..] => Some(OwnFile::Content(bytes.split_off(1))),
        _ => None,
    }
}
