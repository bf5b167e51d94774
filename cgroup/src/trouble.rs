//! Why a group could not do what was asked, in words for the admin.

use crate::systemd;
use std::io;
use std::path::PathBuf;

/// Why a group could not do what was asked.
#[derive(Debug)]
pub enum Trouble {
    /// These controllers are not there, or not delegated to the runner's service.
    Missing(Vec<&'static str>),
    /// This group is root's, and systemd has not delegated it.
    NotDelegated(PathBuf),
    /// A file or directory of the group: which, and what was done with it.
    File(PathBuf, &'static str, io::Error),
    /// The kernel shows another value than was written: the file, what was wanted, what was read.
    NotInForce(PathBuf, String, String),
    /// So many processes were still in the group when time was up.
    StillAlive(PathBuf, usize),
    /// This path leads to no disk: why not.
    NoDisk(PathBuf, String),
    /// These two paths lead to one disk, of this major and minor number, and the kernel keeps one limit for each.
    SameDisk(PathBuf, PathBuf, (u32, u32)),
    /// Where this process lives cannot be made out.
    Unplaced(String),
    /// What was asked for is not to be had in this way: in words.
    Unfit(&'static str),
    /// systemd, which makes the group.
    Systemd(systemd::Trouble),
}

impl From<systemd::Trouble> for Trouble {
    fn from(trouble: systemd::Trouble) -> Self {
        Trouble::Systemd(trouble)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Missing(names) => {
                write!(f, "the cgroup controllers {} are not available here", names.join(", "))
            }
            Trouble::NotDelegated(path) => {
                let unit = path.file_name().unwrap_or(path.as_os_str()).display();
                write!(
                    f,
                    "{}: the group is root's and not delegated by systemd, so nothing is made below it: have the calls come \
                     from gitlab-runner's own service with Delegate=yes (the caller is in `{unit}`), or set way = \"scope\"",
                    path.display()
                )
            }
            Trouble::File(path, what, e) => write!(f, "{}: {what}: {e}", path.display()),
            Trouble::NotInForce(path, wanted, found) => {
                write!(f, "{}: {wanted} was written and {found} is in force", path.display())
            }
            Trouble::StillAlive(path, count) => {
                write!(f, "{}: {count} processes did not end in time", path.display())
            }
            Trouble::NoDisk(path, why) => write!(f, "io_max: {}: {why}", path.display()),
            Trouble::SameDisk(one, other, (major, minor)) => {
                let (one, other) = (one.display(), other.display());
                write!(
                    f,
                    "io_max: {one} and {other} are on the same disk, {major}:{minor}: join the two limits"
                )
            }
            Trouble::Unplaced(why) => write!(f, "the control group of this process: {why}"),
            Trouble::Unfit(why) => write!(f, "{why}"),
            Trouble::Systemd(trouble) => write!(f, "{trouble}"),
        }
    }
}

impl std::error::Error for Trouble {}
