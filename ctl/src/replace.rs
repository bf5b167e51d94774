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

/// Writes a file of this name and mode, whatever has the name: a link is replaced, not followed, and neither owner nor mode of what was there is
/// kept. For texts that this program alone makes.
///
/// # Errors
/// As open(2), write(2) and rename(2); what had the name is then as it was.
pub(crate) fn put(target: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = target.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text)?;
        file.set_permissions(PermissionsExt::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&beside, target)
    };
    let done = write();
    if done.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists) {
        let _may_be_gone = std::fs::remove_file(&beside);
    }
    done
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

#[cfg(test)]
mod tests {
    use super::put;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_text_takes_the_place_of_a_link_and_not_of_what_it_leads_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::write(at("other"), "kept").expect("a file");
        symlink(at("other"), at("report")).expect("a link");
        put(&at("report"), b"new", 0o600).expect("written");
        assert_eq!(fs::read_to_string(at("other")).expect("a file"), "kept");
        let meta = at("report").symlink_metadata().expect("a file");
        assert!(meta.is_file() && meta.permissions().mode() & 0o7777 == 0o600);
        fs::set_permissions(at("report"), PermissionsExt::from_mode(0o666)).expect("a mode");
        put(&at("report"), b"newer", 0o644).expect("written");
        assert_eq!(fs::metadata(at("report")).expect("a file").permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 2);
    }
}
