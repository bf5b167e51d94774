//! Copies of images in an account's cache, for engines whose images are files or directories.
//!
//! ```text
//! CACHE/KEY                    a link to the current copy of a name: copies/COPY/IMAGE
//! CACHE/copies/COPY/IMAGE      an image, never changed and never replaced
//! CACHE/copies/COPY/about      what it is; its time of change is that of its last use
//! CACHE/jobs/JOB               the copy that a job runs in, from `prepare` until its cleanup
//! CACHE/.new-*, CACHE/.old-*   an image in the making, and one that is being removed
//! ```
//!
//! Many jobs use one cache at once, from several hosts, also where locks do not work. A copy is
//! complete when it gets its name, and a link is switched by rename(2). A job notes a copy and then
//! looks whether it still is the current one; a copy is removed only if no link led to it *before*
//! the notes were read and none does *after*. So either the job sees that the copy is none any
//! more, or the remover sees the note.

use crate::partial::{Partial, remove_leftovers, unique};
use crate::removal;
use nunbird_stage::small_files;
use nunbird_sys::clock;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, FileTimes, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Directories in the cache.
const COPIES: &str = "copies";
const JOBS: &str = "jobs";
/// The file beside an image.
const ABOUT: &str = "about";
/// The longest of our files, in bytes.
const LONGEST: u64 = 16 << 10;
/// How long a note of a job counts after the job's time is over: a cleanup may be late.
const SLACK: Duration = Duration::from_secs(24 * 3600);
/// How often a job looks again if the current copy changes under its eyes.
const ATTEMPTS: usize = 20;

/// What is known of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// The full name that it was pulled by.
    pub(crate) name: String,
    /// The title of the engine that it was made for.
    #[serde(default)]
    pub(crate) engine: String,
    /// The name of the link.
    pub(crate) key: String,
    /// The name of the image beside this file.
    pub(crate) image: String,
    /// The digest of its manifest.
    pub(crate) digest: Option<String>,
    /// Why that is not known, in words for the user.
    #[serde(default)]
    pub(crate) no_digest: Option<String>,
}

/// A job that uses a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The name of its note; of a service, with an end behind a dot.
    pub(crate) note: String,
    /// GitLab's id of the job.
    pub(crate) job: u64,
    /// When its time is over, in seconds since the epoch.
    pub(crate) until: u64,
}

/// What a job's note has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    copy: String,
    job: u64,
    until: u64,
}

/// A job that uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobUse {
    /// GitLab's id of the job; `None` for a pull by hand.
    pub job: Option<u64>,
    /// The id of its decision.
    pub decision: String,
}

/// A copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    /// The name of its directory.
    pub(crate) id: String,
    /// What it is.
    pub(crate) about: About,
    /// Its image.
    pub(crate) path: PathBuf,
}

/// The copies in one directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cache<'p>(pub(crate) &'p Path);

