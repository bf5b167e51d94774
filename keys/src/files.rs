//! Reads whole files, up to a size that is never reached by files of their kind.

use crate::error::KeysError;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use nunbird_policy::{
    CONFIGURATIONS, DEFAULT_CONFIGURATION, Policy, RuleOutcome, SourceFile, conf_d, listed,
};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The largest configuration, in bytes: nunbird-auth does not accept a longer one.
const MAX_CONFIGURATION: u64 = 4 << 20;
/// The largest file with a password, in bytes.
const MAX_SECRET: u64 = 4096;
/// The largest key set or keys file, in bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// Reads a file of at most `limit` bytes. A longer one is refused, not truncated: half a
/// configuration may well parse.
///
/// # Errors
/// Those of opening and reading, and [`io::ErrorKind::FileTooLarge`].
pub(crate) fn read(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_opened(File::open(file)?, limit)
}

fn read_opened(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        return Ok(bytes);
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")))
}

/// Reads a file that decides which servers are trusted: a regular one of root's or of this account's, in a directory of
/// theirs where only they can create files. A symbolic link is followed: distributions have bundles of certificate
/// authorities behind some. Returns the mode as well.
///
/// Owner, kind and mode are those of the opened file, so that another one in its place afterwards is not read.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn read_trusted(file: &Path, limit: u64) -> Result<(Vec<u8>, u32), KeysError> {
    let failed = |path: &Path, e: &dyn std::fmt::Display| KeysError::new(format!("{}: {e}", path.display()));
    let whole = file.canonicalize().map_err(|e| failed(file, &e))?;
    let owners = [0, geteuid().as_raw()];
    for directory in [file, &whole].into_iter().filter_map(Path::parent) {
        let meta = directory.metadata().map_err(|e| failed(directory, &e))?;
        if !owners.contains(&meta.uid()) {
            let (uid, shown) = (meta.uid(), file.display());
            let what = format!(
                "the directory belongs to uid {uid}, who can replace {shown}; move the file to a directory of root's"
            );
            return Err(failed(directory, &what));
        }
        if meta.mode() & 0o022 != 0 {
            return Err(KeysError::new(format!(
                "{}: others can make files in it (mode {:04o}), so {} may have been written by \
                 anybody; move it to a directory in which only root can create files (mode 0755)",
                directory.display(),
                meta.mode() & 0o7777,
                file.display()
            )));
        }
    }
    // Without waiting for a writer, should it be a pipe.
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&whole);
    let opened = opened.map_err(|e| failed(&whole, &e))?;
    let meta = opened.metadata().map_err(|e| failed(&whole, &e))?;
    if !meta.is_file() {
        return Err(failed(&whole, &"not a regular file"));
    }
    if !owners.contains(&meta.uid()) {
        let uid = meta.uid();
        return Err(failed(&whole, &format!("owned by uid {uid}; make root the owner (chown root)")));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(failed(&whole, &"writable by others; remove that permission (chmod go-w)"));
    }
    let bytes = read_opened(opened, limit).map_err(|e| failed(&whole, &e))?;
    Ok((bytes, meta.mode()))
}

/// The text of a file with a password, which only root or this account can have written and others cannot read. Errors have no part of it.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn secret(file: &Path) -> Result<Zeroizing<String>, KeysError> {
    let shown = file.display();
    let failed = |e: &dyn std::fmt::Display| KeysError::new(format!("{shown}: {e}"));
    let (bytes, mode) = read_trusted(file, MAX_SECRET)?;
    let text = String::from_utf8(bytes).map(Zeroizing::new).map_err(|_| failed(&"not UTF-8"))?;
    if mode & 0o007 != 0 {
        let mode = mode & 0o7777;
        return Err(failed(&format!("others can read the password (mode {mode:04o}); chmod o-rwx")));
    }
    Ok(text)
}

