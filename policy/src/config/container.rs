//! `[container.NAME]`: the container that scripts run in, and the `container` of `[job]` and of profiles.
//! More than 600 lines, because a key, what it means and what holds between keys are one table.

use super::batch::check_variable;
use super::keys::{Form, Key, Setting, Table, Word, form};
use super::reader::{At, Section, Spot};
use super::values;
use crate::image::ImageName;
use crate::{Location, Pattern, suggest};
use nunbird_handover::{CONTAINER_STAGES, CacheBounds, ENGINES, Engine, Gpu, PullPolicy};
use std::collections::BTreeMap;
use std::path::PathBuf;

const HOUR: u64 = 3600;
/// As many as a job response may have.
const MOST_SERVICES: u64 = 16;

/// A container, as the site has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPolicy {
    /// The NAME of `[container.NAME]`.
    pub name: String,
    /// Its place in the configuration.
    pub place: Location,
    /// How containers are made.
    pub engine: Engine,
    /// The engine's program; none for the first of its name on the engine's PATH.
    pub program: Option<PathBuf>,
    /// The image of jobs that name none.
    pub default_image: Option<String>,
    /// The image for the stages that do not run in the job's; none where they run without a container.
    pub runner_image: Option<String>,
    /// The images that jobs may name; all where it is none.
    pub allowed_images: Option<Vec<Pattern>>,
    /// Those that they may not, whatever is allowed.
    pub denied_images: Vec<Pattern>,
    /// The images of services; those of `allowed_images` where it is none.
    pub allowed_services: Option<Vec<Pattern>>,
    /// Whether an image has to be named by its digest.
    pub digest_required: bool,
    /// The pull policies that jobs may name, and those of a job that names none, in the order in which they are tried.
    pub pull_policies: Vec<PullPolicy>,
    /// Whether a job may replace an image's entrypoint.
    pub user_entrypoint: bool,
    /// The stages that run inside; a name that ends in `*` is a prefix.
    pub stages: Vec<String>,
    /// Where the engine keeps images of an account, with `$HOME`, `$USER` and `$UID` in it.
    pub store: Option<String>,
    /// Where converted images of an account are, likewise; none for a directory of `data_dir`.
    pub cache: Option<String>,
    /// Images that the site has converted.
    pub shared_cache: Option<PathBuf>,
    /// When an image leaves the cache.
    pub cache_bounds: CacheBounds,
    /// What of the host is inside.
    pub binds: Vec<BindPolicy>,
    /// Whether the account's home directory is.
    pub home: bool,
    /// The graphics processors that are.
    pub gpu: Option<Gpu>,
    /// Whether scripts run as the container's root.
    pub root: bool,
    /// Whose network it is.
    pub network: Network,
    /// Words for the engine's commands.
    pub options: Vec<String>,
    /// Variables for the engine's commands.
    pub environment: BTreeMap<String, String>,
    /// Seconds.
    pub pull_timeout: u64,
    /// Directories of programs that have passwords of registries; none where they are not run.
    pub credential_helpers: Vec<PathBuf>,
    /// Seconds.
    pub credential_helper_timeout: u64,
    /// Whether services are started.
    pub services: bool,
    /// The most services of a job.
    pub services_max: u64,
    /// Seconds.
    pub service_timeout: u64,
    /// Whether a service that ends ends the job.
    pub service_required: bool,
    /// The most that a machine may write to files of its own, in bytes.
    pub layer_size: Option<u64>,
    /// Seconds.
    pub ready_timeout: u64,
    /// Whether the account can run containers in its machine, without root.
    pub nested: bool,
    /// Whether what a machine writes is never waited for.
    pub suppress_sync: bool,
}

/// A directory or file of the host in the container. Both paths may have `$HOME`, `$USER` and `$UID` in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindPolicy {
    /// Its path on the host.
    pub source: String,
    /// Its path in the container.
    pub target: String,
    /// Whether the container may write there.
    pub writable: bool,
    /// Whether a missing source is passed over.
    pub optional: bool,
}

/// Whose network a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// One of its own.
    Own,
}

impl Word for Network {
    const WORDS: &'static [(&'static str, Self)] = &[("host", Network::Host), ("own", Network::Own)];
}

impl Word for Option<Gpu> {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", None), ("nvidia", Some(Gpu::Nvidia)), ("amd", Some(Gpu::Amd))];
}

impl Word for PullPolicy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("always", PullPolicy::Always),
        ("if-not-present", PullPolicy::IfNotPresent),
        ("never", PullPolicy::Never),
    ];
}

