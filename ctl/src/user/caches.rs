//! The caches of the person's jobs, kept below a quota: the files that were not used for the longest time go first.
//!
//! Names come from jobs, so directories are entered without following links, and what is no regular file stays.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that was touched so recently may be of a job that runs.
const FRESH: Duration = Duration::from_secs(3600);
/// The deepest that caches lie: project, key, archive, and some more.
const DEPTH: usize = 32;

struct Cached {
    used: SystemTime,
    /// What it takes on the disk.
    size: u64,
    path: PathBuf,
}

/// What was removed, or would be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pruned {
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) removed: Vec<PathBuf>,
    pub(super) failed: Vec<String>,
}

pub(super) fn prune(directory: &Path, quota: u64, now: SystemTime, dry_run: bool) -> Pruned {
    let mut found = Vec::new();
    collect(directory, DEPTH, &mut found);
    found.sort_by(|one, other| (one.used, &one.path).cmp(&(other.used, &other.path)));
    let before = found.iter().fold(0_u64, |sum, one| sum.saturating_add(one.size));
    let mut pruned = Pruned { before, after: before, ..Pruned::default() };
    for one in found {
        let fresh = now.duration_since(one.used).map_or(true, |age| age < FRESH);
        if pruned.after <= quota || fresh {
            break;
        }
        match if dry_run { Ok(()) } else { fs::remove_file(&one.path) } {
            Ok(()) => {
                pruned.after -= one.size;
                if !dry_run {
                    empty_above(&one.path, directory);
                }
                pruned.removed.push(one.path);
            }
            Err(e) => pruned.failed.push(format!("{}: {e}", one.path.display())),
        }
    }
    pruned
}

fn collect(directory: &Path, depth: usize, found: &mut Vec<Cached>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        // Of the link, not of what it leads to.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth > 0 {
            collect(&entry.path(), depth - 1, found);
        } else if meta.is_file() {
            let times = [meta.modified(), meta.accessed()];
            let used = times.into_iter().flatten().max().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Cached { used, size: meta.blocks() * 512, path: entry.path() });
        }
    }
}

/// Removes directories that have become empty, up to the caches' own.
fn empty_above(path: &Path, top: &Path) {
    for above in path.ancestors().skip(1).take_while(|above| above.starts_with(top) && *above != top) {
        if fs::remove_dir(above).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::prune;
    use std::fs::{self, File, FileTimes};
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_least_recently_used_caches_go_and_links_and_fresh_ones_stay() {
        let place = tempfile::tempdir().expect("a directory");
        let (cache, outside) = (place.path().join("cache"), place.path().join("outside"));
        let now = SystemTime::now();
        let file = |path: &std::path::Path, hours: u64| {
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, vec![1; 1 << 20]).expect("a file");
            let time = now - Duration::from_secs(hours * 3600);
            let times = FileTimes::new().set_modified(time).set_accessed(time);
            File::options().write(true).open(path).expect("a file").set_times(times).expect("times");
        };
        file(&outside, 900);
        let at = |name: &str| cache.join(name);
        for (name, hours) in
            [("p/old/cache.zip", 50), ("p/older/cache.zip", 90), ("q/new/cache.zip", 2), ("r/x", 0)]
        {
            file(&at(name), hours);
        }
        symlink(&outside, at("link")).expect("a link");
        symlink(place.path(), at("linked")).expect("a link");
        let shown = prune(&cache, 3 << 20, now, true);
        assert_eq!(shown.removed, [at("p/older/cache.zip")]);
        assert!(at("p/older/cache.zip").exists(), "a dry run removes nothing");
        assert_eq!(prune(&cache, 3 << 20, now, false).removed, shown.removed);
        assert!(!at("p/older").exists() && at("p/old/cache.zip").exists());
        let all = prune(&cache, 0, now, false);
        assert_eq!(all.removed, [at("p/old/cache.zip"), at("q/new/cache.zip")]);
        assert!(at("r/x").exists() && at("link").is_symlink() && outside.exists(), "{all:?}");
        assert!(!at("p").exists() && cache.exists());
    }
}
