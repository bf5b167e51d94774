//! `artifacts:` of a job, copied into a directory of the user's.
//!
//! What is copied is the job's work and so anybody's, and processes of the job may still change it. Each directory from the build directory
//! down is opened by its descriptor and never through a link, which could lead to the user's other files. A link to a file is copied as a link.
//! None that lies in the user's directory from an earlier run is written through. No git(1) runs in the copy: a job can write commands
//! for it into `.git/config`.

use crate::failure::Failure;
use crate::glob::Glob;
use crate::job::Artifacts;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nunbird_handover::Untrusted;
use nunbird_stage::directory::is;
use nunbird_stage::error::shown;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Deeper directories are refused: each level costs a descriptor.
const DEEPEST: usize = 256;

/// The names in the project's directory before the job, which are no artifacts of `untracked`.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Files and links.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Submodules, with everything below.
    pub(crate) directories: BTreeSet<PathBuf>,
}

impl Known {
    fn has(&self, path: &Path) -> bool {
        self.files.contains(path) || path.ancestors().any(|above| self.directories.contains(above))
    }
}

/// Where the job has worked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The build directory, opened before the job began.
    pub(crate) builds: BorrowedFd<'a>,
    /// Its path, for messages.
    pub(crate) builds_dir: &'a Path,
    /// The project's directory below it.
    pub(crate) project_dir: &'a Path,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Files and links.
    pub(crate) files: usize,
    /// Patterns that matched nothing.
    pub(crate) unmatched: Vec<String>,
}

/// Copies what the job made.
///
/// # Errors
/// When a file cannot be read or written, or the job has put something else in the place of a directory.
pub(crate) fn copy(
    artifacts: &Artifacts,
    origin: Origin<'_>,
    known: &Known,
    to: &Path,
) -> Result<Copied, Failure> {
    let Origin { builds, builds_dir, project_dir: project } = origin;
    let below = project.strip_prefix(builds_dir).unwrap_or(Path::new(""));
    let from = descend(builds, builds_dir, below)?;
    let mut all = Vec::new();
    walk(from.as_fd(), project, Path::new(""), &mut all)?;
    let exclude = |one: &String| {
        Glob::of_tree(relative(one, project)).ok_or_else(|| {
            Failure::new(format!("cannot copy artifacts: `{}` of `exclude:` is no pattern", Untrusted(one)))
                .help("close its brackets and braces: without it, files would be copied that shall not be")
        })
    };
    let excluded: Vec<Glob> = artifacts.exclude.iter().map(exclude).collect::<Result<_, _>>()?;
    let mut chosen: BTreeSet<&Path> = BTreeSet::new();
    let mut copied = Copied::default();
    for pattern in &artifacts.paths {
        let plain = relative(pattern, project).trim_end_matches('/');
        let glob = if plain.is_empty() || plain == "." { Glob::new("**") } else { Glob::of_tree(plain) };
        // A path that leads out matches nothing, because all names here are below the project.
        let found: Vec<&PathBuf> = all
            .iter()
            .filter(|path| glob.as_ref().is_some_and(|glob| glob.matches(&path.to_string_lossy())))
            .collect();
        if found.is_empty() {
            copied.unmatched.push(Untrusted(pattern).to_string());
        }
        chosen.extend(found.into_iter().map(PathBuf::as_path));
    }
    if artifacts.untracked {
        chosen.extend(all.iter().map(PathBuf::as_path).filter(|path| !known.has(path)));
    }
    for path in chosen {
        if excluded.iter().any(|glob| glob.matches(&path.to_string_lossy())) {
            continue;
        }
        let parent = descend(from.as_fd(), project, path.parent().unwrap_or(Path::new("")))?;
        one(parent.as_fd(), to, path).map_err(|e| failed(&project.join(path), &e))?;
        copied.files += 1;
    }
    Ok(copied)
}

fn failed(path: &Path, e: &io::Error) -> Failure {
    Failure::new(format!("cannot copy artifacts: {}: {e}", shown(path)))
        .help("check the directory of --artifacts")
}

/// Opens a directory in another one, through no link; `path` is for messages.
fn enter(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(|e| match e {
        Errno::ELOOP | Errno::ENOTDIR => Failure::new(format!(
            "refusing to copy artifacts: the job has replaced the directory {} by a symbolic link or a file",
            shown(path)
        ))
        .help(
            "write artifacts into the project's directory itself: a link could lead to other files of yours",
        ),
        e => failed(path, &e.into()),
    })
}

/// Opens a directory below another one, part by part.
fn descend(top: BorrowedFd<'_>, path: &Path, below: &Path) -> Result<OwnedFd, Failure> {
    let mut directory = top.try_clone_to_owned().map_err(|e| failed(path, &e))?;
    let mut path = path.to_owned();
    for part in below.components() {
        path.push(part);
        directory = enter(directory.as_fd(), part.as_os_str(), &path)?;
    }
    Ok(directory)
}

/// A pattern below the project's directory, which may begin with that directory.
fn relative<'p>(pattern: &'p str, project: &Path) -> &'p str {
    let inside = project.to_str().and_then(|project| pattern.strip_prefix(project));
    inside.map_or(pattern, |rest| rest.trim_start_matches('/')).trim_start_matches("./")
}

