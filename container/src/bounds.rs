//! The bounds on an account's images: those that no job has used for long go, and the least recently
//! used ones where there are too many.
//!
//! In an engine's store each image has a note beside the images, whose time of change is that of its
//! last use; images of jobs that have not been cleaned up stay, whatever their age. Files and
//! directories in the cache are copies ([`crate::copies`]), which say both themselves: all of them
//! count, also those that are no name's current one any more.

use crate::call::Called;
use crate::copies::{Cache, Copy, size, touch};
use crate::partial::{remove_leftovers, remove_whole, unique};
use crate::pull::{Puller, said};
use crate::resolved::Resolved;
use crate::save::{self, SavedImage};
use nunbird_handover::CacheBounds;
use nunbird_stage::small_files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The longest note, in bytes.
const LONGEST: u64 = 16 << 10;
/// Time for the command that removes one image.
const REMOVE: Duration = Duration::from_secs(120);

/// What is noted of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// Its name in full, as in [`Resolved::name`].
    name: String,
    /// What the engine's `remove` gets.
    what: String,
    /// Its copy for compute nodes.
    saved: Option<PathBuf>,
}

/// An image that may go.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    used: SystemTime,
    size: u64,
    /// Its name in full.
    name: String,
    is_in_use: bool,
    what: What,
}

/// What is removed.
#[derive(Debug, PartialEq, Eq)]
enum What {
    /// An image of the engine's store, and its note.
    Stored(Note, PathBuf),
    /// A copy in the cache.
    Copy(Copy),
}

/// Notes that the job uses this image, and applies the bounds. A job does not fail for what cannot
/// be removed: `say` gets a line.
pub(crate) fn apply(puller: &Puller<'_>, image: &Resolved, saved: Option<&SavedImage>) {
    let bounds = &puller.container.cache_bounds;
    let known = if puller.description.has_store() {
        remove_leftovers(&save::directory(puller.container));
        remove_leftovers(puller.place);
        stored(puller, image, saved)
    } else {
        let cache = Cache(puller.place);
        cache.collect();
        if *bounds == CacheBounds::default() {
            return;
        }
        copies(cache).ok_or_else(|| UNKNOWN.to_owned())
    };
    let known = match known {
        Ok(known) => known,
        Err(warning) => {
            (puller.say)(&format!("warning: {warning}"));
            return;
        }
    };
    for known in too_much(known, bounds, SystemTime::now()) {
        match remove(puller, &known.what) {
            Ok(()) => (puller.say)(&format!("removed the image {}, by the site's bounds", known.name)),
            Err(e) => (puller.say)(&format!("warning: cannot remove the image {}: {e}", known.name)),
        }
    }
}

const UNKNOWN: &str =
    "it is not known which images other jobs use; the site's bounds on images are not applied";

/// All copies; `None` where it is not known which of them are in use.
fn copies(cache: Cache<'_>) -> Option<Vec<Known>> {
    let users = cache.users()?;
    let known = |copy: Copy| {
        Some(Known {
            used: cache.used(&copy.id)?,
            size: cache.size(&copy.id),
            name: copy.about.name.clone(),
            is_in_use: users.contains_key(&copy.id),
            what: What::Copy(copy),
        })
    };
    Some(cache.copies().into_iter().filter_map(known).collect())
}

/// Notes the use of an image of the store. All images that are noted, unless there are no bounds.
fn stored(puller: &Puller<'_>, image: &Resolved, saved: Option<&SavedImage>) -> Result<Vec<Known>, String> {
    let directory = puller.place.join("uses");
    let note = Note {
        name: image.name.clone(),
        what: puller.name.for_engine(&puller.description.images),
        saved: saved.map(|saved| saved.file.clone()),
    };
    write(&directory, &puller.file_name(), &note)
        .map_err(|e| format!("cannot note the use of the image in {}: {e}", directory.display()))?;
    if puller.container.cache_bounds == CacheBounds::default() {
        return Ok(Vec::new());
    }
    let containers = puller.container.directory.ancestors().find(|path| path.ends_with("containers"));
    let mut in_use = containers.and_then(names_in_use).ok_or_else(|| UNKNOWN.to_owned())?;
    in_use.insert(image.name.clone());
    Ok(noted(&directory, &in_use))
}

fn write(directory: &Path, name: &str, note: &Note) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join(name);
    small_files::write(&path, &[serde_json::json!(note).to_string().as_bytes()])?;
    touch(&path)
}

fn noted(directory: &Path, in_use: &BTreeSet<String>) -> Vec<Known> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let read = |path: PathBuf| {
        let note: Note = serde_json::from_slice(&small_files::beginning(&path, LONGEST).ok()?).ok()?;
        Some(Known {
            used: path.metadata().ok()?.modified().ok()?,
            // The engine alone knows that of the image itself.
            size: note.saved.as_deref().map_or(0, size),
            name: note.name.clone(),
            is_in_use: in_use.contains(&note.name),
            what: What::Stored(note, path),
        })
    };
    entries.filter_map(|entry| read(entry.path())).collect()
}

