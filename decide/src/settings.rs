//! The configuration, from files that `nunbird-auth` has opened and trusts.

use nunbird_host::refusal::{Code, Refusal};
use nunbird_judge::files::digest_of;
use nunbird_policy::{Downscope, Policy, SourceFile};
use nunbird_requests::{Privileges, Start};
use std::fs::File;
use std::path::Path;

/// The site's policy and the digest it is known by.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    /// SHA-256 of its files, in hexadecimal.
    pub(crate) digest: String,
}

/// Reads the configuration.
///
/// # Errors
/// A system refusal for files that are no policy, or one that cannot be followed with the privilege that there is.
pub(crate) fn read(start: &Start, files: Vec<File>) -> Result<Settings, Refusal> {
    let refuse = |code, detail: &dyn std::fmt::Display| {
        Refusal::system(code, "Nunbird's configuration on this host cannot be used", detail)
    };
    let sources: Result<Vec<SourceFile>, String> =
        start.files.iter().zip(files).map(|(path, file)| source(path, file)).collect();
    let sources = sources.map_err(|detail| refuse(Code::ConfigurationFile, &detail))?;
    let main = start.files.first().cloned().unwrap_or_default();
    let policy = Policy::of_files(&sources).map_err(|findings| {
        let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
        refuse(Code::ConfigurationInvalid, &all.join("\n"))
    })?;
    check_privilege(&policy, start, &main).map_err(|detail| refuse(Code::Privilege, &detail))?;
    Ok(Settings { digest: digest_of(&sources), policy })
}

fn source(path: &Path, file: File) -> Result<SourceFile, String> {
    let bytes = nunbird_host::files::content(path, file).map_err(|e| e.to_string())?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = e.as_bytes().iter().take(e.utf8_error().valid_up_to());
        let line = valid.filter(|b| **b == b'\n').count() + 1;
        format!("{}:{line}: not UTF-8; save the file as UTF-8", path.display())
    })?;
    Ok(SourceFile { path: path.to_path_buf(), text })
}

fn check_privilege(policy: &Policy, start: &Start, path: &Path) -> Result<(), String> {
    if policy.downscope == Downscope::Setuid && start.privileges == Privileges::None {
        let lack = match start.inert {
            true => {
                "no_new_privs is set (a container, or NoNewPrivileges= of a unit), so setuid and file capabilities are inert"
            }
            false => {
                "nunbird-auth is neither setuid-root (mode 4750) nor has it cap_setuid and cap_setgid, or its file system is mounted nosuid"
            }
        };
        return Err(format!("{} demands a change of user, but {lack}", path.display()));
    }
    if policy.downscope == Downscope::Sudo {
        check_sudo(start.privileges)?;
    }
    if policy.pam.is_some() {
        start.privileges.check_pam()?;
    }
    if policy.downscope == Downscope::None && start.privileges == Privileges::Root {
        return Err(format!(
            "{}: downscope = \"none\" would run jobs as root; run gitlab-runner as the user",
            path.display()
        ));
    }
    Ok(())
}

/// Whether the program was started as `downscope = "sudo"` wants it: a setuid bit or capabilities would run all of it, for nothing, with privilege.
fn check_sudo(privileges: Privileges) -> Result<(), String> {
    match privileges {
        Privileges::None => Ok(()),
        other => Err(format!(
            "`downscope = \"sudo\"` is for a nunbird-auth without privilege, and this one has its own from: {}; run \
             gitlab-runner as an account of its own and nunbird-auth with mode 0755 (setcap -r), or write \
             `downscope = \"setuid\"`",
            other.name()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::check_sudo;
    use nunbird_requests::Privileges;

    #[test]
    fn only_a_program_without_privilege_leaves_the_change_of_user_to_sudo() {
        assert_eq!(check_sudo(Privileges::None), Ok(()));
        for source in [Privileges::Root, Privileges::Setuid, Privileges::FileCapabilities] {
            assert!(check_sudo(source).is_err_and(|why| why.contains(source.name())), "{source:?}");
        }
    }
}
