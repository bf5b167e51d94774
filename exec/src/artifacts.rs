//! `artifacts:` of a job, copied into a directory of the user's.
//!
//! What is copied is the job's work and so anybody's: a link is copied as a link and never followed, and none that lies in the
//! directory from an earlier run is written through.

use crate::failure::Failure;
use crate::glob::Glob;
use crate::job::Artifacts;
use nunbird_handover::Untrusted;
use nunbird_stage::error::shown;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

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
/// When a file cannot be read or written.
pub(crate) fn copy(artifacts: &Artifacts, project: &Path, to: &Path) -> Result<Copied, Failure> {
    let failed = |path: &Path, e: &io::Error| {
        Failure::new(format!("cannot copy artifacts: {}: {e}", shown(path)))
            .help("check the directory of --artifacts")
    };
    let mut all = Vec::new();
    walk(project, Path::new(""), &mut all).map_err(|e| failed(project, &e))?;
    let excluded: Vec<Glob> =
        artifacts.exclude.iter().filter_map(|one| Glob::of_tree(relative(one, project))).collect();
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
    let unknown = if artifacts.untracked { untracked(project) } else { BTreeSet::new() };
    chosen.extend(all.iter().map(PathBuf::as_path).filter(|path| unknown.contains(*path)));
    for path in chosen {
        if excluded.iter().any(|glob| glob.matches(&path.to_string_lossy())) {
            continue;
        }
        one(&project.join(path), to, path).map_err(|e| failed(path, &e))?;
        copied.files += 1;
    }
    Ok(copied)
}

/// A pattern below the project's directory, which may begin with that directory.
fn relative<'p>(pattern: &'p str, project: &Path) -> &'p str {
    let inside = project.to_str().and_then(|project| pattern.strip_prefix(project));
    inside.map_or(pattern, |rest| rest.trim_start_matches('/')).trim_start_matches("./")
}

/// Files and links below a directory, without git's own.
fn walk(project: &Path, below: &Path, all: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(project.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if path != Path::new(".git") {
                walk(project, &path, all)?;
            }
        } else if kind.is_file() || kind.is_symlink() {
            all.push(path);
        }
    }
    Ok(())
}

fn untracked(project: &Path) -> BTreeSet<PathBuf> {
    let output = Command::new("git").arg("-C").arg(project).args(["ls-files", "-z", "--others"]).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).split('\0').map(PathBuf::from).collect()
}

fn one(from: &Path, to: &Path, path: &Path) -> io::Result<()> {
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
    match fs::symlink_metadata(&place) {
        Ok(meta) if meta.is_dir() => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(_) => fs::remove_file(&place)?,
        Err(_) => {}
    }
    if fs::symlink_metadata(from)?.is_symlink() {
        return symlink(fs::read_link(from)?, &place);
    }
    fs::copy(from, &place).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{Artifacts, copy};
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_matches_is_copied_and_links_are_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (project, to) = (directory.path().join("p"), directory.path().join("to"));
        for (path, text) in
            [("out/a.o", "a"), ("out/d/b.o", "b"), ("out/d/secret", "s"), ("c.txt", "c"), (".git/x", "x")]
        {
            fs::create_dir_all(project.join(path).parent().expect("a parent")).expect("a directory");
            fs::write(project.join(path), text).expect("a file");
        }
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
        let copied = copy(&artifacts, &project, &to).expect("copied");
        assert_eq!((copied.files, copied.unmatched), (4, vec!["none/*".to_owned(), "../outside".to_owned()]));
        assert_eq!(fs::read_to_string(to.join("out/d/b.o")).expect("a file"), "b");
        assert!(fs::symlink_metadata(to.join("out/link")).expect("a link").is_symlink());
        assert!(!to.join("out/d/secret").exists() && !to.join(".git").exists());
        assert!(!directory.path().join("a.o").exists(), "written through a link");
        assert_eq!(fs::read_to_string(directory.path().join("outside")).expect("a file"), "old");
        let everything = Artifacts { paths: vec![project.display().to_string()], ..Artifacts::default() };
        assert_eq!(copy(&everything, &project, &directory.path().join("all")).expect("copied").files, 5);
    }
}
