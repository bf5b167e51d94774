//! Images that a job names by a path: a file or a directory of the host, which the account opens.
//!
//! The site's patterns are compared with the path as it is written. So that this path says what runs,
//! a link counts only if root has made it, or if it leads to a name beside it, as `latest.sif` does.

use crate::call::Called;
use crate::copies::is_older;
use crate::description::Images;
use crate::names::is_digest;
use crate::pull::{Puller, said};
use crate::resolved::Resolved;
use crate::trouble::Failure;
use nunbird_stage::StageError;
use nunbird_stage::small_files;
use nunbird_stage::template::any_matches;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The most links on the way, as in the kernel.
const MOST_LINKS: usize = 40;
/// In the cache: the digests of files, so that a large one is read once.
const DIGESTS: &str = "digests";
/// How long one is kept.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// The longest of these files, in bytes.
const LONGEST: u64 = 1 << 10;
/// How long an engine may take to run a shell in the image that does nothing.
const TRIAL: Duration = Duration::from_secs(60);

impl Puller<'_> {
    /// The file or directory that the job names.
    pub(crate) fn given(&self, path: &Path) -> Result<Resolved, Failure> {
        let refused = |why: &dyn std::fmt::Display| {
            let help = "correct `image:` in .gitlab-ci.yml, or have the owner of the path change it";
            Failure::Job(StageError::at("cannot use the image", path, why, help))
        };
        let real = real(path).map_err(|why| refused(&why))?;
        let meta = real.symlink_metadata().map_err(|e| refused(&e))?;
        check(path, &meta, &self.description.images).map_err(|why| refused(&why))?;
        let name = self.name.full();
        if real != path {
            (self.say)(&format!("the image {name} is {}", real.display()));
        }
        let account = self.handover.account.uid;
        if ![0, account].contains(&meta.uid()) {
            (self.say)(&format!("the image {name} belongs to uid {}, who can change it", meta.uid()));
        }
        let digest = match meta.is_dir() {
            true => {
                (self.say)(&format!("the image {name} is a directory, which has no digest"));
                None
            }
            false => match self.digest_of_file(&real, &meta)? {
                Ok(digest) => Some(digest),
                Err(why) => {
                    (self.say)(&format!("the digest of the image {name} is not known: {why}"));
                    None
                }
            },
        };
        self.try_it(&real)?;
        Ok(Resolved { state: Some(state(&meta)), ..self.inspected(&real, digest)? })
    }

    /// What sha256sum(1) says of a file, unless it has been asked before.
    fn digest_of_file(&self, path: &Path, meta: &Metadata) -> Result<Result<String, String>, Failure> {
        let directory = self.place.join(DIGESTS);
        let kept = directory.join(self.name.file_name(None));
        let known = |text: Vec<u8>| {
            let text = String::from_utf8(text).ok()?;
            let digest = text.strip_prefix(&state(meta))?.trim().to_owned();
            is_digest(&digest).then_some(digest)
        };
        if let Some(digest) = small_files::beginning(&kept, LONGEST).ok().and_then(known) {
            return Ok(Ok(digest));
        }
        let command = ["sha256sum".to_owned(), path.display().to_string()];
        let time = Duration::from_secs(self.container.pull_timeout);
        let output = match self.engine(&command, &self.values, &[], time)? {
            Called::Ended(output) => output,
            Called::Cancelled => return Err(Failure::Cancelled),
            Called::Late => return Ok(Err(format!("reading it took more than {} s", time.as_secs()))),
        };
        let digest = output.out.split(' ').next().map(|digits| format!("sha256:{digits}"));
        let Some(digest) = digest.filter(|digest| is_digest(digest)) else {
            return Ok(Err(said(&output)));
        };
        // Without the note, the next job reads the file once more.
        let keep = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            for entry in fs::read_dir(&directory)?.flatten().filter(|entry| is_older(&entry.path(), KEPT)) {
                fs::remove_file(entry.path())?;
            }
            small_files::replace(&kept, &[format!("{} {digest}\n", state(meta)).as_bytes()])
        };
        drop(keep());
        Ok(Ok(digest))
    }

    /// Has the engine run a shell in it: a broken image fails in `prepare`, in words about the image.
    fn try_it(&self, path: &Path) -> Result<(), Failure> {
        let Some(given) = &self.description.given else { return Ok(()) };
        let mut values = self.values.clone();
        values.insert("reference", path.display().to_string());
        let name = self.name.full();
        let title = &self.description.title;
        let output = match self.engine(&given.command, &values, &[], TRIAL)? {
            Called::Ended(output) if output.status.is_some_and(|status| status.success()) => return Ok(()),
            Called::Ended(output) => output,
            Called::Cancelled => return Err(Failure::Cancelled),
            Called::Late => {
                let text = format!(
                    "cannot use the image {name}: {title} did not start a shell in it within {} s; its file system or the host may be \
                     overloaded: run the job again",
                    TRIAL.as_secs()
                );
                return Err(Failure::System(StageError::sentence(&text)));
            }
        };
        let all = format!("{}\n{}", output.out, output.err);
        let words = said(&output);
        Err(match any_matches(&given.unusable, &all) {
            true => Failure::Job(StageError::sentence(&format!(
                "cannot use the image {name}: it is broken, not for this kind of machine, of a kind that {title} does not have here, or \
                 without /bin/sh ({words}); name another in .gitlab-ci.yml, or make it anew"
            ))),
            false => Failure::System(StageError::sentence(&format!(
                "{title} cannot start a shell in the image {name} ({words}); if the message does not help, report it to the administrators"
            ))),
        })
    }
}

