//! Where a job works: a numbered directory of the account's on this host, which no other job by hand has at the same time.
//!
//! ```text
//! DATA_DIR/exec/HOST/0          the build directory, the only one of these that a container has
//!                    0.lock     locked while the run lives
//!                    0.kept     a mark: `--keep` has left the directory to the user
//!                    0.run      what is known of the run: see `record.rs`
//!                    0.sources  names of the files to copy, until they are copied
//! ```
//!
//! The lock is the open file's, so each launcher that the run starts holds it as well: one that outlives a killed run by a moment still has the
//! directory. What the script leaves then is ended before anything of the directory is touched.
//!
//! A job may put anything into its build directory, links in the place of directories too. So no run works in a directory that another
//! has left: it makes its own, and mkdir(2) decides whose it is.

use crate::failure::Failure;
use crate::record::Record;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::getuid;
use nunbird_handover::Workspace;
use nunbird_stage::StageError;
use nunbird_stage::directory::Directory;
use nunbird_stage::error::shown;
use nunbird_stage::trees::{remove_deep_tree, remove_tree};
use nunbird_stage::ways::judge;
use nunbird_unprivileged::process::short_host_name;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// The most jobs by hand of one account on one host, with the directories that `--keep` has left.
pub(crate) const MOST: usize = 100;
/// The longest record, in bytes: variables of 16 MiB, with marks before quotes.
const LONGEST: u64 = 64 << 20;

/// A directory that is this job's while the value lives.
#[derive(Debug)]
pub(crate) struct Place {
    /// As the launcher has it.
    pub(crate) workspace: Workspace,
    /// What could not be removed of earlier runs.
    pub(crate) remarks: Vec<String>,
    /// The directory of all numbers.
    all: Directory,
    /// The build directory, whatever is at its path later.
    builds: Directory,
    number: String,
    /// Released when the last process that has it open ends.
    lock: File,
}

