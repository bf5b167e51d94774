//! The disk that a path leads to.
//!
//! Limits of I/O are for whole disks: the kernel refuses partitions (`blkg_conf_prep`, block/blk-cgroup.c).

use super::Trouble;
use nix::sys::stat::{SFlag, major, minor, stat};
use std::path::{Path, PathBuf};

/// Major and minor number of the disk: of the block device at this path or, for any other file, of the one that its file
/// system lies on. Of a partition it is the disk that it is a part of; of a volume of the device mapper it is the volume.
///
/// # Errors
/// [`Trouble::NoDisk`] for a path that is not there, and for file systems on no block device: NFS, tmpfs, overlays, btrfs.
pub fn disk_of(path: &Path) -> Result<(u32, u32), Trouble> {
    let no_disk = |why: String| Trouble::NoDisk(path.to_path_buf(), why);
    let found = stat(path).map_err(|e| no_disk(format!("there is no such device here: {e}")))?;
    let is_block = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFBLK;
    let device = if is_block { found.st_rdev } else { found.st_dev };
    let (whole, part) = (major(device), minor(device));
    let known = PathBuf::from(format!("/sys/dev/block/{whole}:{part}"));
    if !known.exists() {
        let help = "name the disk itself, if there is one (of btrfs: one of its disks)";
        return Err(no_disk(format!("it lies on no block device ({whole}:{part}); {help}")));
    }
    let number = if known.join("partition").exists() { known.join("../dev") } else { known.join("dev") };
    let text = std::fs::read_to_string(&number);
    let text = text.map_err(|e| no_disk(format!("its disk is not known: {}: {e}", number.display())))?;
    of_text(text.trim())
        .ok_or_else(|| no_disk(format!("its disk is not known: {} is no number", text.trim())))
}

/// The disk of each path, as [`disk_of`], none of them twice: of two limits for one disk the kernel keeps the later.
///
/// # Errors
/// [`Trouble::NoDisk`], and [`Trouble::SameDisk`] for two paths that lead to one.
pub fn disks_of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Result<Vec<(u32, u32)>, Trouble> {
    let mut found: Vec<(&Path, (u32, u32))> = Vec::new();
    for path in paths {
        let number = disk_of(path)?;
        if let Some((other, _)) = found.iter().find(|(_, known)| *known == number) {
            return Err(Trouble::SameDisk(other.to_path_buf(), path.to_path_buf(), number));
        }
        found.push((path, number));
    }
    Ok(found.into_iter().map(|(_, number)| number).collect())
}

fn of_text(text: &str) -> Option<(u32, u32)> {
    let (whole, part) = text.split_once(':')?;
    Some((whole.parse().ok()?, part.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{disk_of, disks_of, of_text};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    #[test]
    fn a_path_leads_to_the_disk_below_its_file_system_or_to_nothing() {
        for nowhere in ["/nbt_not_there", "/proc", "/dev/null"] {
            let trouble = disk_of(Path::new(nowhere)).map_err(|e| e.to_string());
            assert!(
                trouble.as_ref().is_err_and(|e| e.starts_with(&format!("io_max: {nowhere}: "))),
                "{trouble:?}"
            );
        }
        let root = std::fs::metadata("/").expect("a root").dev();
        let (whole, part) = (nix::sys::stat::major(root), nix::sys::stat::minor(root));
        let known = Path::new("/sys/dev/block").join(format!("{whole}:{part}"));
        if known.exists() && !known.join("partition").exists() {
            let disk = of_text(&format!("{whole}:{part}"));
            assert_eq!((disk_of(Path::new("/")).ok(), disk_of(Path::new("/etc/passwd")).ok()), (disk, disk));
        }
        assert_eq!(
            (of_text("259:12"), of_text("259"), of_text(":"), of_text("a:1")),
            (Some((259, 12)), None, None, None)
        );
    }

    #[test]
    fn two_paths_on_one_disk_are_both_named() {
        let Ok((major, minor)) = disk_of(Path::new("/")) else {
            nunbird_skip::skip!("the root file system is on no disk");
        };
        let paths = |paths: [&'static str; 2]| disks_of(paths.map(Path::new)).map_err(|e| e.to_string());
        let words = format!("io_max: / and /. are on the same disk, {major}:{minor}: join the two limits");
        assert_eq!(paths(["/", "/."]), Err(words));
        assert!(paths(["/", "/proc"]).is_err_and(|e| e.starts_with("io_max: /proc: ")));
        assert_eq!(disks_of([Path::new("/")]).ok(), Some(vec![(major, minor)]));
    }

    #[test]
    fn every_partition_of_this_host_leads_to_its_disk() {
        for entry in std::fs::read_dir("/sys/class/block").into_iter().flatten().flatten() {
            let device = Path::new("/dev").join(entry.file_name());
            if entry.path().join("partition").exists() && device.exists() {
                let disk = std::fs::canonicalize(entry.path()).expect("sysfs");
                let disk =
                    std::fs::read_to_string(disk.parent().expect("a disk").join("dev")).expect("a number");
                assert_eq!(disk_of(&device).ok(), of_text(disk.trim()), "{}", device.display());
            }
        }
    }
}
