//! What is kept below an account's directory: by which name the user means it, how old and how large it is.
//!
//! A directory that is named may be anybody's: a path in a job's log, for example. So nothing is read or run before each directory down to the
//! kept one, and the file that says what it is, have been opened without following a link and are the account's alone. A job writes to its
//! own build directory, and in a container to nothing else of this; what looks like a directory of Nunbird's inside of a build directory is refused,
//! and outside of `~/.nunbird` the user is asked before anything starts that a record names (`enter.rs`).

use crate::failure::{Failure, nearest};
use crate::place::{self, MOST, own};
use crate::record::Record;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nunbird_handover::{Handover, Untrusted};
use nunbird_stage::StageError;
use nunbird_stage::directory::Directory;
use nunbird_stage::error::shown;
use nunbird_unprivileged::process::short_host_name;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

/// Files whose sizes are added up; of a larger directory the list says at least how large it is.
const COUNTED: usize = 500_000;

/// A kept directory.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The directory that it is in.
    pub(crate) all: Rc<Directory>,
    /// Its name there: the number of a job by hand.
    pub(crate) name: String,
    is_by_hand: bool,
    /// What is known of it.
    pub(crate) known: Known,
}

/// What is known of a kept directory.
#[derive(Debug)]
pub(crate) enum Known {
    /// A job by hand.
    ByHand(Box<Record>),
    /// A job of GitLab's whose script has failed.
    OfGitLab(Box<nunbird_handover::Kept>),
    /// Nothing: an earlier version of Nunbird has left it, or its record cannot be used, for this reason.
    Nothing(String),
}

impl Kept {
    /// The job, as the list prints it.
    pub(crate) fn job(&self) -> String {
        match &self.known {
            Known::ByHand(record) => record.job.clone(),
            Known::OfGitLab(kept) => format!("{} of {}", kept.job.job_id, kept.job.identity.project_path),
            Known::Nothing(_) => "-".to_owned(),
        }
    }

    /// What the launcher was started with for what may still run: of a run, or of a prompt.
    pub(crate) fn left(&self) -> Option<&Handover> {
        match &self.known {
            Known::ByHand(record) => record.live.then_some(&record.handover),
            Known::OfGitLab(kept) => kept.prompt.as_ref(),
            Known::Nothing(_) => None,
        }
    }

    /// Refuses what may run on another host: a lock counts on one host, and nothing of another one can be ended here.
    ///
    /// # Errors
    /// For such a directory.
    pub(crate) fn refuse_live_elsewhere(&self) -> Result<(), Failure> {
        let host = self.all.path().file_name().unwrap_or_default().to_string_lossy();
        let may_run = self.left().is_some() || matches!(self.known, Known::Nothing(_));
        if host == short_host_name() || !may_run {
            return Ok(());
        }
        let (path, host) = (shown(&self.path()), Untrusted(&host).to_string());
        Err(Failure::new(format!("{path} is of the host {host}, where its job or a prompt may still run"))
            .help(format!("log in to {host}, and call this there")))
    }

    /// Its lock, which is no file of its own for a job of GitLab's; none where another process has it.
    pub(crate) fn lock(&self) -> io::Result<Option<File>> {
        if self.is_by_hand {
            return place::try_lock(&self.all, &self.name);
        }
        // NFS locks only files that may be written.
        let file = place::open_own(&self.all, &nunbird_handover::Kept::file_name(&self.name), OFlag::O_RDWR)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// Removes it, and what is known of it.
    ///
    /// # Errors
    /// As unlink(2) and rmdir(2).
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        place::clear(&self.all, &self.name).map_err(unusable)?;
        if !self.is_by_hand {
            for name in [nunbird_handover::Kept::file_name(&self.name), format!(".{}.job", self.name)] {
                self.all.unlink(OsStr::new(&name)).map_err(|e| {
                    let path = shown(&self.all.path().join(&name));
                    Failure::new(format!("cannot remove {path}: {}", e.desc())).help("remove it by hand")
                })?;
            }
        }
        Ok(())
    }

    /// Its path.
    pub(crate) fn path(&self) -> PathBuf {
        self.all.path().join(&self.name)
    }

    /// The directory itself, which must be the account's alone.
    ///
    /// # Errors
    /// For one that others may change, and for none.
    pub(crate) fn open(&self) -> Result<Directory, Failure> {
        let directory = child(&self.all, &self.name)?;
        directory.ok_or_else(|| Failure::new(format!("{} is no longer there", shown(&self.path()))))
    }

