//! What `nunbirdctl` and the launcher do with a directory held open: many files at once, and what others have left in it. It is a crate of
//! its own, so that `nunbird-auth` does not link it.

#![forbid(unsafe_code)]

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::syncfs;
use nunbird_files::directory::{Directory, component};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

/// More functions of a [`Directory`]; names passed to them must be one component.
pub trait Housekeeping {
    /// As [`Directory::draft`], but the disk need not have the file yet: see [`Housekeeping::sync_all`].
    ///
    /// # Errors
    /// As [`Directory::draft`].
    fn draft_for_later(&self, bytes: &[u8]) -> io::Result<String>;

    /// Gives a draft its name, in place of a file that has it.
    ///
    /// # Errors
    /// As rename(2); the draft goes then.
    fn publish_over(&self, draft: &str, name: &str) -> io::Result<()>;

    /// Waits until the disk has everything that was written in the directory's file system.
    ///
    /// # Errors
    /// As syncfs(2).
    fn sync_all(&self) -> io::Result<()>;

    /// Names of the files in it that begin with a dot, but `.` and `..`.
    ///
    /// # Errors
    /// As [`Directory::names`].
    fn hidden_names(&self) -> io::Result<Vec<String>>;

    /// When its entries were last changed, in seconds since the epoch; links are not followed.
    ///
    /// # Errors
    /// As readdir(3).
    fn times(&self) -> io::Result<Vec<i64>>;
}

impl Housekeeping for Directory {
    fn draft_for_later(&self, bytes: &[u8]) -> io::Result<String> {
        let mut random = [0; 16];
        nunbird_sys::random::fill(&mut random)?;
        let name = format!(".{:032x}.draft", u128::from_ne_bytes(random));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(self, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let written = file.write_all(bytes);
        if written.is_err() {
            self.remove(&name)?;
        }
        written.map(|()| name)
    }

    fn publish_over(&self, draft: &str, name: &str) -> io::Result<()> {
        let renamed = component(name).and_then(|name| Ok(renameat(self, component(draft)?, self, name)?));
        if renamed.is_err() {
            self.remove(draft)?;
        }
        renamed
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(syncfs(self)?)
    }

    fn hidden_names(&self) -> io::Result<Vec<String>> {
        let names = entries(self)?.into_iter().filter(|name| name.starts_with(b"."));
        names.map(|name| String::from_utf8(name).map_err(io::Error::other)).collect()
    }

    fn times(&self) -> io::Result<Vec<i64>> {
        let stat = |name: Vec<u8>| fstatat(self, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW).ok();
        Ok(entries(self)?.into_iter().filter_map(stat).map(|stat| stat.st_mtime).collect())
    }
}

/// Names of everything in a directory, but `.` and `..`.
fn entries(directory: &Directory) -> io::Result<Vec<Vec<u8>>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(directory.as_fd(), ".", flags, Mode::empty())?.iter() {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::Housekeeping;
    use nunbird_files::directory::Directory;
    use std::fs::{self, File};

    #[test]
    fn a_draft_takes_the_place_of_a_file_and_only_hidden_names_are_listed_as_hidden() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = Directory::new(File::open(place.path()).expect("opened").into());
        fs::write(place.path().join("name"), "former").expect("a file");
        let draft = directory.draft_for_later(b"new").expect("a draft");
        assert_eq!(directory.hidden_names().expect("names"), std::slice::from_ref(&draft));
        assert_eq!(directory.times().expect("times").len(), 2);
        directory.sync_all().expect("synced");
        directory.publish_over(&draft, "name").expect("published");
        assert_eq!(fs::read_to_string(place.path().join("name")).expect("read"), "new");
        assert!(directory.hidden_names().expect("names").is_empty());
        let draft = directory.draft_for_later(b"new").expect("a draft");
        assert!(directory.publish_over(&draft, "../name").is_err());
        assert!(directory.hidden_names().expect("names").is_empty(), "the draft goes with what it was for");
    }
}
