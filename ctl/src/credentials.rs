//! `nunbirdctl credentials refresh`: asks the site's programs for its passwords of registries, and keeps them for jobs.
//!
//! Runs as the account that owns the directory, by a timer, and never as root: the programs are the site's. A file is replaced as a whole, and stays as
//! it is where a program fails: jobs go on with it until `max_age` is over.

use crate::arguments::{Credentials, CredentialsAction};
use crate::files;
use crate::output::{CtlError, FAILURE, Format, OK, print, print_json};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use nunbird_container::credential_helper::{Answer, Cancel, NoAnswer, answer};
use nunbird_files::trusted::{Distrust, open_trusted};
use nunbird_handover::Untrusted;
use nunbird_judge::site_credentials::{CREDENTIAL_VERSION, StoredCredential, file_name, too_long};
use nunbird_policy::{CONFIGURATIONS, CREDENTIALS_DIR, DEFAULT_CONFIGURATION, SiteCredential};
use nunbird_stage::signals::Signals;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::mem::take;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How root makes the directory. Its group is that of new files in it, and root's may read them: `nunbird-auth` with file capabilities has no other
/// right to.
pub(crate) const MAKE: &str =
    "install -d -o nunbird-credentials -g root -m 2750 /var/lib/nunbird/credentials";
/// What follows the name of a file while it is written.
const DRAFT: &str = ".new";
/// The mode of the files.
const MODE: u32 = 0o640;

/// So many programs are asked at a time: one that hangs takes one of these places until its `timeout` is over, five minutes at most, and the timer's next
/// run comes after ten. The unit allows 64 processes, and programs may be scripts.
const AT_ONCE: usize = 8;

/// What the programs get of this process's environment, beside [`PATH`]. A program that needs more is started by one of the site's that sets it.
const ENVIRONMENT: [&str; 8] =
    ["HOME", "LANG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What has become of one.
struct Outcome {
    of: SiteCredential,
    /// Why there is no new answer.
    error: Option<String>,
}

/// Where answers are kept.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: &'a Path,
    /// The configuration that the tables are of, where the timer does not read that one.
    unlisted: Option<&'a Path>,
}

/// What is kept without a table in the configurations that the timer reads.
#[derive(Default)]
struct Others {
    removed: Vec<String>,
    /// With the configuration that has its table.
    kept: BTreeMap<String, PathBuf>,
}

/// The tables of all configurations.
#[derive(Default)]
struct Wanted {
    tables: BTreeMap<String, SiteCredential>,
    /// What could not be read, and tables that cannot both have the file of their name.
    troubles: Vec<String>,
}

pub(crate) fn run(options: &Credentials, format: Format) -> Result<u8, CtlError> {
    let CredentialsAction::Refresh { configuration } = &options.action;
    let mut wanted = match configuration {
        Some(file) => {
            let tables = files::read(file, format)?.policy.credentials;
            Wanted { tables, troubles: Vec::new() }
        }
        None => of_all(format)?,
    };
    let unlisted = configuration.as_deref().filter(|file| !is_listed(file));
    let unlisted = unlisted.and_then(|file| std::path::absolute(file).ok());
    let of_no_runner = unlisted.as_deref().is_some_and(is_of_no_runner);
    if let Some(file) = unlisted.as_ref().filter(|_| !wanted.tables.is_empty()) {
        let what = if of_no_runner {
            "not a file that root alone can have written, so nunbird-auth takes it from no runner, and the next run of nunbird-credentials.timer \
             removes these passwords"
                .to_owned()
        } else {
            format!(
                "neither {DEFAULT_CONFIGURATION} nor a line of {CONFIGURATIONS}, so nunbird-credentials.timer asks for none of these \
                 passwords, and jobs use each until it is `max_age` old; write the path into {CONFIGURATIONS}"
            )
        };
        eprintln!("nunbirdctl: {}: {what}", Untrusted(&file.display().to_string()));
    }
    // A table in a file that cannot be read has its password still.
    let knows_all = configuration.is_none() && wanted.troubles.is_empty();
    let directory = Path::new(CREDENTIALS_DIR);
    let nothing_is_kept = directory.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound);
    if wanted.tables.is_empty() && nothing_is_kept {
        // A timer that runs on every host is no failure on those without.
        return done(&[], &Others::default(), &wanted.troubles, format);
    }
    check_directory(directory)?;
    let _lock = lock(directory)?;
    let signals = Signals::block().map_err(|e| CtlError::new(format!("signals: {e}")))?;
    let others = if knows_all { remove_others(directory, &mut wanted)? } else { Others::default() };
    let place = Place { directory, unlisted: unlisted.as_deref().filter(|_| !of_no_runner) };
    let all = ask_all(place, &oldest_first(directory, wanted.tables), &signals)
        .ok_or_else(|| CtlError::new("ended by a signal"))?;
    done(&all, &others, &wanted.troubles, format)
}

