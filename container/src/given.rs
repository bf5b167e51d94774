//! Images that a job names by a path: a file or a directory of the host, which the account opens.
//!
//! The site's patterns are compared with the path as it is written. So that this path says what runs,
//! a link counts only if root has made it, or if it leads to a name beside it, as `latest.sif` does.
//! Names on the way are other accounts' text: they get into a shell script and into the job log, so
//! they have only characters that `image:` can have.

use crate::call::Called;
use crate::copies::is_older;
use crate::description::Images;
use crate::names::{NOT_PLAIN, is_plain};
use crate::outer::PATH;
use crate::pull::{Puller, said};
use crate::reading::{LATE, Sum, known, late, reading_time, sum};
use crate::resolved::{Resolved, is_foreign};
use crate::trouble::Failure;
use nunbird_handover::Untrusted;
use nunbird_stage::template::any_matches;
use nunbird_stage::{StageError, error::shown, small_files};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The most links on the way, as in the kernel.
const MOST_LINKS: usize = 40;
/// In the cache: the digests of files, so that a large one is read once.
const DIGESTS: &str = "digests";
/// How long one is kept.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long an engine may take to run a shell in the image that does nothing.
const TRIAL: Duration = Duration::from_secs(60);

impl Puller<'_> {
    /// The file or directory that the job names.
    pub(crate) fn given(&self, path: &Path) -> Result<Resolved, Failure> {
        let refused = |why: &dyn std::fmt::Display| {
            let help = "correct `image:` in .gitlab-ci.yml, or have the owner of the path change it";
            Failure::Job(StageError::at("cannot use the image", path, why, help))
        };
        let account = self.handover.account.uid;
        let real = real(path, account).map_err(|why| refused(&why))?;
        let (file, meta) = opened(path, &real, &self.description.images).map_err(|why| refused(&why))?;
        let name = self.name.full();
        if real != path {
            (self.say)(&format!("the image {name} is {}", shown(&real)));
        }
        if ![0, account].contains(&meta.uid()) {
            (self.say)(&format!("the image {name} belongs to uid {}, who can change it", meta.uid()));
        }
        let digest = match &file {
            None => {
                (self.say)(&format!("the image {name} is a directory, which has no digest"));
                None
            }
            Some(file) => match self.digest_of_file(file, &meta)? {
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
    fn digest_of_file(&self, file: &File, meta: &Metadata) -> Result<Result<String, String>, Failure> {
        let directory = self.place.join(DIGESTS);
        let kept = directory.join(self.name.file_name(None));
        let state = state(meta);
        if let Some(known) = known(&kept, &state) {
            return Ok(known);
        }
        let path = self.container.engine_environment.get("PATH").map_or(PATH, String::as_str);
        let time = reading_time(self.container.pull_timeout);
        let (note, digest) = match sum(file, path, time, Some(self.signals)) {
            Ok(Sum::Said(digest)) => match file.metadata() {
                Ok(after) if self::state(&after) == state => (digest.clone(), Ok(digest)),
                _ => return Ok(Err("it has been changed while it was read".to_owned())),
            },
            Ok(Sum::Late) => (LATE.to_owned(), Err(late(time))),
            Ok(Sum::Cancelled) => return Err(Failure::Cancelled),
            Ok(Sum::Failed(why)) => return Ok(Err(why)),
            Err(e) => return Ok(Err(format!("sha256sum: {e}"))),
        };
        // Without the note, the next job reads the file once more.
        let keep = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            for entry in fs::read_dir(&directory)?.flatten().filter(|entry| is_older(&entry.path(), KEPT)) {
                fs::remove_file(entry.path())?;
            }
            small_files::replace(&kept, &[format!("{state} {note}\n").as_bytes()])
        };
        drop(keep());
        Ok(digest)
    }

    /// Has the engine run a shell in it: a broken image fails in `prepare`, in words about the image.
    fn try_it(&self, path: &Path) -> Result<(), Failure> {
        let title = &self.description.title;
        let unusable = format!(
            "it is broken, not for this kind of machine, of a kind that {title} does not have here, or without /bin/sh"
        );
        self.try_shell(path, &unusable, "name another in .gitlab-ci.yml, or make it anew")
    }

    /// The same for a pulled image whose platform is not this host's, which may run its programs all the same (binfmt_misc). Where the engine does not
    /// say the platform, it is the one that the job asks for.
    pub(crate) fn try_foreign(&self, image: &Resolved) -> Result<(), Failure> {
        let asked = self.image.platform.as_deref();
        let asked =
            asked.filter(|asked| image.platform.is_none() && asked.contains('/') && is_foreign(asked));
        let Some(platform) = image.foreign().or(asked) else { return Ok(()) };
        let unusable = format!(
            "it is for {}, another kind of machine than this host, which does not run its programs",
            Untrusted(platform)
        );
        self.try_shell(
            Path::new(&image.for_create),
            &unusable,
            "use an image for this host, or correct `docker: platform:`",
        )
    }

    fn try_shell(&self, path: &Path, unusable: &str, help: &str) -> Result<(), Failure> {
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
                "cannot use the image {name}: {unusable} ({words}); {help}"
            ))),
            false => Failure::System(StageError::sentence(&format!(
                "{title} cannot start a shell in the image {name} ({words}); if the message does not help, report it to the administrators"
            ))),
        })
    }
}

