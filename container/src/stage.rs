//! One stage in the job's container: the files that it takes, how it ended, and why it may have
//! ended without a record.

use crate::binds::inside;
use crate::call::{Called, call};
use crate::copies::Cache;
use crate::given;
use crate::images::STORES;
use crate::inner;
use crate::outer::{BASES, Outer, name, store};
use crate::own;
use crate::partial::{a_while, remove_leftovers};
use crate::prepare::{binds, check_binds, description, image, make_directories, note};
use crate::record::{Record, has_begun};
use crate::resolved::Resolved;
use crate::runner::of_runner;
use crate::save;
use crate::services;
use crate::trouble::printable;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nunbird_handover::{Container, Handover};
use nunbird_stage::StageError;
use nunbird_stage::small_files::{self, directory};
use nunbird_stage::words::lines;
use nunbird_sys::random;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest record, in bytes.
const LONGEST_RECORD: u64 = 4096;
/// Time to end what is in a container, and to remove it.
const END: Duration = Duration::from_secs(120);
/// How often a script is written again that another cleanup has taken away, and the pause before.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// How long another cleanup of the same job is waited for.
const LOCKED: Duration = Duration::from_secs(30);
/// Time to look what a host lacks.
const LOOK: Duration = Duration::from_secs(10);

/// Why a stage did not begin, where the engine's words do not say it.
const UNKNOWN: &str = "the entrypoint has not run the shell that it was given, or the engine failed";
/// The same where they speak of user namespaces.
const NO_NAMESPACE: &str = "the host gives the job no user namespace";

/// A stage that is about to run.
#[derive(Debug)]
pub struct Stage<'a> {
    container: &'a Container,
    title: String,
    nonce: String,
}

/// How a stage ended that was not cancelled.
#[derive(Debug)]
pub enum StageEnd {
    /// The script has reported its end.
    Recorded(Record),
    /// The job failed because of a service; the outer script has written why.
    Unserved,
    /// There is no record: Nunbird's failure, in words for the user.
    Unrecorded(StageError),
}

impl<'a> Stage<'a> {
    /// Writes the scripts for one stage. `grace` is the time that a script may take to end after a
    /// signal.
    ///
    /// # Errors
    /// In words for the user.
    pub fn write(
        handover: &Handover,
        container: &'a Container,
        stage: &str,
        grace: Duration,
    ) -> Result<Self, StageError> {
        let description = description(container)?;
        make_directories(handover, container)?;
        let nonce = nonce()?;
        let image = image_of(container)?;
        given::unchanged(image.as_ref())?;
        let services = services::kept(container)?;
        let binds = binds(handover, container)?;
        check_binds(&description, container, &binds)?;
        let outer = Outer {
            description: &description,
            handover,
            container,
            image: image.as_ref(),
            services: &services,
            binds: &binds,
            nonce: &nonce,
            grace: grace.as_secs(),
            allocation: None,
        };
        write_outer(&outer)?;
        clear_records(container)?;
        services::write_variables(container, description.services.as_ref())?;
        let inner = inner::text(handover, container, stage, &nonce);
        write(&inside(container).join("inner"), &inner)?;
        Ok(Stage { container, title: description.title, nonce })
    }

    /// The outer script: `/bin/sh PATH run`, with the stage's script as standard input and an
    /// environment without anything of the job's.
    pub fn outer(&self) -> PathBuf {
        outer_path(self.container)
    }

    /// How it ended; `errors` is the end of its standard error.
    pub fn end(&self, errors: &str) -> StageEnd {
        match self.read("record").and_then(|text| Record::parse(&text, &self.nonce)) {
            Some(record) => StageEnd::Recorded(record),
            None if services::is_lost(self.container, &self.nonce) => StageEnd::Unserved,
            None => StageEnd::Unrecorded(self.unrecorded(errors)),
        }
    }

    fn read(&self, name: &str) -> Option<String> {
        let bytes = small_files::beginning(&inside(self.container).join(name), LONGEST_RECORD).ok()?;
        String::from_utf8(bytes).ok()
    }

