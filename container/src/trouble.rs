//! Why an image is not here: distinguished by what the engine says, each with what helps, and with
//! whose fault it is.

use crate::description::Pull;
use nunbird_handover::{Credential, Untrusted};
use nunbird_stage::template::{Pattern, any_matches};
use nunbird_stage::words::lines;
use nunbird_stage::{StageError, StageResult};

/// A failure of `prepare`.
#[derive(Debug)]
pub enum Failure {
    /// The job's own: another attempt would fail as well.
    Job(StageError),
    /// The host's or the registry's.
    System(StageError),
    /// The site's password is refused: the host's failure, and a copy that is here is refused to the job as well.
    Refused(StageError),
    /// The job was cancelled.
    Cancelled,
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        Failure::System(error)
    }
}

impl Failure {
    /// What the launcher reports: a message is printed where the job failed by itself.
    ///
    /// # Errors
    /// The message of a system failure.
    pub fn report(self, print: impl Fn(&str)) -> Result<StageResult, StageError> {
        match self {
            Failure::System(error) | Failure::Refused(error) => Err(error),
            Failure::Job(error) => {
                print(&error.to_string());
                Ok(StageResult::BuildFailure)
            }
            Failure::Cancelled => {
                print("cancelled while the container was prepared");
                Ok(StageResult::BuildFailure)
            }
        }
    }
}

/// What an engine or a script has said, of any length, without characters that act on a terminal or a log.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match Untrusted::is_deceptive(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

/// With whose password a pull was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Password<'a> {
    None,
    OfJob,
    /// That of a `[credential.NAME]`.
    OfSite(&'a str),
}

impl<'a> Password<'a> {
    pub(crate) fn of(credential: Option<&'a Credential>) -> Self {
        match credential.map(|one| one.site.as_deref()) {
            None => Password::None,
            Some(None) => Password::OfJob,
            Some(Some(name)) => Password::OfSite(name),
        }
    }
}

/// Why a pull failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Unauthorized,
    Absent,
    Limited,
    WrongPlatform,
    NoSpace,
    Quota,
    Broken,
    Unreachable,
    Other,
}

impl Cause {
    /// By what the engine has printed.
    pub(crate) fn of(pull: &Pull, output: &str) -> Self {
        // An answer of the registry's is more precise than a connection that failed after it; but an image of which not all came says nothing about
        // the image.
        let table: [(&Vec<Pattern>, Cause); 8] = [
            (&pull.quota, Cause::Quota),
            (&pull.no_space, Cause::NoSpace),
            (&pull.limited, Cause::Limited),
            (&pull.wrong_platform, Cause::WrongPlatform),
            (&pull.unauthorized, Cause::Unauthorized),
            (&pull.absent, Cause::Absent),
            (&pull.unreachable, Cause::Unreachable),
            (&pull.broken, Cause::Broken),
        ];
        let found = table.into_iter().find(|(patterns, _)| any_matches(patterns, output));
        found.map_or(Cause::Other, |(_, cause)| cause)
    }

