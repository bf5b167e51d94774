//! The audit file and its rotated files by logrotate(8): `audit.jsonl.1`, `audit.jsonl-20261128`,
//! each perhaps compressed with gzip(1).

use crate::output::CtlError;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The first bytes of a gzip file (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Extensions of compressed files that cannot be read here.
const UNREAD: [&str; 4] = [".bz2", ".xz", ".zst", ".lz4"];

/// The audit file with its rotated files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AuditFiles {
    /// Oldest first, the audit file itself last.
    pub(crate) files: Vec<PathBuf>,
    /// Rotated files with a compression that cannot be read here.
    pub(crate) unread: Vec<PathBuf>,
}

/// Finds the rotated files beside the audit file. The audit file itself is in the list even if it
/// does not exist: opening it reports why.
///
/// # Errors
/// If the directory cannot be listed.
pub(crate) fn find(file: &Path) -> Result<AuditFiles, CtlError> {
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", directory.display()));
    let (mut rotated, mut unread) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(rest) = entry.file_name().to_str().and_then(|all| all.strip_prefix(name)).map(str::to_owned)
        else {
            continue;
        };
        if let Some(rest) = UNREAD.iter().find_map(|ending| rest.strip_suffix(ending)) {
            if is_rotation(rest) {
                unread.push(entry.path());
            }
        } else if is_rotation(rest.strip_suffix(".gz").unwrap_or(&rest)) {
            // A file that is removed meanwhile has no time, and opening it reports that.
            let changed = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            rotated.push((changed, entry.path()));
        }
    }
    rotated.sort();
    unread.sort();
    let mut files: Vec<PathBuf> = rotated.into_iter().map(|(_, path)| path).collect();
    files.push(file.to_path_buf());
    Ok(AuditFiles { files, unread })
}

/// Whether this is a suffix that logrotate(8) appends: `.N`, or with `dateext` a date after a
/// hyphen or a dot.
fn is_rotation(rest: &str) -> bool {
    let numbers = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    rest.strip_prefix(['.', '-'])
        .is_some_and(|rest| rest.bytes().next().is_some_and(|first| first.is_ascii_digit()) && numbers(rest))
}

/// Opens one of the files for reading its lines. It is compressed if its first bytes or its name
/// indicate it: a file `.gz` that is not a gzip file is damaged, and reading it fails.
///
/// # Errors
/// If it cannot be opened or read; the name is in the message.
pub(crate) fn open(file: &Path) -> Result<Box<dyn BufRead>, CtlError> {
    let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", file.display()));
    let mut opened = File::open(file).map_err(failed)?;
    let mut first = Vec::with_capacity(GZIP.len());
    opened.by_ref().take(2).read_to_end(&mut first).map_err(failed)?;
    opened.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(match first == GZIP || file.extension().is_some_and(|ending| ending == "gz") {
        true => Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(opened)))),
        false => Box::new(BufReader::new(opened)),
    })
}

#[cfg(test)]
mod tests {
    use super::{AuditFiles, find, is_rotation, open};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::{BufRead, Write};

    fn lines(path: &std::path::Path) -> Vec<String> {
        open(path).unwrap().lines().map(Result::unwrap).collect()
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn rotated_files_are_found_oldest_first_and_compressed_ones_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let made = [
            ("audit.jsonl.2.gz", gzip("a\nb\n")),
            ("audit.jsonl.1", b"c\n".to_vec()),
            ("audit.jsonl", b"d\n".to_vec()),
            ("audit.jsonl.3.xz", b"x".to_vec()),
            ("audit.jsonl.old", b"x".to_vec()),
            ("other.jsonl.1", b"x".to_vec()),
        ];
        let mut time = std::time::SystemTime::UNIX_EPOCH;
        for (name, content) in made {
            time += std::time::Duration::from_secs(60);
            std::fs::write(at(name), content).unwrap();
            std::fs::File::options().write(true).open(at(name)).unwrap().set_modified(time).unwrap();
        }
        let found = find(&at("audit.jsonl")).unwrap();
        let files = ["audit.jsonl.2.gz", "audit.jsonl.1", "audit.jsonl"].map(at).to_vec();
        assert_eq!(found, AuditFiles { files, unread: vec![at("audit.jsonl.3.xz")] });
        let all: Vec<String> = found.files.iter().flat_map(|file| lines(file)).collect();
        assert_eq!(all, ["a", "b", "c", "d"]);
        // Two concatenated gzip files are one (gzip(1)), and the file's name need not show that it
        // is compressed.
        let joined = [gzip("e\n"), gzip("f\n")].concat();
        std::fs::write(at("audit.jsonl.1"), joined).unwrap();
        assert_eq!(lines(&at("audit.jsonl.1")), ["e", "f"]);
        for damaged in [b"c\n".to_vec(), Vec::new(), gzip("c\n")[..8].to_vec()] {
            std::fs::write(at("audit.jsonl.2.gz"), damaged).unwrap();
            assert!(open(&at("audit.jsonl.2.gz")).unwrap().lines().next().unwrap().is_err());
        }
    }

    #[test]
    fn a_rotation_has_a_number_or_a_date_behind_its_name() {
        for rest in [".1", ".12", "-20261128", "-20261128-1764374400", ".20261128"] {
            assert!(is_rotation(rest), "{rest}");
        }
        for rest in ["", ".", "-", ".old", ".1.bak", "1", ".-1", ".new"] {
            assert!(!is_rotation(rest), "{rest}");
        }
    }
}