impl Cache<'_> {
    /// The current copy of a name, which the job uses from now on; `None` if there is none.
    pub(crate) fn take(self, key: &str, user: &User) -> io::Result<Option<Copy>> {
        for _ in 0..ATTEMPTS {
            let Some(copy) = self.current(key) else { return Ok(None) };
            self.note(user, &copy.id)?;
            if self.current(key).as_ref() == Some(&copy) {
                // The bounds take the time from here; without it the copy seems older than it is.
                drop(touch(&self.about_file(&copy.id)));
                return Ok(Some(copy));
            }
        }
        Err(io::Error::other("its copy is replaced again and again"))
    }

    /// Makes the image in `partial` the current copy of the name that `about` has. The job uses it
    /// from now on.
    pub(crate) fn publish(self, partial: &Partial, about: &About, user: &User) -> io::Result<Copy> {
        let digits: String = about.digest.iter().flat_map(|digest| digest.chars().skip(7).take(12)).collect();
        let end = unique()?;
        let id = format!("{}-{digits}{}{end}", about.key, if digits.is_empty() { "" } else { "-" });
        let text = serde_json::json!(about).to_string();
        let copy = partial.image().parent().map(Path::to_owned).unwrap_or_default();
        small_files::replace(&copy.join(ABOUT), &[text.as_bytes()])?;
        make_directory(&self.0.join(COPIES))?;
        // For others where the account opens its cache to them, as a site does with its shared one.
        for (path, mode) in [(copy.join(ABOUT), 0o644), (copy.clone(), 0o755), (self.0.join(COPIES), 0o755)] {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        // After a crash of the host it must not look complete and have empty files.
        partial.sync()?;
        // Before it can be seen, so that no other job removes it as one without a user.
        self.note(user, &id)?;
        fs::rename(&copy, self.0.join(COPIES).join(&id))?;
        let link = partial.path().join("link");
        symlink(Path::new(COPIES).join(&id).join(&about.image), &link)?;
        let target = self.0.join(&about.key);
        match fs::rename(&link, &target) {
            // Put there by hand.
            Err(_) if target.is_dir() && !target.is_symlink() => {
                fs::rename(&target, partial.path().join("old"))?;
                fs::rename(&link, &target)?;
            }
            other => other?,
        }
        let path = self.0.join(COPIES).join(&id).join(&about.image);
        Ok(Copy { id, about: about.clone(), path })
    }

    /// Forgets what a job and its services use.
    pub(crate) fn release(self, note: &str) {
        let services = format!("{note}.");
        for name in names(&self.0.join(JOBS)) {
            if name == note || name.starts_with(&services) {
                drop(fs::remove_file(self.0.join(JOBS).join(name)));
            }
        }
    }

    /// Removes what no name leads to and no job uses, and what a pull that died has left. What is not gone at `end` goes with later
    /// jobs.
    pub(crate) fn collect(self, end: Instant) {
        remove_leftovers(self.0, end);
        let copies = names(&self.0.join(COPIES));
        let before = self.currents();
        let Some(users) = self.users() else { return };
        let after = self.currents();
        for id in copies {
            if !before.contains(&id) && !users.contains_key(&id) && !after.contains(&id) {
                // The next one tries again.
                drop(self.discard(&id, end));
            }
        }
    }

    /// Removes a copy, unless a job uses it: then it is no name's copy any more, and goes with the
    /// job.
    pub(crate) fn remove(self, copy: &Copy, end: Instant) -> io::Result<()> {
        if self.current(&copy.about.key).is_some_and(|current| current.id == copy.id) {
            fs::remove_file(self.0.join(&copy.about.key))?;
        }
        match self.users() {
            Some(users) if !users.contains_key(&copy.id) => self.discard(&copy.id, end),
            _ => Ok(()),
        }
    }

    fn discard(self, id: &str, end: Instant) -> io::Result<()> {
        // Whole or not there, for whatever looks at it meanwhile.
        let hidden = self.0.join(format!(".old-{}", unique()?));
        fs::rename(self.0.join(COPIES).join(id), &hidden)?;
        removal::remove(&hidden, Some(end)).map(drop)
    }

    /// All copies.
    pub(crate) fn copies(self) -> Vec<Copy> {
        names(&self.0.join(COPIES)).into_iter().filter_map(|id| self.copy(&id)).collect()
    }

    /// When a job has last begun to use it.
    pub(crate) fn used(self, id: &str) -> Option<SystemTime> {
        self.about_file(id).metadata().ok()?.modified().ok()
    }

    /// Bytes on disk.
    pub(crate) fn size(self, id: &str) -> u64 {
        size(&self.0.join(COPIES).join(id))
    }

    /// The jobs that use each copy; `None` where that cannot be known.
    pub(crate) fn users(self) -> Option<BTreeMap<String, Vec<JobUse>>> {
        let now = clock::now().ok()?;
        let directory = self.0.join(JOBS);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Some(BTreeMap::new()),
            Err(_) => return None,
        };
        let mut users: BTreeMap<String, Vec<JobUse>> = BTreeMap::new();
        for entry in entries {
            let path = entry.ok()?.path();
            // Being written: its job looks at the link once more.
            let is_new = path.extension().is_some_and(|end| end == "new");
            let note = small_files::beginning(&path, LONGEST)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
            match note {
                Some(note) if now < note.until.saturating_add(SLACK.as_secs()) => {
                    if !is_new {
                        users.entry(note.copy).or_default().push(job_use(&path, note.job));
                    }
                }
                Some(_) => drop(fs::remove_file(&path)),
                None if is_older(&path, SLACK) => drop(fs::remove_file(&path)),
                // Gone meanwhile, or being written.
                None if is_new || !path.exists() => {}
                None => return None,
            }
        }
        Some(users)
    }

    /// The current copy of a name.
    pub(crate) fn current(self, key: &str) -> Option<Copy> {
        let id = linked(&self.0.join(key))?;
        self.copy(&id)
    }

    fn currents(self) -> BTreeSet<String> {
        names(self.0).iter().filter_map(|key| linked(&self.0.join(key))).collect()
    }

    fn copy(self, id: &str) -> Option<Copy> {
        let about = about(&self.about_file(id))?;
        let path = self.0.join(COPIES).join(id).join(&about.image);
        // A name of a file there, and nothing elsewhere.
        let is_plain = Path::new(&about.image).file_name().is_some_and(|name| *name == *about.image);
        (is_plain && path.exists()).then(|| Copy { id: id.to_owned(), about, path })
    }

    fn about_file(self, id: &str) -> PathBuf {
        self.0.join(COPIES).join(id).join(ABOUT)
    }

    /// Notes that a job uses a copy, or an image of an engine's store.
    pub(crate) fn note(self, user: &User, copy: &str) -> io::Result<()> {
        let directory = self.0.join(JOBS);
        make_directory(&directory)?;
        let note = Note { copy: copy.to_owned(), job: user.job, until: user.until };
        small_files::replace(&directory.join(&user.note), &[serde_json::json!(note).to_string().as_bytes()])
    }
}

