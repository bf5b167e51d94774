//! The `prepare` stage: makes the job's control directory, brings the image to this host and makes
//! the container.

use crate::binds::{self, empty_home, inside, make_places};
use crate::bounds;
use crate::call::{Called, call};
use crate::copies::User;
use crate::description::{Description, Kind};
use crate::names::ImageName;
use crate::outer::{ENDED_AT_ONCE, Outer, name, program, store};
use crate::pull::{Puller, kept, make_place, said};
use crate::resolved::Resolved;
use crate::runner::{is_of_runner, of_runner};
use crate::save::{self, is_needed, keep};
use crate::services::{self, ServiceImage};
use crate::stage::{nonce, outer_path, write, write_outer};
use crate::trees;
use crate::trouble::{Failure, printable};
use crate::words::{Ids, Lists, Values, inexpressible, unknown_bind};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use nunbird_handover::{Bind, Container, Handover, Image, Untrusted};
use nunbird_stage::signals::Signals;
use nunbird_stage::small_files::directory;
use nunbird_stage::template::any_matches;
use nunbird_stage::{StageError, error::shown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time to make the private directories and a user namespace, and to make a container.
const MAKE: Duration = Duration::from_secs(120);
/// The exit status of the outer script where a service has failed.
const SERVICE_FAILED: i32 = 65;

/// What the outer script has chosen on this host.
#[derive(Debug, Clone)]
struct Places {
    ids: Ids,
    why: String,
    runtime: PathBuf,
    images: PathBuf,
}

/// Prepares the job's container. Each line for the job log is passed to `say` when it is due; the
/// lines returned are for the greeting.
///
/// # Errors
/// Whose fault it is, in words for the user.
pub fn prepare(
    handover: &Handover,
    container: &Container,
    signals: &Signals,
    say: &dyn Fn(&str),
) -> Result<Vec<String>, Failure> {
    let description = description(container)?;
    services::check(&description, container)?;
    make_directories(handover, container)?;
    let binds = binds(handover, container)?;
    check_binds(&description, container, &binds)?;
    let name = match &container.image {
        Some(image) => Some((image, check_name(&description, image)?)),
        None if description.images.kind == Kind::None => None,
        None => return Err(no_image(container)),
    };
    let nonce = nonce()?;
    let mut outer = Outer {
        description: &description,
        handover,
        container,
        image: None,
        services: &[],
        binds: &binds,
        nonce: &nonce,
        grace: 0,
        allocation: None,
    };
    let path = outer_path(container);
    write_outer(&outer)?;
    let places = places(&description, &path, signals)?;
    let bench =
        Bench { description: &description, handover, container, outer: path.clone(), places, signals };
    let image = match &name {
        Some((image, _)) if description.images.kind == Kind::Tree => Some(trees::find(image)?),
        Some((image, name)) => Some(bench.fetch(image, name, say)?),
        None => None,
    };
    if let (Some((asked, name)), Some(image), None) = (&name, &image, &handover.batch)
        && description.create.is_none()
    {
        bench.puller(asked, name, &bench.place(), say).try_foreign(image)?;
    }
    if let Some(image) = &image {
        write(&container.directory.join("image"), &serde_json::json!(image).to_string())?;
    }
    fetch_of_runner(&bench, say)?;
    let services = fetch_services(&bench, say)?;
    services::keep(container, &services)?;
    outer.image = image.as_ref();
    outer.services = &services;
    write_outer(&outer)?;
    // In an allocation each stage makes its own; on this host the first stage that needs it does.
    if description.create.is_some() && handover.batch.is_none() {
        services::write_variables(container, description.services.as_ref())?;
        let made = make(&description, container, &path, signals, image.as_ref(), say);
        services::forget_variables(&services::variables_directory(container));
        made?;
    }
    Ok(greeting(&description, container, image.as_ref(), &bench.places))
}

pub(crate) fn description(container: &Container) -> Result<Description, StageError> {
    Description::of(&container.engine).map_err(|e| {
        let what = format!("cannot use the container engine of [container.{}]", Untrusted(&container.name));
        StageError::new(&what, e, "report it to the administrators")
    })
}

/// What the job's image is, if `prepare` has brought one.
pub(crate) fn image(container: &Container) -> Option<Resolved> {
    kept(&container.directory)
}

/// The binds, without the optional ones that are not here: for a node, its own script would look.
pub(crate) fn binds(handover: &Handover, container: &Container) -> Result<Vec<Bind>, StageError> {
    let mut all = binds::all(handover, container);
    all.retain(|bind| !bind.optional || bind.source.exists());
    Ok(all)
}

pub(crate) fn make_directories(handover: &Handover, container: &Container) -> Result<(), StageError> {
    let made = if container.home { inside(container) } else { empty_home(container) };
    directory(handover, &made, true)?;
    let Some(calls) = container.calls() else { return Ok(()) };
    directory(handover, &calls, true)?;
    // The machine's agent, which can make none there, opens it as soon as it has started.
    let fifo = calls.join("calls");
    match mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
        Err(e) => Err(StageError::at("cannot make", &fifo, e, "report it to the administrators")),
    }
}