    /// Its size in bytes, and whether that is all of it; none for one that is not the account's alone.
    pub(crate) fn size(&self) -> Option<(u64, bool)> {
        let held = self.open().ok()?;
        let (mut bytes, mut left) = (0, COUNTED);
        let mut open = vec![Path::new("/proc/self/fd").join(held.as_fd().as_raw_fd().to_string())];
        while let Some(directory) = open.pop() {
            // What the job has shut is not counted.
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if left == 0 {
                    return Some((bytes, false));
                }
                left -= 1;
                let Ok(meta) = entry.path().symlink_metadata() else { continue };
                bytes += meta.blocks() * 512;
                if meta.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        Some((bytes, true))
    }
}

fn unusable(e: StageError) -> Failure {
    Failure::new(e.to_string())
}

/// A directory of this name, which belongs to the account and which nobody else may change.
fn child(parent: &Directory, name: &str) -> Result<Option<Directory>, Failure> {
    let Some(directory) = parent.child(OsStr::new(name)).map_err(unusable)? else { return Ok(None) };
    let path = shown(directory.path());
    let stat = fstat(&directory).map_err(|e| Failure::new(format!("cannot look at {path}: {}", e.desc())))?;
    if stat.st_mode & 0o022 != 0 {
        let what = format!(
            "refusing to use {path}: it has mode {:04o}, so others may change it",
            stat.st_mode & 0o7777
        );
        return Err(
            Failure::new(what).help(format!("look for what is not yours in it, then: chmod go-w {path}"))
        );
    }
    Ok(Some(directory))
}

/// The account's directory, if there is one.
fn top(data_dir: &Path) -> Result<Option<Directory>, Failure> {
    if data_dir.canonicalize().is_err() {
        return Ok(None);
    }
    refuse_below_jobs(data_dir)?;
    own(data_dir).map(Some)
}

/// Refuses a directory that a job could have made: one in a build directory, or below another one of Nunbird's. What is bound into
/// containers otherwise has no mark, so this alone is not enough to start what a record names: see [`is_usual`].
///
/// # Errors
/// For such a directory.
pub(crate) fn refuse_below_jobs(data_dir: &Path) -> Result<(), Failure> {
    let Ok(whole) = data_dir.canonicalize() else { return Ok(()) };
    let refused = |above: &Path| {
        Failure::new(format!(
            "refusing to use {}: it lies in {}, where jobs work",
            shown(data_dir),
            shown(above)
        ))
    };
    if let Some(above) = whole.ancestors().skip(1).find(|above| holds_jobs(above)) {
        return Err(refused(above).help(format!("name {} by --directory", shown(above))));
    }
    // `ROOT/HOST/.SLOT.job` beside `ROOT/HOST/SLOT`, wherever the user or the site has builds.
    let builds = whole.ancestors().find(|inside| {
        let name = inside.file_name().map(|name| format!(".{}.job", name.to_string_lossy()));
        name.is_some_and(|name| inside.with_file_name(name).symlink_metadata().is_ok())
    });
    match builds {
        Some(above) => {
            Err(refused(above).help("a job may have made it: leave out --directory, or name your own"))
        }
        None => Ok(()),
    }
}

/// Whether this is the account's `~/.nunbird`. No container has its records; of another directory nothing here knows what is bound
/// into containers.
pub(crate) fn is_usual(data_dir: &Path, home: &Path) -> bool {
    let usual = home.join(".nunbird");
    let same = || Some(data_dir.canonicalize().ok()? == usual.canonicalize().ok()?);
    data_dir == usual || same() == Some(true)
}

/// Writes behind the record of a job of GitLab's, whose lock `note` is, what a prompt in its files is started with; or that nothing is left of one.
///
/// # Errors
/// As write(2), and for a path that is not UTF-8.
pub(crate) fn note_prompt(mut note: &File, prompt: Option<&Handover>) -> io::Result<()> {
    let mut text = Vec::new();
    note.rewind()?;
    note.take(2 * nunbird_handover::Kept::LONGEST).read_to_end(&mut text)?;
    let length = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len()) as u64;
    note.set_len(length)?;
    let Some(prompt) = prompt else { return Ok(()) };
    let mut line = vec![b'\n'];
    line.extend(prompt.message().map_err(io::Error::other)?);
    note.write_all_at(&line, length).inspect_err(|_| {
        // Half a line is of no use; the next prompt removes it if this fails as well.
        let _stays = note.set_len(length);
    })
}

