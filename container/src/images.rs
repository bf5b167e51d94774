//! An account's images apart from any job of CI: what there is, one more, and fewer. For
//! `nunbirdctl images`.
//!
//! A pull is that of a job's `prepare`: the same checks, the same locks, the same copy.

use crate::bounds::{self, Known, What};
use crate::copies::{Cache, JobUse};
use crate::description::Description;
use crate::names::ImageName;
use crate::outer::store;
use crate::own;
use crate::partial::{a_while, remove_leftovers};
use crate::prepare::{Bench, description, make_directories};
use crate::resolved::Resolved;
use crate::save;
use crate::stage::destroy;
use crate::trouble::Failure;
use nunbird_handover::{CacheBounds, Container, Handover, Image, PullPolicy};
use nunbird_stage::StageError;
use nunbird_stage::signals::Signals;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// The directories of an engine's store, below [`place`].
pub(crate) const STORES: [&str; 2] = ["images-many", "images-one"];

/// An image of an account on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Its name in full.
    pub reference: String,
    /// The title of the engine that it was brought for.
    pub engine: String,
    /// The digest of its manifest, where that is known.
    pub digest: Option<String>,
    /// Bytes on disk; `None` in an engine's own store.
    pub size: Option<u64>,
    /// When a job has last begun to use it.
    pub used: SystemTime,
    /// Whether the next job with this name gets it.
    pub is_current: bool,
    /// The jobs that use it.
    pub jobs: Vec<JobUse>,
    /// Where it is: a file or directory, or the engine's store.
    pub path: PathBuf,
}

/// Which images go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All that no job uses.
    All,
    /// Those that are beyond these bounds.
    Beyond(CacheBounds),
}

/// An image that went, or would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// What it was.
    pub image: StoredImage,
    /// Why it could not be removed.
    pub failed: Option<String>,
}

/// Where a container's images of an account are: the engine's store, or the cache; `None` for an
/// engine without images.
///
/// # Errors
/// For a description that cannot be used.
pub fn place(container: &Container, uid: u32) -> Result<Option<PathBuf>, StageError> {
    let description = description(container)?;
    Ok(match (description.has_store(), description.has_copies()) {
        (true, _) => Some(store(container, uid)),
        (_, true) => Some(container.cache.clone()),
        _ => None,
    })
}

/// The images in such a place, by name; none where there is no such directory.
///
/// # Errors
/// In words for the user.
pub fn list(place: &Path) -> Result<Vec<StoredImage>, StageError> {
    let mut images = Vec::new();
    for directory in own_parts(place)? {
        let known = bounds::known(&directory).map_err(|why| unknown(&directory, &why))?;
        images.extend(known.into_iter().map(|known| known.image));
    }
    images.sort_by(|one, other| (&one.reference, other.used).cmp(&(&other.reference, one.used)));
    Ok(images)
}

/// The directories that have images, where they are the caller's own.
fn own_parts(place: &Path) -> Result<Vec<PathBuf>, StageError> {
    own::check(place)?;
    let parts = parts(place);
    parts.iter().try_for_each(|part| own::check(part))?;
    Ok(parts)
}

/// The directories that have images: of a store, or the cache itself.
fn parts(place: &Path) -> Vec<PathBuf> {
    let stores = STORES.map(|name| place.join(name));
    let found: Vec<PathBuf> = stores.into_iter().filter(|path| path.is_dir()).collect();
    if found.is_empty() { vec![place.to_owned()] } else { found }
}

fn unknown(place: &Path, why: &str) -> StageError {
    StageError::at("cannot say which images jobs use in", place, why, "remove that file, if no job runs")
}

/// Pulls the container's image as a job's `prepare` does; `say` gets lines meanwhile.
///
/// # Errors
/// Whose fault it is, in words for the user.
pub fn pull(
    handover: &Handover,
    container: &Container,
    signals: &Signals,
    say: &dyn Fn(&str),
) -> Result<Resolved, Failure> {
    let pulled = pull_for(handover, container, signals, say);
    // What is made for a job, and the note that it uses the image.
    let ended = destroy(handover, container, |_| 0);
    let image = pulled?;
    ended?;
    Ok(image)
}

