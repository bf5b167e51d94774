//! Files that are replaced as a whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Writes the whole file under another name and renames it: a reader sees the old text or the new one. An existing file
/// keeps its mode and its owner; a new one has mode 0644. A symbolic link is kept, and the file that it leads to replaced.
///
/// # Errors
/// As open(2), write(2), fchown(2) and rename(2); the file is then as it was.
pub(crate) fn replace(target: &Path, text: &[u8]) -> io::Result<()> {
    let target = target.canonicalize().unwrap_or_else(|_| target.to_path_buf());
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = match target.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let beside: PathBuf = directory.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let done = fill(&beside, text, &target).and_then(|()| std::fs::rename(&beside, &target));
    if done.is_err() {
        let _may_be_gone = std::fs::remove_file(&beside);
    }
    done?;
    File::open(directory)?.sync_all()
}

fn fill(path: &Path, text: &[u8], target: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    match target.metadata() {
        Ok(meta) => {
            let made = file.metadata()?;
            if (meta.uid(), meta.gid()) != (made.uid(), made.gid()) {
                fchown(&file, Some(meta.uid()), Some(meta.gid()))?;
            }
            file.set_permissions(PermissionsExt::from_mode(meta.mode() & 0o777))?;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            file.set_permissions(PermissionsExt::from_mode(0o644))?;
        }
        Err(e) => return Err(e),
    }
    file.sync_all()
}
