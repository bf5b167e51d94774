//! Reading the configuration, as root or as the user itself, from a file that nobody else can have written.

use crate::privilege::{Privilege, Source};
use crate::refusal::{Code, Refusal};
use crate::session;
use crate::sudo;
use nunbird_files::directory::Directory;
use nunbird_files::identity::FileIdentity;
use nunbird_files::trusted::{Distrust, open_trusted_directory};
use nunbird_judge::files;
pub(crate) use nunbird_judge::files::hex;
use nunbird_policy::{DEFAULT_CONFIGURATION, Downscope, Policy, SourceFile, conf_d};
use std::path::Path;

/// Configurations beside the default one that runners may name.
const ALLOWED_CONFIGURATIONS: &str = "/etc/nunbird/configurations";
/// The most files of `conf.d`.
const MAX_FILES: usize = 100;

/// The site's policy and the digest it is known by.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    /// SHA-256 of its files, in hexadecimal.
    pub(crate) digest: String,
}

/// Reads the configuration that the caller names, or the default one.
///
/// # Errors
/// A system refusal: for a file that is missing, not trusted, or not a policy.
pub(crate) fn read(named: Option<&Path>, privilege: Privilege) -> Result<Settings, Refusal> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONFIGURATION));
    let refuse = |code, detail: &dyn std::fmt::Display| {
        Refusal::system(code, "Nunbird's configuration on this host cannot be used", detail)
    };
    check_allowed(path, privilege).map_err(|detail| refuse(Code::ConfigurationFile, &detail))?;
    let sources = read_files(path, privilege).map_err(|detail| refuse(Code::ConfigurationFile, &detail))?;
    let reading = Policy::read(&sources).map_err(|findings| {
        let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
        refuse(Code::ConfigurationInvalid, &all.join("\n"))
    })?;
    let policy = reading.policy;
    if policy.downscope == Downscope::Setuid && privilege.source == Source::None {
        let detail = format!("{} demands a change of user, but {}", path.display(), privilege.explain_lack());
        return Err(refuse(Code::Privilege, &detail));
    }
    if policy.downscope == Downscope::Sudo {
        sudo::check_privilege(privilege).map_err(|detail| refuse(Code::Privilege, &detail))?;
    }
    if policy.pam.is_some() {
        session::check_privilege(privilege).map_err(|detail| refuse(Code::Privilege, &detail))?;
    }
    if policy.downscope == Downscope::None && privilege.source == Source::Root {
        let detail = format!(
            "{}: downscope = \"none\" would run jobs as root; run gitlab-runner as the user",
            path.display()
        );
        return Err(refuse(Code::Privilege, &detail));
    }
    Ok(Settings { digest: files::digest_of(&sources), policy })
}

/// The file that is named and, beside `config.toml`, those of `conf.d` in the order of their names.
fn read_files(path: &Path, privilege: Privilege) -> Result<Vec<SourceFile>, String> {
    let read = |path: &Path| {
        let bytes = read_bytes(path, privilege).map_err(|e| e.to_string())?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let line =
                e.as_bytes().iter().take(e.utf8_error().valid_up_to()).filter(|b| **b == b'\n').count() + 1;
            format!("{}:{line}: not UTF-8; save the file as UTF-8", path.display())
        })?;
        Ok::<_, String>(SourceFile { path: path.to_path_buf(), text })
    };
    let mut files = vec![read(path)?];
    if let Some(directory) = conf_d(path) {
        for name in names_in(&directory, privilege)? {
            files.push(read(&directory.join(name))?);
        }
    }
    Ok(files)
}

/// The names of the `.toml` files of a directory that nobody but root can have filled; none where it does not exist.
fn names_in(directory: &Path, privilege: Privilege) -> Result<Vec<String>, String> {
    let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", directory.display());
    let keeper = privilege.keeper();
    let _identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(|e| explain(&e))?;
    let fd = match open_trusted_directory(directory, &privilege.trusted_owners()) {
        Ok(fd) => fd,
        Err(Distrust::Open(_, e)) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.to_string()),
    };
    let mut names = Directory::new(fd).names().map_err(|e| explain(&e))?;
    names.retain(|name| name.ends_with(".toml") && !name.starts_with('.'));
    names.sort();
    if names.len() > MAX_FILES {
        return Err(explain(&format!("more than {MAX_FILES} files")));
    }
    Ok(names)
}

/// A runner that is not root names the default configuration, or one that root has listed, and no other file of root's:
/// a taken-over runner would look for a backup with an older policy, or have `/etc/shadow` quoted in a finding.
fn check_allowed(path: &Path, privilege: Privilege) -> Result<(), String> {
    let free = matches!(privilege.source, Source::Root | Source::None);
    if free || path == Path::new(DEFAULT_CONFIGURATION) {
        return Ok(());
    }
    let refused = |why: &dyn std::fmt::Display| {
        format!("{} is not listed in {ALLOWED_CONFIGURATIONS}, one path a line: {why}", path.display())
    };
    let list = read_bytes(Path::new(ALLOWED_CONFIGURATIONS), privilege).map_err(|e| refused(&e))?;
    let list = String::from_utf8(list).map_err(|e| refused(&e))?;
    if list.lines().any(|line| Path::new(line.trim()) == path) {
        Ok(())
    } else {
        Err(refused(&"it is not in there"))
    }
}

fn read_bytes(path: &Path, privilege: Privilege) -> Result<Vec<u8>, Distrust> {
    files::read_bytes(path, privilege.rights())
}
