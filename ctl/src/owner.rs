//! The owner of a file, and which accounts may write it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// About the parent of a trusted file or directory: nunbird-auth accepts nothing from a directory
/// in which everybody can create files, sticky or not.
pub(crate) fn shared(meta: &Metadata, find: &mut impl FnMut(&str, &str)) {
    if meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 != 0 {
        let what = format!("others can make files in it (mode {:04o})", meta.mode() & 0o7777);
        find(&what, "move its contents to a directory in which only root can create files");
    }
}

pub(crate) fn owner_and_mode(meta: &Metadata, owners: &[u32], find: &mut impl FnMut(&str, &str)) {
    if !owners.contains(&meta.uid()) {
        find(&format!("owned by uid {}", meta.uid()), "chown root");
    }
    // A sticky directory such as /tmp lets others add files, not replace them.
    if meta.mode() & 0o022 != 0 && !(meta.is_dir() && meta.mode() & 0o1000 != 0) {
        find(&format!("writable by others (mode {:04o})", meta.mode() & 0o7777), "chmod go-w");
    }
}
