//! Reads configurations as `nunbird-auth` does, except for the check of ownership, which `check`
//! makes.

use crate::output::{CtlError, Format};
use nix::fcntl::OFlag;
use nunbird_policy::{CONFIGURATIONS, DEFAULT_CONFIGURATION, Policy, Reading, SourceFile, conf_d};
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

/// A whole file that others may have written: regular, and bounded, so that neither a pipe nor a device in its place holds up or fills
/// the process that reads it.
pub(crate) fn regular(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(nix::errno::Errno::EISDIR.into());
    }
    if !meta.is_file() {
        return Err(std::io::Error::other("not a regular file; `-` reads standard input"));
    }
    bounded(file)
}

fn bounded(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_TEXT) {
        return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

/// The text of a file, or of standard input for `-`; the error names the line that is not UTF-8.
pub(crate) fn text(path: &Path) -> Result<String, CtlError> {
    let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", named(path).display()));
    let bytes =
        if path == Path::new(DASH) { bounded(std::io::stdin()) } else { regular(path) }.map_err(failed)?;
    let path = named(path);
    String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = e.as_bytes().iter().take(valid).filter(|b| **b == b'\n').count() + 1;
        CtlError::new(format!("{}:{line}: not UTF-8; save the file as UTF-8", path.display()))
    })
}