/// As the configuration and .gitlab-ci.yml have it.
pub fn pull_policy_name(policy: PullPolicy) -> &'static str {
    policy.word()
}

impl ContainerPolicy {
    /// The container of this name and engine, with every default filled in.
    pub(super) fn new(name: &str, engine: Engine, place: Location) -> Self {
        ContainerPolicy {
            name: name.to_owned(),
            place,
            engine,
            program: None,
            default_image: None,
            runner_image: None,
            allowed_images: None,
            denied_images: Vec::new(),
            allowed_services: None,
            digest_required: false,
            pull_policies: vec![PullPolicy::Always, PullPolicy::IfNotPresent],
            user_entrypoint: true,
            stages: CONTAINER_STAGES.map(str::to_owned).to_vec(),
            store: None,
            cache: None,
            shared_cache: None,
            cache_bounds: CacheBounds::default(),
            binds: Vec::new(),
            home: false,
            gpu: None,
            root: false,
            network: Network::Host,
            options: Vec::new(),
            environment: BTreeMap::new(),
            pull_timeout: HOUR / 2,
            credential_helpers: Vec::new(),
            credential_helper_timeout: 10,
            services: true,
            services_max: 8,
            service_timeout: 30,
            service_required: false,
            layer_size: Some(2 << 30),
            ready_timeout: 30,
            nested: false,
            suppress_sync: false,
        }
    }

    /// The engine as the configuration has it.
    pub fn engine_name(&self) -> String {
        match &self.engine {
            Engine::Named(name) => name.clone(),
            Engine::Described(path) => path.to_string_lossy().into_owned(),
        }
    }

    /// Whether the engine is the built-in one of this name.
    pub fn is_by(&self, engine: &str) -> bool {
        matches!(&self.engine, Engine::Named(name) if name == engine)
    }

    /// Whether the engine takes images. Of an engine that the site describes, its description says so.
    pub fn has_images(&self) -> bool {
        !self.is_by("bwrap")
    }

    /// Whether jobs get their services: the site wants it, and the engine can. Of an engine that the site describes, its
    /// description says whether it can.
    pub fn serves(&self) -> bool {
        self.services && (self.is_by("podman") || matches!(self.engine, Engine::Described(_)))
    }

    /// Whether the site puts step-runner, which `run:` needs, into the container.
    pub fn runs_steps(&self) -> bool {
        self.binds.iter().any(|bind| bind.target.ends_with("/step-runner"))
    }

    /// What lets an image pass, in words that name the key.
    ///
    /// # Errors
    /// What keeps it out, likewise.
    pub fn judge(&self, image: &ImageName, of_service: bool) -> Result<String, String> {
        if self.is_by(MACHINES) {
            return self.judge_tree(image);
        }
        if let Some(pattern) = self.denied_images.iter().find(|pattern| image.is_denied_by(pattern)) {
            return Err(format!("denied_images has `{pattern}`"));
        }
        if self.digest_required && !image.is_fixed() {
            return Err("digest_required is set, and the name has no digest".to_owned());
        }
        let (key, allowed) = match (&self.allowed_services, &self.allowed_images) {
            _ if !of_service && image.is_path() && self.is_default(image) => {
                return Ok("default_image".to_owned());
            }
            (Some(allowed), _) if of_service => ("allowed_services", allowed),
            (_, Some(allowed)) => ("allowed_images", allowed),
            (_, None) if image.is_path() => {
                return Err("a path needs a pattern of allowed_images that begins with `/`".to_owned());
            }
            (_, None) => return Ok("allowed_images is not set".to_owned()),
        };
        let allows = |pattern: &&Pattern| image.is_of_the_kind_of(pattern) && image.is_allowed_by(pattern);
        match allowed.iter().find(allows) {
            Some(pattern) => Ok(format!("{key} has `{pattern}`")),
            None if image.is_path() => Err(format!("no pattern of {key} that begins with `/` matches")),
            None => Err(format!("no pattern of {key} matches")),
        }
    }

    /// Whether it is the site's own image for jobs that name none.
    fn is_default(&self, image: &ImageName) -> bool {
        let own = self.default_image.as_deref().map(ImageName::parse);
        own.is_some_and(|own| own.is_ok_and(|own| own.full() == image.full()))
    }