fn pull_for(
    handover: &Handover,
    container: &Container,
    signals: &Signals,
    say: &dyn Fn(&str),
) -> Result<Resolved, Failure> {
    let description = description(container)?;
    let Some(image) = &container.image else {
        return Err(StageError::sentence(&format!("{} has no images", description.title)).into());
    };
    let name = crate::prepare::check_name(&description, image)?;
    make_directories(handover, container)?;
    let bench = Bench::make(&description, handover, container, signals)?;
    bench.fetch(image, &name, say)
}

/// Removes images that no job uses, or with `dry_run` says only which.
///
/// # Errors
/// In words for the user.
pub fn prune(
    handover: &Handover,
    container: &Container,
    which: Which,
    dry_run: bool,
    signals: &Signals,
) -> Result<Vec<Pruned>, Failure> {
    let description = description(container)?;
    if !description.has_store() {
        return prune_cache(&container.cache, which, dry_run).map_err(Failure::System);
    }
    let parts = own_parts(&store(container, handover.account.uid)).map_err(Failure::System)?;
    if parts.iter().all(|part| !part.join("uses").is_dir()) {
        return Ok(Vec::new());
    }
    make_directories(handover, container)?;
    let pruned = prune_store(&description, handover, container, which, dry_run, signals);
    let ended = destroy(handover, container, |_| 0);
    let pruned = pruned?;
    ended?;
    Ok(pruned)
}

/// The same for a cache, for which it takes no engine.
///
/// # Errors
/// In words for the user.
pub fn prune_cache(place: &Path, which: Which, dry_run: bool) -> Result<Vec<Pruned>, StageError> {
    own::check(place)?;
    let (cache, end) = (Cache(place), a_while());
    let known = bounds::known(place).map_err(|why| unknown(place, &why))?;
    let pruned = gone(known, which).into_iter().map(|known| {
        let failed = match &known.what {
            What::Copy(copy) if !dry_run => cache.remove(copy, end).err().map(|e| e.to_string()),
            _ => None,
        };
        Pruned { image: known.image, failed }
    });
    let pruned = pruned.collect();
    if !dry_run {
        cache.collect(end);
    }
    Ok(pruned)
}

fn prune_store(
    description: &Description,
    handover: &Handover,
    container: &Container,
    which: Which,
    dry_run: bool,
    signals: &Signals,
) -> Result<Vec<Pruned>, Failure> {
    let bench = Bench::make(description, handover, container, signals)?;
    let place = bench.place();
    let containers = container.directory.parent().unwrap_or(&container.directory);
    let mut known = bounds::known(&place).map_err(|why| Failure::System(unknown(&place, &why)))?;
    let in_use = bounds::names_in_use(containers)
        .ok_or_else(|| Failure::System(unknown(containers, "a file `image` of a job cannot be read")))?;
    known.iter_mut().for_each(|known| known.is_in_use |= in_use.contains(&known.image.reference));
    let (mut pruned, end) = (Vec::new(), a_while());
    for known in gone(known, which) {
        let failed = if dry_run { None } else { remove(&bench, &known, end) };
        pruned.push(Pruned { image: known.image, failed });
    }
    if !dry_run {
        remove_leftovers(&place, end);
        remove_leftovers(&save::directory(container), end);
    }
    Ok(pruned)
}

fn remove(bench: &Bench<'_>, known: &Known, end: Instant) -> Option<String> {
    let image = Image {
        name: known.image.reference.clone(),
        entrypoint: None,
        user: None,
        platform: None,
        pull: vec![PullPolicy::Never],
        digest_required: false,
    };
    let name = match ImageName::parse(&image.name, &bench.description.images) {
        Ok(name) => name,
        Err(e) => return Some(e.to_string()),
    };
    bounds::remove(&bench.puller(&image, &name, &bench.place(), &|_| {}), &known.what, end).err()
}