/// Checks that the engine can have the binds, and makes places for them.
pub(crate) fn check_binds(
    description: &Description,
    container: &Container,
    binds: &[Bind],
) -> Result<(), StageError> {
    if let Some(path) = inexpressible(description, binds) {
        let cause = format!("{} cannot have a path with such a character in a container", description.title);
        return Err(StageError::at("cannot use", path, cause, "report it to the administrators"));
    }
    let report =
        |text: &str| StageError::sentence(&format!("{text} of [container.{}]", Untrusted(&container.name)));
    if let Some(bind) = unknown_bind(description, binds) {
        let kind = if bind.writable { "writable" } else { "read-only" };
        let text = format!(
            "{} has no {kind} binds, so {} cannot be in the container; ask the administrators to change `binds`",
            description.title,
            shown(&bind.target)
        );
        return Err(report(&text));
    }
    if !container.host_network && description.words.network_own.is_empty() {
        let text = format!(
            "{} has no network but the host's; ask the administrators to change `network` or `engine`",
            description.title
        );
        return Err(report(&text));
    }
    for bind in binds {
        if let Err(e) = bind.source.metadata() {
            let what = format!("the container has no {}", shown(&bind.target));
            let help = format!(
                "ask the administrators to correct `binds` of [container.{}], or to make it `optional`",
                Untrusted(&container.name)
            );
            return Err(StageError::at(&format!("{what}: cannot use"), &bind.source, e, &help));
        }
    }
    make_places(binds).map_err(|(path, e)| {
        StageError::at("cannot make a place in the container:", &path, e, "report it to the administrators")
    })
}

pub(crate) fn check_name(description: &Description, image: &Image) -> Result<ImageName, Failure> {
    ImageName::parse(&image.name, &description.images).map_err(|e| {
        let what = format!("{} cannot use the image `{}`", description.title, Untrusted(&image.name));
        Failure::Job(StageError::new(&what, e, "correct it in .gitlab-ci.yml"))
    })
}

fn no_image(container: &Container) -> Failure {
    let text = format!(
        "the job has no `image:`, and [container.{}] has none for such jobs; name one in .gitlab-ci.yml",
        Untrusted(&container.name)
    );
    Failure::Job(StageError::sentence(&text))
}

