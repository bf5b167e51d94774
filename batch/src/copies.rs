//! Copies of a batch job's files for its user: `COPY_SCHEDULER_LOGS`, as Jacamar CI has it.
//!
//! Everything happens as the user, in a directory that the user names. A failure is reported and
//! does not fail the stage.

use super::stage::{Stage, open_file};
use nunbird_handover::{Account, Untrusted};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The stage's files with the output of the job and of the scheduler.
const FILES: [&str; 3] = ["out", "err", "log"];

/// Copies the stage's files to `<directory>/<tag>.<file>`. Returns the message for the user.
pub(super) fn copy(directory: &str, account: &Account, stage: &Stage, tag: &str) -> String {
    let shown = Untrusted(directory);
    match place(directory, account).and_then(|place| copy_to(&place, stage.path(), tag)) {
        Ok(()) => format!("the scheduler's files are in {shown}/{tag}.*"),
        Err(e) => format!("cannot copy the scheduler's files to {shown} (COPY_SCHEDULER_LOGS): {e}"),
    }
}

/// `$HOME` and `$USER` are not GitLab variables, but users write them from habit.
fn place(directory: &str, account: &Account) -> io::Result<PathBuf> {
    let home = account.home.to_string_lossy();
    let text = directory.replace("${HOME}", "$HOME").replace("${USER}", "$USER");
    let place = PathBuf::from(text.replace("$HOME", &home).replace("$USER", &account.name));
    if place.is_absolute() { Ok(place) } else { Err(io::Error::other("write an absolute path")) }
}

/// Does not follow a link that was put in the place of a copy.
fn copy_to(place: &Path, stage: &Path, tag: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    for name in FILES {
        let from = match open_file(&stage.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        // Up to its present length: a process that the job left behind may still write to it.
        let mut from = from.metadata().map(|now| from.take(now.len()))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        io::copy(&mut from, &mut options.open(place.join(format!("{tag}.{name}")))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{copy_to, place};
    use nunbird_handover::Account;
    use std::fs;
    use std::path::Path;

    #[test]
    fn the_files_that_there_are_arrive_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let (stage, to) = (directory.path().join("stage"), directory.path().join("a/b"));
        fs::create_dir(&stage).expect("a directory");
        fs::write(stage.join("out"), "said").expect("a file");
        copy_to(&to, &stage, "nb7-x").expect("copies");
        assert_eq!(fs::read_to_string(to.join("nb7-x.out")).expect("a copy"), "said");
        assert!(!to.join("nb7-x.err").exists());
        fs::remove_file(to.join("nb7-x.out")).expect("removed");
        std::os::unix::fs::symlink("/etc/passwd", to.join("nb7-x.out")).expect("a link");
        assert!(copy_to(&to, &stage, "nb7-x").is_err());
    }

    #[test]
    fn a_link_or_a_pipe_in_the_place_of_a_file_is_not_copied() {
        let directory = tempfile::tempdir().expect("a directory");
        let (stage, to) = (directory.path().join("stage"), directory.path().join("to"));
        fs::create_dir(&stage).expect("a directory");
        std::os::unix::fs::symlink("/dev/zero", stage.join("out")).expect("a link");
        assert!(copy_to(&to, &stage, "nb7-x").is_err());
        fs::remove_file(stage.join("out")).expect("removed");
        nix::unistd::mkfifo(&stage.join("out"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        assert!(copy_to(&to, &stage, "nb7-x").is_err());
        assert_eq!(fs::read_dir(&to).expect("a directory").count(), 0);
    }

    #[test]
    fn a_directory_is_absolute_once_home_and_user_are_known() {
        let account = Account {
            name: "ann".to_owned(),
            uid: 1,
            gid: 1,
            home: "/home/ann".into(),
            shell: "/bin/sh".into(),
        };
        assert_eq!(place("${HOME}/logs", &account).expect("a path"), Path::new("/home/ann/logs"));
        assert_eq!(place("/scratch/$USER", &account).expect("a path"), Path::new("/scratch/ann"));
        assert!(place("logs", &account).is_err() && place("", &account).is_err());
    }
}