    /// As above, of a tree of machines. It has one name, which patterns are compared with: any other way to write it would avoid them.
    fn judge_tree(&self, image: &ImageName) -> Result<String, String> {
        let Some((tree, version)) = image.tree() else {
            return Err(
                "a machine is named `NAME` or `NAME:VERSION`, without a registry, a path or a digest"
                    .to_owned(),
            );
        };
        let (plain, full) = (tree.to_owned(), format!("{tree}:{version}"));
        let denies = |pattern: &&Pattern| pattern.matches(&plain) || pattern.matches(&full);
        if let Some(pattern) = self.denied_images.iter().find(denies) {
            return Err(format!("denied_images has `{pattern}`"));
        }
        let Some(allowed) = &self.allowed_images else { return Ok("allowed_images is not set".to_owned()) };
        // The tree's name alone is its present version.
        let allows =
            |pattern: &&Pattern| pattern.matches(&full) || (version == "latest" && pattern.matches(&plain));
        match allowed.iter().find(allows) {
            Some(pattern) => Ok(format!("allowed_images has `{pattern}`")),
            None => Err("no pattern of allowed_images matches".to_owned()),
        }
    }
}

fn sources(patterns: &[Pattern]) -> Vec<String> {
    patterns.iter().map(ToString::to_string).collect()
}

