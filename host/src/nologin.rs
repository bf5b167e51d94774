//! The files of nologin(5): one that exists keeps out everybody but root. What is in it the judgement reads, as it reads other files of root's.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where it can be: `/run` since systemd.
const FILES: [&str; 2] = ["/etc/nologin", "/run/nologin"];

/// Which of them exists.
///
/// # Errors
/// In words, where that cannot be found out.
pub(crate) fn look() -> Result<Option<PathBuf>, String> {
    for file in FILES.map(Path::new) {
        match file.symlink_metadata() {
            // An error other than ENOENT does not mean that the file is missing.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(format!("{}: {e}", file.display())),
            Ok(_) => return Ok(Some(file.to_path_buf())),
        }
    }
    Ok(None)
}
