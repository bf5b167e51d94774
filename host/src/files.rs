//! Small files of the site's: configurations and maps.

use crate::rights::Rights;
use nunbird_files::identity::acting_as;
use nunbird_files::trusted::{Distrust, open_trusted};
use nunbird_sys::exec;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest one, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Opens a file that only a trusted owner can have written.
///
/// # Errors
/// As [`Distrust`] has them.
pub fn open(path: &Path, rights: Rights) -> Result<File, Distrust> {
    acting_as(rights.keeper, || open_trusted(path, &rights.trusted_owners()))
        .map_err(|e| Distrust::Open(path.into(), e))?
}

/// Opens a program of Nunbird's that lies beside the one that this process runs.
///
/// # Errors
/// As [`open`], and where this process's own program has no path.
pub fn beside(name: &str, rights: Rights) -> Result<File, String> {
    let path = std::env::current_exe().map_err(|e| e.to_string())?.with_file_name(name);
    let opened = open(&path, rights).map_err(|e| e.to_string())?;
    exec::out_of_the_way(&opened).map_err(|e| e.to_string())
}

/// The bytes of such a file.
///
/// # Errors
/// As read(2); [`Distrust::Size`] for more than 4 MiB.
pub fn content(path: &Path, file: File) -> Result<Vec<u8>, Distrust> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| Distrust::Open(path.into(), e))?;
    let too_long = u64::try_from(bytes.len()).is_ok_and(|n| n > MAX_FILE);
    if too_long { Err(Distrust::Size(path.into(), MAX_FILE)) } else { Ok(bytes) }
}

/// Opens and reads such a file.
///
/// # Errors
/// As [`open`] and [`content`].
pub fn read_bytes(path: &Path, rights: Rights) -> Result<Vec<u8>, Distrust> {
    content(path, open(path, rights)?)
}