fn places(description: &Description, outer: &Path, signals: &Signals) -> Result<Places, Failure> {
    let output = match start(outer, "setup", MAKE, signals)? {
        Called::Ended(output) => output,
        Called::Cancelled => return Err(Failure::Cancelled),
        Called::Late => return Err(late(description).into()),
    };
    let value = |key: &str| {
        output.out.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(str::to_owned)
    };
    let (Some(ids), Some(runtime), Some(images), true) = (
        value("ids"),
        value("runtime"),
        value("images"),
        output.status.is_some_and(|status| status.success()),
    ) else {
        // The script's own sentence, with what helps.
        let text = output.err.lines().next_back().unwrap_or("the container's script failed without a word");
        return Err(StageError::sentence(&printable(text.strip_prefix("nunbird: ").unwrap_or(text))).into());
    };
    Ok(Places {
        ids: if ids == "one" { Ids::One } else { Ids::Many },
        why: value("why").unwrap_or_default(),
        runtime: runtime.into(),
        images: images.into(),
    })
}

fn start(outer: &Path, verb: &str, time: Duration, signals: &Signals) -> Result<Called, StageError> {
    call(outer, &[verb.to_owned()], &[], time, Some(signals))
        .map_err(|e| StageError::new("cannot start /bin/sh", e, "report it to the administrators"))
}

fn late(description: &Description) -> StageError {
    let text = format!(
        "{} did not make the container within {} s; the host or its disk may be overloaded: run the job again, or report it to the \
         administrators",
        description.title,
        MAKE.as_secs()
    );
    StageError::sentence(&text)
}

/// An engine on this host, ready for commands on images.
#[derive(Clone)]
pub(crate) struct Bench<'a> {
    pub(crate) description: &'a Description,
    handover: &'a Handover,
    container: &'a Container,
    outer: PathBuf,
    places: Places,
    signals: &'a Signals,
}

impl<'a> Bench<'a> {
    /// With nothing of the host in containers: for images alone.
    pub(crate) fn make(
        description: &'a Description,
        handover: &'a Handover,
        container: &'a Container,
        signals: &'a Signals,
    ) -> Result<Self, Failure> {
        write_outer(&Outer {
            description,
            handover,
            container,
            image: None,
            services: &[],
            binds: &[],
            nonce: "none",
            grace: 0,
            allocation: None,
        })?;
        let outer = outer_path(container);
        let places = places(description, &outer, signals)?;
        Ok(Bench { description, handover, container, outer, places, signals })
    }

    /// Where images, locks and notes are.
    pub(crate) fn place(&self) -> PathBuf {
        match self.description.images.kind {
            Kind::Store => store(self.container, self.handover.account.uid).join(match self.places.ids {
                Ids::Many => "images-many",
                Ids::One => "images-one",
            }),
            _ => self.container.cache.clone(),
        }
    }

    pub(crate) fn puller<'p>(
        &'p self,
        image: &'p Image,
        name: &'p ImageName,
        place: &'p Path,
        say: &'p dyn Fn(&str),
    ) -> Puller<'p> {
        let account = &self.handover.account;
        let values = Values::from([
            ("program", program(self.description, self.container)),
            ("name", self::name(self.handover, self.container)),
            ("uid", account.uid.to_string()),
            ("gid", account.gid.to_string()),
            ("runtime", self.places.runtime.display().to_string()),
            ("images", self.places.images.display().to_string()),
        ]);
        Puller {
            description: self.description,
            container: self.container,
            image,
            name,
            handover: self.handover,
            outer: &self.outer,
            runtime: &self.places.runtime,
            place,
            lists: Lists::new(self.description, self.container, Vec::new(), self.places.ids),
            values,
            user: user(self.handover, self.container),
            signals: self.signals,
            say,
        }
    }

    /// Brings an image to this host.
    pub(crate) fn fetch(
        &self,
        image: &Image,
        name: &ImageName,
        say: &dyn Fn(&str),
    ) -> Result<Resolved, Failure> {
        let Bench { description, handover, container, .. } = self;
        let place = self.place();
        make_place(&place)?;
        let puller = self.puller(image, name, &place, say);
        let resolved = puller.image()?;
        if resolved.digest.is_none() && !matches!(name, ImageName::Path(_)) {
            say(&format!(
                "the digest of the image {} is not known: {}",
                name.full(),
                puller.why_unknown(&resolved)
            ));
        }
        if image.digest_required && name.digest().is_none() && !matches!(name, ImageName::Path(_)) {
            let now = match (&resolved.digest, name) {
                (Some(digest), ImageName::Registry(reference)) => {
                    format!("; at the moment it is {}/{}@{digest}", reference.registry, reference.repository)
                }
                _ => String::new(),
            };
            let text = format!(
                "cannot use the image {}: the site takes only names with a digest, which always mean the same image{now}; write that into \
                 .gitlab-ci.yml",
                name.full()
            );
            return Err(Failure::Job(StageError::sentence(&text)));
        }
        let mut saved = None;
        if let Some(save) = &description.save
            && is_needed(handover, container)
        {
            let image = save::save(&puller, save, &resolved)?;
            keep(&container.directory, &image)?;
            saved = Some(image);
        }
        if !matches!(name, ImageName::Path(_)) {
            bounds::apply(&puller, &resolved, saved.as_ref());
        }
        Ok(resolved)
    }
}

