//! The container that stages of a job run in: which engine, which image, what of the host is in it.

use crate::Workspace;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Container engines with a built-in description.
pub const ENGINES: [&str; 5] = ["podman", "apptainer", "charliecloud", "bwrap", MACHINES];

/// The engine of booted machines.
pub const MACHINES: &str = "nspawn";

/// The stages that run in the container where the site names none: the user's own scripts.
pub const CONTAINER_STAGES: [&str; 4] = ["build_script", "step_*", "after_script", "run_script"];

/// A job's container, as the policy and the job have it together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The NAME of its `[container.NAME]`.
    pub name: String,
    /// How containers are made.
    pub engine: Engine,
    /// The engine's program; none for the first of its name on the engine's PATH.
    pub program: Option<PathBuf>,
    /// The image; none for an engine without images.
    pub image: Option<Image>,
    /// The image for the stages that the job's own image does not run; none where they run without a container.
    /// Left out of the record then, so that 0.2.0 reads it after a downgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_image: Option<Image>,
    /// Started before the script, in the order of the job.
    pub services: Vec<Service>,
    /// gitlab-runner's names of the stages that run inside; a name that ends in `*` is a prefix.
    pub stages: Vec<String>,
    /// The job's own directory of control files, below `data_dir`: the same path inside and outside.
    pub directory: PathBuf,
    /// Where the engine keeps images of this account: a local file system.
    pub store: Option<PathBuf>,
    /// Images that were converted to files or directories, for the account's jobs on all hosts.
    pub cache: PathBuf,
    /// Images that the site has converted, read-only for jobs; looked at before `cache`.
    pub shared_cache: Option<PathBuf>,
    /// Bounds on `cache`.
    pub cache_bounds: CacheBounds,
    /// What of the host is in the container beside the job's directories.
    pub binds: Vec<Bind>,
    /// Whether the account's home directory is.
    pub home: bool,
    /// The graphics processors that are.
    pub gpu: Option<Gpu>,
    /// Whether the script runs as the container's root, which outside is the account.
    pub root: bool,
    /// Whether the network is the host's; else the container has one of its own.
    pub host_network: bool,
    /// Words of the site's for the engine's `create` and `enter`.
    pub options: Vec<String>,
    /// Variables for the engine's commands.
    pub engine_environment: BTreeMap<String, String>,
    /// Whether setuid programs have no effect for the engine's commands either.
    pub no_new_privileges: bool,
    /// Seconds that a pull may take.
    pub pull_timeout: u64,
    /// Seconds that a service may take until it listens.
    pub service_timeout: u64,
    /// Whether a service that ends ends the job.
    pub service_required: bool,
    /// Whether the services' output goes to the job log (`CI_DEBUG_SERVICES`).
    #[serde(default)]
    pub service_logs: bool,
    /// Programs of the site's that have passwords of registries.
    #[serde(default)]
    pub credential_helpers: CredentialHelpers,
}

impl Container {
    /// The part of the job's control directory that its container has: what is beside it runs outside.
    pub fn inside(&self) -> PathBuf {
        self.directory.join("inside")
    }

    /// Where the host and the job's machine meet, where it has one: FIFOs that the host makes. It is beside what the machine may write to,
    /// because the host opens them by name, as the user: a link among them would lead to any file of the user's.
    pub fn calls(&self) -> Option<PathBuf> {
        match &self.engine {
            Engine::Named(name) if name == MACHINES => Some(self.directory.join("machine")),
            Engine::Named(_) | Engine::Described(_) => None,
        }
    }

    /// The home directory of a job that has not the account's.
    pub fn empty_home(&self) -> PathBuf {
        self.inside().join("home")
    }

    /// All that is in it of the host's files: the job's own directories, and what the policy names. Those of outer directories come before those
    /// inside them, so that none hides another.
    pub fn all_binds(&self, workspace: &Workspace, home: &Path) -> Vec<Bind> {
        let own = |source: &Path, target: &Path| Bind {
            source: source.to_owned(),
            target: target.to_owned(),
            writable: true,
            optional: false,
        };
        let mut binds = self.binds.clone();
        match self.home {
            true => binds.push(own(home, home)),
            // An empty one of the job's own: programs need a place for what they keep, and the account's
            // own files are not in sight.
            false => binds.push(own(&self.empty_home(), home)),
        }
        for directory in [&workspace.builds_dir, &workspace.cache_dir, &self.inside()] {
            binds.push(own(directory, directory));
        }
        if let Some(calls) = self.calls() {
            binds.push(Bind { writable: false, ..own(&calls, &calls) });
        }
        // Stable: of two binds to one place the later one wins, which is the job's own.
        let key = |bind: &Bind| (bind.target.components().count(), bind.target.clone());
        binds.sort_by_key(key);
        binds.dedup_by(|later, earlier| {
            let same = later.target == earlier.target;
            if same {
                *earlier = later.clone();
            }
            same
        });
        binds
    }
}

/// Programs `docker-credential-NAME`, which the job names in `DOCKER_AUTH_CONFIG`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialHelpers {
    /// Where they are, looked at in this order; none where the site does not run such programs.
    pub directories: Vec<PathBuf>,
    /// Seconds that an answer may take.
    pub timeout: u64,
}