    fn unrecorded(&self, errors: &str) -> StageError {
        let begun = self.read("began").is_some_and(|text| has_begun(&text, &self.nonce));
        let (mut cause, mut help) = cause(errors, begun);
        // unshare(1) is tried in the engine's place, which may be allowed what unshare is not: it explains only what nothing else does.
        let is_open = [UNKNOWN, NO_NAMESPACE].contains(&cause);
        let lacks = if is_open { lacks(&self.outer()) } else { String::new() };
        if !lacks.is_empty() {
            cause = "the host may give the job no user namespace that a container can be made in";
            help = "nunbirdctl check says what forbids them";
        }
        let said = match errors.trim().is_empty() {
            true => String::new(),
            false => format!(" ({})", lines(last(errors))),
        };
        let what = match begun {
            true => "the stage ended in its container without a result",
            false => "the stage did not begin in its container",
        };
        StageError::sentence(&format!("{what} of {}: {cause}{said}{lacks}; {help}", self.title))
    }
}

/// Why user namespaces are of no use on this host, as the end of a sentence; nothing where they are usable, or where that cannot be found out.
pub(crate) fn lacks(outer: &Path) -> String {
    match call(outer, &["lacks".to_owned()], &base_environment(), LOOK, None) {
        Ok(Called::Ended(output)) => printable(&output.out),
        _ => String::new(),
    }
}

/// The lines at the end that may have the cause.
fn last(errors: &str) -> &str {
    let mut starts = errors.rmatch_indices('\n').map(|(at, _)| at + 1);
    let from = starts.nth(4).unwrap_or(0);
    errors.get(from..).unwrap_or(errors)
}

fn cause(errors: &str, begun: bool) -> (&'static str, &'static str) {
    let has = |texts: &[&str]| texts.iter().any(|text| errors.contains(text));
    let is_full = has(&["No space left on device", "no space left on device"]);
    let is_beyond = has(&["isk quota exceeded"]);
    if begun && is_beyond {
        return (
            "the account's quota on that file system is used up, so that the end of the script could not be noted",
            "remove files of yours there, or ask the administrators for a larger quota",
        );
    }
    // The shells do not say which error it was.
    if begun && has(&["nunbird: cannot note how the script ended"]) {
        return (
            "the end of the script could not be noted: the disk is full or broken, or the account's quota on it is used up",
            "free some space, ask for a larger quota, or report it to the administrators",
        );
    }
    if begun && is_full {
        return (
            "the disk is full, so that the end of the script could not be noted",
            "free some space, or report it to the administrators",
        );
    }
    if begun {
        return (
            "the container or all of its processes were killed",
            "if the job needs much memory, it may have met its limit: ask for more or use less; else run it again",
        );
    }
    // Before the full disk: where the limit of namespaces is nought, the kernel's word is that no space is left.
    if has(&[
        "user namespace",
        "user_namespaces",
        "unprivileged_userns",
        "cannot clone",
        "unshare failed",
        "Creating new namespace failed",
    ]) {
        return (
            NO_NAMESPACE,
            "ask the administrators to allow user namespaces there; nunbirdctl check says what forbids them",
        );
    }
    if has(&["container state improper", "is not running", "ended as soon as"]) {
        return (
            "the container has ended",
            "use an image for this kind of machine, with the program sleep; if it is one, run the job again",
        );
    }
    if has(&["Exec format error", "exec format error"]) {
        return ("the image is for another kind of machine", "use an image for this host");
    }
    if is_beyond {
        return (
            "the account's quota on that file system is used up",
            "remove files of yours there, or ask the administrators for a larger quota",
        );
    }
    if is_full {
        return ("the disk is full", "free some space, or report it to the administrators");
    }
    if has(&["not found", "no such file", "No such file"]) {
        return (
            "a program is missing in the image: /bin/sh, or the image's or the job's entrypoint",
            "use an image with a shell, or set `image:entrypoint` to [\"\"]",
        );
    }
    if has(&["nunbird: "]) {
        return ("see the message above", "if it does not help, report it to the administrators");
    }
    (UNKNOWN, "set `image:entrypoint` to [\"\"], and if that does not help, report it to the administrators")
}

/// What the outer script starts with: no variable of the job's or the site's.
pub fn base_environment() -> [(OsString, OsString); 1] {
    [("LC_ALL".into(), "C.UTF-8".into())]
}