/// The job of a note, from its name.
fn job_use(note: &Path, job: u64) -> JobUse {
    let name = note.file_name().unwrap_or_default().to_string_lossy();
    let decision = name.strip_prefix("nb-").unwrap_or(&name);
    let decision = decision.split_once('.').map_or(decision, |(decision, _)| decision).to_owned();
    JobUse { job: (job != 0).then_some(job), decision }
}

/// What is known of an image that lies in a cache, such as the site's.
pub(crate) fn about_image(image: &Path) -> Option<About> {
    about(&image.parent()?.join(ABOUT))
}

fn about(file: &Path) -> Option<About> {
    serde_json::from_slice(&small_files::beginning(file, LONGEST).ok()?).ok()
}

/// The copy that a link leads to.
fn linked(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    let parts: Vec<Component<'_>> = target.components().collect();
    match parts.as_slice() {
        [Component::Normal(copies), Component::Normal(id), Component::Normal(_)] if *copies == COPIES => {
            id.to_str().map(str::to_owned)
        }
        _ => None,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether it has not changed for so long.
pub(crate) fn is_older(path: &Path, age: Duration) -> bool {
    let changed = path.symlink_metadata().and_then(|meta| meta.modified());
    changed.is_ok_and(|changed| SystemTime::now().duration_since(changed).unwrap_or_default() > age)
}

pub(crate) fn touch(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_times(FileTimes::new().set_modified(SystemTime::now()))
}

/// Bytes on disk of a file, or of a directory with all that is in it.
pub(crate) fn size(path: &Path) -> u64 {
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    let own = meta.blocks().saturating_mul(512);
    if !meta.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.fold(own, |sum, entry| sum.saturating_add(size(&entry.path())))
}

#[cfg(test)]
mod tests {
    use super::{About, COPIES, Cache, JOBS, User};
    use crate::partial::Partial;
    use crate::partial::a_while;
    use std::fs::{self, FileTimes, OpenOptions};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    fn about(digest: Option<&str>) -> About {
        About {
            name: "r.example.org/a:1".to_owned(),
            engine: "Apptainer".to_owned(),
            key: "a.sif".to_owned(),
            image: "image.sif".to_owned(),
            digest: digest.map(str::to_owned),
            no_digest: None,
        }
    }

    fn user(name: &str) -> User {
        User { note: name.to_owned(), job: 7, until: u64::MAX }
    }

    /// Publishes an image with this text for a job.
    fn publish(place: &Path, text: &str, job: &str) -> super::Copy {
        let partial = Partial::make(place, ".sif").expect("a directory");
        fs::write(partial.image(), text).expect("an image");
        Cache(place).publish(&partial, &about(Some("sha256:0123456789abcdef")), &user(job)).expect("a copy")
    }

    fn text(place: &Path) -> String {
        fs::read_to_string(place.join("a.sif")).expect("an image")
    }

    #[test]
    fn a_new_copy_takes_the_name_and_an_old_one_stays_until_its_last_job_has_ended() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache(root.path());
        let first = publish(root.path(), "one", "a");
        assert!(first.id.starts_with("a.sif-0123456789ab-"), "{}", first.id);
        assert_eq!(cache.take("a.sif", &user("b.service-1")).expect("read"), Some(first.clone()));
        let second = publish(root.path(), "two", "c");
        cache.collect(a_while());
        assert_eq!(text(root.path()), "two");
        assert_eq!(fs::read_to_string(&first.path).expect("the old copy"), "one");
        cache.release("a");
        cache.collect(a_while());
        assert!(first.path.exists());
        cache.release("b");
        cache.collect(a_while());
        assert_eq!(cache.copies(), [second]);
        cache.release("c");
        cache.collect(a_while());
        assert_eq!(text(root.path()), "two", "the current copy stays without jobs");
        let left: Vec<_> = fs::read_dir(root.path()).expect("a directory").flatten().collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[test]
    fn the_note_of_a_job_ends_a_day_after_the_job_must_have_ended() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache(root.path());
        let now = nunbird_sys::clock::now().expect("the time");
        for (until, stays) in [(now - 3600, true), (now - 25 * 3600, false)] {
            let old = publish(root.path(), "one", "a");
            cache.note(&User { until, ..user("a") }, &old.id).expect("a note");
            publish(root.path(), "two", "b");
            cache.collect(a_while());
            assert_eq!(old.path.exists(), stays);
            assert_eq!(root.path().join(JOBS).join("a").exists(), stays);
        }
    }

    #[test]
    fn nothing_is_removed_while_a_note_cannot_be_read_and_it_cannot_stay_for_ever() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache(root.path());
        let old = publish(root.path(), "one", "a");
        publish(root.path(), "two", "a");
        let broken = root.path().join(JOBS).join("x");
        fs::write(&broken, "{").expect("a file");
        cache.collect(a_while());
        assert!(old.path.exists());
        let days = SystemTime::now() - Duration::from_secs(3 * 24 * 3600);
        let file = OpenOptions::new().write(true).open(&broken).expect("a file");
        file.set_times(FileTimes::new().set_modified(days)).expect("a time");
        cache.collect(a_while());
        assert!(!old.path.exists() && !broken.exists());
    }

    #[test]
    fn a_copy_without_its_link_is_no_image_and_a_link_elsewhere_is_none() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache(root.path());
        publish(root.path(), "one", "a");
        fs::remove_file(root.path().join("a.sif")).expect("a link");
        assert_eq!(cache.take("a.sif", &user("b")).expect("read"), None);
        for target in ["/etc/passwd", "../x/y", "copies/../x", "copies/gone/image.sif"] {
            std::os::unix::fs::symlink(target, root.path().join("a.sif")).expect("a link");
            assert_eq!(cache.take("a.sif", &user("b")).expect("read"), None, "{target}");
            fs::remove_file(root.path().join("a.sif")).expect("a link");
        }
    }

    #[test]
    fn a_copy_that_is_removed_while_a_job_uses_it_goes_with_the_job() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = Cache(root.path());
        let copy = publish(root.path(), "one", "a");
        cache.remove(&copy, a_while()).expect("removed");
        assert!(copy.path.exists() && !root.path().join("a.sif").exists());
        cache.release("a");
        cache.collect(a_while());
        assert!(cache.copies().is_empty());
        assert_eq!(fs::read_dir(root.path().join(COPIES)).expect("a directory").count(), 0);
    }

    #[test]
    fn jobs_at_once_never_lose_the_copy_that_they_use() {
        let root = tempfile::tempdir().expect("a directory");
        let place = root.path();
        publish(place, "0", "first");
        std::thread::scope(|scope| {
            for thread in 0..2 {
                scope.spawn(move || {
                    for n in 0..60 {
                        publish(place, &n.to_string(), &format!("p{thread}"));
                        Cache(place).collect(a_while());
                    }
                });
                scope.spawn(move || {
                    let me = format!("u{thread}");
                    for _ in 0..300 {
                        let copy = Cache(place).take("a.sif", &user(&me)).expect("read").expect("a copy");
                        for _ in 0..5 {
                            assert!(fs::read(&copy.path).is_ok(), "{}", copy.id);
                        }
                    }
                });
            }
        });
        for me in ["first", "p0", "p1", "u0", "u1"] {
            Cache(place).release(me);
        }
        Cache(place).collect(a_while());
        assert_eq!(Cache(place).copies().len(), 1);
    }
}
