//! The files of one submitted stage: `<directory of the job's batch files>/<stage>/`, mode 0700.
//!
//! | file | written by | what |
//! |---|---|---|
//! | `intent` | launcher, before the submission | tag and nonce, by which a later launcher finds the job |
//! | `job` | launcher, after it | the scheduler's id |
//! | `script` | launcher | mode 0600, removed when it has run: it holds the job's secrets |
//! | `agent` | launcher | what the scheduler runs |
//! | `out`, `err` | the job | its output |
//! | `log` | the scheduler, the agent | their own messages |
//! | `started/`, `began`, `record`, `refused` | agent | see `record.rs` |
//! | `passed` | launcher | how many bytes of `out` and `err` were passed on |
//! | `ending` | launcher, last | what was reported to the runner |
//!
//! Files are written under another name, synced and renamed, so that they are complete or absent.

use super::outcome::Ending;
use nix::fcntl::{Flock, FlockArg};
use nunbird_handover::{Batch, Handover};
use nunbird_stage::StageError;
use nunbird_stage::directory::Directory;
pub(super) use nunbird_stage::small_files::{NEITHER_LINK_NOR_PIPE, directory, open_file};
use nunbird_stage::small_files::{beginning, options, write};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Bound on a record of the agent, which takes a few hundred bytes.
const LONGEST_RECORD: u64 = 64 * 1024;

/// What is about to be submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intent {
    /// The job's name in the scheduler; unique.
    pub(crate) tag: String,
    /// 32 hexadecimal digits that the agent's records must end with.
    pub(crate) nonce: String,
    /// Seconds since the epoch.
    pub(crate) time: u64,
}

/// The stage's directory.
#[derive(Debug)]
pub(crate) struct Stage {
    path: PathBuf,
    _directory: Directory,
}

impl Stage {
    /// Opens the directory of this file name; creates it if `make` is set, else returns `None` if
    /// it is missing.
    pub(crate) fn open(
        handover: &Handover,
        batch: &Batch,
        name: &str,
        make: bool,
    ) -> Result<Option<Stage>, StageError> {
        let path = batch.directory.join(name);
        let directory = directory(handover, &path, make)?;
        Ok(directory.map(|directory| Stage { path, _directory: directory }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock, so that one launcher follows a stage; `None` if another launcher holds it. A
    /// file system without locks counts as locked.
    pub(crate) fn lock(&self) -> Result<Option<Option<Flock<File>>>, StageError> {
        let path = self.path.join("lock");
        let options = options().create(true).truncate(false).clone();
        let file = options.open(&path).map_err(|e| failed("cannot open", &path, &e))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Some(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err(_) => Ok(Some(None)),
        }
    }

    pub(crate) fn intent(&self) -> Result<Option<Intent>, StageError> {
        self.json("intent")
    }

    pub(crate) fn ending(&self) -> Result<Option<Ending>, StageError> {
        self.json("ending")
    }

    pub(crate) fn job(&self) -> Result<Option<String>, StageError> {
        self.json("job")
    }

    /// Writes one of our values so that it is complete or absent, even after a crash of the host.
    pub(crate) fn store(&self, name: &str, value: &impl Serialize) -> Result<(), StageError> {
        let path = self.path.join(name);
        let bytes = serde_json::to_vec(value).map_err(|e| failed("cannot write", &path, &e.into()))?;
        self.write(name, &[&bytes])
    }

    /// The same for bytes.
    pub(crate) fn write(&self, name: &str, parts: &[&[u8]]) -> Result<(), StageError> {
        let path = self.path.join(name);
        write(&path, parts).map_err(|e| failed("cannot write", &path, &e))
    }

    /// Creates an empty file that does not exist yet; the agent and the scheduler append to it.
    pub(crate) fn touch(&self, name: &str) -> Result<(), StageError> {
        let path = self.path.join(name);
        options().create(true).append(true).open(&path).map_err(|e| failed("cannot make", &path, &e))?;
        Ok(())
    }

    /// A file of the agent's, as text; `None` while it is missing. A file that cannot be read now
    /// may be readable later.
    pub(crate) fn read_text(&self, name: &str) -> Option<String> {
        String::from_utf8(beginning(&self.path.join(name), LONGEST_RECORD).ok()?).ok()
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), StageError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("cannot remove", &path, &e)),
            _ => Ok(()),
        }
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StageError> {
        let path = self.path.join(name);
        match beginning(&path, LONGEST_RECORD) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|e| failed("cannot read", &path, &e.into()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("cannot read", &path, &e)),
        }
    }
}

/// The runner's name of the stage as a file name; names of steps come from the CI user.
pub(crate) fn file_name(stage: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' };
    let mut name: String = stage.chars().map(plain).take(64).collect();
    if name != stage {
        // Two names must not map to the same file name.
        let sum = stage
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        name.push_str(&format!("-{sum:016x}"));
    }
    name
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StageError {
    let help = "make sure that its file system has space and quota left, and run the job again";
    StageError::at(what, path, error, help)
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn every_stage_has_a_file_name_of_its_own() {
        assert_eq!(file_name("step_script"), "step_script");
        let names = ["a/b", "a.b", "..", "a b", &"x".repeat(70), &"x".repeat(71)].map(file_name);
        for (n, name) in names.iter().enumerate() {
            assert!(!name.contains(['/', '.', ' ']) && name.len() < 90, "{name}");
            assert!(!names[..n].contains(name), "{name}");
        }
    }
}
