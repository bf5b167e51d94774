//! Build directories: which are in use, and which are removed.
//!
//! Beside each build directory `<name>` there is a note `.<name>.job` about the job that uses it,
//! written by `prepare` and changed by `cleanup`; its mtime is the directory's last use. The one of a
//! job that asks for its files to be kept (`NUNBIRD_KEEP`) is the job's own: it goes with the job,
//! whatever the site's rules are by then, or, where a failed script has left it for its user to look
//! at, when that time is over. It has a second note then, `.<name>.kept`, for `nunbird exec enter`.
//! A job can write to all of this; the longest time that a site can allow bounds what it writes. All
//! decisions are made under a lock on the parent directory (one for each host), and a directory to
//! remove is renamed under the lock, so that a job that starts at the same time gets a new one and
//! never a partial old one. Everything happens as the user, and no symbolic link is followed.

use crate::credentials;
use nix::fcntl::renameat;
use nix::sys::stat::SFlag;
use nix::sys::statvfs::fstatvfs;
use nunbird_files::directory::{Directory as Files, Lock};
use nunbird_handover::{Handover, Kept, Upkeep};
use nunbird_housekeeping::Housekeeping;
use nunbird_stage::directory::{Directory, is};
use nunbird_stage::error::shown;
use nunbird_stage::trees::{descend, remove_tree_until};
use nunbird_stage::{StageError, log_to_runner, print_message};
use nunbird_sys::clock;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long another job of the account may hold the lock; it is held for a few system calls.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one cleanup may remove directories. `nunbird-auth` gives the whole cleanup two minutes.
const REMOVAL_TIME: Duration = Duration::from_secs(60);
/// A stage that began in time may continue for a while after the job's time is up.
const SLACK: u64 = 3600;
const MAX_NOTE: u64 = 4096;
/// Prefix of the name of a directory that is being removed.
const REMOVED_PREFIX: &str = ".gone-";

/// The job that uses a build directory.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Seconds since the epoch until which a job may work there; 0 when it has ended.
    until: u64,
    /// The kernel's boot id: a job does not survive a reboot of its host.
    boot: String,
    /// Seconds since the epoch until which the directory is kept, in the past where it is only to go with its job; none for one that
    /// later jobs use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<u64>,
}

impl Note {
    /// Until when the directory is kept, if that is later than now. A time that no site can allow is a job's own work. A clock may have been
    /// set back a little.
    fn kept_after(&self, now: u64) -> Option<u64> {
        self.kept.filter(|until| *until > now && *until - now <= Upkeep::LONGEST_KEEP + SLACK)
    }
}

/// A build directory that no job uses.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unused {
    /// Seconds since the epoch of its last use.
    since: i64,
    name: String,
}

/// This host's build directories.
#[derive(Debug, Default)]
struct All {
    /// How many there are that later jobs use.
    lasting: u64,
    /// Those of them that no job uses.
    unused: Vec<Unused>,
    /// Those that are kept.
    kept: Vec<Unused>,
    /// Those that went with their jobs, or were kept, and whose time is over.
    over: Vec<Unused>,
}

/// Why a directory is removed.
#[derive(Debug)]
enum Reason {
    Kept,
    Age,
    Number,
    Space,
}

/// Records that the job uses its build directory.
///
/// # Errors
/// If the site has directories removed and this cannot be recorded: another job would take the
/// directory for an old one.
pub(crate) fn record_use(root: &Directory, handover: &Handover) -> Result<(), StageError> {
    // A prompt in what a job has left changes nothing about how long it stays, and one by hand looks after its directory itself.
    if is_by_hand(handover) {
        return Ok(());
    }
    let Some(place) = SlotDirectories::of(root, handover)? else { return Ok(()) };
    // The job's own goes after the job even if its clean-up does not come so far as to say so.
    let kept = handover.site.keep.map(|_| 0);
    let note = Note { until: handover.expires_at.saturating_add(SLACK), boot: boot_id(), kept };
    match place.write(&note) {
        Err(e) if place.rules.is_in_force() => Err(StageError::at(
            "cannot record that this job works in",
            place.directory.path(),
            e,
            "free some space or quota there; if that does not help, report it to the administrators",
        )),
        // Nothing will read it.
        _ => Ok(()),
    }
}

