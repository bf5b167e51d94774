//! What `setup` has made, so that `remove` takes away all of it and nothing else.
//!
//! A file is known by the SHA-256 of the text that was written last. One that has another text has been changed by its owner: it is
//! neither written again nor removed.

use super::person::Person;
use crate::output::CtlError;
use crate::{files, replace};
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    version: u32,
    /// Files with their checksums.
    pub(super) files: BTreeMap<PathBuf, String>,
    /// Directories, the deepest last.
    pub(super) directories: Vec<PathBuf>,
}

/// What has become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    Absent,
    /// As `setup` wrote it.
    Ours,
    /// Written by `setup`, and changed since.
    Changed,
    /// Never written by `setup`.
    Foreign,
}

impl Kept {
    pub(super) fn read(person: &Person) -> Result<Kept, CtlError> {
        let path = person.manifest();
        let bytes = match files::regular(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Ok(Kept { version: VERSION, ..Kept::default() });
            }
            Err(e) => return Err(CtlError::new(format!("{}: {e}", path.display()))),
        };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|e| {
            CtlError::new(format!("{}: {e}; it lists what `user setup` has made", path.display()))
        })?;
        match kept.version {
            VERSION => Ok(kept),
            other => Err(CtlError::new(format!("{}: version {other} is of another Nunbird", path.display()))),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn save(&self, person: &Person) -> Result<(), CtlError> {
        let text = serde_json::to_vec_pretty(self).map_err(CtlError::new)?;
        let path = person.manifest();
        replace::put(&path, &text, 0o600).map_err(|e| CtlError::new(format!("{}: {e}", path.display())))
    }

    pub(super) fn state(&self, path: &Path) -> Result<Now, CtlError> {
        let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", path.display()));
        match path.symlink_metadata() {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Now::Absent),
            Err(e) => return Err(failed(e)),
            Ok(_) => {}
        }
        let Some(sum) = self.files.get(path) else { return Ok(Now::Foreign) };
        let text = files::regular(path).map_err(failed)?;
        Ok(if checksum(&text) == *sum { Now::Ours } else { Now::Changed })
    }

    /// Makes the directory and those above it that are missing, mode 0700.
    pub(super) fn make_directory(&mut self, path: &Path) -> Result<(), CtlError> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            self.make_directory(above)?;
        }
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .map_err(|e| CtlError::new(format!("{}: {e}", path.display())))?;
        self.directories.push(path.to_path_buf());
        Ok(())
    }

    /// Writes a file as a whole, mode 0600 for what has tokens.
    pub(super) fn write(&mut self, path: &Path, text: &str, mode: u32) -> Result<(), CtlError> {
        if let Some(above) = path.parent() {
            self.make_directory(above)?;
        }
        replace::put(path, text.as_bytes(), mode)
            .map_err(|e| CtlError::new(format!("{}: {e}", path.display())))?;
        self.files.insert(path.to_path_buf(), checksum(text.as_bytes()));
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest(&SHA256, bytes).as_ref() {
        let _to_memory = write!(text, "{byte:02x}");
    }
    text
}
