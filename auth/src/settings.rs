//! Opening the configuration, as root or as the user itself: files that no other user can write. The decider parses them.

use crate::privilege::{Privilege, Source};
use crate::refusal::{Code, Refusal};
use nunbird_files::directory::Directory;
use nunbird_files::identity::acting_as;
use nunbird_files::trusted::{Distrust, open_trusted_directory};
use nunbird_host::files;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where a packaged installation has it.
const DEFAULT: &str = "/etc/nunbird/config.toml";
/// Configurations beside the default one that runners may name, and the servers of those that name none.
const ALLOWED: &str = "/etc/nunbird/configurations";
/// The configuration in whose directory further files are in `conf.d`.
const WITH_MORE: &str = "config.toml";
/// The most files of `conf.d`.
const MAX_FILES: usize = 100;

/// The files of a configuration, in their order.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) files: Vec<File>,
}

/// Opens the configuration that the caller names, or the default one.
///
/// # Errors
/// A system refusal for a file that is missing or not trusted.
pub(crate) fn open(named: Option<&Path>, privilege: Privilege) -> Result<Opened, Refusal> {
    let path = named.unwrap_or(Path::new(DEFAULT));
    let opened = check_allowed(path, privilege).and_then(|()| open_files(path, privilege));
    opened.map_err(|detail| {
        Refusal::system(
            Code::ConfigurationFile,
            "Nunbird's configuration on this host cannot be used",
            detail,
        )
    })
}

/// The file that is named and, beside `config.toml`, those of `conf.d` in the order of their names.
fn open_files(path: &Path, privilege: Privilege) -> Result<Opened, String> {
    let mut opened = Opened::default();
    let mut add = |path: PathBuf, needed: bool| {
        let file = match files::open(&path, privilege.rights()) {
            Err(Distrust::Open(_, e)) if !needed && e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| e.to_string())?,
        };
        opened.paths.push(path);
        opened.files.push(file);
        Ok::<_, String>(())
    };
    add(path.to_path_buf(), true)?;
    // The decider takes from it the server of a file of Jacamar CI's.
    if path != Path::new(DEFAULT) {
        add(PathBuf::from(ALLOWED), false)?;
    }
    if path.file_name().is_some_and(|name| name == WITH_MORE) {
        let directory = path.with_file_name("conf.d");
        for name in names_in(&directory, privilege)? {
            add(directory.join(name), true)?;
        }
    }
    Ok(opened)
}

/// The names of the `.toml` files of a directory that only root can have filled; none where it does not exist.
fn names_in(directory: &Path, privilege: Privilege) -> Result<Vec<String>, String> {
    let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", directory.display());
    let read = || match open_trusted_directory(directory, &privilege.trusted_owners()) {
        Ok(fd) => Directory::new(fd).names().map_err(|e| explain(&e)),
        Err(Distrust::Open(_, e)) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e.to_string()),
    };
    let mut names = acting_as(privilege.keeper(), read).map_err(|e| explain(&e))??;
    names.retain(|name| name.ends_with(".toml") && !name.starts_with('.'));
    names.sort();
    if names.len() > MAX_FILES {
        return Err(explain(&format!("more than {MAX_FILES} files")));
    }
    Ok(names)
}

/// A runner that is not root names the default configuration, or one that root has listed, and no other file of root's:
/// a taken-over runner would look for a backup with an older policy, or have `/etc/shadow` quoted in a finding.
fn check_allowed(path: &Path, privilege: Privilege) -> Result<(), String> {
    let free = matches!(privilege.source, Source::Root | Source::None);
    if free || path == Path::new(DEFAULT) {
        return Ok(());
    }
    let refused = |why: &dyn std::fmt::Display| {
        format!("{} is not listed in {ALLOWED}, one path a line: {why}", path.display())
    };
    let list = files::read_bytes(Path::new(ALLOWED), privilege.rights()).map_err(|e| refused(&e))?;
    let list = String::from_utf8(list).map_err(|e| refused(&e))?;
    // A URL may follow the path: policy/src/config/listed.rs reads it.
    let file = |line: &str| line.split(" http").next().map(str::trim).map(PathBuf::from);
    if list.lines().any(|line| file(line).is_some_and(|file| file == path)) {
        Ok(())
    } else {
        Err(refused(&"it is not in there"))
    }
}
