//! The bounds on an account's images: those that no job has used for long go, and the least recently
//! used ones where there are too many.
//!
//! In an engine's store each image has a note beside the images, whose time of change is that of its
//! last use; images of jobs that have not been cleaned up stay, whatever their age. Files and
//! directories in the cache are copies ([`crate::copies`]), which say both themselves: all of them
//! count, also those that are no name's current one any more.

use crate::call::Called;
use crate::copies::{Cache, Copy, size, touch};
use crate::images::StoredImage;
use crate::own;
use crate::partial::{a_while, remove_leftovers, unique};
use crate::pull::{Puller, said};
use crate::removal;
use crate::resolved::Resolved;
use crate::save::{self, SavedImage};
use nunbird_handover::CacheBounds;
use nunbird_stage::small_files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The directory of notes of a store.
const USES: &str = "uses";
/// The longest note, in bytes.
const LONGEST: u64 = 16 << 10;
/// Time for the command that removes one image.
const REMOVE: Duration = Duration::from_secs(120);

/// What is noted of an image of an engine's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Its name in full, as in [`Resolved::name`].
    name: String,
    /// What the engine's `remove` gets, as long as that is this image.
    what: String,
    /// What the engine knows it by, whatever its name means by now.
    #[serde(default)]
    id: Option<String>,
    /// Its copy for compute nodes.
    saved: Option<PathBuf>,
    /// The title of the engine.
    #[serde(default)]
    engine: String,
    /// Its digest, when a job has last begun to use it.
    #[serde(default)]
    digest: Option<String>,
}

/// An image that may go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) image: StoredImage,
    pub(crate) is_in_use: bool,
    pub(crate) what: What,
}

/// What is removed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// An image of the engine's store, and its note.
    Stored(Note, PathBuf),
    /// A copy in the cache.
    Copy(Copy),
}

/// Notes that the job uses this image, and applies the bounds. A job does not fail for what cannot
/// be removed: `say` gets a line.
pub(crate) fn apply(puller: &Puller<'_>, image: &Resolved, saved: Option<&SavedImage>) {
    let bounds = &puller.container.cache_bounds;
    // One for all that is removed here.
    let end = a_while();
    let known = if puller.description.has_store() {
        let directory = save::directory(puller.container);
        if own::check(&directory).is_ok() {
            remove_leftovers(&directory, end);
        }
        remove_leftovers(puller.place, end);
        stored(puller, image, saved)
    } else {
        Cache(puller.place).collect(end);
        match *bounds == CacheBounds::default() {
            true => Ok(Vec::new()),
            false => known(puller.place).map_err(|_| UNKNOWN.to_owned()),
        }
    };
    let known = match known {
        Ok(known) => known,
        Err(warning) => {
            (puller.say)(&format!("warning: {warning}"));
            return;
        }
    };
    for known in too_much(known, bounds, SystemTime::now()) {
        let name = &known.image.reference;
        match remove(puller, &known.what, end) {
            Ok(()) => (puller.say)(&format!("removed the image {name}, by the site's bounds")),
            Err(e) => (puller.say)(&format!("warning: cannot remove the image {name}: {e}")),
        }
    }
}

const UNKNOWN: &str =
    "it is not known which images other jobs use; the site's bounds on images are not applied";

