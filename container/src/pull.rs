//! Brings an image to this host: once, however many jobs of the account ask for it at once.
//!
//! The engine's store is complete or without the image by itself. A file or directory is made apart
//! and becomes a new copy in the cache ([`crate::copies`]); one that jobs run in stays as it is.

use crate::auth::{AuthFile, matching};
use crate::call::{Called, call_unless};
use crate::copies::{About, Cache, Copy, User, about_image};
use crate::credential_helper;
use crate::description::{Description, Inspect, Kind, Pull};
use crate::names::{ImageName, Reference};
use crate::own;
use crate::partial::Partial;
use crate::pull_lock::{LONGEST_NOTE, now};
use crate::resolved::{Resolved, tcp_ports};
use crate::stage::lacks;
use crate::trouble::{Cause, Failure, Password, takes_no_token};
use crate::words::{Lists, Values};
use nunbird_handover::{Container, Credential, Credentials, Handover, Image, PullPolicy, Untrusted};
use nunbird_stage::StageError;
use nunbird_stage::command::{CommandOutput, RunningCommand};
use nunbird_stage::signals::Signals;
use nunbird_stage::small_files;
use nunbird_stage::template::{Pattern, any_matches, fill_word};
use nunbird_stage::words::lines;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time for a command that only looks.
const LOOK: Duration = Duration::from_secs(60);
/// The most layers of an image: twice of what Docker makes and takes (127); the kernel's overlayfs takes 500 (`OVL_MAX_STACK`). An engine would fetch ten
/// thousand of them until `pull_timeout` is over, and Podman takes longer for each than for the one before.
const MOST_LAYERS: usize = 256;
/// So often at most the layers of an image are printed: engines print them again with each attempt (Podman makes four).
const MOST_ATTEMPTS: usize = 8;
/// The group of such a pattern that has a layer's name.
const LAYER: &str = "layer";
/// How much of a pull's output is looked at for layers: some ten thousand lines.
const LONGEST_OUTPUT: usize = 1 << 20;

/// Everything that a pull needs to know.
pub(crate) struct Puller<'a> {
    pub(crate) description: &'a Description,
    pub(crate) container: &'a Container,
    pub(crate) image: &'a Image,
    pub(crate) name: &'a ImageName,
    /// The job, with the passwords that it has for registries.
    pub(crate) handover: &'a Handover,
    /// The outer script.
    pub(crate) outer: &'a Path,
    /// The private runtime directory.
    pub(crate) runtime: &'a Path,
    /// Where locks and images of this kind lie.
    pub(crate) place: &'a Path,
    pub(crate) lists: Lists<'a>,
    pub(crate) values: Values,
    /// The job, for the copy that it uses.
    pub(crate) user: User,
    pub(crate) signals: &'a Signals,
    /// Writes a line into the job log.
    pub(crate) say: &'a dyn Fn(&str),
}