/// Whether jobs have worked below a directory: there is a lock of theirs.
fn holds_jobs(directory: &Path) -> bool {
    [("exec", "0.lock"), ("builds", ".lock")].iter().any(|(part, lock)| {
        let hosts = fs::read_dir(directory.join(part)).into_iter().flatten().flatten();
        hosts.into_iter().any(|host| host.path().join(lock).symlink_metadata().is_ok())
    })
}

/// All that is kept of jobs on this host, jobs by hand first.
///
/// # Errors
/// For a directory that is not the account's alone.
pub(crate) fn all(data_dir: &Path) -> Result<Vec<Kept>, Failure> {
    let Some(top) = top(data_dir)? else { return Ok(Vec::new()) };
    let host = short_host_name();
    let mut found = Vec::new();
    if let Some(exec) = host_directory(&top, "exec", &host)? {
        let numbers = (0..MOST).map(|number| number.to_string());
        for number in numbers.filter(|number| place::is_kept(&exec, number)) {
            found.push(by_hand(&exec, number));
        }
    }
    if let Some(builds) = host_directory(&top, "builds", &host)? {
        let mut names = nunbird_stage::trees::names(&builds).map_err(unusable)?;
        names.sort();
        for name in names.iter().filter_map(|name| name.to_str()) {
            found.extend(of_gitlab(&builds, name));
        }
    }
    Ok(found)
}

fn host_directory(top: &Directory, part: &str, host: &str) -> Result<Option<Rc<Directory>>, Failure> {
    let Some(part) = child(top, part)? else { return Ok(None) };
    Ok(child(&part, host)?.map(Rc::new))
}

fn by_hand(exec: &Rc<Directory>, number: String) -> Kept {
    let known = match place::read(exec, &number) {
        Ok(Some(record)) => Known::ByHand(Box::new(record)),
        Ok(None) => Known::Nothing("an earlier version of Nunbird has kept it".to_owned()),
        Err(failure) => Known::Nothing(failure.to_string()),
    };
    Kept { all: exec.clone(), name: number, is_by_hand: true, known }
}

/// The job of GitLab's that has left a directory of this name, if it is kept.
fn of_gitlab(builds: &Rc<Directory>, name: &str) -> Option<Kept> {
    let (file, longest) = (nunbird_handover::Kept::file_name(name), 2 * nunbird_handover::Kept::LONGEST);
    let known = match place::own_file(builds, &file, longest) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => Known::Nothing(format!("{file}: {e}")),
        Ok(text) => match nunbird_handover::Kept::from_bytes(&text) {
            Ok(kept) => Known::OfGitLab(Box::new(kept)),
            Err(e) => Known::Nothing(format!("{file}: {e}")),
        },
    };
    Some(Kept { all: builds.clone(), name: name.to_owned(), is_by_hand: false, known })
}

/// The one that the user means: by number, by job, by directory, or the only one.
///
/// # Errors
/// When there is none or more than one of it, with what there is.
pub(crate) fn find(data_dir: &Path, word: Option<&str>) -> Result<Kept, Failure> {
    if let Some(path) = word.filter(|word| word.contains('/')) {
        return by_path(data_dir, Path::new(path));
    }
    let mut all = all(data_dir)?;
    let Some(word) = word else {
        return match all.len() {
            1 => Ok(all.remove(0)),
            0 => Err(nothing(data_dir)),
            _ => Err(Failure::new(format!("{} directories are kept", all.len())).help(names(&all))),
        };
    };
    // A number counts over a job that is called so.
    if let Some(index) = all.iter().position(|one| one.name == word) {
        return Ok(all.remove(index));
    }
    let found: Vec<usize> = (0..all.len()).filter(|index| all[*index].job() == word).collect();
    match found.as_slice() {
        [one] => Ok(all.remove(*one)),
        [] if all.is_empty() => Err(nothing(data_dir)),
        [] => {
            let failure = Failure::new(format!("nothing is kept of a job `{}`", Untrusted(word)));
            let jobs: Vec<String> = all.iter().map(Kept::job).collect();
            let failure = match nearest(word, jobs.iter().map(String::as_str)) {
                Some(near) => failure.help(format!("the nearest name is `{}`", Untrusted(near))),
                None => failure,
            };
            Err(failure.help(names(&all)))
        }
        several => {
            let what = format!("{} directories are kept of the job `{}`", several.len(), Untrusted(word));
            let of_job: Vec<&Kept> = several.iter().map(|index| &all[*index]).collect();
            Err(Failure::new(what).help(names(of_job)))
        }
    }
}

fn nothing(data_dir: &Path) -> Failure {
    Failure::new(format!("nothing is kept below {} on this host", shown(data_dir)))
        .help("run a job with --keep; --directory DIR names another directory, as it did for the job")
}

