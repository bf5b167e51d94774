//! What `adopt` has changed, kept so that `adopt --undo` takes it back: one directory for each time, with the files as
//! they were and a list of them.

use super::place::Place;
use crate::output::CtlError;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The name of the list.
const LIST: &str = "files.json";

/// A file that changes.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) file: PathBuf,
    /// None where there was no such file.
    pub(super) before: Option<Vec<u8>>,
    pub(super) after: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    file: PathBuf,
    /// Whether the file was there: then its bytes are in the file named after the entry's index.
    existed: bool,
    /// SHA-256 of what `adopt` has written, in hexadecimal.
    written: String,
}

/// Keeps the files as they are, then changes them in their order.
///
/// # Errors
/// If anything cannot be written, or a file has changed since it was read: those that were changed are then as before.
pub(super) fn change(directory: &Path, files: &[Changed]) -> Result<PathBuf, CtlError> {
    let mut places = Vec::new();
    for one in files {
        let place = Place::open(&one.file)?;
        if place.read()? != one.before {
            return Err(CtlError::new(format!(
                "{}: another program has changed it just now; nothing was changed here, run this again",
                one.file.display()
            )));
        }
        places.push(place);
    }
    let kept = keep(directory, files)
        .map_err(|e| CtlError::new(format!("{}: {e}; nothing was changed", directory.display())))?;
    for (index, (one, place)) in files.iter().zip(&places).enumerate() {
        if let Err(e) = place.replace(&one.after) {
            let mut why = format!("{}: {e}", one.file.display());
            let mut restored = true;
            for (earlier, place) in files.iter().zip(&places).take(index).rev() {
                if let Err(e) = restore(place, earlier.before.as_deref()) {
                    why = format!("{why}\n{}: not restored: {e}", earlier.file.display());
                    restored = false;
                }
            }
            if restored {
                let _may_be_undone = std::fs::remove_dir_all(&kept);
            }
            return Err(CtlError::new(why));
        }
    }
    Ok(kept)
}

fn keep(directory: &Path, files: &[Changed]) -> io::Result<PathBuf> {
    // gitlab-runner's file has the runners' tokens.
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let number = numbers(directory)?.last().map_or(1, |last| last + 1);
    let place = directory.join(number.to_string());
    let unfinished = directory.join(format!(".{number}"));
    match std::fs::remove_dir_all(&unfinished) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&unfinished)?;
    let mut entries = Vec::new();
    for (index, one) in files.iter().enumerate() {
        if let Some(bytes) = &one.before {
            write(&unfinished.join(index.to_string()), bytes)?;
        }
        let (existed, written) = (one.before.is_some(), hash(&one.after));
        entries.push(Entry { file: one.file.clone(), existed, written });
    }
    write(&unfinished.join(LIST), &serde_json::to_vec_pretty(&entries)?)?;
    File::open(&unfinished)?.sync_all()?;
    std::fs::rename(&unfinished, &place)?;
    File::open(directory)?.sync_all()?;
    Ok(place)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The last change that is kept: its place, and the files as they were before it.
///
/// # Errors
/// If it cannot be read, if there is none, or if a file is no longer as `adopt` has written it.
pub(super) fn last(directory: &Path) -> Result<(PathBuf, Vec<Changed>), CtlError> {
    let wrong = |what: &Path, e: &dyn std::fmt::Display| CtlError::new(format!("{}: {e}", what.display()));
    let numbers = match numbers(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(|e| wrong(directory, &e))?,
    };
    let Some(number) = numbers.last() else {
        return Err(CtlError::new(format!("{}: nothing to undo", directory.display())));
    };
    let place = directory.join(number.to_string());
    let list = place.join(LIST);
    let bytes = std::fs::read(&list).map_err(|e| wrong(&list, &e))?;
    let entries: Vec<Entry> = serde_json::from_slice(&bytes).map_err(|e| wrong(&list, &e))?;
    let mut files = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let now = Place::open(&entry.file)?.read()?;
        let copy = place.join(index.to_string());
        let after = match entry.existed {
            true => std::fs::read(&copy).map_err(|e| wrong(&copy, &e))?,
            false => Vec::new(),
        };
        // An undo that was interrupted has some of the files as they were.
        let restored = if entry.existed { now.as_deref() == Some(after.as_slice()) } else { now.is_none() };
        if !restored && now.as_ref().is_none_or(|bytes| hash(bytes) != entry.written) {
            let what = if entry.existed {
                format!("{} has it as it was", copy.display())
            } else {
                "it was not there before".to_owned()
            };
            return Err(CtlError::new(format!(
                "{}: changed since `adopt` has written it; nothing was changed: {what}, restore by hand what you need",
                entry.file.display()
            )));
        }
        let before = entry.existed.then_some(after);
        files.push(Changed { file: entry.file, before, after: now.unwrap_or_default() });
    }
    Ok((place, files))
}

