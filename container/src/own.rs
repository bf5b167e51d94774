//! Whether directories of images are the account's own. They may lie where others can make names first (`/var/tmp`), and what is in
//! them is run, and removed by age: a directory of another account, or a link to one, would bring that account's images, or
//! have other files removed.

use nunbird_stage::StageError;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What lies in a directory of images.
const PARTS: [&str; 4] = ["copies", "jobs", "locks", "uses"];

/// Refuses a directory of images that is a link, another account's or writable by others, or has such a part.
///
/// # Errors
/// Which one, and what to do.
pub(crate) fn check(place: &Path) -> Result<(), StageError> {
    check_one(place)?;
    PARTS.iter().try_for_each(|part| check_one(&place.join(part)))
}

fn check_one(path: &Path) -> Result<(), StageError> {
    let refused = |why: &str| {
        let help = "remove it, or have the administrators name another `store` or `cache`";
        Err(StageError::at("will not use images in", path, why, help))
    };
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return refused(&e.to_string()),
    };
    let account = nix::unistd::geteuid().as_raw();
    if meta.is_symlink() {
        refused("it is a symbolic link")
    } else if !meta.is_dir() {
        refused("it is not a directory")
    } else if meta.uid() != account {
        refused(&format!("it belongs to uid {}, and this is uid {account}", meta.uid()))
    } else if meta.mode() & 0o022 != 0 {
        refused(&format!("others can write it (mode {:04o})", meta.mode() & 0o7777))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_files_and_what_others_can_write_are_refused_and_what_is_missing_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("place");
        check(&place).expect("not there yet");
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(place.join("copies")).unwrap();
        check(&place).expect("the account's own");
        let refused = |words: &str| {
            let error = check(&place).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        };
        symlink("/etc", place.join("jobs")).unwrap();
        refused("jobs");
        fs::remove_file(place.join("jobs")).unwrap();
        fs::write(place.join("uses"), "").unwrap();
        refused("not a directory");
        fs::remove_file(place.join("uses")).unwrap();
        fs::set_permissions(place.join("copies"), fs::Permissions::from_mode(0o777)).unwrap();
        refused("mode 0777");
        let link = scratch.path().join("link");
        symlink(&place, &link).unwrap();
        assert!(check(&link).unwrap_err().to_string().contains("symbolic link"));
    }

    #[test]
    fn a_directory_of_another_account_is_refused() {
        let error = match nix::unistd::geteuid().is_root() {
            true => {
                let scratch = tempfile::tempdir().unwrap();
                std::os::unix::fs::chown(scratch.path(), Some(65534), None).unwrap();
                check(scratch.path()).unwrap_err().to_string()
            }
            false => check(std::path::Path::new("/")).unwrap_err().to_string(),
        };
        assert!(error.contains("it belongs to uid"), "{error}");
    }
}