/// The image as it is used, and its metadata. A file is opened without a link in its place, and without waiting for the writer of a
/// FIFO; what is said of it is of this descriptor, whatever has its name meanwhile.
fn opened(path: &Path, real: &Path, images: &Images) -> Result<(Option<File>, Metadata), String> {
    let failed = |e: io::Error| e.to_string();
    let meta = real.symlink_metadata().map_err(failed)?;
    check(path, &meta, images)?;
    if meta.is_dir() {
        return Ok((None, meta));
    }
    let file = small_files::open_file(real).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    check(path, &meta, images)?;
    Ok((Some(file), meta))
}

/// The path without links, and whether each may be followed. In no directory on the way may others replace what the path leads to.
fn real(path: &Path, account: u32) -> Result<PathBuf, String> {
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
        let failed = |e: io::Error| format!("{}: {e}", shown(&next));
        if !is_plain(part.as_bytes()) {
            return Err(format!("the link leads to `{}`: {NOT_PLAIN}", shown(&next)));
        }
        let meta = next.symlink_metadata().map_err(failed)?;
        guarded(&real, &next, meta.uid(), account)?;
        if !meta.is_symlink() {
            real = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(format!("{}: too many symbolic links", shown(path)));
        }
        let target = fs::read_link(&next).map_err(failed)?;
        let is_beside =
            rest.is_empty() && matches!(target.components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
        if meta.uid() != 0 && !is_beside {
            return Err(format!(
                "{} is a symbolic link of uid {} that leads elsewhere, and only root's are followed; name the path that it leads to",
                shown(&next),
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

/// Whether other accounts than the owners can put something else in the place of `next`, which belongs to `owner`.
fn guarded(directory: &Path, next: &Path, owner: u32, account: u32) -> Result<(), String> {
    let meta = directory.symlink_metadata().map_err(|e| format!("{}: {e}", shown(directory)))?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o002 == 0 {
        return Ok(());
    }
    if mode & 0o1000 == 0 {
        return Err(format!(
            "every account of this host can put another one in its place, because {} has the mode {mode:04o}; have that permission \
             removed (chmod o-w)",
            shown(directory)
        ));
    }
    match [0, account].contains(&owner) {
        true => Ok(()),
        false => Err(format!(
            "{} belongs to uid {owner}, and in {} every account can make files (mode {mode:04o}), so that its name says nothing about \
             whose it is; name one below a directory that only its owner can write, or make a copy",
            shown(next),
            shown(directory)
        )),
    }
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
        // The second time is the kernel's own: the writer of a file can set the first one back.
        false => format!(
            "file {} {} {}.{} {}.{}",
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec()
        ),
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
    let help = "run the job again when the change of the image is complete";
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
    use super::{check, opened, state, unchanged};
    use crate::description::Description;
    use crate::description::Images;
    use crate::reading::{Sum, sum};
    use crate::resolved::Resolved;
    use nix::sys::stat::Mode;
    use nix::unistd::{geteuid, mkfifo};
    use nunbird_handover::Engine;
    use std::fs::{self, File, FileTimes, Permissions};
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    fn real(path: &Path) -> Result<PathBuf, String> {
        super::real(path, geteuid().as_raw())
    }

    fn apptainer() -> Images {
        Description::of(&Engine::Named("apptainer".to_owned())).expect("a built-in description").images
    }

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
    fn a_link_to_a_name_that_no_image_can_have_is_refused_and_shown_without_its_characters() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path().canonicalize().expect("a path");
        for (n, odd) in
            ["a\u{1}(id)\u{1}.sif", "a\u{1b}[31m.sif", "a b.sif", "ä.sif", "a\n.sif"].into_iter().enumerate()
        {
            fs::write(root.join(odd), "x").expect("a file");
            let link = root.join(format!("{n}.sif"));
            symlink(odd, &link).expect("a link");
            for why in [real(&link).unwrap_err(), real(&root.join(odd)).unwrap_err()] {
                assert!(why.contains("control characters") && !why.contains(char::is_control), "{why:?}");
            }
        }
        // Before it is looked for: no message has such a name either.
        symlink("none\u{1b}[31m.sif", root.join("none.sif")).expect("a link");
        let why = real(&root.join("none.sif")).unwrap_err();
        assert!(why.contains("control characters") && !why.contains(char::is_control), "{why:?}");
    }

    #[test]
    fn what_others_can_put_another_one_in_the_place_of_is_refused() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path().canonicalize().expect("a path");
        let (open, image) = (root.join("open"), root.join("open/tools/a.sif"));
        fs::create_dir_all(root.join("open/tools")).expect("directories");
        fs::write(&image, "x").expect("a file");
        symlink("open/tools", root.join("way")).expect("a link");
        let mode = |mode| fs::set_permissions(&open, Permissions::from_mode(mode)).expect("a mode");
        mode(0o775);
        assert_eq!(real(&image), Ok(image.clone()));
        mode(0o777);
        assert!(real(&image).unwrap_err().contains("open has the mode 0777; have that permission"));
        if geteuid().is_root() {
            assert!(real(&root.join("way/a.sif")).unwrap_err().contains("open has the mode 0777"));
        }
        mode(0o1777);
        assert_eq!(real(&image), Ok(image.clone()));
        if geteuid().is_root() {
            lchown(root.join("open/tools"), Some(65533), None).expect("an owner");
            assert!(real(&image).unwrap_err().contains("open/tools belongs to uid 65533"));
            assert_eq!(super::real(&image, 65533), Ok(image), "its owner's own job");
        }
    }

    #[test]
    fn what_is_no_image_or_everybodys_to_change_is_refused() {
        let images = apptainer();
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
        let image = Resolved { state: Some(state(&path.metadata().expect("a file"))), ..image };
        unchanged(Some(&image)).expect("the same");
        // In place, of the same size, with the time set back. The kernel's clock for files has ticks of 10 ms at most.
        std::thread::sleep(Duration::from_millis(50));
        let file = File::options().write(true).open(&path).expect("a file");
        let written = path.metadata().and_then(|meta| meta.modified()).expect("a time");
        std::io::Write::write_all(&mut &file, b"new").expect("written");
        file.set_times(FileTimes::new().set_modified(written)).expect("times");
        assert_eq!(path.metadata().and_then(|meta| meta.modified()).expect("a time"), written);
        assert!(unchanged(Some(&image)).unwrap_err().to_string().contains("changed or replaced"));
        fs::remove_file(&path).expect("removed");
        assert!(unchanged(Some(&image)).unwrap_err().to_string().contains("No such file"));
    }
    #[test]
    fn a_fifo_in_the_place_of_an_image_holds_nothing() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("a.sif");
        fs::write(&path, "abc").expect("a file");
        let (file, meta) = opened(&path, &path, &apptainer()).expect("an image");
        assert!(file.is_some() && meta.is_file());
        // Replaced between a look at it and its opening: it is not waited for.
        fs::remove_file(&path).expect("removed");
        mkfifo(&path, Mode::S_IRWXU).expect("a FIFO");
        let begin = Instant::now();
        assert!(opened(&path, &path, &apptainer()).is_err());
        assert!(nunbird_stage::small_files::open_file(&path).is_err());
        // What is read is what was opened.
        let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let said = sum(&file.expect("a file"), crate::outer::PATH, Duration::from_secs(60), None);
        assert_eq!(said.expect("sha256sum"), Sum::Said(digest.to_owned()));
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}