/// Asks the programs, [`AT_ONCE`] of them at a time, and keeps each answer as soon as it is there. `None` after a signal.
fn ask_all(place: Place<'_>, all: &[SiteCredential], signals: &Signals) -> Option<Vec<Outcome>> {
    let (waiting, cancel) = (Mutex::new(all.iter().enumerate()), Cancel::new(signals));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut done = Vec::new();
        while let Some((n, of)) = next() {
            done.push((n, asked(place, of, &cancel)?));
        }
        Some(done)
    };
    let mut done: Vec<(usize, Outcome)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE.min(all.len())).map(|_| scope.spawn(work)).collect();
        let parts: Vec<_> = workers.into_iter().map(|worker| worker.join().ok().flatten()).collect();
        parts.into_iter().collect::<Option<Vec<_>>>().map(|parts| parts.into_iter().flatten().collect())
    })?;
    done.sort_by_key(|(n, _)| *n);
    Some(done.into_iter().map(|(_, outcome)| outcome).collect())
}

/// What has become of one; `None` after a signal.
fn asked(place: Place<'_>, of: &SiteCredential, cancel: &Cancel<'_>) -> Option<Outcome> {
    let stored = match ask(of, cancel) {
        Ok(Some(answer)) => store(place, of, answer),
        Ok(None) => Err(forget(place.directory, of)),
        Err(NoAnswer::Cancelled) => return None,
        Err(NoAnswer::Failed(why)) => Err(why),
        // What the program prints may be a part of the password, so it is not printed.
        Err(NoAnswer::Ended(status, _)) => Err(format!("{}: it ended with {status}", of.helper.display())),
    };
    Some(Outcome { of: of.clone(), error: stored.err() })
}

/// As `nunbird-keys refresh`: the default configuration, and those that root has listed.
fn of_all(format: Format) -> Result<Wanted, CtlError> {
    let mut wanted = Wanted::default();
    let all = files::configurations(Path::new(DEFAULT_CONFIGURATION))?;
    if all.len() > 1 {
        // As nunbird-auth, which takes no list that others could have written.
        open_trusted(Path::new(CONFIGURATIONS), &[0]).map_err(|e| CtlError::new(e.to_string()))?;
    }
    if let [only] = all.as_slice() {
        return Ok(Wanted { tables: files::read(only, format)?.policy.credentials, ..wanted });
    }
    for (n, file) in all.iter().enumerate() {
        let is_default = n == 0;
        if is_default
            && all.len() > 1
            && file.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound)
        {
            continue;
        }
        match configured(file, is_default) {
            Ok(tables) => tables.into_values().for_each(|of| wanted.add(of)),
            Err(why) => wanted.troubles.push(why),
        }
    }
    Ok(wanted)
}

/// Whether the timer reads this file, too; a list that cannot be read has an error of its own there.
pub(crate) fn is_listed(file: &Path) -> bool {
    let same = |one: &PathBuf| {
        one == file || one.canonicalize().is_ok_and(|one| file.canonicalize().is_ok_and(|file| one == file))
    };
    files::configurations(Path::new(DEFAULT_CONFIGURATION)).is_ok_and(|all| all.iter().any(same))
}

fn configured(file: &Path, is_default: bool) -> Result<BTreeMap<String, SiteCredential>, String> {
    if !is_default {
        // As nunbird-auth, which takes a listed file only if it is root's.
        let more = files::more(file).map_err(|e| in_words(file, e))?;
        for path in std::iter::once(file).chain(more.iter().map(PathBuf::as_path)) {
            open_trusted(path, &[0]).map_err(|e| e.to_string())?;
        }
    }
    files::read(file, Format::Text).map(|read| read.policy.credentials).map_err(|e| in_words(file, e))
}

