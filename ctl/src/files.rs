//! Reads configurations as `nunbird-auth` does, except for the check of ownership, which `check`
//! makes.

use crate::output::{CtlError, Format};
use nix::fcntl::OFlag;
use nunbird_policy::{CONFIGURATIONS, DEFAULT_CONFIGURATION, Policy, Reading, SourceFile, conf_d, listed};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Reads a configuration with its `conf.d`.
pub(crate) fn read(file: &Path, format: Format) -> Result<Reading, CtlError> {
    let sources = sources(file)?;
    Policy::read(&sources).map_err(|findings| CtlError::Invalid(findings, format))
}

/// The texts of a configuration: the named file, the list that may name its server, and those of its `conf.d`.
pub(crate) fn sources(file: &Path) -> Result<Vec<SourceFile>, CtlError> {
    let mut sources = vec![source(file)?];
    let list = Path::new(CONFIGURATIONS);
    let exists = || list.try_exists().map_err(|e| CtlError::new(format!("{CONFIGURATIONS}: {e}")));
    if file != Path::new(DEFAULT_CONFIGURATION) && exists()? {
        sources.push(source(list)?);
    }
    for path in more(file)? {
        sources.push(source(&path)?);
    }
    Ok(sources)
}

/// The files of `conf.d`, in the order of their names.
pub(crate) fn more(file: &Path) -> Result<Vec<PathBuf>, CtlError> {
    let Some(directory) = conf_d(file) else { return Ok(Vec::new()) };
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(CtlError::new(format!("{}: {e}", directory.display()))),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| CtlError::new(format!("{}: {e}", directory.display())))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.ends_with(".toml") && !name.starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn source(path: &Path) -> Result<SourceFile, CtlError> {
    Ok(SourceFile { path: named(path).to_path_buf(), text: text(path)? })
}

/// The configuration, and those that root lists for other runners (`/etc/nunbird/configurations`).
///
/// # Errors
/// Where there is a list that cannot be read: what it names would seem to be no configuration.
pub(crate) fn configurations(first: &Path) -> Result<Vec<PathBuf>, CtlError> {
    let path = Path::new(CONFIGURATIONS);
    let list = match regular(path).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other)) {
        Ok(list) => list,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(CtlError::new(format!("{CONFIGURATIONS}: {e}"))),
    };
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut all = vec![first.to_path_buf()];
    for line in lines {
        let (file, _) = listed(line);
        if !all.iter().any(|known| known == file) {
            all.push(file.to_path_buf());
        }
    }
    Ok(all)
}

/// As findings name a file.
pub(crate) fn named(path: &Path) -> &Path {
    if path == Path::new(DASH) { Path::new(STDIN) } else { path }
}

/// Whether a configuration came from standard input, and is no file on this host.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN)
}

/// The name of standard input on a command line, and in findings.
const DASH: &str = "-";
const STDIN: &str = "<stdin>";
/// The longest configuration that nunbird-auth reads, in bytes.
const MAX_TEXT: u64 = 4 << 20;
/// The longest file of another account's that is read, in bytes.
const MAX_OF_OTHERS: u64 = 1 << 20;

/// A whole file that others may have written: regular, and bounded, so that neither a pipe nor a device in its place holds up or fills
/// the process that reads it.
pub(crate) fn regular(path: &Path) -> std::io::Result<Vec<u8>> {
    at_most(path, MAX_TEXT)
}

/// As [`regular`], of at most so many bytes.
pub(crate) fn at_most(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(nix::errno::Errno::EISDIR.into());
    }
    if !meta.is_file() {
        return Err(std::io::Error::other("not a regular file; `-` reads standard input"));
    }
    bounded(file, most)
}

/// A whole file in a directory of an account that has less rights than root: what it puts there is no reason to follow a link, to wait for the
/// writer of a pipe, or to take more than such a file has.
pub(crate) fn of_others(path: &Path) -> std::io::Result<Vec<u8>> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = std::fs::File::options().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    bounded(file, MAX_OF_OTHERS)
}

fn bounded(source: impl Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(most + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
        return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

/// The text of a file, or of standard input for `-`; the error names the line that is not UTF-8.
pub(crate) fn text(path: &Path) -> Result<String, CtlError> {
    let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", named(path).display()));
    let bytes = if path == Path::new(DASH) { bounded(std::io::stdin(), MAX_TEXT) } else { regular(path) }
        .map_err(failed)?;
    let path = named(path);
    String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = e.as_bytes().iter().take(valid).filter(|b| **b == b'\n').count() + 1;
        CtlError::new(format!("{}:{line}: not UTF-8; save the file as UTF-8", path.display()))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_of_another_accounts_is_no_link_no_pipe_and_not_of_any_size() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("plain"), "x").expect("a file");
        assert_eq!(super::of_others(&at("plain")).expect("read"), b"x");
        std::os::unix::fs::symlink("/dev/zero", at("zero")).expect("a link");
        std::os::unix::fs::symlink(at("plain"), at("link")).expect("a link");
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::fs::File::create(at("long")).and_then(|file| file.set_len((1 << 20) + 1)).expect("a file");
        std::fs::create_dir(at("directory")).expect("a directory");
        for name in ["zero", "link", "pipe", "long", "directory", "none"] {
            assert!(super::of_others(&at(name)).is_err(), "{name}");
        }
    }
}
