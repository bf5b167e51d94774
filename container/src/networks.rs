//! File systems of a network, by the numbers of statfs(2).
//!
//! Engines keep images as trees with owners, links and locks that these file systems do not have
//! for ids other than the account's.

use nix::sys::statfs::statfs;
use std::path::Path;

/// The number (linux/magic.h, or the file system's own source) and the name.
pub(crate) const NETWORKS: [(i64, &str); 12] = [
    (0x6969, "NFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x00c3_6400, "CephFS"),
    (0x1983_0326, "BeeGFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x0102_1997, "9P"),
    (0xaad7_aaea, "PanFS"),
];

/// The name of the network file system that a path is on; `None` on any other, and where the path
/// cannot be looked at.
pub fn network(path: &Path) -> Option<&'static str> {
    let number = statfs(path).ok()?.filesystem_type().0 & 0xffff_ffff;
    NETWORKS.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// The lines of a shell's `case` for them, by the number that stat(1) prints.
pub(crate) fn cases() -> String {
    let line = |(number, name): &(i64, &str)| format!("    {number:x}) echo '{name}' ;;");
    NETWORKS.iter().map(line).collect::<Vec<_>>().join("\n")
}