    /// The failure, in words for the user. A registry that refuses the site's password is no fault of the job's.
    ///
    /// `more` is what the host lacks for the engine, or which platform the job asks for, where that is the cause.
    pub(crate) fn failure(self, image: &str, output: &str, more: &str, password: Password<'_>) -> Failure {
        if let (Cause::Unauthorized, Password::OfSite(name)) = (self, password) {
            let text = format!(
                "cannot pull the image {image}: the registry refuses the site's password [credential.{name}], or has no such image ({}); check \
                 the image's name, and if that is right, report it to the administrators, who can have the password replaced",
                lines(output)
            );
            return Failure::Refused(StageError::sentence(&text));
        }
        let (cause, help) = match self {
            Cause::Unauthorized if password != Password::None => (
                "the registry refuses the job's user name and password",
                "check them in DOCKER_AUTH_CONFIG or in the registry's settings, and that they may read this image",
            ),
            Cause::Unauthorized => (
                "the registry wants a user name and password, or has no such image",
                "check the name; for a private image set the CI variable DOCKER_AUTH_CONFIG",
            ),
            Cause::Absent => ("the registry has no such image or tag", "check its name in .gitlab-ci.yml"),
            Cause::Limited => (
                "the registry refuses further requests from here for now",
                "run the job again later, log in to the registry with DOCKER_AUTH_CONFIG, or use GitLab's dependency proxy",
            ),
            Cause::WrongPlatform => (
                "the image is not made for the kind of machine that it is wanted for",
                "use an image for it, or correct `docker: platform:`",
            ),
            Cause::NoSpace => {
                ("the disk for images is full", "free some space there, or report it to the administrators")
            }
            Cause::Quota => (
                "the account's quota on the disk for images is used up",
                "remove files of yours there (nunbirdctl images prune), or ask the administrators for a larger quota",
            ),
            Cause::Broken => (
                "what the registry serves is no image, or not the one that its digest says",
                "push the image again, or use another one",
            ),
            Cause::Unreachable => (
                "the registry does not answer",
                "check its name; if that is right, run the job again later or ask the administrators whether this host reaches it",
            ),
            Cause::Other => {
                ("the engine failed", "if its message does not help, report it to the administrators")
            }
        };
        let text = format!("cannot pull the image {image}: {cause} ({}){more}; {help}", lines(output));
        let error = StageError::sentence(&text);
        match self {
            Cause::Unauthorized | Cause::Absent | Cause::WrongPlatform | Cause::Broken => Failure::Job(error),
            Cause::Limited | Cause::NoSpace | Cause::Quota | Cause::Unreachable | Cause::Other => {
                Failure::System(error)
            }
        }
    }
}