/// Records that the job has ended, and removes the directories that the site's rules select.
pub(crate) fn release(root: &Directory, handover: &Handover) {
    if is_by_hand(handover) {
        return;
    }
    report_failure(root, handover, |place| {
        if handover.site.keep.is_some() {
            return place.release_own(root, handover);
        }
        let noted = place.write(&Note { until: 0, boot: boot_id(), kept: None });
        if place.rules.is_in_force() {
            noted.map_err(|e| place.trouble("cannot record the end of the job in", &e))?;
        }
        place.tidy(&handover.decision_id)
    });
}

/// Records until when the directory of a job stays whose script has failed.
///
/// # Errors
/// If this cannot be recorded: the directory goes with the job then.
pub(crate) fn keep_until(root: &Directory, handover: &Handover, until: u64) -> Result<(), StageError> {
    let missing = || {
        let cause = "it is missing";
        StageError::at("cannot keep", &handover.workspace.builds_dir, cause, "run the job again")
    };
    let place = SlotDirectories::of(root, handover)?.ok_or_else(missing)?;
    let note = Note { until: handover.expires_at.saturating_add(SLACK), boot: boot_id(), kept: Some(until) };
    place.write(&note).map_err(|e| place.trouble("cannot record how long the job's files stay in", &e))
}

/// Ids of GitLab's begin at 1.
fn is_by_hand(handover: &Handover) -> bool {
    handover.identity.user_id == 0
}

/// Removes the directories that the site's rules select, if the job has no directory of its own any
/// more.
pub(crate) fn tidy(root: &Directory, handover: &Handover) {
    report_failure(root, handover, |place| place.tidy(&handover.decision_id));
}

/// A failure is reported and left to the next cleanup: the job's own secrets are removed by now.
fn report_failure(
    root: &Directory,
    handover: &Handover,
    act: impl FnOnce(&SlotDirectories<'_>) -> Result<(), StageError>,
) {
    let place = SlotDirectories::of(root, handover);
    if let Err(trouble) = place.and_then(|place| place.as_ref().map_or(Ok(()), act)) {
        print_message(&trouble.to_string());
    }
}

/// The directory that holds this host's build directories.
struct SlotDirectories<'a> {
    directory: Directory,
    files: Files,
    /// The job's own build directory.
    name: &'a str,
    rules: &'a Upkeep,
}

impl<'a> SlotDirectories<'a> {
    /// `None` if it does not exist.
    fn of(root: &Directory, handover: &'a Handover) -> Result<Option<Self>, StageError> {
        let workspace = &handover.workspace;
        let builds_dir = &workspace.builds_dir;
        let name = builds_dir.file_name().and_then(OsStr::to_str);
        let (Some(parent), Some(name)) = (builds_dir.parent(), name) else { return Ok(None) };
        if parent == workspace.builds_root {
            return Ok(None);
        }
        let Some(directory) = descend(root, &workspace.builds_root, parent)? else { return Ok(None) };
        let copy = directory.as_fd().try_clone_to_owned();
        let files = Files::new(copy.map_err(|e| {
            StageError::at(
                "cannot open",
                directory.path(),
                e,
                "run the job again, or report it to the administrators",
            )
        })?);
        Ok(Some(SlotDirectories { directory, files, name, rules: &handover.site.upkeep }))
    }

    fn write(&self, note: &Note) -> io::Result<()> {
        let _lock = self.files.lock(".lock", LOCK_TIMEOUT)?;
        let name = note_name(self.name);
        self.files.replace(&name, &format!(".{name}.new"), &serde_json::to_vec(note)?)
    }

