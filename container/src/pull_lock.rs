//! The lock of a pull, and the note in its file: when the last pull ended, and what it has brought.

use crate::call::wait;
use crate::pull::Puller;
use crate::trouble::Failure;
use nix::fcntl::{Flock, FlockArg};
use nunbird_stage::StageError;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of the file of a lock: the time of the last pull, and the id of what it has brought.
pub(crate) const LONGEST_NOTE: u64 = 256;
/// Between two attempts to get a lock that another job holds.
const RETRY: Duration = Duration::from_millis(200);

impl Puller<'_> {
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.place.join("locks").join(self.name.file_name(self.image.platform.as_deref()))
    }

    /// One pull at a time for an image, platform and account.
    pub(crate) fn lock(&self, deadline: Instant) -> Result<Lock, Failure> {
        let (path, directory) = (self.lock_file(), self.place.join("locks"));
        let failed = |e: &dyn std::fmt::Display| {
            StageError::at("cannot lock", &path, e, "make sure that its file system has space and quota left")
        };
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let open = || -> std::io::Result<File> {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            options.open(&path)
        };
        let mut file = open().map_err(|e| failed(&e))?;
        let mut reported = false;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Lock::Held(lock)),
                Err((file, nix::errno::Errno::EWOULDBLOCK)) => file,
                // A file system without locks: two pulls of an image cost time, and harm nothing.
                Err((_, _)) => return Ok(Lock::None),
            };
            if Instant::now() >= deadline {
                let text = format!(
                    "cannot pull the image {}: another job of this account has been pulling it for {} s; run the job again later",
                    self.name.full(),
                    self.container.pull_timeout
                );
                return Err(Failure::System(StageError::sentence(&text)));
            }
            if !reported {
                (self.say)(&format!(
                    "another job of this account is pulling the image {}; waiting for it …",
                    self.name.full()
                ));
                reported = true;
            }
            wait(Some(self.signals), RETRY).map_err(|e| failed(&e))?;
            if self.signals.request().map_err(|e| failed(&e))?.is_some() {
                return Err(Failure::Cancelled);
            }
        }
    }
}

/// The right to pull an image.
pub(crate) enum Lock {
    Held(Flock<File>),
    /// Locks do not work there.
    None,
}

impl Lock {
    /// Milliseconds since the epoch at the end of the last pull.
    pub(crate) fn pulled_at(&mut self) -> Option<u64> {
        let Lock::Held(file) = self else { return None };
        let mut text = String::new();
        file.rewind().ok()?;
        Read::by_ref(&mut **file).take(LONGEST_NOTE).read_to_string(&mut text).ok()?;
        text.split_whitespace().next()?.parse().ok()
    }

    /// Without the time, the next job pulls once more. `id` is what an engine's store knows the image by.
    pub(crate) fn set_pulled(&mut self, id: Option<&str>) {
        if let Lock::Held(file) = self {
            let write = |file: &mut Flock<File>| -> std::io::Result<()> {
                file.rewind()?;
                file.set_len(0)?;
                file.write_all(format!("{} {}\n", now(), id.unwrap_or_default()).as_bytes())
            };
            drop(write(file));
        }
    }
}

/// Milliseconds since the epoch: what is pushed in the second of a pull is another job's affair.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}