/// A container engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// One of [`ENGINES`].
    Named(String),
    /// A file with a description in TOML, as docs/containers.md has it: root's, or the account's own.
    Described(PathBuf),
}

/// An image that the policy allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its full name, as the site's patterns were compared with it: `registry.example.org/path:tag`, `…@sha256:…`, an absolute path, or
    /// `oras://…` and `library://…`.
    pub name: String,
    /// Replaces the image's own entrypoint; empty for none at all.
    pub entrypoint: Option<Vec<String>>,
    /// `docker: user` of the job.
    pub user: Option<String>,
    /// `docker: platform` of the job: `linux/arm64`.
    pub platform: Option<String>,
    /// The policies to try in this order; never empty.
    pub pull: Vec<PullPolicy>,
    /// Whether a name without digest is refused once it is resolved.
    pub digest_required: bool,
}

/// The tree of a machine that an image's name means: the last part of its path, and behind `:` a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineTree {
    /// Its name.
    pub tree: String,
    /// The version; none for the present one, which `latest` also means.
    pub version: Option<String>,
}

impl MachineTree {
    /// That of an image with this full name.
    pub fn of(image: &str) -> Self {
        let last = image.rsplit('/').next().unwrap_or_default();
        let (tree, version) = last.split_once(':').unwrap_or((last, "latest"));
        MachineTree { tree: tree.to_owned(), version: (version != "latest").then(|| version.to_owned()) }
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// The registry is asked for each job.
    Always,
    /// Only where no copy is there.
    IfNotPresent,
    /// Never: a copy must be there.
    Never,
}

/// A server that the job needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its image.
    pub image: Image,
    /// The names by which the job reaches it, the first one for messages.
    pub aliases: Vec<String>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Variables of the service. In the record `$NAME` and `${NAME}` stand for variables of the job, and `$$` for `$`; a message has the values,
    /// and in stages outside of the container none.
    pub variables: BTreeMap<String, String>,
    /// TCP ports that it listens on, where the job or `HEALTHCHECK_TCP_PORT` names them.
    pub ports: Vec<u16>,
}

/// A directory or file of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Its path on the host.
    pub source: PathBuf,
    /// Its path in the container.
    pub target: PathBuf,
    /// Whether the container may write there, as far as the account may.
    pub writable: bool,
    /// Whether a missing source is passed over, instead of failing the job.
    pub optional: bool,
}

/// Whose graphics processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gpu {
    /// NVIDIA: CDI, or the engine's own option.
    Nvidia,
    /// AMD: `/dev/kfd` and `/dev/dri`, or the engine's own option.
    Amd,
}

/// When an image leaves the cache; those unused for longest go first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheBounds {
    /// Seconds since its last use.
    pub max_age: Option<u64>,
    /// Bytes of all images.
    pub max_size: Option<u64>,
    /// Number of images.
    pub max_count: Option<u64>,
}

/// Passwords for registries, for one pull. Prints nothing of them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credentials(pub Vec<Credential>);

/// One of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// `registry.example.org`, with port if it has one, or with a path: `registry.example.org/group`.
    pub registry: String,
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
    /// The NAME of the `[credential.NAME]` that it is of, where it is the site's: then it is for `registry` alone, and for nothing below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

/// A helper that the job names for a registry of one of its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialHelper {
    /// `registry.example.org`, with port if it has one.
    pub registry: String,
    /// What the program is asked for.
    pub server: String,
    /// The NAME of `docker-credential-NAME`.
    pub name: String,
}

impl CredentialHelper {
    /// Whether a program can have this name: letters, digits, `_` and `-`, at most 64 of them.
    pub fn is_name(name: &str) -> bool {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    }
}

impl Credential {
    /// The user name of a credential whose password is an identity token (OAuth 2), in the words of docker's helpers.
    pub const TOKEN: &'static str = "<token>";
}

impl Image {
    /// Whether a registry may be asked for it.
    pub fn may_be_pulled(&self) -> bool {
        self.pull.iter().any(|policy| *policy != PullPolicy::Never)
    }
}

impl Container {
    /// Whether its engine asks registries. One with a description of the site's or of the account's may.
    pub fn pulls(&self) -> bool {
        !matches!(&self.engine, Engine::Named(name) if ["bwrap", "nspawn"].contains(&name.as_str()))
    }

    /// Whether a stage runs inside.
    pub fn holds(&self, stage: &str) -> bool {
        self.stages.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => stage.starts_with(beginning),
            None => stage == pattern,
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.0.len())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("registry", &self.registry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Credential, Credentials};

    #[test]
    fn credentials_print_neither_user_nor_password() {
        let one = Credential {
            registry: "r.example.org".to_owned(),
            user: "hidden-user".to_owned(),
            password: "hidden-password".to_owned(),
            site: None,
        };
        let text = format!("{one:?} {:?}", Credentials(vec![one.clone()]));
        assert!(text.contains("r.example.org") && !text.contains("hidden"), "{text}");
    }
}