/// Ends what a run has left running that was killed, while the lock of its number is held; gives whether nothing of it runs any more.
pub(crate) type EndLeft<'a> = &'a dyn Fn(&Record, &Path, BorrowedFd<'_>) -> bool;

impl Place {
    /// Takes the first number below `data_dir` that has no directory, for a project of this path. What a run has left that was killed is
    /// ended and removed; what a run was to `keep` is not.
    ///
    /// # Errors
    /// When `data_dir` is not the account's alone, the directories cannot be made, or all numbers are taken.
    pub(crate) fn take(
        data_dir: &Path,
        project: &str,
        keep: bool,
        end_left: EndLeft<'_>,
    ) -> Result<Place, Failure> {
        let all = own(data_dir)?.make_child(OsStr::new("exec"));
        let all = all.and_then(|exec| exec.make_child(OsStr::new(&short_host_name()))).map_err(unusable)?;
        let failed = |e: Errno| {
            Failure::new(format!("cannot use {}: {}", shown(all.path()), e.desc()))
                .help("name another directory by --directory: your own, with space left")
        };
        let mut remarks = Vec::new();
        for number in 0..MOST {
            let number = number.to_string();
            let lock = try_lock(&all, &number)
                .map_err(|e| failed(Errno::from_raw(e.raw_os_error().unwrap_or_default())))?;
            let Some(lock) = lock else { continue };
            if all.stat(OsStr::new(&number)).is_ok() {
                if all.stat(OsStr::new(&kept_name(&number))).is_ok() {
                    continue;
                }
                // The record is all that is known of what runs: it stays until that has ended.
                if let Ok(Some(record)) = read(&all, &number)
                    && !end_left(&record, &all.path().join(&number), lock.as_fd())
                {
                    let path = all.path().join(&number);
                    remarks.push(format!(
                        "{} stays: what its killed run has left could not be ended",
                        shown(&path)
                    ));
                    continue;
                }
                if let Err(e) = remove_tree(&all, OsStr::new(&number)) {
                    remarks.push(format!("an earlier job's directory is left over: {e}"));
                    continue;
                }
            }
            // The user has removed a kept directory, or a run was killed before it removed its list.
            for name in [kept_name(&number), sources_name(&number), record_name(&number)] {
                all.unlink(OsStr::new(&name)).map_err(failed)?;
            }
            match mkdirat(&all, number.as_str(), Mode::S_IRWXU) {
                Ok(()) => {}
                Err(Errno::EEXIST) => continue,
                Err(e) => return Err(failed(e)),
            }
            let builds =
                all.child(OsStr::new(&number)).map_err(unusable)?.ok_or_else(|| failed(Errno::ENOENT))?;
            if keep {
                create(&all, &kept_name(&number)).map_err(failed)?;
            }
            let builds_dir = all.path().join(&number);
            let inside = project.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..");
            let project_dir = builds_dir.join(inside.collect::<PathBuf>());
            let workspace = Workspace {
                data_dir: data_dir.to_owned(),
                builds_root: data_dir.to_owned(),
                cache_dir: data_dir.join("cache"),
                builds_dir,
                project_dir,
            };
            return Ok(Place { workspace, remarks, all, builds, number, lock });
        }
        let what = format!("{MOST} jobs work in {} at once, or were kept there", shown(all.path()));
        Err(Failure::new(what).help("wait for one of them, or remove directories that --keep has left"))
    }

    /// The build directory, whatever is at its path by now.
    pub(crate) fn builds(&self) -> &Directory {
        &self.builds
    }

    /// What each process that works here is to have open.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Writes down what is known of the run, in place of what was.
    ///
    /// # Errors
    /// As open(2), write(2) and rename(2).
    pub(crate) fn write_down(&self, record: &Record) -> Result<(), Failure> {
        write_down(&self.all, &self.number, record)
    }

    /// Writes the list of the files to copy, where no container has it.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub(crate) fn list_sources(&self, list: &[u8]) -> Result<PathBuf, Failure> {
        let name = sources_name(&self.number);
        let path = self.all.path().join(&name);
        let written =
            create(&self.all, &name).map_err(io::Error::from).and_then(|mut file| file.write_all(list));
        written.map_err(|e| {
            Failure::new(format!("cannot write {}: {e}", shown(&path))).help("free some space there")
        })?;
        Ok(path)
    }

    /// Removes that list, once the files are copied.
    pub(crate) fn forget_sources(&self) {
        // If it stays, the next run of this number removes it.
        let _stays = self.all.unlink(OsStr::new(&sources_name(&self.number)));
    }

    /// Removes the build directory.
    ///
    /// # Errors
    /// As [`clear`].
    pub(crate) fn clear(&self) -> Result<(), StageError> {
        clear(&self.all, &self.number)
    }

    /// The number, by which the user names what is kept.
    pub(crate) fn number(&self) -> &str {
        &self.number
    }
}

/// Removes a build directory, what a job has made unreadable too, and what is known of its run. No link is followed, and
/// nothing that is mounted there is touched.
///
/// # Errors
/// As unlink(2) and rmdir(2).
pub(crate) fn clear(all: &Directory, number: &str) -> Result<(), StageError> {
    remove_deep_tree(all, OsStr::new(number))?;
    for name in [kept_name(number), record_name(number)] {
        all.unlink(OsStr::new(&name))
            .map_err(|e| StageError::at("cannot remove", &all.path().join(&name), e, "remove it by hand"))?;
    }
    Ok(())
}

