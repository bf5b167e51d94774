//! `/etc/nologin`: while it exists, a site that sets `nologin` admits no job, as pam_nologin(8) admits no login.

use crate::files;
use crate::rights::Rights;
use nunbird_files::trusted::Distrust;
use nunbird_wire::layout;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// pam_nologin(8) looks at the first two; systemd-user-sessions(8) writes the second while the host boots or goes down.
const FILES: [&str; 2] = ["/etc/nologin", "/run/nologin"];
/// The most of its text that is read, in bytes.
const MAX_TEXT: u64 = 2048;

/// A file that keeps jobs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nologin {
    /// Where it is.
    pub file: PathBuf,
    /// Its beginning, where the file is root's own; empty otherwise.
    pub text: String,
}

layout!(Nologin { file, text });

pub(crate) fn look(rights: Rights) -> Result<Option<Nologin>, String> {
    for file in FILES.map(Path::new) {
        // An error other than ENOENT does not mean that the file is missing.
        match file.symlink_metadata() {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(format!("{}: {e}", file.display())),
            Ok(_) => {
                let text = read(file, rights).unwrap_or_default();
                return Ok(Some(Nologin { file: file.to_path_buf(), text }));
            }
        }
    }
    Ok(None)
}

fn read(file: &Path, rights: Rights) -> Result<String, Distrust> {
    let mut bytes = Vec::new();
    let opened = files::open(file, rights)?;
    opened.take(MAX_TEXT).read_to_end(&mut bytes).map_err(|e| Distrust::Open(file.into(), e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