/// All images in a cache, or in one of the directories of a store.
pub(crate) fn known(place: &Path) -> Result<Vec<Known>, String> {
    let cache = Cache(place);
    let users =
        cache.users().ok_or_else(|| format!("a note in {} cannot be read", place.join("jobs").display()))?;
    let of = |key: &str| users.get(key).cloned().unwrap_or_default();
    let copy = |copy: Copy| {
        let jobs = of(&copy.id);
        let image = StoredImage {
            reference: copy.about.name.clone(),
            engine: copy.about.engine.clone(),
            digest: copy.about.digest.clone(),
            size: Some(cache.size(&copy.id)),
            used: cache.used(&copy.id)?,
            is_current: cache.current(&copy.about.key).is_some_and(|current| current.id == copy.id),
            jobs,
            path: copy.path.clone(),
        };
        Some(Known { is_in_use: !image.jobs.is_empty(), image, what: What::Copy(copy) })
    };
    let noted = |path: PathBuf| {
        let note = read_note(&path)?;
        let jobs = of(path.file_name()?.to_str()?);
        let image = StoredImage {
            reference: note.name.clone(),
            engine: note.engine.clone(),
            digest: note.digest.clone(),
            // The engine alone knows that of the image itself.
            size: note.saved.as_deref().map(size),
            used: path.metadata().ok()?.modified().ok()?,
            is_current: true,
            jobs,
            path: place.to_owned(),
        };
        Some(Known { is_in_use: !image.jobs.is_empty(), image, what: What::Stored(note, path) })
    };
    let notes = fs::read_dir(place.join(USES)).into_iter().flatten().flatten();
    let notes = notes.filter_map(|entry| noted(entry.path()));
    Ok(cache.copies().into_iter().filter_map(copy).chain(notes).collect())
}

/// Notes the use of an image of the store. All images that are noted, unless there are no bounds.
fn stored(puller: &Puller<'_>, image: &Resolved, saved: Option<&SavedImage>) -> Result<Vec<Known>, String> {
    let directory = puller.place.join(USES);
    let note = Note {
        name: image.name.clone(),
        what: puller.name.for_engine(&puller.description.images),
        id: Some(image.for_create.clone()),
        saved: saved.map(|saved| saved.file.clone()),
        engine: puller.description.title.clone(),
        digest: image.digest.clone(),
    };
    write(&directory, &puller.file_name(), &note)
        .and_then(|()| Cache(puller.place).note(&puller.user, &puller.file_name()))
        .map_err(|e| format!("cannot note the use of the image in {}: {e}", puller.place.display()))?;
    if puller.container.cache_bounds == CacheBounds::default() {
        return Ok(Vec::new());
    }
    let containers = puller.container.directory.ancestors().find(|path| path.ends_with("containers"));
    let in_use = containers.and_then(names_in_use).ok_or_else(|| UNKNOWN.to_owned())?;
    let mut known = known(puller.place).map_err(|_| UNKNOWN.to_owned())?;
    known.iter_mut().for_each(|known| known.is_in_use |= in_use.contains(&known.image.reference));
    Ok(known)
}

fn write(directory: &Path, name: &str, note: &Note) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join(name);
    small_files::write(&path, &[serde_json::json!(note).to_string().as_bytes()])?;
    touch(&path)
}

