//! Passwords of the site's for registries (`[credential.NAME]`): what `nunbirdctl credentials refresh` keeps, and which job gets it.
//!
//! The file of a credential is read while a job is prepared, by the way on which keys files are read: `nunbird-auth` opens it, and gives it away
//! only from a directory that root has chosen. A job gets a password for the one repository that it pulls from, in the launcher's
//! message alone.

use crate::refusal::{Code, Refusal};
use nunbird_handover::{Credential, Identity, Untrusted};
use nunbird_policy::{CREDENTIALS_DIR, Policy, SiteCredential, duration_text};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// The layout of the files.
pub const CREDENTIAL_VERSION: u32 = 1;
/// Bytes that the user name and the password may have together: one of each of five repositories fits
/// into the message of a job, whatever else is in it.
pub const LONGEST: usize = 4 << 10;
/// What the errors of keys files end with.
const OF_KEYS: &str = "; run `nunbird-keys refresh`";

/// What the file of a credential has. Prints nothing of the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredCredential {
    /// Always [`CREDENTIAL_VERSION`].
    pub version: u32,
    /// The site's program that gave it.
    pub helper: PathBuf,
    /// For which registry it is.
    pub registry: String,
    /// The user name, or [`Credential::TOKEN`].
    pub user: String,
    /// The password.
    pub secret: String,
    /// When the site's program said so, in seconds since the epoch.
    pub fetched_at: u64,
    /// The configuration that has its table, where the timer does not read that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<PathBuf>,
}

impl fmt::Debug for StoredCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCredential").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Drop for StoredCredential {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl StoredCredential {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, without a word of its content.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let stored: Self = serde_json::from_slice(bytes).map_err(|e| {
            format!("not a file of a credential, at line {}, column {}", e.line(), e.column())
        })?;
        match stored.version {
            CREDENTIAL_VERSION => Ok(stored),
            other => Err(format!("written in format {other}, and this is {CREDENTIAL_VERSION}")),
        }
    }

    /// Why a job cannot use it at this time; none where it can.
    pub fn unusable(&self, of: &SiteCredential, now: u64) -> Option<String> {
        if self.registry != of.registry() {
            return Some(format!("it is for the registry {}", Untrusted(&self.registry)));
        }
        // Another configuration may have a table of this name.
        if self.helper != of.helper {
            return Some(format!("it was given by {}", Untrusted(&self.helper.display().to_string())));
        }
        if let Some(why) = too_long(&self.user, &self.secret) {
            return Some(why);
        }
        if self.fetched_at > now.saturating_add(of.max_age) {
            return Some("it is from a time that is still to come".to_owned());
        }
        let age = now.saturating_sub(self.fetched_at);
        let old = || {
            let (age, most) = (duration_text(age), duration_text(of.max_age));
            format!("the site's program gave it {age} ago, and `max_age` is {most}")
        };
        (age >= of.max_age).then(old)
    }
}

/// Why an answer is not kept for its length; none where it is kept.
pub fn too_long(user: &str, secret: &str) -> Option<String> {
    let bytes = user.len().saturating_add(secret.len());
    (bytes > LONGEST)
        .then(|| format!("its user name and password have {bytes} bytes, and the most are {LONGEST}"))
}

/// The name of a credential's file.
pub fn file_name(of: &SiteCredential) -> String {
    format!("{}.json", of.name)
}

/// Whether a job gets it, by whether its sources come from another project: no member of the project need have reviewed those.
pub fn is_for_sources(of: &SiteCredential, fork: Option<bool>) -> bool {
    of.forks || fork == Some(false)
}

