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
use std::path::Path;
use zeroize::{Zeroize, Zeroizing};

/// The layout of the files.
pub const CREDENTIAL_VERSION: u32 = 1;
/// What the errors of keys files end with.
const OF_KEYS: &str = "; run `nunbird-keys refresh`";

/// What the file of a credential has. Prints nothing of the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredCredential {
    /// Always [`CREDENTIAL_VERSION`].
    pub version: u32,
    /// For which registry it is.
    pub registry: String,
    /// The user name, or [`Credential::TOKEN`].
    pub user: String,
    /// The password.
    pub secret: String,
    /// When the site's program said so, in seconds since the epoch.
    pub fetched_at: u64,
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

/// The name of a credential's file.
pub fn file_name(of: &SiteCredential) -> String {
    format!("{}.json", of.name)
}

/// The password of the site's with which a job pulls from the repository, and its NAME; none where no credential is for both. `keys_file` reads a file as
/// [`nunbird_host::System::keys_file`] does.
///
/// # Errors
/// A system refusal where there is a credential for it whose password is missing or too old: without it the registry would refuse the job, and
/// the user would look for the fault in the job.
pub fn of_site(
    policy: &Policy,
    job: &Identity,
    repository: &str,
    now: u64,
    keys_file: impl FnOnce(&Path, &str) -> Result<Vec<u8>, String>,
) -> Result<Option<(String, Credential)>, Refusal> {
    let Some(of) = policy.credential_for(&job.server, &job.project_path, repository) else { return Ok(None) };
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
        None => Ok(Some((
            of.name.clone(),
            Credential {
                registry: repository.to_owned(),
                user: stored.user.clone(),
                password: stored.secret.clone(),
            },
        ))),
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
            r#"{{"version":1,"registry":"r.example.org","user":"site","secret":"hunter2","fetched_at":{}}}"#,
            NOW - 60
        );
        more.iter().fold(text, |text, (old, new)| text.replace(old, new))
    }

    fn asked(
        project: &str,
        repository: &str,
        file: Result<String, String>,
    ) -> Result<Option<(String, Credential)>, Refusal> {
        let policy = Policy::parse(Path::new("c.toml"), TEXT).expect("a policy");
        let job = Identity {
            server: "main".to_owned(),
            user_login: "ada".to_owned(),
            user_id: 1,
            project_path: project.to_owned(),
        };
        of_site(&policy, &job, repository, NOW, |directory, name| {
            assert_eq!((directory, name), (Path::new("/var/lib/nunbird/credentials"), "licensed.json"));
            file.map(String::into_bytes)
        })
    }

    #[test]
    fn a_job_gets_the_password_for_its_repository_alone_and_no_other_job_has_the_file_read() {
        let (name, credential) =
            asked("hpc/app", "r.example.org/licensed/a", Ok(stored(&[]))).expect("no fault").expect("one");
        assert_eq!((name.as_str(), credential.registry.as_str()), ("licensed", "r.example.org/licensed/a"));
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
            let found = of_site(&policy, &job, repository, NOW, |_, _| panic!("it is read for {project}"));
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
    fn what_is_stored_prints_no_password() {
        let stored = StoredCredential::read(stored(&[]).as_bytes()).expect("a file");
        assert_eq!(format!("{stored:?}"), "StoredCredential { registry: \"r.example.org\", .. }");
    }
}