impl Puller<'_> {
    /// The image, by the first of the job's pull policies that has it.
    pub(crate) fn image(&self) -> Result<Resolved, Failure> {
        if let ImageName::Path(path) = self.name {
            return self.given(path);
        }
        let mut failure = None;
        for (n, policy) in self.image.pull.iter().enumerate() {
            let found = match policy {
                PullPolicy::Always => self.pull_once(),
                PullPolicy::IfNotPresent => match self.present()? {
                    Some(image) => Ok(image),
                    None => self.pull_once(),
                },
                PullPolicy::Never => match self.present()? {
                    Some(image) => Ok(image),
                    None => Err(self.not_here()),
                },
            };
            match found {
                Ok(image) => return Ok(image),
                Err(Failure::Cancelled) => return Err(Failure::Cancelled),
                Err(failed) => {
                    // A registry that refuses the job refuses it the copy, too, which another job may have pulled with
                    // a password of its own.
                    if matches!(failed, Failure::Job(_) | Failure::Refused(_)) && *policy != PullPolicy::Never
                    {
                        return Err(failed);
                    }
                    let (Failure::Job(error) | Failure::System(error)) = &failed else { return Err(failed) };
                    if n + 1 < self.image.pull.len() {
                        (self.say)(&format!("{error}; trying the next pull policy"));
                    }
                    // The reason of a pull says more than that no copy is here.
                    if failure.is_none() || *policy != PullPolicy::Never {
                        failure = Some(failed);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| self.not_here()))
    }

    fn not_here(&self) -> Failure {
        let text = format!(
            "cannot use the image {}: no copy of it is on this host, and the pull policy `never` forbids to fetch one; use another \
             `pull_policy`, or ask the administrators to provide the image",
            self.name.full()
        );
        Failure::Job(StageError::sentence(&text))
    }

    /// The account's own copy in the cache, if there is one.
    fn own_copy(&self) -> Result<Option<Resolved>, Failure> {
        // One that an older release has taken may be no image.
        Ok(self.take()?.map(|copy| self.of_copy(&copy)).transpose()?.filter(Resolved::is_whole))
    }

    pub(crate) fn take(&self) -> Result<Option<Copy>, Failure> {
        Ok(Cache(self.place).take(&self.file_name(), &self.user).map_err(|e| self.not_kept(&e))?)
    }

    fn of_copy(&self, copy: &Copy) -> Result<Resolved, Failure> {
        self.inspected(&copy.path, copy.about.digest.clone())
    }

    /// The image, if a copy is here.
    fn present(&self) -> Result<Option<Resolved>, Failure> {
        match self.description.images.kind {
            Kind::Store => {
                let image = match self.noted() {
                    Some(id) => self.stored(&id)?,
                    // Of an older release, which has noted no id, or of a pull for a platform that this job does not ask for.
                    None => self
                        .named()?
                        .filter(|image| self.image.platform.is_some() || image.foreign().is_none()),
                };
                Ok(image.filter(|image| image.is_whole() && self.is_for_the_platform(image)))
            }
            _ => {
                let shared = self.container.shared_cache.as_ref().map(|shared| shared.join(self.file_name()));
                // Not by its link, which the site may switch during the job.
                match shared.and_then(|path| path.canonicalize().ok()) {
                    Some(path) => self.inspected(&path, about_image(&path).and_then(|about| about.digest)),
                    None => return self.own_copy(),
                }
                .map(|image| Some(image).filter(Resolved::is_whole))
            }
        }
    }

    /// What the engine's store has under the name, whatever that is.
    fn named(&self) -> Result<Option<Resolved>, Failure> {
        self.stored(&self.name.for_engine(&self.description.images))
    }

    /// The same under any word that the engine takes.
    pub(crate) fn stored(&self, word: &str) -> Result<Option<Resolved>, Failure> {
        let Some(inspect) = &self.description.inspect else { return Ok(None) };
        self.inspect(inspect, word, None)
    }

    /// The id of what the last pull of this name for this platform has brought into the engine's store, which has one image for each name.
    fn noted(&self) -> Option<String> {
        let text = small_files::beginning(&self.lock_file(), LONGEST_NOTE).ok()?;
        let id = std::str::from_utf8(&text).ok()?.split_whitespace().nth(1)?;
        is_id(id).then(|| id.to_owned())
    }

    fn nothing_came(&self) -> Failure {
        let text = format!(
            "cannot use the image {}: {} has pulled it without an error, and has no such image; report it to the administrators",
            self.name.full(),
            self.description.title
        );
        Failure::System(StageError::sentence(&text))
    }

    /// Its name in directories of images, locks and notes.
    pub(crate) fn file_name(&self) -> String {
        self.name.file_name(self.image.platform.as_deref()) + &self.description.images.cached
    }

    /// Pulls, unless another job of the account pulls the same image meanwhile: then its result
    /// counts.
    fn pull_once(&self) -> Result<Resolved, Failure> {
        let Some(pull) = &self.description.pull else {
            return Err(self.not_here());
        };
        let asked = now();
        let deadline = Instant::now() + Duration::from_secs(self.container.pull_timeout);
        let mut lock = self.lock(deadline)?;
        // A clock that is set back makes one pull more.
        if lock.pulled_at().is_some_and(|at| at >= asked)
            && let Some(image) = self.pulled()?
        {
            return Ok(image);
        }
        let begin = Instant::now();
        (self.say)(&format!("pulling the image {} …", self.name.full()));
        let partial = Partial::make(self.place, &self.description.images.cached).map_err(|e| {
            let help = "make sure that its file system has space and quota left";
            StageError::at("cannot make a directory in", self.place, e, help)
        })?;
        let credentials = self.credentials(self.reference(), deadline)?;
        let auth = self.auth_file(&credentials)?;
        let left = || deadline.saturating_duration_since(Instant::now());
        let image = if self.description.has_store() {
            let id = self.run(pull, self.name, &partial, &auth, &credentials, deadline)?;
            let found = match &id {
                Some(id) => self.stored(id)?,
                None => self.named()?,
            };
            let image = self.check(found.ok_or_else(|| self.nothing_came())?)?;
            lock.set_pulled(id.as_deref());
            image
        } else {
            let asked = self.asked(&partial, &auth, left())?;
            if let Some(copy) = self.same(asked.as_ref())? {
                lock.set_pulled(None);
                (self.say)("the copy that is here is what the registry has");
                return self.of_copy(&copy);
            }
            self.run(pull, &self.by_digest(asked.as_ref()), &partial, &auth, &credentials, deadline)?;
            let digest = self.brought(asked, &partial, &auth, left())?;
            // Before it is a copy: then no job ever takes what is no image.
            let image = self.check(self.inspected(&partial.image(), digest.clone().ok())?)?;
            let about = About {
                name: self.name.full(),
                engine: self.description.title.clone(),
                key: self.file_name(),
                image: format!("image{}", self.description.images.cached),
                digest: digest.clone().ok(),
                no_digest: digest.err(),
            };
            let copy = Cache(self.place).publish(&partial, &about, &self.user);
            let copy = copy.map_err(|e| self.not_kept(&e))?;
            lock.set_pulled(None);
            Resolved { for_create: copy.path.display().to_string(), ..image }
        };
        (self.say)(&format!("pulled it in {} s", begin.elapsed().as_secs()));
        Ok(image)
    }

    /// What another job of the account has pulled: not the site's copy, which may be an older one.
    fn pulled(&self) -> Result<Option<Resolved>, Failure> {
        match self.description.images.kind {
            Kind::Store => self.present(),
            _ => self.own_copy(),
        }
    }

    fn not_kept(&self, cause: &std::io::Error) -> StageError {
        let help = "make sure that its file system has space and quota left";
        StageError::at("cannot keep the image in", self.place, cause, help)
    }

    fn reference(&self) -> Option<&Reference> {
        match self.name {
            ImageName::Registry(reference) => Some(reference),
            _ => None,
        }
    }

    fn auth_file(&self, credentials: &Credentials) -> Result<AuthFile, StageError> {
        AuthFile::write(self.runtime, self.reference(), credentials).map_err(|e| {
            let help = "its file system may be full; report it to the administrators";
            StageError::at("cannot write a file in", self.runtime, e, help)
        })
    }

    /// The id of what it has brought, where the engine says it.
    fn run(
        &self,
        pull: &Pull,
        name: &ImageName,
        partial: &Partial,
        auth: &AuthFile,
        credentials: &Credentials,
        deadline: Instant,
    ) -> Result<Option<String>, Failure> {
        let reference = self.reference();
        let mut pulled = None;
        let mut values = self.values.clone();
        values.insert("reference", name.for_engine(&self.description.images));
        values.insert("file", partial.image().display().to_string());
        values.insert("work", partial.path().display().to_string());
        values.insert("auth", auth.path().display().to_string());
        let mut environment: Vec<(OsString, OsString)> = pull
            .environment
            .iter()
            .map(|(name, value)| (name.into(), fill_word(value, &values).into()))
            .collect();
        // Engines with a file of passwords choose likewise.
        let credential = matching(reference, credentials).max_by_key(|one| one.registry.len());
        environment.extend(self.login(pull, credential)?);
        let lists = self.lists.with_login(credential.is_some());
        for command in [Some(&pull.command), pull.convert.as_ref()].into_iter().flatten() {
            let left = deadline.saturating_duration_since(Instant::now());
            let has_too_many = Cell::new(false);
            let stops = |running: &RunningCommand| {
                let printed = running.printed(LONGEST_OUTPUT).unwrap_or_default();
                has_too_many
                    .set(pull.layers.as_ref().is_some_and(|layers| count(layers, &printed) > MOST_LAYERS));
                has_too_many.get()
            };
            let words = lists.fill(command, &values);
            let output = match self.call(&words, &environment, left, &stops)? {
                Called::Ended(output) => output,
                Called::Cancelled => return Err(Failure::Cancelled),
                Called::Late if has_too_many.get() => return Err(self.too_many()),
                Called::Late => return Err(self.late()),
            };
            if !output.status.is_some_and(|status| status.success()) {
                let said = format!("{}\n{}", output.out, output.err);
                let cause = Cause::of(pull, &self.name.masked(&said));
                let more = match (cause, &self.image.platform) {
                    (Cause::Other, _) => lacks(self.outer),
                    (Cause::WrongPlatform, Some(platform)) => {
                        format!("; the job asks for {} (`docker: platform:`)", Untrusted(platform))
                    }
                    _ => String::new(),
                };
                return Err(cause.failure(&self.name.full(), &said, &more, Password::of(credential)));
            }
            let id = pull.pulled.as_ref().and_then(|pattern| pattern.0.captures(&output.out)?.get(1));
            pulled = id.map(|id| id.as_str().to_owned()).filter(|id| is_id(id)).or(pulled);
        }
        Ok(pulled)
    }

    fn too_many(&self) -> Failure {
        let text = format!(
            "cannot pull the image {}: it has more than {MOST_LAYERS} layers, the most that Nunbird takes; put them together where \
             the image is built (`--squash-all` of podman build and buildah)",
            self.name.full()
        );
        Failure::Job(StageError::sentence(&text))
    }

    fn late(&self) -> Failure {
        let text = format!(
            "cannot pull the image {}: it took more than {} s (`pull_timeout`); the registry may be slow or the image large: run the \
                     job again, use a smaller image, or ask the administrators to raise the limit",
            self.name.full(),
            self.container.pull_timeout
        );
        Failure::System(StageError::sentence(&text))
    }

    /// The passwords that this pull may use: the answer of a helper program for the registry, or else what the job has itself.
    fn credentials(&self, reference: Option<&Reference>, deadline: Instant) -> Result<Credentials, Failure> {
        let own = || self.handover.credentials.clone();
        let Some(reference) = reference else { return Ok(own()) };
        let asked = self.handover.credential_helpers.iter().find(|one| one.registry == reference.registry);
        let Some(helper) = asked else { return Ok(own()) };
        let answer = credential_helper::ask(helper, self.container, self.handover, deadline, self.signals)?;
        match answer {
            Some(credential) => Ok(Credentials(vec![credential])),
            None => {
                let program = credential_helper::program(helper);
                (self.say)(&format!("{program} has no password for {}", reference.registry));
                Ok(own())
            }
        }
    }

    /// For an engine that takes a user name and a password from its environment, where no process
    /// of another account sees them.
    fn login(
        &self,
        pull: &Pull,
        credential: Option<&Credential>,
    ) -> Result<Vec<(OsString, OsString)>, Failure> {
        let Some(one) = credential.filter(|_| !pull.login.is_empty()) else { return Ok(Vec::new()) };
        if one.user == Credential::TOKEN {
            return Err(takes_no_token(&self.name.full(), &self.description.title, one));
        }
        let values = Values::from([("user", one.user.clone()), ("password", one.password.clone())]);
        let words = pull.login.iter().map(|(name, value)| (name.into(), fill_word(value, &values).into()));
        Ok(words.collect())
    }

    /// What an image at this path is.
    pub(crate) fn inspected(&self, path: &Path, digest: Option<String>) -> Result<Resolved, Failure> {
        let word = path.display().to_string();
        let digest_in_name = self.name.digest().map(str::to_owned);
        let plain = Resolved { digest: digest_in_name, ..Resolved::new(self.name.full(), word.clone()) };
        let image = match &self.description.inspect {
            Some(inspect) => self.inspect(inspect, &word, Some(&word))?.unwrap_or(plain),
            None => plain,
        };
        Ok(Resolved { digest: image.digest.or(digest), ..image })
    }

    /// `None` if there is no such image. `keep` is the word for `create`, else that is the id.
    fn inspect(
        &self,
        inspect: &Inspect,
        word: &str,
        keep: Option<&str>,
    ) -> Result<Option<Resolved>, Failure> {
        let mut values = self.values.clone();
        values.insert("reference", word.to_owned());
        let output = match self.engine(&inspect.command, &values, &[], LOOK)? {
            Called::Ended(output) => output,
            Called::Cancelled => return Err(Failure::Cancelled),
            Called::Late => return Err(self.not_inspected("it did not answer within a minute")),
        };
        let ended_well = output.status.is_some_and(|status| status.success());
        let Some(facts) = inspect.facts(&output.out, ended_well) else {
            let said = format!("{}\n{}", output.out, output.err);
            return match any_matches(&inspect.absent, &said) {
                true => Ok(None),
                false => Err(self.not_inspected(&lines(&said))),
            };
        };
        let group =
            |name: &str| facts.get(name).filter(|text| !text.is_empty() && *text != "<none>").cloned();
        let id = group("id").unwrap_or_else(|| word.to_owned());
        Ok(Some(Resolved {
            name: self.name.full(),
            for_create: keep.map_or(id, str::to_owned),
            digest: self.name.digest().map(str::to_owned).or_else(|| group("digest")),
            platform: group("platform"),
            user: group("user"),
            entrypoint: group("entrypoint")
                .and_then(|json| serde_json::from_str::<Option<Vec<String>>>(&json).ok().flatten())
                .unwrap_or_default(),
            ports: group("ports").map(|json| tcp_ports(&json)).unwrap_or_default(),
            state: None,
        }))
    }

    fn not_inspected(&self, cause: &str) -> Failure {
        let what = format!("{} cannot say what the image {} is", self.description.title, self.name.full());
        Failure::System(StageError::new(
            &what,
            cause,
            "if the message does not help, report it to the administrators",
        ))
    }

    pub(crate) fn engine(
        &self,
        command: &[String],
        values: &Values,
        environment: &[(OsString, OsString)],
        time: Duration,
    ) -> Result<Called, Failure> {
        self.call(&self.lists.fill(command, values), environment, time, &|_| false)
    }

    fn call(
        &self,
        command: &[String],
        environment: &[(OsString, OsString)],
        time: Duration,
        stops: &dyn Fn(&RunningCommand) -> bool,
    ) -> Result<Called, Failure> {
        let mut words = vec!["engine".to_owned()];
        words.extend_from_slice(command);
        call_unless(self.outer, &words, environment, time, Some(self.signals), stops).map_err(|e| {
            Failure::System(StageError::new("cannot start /bin/sh", e, "report it to the administrators"))
        })
    }
}

/// How many layers an image has, by what its pull has printed until now. One that is printed again is another attempt's, but not for ever.
fn count(layers: &Pattern, printed: &str) -> usize {
    if !layers.0.capture_names().flatten().any(|name| name == LAYER) {
        let stated = layers.0.captures(printed).and_then(|found| found.get(1)?.as_str().parse().ok());
        return stated.unwrap_or_else(|| layers.0.find_iter(printed).count());
    }
    let (mut different, mut all) = (BTreeSet::new(), 0_usize);
    for found in layers.0.captures_iter(printed) {
        all += 1;
        different.extend(found.name(LAYER).map(|layer| layer.as_str()));
    }
    different.len().max(all.div_ceil(MOST_ATTEMPTS))
}

/// Whether this can be an engine's id of an image, and is no option of its commands.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b':')
}