/// Of a user name [`Credential::TOKEN`], for an engine that has a login of a user name and a password alone.
pub(crate) fn takes_no_token(image: &str, engine: &str, credential: &Credential) -> Failure {
    match &credential.site {
        Some(name) => Failure::Refused(StageError::sentence(&format!(
            "cannot pull the image {image}: the site's [credential.{name}] is an identity token, and {engine} takes none; report it to the \
             administrators: its program has to give a user name and a password for this engine"
        ))),
        None => Failure::Job(StageError::sentence(&format!(
            "cannot pull the image {image}: for its registry the job has an identity token, and {engine} takes none; use a user name and a \
             password in DOCKER_AUTH_CONFIG"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Failure, Password, printable, takes_no_token};
    use crate::description::{Description, podman};
    use crate::names::ImageName;
    use nunbird_handover::{Credential, Engine};

    #[test]
    fn what_podman_prints_is_distinguished() {
        let apptainer = Description::of(&Engine::Named("apptainer".to_owned())).expect("an engine");
        let pulls = [podman(), apptainer].map(|engine| engine.pull.expect("a verb"));
        for (output, cause) in [
            (
                "Error: initializing source docker://r.example.org/a:1: reading manifest 1 in r.example.org/a: manifest unknown: manifest unknown",
                Cause::Absent,
            ),
            (
                "Error: initializing source docker://r.example.org/a:1: reading manifest 1 in r.example.org/a: unauthorized: authentication required",
                Cause::Unauthorized,
            ),
            (
                "Error: initializing source docker://r.example.org/a:1: unable to retrieve auth token: invalid username/password: unauthorized: authentication required",
                Cause::Unauthorized,
            ),
            (
                "Error: initializing source docker://docker.io/library/nope:latest: reading manifest latest in docker.io/library/nope: errors:\ndenied: requested access to the resource is denied\nunauthorized: authentication required",
                Cause::Unauthorized,
            ),
            (
                "Error: initializing source docker://a/b:1: pinging container registry a: Get \"https://a/v2/\": dial tcp 127.0.0.1:5: connect: connection refused",
                Cause::Unreachable,
            ),
            (
                "Error: initializing source docker://a/b:1: pinging container registry a: Get \"https://a/v2/\": dial tcp: lookup a: no such host",
                Cause::Unreachable,
            ),
            (
                "Error: reading manifest latest in docker.io/library/alpine: toomanyrequests: You have reached your pull rate limit.",
                Cause::Limited,
            ),
            (
                "Error: choosing an image from manifest list docker://a/b:1: no image found in manifest list for architecture amd64, variant \"\", OS linux",
                Cause::WrongPlatform,
            ),
            (
                "Error: writing blob: adding layer with blob \"sha256:1\": Error processing tar file(exit status 1): write /x: no space left on device",
                Cause::NoSpace,
            ),
            (
                "Error: writing blob: adding layer with blob \"sha256:1\": Error processing tar file(exit status 1): write /x: disk quota exceeded",
                Cause::Quota,
            ),
            (
                "Error: parsing image configuration: invalid character 'h' in literal true (expecting 'r')",
                Cause::Broken,
            ),
            (
                "Error: writing blob: setting up to decompress blob: happened during read: Digest did not match, expected sha256:1, got sha256:2",
                Cause::Broken,
            ),
            (
                "Error: initializing source docker://a/b:1: exceeded maximum allowed size of 4194304 bytes",
                Cause::Broken,
            ),
            (
                "Error: parsing image configuration: Get \"https://r.example.org/v2/a/blobs/sha256:1\": EOF",
                Cause::Unreachable,
            ),
            ("Error: parsing image configuration: unexpected EOF", Cause::Unreachable),
            (
                "Error: parsing image configuration: Error fetching blob: invalid status code from registry 503 (Service Unavailable)",
                Cause::Unreachable,
            ),
            (
                "Error: parsing image configuration: Error fetching blob: invalid status code from registry 429 (Too Many Requests)",
                Cause::Limited,
            ),
            (
                "Error: initializing source docker://a/b:1: unable to retrieve auth token: invalid character '<' looking for beginning of value",
                Cause::Unreachable,
            ),
            (
                "Error: parsing image configuration: invalid character '<' looking for beginning of value",
                Cause::Unreachable,
            ),
            ("Error: parsing image configuration: unexpected end of JSON input", Cause::Broken),
            (
                "Error: parsing image configuration: Download config.json digest sha256:fe03 does not match expected sha256:c4b5",
                Cause::Broken,
            ),
            ("Error: parsing image configuration: something new", Cause::Other),
            ("Error: something new", Cause::Other),
        ] {
            assert_eq!(Cause::of(&pulls[0], output), cause, "{output}");
            // Both have the library for images that says this.
            if output.contains("parsing image configuration") || output.contains("'<'") {
                assert_eq!(Cause::of(&pulls[1], output), cause, "{output}");
            }
        }
    }

    #[test]
    fn a_platform_that_apptainer_does_not_know_is_the_jobs_fault() {
        let apptainer = Description::of(&Engine::Named("apptainer".to_owned())).expect("an engine");
        let printed = "FATAL:   While processing the arch and arch variant: arch: nothing is not valid, supported archs are: [arm arm64 amd64]";
        assert_eq!(Cause::of(&apptainer.pull.expect("a verb"), printed), Cause::WrongPlatform);
    }

    #[test]
    fn what_ch_image_prints_is_the_cause_and_its_warning_of_platforms_is_not() {
        let charliecloud = Description::of(&Engine::Named("charliecloud".to_owned())).expect("an engine");
        let pull = charliecloud.pull.expect("a verb");
        for (output, cause) in [
            ("error: image is architecture-unaware\nhint: consider --arch=yolo", Cause::WrongPlatform),
            ("error: requested arch unavailable: nothing\nhint: available: amd64", Cause::WrongPlatform),
            (
                "warning: image is architecture-unaware\nerror: can’t parse JSON: config.pulled.json:1",
                Cause::Broken,
            ),
            ("warning: image is architecture-unaware\nerror: config missing key 'config'", Cause::Broken),
            (
                "error: registry streamed response content is invalid\nwarning: reprinting 2 warning(s)",
                Cause::Broken,
            ),
            (
                "error: invalid Content-Type for manifest: application/vnd.oci.image.index.v1+json",
                Cause::Broken,
            ),
            (
                "error: GET failed; expected status {401, 404, 200, 429} but got 403: Forbidden",
                Cause::Unauthorized,
            ),
            ("error: GET failed; expected status {401, 404, 200, 429} but got 503: no", Cause::Unreachable),
            ("error: GET failed; expected status {401, 404, 200, 429} but got 400: no", Cause::Other),
        ] {
            assert_eq!(Cause::of(&pull, output), cause, "{output}");
        }
    }

    #[test]
    fn words_in_the_name_of_an_image_are_no_cause() {
        let podman = podman();
        let name = ImageName::parse("r.example.org/licensed/denied:1", &podman.images).expect("a name");
        let pull = podman.pull.expect("a verb");
        let printed = "Error: initializing source docker://r.example.org/licensed/denied:1: reading manifest 1 in \
                       r.example.org/licensed/denied: manifest unknown";
        assert_eq!(Cause::of(&pull, &name.masked(printed)), Cause::Absent);
        assert_eq!(Cause::of(&pull, &name.masked("denied: requested access")), Cause::Unauthorized);
    }

    #[test]
    fn a_registry_that_refuses_the_sites_password_is_no_fault_of_the_job_and_the_message_names_it() {
        let failure =
            Cause::Unauthorized.failure("r.example.org/a:1", "denied", "", Password::OfSite("licensed"));
        let Failure::Refused(error) = failure else { panic!("{failure:?}") };
        let text = error.to_string();
        assert!(text.contains("[credential.licensed]") && text.contains("r.example.org/a:1"), "{text}");
        assert!(!text.contains("DOCKER_AUTH_CONFIG"), "{text}");
        let failure = Cause::Unauthorized.failure("r.example.org/a:1", "denied", "", Password::None);
        assert!(
            matches!(&failure, Failure::Job(error) if error.to_string().contains("wants a user name")),
            "{failure:?}"
        );
    }

    #[test]
    fn what_acts_on_a_terminal_is_shown_as_what_it_is_at_any_length() {
        let long = "x".repeat(2000);
        let text = printable(&format!("{long}\u{1b}[31m\u{9b}1m\u{202e}é{long}"));
        assert_eq!(text, format!("{long}\\u{{1b}}[31m\\u{{9b}}1m\\u{{202e}}é{long}"));
    }

    #[test]
    fn a_registry_that_is_down_is_not_the_jobs_fault_and_a_wrong_name_is() {
        for (cause, of_job) in [
            (Cause::Unauthorized, true),
            (Cause::Absent, true),
            (Cause::WrongPlatform, true),
            (Cause::Limited, false),
            (Cause::Unreachable, false),
            (Cause::NoSpace, false),
            (Cause::Quota, false),
            (Cause::Broken, true),
            (Cause::Other, false),
        ] {
            let failure = cause.failure("a:1", "said\n\u{1b}[31m", "", Password::OfJob);
            assert_eq!(matches!(failure, Failure::Job(_)), of_job, "{failure:?}");
            let (Failure::Job(error) | Failure::System(error)) = failure else { panic!("cancelled") };
            assert!(!error.to_string().contains('\u{1b}') && error.to_string().contains("a:1"), "{error}");
        }
    }

    #[test]
    fn an_identity_token_of_the_sites_for_an_engine_that_takes_none_is_no_fault_of_the_job() {
        let mut one = Credential {
            registry: "r.example.org/a".to_owned(),
            user: Credential::TOKEN.to_owned(),
            password: "hunter2".to_owned(),
            site: Some("licensed".to_owned()),
        };
        let failure = takes_no_token("r.example.org/a:1", "Apptainer", &one);
        assert!(
            matches!(&failure, Failure::Refused(error) if error.to_string().contains("[credential.licensed]")),
            "{failure:?}"
        );
        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        one.site = None;
        let failure = takes_no_token("r.example.org/a:1", "Apptainer", &one);
        assert!(
            matches!(&failure, Failure::Job(error) if error.to_string().contains("DOCKER_AUTH_CONFIG")),
            "{failure:?}"
        );
    }
}