/// `[container.NAME]`.
#[rustfmt::skip]
pub static CONTAINER_KEYS: Table<ContainerPolicy> = Table {
    path: "container[]",
    defaults: || ContainerPolicy::new("", Engine::Named(String::new()), Location { file: "".into(), line: 0, column: 0 }),
    keys: &[
        Key::<ContainerPolicy>::new("engine", Form::Text { get: |t| Some(t.engine_name()), set: engine },
            "`podman`, `apptainer`, `charliecloud`, `bwrap`, `nspawn`, or the path of a file that describes one: owned by root and writable only by root").or("required"),
        Key::<ContainerPolicy>::new("program", form!(PathOrNone: program), "the engine's program").or("the first of its name on the `PATH` of jobs"),
        Key::<ContainerPolicy>::new("default_image", Form::Text { get: |t| t.default_image.clone(), set: |t, at| t.default_image = image(at) },
            "the image of jobs without `image:`; without it they are denied, if the engine has images").or("none"),
        Key::<ContainerPolicy>::new("runner_image", Form::Text { get: |t| t.runner_image.clone(), set: |t, at| t.runner_image = image(at) },
            "the image for the stages that `stages` does not name: sources, caches and artifacts; without it they run without a container").or("none"),
        Key::<ContainerPolicy>::new("allowed_images",
            Form::Texts { get: |t| t.allowed_images.as_deref().map(sources), set: |t, at| t.allowed_images = Some(patterns(&at)) },
            "patterns of images that jobs may name, below; others are denied").or("all"),
        Key::<ContainerPolicy>::new("denied_images",
            Form::Texts { get: |t| Some(sources(&t.denied_images)), set: |t, at| t.denied_images = patterns(&at) },
            "patterns of images that no job may name, services included, whatever is allowed").or("none"),
        Key::<ContainerPolicy>::new("allowed_services",
            Form::Texts { get: |t| t.allowed_services.as_deref().map(sources), set: |t, at| t.allowed_services = Some(patterns(&at)) },
            "patterns of the images of services").or("those of `allowed_images`"),
        Key::<ContainerPolicy>::new("digest_required", form!(Flag: digest_required), "an image in a registry has to be named by its digest, `NAME@sha256:…`"),
        Key::<ContainerPolicy>::new("pull_policies",
            Form::Texts { get: |t| Some(t.pull_policies.iter().map(|one| one.word().to_owned()).collect()), set: |t, at| t.pull_policies = pull_policies(&at) },
            "`always`, `if-not-present`, `never`: those that jobs may name, tried in this order for jobs that name none"),
        Key::<ContainerPolicy>::new("user_entrypoint", form!(Flag: user_entrypoint), "whether a job may replace the entrypoint of an image"),
        Key::<ContainerPolicy>::new("stages", Form::Texts { get: |t| Some(t.stages.clone()), set: |t, at| t.stages = stages(&at) },
            "gitlab-runner's names of the stages that run inside, which may end in `*`; all others run without the container"),
        Key::<ContainerPolicy>::new("store", Form::Text { get: |t| t.store.clone(), set: |t, at| t.store = Some(own_directory(at)) },
            "where the engine keeps images of an account: a local file system, with `$HOME`, `$USER` or `$UID` of the account").or("the engine's own place"),
        Key::<ContainerPolicy>::new("cache", Form::Text { get: |t| t.cache.clone(), set: |t, at| t.cache = Some(own_directory(at)) },
            "where images of an account are that were converted to files or directories, likewise").or("`images` in `data_dir`"),
        Key::<ContainerPolicy>::new("shared_cache", form!(PathOrNone: shared_cache), "images that the site has converted, looked at first").or("none"),
        Key::<ContainerPolicy>::new("cache_max_age", form!(Seconds: cache_bounds.max_age, HOUR, 36_500 * 24 * HOUR),
            "an image that no job has used for so long leaves the cache").or("none"),
        Key::<ContainerPolicy>::new("cache_max_size", form!(Bytes: cache_bounds.max_size, 1 << 20),
            "size of the cache; the least recently used images leave it").or("none"),
        Key::<ContainerPolicy>::new("cache_max_count", form!(Number: cache_bounds.max_count, 1, u64::MAX), "number of its images, likewise").or("none"),
        Key::<ContainerPolicy>::new("binds", Form::Texts { get: |t| Some(t.binds.iter().map(BindPolicy::text).collect()), set: |t, at| t.binds = binds(&at) },
            "directories and files of the host: `SOURCE`, `SOURCE:TARGET` or `SOURCE:TARGET:rw`, below").or("none"),
        Key::<ContainerPolicy>::new("home", form!(Flag: home), "the account's home directory is in the container"),
        Key::<ContainerPolicy>::new("gpu", form!(Word: gpu, Option<Gpu>), "the graphics processors that are in it"),
        Key::<ContainerPolicy>::new("root", form!(Flag: root), "scripts run as root of the container, which outside is the account"),
        Key::<ContainerPolicy>::new("network", form!(Word: network, Network), "the host's network, or one of the container's own"),
        Key::<ContainerPolicy>::new("options", Form::Texts { get: |t| Some(t.options.clone()), set: |t, at| t.options = options(&at) },
            "words for the engine's command that makes a container, or enters one").or("none"),
        Key::<ContainerPolicy>::new("environment", form!(Variables: environment, check_variable), "variables for the engine's commands").or("none"),
        Key::<ContainerPolicy>::new("pull_timeout", form!(Seconds: pull_timeout, 10, 24 * HOUR), "how long a pull of one image may take"),
        Key::<ContainerPolicy>::new("credential_helpers",
            Form::Texts { get: |t| Some(t.credential_helpers.iter().map(|one| one.to_string_lossy().into_owned()).collect()), set: |t, at| t.credential_helpers = at.value.iter().map(values::path).collect() },
            "directories with programs `docker-credential-NAME`, which `credHelpers` and `credsStore` of a job may name, below").or("none: they are not run"),
        Key::<ContainerPolicy>::new("credential_helper_timeout", form!(Seconds: credential_helper_timeout, 1, HOUR), "how long such a program may take"),
        Key::<ContainerPolicy>::new("services", form!(Flag: services), "`services:` of jobs are started, where the engine can; otherwise `images` of `[job]` applies to them"),
        Key::<ContainerPolicy>::new("services_max", form!(Number: services_max, 1, MOST_SERVICES), "the most services of a job; one with more is denied"),
        Key::<ContainerPolicy>::new("service_timeout", form!(Seconds: service_timeout, 1, HOUR), "how long a service may take until it listens"),
        Key::<ContainerPolicy>::new("service_required", form!(Flag: service_required), "a service that ends before the job ends the job"),
        Key::<ContainerPolicy>::new("layer_size", form!(Bytes: layer_size, 64 << 20),
            "`nspawn`: the most that a machine may write to files of its own, which lie in memory and go with it"),
        Key::<ContainerPolicy>::new("ready_timeout", form!(Seconds: ready_timeout, 1, 600), "`nspawn`: how long a machine may take to be ready"),
        Key::<ContainerPolicy>::new("nested", form!(Flag: nested),
            "`nspawn`: the account can build and run containers in its machine, with rootless Podman of the tree; takes machines of 131,072 ids"),
        Key::<ContainerPolicy>::new("suppress_sync", form!(Flag: suppress_sync),
            "`nspawn`: fsync(2) and its like do nothing in the machine, for files of the host as well, and `O_SYNC` is refused"),
    ],
};

