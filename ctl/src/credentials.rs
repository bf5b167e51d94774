//! `nunbirdctl credentials refresh`: asks the site's programs for its passwords of registries, and keeps them for jobs.
//!
//! Runs as the account that owns the directory, by a timer, and never as root: the programs are the site's. A file is replaced as a whole, and stays as
//! it is where a program fails: jobs go on with it until `max_age` is over.

use crate::arguments::{Credentials, CredentialsAction};
use crate::files;
use crate::output::{CtlError, FAILURE, Format, OK, print, print_json};
use nix::unistd::geteuid;
use nunbird_container::credential_helper::{Answer, NoAnswer, answer};
use nunbird_files::trusted::open_trusted;
use nunbird_handover::Untrusted;
use nunbird_judge::site_credentials::{CREDENTIAL_VERSION, StoredCredential, file_name};
use nunbird_policy::{CREDENTIALS_DIR, SiteCredential};
use nunbird_stage::signals::Signals;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How root makes the directory. Its group is that of new files in it, and root's may read them: `nunbird-auth` with file capabilities has no other
/// right to.
pub(crate) const MAKE: &str =
    "install -d -o nunbird-credentials -g root -m 2750 /var/lib/nunbird/credentials";
/// The mode of the files.
const MODE: u32 = 0o640;

pub(crate) fn run(options: &Credentials, format: Format) -> Result<u8, CtlError> {
    let CredentialsAction::Refresh { configuration } = &options.action;
    let policy = files::read(&configuration.configuration, format)?.policy;
    if policy.credentials.is_empty() {
        // A timer that runs on every host is no failure on those without.
        return done(&[], format);
    }
    let directory = Path::new(CREDENTIALS_DIR);
    check_directory(directory)?;
    let signals = Signals::block().map_err(|e| CtlError::new(format!("signals: {e}")))?;
    let mut all = Vec::new();
    for of in policy.credentials.values() {
        let stored = match ask(of, &signals) {
            Ok(answer) => store(directory, of, answer).map_err(|e| e.to_string()),
            Err(NoAnswer::Failed(why)) => Err(why),
            Err(NoAnswer::Cancelled) => return Err(CtlError::new("ended by a signal")),
        };
        all.push((of, stored.err()));
    }
    done(&all, format)
}

fn done(all: &[(&SiteCredential, Option<String>)], format: Format) -> Result<u8, CtlError> {
    match format {
        Format::Json => {
            let row = |(of, why): &(&SiteCredential, Option<String>)| json!({ "name": of.name, "registry": of.registry(), "stored": why.is_none(), "error": why });
            print_json(&json!({ "credentials": all.iter().map(row).collect::<Vec<Value>>() }))?;
        }
        Format::Text if all.is_empty() => print("there are no [credential.NAME]\n")?,
        Format::Text => {
            for (of, why) in all {
                let (name, registry) = (&of.name, of.registry());
                match why {
                    None => print(&format!("{name}: stored the password for {registry}\n"))?,
                    Some(why) => {
                        eprintln!("nunbirdctl: {name}: no password for {registry}: {}", Untrusted(why));
                    }
                }
            }
        }
    }
    Ok(if all.iter().all(|(_, why)| why.is_none()) { OK } else { FAILURE })
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

/// The program's answer.
fn ask(of: &SiteCredential, signals: &Signals) -> Result<Answer, NoAnswer> {
    // Whoever could change it would have the password.
    open_trusted(&of.helper, &[0]).map_err(|e| NoAnswer::Failed(e.to_string()))?;
    let mut command = Command::new(&of.helper);
    // The environment is that of this account's unit, with what the site has set there for the program.
    command.arg("get").current_dir("/");
    let limit = Duration::from_secs(of.timeout);
    let found = answer(command, &of.server(), limit, Instant::now() + limit, signals);
    let failed = |why: &dyn std::fmt::Display| NoAnswer::Failed(format!("{}: {why}", of.helper.display()));
    match found {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(failed(&"it has none")),
        Err(NoAnswer::Failed(why)) => Err(failed(&why)),
        Err(NoAnswer::Cancelled) => Err(NoAnswer::Cancelled),
    }
}

fn store(directory: &Path, of: &SiteCredential, answer: Answer) -> io::Result<()> {
    let Answer { user, secret } = answer;
    let fetched_at = nunbird_sys::clock::now().map_err(io::Error::other)?;
    let stored =
        StoredCredential { version: CREDENTIAL_VERSION, registry: of.registry(), user, secret, fetched_at };
    let text = Zeroizing::new(serde_json::to_vec(&stored)?);
    let path = directory.join(file_name(of));
    let explain = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    replace(&path, &text).map_err(explain)
}

/// A reader sees the old content or the new.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = PathBuf::from(format!("{}.new", path.display()));
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