fn names<'k>(all: impl IntoIterator<Item = &'k Kept>) -> String {
    let names: Vec<String> = all
        .into_iter()
        .map(|one| format!("{} (`{}`)", Untrusted(&one.name), Untrusted(&one.job())))
        .collect();
    format!("name one: {}; `nunbird exec enter --list` has more of them", names.join(", "))
}

/// The kept directory that a path leads to or into.
fn by_path(data_dir: &Path, path: &Path) -> Result<Kept, Failure> {
    let path =
        std::path::absolute(path).map_err(|e| Failure::new(format!("cannot use {}: {e}", shown(path))))?;
    let elsewhere = || {
        Failure::new(format!("{} is no directory that was kept below {}", shown(&path), shown(data_dir)))
            .help("--directory DIR names the directory that the job had, where that is not ~/.nunbird")
    };
    let Some(top) = top(data_dir)? else { return Err(nothing(data_dir)) };
    let whole = path.canonicalize().ok().zip(data_dir.canonicalize().ok());
    let whole = whole.and_then(|(path, top)| path.strip_prefix(top).ok().map(Path::to_owned));
    let way = path.strip_prefix(data_dir).ok().map(Path::to_owned).or(whole).ok_or_else(elsewhere)?;
    let parts: Option<Vec<&str>> = way
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    let Some([part, host, name, ..]) = parts.as_deref() else { return Err(elsewhere()) };
    match *part {
        "exec" => {
            let exec = host_directory(&top, part, host)?.ok_or_else(elsewhere)?;
            match name.parse::<usize>() {
                Ok(number) if number < MOST && place::is_kept(&exec, name) => {
                    Ok(by_hand(&exec, (*name).to_owned()))
                }
                _ => Err(elsewhere()),
            }
        }
        "builds" => {
            let builds = host_directory(&top, part, host)?.ok_or_else(elsewhere)?;
            of_gitlab(&builds, name).ok_or_else(|| {
                elsewhere().help("a job's directory is kept where its script has failed and NUNBIRD_KEEP is set, until the time in its log")
            })
        }
        _ => Err(elsewhere()),
    }
}

#[cfg(test)]
mod tests {
    use super::{all, by_path, find, is_usual, note_prompt, refuse_below_jobs};
    use crate::place::{open_own, write_down};
    use crate::record::Record;
    use nix::fcntl::OFlag;
    use nunbird_handover::Workspace;
    use nunbird_stage::directory::Directory;
    use nunbird_unprivileged::process::short_host_name;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    fn workspace(data: &Path, builds_dir: &Path) -> Workspace {
        Workspace {
            data_dir: data.to_owned(),
            builds_root: data.to_owned(),
            builds_dir: builds_dir.to_owned(),
            cache_dir: data.join("cache"),
            project_dir: builds_dir.join("p"),
        }
    }

    /// A directory that `--keep` has left, of a job of this name.
    fn kept_by_hand(data: &Path, host: &str, number: &str, job: &str, live: bool) -> PathBuf {
        let exec = data.join("exec").join(host);
        let builds = exec.join(number);
        fs::create_dir_all(&builds).expect("directories");
        fs::write(exec.join(format!("{number}.kept")), "").expect("a mark");
        let uid = nix::unistd::getuid().as_raw();
        let all = Directory::data_dir(&exec, uid).expect("a directory").expect("it is there");
        let mut record = Record::example(&workspace(data, &builds));
        (record.job, record.live) = (job.to_owned(), live);
        write_down(&all, number, &record).expect("a record");
        for directory in [data.join("exec").as_path(), &exec, &builds] {
            fs::set_permissions(directory, Permissions::from_mode(0o700)).expect("a mode");
        }
        builds
    }

    fn kept_of_gitlab(data: &Path, host: &str, name: &str) -> PathBuf {
        let all = data.join("builds").join(host);
        let builds = all.join(name);
        fs::create_dir_all(&builds).expect("directories");
        let job = Record::example(&workspace(data, &builds)).handover;
        let note = all.join(nunbird_handover::Kept::file_name(name));
        fs::write(&note, nunbird_handover::Kept::of(&job, 1, u64::MAX).to_bytes().expect("text"))
            .expect("a note");
        fs::set_permissions(&note, Permissions::from_mode(0o600)).expect("a mode");
        for directory in [data.join("builds").as_path(), &all, &builds] {
            fs::set_permissions(directory, Permissions::from_mode(0o700)).expect("a mode");
        }
        builds
    }

