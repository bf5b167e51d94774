//! The queue's state for all jobs of the account, queried by one launcher for all launchers on this
//! host.
//!
//! The result is stored in the account's private directory, with the time at which the query began.
//! That time alone decides which launcher may use it: a query older than what a launcher already
//! knows is no evidence to it, least of all that its job does not exist. A lock admits one query at
//! a time. A result that could not be stored, or a lock that cannot be taken, only costs another
//! query. The account's own programs could write the file as well, as they could replace everything
//! else here; the result is trusted for that account's jobs only.

use super::command::CommandOutput;
use super::stage::NEITHER_LINK_NOR_PIPE;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Bound on a stored result. The output is bounded by `command.rs`; its JSON form is longer.
const LONGEST: u64 = 64 << 20;

/// A time by `CLOCK_MONOTONIC`, which all processes of a host share (`clock_gettime(2)`).
pub(crate) type Moment = Duration;

/// Where the results of one scheduler are stored.
#[derive(Debug)]
pub(crate) struct Shared {
    directory: PathBuf,
    name: String,
    clock: String,
    lock: Option<Flock<File>>,
}

/// Which launcher runs the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueryLock {
    Acquired,
    /// Another launcher runs it.
    HeldByOther,
    /// This file system has no locks, or no space: every launcher runs its own queries.
    Unavailable,
}

/// A stored result. Only complete results are stored, and only those of this boot are read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredResult {
    clock: String,
    /// When the query began, in nanoseconds.
    asked: u64,
    /// The status of wait(2); `None` if the command was killed.
    status: Option<i32>,
    out: String,
    err: String,
}

impl Shared {
    /// For launchers that would run a query with these words. Opens nothing yet.
    pub(crate) fn new(directory: &Path, question: &[String]) -> Self {
        let host = nix::unistd::gethostname().unwrap_or_default();
        Shared {
            directory: directory.to_owned(),
            name: format!("queue-{:016x}", hash(question.iter().map(String::as_str).chain(host.to_str()))),
            clock: clock(),
            lock: None,
        }
    }

    /// The stored result, if its query began no earlier than `since`.
    pub(crate) fn result(&self, since: Moment) -> Option<CommandOutput> {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(NEITHER_LINK_NOR_PIPE).open(self.path()).ok()?;
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).ok()?;
        let kept: StoredResult = serde_json::from_slice(&bytes).ok()?;
        let asked = Duration::from_nanos(kept.asked);
        // A time in the future comes from another clock.
        if self.clock.is_empty() || kept.clock != self.clock || asked < since || asked > now() {
            return None;
        }
        let status = kept.status.map(ExitStatus::from_raw);
        Some(CommandOutput { status, out: kept.out, err: kept.err })
    }

    /// Tries to take the lock; it is held until the answer is kept or the lock is left.
    pub(crate) fn try_lock(&mut self) -> QueryLock {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let path = self.directory.join(format!("{}.lock", self.name));
        let Ok(file) = options.custom_flags(nix::libc::O_NOFOLLOW).open(path) else {
            return QueryLock::Unavailable;
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                self.lock = Some(lock);
                QueryLock::Acquired
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => QueryLock::HeldByOther,
            Err(_) => QueryLock::Unavailable,
        }
    }

    /// Releases the lock without a result.
    pub(crate) fn release(&mut self) {
        self.lock = None;
    }

    /// Stores the result for the others and releases the lock. If it cannot be stored, the others
    /// run their own queries.
    pub(crate) fn store(&mut self, asked: Moment, output: &CommandOutput) {
        // Released first, because the others wait for the result file: when it appears, the lock is
        // free.
        self.release();
        let kept = StoredResult {
            clock: self.clock.clone(),
            asked: u64::try_from(asked.as_nanos()).unwrap_or(0),
            status: output.status.map(ExitStatus::into_raw),
            out: output.out.clone(),
            err: output.err.clone(),
        };
        let new = self.directory.join(format!("{}.{}", self.name, std::process::id()));
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).custom_flags(NEITHER_LINK_NOR_PIPE);
            options.open(&new)?.write_all(&serde_json::to_vec(&kept)?)?;
            fs::rename(&new, self.path())
        };
        if write().is_err() {
            drop(fs::remove_file(&new));
        }
    }

    /// The directory to watch for a new result.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }
}