/// Whether it is gone, or is a file that nunbird-auth does not take. What cannot be looked at may be root's still; what another account could have
/// written must not decide how long a password stays.
fn is_of_no_runner(file: &Path) -> bool {
    let refused = |path: &Path| match open_trusted(path, &[0]) {
        Ok(_) => false,
        Err(Distrust::Open(_, e)) => e
            .raw_os_error()
            .is_some_and(|e| [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP].contains(&Errno::from_raw(e))),
        Err(_) => true,
    };
    refused(file) || files::more(file).is_ok_and(|more| more.iter().any(|path| refused(path)))
}

fn in_words(file: &Path, error: CtlError) -> String {
    match error {
        CtlError::Failure(why) => why,
        CtlError::Invalid(findings, _) => {
            let shown = file.display();
            findings.first().map_or_else(|| format!("{shown}: invalid"), ToString::to_string)
        }
    }
}

impl Wanted {
    /// Two configurations may have one table: its program is asked once.
    fn add(&mut self, of: SiteCredential) {
        match self.tables.get_mut(&of.name) {
            None => drop(self.tables.insert(of.name.clone(), of)),
            Some(known) if known.helper == of.helper && known.registry() == of.registry() => {
                known.timeout = known.timeout.max(of.timeout);
            }
            Some(known) => self.troubles.push(format!(
                "[credential.{}] at {} has another program or registry than at {}, and both would keep its password in one file; give one of \
                 them another name",
                of.name, of.place, known.place
            )),
        }
    }
}

/// One refresh at a time: two would write one draft, and remove each other's. The lock is on the directory, which only this account and root open.
fn lock(directory: &Path) -> Result<Flock<File>, CtlError> {
    let failed = |why: String| CtlError::new(format!("{}: {why}", directory.display()));
    let opened = File::open(directory).map_err(|e| failed(e.to_string()))?;
    Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
        Errno::EWOULDBLOCK => failed("another refresh is running; it asks the same programs".to_owned()),
        e => failed(e.desc().to_owned()),
    })
}

/// Whether this program makes files of such a name there: passwords, and drafts of them.
pub(crate) fn is_kept(name: &str) -> bool {
    name.strip_suffix(DRAFT).unwrap_or(name).ends_with(".json")
}

/// Removes what is kept without a table, and drafts that a killed process has left.
fn remove_others(directory: &Path, wanted: &mut Wanted) -> Result<Others, CtlError> {
    let failed = |e: io::Error| CtlError::new(format!("{}: {e}", directory.display()));
    let known: BTreeSet<String> = wanted.tables.values().map(file_name).collect();
    let mut others = Others::default();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if !is_kept(&name) || known.contains(&name) {
            continue;
        }
        let path = directory.join(&name);
        if let Some(file) = has_table_elsewhere(&path, &mut wanted.troubles) {
            others.kept.insert(name, file);
        } else {
            std::fs::remove_file(&path).map_err(failed)?;
            others.removed.push(name);
        }
    }
    others.removed.sort();
    Ok(others)
}

/// The configuration of a root runner that is in no list and has the table of this password still, or may have it, as it cannot be read.
fn has_table_elsewhere(path: &Path, troubles: &mut Vec<String>) -> Option<PathBuf> {
    let bytes = files::of_others(path).map(Zeroizing::new).ok()?;
    let stored = StoredCredential::read(&bytes).ok()?;
    let file = stored.unlisted.clone()?;
    if is_of_no_runner(&file) {
        return None;
    }
    let is_its = |of: &SiteCredential| {
        path.ends_with(file_name(of)) && of.helper == stored.helper && of.registry() == stored.registry
    };
    match configured(&file, false) {
        Ok(tables) => tables.values().any(is_its).then_some(file),
        Err(why) => {
            troubles.push(why);
            Some(file)
        }
    }
}

/// A program that hangs must not be the reason that another's answer becomes too old, also where more hang than are asked at a time.
fn oldest_first(directory: &Path, tables: BTreeMap<String, SiteCredential>) -> Vec<SiteCredential> {
    let mut all: Vec<SiteCredential> = tables.into_values().collect();
    all.sort_by_key(|of| directory.join(file_name(of)).symlink_metadata().map_or(0, |meta| meta.mtime()));
    all
}