/// The lock of a number; none where another process has it.
pub(crate) fn try_lock(all: &Directory, number: &str) -> io::Result<Option<File>> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(all, lock_name(number).as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let file = File::from(file);
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Whether `--keep` has left this number's directory.
pub(crate) fn is_kept(all: &Directory, number: &str) -> bool {
    [number, &kept_name(number)].iter().all(|name| all.stat(OsStr::new(name)).is_ok())
}

/// What is known of a run; nothing of one of an earlier version.
///
/// # Errors
/// For a file that is not the account's alone, and for one that is no record.
pub(crate) fn read(all: &Directory, number: &str) -> Result<Option<Record>, Failure> {
    let name = record_name(number);
    let path = all.path().join(&name);
    match own_file(all, &name, LONGEST) {
        Ok(text) => Record::parse(&text).map(Some).map_err(|why| {
            Failure::new(format!("cannot use {}: {why}", shown(&path)))
                .help("remove the directory: `nunbird exec enter --remove NUMBER`")
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::new(format!("cannot use {}: {e}", shown(&path)))
            .help("it must be a file of yours that nobody else may read or change")),
    }
}

/// The content of a file that belongs to this account and that nobody else may read or change. No link is followed.
///
/// # Errors
/// For any other one, and for a longer one.
pub(crate) fn own_file(directory: &Directory, name: &str, longest: u64) -> io::Result<Vec<u8>> {
    let file = open_own(directory, name, OFlag::O_RDONLY)?;
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

/// Opens such a file.
///
/// # Errors
/// Likewise.
pub(crate) fn open_own(directory: &Directory, name: &str, access: OFlag) -> io::Result<File> {
    let flags = access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if meta.uid() != getuid().as_raw() {
        return Err(io::Error::other(format!("it belongs to uid {}", meta.uid())));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("it has mode {:04o}", meta.mode() & 0o7777)));
    }
    Ok(file)
}

/// Writes down what is known of a run, so that the old text stays until the new one is whole.
///
/// # Errors
/// As open(2), write(2) and rename(2).
pub(crate) fn write_down(all: &Directory, number: &str, record: &Record) -> Result<(), Failure> {
    let (name, new) = (record_name(number), format!("{number}.run.new"));
    let written = || -> Result<(), String> {
        let text = record.text()?;
        all.unlink(OsStr::new(&new)).map_err(|e| e.desc().to_owned())?;
        let mut file = create(all, &new).map_err(|e| e.desc().to_owned())?;
        file.write_all(&text).map_err(|e| e.to_string())?;
        renameat(all, new.as_str(), all, name.as_str()).map_err(|e| e.desc().to_owned())
    };
    written().map_err(|why| {
        Failure::new(format!("cannot write {}: {why}", shown(&all.path().join(&name))))
            .help("free some space there")
    })
}

fn record_name(number: &str) -> String {
    format!("{number}.run")
}

fn lock_name(number: &str) -> String {
    format!("{number}.lock")
}

fn kept_name(number: &str) -> String {
    format!("{number}.kept")
}

fn sources_name(number: &str) -> String {
    format!("{number}.sources")
}

/// A new file for the owner.
fn create(directory: &Directory, name: &str) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

fn unusable(e: StageError) -> Failure {
    Failure::new(e.to_string())
}

/// The account's directory, made if it is missing. Nothing is made in one that somebody else owns or may change: they could replace what is in it.
pub(crate) fn own(path: &Path) -> Result<Directory, Failure> {
    let uid = getuid().as_raw();
    let help = "name a directory of your own by --directory";
    let failed = |e: io::Error| {
        Failure::new(format!("cannot use {}: {e}", shown(path))).help(format!("{help}, with space left"))
    };
    judge(path.parent().unwrap_or(path), uid).map_err(unusable)?;
    match fs::metadata(path) {
        Ok(meta) if meta.uid() != uid => {
            let what = format!("refusing to use {}: it belongs to uid {}", shown(path), meta.uid());
            return Err(Failure::new(what).help(help));
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        }
        Err(e) => return Err(failed(e)),
    }
    // Judged after it is open, so that it is the same directory.
    let directory = Directory::data_dir(path, uid)
        .map_err(unusable)?
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let mode = fstat(&directory).map_err(|e| failed(e.into()))?.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        let what =
            format!("refusing to use {}: it has mode {mode:04o}, so others may change it", shown(path));
        return Err(Failure::new(what).help(format!("chmod go-w {}", shown(path))).help(help));
    }
    Ok(directory)
}