/// Ends all processes in the job's container on this host, and keeps its files for the next stage.
///
/// # Errors
/// In words for the user.
pub fn stop(handover: &Handover, container: &Container) -> Result<(), StageError> {
    run(handover, container, "stop")
}

/// Removes the job's containers from this host, with all that was made for them. Nothing is done where
/// nothing is left. `kill` ends the processes that have this name of a container in their environment,
/// for what the engine has lost sight of, and returns how many there were.
///
/// # Errors
/// In words for the administrators.
pub fn destroy(
    handover: &Handover,
    container: &Container,
    kill: impl Fn(&str) -> usize,
) -> Result<(), StageError> {
    if directory(handover, &container.directory, false)?.is_none() {
        return Ok(());
    }
    let _alone = lock(container);
    let runner = of_runner(container);
    let removed = runner.iter().chain([container]).map(|one| remove_one(handover, one, &kill));
    // Each is tried, whatever becomes of the other.
    removed.collect::<Vec<_>>().into_iter().collect::<Result<(), StageError>>()?;
    forget_images(handover, container)?;
    // The directory goes only if nothing of the container is left, so that the next cleanup tries again.
    if let (Some(parent), Some(name)) = (container.directory.parent(), container.directory.file_name())
        && let Some(parent) = directory(handover, parent, false)?
    {
        nunbird_stage::trees::remove_tree(&parent, name)?;
    }
    Ok(())
}

/// One cleanup at a time: that of a killed `nunbird-auth` goes on while the next one begins, and two of them would remove what the other
/// one uses. None where locks do not work; and a process of the account that holds it keeps no cleanup from its work.
fn lock(container: &Container) -> Option<Flock<File>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    let mut file = options.open(container.directory.join("removal")).ok()?;
    let end = Instant::now() + LOCKED;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < end => file,
            Err(_) => return None,
        };
        std::thread::sleep(PAUSE);
    }
}

fn remove_one(
    handover: &Handover,
    container: &Container,
    kill: &impl Fn(&str) -> usize,
) -> Result<(), StageError> {
    if directory(handover, &container.directory, false)?.is_none() {
        return Ok(());
    }
    let first = run(handover, container, "remove");
    // They may have held a file system, or have written while it was removed: also what has ended by itself since.
    let name = name(handover, container);
    if kill(&name) > 0 || first.is_err() || is_here(handover, container, &name) {
        run(handover, container, "remove")?;
    }
    Ok(())
}

/// Whether this host has a directory that was made for the container.
fn is_here(handover: &Handover, container: &Container, name: &str) -> bool {
    let layers = store(container, handover.account.uid).join("jobs").join(name);
    layers.exists() || BASES.iter().any(|base| Path::new(base).join(name).exists())
}

/// Nothing of the job runs any more: it uses no image, and copies that it alone used can go.
fn forget_images(handover: &Handover, container: &Container) -> Result<(), StageError> {
    let description = description(container)?;
    let name = note(handover);
    if description.has_copies() {
        let cache = Cache(&container.cache);
        cache.release(&name);
        cache.collect(a_while());
    } else if description.has_store() {
        // What is being pulled now is locked, and stays.
        let end = a_while();
        let saved = save::directory(container);
        if own::check(&saved).is_ok() {
            remove_leftovers(&saved, end);
        }
        for place in STORES {
            let place = store(container, handover.account.uid).join(place);
            Cache(&place).release(&name);
            if own::check(&place).is_ok() {
                remove_leftovers(&place, end);
            }
        }
    }
    Ok(())
}

fn run(handover: &Handover, container: &Container, verb: &str) -> Result<(), StageError> {
    let description = description(container)?;
    let outer = Outer {
        description: &description,
        handover,
        container,
        image: None,
        services: &[],
        binds: &[],
        nonce: "none",
        grace: 0,
        allocation: None,
    };
    let failed = |cause: &dyn std::fmt::Display| {
        let what = format!("cannot {verb} the job's container");
        StageError::new(&what, cause, "report it to the administrators")
    };
    let words = [verb.to_owned()];
    let mut attempts = ATTEMPTS;
    loop {
        let script = Script::write(&outer)?;
        match call(&script.path, &words, &base_environment(), END, None).map_err(|e| failed(&e))? {
            Called::Ended(output) if output.status.is_some_and(|status| status.success()) => return Ok(()),
            // A cleanup whose runner was killed goes on, and takes the directory away when nothing of the container is left.
            Called::Ended(_) if attempts > 0 && !script.path.exists() => {
                attempts -= 1;
                std::thread::sleep(PAUSE);
                if directory(handover, &container.directory, false)?.is_none() {
                    return Ok(());
                }
            }
            Called::Ended(output) => return Err(failed(&crate::pull::said(&output))),
            Called::Late | Called::Cancelled => {
                return Err(failed(&format!("it took more than {} s", END.as_secs())));
            }
        }
    }
}

