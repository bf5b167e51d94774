//! Whether the way to a directory is the account's own: who may change a directory on it may put another one in the place of what is below.

use crate::error::StageError;
use nix::sys::stat::{Mode, SFlag, lstat};
use std::path::{Path, PathBuf};

/// Looks at each directory and link on the way, as far as it exists: all belong to root or `uid`, and nobody else may change them but
/// in a sticky directory, whose entries only their owners can replace.
///
/// # Errors
/// Names the directory and who may change it; also where one cannot be looked at.
pub fn judge(path: &Path, uid: u32) -> Result<(), StageError> {
    let mut walked = PathBuf::new();
    for part in path.components() {
        walked.push(part);
        let help = "name a directory of your own, or report it to the administrators";
        let stat = match lstat(&walked) {
            Ok(stat) => stat,
            Err(nix::errno::Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(StageError::at("cannot look at", &walked, e, help)),
        };
        let refused = |why: String| StageError::at("refusing to use what is below", &walked, why, help);
        if stat.st_uid != 0 && stat.st_uid != uid {
            return Err(refused(format!("it belongs to uid {}", stat.st_uid)));
        }
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK {
            let target =
                walked.canonicalize().map_err(|e| StageError::at("cannot look at", &walked, e, help))?;
            judge(&target, uid)?;
            continue;
        }
        let mode = Mode::from_bits_truncate(stat.st_mode);
        if mode.intersects(Mode::S_IWGRP | Mode::S_IWOTH) && !mode.contains(Mode::S_ISVTX) {
            let why = format!("it has mode {:04o}, so others may replace what is in it", mode.bits());
            return Err(refused(why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::judge;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_way_on_which_others_may_change_a_directory_is_refused_also_behind_a_link() {
        let scratch = tempfile::tempdir().expect("a directory");
        let uid = nix::unistd::getuid().as_raw();
        let shared = scratch.path().join("group");
        fs::create_dir_all(shared.join("own")).expect("directories");
        symlink(&shared, scratch.path().join("link")).expect("a link");
        let ways = [shared.join("own"), scratch.path().join("link/own"), shared.join("own/not/yet")];
        let modes = |mode| fs::set_permissions(&shared, Permissions::from_mode(mode)).expect("a mode");
        for (mode, sound) in [(0o755, true), (0o775, false), (0o2770, false), (0o757, false), (0o1777, true)]
        {
            modes(mode);
            for way in &ways {
                assert_eq!(judge(way, uid).is_ok(), sound, "{mode:o} {way:?}");
            }
        }
        modes(0o755);
        if uid == 0 {
            std::os::unix::fs::lchown(scratch.path().join("link"), Some(4242), None).expect("an owner");
            assert!(judge(&ways[1], uid).is_err(), "another account's link");
            assert!(judge(&ways[0], uid).is_ok());
        }
    }
}