    /// The end of a job that has a directory of its own: it is kept where the script has failed or the job's time was over, and goes where not.
    fn release_own(&self, root: &Directory, handover: &Handover) -> Result<(), StageError> {
        let failed = |e: io::Error| self.trouble("cannot record the end of the job in", &e);
        let now = clock::now().map_err(failed)?;
        let mut kept = self.note(self.name).map_err(failed)?.and_then(|note| note.kept_after(now));
        // The runner has ended its script, so that nothing has said how long it stays.
        if handover.timed_out {
            kept = kept.or(handover.site.keep.map(|seconds| now.saturating_add(seconds)));
        }
        if kept.is_some()
            && let Err(trouble) = credentials::strip_git_configs(root, &handover.workspace)
        {
            print_message(&format!("the job's files are not kept: {trouble}"));
            kept = None;
        }
        if let Some(until) = kept {
            let text = Kept::of(handover, now, until).to_bytes().map_err(|e| failed(io::Error::other(e)))?;
            let name = Kept::file_name(self.name);
            self.files.replace(&name, &format!("{name}.new"), &text).map_err(failed)?;
        }
        // Of one that is not kept, its time is over.
        let kept = kept.or(Some(0));
        if self.directory.stat(OsStr::new(self.name)).is_ok() {
            self.write(&Note { until: 0, boot: boot_id(), kept }).map_err(failed)?;
        }
        self.tidy(&handover.decision_id)
    }