/// Copies that are no name's current one go in any case.
fn gone(known: Vec<Known>, which: Which) -> Vec<Known> {
    let (mut gone, rest): (Vec<Known>, Vec<Known>) = known
        .into_iter()
        .partition(|known| !known.is_in_use && (which == Which::All || !known.image.is_current));
    if let Which::Beyond(bounds) = which {
        gone.extend(bounds::too_much(rest, &bounds, SystemTime::now()));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::{Which, list, prune_cache};
    use crate::copies::{About, Cache, User};
    use crate::partial::Partial;
    use nunbird_handover::CacheBounds;
    use std::fs;
    use std::path::Path;

    fn publish(place: &Path, name: &str, job: u64) {
        let partial = Partial::make(place, "").expect("a directory");
        fs::write(partial.image(), "x".repeat(10_000)).expect("an image");
        let about = About {
            name: format!("r.example.org/{name}:1"),
            engine: "Charliecloud".to_owned(),
            key: name.to_owned(),
            image: "image".to_owned(),
            digest: None,
            no_digest: None,
        };
        let user = User { note: format!("nb-{job:032x}"), job, until: u64::MAX };
        Cache(place).publish(&partial, &about, &user).expect("a copy");
    }

    #[test]
    fn a_list_says_which_job_uses_which_copy() {
        let root = tempfile::tempdir().expect("a directory");
        assert_eq!(list(&root.path().join("none")).expect("no images"), []);
        publish(root.path(), "b", 7);
        publish(root.path(), "a", 8);
        publish(root.path(), "b", 9);
        let images = list(root.path()).expect("images");
        let seen: Vec<(&str, bool, Vec<u64>)> = images
            .iter()
            .map(|image| {
                let jobs = image.jobs.iter().filter_map(|one| one.job).collect();
                (image.reference.as_str(), image.is_current, jobs)
            })
            .collect();
        assert_eq!(seen[0], ("r.example.org/a:1", true, vec![8]));
        assert!(seen[1..].contains(&("r.example.org/b:1", false, vec![7])), "{seen:?}");
        assert!(seen[1..].contains(&("r.example.org/b:1", true, vec![9])), "{seen:?}");
        assert!(images.iter().all(|image| image.size.is_some_and(|size| size >= 10_000)), "{images:?}");
        assert_eq!(images[0].jobs[0].decision, format!("{:032x}", 8));
    }

    #[test]
    fn what_a_job_uses_stays_whatever_is_asked_for() {
        let root = tempfile::tempdir().expect("a directory");
        for (name, job) in [("a", 1), ("a", 2), ("b", 3), ("c", 4)] {
            publish(root.path(), name, job);
        }
        let names = |which, dry_run| -> Vec<String> {
            let pruned = prune_cache(root.path(), which, dry_run).expect("pruned");
            pruned.into_iter().map(|one| one.image.reference).collect()
        };
        assert!(names(Which::All, false).is_empty());
        Cache(root.path()).release(&format!("nb-{:032x}", 1));
        let bounds = CacheBounds { max_count: Some(2), ..CacheBounds::default() };
        assert_eq!(names(Which::Beyond(CacheBounds::default()), true), ["r.example.org/a:1"]);
        assert_eq!(names(Which::Beyond(bounds), false), ["r.example.org/a:1"], "the others are in use");
        Cache(root.path()).release(&format!("nb-{:032x}", 2));
        assert_eq!(names(Which::Beyond(bounds), true), ["r.example.org/a:1"]);
        assert_eq!(list(root.path()).expect("images").len(), 3);
        assert_eq!(names(Which::All, false), ["r.example.org/a:1"]);
        assert_eq!(list(root.path()).expect("images").len(), 2);
    }
}
