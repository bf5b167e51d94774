//! What of the host's files is in the container: the job's own directories, and what the policy
//! names.

use nunbird_handover::{Bind, Container, Handover};
use nunbird_stage::small_files;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// All binds.
pub fn all(handover: &Handover, container: &Container) -> Vec<Bind> {
    container.all_binds(&handover.workspace, &handover.account.home)
}

/// Makes the places for binds inside other binds, as the account: an engine would make them as
/// the user that it runs as.
///
/// # Errors
/// As mkdir(2) and open(2), with the path.
pub(crate) fn make_places(binds: &[Bind]) -> Result<(), (PathBuf, io::Error)> {
    for inner in binds {
        let around = |outer: &&Bind| inner.target != outer.target && inner.target.starts_with(&outer.target);
        let outer = binds.iter().filter(around).max_by_key(|outer| outer.target.components().count());
        let Some(outer) = outer.filter(|outer| outer.writable) else { continue };
        let Ok(rest) = inner.target.strip_prefix(&outer.target) else { continue };
        let place = outer.source.join(rest);
        make_place(&place, inner.source.is_dir()).map_err(|e| (place, e))?;
    }
    Ok(())
}

fn make_place(place: &Path, is_directory: bool) -> io::Result<()> {
    if place.symlink_metadata().is_ok() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    if is_directory {
        return builder.create(place);
    }
    if let Some(parent) = place.parent() {
        builder.create(parent)?;
    }
    small_files::options().create_new(true).open(place).map(drop)
}

/// The part of the job's control directory that its container has: what is beside it runs outside.
pub fn inside(container: &Container) -> PathBuf {
    container.inside()
}

/// The home directory of a job that has not the account's.
pub(crate) fn empty_home(container: &Container) -> PathBuf {
    container.empty_home()
}

#[cfg(test)]
mod tests {
    use super::{all, make_places};
    use crate::testing::{bind, container, handover};

    #[test]
    fn outer_directories_come_first_and_the_jobs_own_win() {
        let mut container = container();
        container.binds = vec![
            bind("/scratch", "/d/b/p/deep", true),
            bind("/etc/x", "/d/b", false),
            bind("/", "/host", false),
        ];
        let binds = all(&handover(), &container);
        let shown: Vec<String> = binds
            .iter()
            .map(|b| format!("{} {} {}", b.source.display(), b.target.display(), b.writable))
            .collect();
        assert_eq!(
            shown,
            [
                "/ /host false",
                "/d/b /d/b true",
                "/d/c /d/c true",
                "/d/containers/1/inside/home /home/a true",
                "/scratch /d/b/p/deep true",
                "/d/containers/1/inside /d/containers/1/inside true",
            ]
        );
        container.home = true;
        assert!(all(&handover(), &container).contains(&bind("/home/a", "/home/a", true)));
    }

    #[test]
    fn places_for_binds_inside_others_are_made_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name).display().to_string();
        for name in ["home", "deep", "read"] {
            std::fs::create_dir(at(name)).expect("a directory");
        }
        std::fs::write(at("file"), "x").expect("a file");
        let binds = [
            bind(&at("home"), "/home/a", true),
            bind(&at("read"), "/r", false),
            bind(&at("deep"), "/home/a/b/c", true),
            bind(&at("file"), "/home/a/b/c/d/f", false),
            bind(&at("deep"), "/r/x", true),
            bind(&at("deep"), "/home/ab", true),
        ];
        make_places(&binds).expect("made");
        make_places(&binds).expect("made already");
        assert!(root.path().join("home/b/c").is_dir() && root.path().join("deep/d/f").is_file());
        assert!(!root.path().join("read/x").exists() && !root.path().join("home/ab").exists());
    }
}