/// An absolute path without `.` and `..` and links; it need not exist.
///
/// # Errors
/// For one that is not UTF-8: the launcher's message is JSON.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let path =
        std::path::absolute(path).map_err(|e| Failure::new(format!("cannot use {}: {e}", shown(path))))?;
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.to_str().is_none() || !plain {
        return Err(
            Failure::new(format!("cannot use {}", shown(&path))).help("name it without `..`, in UTF-8")
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::record::Record;
    use nunbird_unprivileged::process::short_host_name;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    /// As at its end. A child that another test is about to start may have the lock open until it is that program.
    fn let_go(place: Place) {
        place.lock.unlock().expect("a lock");
    }

    fn take(data: &Path, project: &str, keep: bool) -> Place {
        Place::take(data, project, keep, &|_, _, _| true).unwrap_or_else(|failure| panic!("{failure}"))
    }

    #[test]
    fn two_at_once_have_two_directories_and_the_next_has_the_first_again() {
        let data = tempfile::tempdir().expect("a directory");
        let one = take(data.path(), "group/project", false);
        let two = take(data.path(), "../../x", false);
        assert!(one.workspace.project_dir.ends_with("0/group/project"));
        assert!(two.workspace.project_dir.ends_with("1/x"));
        let_go(one);
        let again = take(data.path(), "a", false);
        assert!(again.workspace.project_dir.ends_with("0/a"));
    }

    #[test]
    fn what_a_job_has_made_unreadable_is_removed() {
        let data = tempfile::tempdir().expect("a directory");
        let place = take(data.path(), "p", false);
        let inner = place.workspace.project_dir.join("inner");
        fs::create_dir_all(inner.join("more")).expect("directories");
        fs::create_dir_all(place.workspace.builds_dir.join("d/".repeat(200))).expect("directories");
        fs::set_permissions(&inner, Permissions::from_mode(0o000)).expect("a mode");
        place.clear().expect("removed");
        assert!(!place.workspace.builds_dir.exists());
        place.clear().expect("nothing to remove");
    }

    #[test]
    fn what_a_killed_run_has_left_is_removed_and_its_links_are_not_followed() {
        let data = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        fs::write(outside.path().join("file"), "the user's").expect("a file");
        let killed = take(data.path(), "group/project", false);
        let (builds, all) = (killed.workspace.builds_dir.clone(), killed.all.path().to_owned());
        let_go(killed);
        symlink(outside.path(), builds.join("group")).expect("a link");
        symlink(outside.path().join("file"), builds.join(".sources")).expect("a link");
        symlink(outside.path().join("file"), all.join("0.sources")).expect("a link");
        let next = take(data.path(), "group/project", false);
        assert_eq!(next.workspace.builds_dir, builds);
        assert_eq!(fs::read_dir(&builds).expect("a directory").count(), 0);
        let list = next.list_sources(b"a\0").expect("a list");
        assert_eq!(fs::read(&list).expect("the list"), b"a\0");
        assert!(!list.starts_with(&builds), "a container has it: {}", list.display());
        assert_eq!(fs::read_to_string(outside.path().join("file")).expect("a file"), "the user's");
        next.forget_sources();
        assert!(!list.exists());
        let_go(next);
        // The build directory itself.
        fs::remove_dir(&builds).expect("removed");
        symlink(outside.path(), &builds).expect("a link");
        let next = take(data.path(), "p", false);
        assert!(fs::symlink_metadata(&next.workspace.builds_dir).expect("a directory").is_dir());
        assert!(outside.path().join("file").exists());
    }

    #[test]
    fn a_list_is_written_through_no_link() {
        let data = tempfile::tempdir().expect("a directory");
        let place = take(data.path(), "p", false);
        let file = data.path().join("file");
        fs::write(&file, "the user's").expect("a file");
        symlink(&file, place.all.path().join("0.sources")).expect("a link");
        place.list_sources(b"a\0").expect_err("a link is there");
        assert_eq!(fs::read_to_string(&file).expect("a file"), "the user's");
    }

    #[test]
    fn what_is_kept_stays_until_the_user_removes_it() {
        let data = tempfile::tempdir().expect("a directory");
        let kept = take(data.path(), "p", true);
        let (builds, all) = (kept.workspace.builds_dir.clone(), kept.all.path().to_owned());
        fs::write(builds.join("result"), "r").expect("a file");
        let_go(kept);
        let next = take(data.path(), "p", false);
        assert!(next.workspace.project_dir.ends_with("1/p"));
        assert!(builds.join("result").exists());
        fs::remove_dir_all(&builds).expect("removed");
        let again = take(data.path(), "p", false);
        assert_eq!(again.workspace.builds_dir, builds);
        assert!(!all.join("0.kept").exists());
    }

    #[test]
    fn what_cannot_be_removed_is_passed_over_and_said() {
        let data = tempfile::tempdir().expect("a directory");
        let first = take(data.path(), "p", false);
        // Deeper than the walk goes.
        fs::create_dir_all(first.workspace.builds_dir.join("d/".repeat(200))).expect("directories");
        let_go(first);
        let next = take(data.path(), "p", false);
        assert!(next.workspace.project_dir.ends_with("1/p"));
        assert!(next.remarks.len() == 1 && next.remarks[0].contains("left over"), "{:?}", next.remarks);
    }

    #[test]
    fn what_a_killed_run_has_left_stays_known_until_it_has_ended() {
        let data = tempfile::tempdir().expect("a directory");
        let killed = take(data.path(), "p", false);
        let (builds, all) = (killed.workspace.builds_dir.clone(), killed.all.path().to_owned());
        killed.write_down(&Record::example(&killed.workspace)).expect("a record");
        let_go(killed);
        let next = Place::take(data.path(), "p", false, &|_, _, _| false).expect("the next number");
        assert!(next.workspace.project_dir.ends_with("1/p"));
        assert!(builds.exists() && all.join("0.run").exists());
        assert!(
            next.remarks.len() == 1 && next.remarks[0].contains("could not be ended"),
            "{:?}",
            next.remarks
        );
        let_go(next);
        assert_eq!(take(data.path(), "p", false).workspace.builds_dir, builds, "it has ended by now");
    }

    #[test]
    fn a_directory_that_others_may_change_is_refused_before_anything_is_made_in_it() {
        let data = tempfile::tempdir().expect("a directory");
        for mode in [0o720, 0o702, 0o777, 0o1777] {
            fs::set_permissions(data.path(), Permissions::from_mode(mode)).expect("a mode");
            let failure =
                Place::take(data.path(), "p", false, &|_, _, _| true).expect_err("refused").to_string();
            assert!(failure.contains("others may change it") && failure.contains("chmod go-w"), "{failure}");
        }
        assert_eq!(fs::read_dir(data.path()).expect("a directory").count(), 0);
        fs::set_permissions(data.path(), Permissions::from_mode(0o755)).expect("a mode");
        take(data.path(), "p", false);
        assert!(data.path().join("exec").join(short_host_name()).exists());
    }
    #[test]
    fn a_directory_of_another_account_is_refused_before_anything_is_made_in_it() {
        let data = tempfile::tempdir().expect("a directory");
        let is_root = nix::unistd::getuid().is_root();
        let foreign = if is_root { data.path() } else { Path::new("/") };
        if is_root {
            std::os::unix::fs::chown(foreign, Some(1), None).expect("an owner");
        }
        let failure = Place::take(foreign, "p", false, &|_, _, _| true).expect_err("refused").to_string();
        assert!(failure.contains("it belongs to uid") && failure.contains("--directory"), "{failure}");
        assert!(!foreign.join("exec").exists());
    }
}