/// The outer script that ends a container: also where the job has filled the disk of its directories.
struct Script {
    path: PathBuf,
    is_temporary: bool,
}

impl Script {
    fn write(outer: &Outer<'_>) -> Result<Self, StageError> {
        let Err(full) = write_outer(outer) else {
            return Ok(Script { path: outer_path(outer.container), is_temporary: false });
        };
        let text = outer.text()?;
        let name = format!("{}-outer-{}", name(outer.handover, outer.container), nonce()?);
        for base in BASES {
            let script = Script { path: Path::new(base).join(&name), is_temporary: true };
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&script.path);
            if made.and_then(|mut file| file.write_all(text.as_bytes())).is_ok() {
                return Ok(script);
            }
        }
        Err(full)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if self.is_temporary {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// The image that `prepare` has brought; `None` for an engine without images.
pub(crate) fn image_of(container: &Container) -> Result<Option<Resolved>, StageError> {
    let image = image(container);
    if image.is_none() && container.image.is_some() {
        let help = "run the job again; its prepare stage brings the image";
        let cause = "the file `image` is missing or broken";
        return Err(StageError::at("cannot find the job's image in", &container.directory, cause, help));
    }
    Ok(image)
}

/// Removes what an earlier stage has reported.
pub(crate) fn clear_records(container: &Container) -> Result<(), StageError> {
    ["began", "record", "script", "scheduler"]
        .iter()
        .try_for_each(|name| remove(&inside(container).join(name)))
}

/// Where the outer script lies: not in the container, whose job could change what runs outside.
pub(crate) fn outer_path(container: &Container) -> PathBuf {
    container.directory.join("outer")
}

/// Writes the outer script anew: what lies there may be another one by now.
pub(crate) fn write_outer(outer: &Outer<'_>) -> Result<(), StageError> {
    write(&outer_path(outer.container), &outer.text()?)
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), StageError> {
    // Nothing of it is worth anything after a crash of the host, so nothing waits for the disk.
    small_files::replace(path, &[text.as_bytes()]).map_err(|e| {
        let help = "make sure that its file system has space and quota left, and run the job again";
        StageError::at("cannot write", path, e, help)
    })
}

/// 32 hexadecimal digits from the kernel's random numbers.
pub(crate) fn nonce() -> Result<String, StageError> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)
        .map_err(|e| StageError::new("cannot get random bytes", e, "report it to the administrators"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn remove(path: &Path) -> Result<(), StageError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(StageError::at("cannot remove", path, e, "remove it by hand"))
        }
        _ => Ok(()),
    }
}

/// The shell that reads the outer script.
pub fn shell() -> &'static OsStr {
    OsStr::new("/bin/sh")
}

#[cfg(test)]
mod tests {
    use super::{NO_NAMESPACE, UNKNOWN, cause};

    #[test]
    fn only_a_stage_whose_cause_nothing_says_may_lack_user_namespaces() {
        let is_open = |errors: &str| [UNKNOWN, NO_NAMESPACE].contains(&cause(errors, false).0);
        for known in [
            "crun: executable file `/bin/sh` not found: No such file or directory",
            "exec /bin/sh: Exec format error",
            "write /run/x: no space left on device",
            "write /run/x: Disk quota exceeded",
            "nunbird: the container of Podman ended as soon as it was made",
        ] {
            assert!(!is_open(known), "{known}: {}", cause(known, false).0);
        }
        for unknown in [
            "",
            "bwrap: Can't mount proc on /newroot/proc: Operation not permitted",
            "cannot clone: No space left on device",
            "bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)",
        ] {
            assert!(is_open(unknown), "{unknown}: {}", cause(unknown, false).0);
        }
    }
}