    fn note(&self, name: &str) -> io::Result<Option<Note>> {
        match self.files.read(&note_name(name), MAX_NOTE) {
            Ok((bytes, ..)) => Ok(serde_json::from_slice::<Note>(&bytes).ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Without rules, it removes what was to go with its job or to be kept for a time: rules may have gone since.
    fn tidy(&self, decision_id: &str) -> Result<(), StageError> {
        let deadline = Instant::now() + REMOVAL_TIME;
        // What an earlier cleanup did not finish.
        for name in self.removal_name().map_err(|e| self.trouble("cannot read", &e))? {
            self.remove(&name, deadline);
        }
        self.forget_missing().map_err(|e| self.trouble("cannot clean up", &e))?;
        let mut removed = 0;
        let mut passed_over = Vec::new();
        while Instant::now() < deadline {
            let may_more = self.rules.at_once.is_none_or(|most| removed < most);
            let Some((name, gone, reason)) = self.take_one(decision_id, may_more, &mut passed_over)? else {
                return Ok(());
            };
            let is_gone = self.remove(&gone, deadline);
            removed += u64::from(!matches!(reason, Reason::Kept));
            if !is_gone {
                continue;
            }
            let why = match reason {
                Reason::Kept => "its job has ended, and it is not kept any longer",
                Reason::Age => "it was not used for as long as the site keeps directories",
                Reason::Number => "the site keeps no more of them",
                Reason::Space => "the file system is short of space",
            };
            log_to_runner(&format!(
                "removed the build directory {}: {why}",
                shown(&self.directory.path().join(name))
            ));
        }
        Ok(())
    }

    /// Renames the next directory to remove; returns its name and its new name. One that cannot be renamed, such as a mount, is passed over.
    fn take_one(
        &self,
        decision_id: &str,
        may_more: bool,
        passed_over: &mut Vec<String>,
    ) -> Result<Option<(String, String, Reason)>, StageError> {
        let failed = |e: io::Error| self.trouble("cannot clean up", &e);
        let lock = self.files.lock(".lock", LOCK_TIMEOUT).map_err(failed)?;
        let (name, gone, reason) = loop {
            let next = self.next(&lock, passed_over).map_err(failed)?;
            let Some((name, reason)) = next.filter(|(_, reason)| may_more || matches!(reason, Reason::Kept))
            else {
                return Ok(None);
            };
            let gone = format!("{REMOVED_PREFIX}{decision_id}-{name}");
            match renameat(&self.directory, name.as_str(), &self.directory, gone.as_str()) {
                Ok(()) => break (name, gone, reason),
                Err(e) => {
                    let path = self.directory.path().join(&name);
                    let help = "unmount what is mounted there, or look at the directory";
                    print_message(&StageError::at("cannot remove", &path, e, help).to_string());
                    passed_over.push(name);
                }
            }
        };
        for note in [note_name(&name), Kept::file_name(&name)] {
            self.files.remove(&note).map_err(failed)?;
        }
        Ok(Some((name, gone, reason)))
    }

    fn next(&self, lock: &Lock, passed_over: &[String]) -> io::Result<Option<(String, Reason)>> {
        let All { lasting, unused, kept, over } = self.all(lock)?;
        let first =
            |found: Vec<Unused>| found.into_iter().filter(|one| !passed_over.contains(&one.name)).min();
        // Whatever the site's other rules are.
        if let Some(over) = first(over) {
            return Ok(Some((over.name, Reason::Kept)));
        }
        let Some(oldest) = first(unused) else {
            // Last of all, what users wait for least.
            let Some(kept) = first(kept) else { return Ok(None) };
            return Ok(self.is_short_of_space()?.then_some((kept.name, Reason::Space)));
        };
        let now = i64::try_from(clock::now()?).unwrap_or(i64::MAX);
        let old = |age: u64| now.saturating_sub(oldest.since) >= i64::try_from(age).unwrap_or(i64::MAX);
        let reason = if self.rules.max_age.is_some_and(old) {
            Reason::Age
        } else if self.rules.max_dirs.is_some_and(|most| lasting > most) {
            Reason::Number
        } else if self.is_short_of_space()? {
            Reason::Space
        } else {
            return Ok(None);
        };
        Ok(Some((oldest.name, reason)))
    }

    fn is_short_of_space(&self) -> io::Result<bool> {
        let Some(least) = self.rules.min_free else { return Ok(false) };
        let now = fstatvfs(&self.directory)?;
        Ok(now.blocks_available().saturating_mul(now.fragment_size()) < least)
    }

    /// Which of the directories a live job uses, and which not. The lock keeps it that way.
    fn all(&self, _lock: &Lock) -> io::Result<All> {
        let (now, boot) = (clock::now()?, boot_id());
        let mut all = All::default();
        for name in self.build_directories()? {
            let note_name = note_name(&name);
            let note = self.note(&name)?;
            let is_lasting = note.as_ref().is_none_or(|note| note.kept.is_none());
            all.lasting += u64::from(is_lasting);
            if note.as_ref().is_some_and(|note| note.boot == boot && note.until > now) {
                continue;
            }
            let stat = self.directory.stat(OsStr::new(&note_name));
            let stat = stat.or_else(|_| self.directory.stat(OsStr::new(&name)))?;
            let is_kept = note.is_some_and(|note| note.kept_after(now).is_some());
            let of_kind = match (is_lasting, is_kept) {
                (true, _) => &mut all.unused,
                (false, true) => &mut all.kept,
                (false, false) => &mut all.over,
            };
            of_kind.push(Unused { since: stat.st_mtime, name });
        }
        Ok(all)
    }

    fn build_directories(&self) -> io::Result<Vec<String>> {
        let mut names = self.files.names()?;
        let is_directory =
            |name: &String| self.directory.stat(OsStr::new(name)).is_ok_and(|stat| is(&stat, SFlag::S_IFDIR));
        names.retain(is_directory);
        Ok(names)
    }

    /// Removes the notes of kept directories that their user has removed.
    fn forget_missing(&self) -> io::Result<()> {
        let _lock = self.files.lock(".lock", LOCK_TIMEOUT)?;
        for file in self.files.hidden_names()? {
            let name = file.strip_prefix('.').and_then(|rest| rest.strip_suffix(".kept"));
            let Some(name) = name.filter(|name| self.directory.stat(OsStr::new(name)).is_err()) else {
                continue;
            };
            self.files.remove(&note_name(name))?;
            self.files.remove(&file)?;
        }
        Ok(())
    }

    fn removal_name(&self) -> io::Result<Vec<String>> {
        let mut names = self.files.hidden_names()?;
        names.retain(|name| name.starts_with(REMOVED_PREFIX));
        Ok(names)
    }

    /// Whether it has been removed. A directory that contains another user's files stays, and does
    /// not prevent the removal of others.
    fn remove(&self, name: &str, deadline: Instant) -> bool {
        let removed = remove_tree_until(&self.directory, OsStr::new(name), deadline);
        if let Err(trouble) = &removed {
            print_message(&format!("an old build directory is not removed yet: {trouble}"));
        }
        removed.is_ok()
    }

    fn trouble(&self, what: &str, e: &io::Error) -> StageError {
        let help = "old build directories stay; look at the directory, or report it to the administrators";
        StageError::at(what, self.directory.path(), e, help)
    }
}

fn note_name(name: &str) -> String {
    format!(".{name}.job")
}

/// Without a boot id, every note counts as of this boot.
fn boot_id() -> String {
    clock::boot_id().unwrap_or_default()
}