/// The images of all jobs that have a control directory; services have theirs inside it. `None` if
/// one of them cannot be read.
pub(crate) fn names_in_use(containers: &Path) -> Option<BTreeSet<String>> {
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

/// Of those that no job uses, the ones that are beyond the bounds, the least recently used first.
pub(crate) fn too_much(mut known: Vec<Known>, bounds: &CacheBounds, now: SystemTime) -> Vec<Known> {
    known.sort_by_key(|known| known.image.used);
    let mut count = u64::try_from(known.len()).unwrap_or(u64::MAX);
    let mut bytes = known.iter().fold(0_u64, |sum, known| sum.saturating_add(known.image.size.unwrap_or(0)));
    let mut gone = Vec::new();
    for known in known {
        let age = now.duration_since(known.image.used).unwrap_or_default().as_secs();
        let is_too_much = bounds.max_age.is_some_and(|most| age > most)
            || bounds.max_count.is_some_and(|most| count > most)
            || bounds.max_size.is_some_and(|most| bytes > most);
        if is_too_much && !known.is_in_use {
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(known.image.size.unwrap_or(0));
            gone.push(known);
        }
    }
    gone
}

/// Of a tree that takes longer than `end`, the rest goes with later jobs.
pub(crate) fn remove(puller: &Puller<'_>, what: &What, end: Instant) -> Result<(), String> {
    let words = |e: std::io::Error| e.to_string();
    let (note, path) = match what {
        What::Copy(copy) => return Cache(puller.place).remove(copy, end).map_err(words),
        What::Stored(note, path) => (note, path),
    };
    let Some(remove) = &puller.description.remove else {
        return Err("the engine's description has no [remove]".to_owned());
    };
    let others = others(path);
    if let Some(reference) = what_goes(puller, note, &others)? {
        let mut values = puller.values.clone();
        values.insert("reference", reference);
        match puller.engine(&remove.command, &values, &[], REMOVE) {
            Ok(Called::Ended(output)) if output.status.is_some_and(|status| status.success()) => {}
            Ok(Called::Ended(output)) => return Err(said(&output)),
            Ok(_) => return Err("it took too long".to_owned()),
            Err(_) => return Err("the engine cannot be started".to_owned()),
        }
    }
    if let Some(saved) = &note.saved
        && others.iter().all(|other| other.saved.as_ref() != Some(saved))
    {
        take_away(&save::directory(puller.container), saved, end).map_err(words)?;
    }
    fs::remove_file(path).map_err(words)
}

/// The word for `remove`. A store has one image for each name: after a pull for another platform the name means that one, and this one has its id alone.
/// `None` where it is gone, or has another note as well.
fn what_goes(puller: &Puller<'_>, note: &Note, others: &[Note]) -> Result<Option<String>, String> {
    let here = |word: &str| {
        let found = puller.stored(word).map_err(|_| "the engine does not say what it is".to_owned())?;
        Ok::<_, String>(found.map(|image| image.for_create))
    };
    match &note.id {
        Some(id) if here(&note.what)?.as_ref() != Some(id) => {
            let is_shared = others.iter().any(|other| other.id.as_ref() == Some(id));
            Ok(here(id)?.filter(|_| !is_shared))
        }
        _ => Ok(Some(note.what.clone())),
    }
}

/// The other notes beside this one.
fn others(path: &Path) -> Vec<Note> {
    let entries =
        path.parent().and_then(|directory| fs::read_dir(directory).ok()).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|other| other != path);
    paths.filter_map(|path| read_note(&path)).collect()
}

fn read_note(path: &Path) -> Option<Note> {
    serde_json::from_slice(&small_files::beginning(path, LONGEST).ok()?).ok()
}

/// Only what lies in this directory: a note names no file of the account's elsewhere.
fn take_away(directory: &Path, path: &Path, end: Instant) -> std::io::Result<()> {
    if path.parent() != Some(directory) || !path.exists() {
        return Ok(());
    }
    // Under another name first: a job that begins meanwhile finds it whole or not at all.
    let hidden = directory.join(format!(".old-{}", unique()?));
    fs::rename(path, &hidden)?;
    removal::remove(&hidden, Some(end)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{Known, Note, What, names_in_use, take_away, too_much};
    use crate::images::StoredImage;
    use crate::resolved::Resolved;
    use nunbird_handover::CacheBounds;
    use std::fs;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    fn images(now: SystemTime) -> Vec<Known> {
        let one = |name: &str, age: u64, size: u64| Known {
            image: StoredImage {
                reference: name.to_owned(),
                engine: String::new(),
                digest: None,
                size: Some(size),
                used: now - Duration::from_secs(age),
                is_current: true,
                jobs: Vec::new(),
                path: PathBuf::new(),
            },
            is_in_use: name == "used",
            what: What::Stored(note(name), PathBuf::new()),
        };
        vec![one("new", 10, 5), one("oldest", 300, 50), one("old", 200, 20), one("used", 250, 10)]
    }

    fn note(name: &str) -> Note {
        let name = name.to_owned();
        Note { what: name.clone(), id: None, name, saved: None, engine: String::new(), digest: None }
    }

    fn gone(bounds: CacheBounds) -> Vec<String> {
        let now = SystemTime::now();
        too_much(images(now), &bounds, now).into_iter().map(|known| known.image.reference).collect()
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
            let image = Resolved::new(name.to_owned(), name.to_owned());
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
            take_away(&cache, &path, crate::partial::a_while()).expect("removed or left");
        }
        assert!(root.path().join("mine").exists());
        assert_eq!(fs::read_dir(&cache).expect("a directory").count(), 0);
    }
}
