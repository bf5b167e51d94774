//! Files read whole, up to a size that their kind never reaches.

use crate::trouble::Trouble;
use nunbird_policy::Policy;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The largest configuration, key set or keys file, in bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// Reads a file of at most `limit` bytes. A longer one is refused, not cut: half a configuration may well parse.
///
/// # Errors
/// Those of opening and reading, and [`io::ErrorKind::FileTooLarge`].
pub(crate) fn read(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        return Ok(bytes);
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")))
}

/// The site's configuration.
///
/// # Errors
/// When it cannot be read, and every finding in it.
pub(crate) fn policy(file: &Path) -> Result<Policy, Trouble> {
    let failed = |e: &dyn std::fmt::Display| Trouble::new(format!("{}: {e}", file.display()));
    let bytes = read(file, MAX_FILE).map_err(|e| failed(&e))?;
    let text = String::from_utf8(bytes).map_err(|e| failed(&e))?;
    Policy::parse(file, &text).map_err(|findings| {
        Trouble::new(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::read;
    use std::io::ErrorKind;

    #[test]
    fn a_file_over_the_limit_is_refused_and_not_cut() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        std::fs::write(&path, [b'x'; 11]).unwrap();
        assert_eq!(read(&path, 11).unwrap().len(), 11);
        assert_eq!(read(&path, 10).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}