/// `[container.NAME]`.
pub(super) fn all(root: &mut Section<'_>) -> BTreeMap<String, ContainerPolicy> {
    let mut containers = BTreeMap::new();
    for (name, mut table) in root.named("container") {
        values::check_label(&name, "container");
        let none = Engine::Named(String::new());
        let mut one = ContainerPolicy::new(name.value, none, name.spot.place());
        if !table.has("engine") {
            name.spot.find("this container has no engine", "add `engine = \"podman\"`");
        }
        CONTAINER_KEYS.read(&mut table, &mut one);
        if one.is_by(MACHINES) && !table.has("network") {
            one.network = Network::Own;
        }
        check(&table, &one);
        table.finish();
        containers.insert(name.value.to_owned(), one);
    }
    containers
}

/// The engine that boots a machine, as root.
pub use nunbird_handover::MACHINES;

/// What has no meaning for a machine, whose tree root has made, or for a container that is none.
fn check_machine(table: &Section<'_>, one: &ContainerPolicy) {
    let is_machine = one.is_by(MACHINES);
    let (keys, what): (&[&str], _) = match is_machine {
        true => (
            &[
                "program",
                "runner_image",
                "allowed_services",
                "digest_required",
                "pull_policies",
                "user_entrypoint",
                "store",
                "cache",
                "shared_cache",
                "cache_max_age",
                "cache_max_size",
                "cache_max_count",
                "gpu",
                "options",
                "environment",
                "pull_timeout",
                "credential_helpers",
                "credential_helper_timeout",
                "services",
                "services_max",
                "service_timeout",
                "service_required",
            ],
            "`nspawn` boots a tree of this host: it pulls no image, starts no services and has no options",
        ),
        false => (&["layer_size", "ready_timeout", "nested", "suppress_sync"], "only `nspawn` has this"),
    };
    if is_machine && one.nested && one.root {
        let help = "remove one of the two: rootless containers are those of an account without root";
        table.find_at("nested", "scripts run as root of the machine, and `nested` is for the account", help);
    }
    // A default says nothing, and is what `nunbirdctl` writes for every key.
    let plain = (CONTAINER_KEYS.defaults)();
    for key in CONTAINER_KEYS.keys.iter().filter(|key| keys.contains(&key.name()) && table.has(key.name())) {
        if key.value(one) != key.value(&plain) {
            table.find_at(key.name(), what, "remove the line, or name another engine");
        }
    }
}

/// What holds between keys.
pub(super) fn check(table: &Section<'_>, one: &ContainerPolicy) {
    check_machine(table, one);
    if !one.has_images() {
        for key in [
            "default_image",
            "runner_image",
            "allowed_images",
            "denied_images",
            "digest_required",
            "credential_helpers",
        ] {
            if table.has(key) {
                let help = "remove the line, or name an engine with images";
                table.find_at(key, "`bwrap` makes a view of this host and has no images", help);
            }
        }
        return;
    }
    let Some(Ok(image)) = one.default_image.as_deref().map(ImageName::parse) else { return };
    if let Err(why) = one.judge(&image, false) {
        let help = "name an image that jobs may name themselves, or change that key";
        table.find_at("default_image", format!("no job could use this image: {why}"), help);
    }
}

/// `container`, of `[job]` or of a profile; an empty name takes that of `[job]` away.
pub(super) fn named(
    table: &mut Section<'_>,
    base: Option<&String>,
    known: &BTreeMap<String, ContainerPolicy>,
) -> Option<String> {
    let Some(at) = table.text("container") else { return base.cloned() };
    if !at.value.is_empty() && !known.contains_key(at.value) {
        let help = match suggest::nearest(at.value, known.keys().map(String::as_str)) {
            Some(near) => format!("write `{near}`"),
            None => "add a table `[container.NAME]`".to_owned(),
        };
        at.spot.find("unknown container", help);
    }
    (!at.value.is_empty()).then(|| at.value.to_owned())
}

/// The value of the key `container`.
pub(super) fn setting(container: Option<&String>) -> Option<Setting> {
    Some(Setting::Text(container.cloned().unwrap_or_default()))
}

fn engine(container: &mut ContainerPolicy, at: &At<'_, &str>) {
    if at.value.starts_with('/') {
        container.engine = Engine::Described(values::path(at));
        return;
    }
    container.engine = Engine::Named(at.value.to_owned());
    if !ENGINES.contains(&at.value) {
        let help = match suggest::nearest(at.value, ENGINES) {
            Some(name) => format!("write `{name}`"),
            None => format!("known: {}; or write the path of a description", ENGINES.join(", ")),
        };
        at.spot.find("unknown container engine", help);
    }
}