fn done(all: &[Outcome], others: &Others, troubles: &[String], format: Format) -> Result<u8, CtlError> {
    match format {
        Format::Json => {
            let row = |one: &Outcome| json!({ "name": one.of.name, "registry": one.of.registry(), "stored": one.error.is_none(), "error": one.error });
            let rows = all.iter().map(row).collect::<Vec<Value>>();
            let kept = |(name, file): (&String, &PathBuf)| json!({ "file": name, "configuration": file });
            let kept = others.kept.iter().map(kept).collect::<Vec<Value>>();
            print_json(
                &json!({ "credentials": rows, "removed": others.removed, "kept": kept, "errors": troubles }),
            )?;
        }
        Format::Text => {
            for name in &others.removed {
                print(&format!("{}: removed, because no configuration has its table\n", Untrusted(name)))?;
            }
            for (name, file) in &others.kept {
                let (name, file) = (Untrusted(name), file.display().to_string());
                print(&format!(
                    "{name}: kept for {}, which is in no list, so it is not asked for\n",
                    Untrusted(&file)
                ))?;
            }
            for why in troubles {
                eprintln!("nunbirdctl: {}", Untrusted(why));
            }
            for Outcome { of, error } in all {
                let (name, registry) = (&of.name, of.registry());
                match error {
                    None => print(&format!("{name}: stored the password for {registry}\n"))?,
                    Some(why) => {
                        eprintln!("nunbirdctl: {name}: no password for {registry}: {}", Untrusted(why));
                    }
                }
            }
            if all.is_empty() && troubles.is_empty() {
                print("there are no [credential.NAME]\n")?;
            }
        }
    }
    Ok(if troubles.is_empty() && all.iter().all(|one| one.error.is_none()) { OK } else { FAILURE })
}

/// Others could read passwords, or put their own there.
fn check_directory(path: &Path) -> Result<(), CtlError> {
    let shown = path.display();
    let failed = |why: String| Err(CtlError::new(format!("{shown}: {why}; as root: {MAKE}")));
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(e) => return failed(e.to_string()),
    };
    let me = geteuid();
    if me.is_root() {
        let why = "programs of the site's are not run as root; run this as the account that owns";
        return Err(CtlError::new(format!("{why} {shown}: runuser -u nunbird-credentials -- nunbirdctl …")));
    }
    if !meta.is_dir() || meta.uid() != me.as_raw() {
        return failed(format!("owned by uid {}, and this is uid {me}", meta.uid()));
    }
    match meta.mode() & 0o7777 {
        mode if mode & 0o027 != 0 => failed(format!("others can read or write in it (mode {mode:04o})")),
        _ => Ok(()),
    }
}

/// The program's answer; none where it says that it has none.
fn ask(of: &SiteCredential, cancel: &Cancel<'_>) -> Result<Option<Answer>, NoAnswer> {
    // An account that can change it has the password.
    open_trusted(&of.helper, &[0]).map_err(|e| NoAnswer::Failed(e.to_string()))?;
    let mut command = Command::new(&of.helper);
    command.arg("get").current_dir("/").env_clear().env("PATH", PATH);
    command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    let limit = Duration::from_secs(of.timeout);
    answer(command, &of.server(), limit, Instant::now() + limit, cancel).map_err(|e| match e {
        NoAnswer::Failed(why) => NoAnswer::Failed(format!("{}: {why}", of.helper.display())),
        other => other,
    })
}

/// The program says that there is no password: what it gave before may have been withdrawn.
fn forget(directory: &Path, of: &SiteCredential) -> String {
    let program = of.helper.display();
    match std::fs::remove_file(directory.join(file_name(of))) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            format!("{program}: it has none; the one before it cannot be removed: {e}")
        }
        _ => format!("{program}: it has none, and none is kept"),
    }
}

fn store(place: Place<'_>, of: &SiteCredential, mut answer: Answer) -> Result<(), String> {
    if let Some(why) = too_long(&answer.user, &answer.secret) {
        return Err(format!("{}: {why}", of.helper.display()));
    }
    let fetched_at = nunbird_sys::clock::now().map_err(|e| e.to_string())?;
    let stored = StoredCredential {
        version: CREDENTIAL_VERSION,
        helper: of.helper.clone(),
        registry: of.registry(),
        user: take(&mut answer.user),
        secret: take(&mut answer.secret),
        fetched_at,
        unlisted: place.unlisted.map(Path::to_path_buf),
    };
    let bytes = serde_json::to_vec(&stored).map(Zeroizing::new).map_err(|e| e.to_string())?;
    replace(&place.directory.join(file_name(of)), &bytes).map_err(|e| e.to_string())
}

/// A reader sees the old content or the new.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = PathBuf::from(format!("{}{DRAFT}", path.display()));
    // Left by a killed process.
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let written = write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    written?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE & 0o600).open(path)?;
    file.write_all(bytes)?;
    // Whatever the umask, and after the content: who could open it before would have it now.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.sync_all()
}
