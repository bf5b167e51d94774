//! Where everything is. No path here comes from an order.

use crate::Trouble;
use nunbird_files::directory::Directory;
use nunbird_files::trusted::open_trusted_directory;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Trees: `NAME/VERSION/tree`.
pub(crate) const TREES: &str = "/var/lib/nunbird/machines";
/// The notes of machines that run.
pub(crate) const STATE: &str = "/run/nunbird/machines";
/// Where a machine's file systems are, in a mount namespace of its own.
pub(crate) const MOUNTS: &str = "/run/nunbird/mounts";
/// The ids of machines: root's word.
pub(crate) const IDS: &str = "/etc/nunbird/machine-ids";
/// The program that boots them.
pub(crate) const NSPAWN: &str = "/usr/bin/systemd-nspawn";
/// Root alone.
pub(crate) const OWNERS: [u32; 1] = [0];

/// Opens the directory of notes, which is made where it is missing.
pub(crate) fn state() -> Result<Directory, Trouble> {
    for (path, mode) in [("/run/nunbird", 0o755), (STATE, 0o700), (MOUNTS, 0o700)] {
        match DirBuilder::new().mode(mode).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Trouble::of(path)(e)),
            _ => {}
        }
    }
    opened(Path::new(STATE)).map(Directory::new)
}

/// A directory in which root alone can make files, and so on the way to it.
pub(crate) fn opened(path: &Path) -> Result<OwnedFd, Trouble> {
    open_trusted_directory(path, &OWNERS).map_err(|e| Trouble::new(e.to_string()))
}

/// Whether a name is one component that hides nothing: it comes from an order.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(plain)
}