/// The path without links, and whether each may be followed.
fn real(path: &Path) -> Result<PathBuf, String> {
    let parts = |path: &Path| -> Vec<OsString> {
        let named =
            path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
        named.map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut rest: VecDeque<OsString> = parts(path).into();
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        let failed = |e: io::Error| format!("{}: {e}", next.display());
        let meta = next.symlink_metadata().map_err(failed)?;
        if !meta.is_symlink() {
            real = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(format!("{}: too many symbolic links", path.display()));
        }
        let target = fs::read_link(&next).map_err(failed)?;
        let is_beside =
            rest.is_empty() && matches!(target.components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
        if meta.uid() != 0 && !is_beside {
            return Err(format!(
                "{} is a symbolic link of uid {} that leads elsewhere, and only root's are followed; name the path that it leads to",
                next.display(),
                meta.uid()
            ));
        }
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        for part in parts(&target).into_iter().rev() {
            rest.push_front(part);
        }
    }
    Ok(real)
}

/// Whether what is there can be an image; `path` has its name.
fn check(path: &Path, meta: &Metadata, images: &Images) -> Result<(), String> {
    if !meta.is_dir() && !meta.is_file() {
        return Err("it is neither a file nor a directory".to_owned());
    }
    if meta.is_dir() && !images.directories {
        return Err("it is a directory".to_owned());
    }
    let text = path.to_string_lossy();
    if meta.is_file() && !images.extensions.iter().any(|end| text.ends_with(end.as_str())) {
        return Err(format!("it is a file that does not end in {}", images.extensions.join(" or ")));
    }
    if meta.mode() & 0o002 != 0 {
        return Err(format!(
            "every account of this host can change it (mode {:04o}), and it would run as you; remove that permission (chmod o-w)",
            meta.mode() & 0o7777
        ));
    }
    Ok(())
}

/// What an image is known by from `prepare` on. Of a directory it is the directory alone: what is in it may be a file system's
/// affair, and an engine makes places for binds in it.
fn state(meta: &Metadata) -> String {
    match meta.is_dir() {
        true => format!("directory {}", meta.ino()),
        // Not the device: a network file system gets another number each time that it is mounted.
        false => format!("file {} {} {}.{}", meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()),
    }
}

/// Refuses an image that has become another one since `prepare`.
///
/// # Errors
/// In words for the user.
pub(crate) fn unchanged(image: Option<&Resolved>) -> Result<(), StageError> {
    let Some((image, known)) = image.and_then(|image| Some((image, image.state.as_ref()?))) else {
        return Ok(());
    };
    let help = "run the job again, when nobody changes the image";
    let path = Path::new(&image.for_create);
    match path.symlink_metadata() {
        Ok(meta) if state(&meta) == *known => Ok(()),
        Ok(_) => Err(StageError::at(
            "cannot go on with the image",
            path,
            "it has been changed or replaced since the job's prepare stage",
            help,
        )),
        Err(e) => Err(StageError::at("cannot go on with the image", path, e, help)),
    }
}

#[cfg(test)]
mod tests {
    use super::{check, real, state, unchanged};
    use crate::description::Description;
    use crate::resolved::Resolved;
    use nunbird_handover::Engine;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};
    use std::path::Path;

    #[test]
    fn links_lead_to_a_name_beside_them_or_are_roots() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path().canonicalize().expect("a path");
        let at = |name: &str| root.join(name);
        fs::create_dir(at("images")).expect("a directory");
        fs::create_dir(at("out")).expect("a directory");
        for file in ["images/a-1.sif", "out/b.sif"] {
            fs::write(at(file), "x").expect("a file");
        }
        symlink("a-1.sif", at("images/a.sif")).expect("a link");
        symlink("a.sif", at("images/latest.sif")).expect("a link");
        symlink("../out/b.sif", at("images/b.sif")).expect("a link");
        symlink(at("out"), at("images/dir")).expect("a link");
        symlink("loop.sif", at("images/loop.sif")).expect("a link");
        assert_eq!(real(&at("images/latest.sif")), Ok(at("images/a-1.sif")));
        assert!(real(&at("images/loop.sif")).unwrap_err().contains("too many"));
        assert!(real(&at("images/none.sif")).unwrap_err().contains("No such file"));
        if nix::unistd::geteuid().is_root() {
            assert_eq!(real(&at("images/b.sif")), Ok(at("out/b.sif")), "a link of root's");
            assert_eq!(real(&at("images/dir/b.sif")), Ok(at("out/b.sif")));
            for link in ["images/b.sif", "images/dir", "images/a.sif"] {
                lchown(at(link), Some(65533), None).expect("an owner");
            }
        }
        for path in ["images/b.sif", "images/dir/b.sif", "images/dir"] {
            assert!(real(&at(path)).unwrap_err().contains("leads elsewhere"), "{path}");
        }
        assert_eq!(real(&at("images/latest.sif")), Ok(at("images/a-1.sif")));
    }

    #[test]
    fn what_is_no_image_or_everybodys_to_change_is_refused() {
        let images =
            Description::of(&Engine::Named("apptainer".to_owned())).expect("a built-in description").images;
        let scratch = tempfile::tempdir().expect("a directory");
        let checked = |name: &str, mode: u32| {
            let path = scratch.path().join(name);
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
            check(&path, &path.symlink_metadata().expect("a file"), &images)
        };
        for name in ["a.sif", "a.txt"] {
            fs::write(scratch.path().join(name), "").expect("a file");
        }
        fs::create_dir(scratch.path().join("tree")).expect("a directory");
        assert_eq!((checked("a.sif", 0o644), checked("tree", 0o755)), (Ok(()), Ok(())));
        assert!(checked("a.sif", 0o666).unwrap_err().contains("chmod o-w"));
        assert!(checked("tree", 0o1777).unwrap_err().contains("chmod o-w"));
        assert!(checked("a.txt", 0o644).unwrap_err().contains("does not end in .sif"));
        let null = Path::new("/dev/null");
        let special = check(Path::new("/dev/null.sif"), &null.metadata().expect("a device"), &images);
        assert!(special.unwrap_err().contains("neither a file nor a directory"));
    }

    #[test]
    fn an_image_that_is_written_or_replaced_is_noticed() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("a.sif");
        fs::write(&path, "one").expect("a file");
        let image = Resolved {
            name: "a".to_owned(),
            for_create: path.display().to_string(),
            digest: None,
            platform: None,
            user: None,
            entrypoint: Vec::new(),
            ports: Vec::new(),
            state: Some(state(&path.metadata().expect("a file"))),
        };
        unchanged(Some(&image)).expect("the same");
        unchanged(Some(&Resolved { state: None, for_create: "/none".to_owned(), ..image.clone() }))
            .expect("another kind of image");
        unchanged(None).expect("no image");
        let new = scratch.path().join("new");
        fs::write(&new, "two").expect("a file");
        let times = fs::FileTimes::new()
            .set_modified(path.metadata().and_then(|meta| meta.modified()).expect("a time"));
        fs::File::options().write(true).open(&new).and_then(|file| file.set_times(times)).expect("times");
        fs::rename(&new, &path).expect("replaced");
        assert!(unchanged(Some(&image)).unwrap_err().to_string().contains("changed or replaced"));
        fs::remove_file(&path).expect("removed");
        assert!(unchanged(Some(&image)).unwrap_err().to_string().contains("No such file"));
    }
}
