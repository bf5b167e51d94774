//! A file of the user's own, read by a forked child that has become the user for good: no privilege meets the user's files, and a home
//! directory on a network file system that does not trust root is read all the same.

use crate::as_user::{self, Doubt};
use crate::memory;
use crate::rights::Rights;
use nunbird_accounts::users::UserEntry;
use nunbird_surrender::{self as surrender, Ids};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::Linux;
use nunbird_sys::{answer, process, signals};
use nunbird_wire::{Message, choice};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// How long a home directory may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// When the child ends itself, where no process may signal it, in seconds.
const SECONDS: u32 = 3;
/// What comes before the content in the child's answer, in bytes: the kind and the length.
const HEAD: usize = 5;
/// How long a child that was killed is waited for: one that a dead server holds may never end.
const END: Duration = Duration::from_millis(200);

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

choice!(OwnFile { 0 => Missing, 1 => Doubted(doubt), 2 => Content(content) });

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
    let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(HEAD);
    match answer::read_to_end(reader, most, PATIENCE) {
        Ok(bytes) => {
            let ended = child.wait().map_err(|e| failed(&e))?;
            let file = OwnFile::from_bytes(&bytes).ok().filter(|_| ended == Ended::Exited(0));
            file.ok_or_else(|| failed(&format!("the child that reads as the user ended badly: {ended:?}")))
        }
        Err(e) => {
            let _already_gone = child.kill_as(account.uid);
            // Unless its file system holds it.
            let _reaped = child.wait_at_most(END);
            Err(failed(&format!("no answer from the home directory: {e}")))
        }
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
    let file = match as_user::read(&account.home, inside, account.uid, limit) {
        Ok(content) => content.map_or(OwnFile::Missing, OwnFile::Content),
        Err(doubt) => OwnFile::Doubted(doubt),
    };
    let mut pipe = pipe;
    pipe.write_all(&file.to_bytes())
}