/// Files and links below a directory of the project, without repositories of git's.
fn walk(
    directory: BorrowedFd<'_>,
    project: &Path,
    below: &Path,
    all: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    let here = project.join(below);
    if below.components().count() > DEEPEST {
        let what =
            format!("cannot copy artifacts: directories are more than {DEEPEST} deep in {}", shown(project));
        return Err(Failure::new(what).help("pack them into one file in the script, such as by tar"));
    }
    for name in names(directory).map_err(|e| failed(&here, &e.into()))? {
        let path = below.join(&name);
        let stat = match fstatat(directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // A process of the job has removed it since.
            Err(Errno::ENOENT) => continue,
            Err(e) => return Err(failed(&project.join(&path), &e.into())),
        };
        // git(1) takes a directory, file or link of this name for a repository, whose configuration names commands. Some file systems know no case.
        if name.eq_ignore_ascii_case(".git") {
            continue;
        }
        if is(&stat, SFlag::S_IFDIR) {
            let inner = enter(directory, &name, &project.join(&path))?;
            walk(inner.as_fd(), project, &path, all)?;
        } else if is(&stat, SFlag::S_IFREG) || is(&stat, SFlag::S_IFLNK) {
            all.push(path);
        }
    }
    Ok(())
}

fn names(directory: BorrowedFd<'_>) -> nix::Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(directory, ".", flags, Mode::empty())?.iter() {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Copies the file or link of this path; `from` is the directory that it is in.
fn one(from: BorrowedFd<'_>, to: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut place = to.to_owned();
    let parent = path.parent().unwrap_or(Path::new(""));
    for part in parent.components() {
        place.push(part);
        match fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                fs::remove_file(&place)?;
                fs::create_dir(&place)?;
            }
            Err(_) => fs::create_dir(&place)?,
        }
    }
    let place = to.join(path);
    if fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_dir()) {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    // What lies there goes only once the new file is whole.
    let beside = place.with_file_name(format!(".nunbird-exec-{}", std::process::id()));
    let copied = fetch(from, path, &beside).and_then(|()| fs::rename(&beside, &place));
    copied.inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Makes `place`, which is new, from the file or link of this path.
fn fetch(from: BorrowedFd<'_>, path: &Path, place: &Path) -> io::Result<()> {
    // Left by a run that was killed.
    drop(fs::remove_file(place));
    let name = path.file_name().unwrap_or_default();
    // Such as a named pipe in its place: the open would wait for a writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut file = match openat(from, name, flags, Mode::empty()) {
        Err(Errno::ELOOP) => return symlink(readlinkat(from, name)?, place),
        opened => File::from(opened?),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("the job has replaced it by something that is no file"));
    }
    let mode = meta.permissions().mode() & 0o777;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(mode).open(place)?;
    io::copy(&mut file, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::{Artifacts, Copied, Known, Origin, copy};
    use crate::failure::Failure;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    /// With the directory above the project's as the build directory.
    fn copied(artifacts: &Artifacts, project: &Path, known: &Known, to: &Path) -> Result<Copied, Failure> {
        let builds_dir = project.parent().expect("a parent");
        let builds = File::open(builds_dir).expect("a directory");
        copy(artifacts, Origin { builds: builds.as_fd(), builds_dir, project_dir: project }, known, to)
    }

    fn files(project: &Path, all: &[(&str, &str)]) {
        for (path, text) in all {
            fs::create_dir_all(project.join(path).parent().expect("a parent")).expect("a directory");
            fs::write(project.join(path), text).expect("a file");
        }
    }

    #[test]
    fn no_repository_of_git_is_copied_and_an_exclude_that_is_no_pattern_stops_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let (project, to) = (directory.path().join("p"), directory.path().join("to"));
        files(
            &project,
            &[(".git", "gitdir: evil"), ("evil/config", ""), ("sub/.GIT/config", ""), ("sub/a", "")],
        );
        symlink("../evil", project.join("sub/.git")).expect("a link");
        files(&to, &[("sub/.git", "the user's")]);
        let mut artifacts =
            Artifacts { paths: vec![".".to_owned()], untracked: true, ..Artifacts::default() };
        let done = copied(&artifacts, &project, &Known::default(), &to).expect("copied");
        assert_eq!(done.files, 2);
        assert_eq!(fs::read_to_string(to.join("sub/.git")).expect("a file"), "the user's");
        assert!(!to.join(".git").exists() && !to.join("sub/.GIT").exists());
        artifacts.exclude.push("key[z-a]".to_owned());
        assert!(copied(&artifacts, &project, &Known::default(), &to).is_err());
    }

    #[test]
    fn what_lies_there_stays_where_the_new_file_cannot_be_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let to = directory.path().join("to");
        files(directory.path(), &[("p/other", ""), ("to/kept", "before")]);
        let from = File::open(directory.path().join("p")).expect("a directory");
        assert!(super::one(from.as_fd(), &to, Path::new("kept")).is_err());
        assert_eq!(fs::read_to_string(to.join("kept")).expect("a file"), "before");
        assert_eq!(fs::read_dir(&to).expect("a directory").count(), 1);
    }

    #[test]
    fn what_matches_is_copied_and_links_are_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (project, to) = (directory.path().join("p"), directory.path().join("to"));
        files(
            &project,
            &[("out/a.o", "a"), ("out/d/b.o", "b"), ("out/d/secret", "s"), ("c.txt", "c"), (".git/x", "x")],
        );
        fs::write(directory.path().join("outside"), "old").expect("a file");
        symlink("/etc/passwd", project.join("out/link")).expect("a link");
        // From an earlier run: a link where a directory and a file are to be.
        fs::create_dir(&to).expect("a directory");
        symlink(directory.path(), to.join("out")).expect("a link");
        symlink(directory.path().join("outside"), to.join("c.txt")).expect("a link");
        let artifacts = Artifacts {
            paths: ["out/", "*.txt", "none/*", "../outside"].map(str::to_owned).to_vec(),
            exclude: vec!["out/**/secret".to_owned()],
            untracked: false,
            when: "always".to_owned(),
        };
        let done = copied(&artifacts, &project, &Known::default(), &to).expect("copied");
        assert_eq!((done.files, done.unmatched), (4, vec!["none/*".to_owned(), "../outside".to_owned()]));
        assert_eq!(fs::read_to_string(to.join("out/d/b.o")).expect("a file"), "b");
        assert!(fs::symlink_metadata(to.join("out/link")).expect("a link").is_symlink());
        assert!(!to.join("out/d/secret").exists() && !to.join(".git").exists());
        assert!(!directory.path().join("a.o").exists(), "written through a link");
        assert_eq!(fs::read_to_string(directory.path().join("outside")).expect("a file"), "old");
        let everything = Artifacts { paths: vec![project.display().to_string()], ..Artifacts::default() };
        let to = directory.path().join("all");
        assert_eq!(copied(&everything, &project, &Known::default(), &to).expect("copied").files, 5);
    }

    #[test]
    fn untracked_files_are_those_that_were_not_there_before_and_git_does_not_run() {
        let directory = tempfile::tempdir().expect("a directory");
        let (project, to) = (directory.path().join("p"), directory.path().join("to"));
        fs::create_dir(&project).expect("a directory");
        let git = std::process::Command::new("git").args(["init", "-q"]).arg(&project).status();
        assert!(git.expect("git runs").success());
        files(
            &project,
            &[
                ("a.c", ""),
                ("sub/s.c", ""),
                ("sub/s.o", ""),
                ("submarine", ""),
                ("a.o", "o"),
                ("log/x", ""),
                ("log/y", ""),
            ],
        );
        // What git would run for `ls-files`.
        let ran = directory.path().join("ran");
        let hook = format!("[core]\n\tfsmonitor = touch {}\n", ran.display());
        fs::write(project.join(".git/config"), hook).expect("a file");
        let artifacts = Artifacts {
            exclude: vec!["log/y".to_owned()],
            untracked: true,
            when: "always".to_owned(),
            ..Artifacts::default()
        };
        let known = Known {
            files: ["a.c", "gone"].map(PathBuf::from).into(),
            directories: ["sub"].map(PathBuf::from).into(),
        };
        assert_eq!(copied(&artifacts, &project, &known, &to).expect("copied").files, 3);
        assert!(["submarine", "a.o", "log/x"].iter().all(|path| to.join(path).exists()));
        assert!(!ran.exists(), "a command of the job's has run");
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_above_the_files_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let (builds_dir, outside) = (directory.path().join("0"), directory.path().join("home"));
        files(&outside, &[("key", "the user's"), ("project/key", "the user's")]);
        fs::create_dir(&builds_dir).expect("a directory");
        let builds = File::open(&builds_dir).expect("a directory");
        let everything = Artifacts { paths: vec![".".to_owned()], ..Artifacts::default() };
        let to = directory.path().join("to");
        let refused = |project_dir: &Path| {
            let origin = Origin { builds: builds.as_fd(), builds_dir: &builds_dir, project_dir };
            let failure = copy(&everything, origin, &Known::default(), &to).expect_err("refused").to_string();
            assert!(
                failure.contains("refusing to copy artifacts") && failure.contains("symbolic link"),
                "{failure}"
            );
            assert!(!to.exists());
        };
        // A parent of the project's directory, and that directory.
        symlink(&outside, builds_dir.join("group")).expect("a link");
        refused(&builds_dir.join("group/project"));
        symlink(&outside, builds_dir.join("project")).expect("a link");
        refused(&builds_dir.join("project"));
        // The build directory: the files are those of the one that was there.
        fs::rename(&builds_dir, directory.path().join("moved")).expect("moved");
        symlink(directory.path(), &builds_dir).expect("a link");
        let origin =
            Origin { builds: builds.as_fd(), builds_dir: &builds_dir, project_dir: &builds_dir.join("home") };
        copy(&everything, origin, &Known::default(), &to).expect_err("no such directory");
    }
}