/// The site's configuration with its `conf.d`, in either dialect, as nunbird-auth reads it.
///
/// # Errors
/// If it cannot be read, and every finding in it.
pub(crate) fn policy(file: &Path) -> Result<Policy, KeysError> {
    let mut sources = vec![source(file)?];
    let list = Path::new(CONFIGURATIONS);
    let exists = || list.try_exists().map_err(|e| KeysError::new(format!("{CONFIGURATIONS}: {e}")));
    if file != Path::new(DEFAULT_CONFIGURATION) && exists()? {
        sources.push(source(list)?);
    }
    for path in more(file)? {
        sources.push(source(&path)?);
    }
    Policy::of_files(&sources).map_err(|findings| {
        KeysError::new(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// All configurations of this host: the default one and those that are listed. What is wrong with one of them
/// is in the second list, and the others are read.
///
/// The packages' example denies every job, so its server is not asked where other configurations are in use.
///
/// # Errors
/// If there is none, or the list cannot be read.
pub(crate) fn policies() -> Result<(Vec<Policy>, Vec<String>), KeysError> {
    let (mut policies, mut troubles) = (Vec::new(), Vec::new());
    let listed = listed_files()?;
    for file in &listed {
        // As nunbird-auth, which takes a listed file only if it is root's.
        match trusted(file) {
            Ok(policy) => policies.push(policy),
            Err(trouble) => troubles.push(trouble.to_string()),
        }
    }
    let default = Path::new(DEFAULT_CONFIGURATION);
    let exists = default.try_exists().map_err(|e| KeysError::new(format!("{DEFAULT_CONFIGURATION}: {e}")))?;
    if listed.is_empty() || (exists && !listed.iter().any(|file| file == default)) {
        match policy(default) {
            Ok(policy) if listed.is_empty() || admits_jobs(&policy) => policies.push(policy),
            Ok(_) => {}
            Err(trouble) => troubles.push(trouble.to_string()),
        }
    }
    Ok((policies, troubles))
}

fn trusted(file: &Path) -> Result<Policy, KeysError> {
    read_trusted(file, MAX_CONFIGURATION)?;
    for path in more(file)? {
        read_trusted(&path, MAX_CONFIGURATION)?;
    }
    policy(file)
}

fn admits_jobs(policy: &Policy) -> bool {
    policy.rules.iter().any(|rule| matches!(rule.outcome, RuleOutcome::RunAs(_)))
}

fn listed_files() -> Result<Vec<PathBuf>, KeysError> {
    let list = Path::new(CONFIGURATIONS);
    if !list.try_exists().map_err(|e| KeysError::new(format!("{CONFIGURATIONS}: {e}")))? {
        return Ok(Vec::new());
    }
    let (bytes, _) = read_trusted(list, MAX_CONFIGURATION)?;
    let text = String::from_utf8(bytes).map_err(|e| KeysError::new(format!("{CONFIGURATIONS}: {e}")))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('/')) {
        let (file, _) = listed(line);
        if !files.iter().any(|one| one == file) {
            files.push(file.to_path_buf());
        }
    }
    Ok(files)
}

fn source(file: &Path) -> Result<SourceFile, KeysError> {
    let failed = |e: &dyn std::fmt::Display| KeysError::new(format!("{}: {e}", file.display()));
    let bytes = read(file, MAX_CONFIGURATION).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => {
            failed(&format!("{e}; the account that fetches keys must be able to read it, usually `nunbird`"))
        }
        _ => failed(&e),
    })?;
    let text = String::from_utf8(bytes).map_err(|e| failed(&e))?;
    Ok(SourceFile { path: file.to_path_buf(), text })
}

/// The files of `conf.d`, in the order of their names.
fn more(file: &Path) -> Result<Vec<PathBuf>, KeysError> {
    let Some(directory) = conf_d(file) else { return Ok(Vec::new()) };
    let failed = |e: io::Error| KeysError::new(format!("{}: {e}", directory.display()));
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.ends_with(".toml") && !name.starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::{read, read_trusted};
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_over_the_limit_is_refused_and_not_cut() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        std::fs::write(&path, [b'x'; 11]).unwrap();
        assert_eq!(read(&path, 11).unwrap().len(), 11);
        assert_eq!(read(&path, 10).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_counts_only_if_it_is_regular_and_nobody_else_can_write_or_replace_it() {
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = scratch.path().join("f");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let (bytes, mode) = read_trusted(&path, 10).unwrap();
        assert_eq!((bytes, mode & 0o7777), (b"x".to_vec(), 0o640));
        let refused = |words: &str| {
            let error = read_trusted(&path, 10).unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        refused("writable by others");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        refused("not a regular file");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "x").unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o775)).unwrap();
        refused("others can make files in it");
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
            refused("owned by uid 4242");
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
            std::os::unix::fs::chown(scratch.path(), Some(4242), None).unwrap();
            refused("the directory belongs to uid 4242");
        }
    }
}