/// The images of all jobs that have a control directory; services have theirs inside it. `None` if
/// one of them cannot be read.
fn names_in_use(containers: &Path) -> Option<BTreeSet<String>> {
    let children = |path: &Path| -> Option<Vec<PathBuf>> {
        let entries = fs::read_dir(path).ok()?;
        let entries: Option<Vec<_>> = entries.map(Result::ok).collect();
        Some(entries?.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
    };
    let mut directories = children(containers)?;
    for job in directories.clone() {
        directories.extend(children(&job)?);
    }
    let mut names = BTreeSet::new();
    for directory in directories {
        // Without the file the job has no image yet.
        if directory.join("image").symlink_metadata().is_ok() {
            names.insert(crate::pull::kept(&directory)?.name);
        }
    }
    Some(names)
}

/// Those that go, the least recently used first.
fn too_much(mut known: Vec<Known>, bounds: &CacheBounds, now: SystemTime) -> Vec<Known> {
    known.sort_by_key(|known| known.used);
    let mut count = u64::try_from(known.len()).unwrap_or(u64::MAX);
    let mut bytes = known.iter().fold(0_u64, |sum, known| sum.saturating_add(known.size));
    let mut gone = Vec::new();
    for known in known {
        let age = now.duration_since(known.used).unwrap_or_default().as_secs();
        let is_too_much = bounds.max_age.is_some_and(|most| age > most)
            || bounds.max_count.is_some_and(|most| count > most)
            || bounds.max_size.is_some_and(|most| bytes > most);
        if is_too_much && !known.is_in_use {
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(known.size);
            gone.push(known);
        }
    }
    gone
}

fn remove(puller: &Puller<'_>, what: &What) -> Result<(), String> {
    let words = |e: std::io::Error| e.to_string();
    let (note, path) = match what {
        What::Copy(copy) => return Cache(puller.place).remove(copy).map_err(words),
        What::Stored(note, path) => (note, path),
    };
    let Some(remove) = &puller.description.remove else {
        return Err("the engine's description has no [remove]".to_owned());
    };
    let mut values = puller.values.clone();
    values.insert("reference", note.what.clone());
    match puller.engine(&remove.command, &values, &[], REMOVE) {
        Ok(Called::Ended(output)) if output.status.is_some_and(|status| status.success()) => {}
        Ok(Called::Ended(output)) => return Err(said(&output)),
        Ok(_) => return Err("it took too long".to_owned()),
        Err(_) => return Err("the engine cannot be started".to_owned()),
    }
    if let Some(saved) = &note.saved {
        take_away(&save::directory(puller.container), saved).map_err(words)?;
    }
    fs::remove_file(path).map_err(words)
}

/// Only what lies in this directory: a note names no file of the account's elsewhere.
fn take_away(directory: &Path, path: &Path) -> std::io::Result<()> {
    if path.parent() != Some(directory) || !path.exists() {
        return Ok(());
    }
    // Under another name first: a job that begins meanwhile finds it whole or not at all.
    let hidden = directory.join(format!(".old-{}", unique()?));
    fs::rename(path, &hidden)?;
    remove_whole(&hidden)
}

#[cfg(test)]
mod tests {
    use super::{Known, Note, What, names_in_use, take_away, too_much};
    use crate::resolved::Resolved;
    use nunbird_handover::CacheBounds;
    use std::fs;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    fn images(now: SystemTime) -> Vec<Known> {
        let one = |name: &str, age: u64, size: u64| Known {
            used: now - Duration::from_secs(age),
            size,
            name: name.to_owned(),
            is_in_use: name == "used",
            what: What::Stored(
                Note { name: name.to_owned(), what: name.to_owned(), saved: None },
                PathBuf::new(),
            ),
        };
        vec![one("new", 10, 5), one("oldest", 300, 50), one("old", 200, 20), one("used", 250, 10)]
    }

    fn gone(bounds: CacheBounds) -> Vec<String> {
        let now = SystemTime::now();
        too_much(images(now), &bounds, now).into_iter().map(|known| known.name).collect()
    }

    #[test]
    fn images_go_by_age_count_and_size_and_those_in_use_stay() {
        let none = CacheBounds::default();
        assert!(gone(none).is_empty());
        assert_eq!(gone(CacheBounds { max_age: Some(100), ..none }), ["oldest", "old"]);
        assert_eq!(gone(CacheBounds { max_age: Some(250), ..none }), ["oldest"]);
        assert_eq!(gone(CacheBounds { max_count: Some(3), ..none }), ["oldest"]);
        assert_eq!(gone(CacheBounds { max_count: Some(1), ..none }), ["oldest", "old", "new"]);
        assert_eq!(gone(CacheBounds { max_size: Some(35), ..none }), ["oldest"]);
        assert_eq!(gone(CacheBounds { max_size: Some(34), ..none }), ["oldest", "old"]);
    }

    #[test]
    fn the_images_of_all_jobs_that_are_not_cleaned_up_are_in_use() {
        let root = tempfile::tempdir().expect("a directory");
        for (directory, name) in [("1", "a"), ("2", "b"), ("2/service-0", "c")] {
            let directory = root.path().join(directory);
            fs::create_dir_all(&directory).expect("a directory");
            let image = Resolved {
                name: name.to_owned(),
                for_create: name.to_owned(),
                digest: None,
                platform: None,
                user: None,
                entrypoint: Vec::new(),
                ports: Vec::new(),
            };
            fs::write(directory.join("image"), serde_json::json!(image).to_string()).expect("a file");
        }
        fs::create_dir(root.path().join("3")).expect("a directory");
        assert_eq!(names_in_use(root.path()), Some(["a", "b", "c"].map(str::to_owned).into()));
        fs::write(root.path().join("3/image"), "{").expect("a file");
        assert_eq!(names_in_use(root.path()), None);
    }

    #[test]
    fn only_what_is_in_the_cache_is_removed() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = root.path().join("cache");
        fs::create_dir_all(cache.join("image/bin")).expect("directories");
        fs::write(root.path().join("mine"), "x").expect("a file");
        fs::write(cache.join("image.sif"), "x").expect("a file");
        for path in
            [root.path().join("mine"), cache.join("../mine"), cache.join("image"), cache.join("image.sif")]
        {
            take_away(&cache, &path).expect("removed or left");
        }
        assert!(root.path().join("mine").exists());
        assert_eq!(fs::read_dir(&cache).expect("a directory").count(), 0);
    }
}