/// The password of the site's with which a job pulls from the repository; none where no credential is for both. `keys_file` reads a file as
/// [`nunbird_host::System::keys_file`] does. `fork` says whether the job's sources come from another project, where that is known.
///
/// # Errors
/// A denial where the sources are or may be a fork's, and a system refusal where there is a credential for it whose password is missing or too
/// old: without it the registry would refuse the job, and the user would look for the fault in the job.
pub fn of_site(
    policy: &Policy,
    job: &Identity,
    fork: Option<bool>,
    repository: &str,
    now: u64,
    keys_file: impl FnOnce(&Path, &str) -> Result<Vec<u8>, String>,
) -> Result<Option<Credential>, Refusal> {
    let Some(of) = policy.credential_for(&job.server, &job.project_path, repository) else { return Ok(None) };
    if !is_for_sources(of, fork) {
        let (sources, why, again) = match fork {
            Some(_) => ("the sources of this pipeline are a fork's", "the sources are a fork's", ""),
            None => (
                "the sources of this pipeline may be a fork's",
                "nothing says whether the sources are a fork's; of a job that was admitted before the configuration had a [credential.NAME] that is \
                 not kept",
                "if the job began before the administrators gave this image a password of the site's, run it again; else ",
            ),
        };
        let message =
            format!("{sources}, and such jobs do not get the site's password for {}", Untrusted(repository));
        let detail = format!("[credential.{}] at {}: {why}, and `forks` is not set", of.name, of.place);
        let help = format!(
            "{again}run the job in a pipeline of a branch of the project itself, not of a merge request and not started by another pipeline, or use \
             another image"
        );
        return Err(Refusal::denied(Code::Images, message, detail).help(help));
    }
    let missing = |why: &str| {
        let message =
            format!("the site's password for {} cannot be used at the moment", Untrusted(repository));
        let detail = format!("[credential.{}] at {}: {why}", of.name, of.place);
        Refusal::system(Code::Images, message, detail)
    };
    let bytes = keys_file(Path::new(CREDENTIALS_DIR), &file_name(of))
        .map(Zeroizing::new)
        .map_err(|why| missing(why.strip_suffix(OF_KEYS).unwrap_or(&why)))?;
    let stored = StoredCredential::read(&bytes).map_err(|why| missing(&why))?;
    match stored.unusable(of, now) {
        Some(why) => Err(missing(&why)),
        None => Ok(Some(Credential {
            registry: repository.to_owned(),
            user: stored.user.clone(),
            password: stored.secret.clone(),
            site: Some(of.name.clone()),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::{StoredCredential, of_site};
    use crate::refusal::{Class, Refusal};
    use nunbird_handover::{Credential, Identity};
    use nunbird_policy::Policy;
    use std::path::Path;

    const NOW: u64 = 1_800_000_000;
    const TEXT: &str = "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"x\"\n\
        [[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n[credential.licensed]\nhelper = \"/opt/site/bin/helper\"\n\
        repositories = \"r.example.org/licensed/**\"\nprojects = \"hpc/app\"\nmax_age = \"1h\"\n";

    fn stored(more: &[(&str, &str)]) -> String {
        let text = format!(
            r#"{{"version":1,"helper":"/opt/site/bin/helper","registry":"r.example.org","user":"site","secret":"hunter2","fetched_at":{}}}"#,
            NOW - 60
        );
        more.iter().fold(text, |text, (old, new)| text.replace(old, new))
    }

    fn asked(
        project: &str,
        repository: &str,
        file: Result<String, String>,
    ) -> Result<Option<Credential>, Refusal> {
        let policy = Policy::parse(Path::new("c.toml"), TEXT).expect("a policy");
        let job = Identity {
            server: "main".to_owned(),
            user_login: "ada".to_owned(),
            user_id: 1,
            project_path: project.to_owned(),
        };
        of_site(&policy, &job, Some(false), repository, NOW, |directory, name| {
            assert_eq!((directory, name), (Path::new("/var/lib/nunbird/credentials"), "licensed.json"));
            file.map(String::into_bytes)
        })
    }

    #[test]
    fn a_job_gets_the_password_for_its_repository_alone_and_no_other_job_has_the_file_read() {
        let credential =
            asked("hpc/app", "r.example.org/licensed/a", Ok(stored(&[]))).expect("no fault").expect("one");
        assert_eq!(
            (credential.site.as_deref(), credential.registry.as_str()),
            (Some("licensed"), "r.example.org/licensed/a")
        );
        assert_eq!((credential.user.as_str(), credential.password.as_str()), ("site", "hunter2"));
        for (project, repository) in
            [("hpc/other", "r.example.org/licensed/a"), ("hpc/app", "r.example.org/open/a")]
        {
            let policy = Policy::parse(Path::new("c.toml"), TEXT).expect("a policy");
            let job = Identity {
                server: "main".to_owned(),
                user_login: "ada".to_owned(),
                user_id: 1,
                project_path: project.to_owned(),
            };
            let found =
                of_site(&policy, &job, None, repository, NOW, |_, _| panic!("it is read for {project}"));
            assert_eq!(found.expect("no fault"), None, "{project} {repository}");
        }
    }

    #[test]
    fn a_password_that_is_missing_old_or_of_another_registry_is_a_fault_of_the_site_and_never_shown() {
        for (file, why) in [
            (
                Err("/x/licensed.json: not there; run `nunbird-keys refresh`".to_owned()),
                "/x/licensed.json: not there",
            ),
            (Ok(stored(&[(":1799999940", ":1799996400")])), "gave it 1h ago, and `max_age` is 1h"),
            (Ok(stored(&[(":1799999940", ":1900000000")])), "a time that is still to come"),
            (Ok(stored(&[("r.example.org", "s.example.org")])), "it is for the registry s.example.org"),
            (
                Ok(stored(&[("/opt/site/bin/helper", "/opt/other/helper")])),
                "it was given by /opt/other/helper",
            ),
            (Ok(stored(&[("hunter2", &"hunter2".repeat(600))])), "have 4204 bytes, and the most are 4096"),
            (Ok(stored(&[("\"version\":1", "\"version\":2")])), "written in format 2"),
            (Ok(stored(&[("\"user\"", "\"uzer\"")])), "not a file of a credential"),
            (Ok("\"hunter2".to_owned()), "not a file of a credential, at line 1"),
        ] {
            let refusal = asked("hpc/app", "r.example.org/licensed/a", file).expect_err(why);
            assert_eq!(refusal.class, Class::System, "{why}");
            assert!(
                refusal.detail.contains(why) && refusal.detail.contains("[credential.licensed] at c.toml:8"),
                "{refusal:?}"
            );
            assert!(
                !refusal.detail.contains("nunbird-keys") && !format!("{refusal:?}").contains("hunter2"),
                "{refusal:?}"
            );
            assert!(refusal.message.contains("r.example.org/licensed/a"), "{refusal:?}");
        }
        let last = stored(&[(":1799999940", ":1799996401")]);
        assert!(asked("hpc/app", "r.example.org/licensed/a", Ok(last)).expect("no fault").is_some());
    }

    #[test]
    fn sources_that_are_or_may_be_a_forks_get_no_password_unless_the_table_says_so() {
        let job = Identity {
            server: "main".to_owned(),
            user_login: "ada".to_owned(),
            user_id: 1,
            project_path: "hpc/app".to_owned(),
        };
        let closed = Policy::parse(Path::new("c.toml"), TEXT).expect("a policy");
        let open = Policy::parse(Path::new("c.toml"), &format!("{TEXT}forks = true\n")).expect("a policy");
        for (fork, said) in [(Some(true), "are a fork's"), (None, "may be a fork's")] {
            let unread = |_: &Path, _: &str| panic!("it is read");
            let refusal =
                of_site(&closed, &job, fork, "r.example.org/licensed/a", NOW, unread).expect_err(said);
            assert_eq!((refusal.class, refusal.code.name()), (Class::Denied, "images"), "{refusal:?}");
            let is_told_to_run_again = refusal.help.starts_with("if the job began before");
            assert_eq!(is_told_to_run_again, fork.is_none(), "{refusal:?}");
            assert!(
                refusal.message.contains(said)
                    && refusal.detail.contains("[credential.licensed] at c.toml:8"),
                "{refusal:?}"
            );
            // What it is not for is no matter of sources.
            assert_eq!(
                of_site(&closed, &job, fork, "r.example.org/open/a", NOW, unread).expect("none"),
                None
            );
            let read = |_: &Path, _: &str| Ok(stored(&[]).into_bytes());
            let given = of_site(&open, &job, fork, "r.example.org/licensed/a", NOW, read).expect("no fault");
            assert_eq!(given.and_then(|one| one.site).as_deref(), Some("licensed"), "{fork:?}");
        }
    }

    #[test]
    fn what_is_stored_prints_no_password() {
        let stored = StoredCredential::read(stored(&[]).as_bytes()).expect("a file");
        assert_eq!(format!("{stored:?}"), "StoredCredential { registry: \"r.example.org\", .. }");
    }
}
