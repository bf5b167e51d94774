//! Whose a file is, and who may write it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Of the directory that holds a trusted file or directory: nunbird-auth takes nothing from where everybody can make files,
/// sticky or not.
pub(crate) fn shared(meta: &Metadata, find: &mut impl FnMut(&str, &str)) {
    if meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 != 0 {
        let what = format!("others can make files in it (mode {:04o})", meta.mode() & 0o7777);
        find(&what, "move what lies in it to a directory in which only root can make files");
    }
}

pub(crate) fn owner_and_mode(meta: &Metadata, owners: &[u32], find: &mut impl FnMut(&str, &str)) {
    if !owners.contains(&meta.uid()) {
        find(&format!("owned by uid {}", meta.uid()), "chown root");
    }
    // A sticky directory such as /tmp lets others add, not replace.
    if meta.mode() & 0o022 != 0 && !(meta.is_dir() && meta.mode() & 0o1000 != 0) {
        find(&format!("writable by others (mode {:04o})", meta.mode() & 0o7777), "chmod go-w");
    }
}