/// The job, as the user of a copy of its image. A service and the runner have directories of their own in the job's.
fn user(handover: &Handover, container: &Container) -> User {
    let of_service = container.directory.file_name().and_then(|name| name.to_str());
    let end = match of_service.filter(|name| name.starts_with("service-") || is_of_runner(container)) {
        Some(part) => format!(".{part}"),
        None => String::new(),
    };
    User { note: note(handover) + &end, job: handover.job_id, until: handover.expires_at }
}

/// How a job is noted as the user of images.
pub(crate) fn note(handover: &Handover) -> String {
    format!("nb-{}", handover.decision_id)
}

/// The site's image for the runner's own stages, if it has one.
fn fetch_of_runner(bench: &Bench<'_>, say: &dyn Fn(&str)) -> Result<(), Failure> {
    let Some(container) = of_runner(bench.container) else { return Ok(()) };
    let Some(asked) = &container.image else { return Ok(()) };
    directory(bench.handover, &container.directory, true)?;
    let bench = Bench { container: &container, ..bench.clone() };
    let image =
        check_name(bench.description, asked).and_then(|name| bench.fetch(asked, &name, say)).map_err(|failure| {
            // The site has chosen it: no job can do better.
            let of_site = |error: &StageError| {
                let text = format!(
                    "cannot use `runner_image` of [container.{}], in which sources, caches and artifacts are handled: {error}; report it to \
                     the administrators",
                    Untrusted(&container.name)
                );
                Failure::System(StageError::sentence(&text))
            };
            match &failure {
                Failure::Job(error) | Failure::System(error) | Failure::Refused(error) => of_site(error),
                Failure::Cancelled => Failure::Cancelled,
            }
        })?;
    write(&container.directory.join("image"), &serde_json::json!(image).to_string())?;
    let digest = image.digest.as_ref().map(|digest| format!(" ({})", Untrusted(digest))).unwrap_or_default();
    say(&format!("sources, caches and artifacts: image {}{digest}", image.name));
    Ok(())
}

/// The images of the job's services, by the same rules as the job's own.
fn fetch_services(bench: &Bench<'_>, say: &dyn Fn(&str)) -> Result<Vec<ServiceImage>, Failure> {
    let mut images = Vec::new();
    for (number, service) in bench.container.services.iter().enumerate() {
        let alone = services::alone(bench.container, service, number);
        directory(bench.handover, &alone.directory, true)?;
        let bench = Bench { container: &alone, ..bench.clone() };
        let image = check_name(bench.description, &service.image)
            .and_then(|name| bench.fetch(&service.image, &name, say));
        let label = services::label(service, number);
        let image = image.map_err(|failure| services::of_service(failure, &label))?;
        let digest =
            image.digest.as_ref().map(|digest| format!(" ({})", Untrusted(digest))).unwrap_or_default();
        say(&format!("service {label}: image {}{digest}", image.name));
        images.push((image, save::kept(&alone.directory)));
    }
    services::with_ports(&bench.container.services, images)
}

