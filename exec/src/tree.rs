//! The checked-out project, as git(1) knows it: its files, what has changed in them, and what it says about the commit.

use crate::failure::Failure;
use nunbird_handover::Untrusted;
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// The work tree of a git repository.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    files: OnceCell<Vec<String>>,
}

impl Tree {
    /// The work tree that a directory is in.
    ///
    /// # Errors
    /// When it is in none, or git is missing.
    pub fn around(directory: &Path) -> Result<Tree, Failure> {
        let output = git(directory, ["rev-parse", "--show-toplevel"]).map_err(|e| {
            Failure::new(format!("this directory is not in a work tree of git: {}", Untrusted(&e)))
                .help("change into the checked-out project")
        })?;
        Ok(Tree { root: PathBuf::from(output), files: OnceCell::new() })
    }

    /// Its top.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What a command of git's prints, without the line's end; none when it fails or prints nothing.
    pub fn ask<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Option<String> {
        git(&self.root, words).ok().filter(|text| !text.is_empty())
    }

    /// The paths of its files, with new ones and without ignored ones.
    ///
    /// # Errors
    /// As git.
    pub fn files(&self) -> Result<&[String], Failure> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let files = self.paths()?.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        Ok(self.files.get_or_init(|| files))
    }

    /// The same, of names in any encoding.
    ///
    /// # Errors
    /// As git.
    pub fn paths(&self) -> Result<Vec<PathBuf>, Failure> {
        let words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output = run(&self.root, words).map_err(|e| {
            Failure::new(format!("cannot list the project's files: {}", Untrusted(&e)))
                .help("try `git status`")
        })?;
        let names = output.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
    }

    /// The paths that differ from a commit, in the work tree and in commits since then; none when git does not know it.
    pub fn changed_since(&self, commit: &str) -> Option<Vec<String>> {
        let base = self.ask(["merge-base", "--end-of-options", commit, "HEAD"])?;
        let changed = git(&self.root, ["diff", "--name-only", "-z", "--no-renames", &base]).ok()?;
        let new = git(&self.root, ["ls-files", "-z", "--others", "--exclude-standard"]).ok()?;
        let names = changed.split('\0').chain(new.split('\0'));
        Some(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// The beginning of a file of the project.
    ///
    /// # Errors
    /// As open(2) and read(2), and for a path that leads out of the project.
    pub fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        let plain =
            Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        // A link may lead anywhere; what it leads to must be of the project as well.
        let path = self.root.join(name).canonicalize()?;
        if !plain || !path.starts_with(self.root.canonicalize()?) {
            return Err(io::Error::other("it is not in the project"));
        }
        // A named pipe would block.
        if !path.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn git<S: AsRef<OsStr>>(directory: &Path, words: impl IntoIterator<Item = S>) -> Result<String, String> {
    let output = run(directory, words)?;
    let text = String::from_utf8_lossy(&output);
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

fn run<S: AsRef<OsStr>>(directory: &Path, words: impl IntoIterator<Item = S>) -> Result<Vec<u8>, String> {
    let output =
        Command::new("git").arg("-C").arg(directory).args(words).output().map_err(|e| format!("git: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.lines().next().unwrap_or("git failed").to_owned());
    }
    Ok(output.stdout)
}