/// The name of an image; an empty text is none.
pub(super) fn image(at: &At<'_, &str>) -> Option<String> {
    if at.value.is_empty() {
        return None;
    }
    if let Err(why) = ImageName::parse(at.value) {
        at.spot.find(
            format!("invalid name of an image: {why}"),
            "write `registry.example.org/path/name:tag`, or an absolute path",
        );
    }
    Some(at.value.to_owned())
}

/// Patterns of a list; a finding for what is none.
pub(super) fn patterns(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<Pattern> {
    let one = |one: &At<'_, &str>| match Pattern::new(one.value) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            one.spot.find(format!("invalid pattern: {why}"), "write such as `registry.example.org/**`");
            None
        }
    };
    at.value.iter().filter_map(one).collect()
}

fn pull_policies(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<PullPolicy> {
    if at.value.is_empty() {
        at.spot.find(
            "no image could be used",
            "write `pull_policies = [\"if-not-present\"]`, or another policy",
        );
    }
    let mut policies = Vec::new();
    for one in &at.value {
        match PullPolicy::of(one.value) {
            Some(policy) if !policies.contains(&policy) => policies.push(policy),
            Some(policy) => {
                let first = at.value.iter().find(|one| PullPolicy::of(one.value) == Some(policy));
                let first = first.map(|first| first.spot);
                one.spot.clash(first, "this policy is in the list already", "remove it");
            }
            None => one.spot.find("unknown pull policy", "write `always`, `if-not-present` or `never`"),
        }
    }
    policies
}

fn stages(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    if at.value.is_empty() {
        at.spot.find(
            "no stage would run in the container",
            "name a stage, or write `container = \"\"` where it is used",
        );
    }
    values::stages(&at.value)
}

fn options(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    for one in at.value.iter().filter(|one| one.value.is_empty() || one.value.contains('\0')) {
        one.spot.find("invalid option", "write one word of the engine's command in each text");
    }
    at.value.iter().map(|one| one.value.to_owned()).collect()
}

/// A directory that each account has one of.
fn own_directory(at: &At<'_, &str>) -> String {
    if values::account_path(at) && !at.value.contains('$') {
        let help = "put `$USER`, `$UID` or `$HOME` into the path, so that each account has its own";
        at.spot.find("all accounts would share this directory", help);
    }
    at.value.to_owned()
}

fn binds(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<BindPolicy> {
    let mut all: Vec<(BindPolicy, Spot<'_>)> = Vec::new();
    for one in &at.value {
        let Some(bind) = bind(one) else { continue };
        if let Some((_, first)) = all.iter().find(|(known, _)| known.target == bind.target) {
            one.spot.clash(Some(*first), "two of these have one target", "remove one of the two");
        }
        all.push((bind, one.spot));
    }
    all.into_iter().map(|(bind, _)| bind).collect()
}

/// `SOURCE[:TARGET[:ro|rw]]`, and `?` at its end for what may be missing.
fn bind(at: &At<'_, &str>) -> Option<BindPolicy> {
    let (text, optional) = match at.value.strip_suffix('?') {
        Some(text) => (text, true),
        None => (at.value, false),
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match *parts.as_slice() {
        [source] => (source, source, "ro"),
        [source, mode @ ("ro" | "rw")] => (source, source, mode),
        [source, target] => (source, target, "ro"),
        [source, target, mode @ ("ro" | "rw")] => (source, target, mode),
        _ => {
            at.spot.find(
                "expected a directory of the host for the container",
                "write `SOURCE`, `SOURCE:TARGET` or `SOURCE:TARGET:rw`",
            );
            return None;
        }
    };
    let sound = [source, target].iter().all(|path| values::account_path(&At { value: path, spot: at.spot }));
    let target_of_all = ["", "/proc", "/sys", "/dev"].contains(&target.trim_end_matches('/'));
    if sound && target_of_all {
        at.spot.find(
            "this would hide a part of the container that every program needs",
            "name a directory inside it, or another target",
        );
    }
    sound.then(|| BindPolicy {
        source: source.to_owned(),
        target: target.to_owned(),
        writable: mode == "rw",
        optional,
    })
}

impl BindPolicy {
    /// As the configuration has it.
    pub fn text(&self) -> String {
        let mode = if self.writable { "rw" } else { "ro" };
        let optional = if self.optional { "?" } else { "" };
        format!("{}:{}:{mode}{optional}", self.source, self.target)
    }
}