/// The last words of a command that failed.
pub(crate) fn said(output: &CommandOutput) -> String {
    lines(&format!("{}\n{}", output.err, output.out))
}

/// Makes the account's directory of images, which must be its own.
pub(crate) fn make_place(path: &Path) -> Result<(), StageError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| {
        StageError::at(
            "cannot make",
            path,
            e,
            "make sure that the directory above it is writable and has space and quota left",
        )
    })?;
    own::check(path)
}

/// Reads what a job's `prepare` has kept.
pub(crate) fn kept(directory: &Path) -> Option<Resolved> {
    serde_json::from_slice(&small_files::beginning(&directory.join("image"), 1 << 20).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::{MOST_LAYERS, count};
    use crate::description::Description;
    use crate::description::podman;
    use nunbird_handover::Engine;

    #[test]
    fn layers_are_counted_or_stated_by_what_a_pull_prints() {
        let layers = podman().pull.and_then(|pull| pull.layers).expect("a pattern");
        let line = |n: usize| format!("Copying blob sha256:{n:064x}\n");
        let attempt: String = (0..127).map(line).collect();
        let retried =
            "time=\"2026-01-01T00:00:00Z\" level=warning msg=\"Failed, retrying in 1s ... (1/3)\"\n";
        let attempts = format!("Getting image source signatures\n{attempt}{retried}").repeat(4);
        assert_eq!(count(&layers, &attempts), 127, "each attempt prints the layers again");
        assert_eq!(count(&layers, &(0..257).map(line).collect::<String>()), 257);
        assert!(count(&layers, &line(1).repeat(10_000)) > MOST_LAYERS, "one layer again and again");
        assert_eq!(count(&layers, "Error: no such image"), 0);
        let charliecloud = Description::of(&Engine::Named("charliecloud".to_owned())).expect("an engine");
        let layers = charliecloud.pull.and_then(|pull| pull.layers).expect("a pattern");
        assert_eq!(
            count(&layers, "manifest: downloading: 100%\nlayer 1/10000: 2c632cf: downloading: 0%\n"),
            10_000
        );
    }
}