/// The present time by the clock of stored results.
pub(crate) fn now() -> Moment {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Identifies the clock: the boot id and the time namespace (time_namespaces(7)). Empty: nothing is
/// shared.
fn clock() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match (boot.trim(), fs::read_link("/proc/self/ns/time")) {
        ("", _) => String::new(),
        (boot, Ok(namespace)) => format!("{boot} {}", namespace.display()),
        // Kernels before 5.6 have no such namespaces.
        (boot, Err(_)) => boot.to_owned(),
    }
}

/// FNV-1a. Two queries whose hashes collide would share results in which each finds its own tag or
/// nothing.
fn hash<'a>(words: impl Iterator<Item = &'a str>) -> u64 {
    words
        .flat_map(|word| word.bytes().chain([0]))
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::{QueryLock, Shared, now};
    use crate::command::CommandOutput;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::ExitStatus;
    use std::time::Duration;

    fn shared(directory: &Path) -> Shared {
        Shared::new(directory, &["squeue".to_owned(), "--user=41".to_owned()])
    }

    fn output(out: &str) -> CommandOutput {
        CommandOutput { status: Some(ExitStatus::from_raw(256)), out: out.to_owned(), err: "e\n".to_owned() }
    }

    #[test]
    fn an_answer_serves_those_who_know_nothing_newer_than_its_question() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut asker, other) = (shared(directory.path()), shared(directory.path()));
        let before = now();
        assert_eq!(asker.try_lock(), QueryLock::Acquired);
        let asked = now();
        asker.store(asked, &output("row\n"));
        let heard = other.result(before).expect("an answer");
        assert_eq!((heard.out.as_str(), heard.err.as_str()), ("row\n", "e\n"));
        assert_eq!(heard.status.and_then(|status| status.code()), Some(1));
        // It was stored after this moment, but its query began earlier.
        assert!(other.result(asked + Duration::from_nanos(1)).is_none());
        let another = Shared::new(directory.path(), &["squeue".to_owned(), "--user=42".to_owned()]);
        assert!(another.result(before).is_none());
    }

    #[test]
    fn one_asks_at_a_time_and_nobody_waits_for_the_dead() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut one, mut other) = (shared(directory.path()), shared(directory.path()));
        assert_eq!((one.try_lock(), other.try_lock()), (QueryLock::Acquired, QueryLock::HeldByOther));
        drop(one);
        assert_eq!(other.try_lock(), QueryLock::Acquired);
        other.release();
        assert_eq!(shared(directory.path()).try_lock(), QueryLock::Acquired);
        assert_eq!(shared(&directory.path().join("none")).try_lock(), QueryLock::Unavailable);
    }

    #[test]
    fn an_answer_is_private_whole_and_of_this_boot() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut one = shared(directory.path());
        one.store(now(), &output("row\n"));
        let path = one.path();
        let mode = path.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let whole = std::fs::read_to_string(&path).expect("text");
        assert_eq!(
            std::fs::read_dir(directory.path()).expect("a directory").count(),
            1,
            "nothing else is left"
        );
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("a part");
            assert!(one.result(Duration::ZERO).is_none(), "{length}");
        }
        let boot = one.clock.split(' ').next().expect("a boot");
        std::fs::write(&path, whole.replace(boot, "another")).expect("another boot");
        assert!(one.result(Duration::ZERO).is_none());
        std::fs::write(&path, &whole).expect("the same");
        assert!(one.result(Duration::ZERO).is_some());
        one.store(now() + Duration::from_secs(9), &output("row\n"));
        assert!(one.result(Duration::ZERO).is_none(), "from the future");
    }
}