fn make(
    description: &Description,
    container: &Container,
    outer: &Path,
    signals: &Signals,
    image: Option<&Resolved>,
    say: &dyn Fn(&str),
) -> Result<(), Failure> {
    // Each service is started, and then all are waited for.
    let count = u32::try_from(container.services.len()).unwrap_or(u32::MAX);
    let time = MAKE.saturating_mul(count.saturating_add(1)) + Duration::from_secs(container.service_timeout);
    let output = match start(outer, "create", time, signals)? {
        Called::Ended(output) => output,
        Called::Cancelled => return Err(Failure::Cancelled),
        Called::Late => return Err(late(description).into()),
    };
    for line in output.out.lines() {
        say(&Untrusted(line).to_string());
    }
    if output.status.is_some_and(|status| status.code() == Some(SERVICE_FAILED)) {
        let text = output.err.lines().next_back().unwrap_or("a service failed without a word");
        let text = StageError::sentence(&printable(text.strip_prefix("nunbird: ").unwrap_or(text)));
        return Err(Failure::Job(text));
    }
    if output.status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let name = image.map_or("", |image| image.name.as_str());
    let no_shell =
        description.create.as_ref().is_some_and(|create| any_matches(&create.no_shell, &output.err));
    if no_shell {
        let text = format!(
            "cannot use the image {name}: it has no /bin/sh, which the job's script needs ({}); use an image with a shell",
            said(&output)
        );
        return Err(Failure::Job(StageError::sentence(&text)));
    }
    if description.create.as_ref().is_some_and(|create| any_matches(&create.too_deep, &output.err)) {
        let text = format!(
            "cannot use the image {name}: it has more layers than {} can put together ({}); put them together where the image is built \
             (`--squash-all` of podman build and buildah)",
            description.title,
            said(&output)
        );
        return Err(Failure::Job(StageError::sentence(&text)));
    }
    let text = output.err.lines().next_back().unwrap_or_default();
    let text = printable(text.strip_prefix("nunbird: ").unwrap_or(text));
    let help = match image.and_then(Resolved::foreign) {
        Some(platform) => format!("the image is for {}: use one for this host", Untrusted(platform)),
        None => "if the message does not help, report it to the administrators".to_owned(),
    };
    let error = StageError::sentence(&format!("cannot use the image {name}: {text}; {help}"));
    match output.status.and_then(|status| status.code()) {
        Some(ENDED_AT_ONCE) => Err(Failure::Job(error)),
        _ => Err(error.into()),
    }
}

fn greeting(
    description: &Description,
    container: &Container,
    image: Option<&Resolved>,
    places: &Places,
) -> Vec<String> {
    let mut lines = Vec::new();
    match image {
        Some(image) if description.images.kind == Kind::Tree => {
            lines.push(format!("in a machine of its own, by {}: {}", description.title, image.name));
        }
        Some(image) => {
            let digest =
                image.digest.as_ref().map(|digest| format!(" ({})", Untrusted(digest))).unwrap_or_default();
            lines.push(format!("in a container of {}: image {}{digest}", description.title, image.name));
        }
        None => lines.push(format!("in a container of {}", description.title)),
    }
    if places.ids == Ids::One {
        lines.push(format!(
            "the container has one user id, because {}: files of other owners in the image are yours, and programs that change ids fail",
            places.why
        ));
    }
    if let Some(platform) = image.and_then(Resolved::foreign) {
        let platform = Untrusted(platform);
        lines.push(format!("warning: the image is for {platform}, which is not the kind of this host"));
    }
    if let Some(user) = container.image.as_ref().and_then(|image| image.user.as_ref()) {
        lines.push(format!(
            "warning: `docker: user: {}` is not used: the script runs as your account, so that its files are yours",
            Untrusted(user)
        ));
    }
    lines
}