/// Puts the files back in the opposite order, and forgets the change.
pub(super) fn undo(place: &Path, files: &[Changed]) -> Result<(), CtlError> {
    for one in files.iter().rev() {
        let failed = |e: io::Error| CtlError::new(format!("{}: {e}", one.file.display()));
        restore(&Place::open(&one.file)?, one.before.as_deref()).map_err(failed)?;
    }
    std::fs::remove_dir_all(place).map_err(|e| CtlError::new(format!("{}: {e}", place.display())))
}

fn restore(place: &Place, before: Option<&[u8]>) -> io::Result<()> {
    match before {
        Some(bytes) => place.replace(bytes),
        None => place.remove(),
    }
}

/// The changes that are kept, in their order.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Changed, change, last, undo};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn changed(file: &Path, before: Option<&str>, after: &str) -> Changed {
        let before = before.map(|text| text.as_bytes().to_vec());
        Changed { file: file.to_path_buf(), before, after: after.as_bytes().to_vec() }
    }

    #[test]
    fn what_was_changed_is_taken_back_with_its_mode_and_what_was_new_is_gone() {
        let scratch = tempfile::tempdir().unwrap();
        let (kept, old, new) =
            (scratch.path().join("kept"), scratch.path().join("old"), scratch.path().join("new"));
        fs::write(&old, "one").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
        change(&kept, &[changed(&new, None, "list"), changed(&old, Some("one"), "two")]).unwrap();
        assert_eq!(
            (fs::read_to_string(&old).unwrap(), fs::read_to_string(&new).unwrap()),
            ("two".into(), "list".into())
        );
        change(&kept, &[changed(&old, Some("two"), "three")]).unwrap();
        assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for expected in ["two", "one"] {
            let (place, files) = last(&kept).unwrap();
            undo(&place, &files).unwrap();
            assert_eq!(fs::read_to_string(&old).unwrap(), expected);
        }
        assert!(!new.exists());
        assert_eq!(old.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(last(&kept).is_err());
    }

    #[test]
    fn a_file_that_somebody_has_edited_since_is_never_overwritten() {
        let scratch = tempfile::tempdir().unwrap();
        let (kept, file) = (scratch.path().join("kept"), scratch.path().join("file"));
        fs::write(&file, "edited").unwrap();
        let error = format!("{:?}", change(&kept, &[changed(&file, Some("one"), "two")]).unwrap_err());
        assert!(error.contains("another program has changed it"), "{error}");
        change(&kept, &[changed(&file, Some("edited"), "two")]).unwrap();
        fs::write(&file, "two, and a comment").unwrap();
        let error = format!("{:?}", last(&kept).unwrap_err());
        assert!(error.contains("changed since") && error.contains("kept/1/0"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "two, and a comment");
    }

    #[test]
    fn a_change_that_fails_half_way_leaves_every_file_as_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let (kept, first) = (scratch.path().join("kept"), scratch.path().join("first"));
        fs::write(&first, "one").unwrap();
        let nowhere = scratch.path().join("x".repeat(300));
        change(&kept, &[changed(&first, Some("one"), "two"), changed(&nowhere, None, "x")]).unwrap_err();
        assert_eq!(fs::read_to_string(&first).unwrap(), "one");
        assert!(last(&kept).is_err(), "nothing to undo");
    }

    #[test]
    fn an_undo_that_was_interrupted_goes_on() {
        let scratch = tempfile::tempdir().unwrap();
        let (kept, first) = (scratch.path().join("kept"), scratch.path().join("first"));
        let (second, new) = (scratch.path().join("second"), scratch.path().join("new"));
        for file in [&first, &second] {
            fs::write(file, "one").unwrap();
        }
        let files = [
            changed(&new, None, "x"),
            changed(&first, Some("one"), "two"),
            changed(&second, Some("one"), "two"),
        ];
        change(&kept, &files).unwrap();
        fs::write(&second, "one").unwrap();
        fs::remove_file(&new).unwrap();
        let (place, files) = last(&kept).unwrap();
        undo(&place, &files).unwrap();
        assert_eq!((fs::read_to_string(&first).unwrap(), new.exists()), ("one".into(), false));
    }
}