    #[test]
    fn what_a_job_has_made_in_its_build_directory_is_refused_wherever_that_is() {
        let scratch = tempfile::tempdir().expect("a directory");
        // As of CUSTOM_CI_BUILDS_DIR: no `builds` is above it.
        let slot = scratch.path().join("ci/node01/000");
        let made = slot.join("group/project/.nunbird");
        fs::create_dir_all(&made).expect("directories");
        kept_of_gitlab(&made, &short_host_name(), "gitlab-1");
        fs::set_permissions(&made, Permissions::from_mode(0o700)).expect("a mode");
        assert_eq!(all(&made).expect("nobody has worked there").len(), 1);
        refuse_below_jobs(&made).expect("nobody has worked there");
        fs::write(scratch.path().join("ci/node01/.000.job"), "{}").expect("a note");
        for refused in [refuse_below_jobs(&made).map(drop), all(&made).map(drop), find(&made, None).map(drop)]
        {
            let refused = refused.expect_err("a job works there").to_string();
            assert!(refused.contains("/ci/node01/000, where jobs work"), "{refused}");
        }
        refuse_below_jobs(&scratch.path().join("ci")).expect("it is above");
    }

    #[test]
    fn only_the_accounts_own_directory_is_the_usual_one() {
        let home = tempfile::tempdir().expect("a directory");
        let data = home.path().join(".nunbird");
        fs::create_dir(&data).expect("a directory");
        std::os::unix::fs::symlink(&data, home.path().join("link")).expect("a link");
        assert!(is_usual(&data, home.path()) && is_usual(&home.path().join("link"), home.path()));
        assert!(
            !is_usual(&data.join("builds/h/000/.nunbird"), home.path())
                && !is_usual(home.path(), home.path())
        );
    }

    #[test]
    fn a_number_counts_over_a_job_that_is_called_so() {
        let data = tempfile::tempdir().expect("a directory");
        let host = short_host_name();
        kept_by_hand(data.path(), &host, "0", "1", false);
        kept_by_hand(data.path(), &host, "1", "other", false);
        assert_eq!(find(data.path(), Some("1")).expect("the number").name, "1");
        assert_eq!(find(data.path(), Some("other")).expect("the job").name, "1");
        fs::remove_dir(data.path().join("exec").join(&host).join("1")).expect("removed");
        assert_eq!(find(data.path(), Some("1")).expect("the job").name, "0");
    }

    #[test]
    fn what_may_run_on_another_host_is_neither_entered_nor_removed_here() {
        let data = tempfile::tempdir().expect("a directory");
        for (host, live, refused) in [
            ("elsewhere", true, true),
            ("elsewhere", false, false),
            (short_host_name().as_str(), true, false),
        ] {
            let path = kept_by_hand(data.path(), host, "0", "job", live);
            let verdict = by_path(data.path(), &path).expect("it is kept").refuse_live_elsewhere();
            assert_eq!(verdict.is_err(), refused, "{host} {live}");
            if let Err(failure) = verdict {
                assert!(failure.to_string().contains("log in to elsewhere"), "{failure}");
            }
        }
        let path = kept_by_hand(data.path(), "elsewhere", "3", "job", false);
        fs::write(path.with_extension("run"), "no record").expect("written");
        by_path(data.path(), &path)
            .expect("it is kept")
            .refuse_live_elsewhere()
            .expect_err("it is not known");
    }

    #[test]
    fn the_record_of_a_job_of_gitlabs_has_the_prompt_that_is_open() {
        let data = tempfile::tempdir().expect("a directory");
        let builds = kept_of_gitlab(data.path(), &short_host_name(), "gitlab-1");
        let found = || by_path(data.path(), &builds).expect("it is kept");
        assert!(found().left().is_none());
        let before = fs::read(builds.with_file_name(".gitlab-1.kept")).expect("a note");
        let note = open_own(&found().all, ".gitlab-1.kept", OFlag::O_RDWR).expect("a note");
        for id in ["1", "22"] {
            let mut prompt = Record::example(&workspace(data.path(), &builds)).handover;
            prompt.decision_id = id.repeat(4);
            note_prompt(&note, Some(&prompt)).expect("noted");
            assert_eq!(found().left(), Some(&prompt));
        }
        // Half a line is of a prompt that was not started.
        note.set_len(note.metadata().expect("a note").len() - 9).expect("cut");
        assert!(found().left().is_none());
        note_prompt(&note, None).expect("noted");
        assert!(found().left().is_none());
        assert_eq!(fs::read(builds.with_file_name(".gitlab-1.kept")).expect("a note"), before);
    }
}
