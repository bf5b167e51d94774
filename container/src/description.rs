//! A container engine, described as data: its commands, how to read their output, its words for
//! what a job may have.
//!
//! The built-in engines and those of a site have the same form: a TOML text (docs/containers.md). A
//! command is a list of words with placeholders. Launcher and generated scripts quote each word, so
//! no value of a user becomes syntax.
//!
//! More than 600 lines, because the keys of a description are in one place, each with its meaning.

use nunbird_handover::Engine;
use nunbird_stage::site_text::site_text;
use nunbird_stage::template::Pattern;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The built-in engines, by their names in [`nunbird_handover::ENGINES`].
pub(crate) const BUILT_IN: [(&str, &str); 5] = [
    ("podman", include_str!("engines/podman.toml")),
    ("apptainer", include_str!("engines/apptainer.toml")),
    ("charliecloud", include_str!("engines/charliecloud.toml")),
    ("bwrap", include_str!("engines/bwrap.toml")),
    ("nspawn", include_str!("engines/nspawn.toml")),
];

/// How to use one engine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Its name in messages.
    pub title: String,
    /// Its program, where the site names none.
    pub program: String,
    /// How to learn its version.
    pub version: Option<Version>,
    /// What it needs of the host.
    #[serde(default)]
    pub host: HostNeeds,
    /// Environment variables of its commands; nothing else is in their environment but `PATH` and
    /// the site's own.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Files below the private runtime directory, by their path there, mode 0600.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Those of `files` that are written only where the host has not this file.
    #[serde(default)]
    pub files_unless: BTreeMap<String, String>,
    /// Directories below the private runtime directory, mode 0700.
    #[serde(default)]
    pub directories: Vec<String>,
    /// Directories in which each name of another directory gets a link, before a container is made.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// What it takes for an image.
    pub images: Images,
    /// Fetches an image: into the store, or as `{file}`.
    pub pull: Option<Pull>,
    /// Before a pull, asks the registry which image a name means; the pull then takes that one.
    pub resolve: Option<Digest>,
    /// Says what an image is.
    pub inspect: Option<Inspect>,
    /// Tries an image that the job names by its path.
    pub given: Option<Given>,
    /// Removes the image `{reference}` from the store.
    pub remove: Option<Action>,
    /// Writes an image of the store into `{file}`.
    pub save: Option<Save>,
    /// Takes it from there.
    pub load: Option<Action>,
    /// Makes the container that lives for all stages of a job in one place, and starts it.
    pub create: Option<Create>,
    /// Says whether it runs.
    pub running: Option<Running>,
    /// Starts it again after `stop`, with the files that it had.
    pub start: Option<Action>,
    /// Runs the words that follow inside, with standard input.
    pub enter: Action,
    /// Ends all processes inside, and keeps its files.
    pub stop: Option<Action>,
    /// Ends and removes it.
    pub destroy: Option<Action>,
    /// Removes `{layers}` and `{directory}` where that takes more than rm(1).
    pub clear: Option<Action>,
    /// Servers beside the container, in its network; none for an engine that cannot start any.
    pub services: Option<Services>,
    /// `{optional}`: words that depend on the host, in this order.
    #[serde(default)]
    pub optional: Vec<Optional>,
    /// The user namespace that its commands share.
    pub namespace: Option<Namespace>,
    /// Its words for what a job may have.
    #[serde(default)]
    pub words: Words,
}

/// What an engine takes for an image.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// Where it keeps images.
    pub kind: Kind,
    /// Names with a scheme that it takes: `docker` for `docker://…`. A plain name is one of `docker`.
    #[serde(default)]
    pub schemes: Vec<String>,
    /// Ends of file names that it takes as images: `.sif`.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Whether it takes directories.
    #[serde(default)]
    pub directories: bool,
    /// The registry of a name that has none.
    pub default_registry: Option<String>,
    /// The form of a registry's name that it takes, from `{name}` (registry, repository, tag or
    /// digest).
    #[serde(default = "plain")]
    pub form: String,
    /// The end of the file's name in the cache.
    #[serde(default)]
    pub cached: String,
}

fn plain() -> String {
    "{name}".to_owned()
}

/// Where images are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// In a store of the engine's, on the host.
    Store,
    /// Files in the account's cache.
    File,
    /// Directories in the account's cache.
    Directory,
    /// Trees of root's on this host, each with its versions; the container is booted before the first stage.
    Tree,
    /// There are none: the container has the host's files.
    None,
}

/// The version of an engine, for the administrators.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Its words; no placeholder but `{program}`.
    pub command: Vec<String>,
    /// The first group is the version, in the command's output.
    pub found: Pattern,
    /// The oldest that the description is for: numbers between dots.
    pub oldest: String,
}

/// What an engine needs of the host, for the administrators.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostNeeds {
    /// It makes no container without user namespaces.
    pub user_namespaces: bool,
    /// It has file systems mounted by /dev/fuse, where the kernel does not do it.
    pub fuse: bool,
    /// It makes no container where both versions of control groups are mounted.
    pub one_cgroup_version: bool,
}

/// A command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Its words.
    pub command: Vec<String>,
}

/// The command that fetches an image, and what its output says when it fails.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// Its words. `{work}` is a directory of this pull's alone, on the file system of `{file}`.
    pub command: Vec<String>,
    /// A second command, which makes `{file}` from what the first has left in `{work}`.
    pub convert: Option<Vec<String>>,
    /// After them, says what was pulled.
    pub digest: Option<Digest>,
    /// Its first group, in what the command prints on standard output, is the id of what was pulled. Without it that is what the store has under the
    /// name afterwards, which may be another pull's for another platform.
    pub pulled: Option<Pattern>,
    /// Variables of this command alone; `{auth}` is a file with the registries' passwords, in the form of `docker login`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Variables of this command alone, if there is one password: for engines that read no such
    /// file. `{user}` and `{password}`.
    #[serde(default)]
    pub login: BTreeMap<String, String>,
    /// Password missing or wrong.
    #[serde(default)]
    pub unauthorized: Vec<Pattern>,
    /// No such image.
    #[serde(default)]
    pub absent: Vec<Pattern>,
    /// The registry refuses so many requests.
    #[serde(default)]
    pub limited: Vec<Pattern>,
    /// The image is not for this kind of machine.
    #[serde(default)]
    pub wrong_platform: Vec<Pattern>,
    /// The disk is full.
    #[serde(default)]
    pub no_space: Vec<Pattern>,
    /// The account's quota is used up.
    #[serde(default)]
    pub quota: Vec<Pattern>,
    /// What the registry serves is no image, or another one than its digest says.
    #[serde(default)]
    pub broken: Vec<Pattern>,
    /// Matches once for each layer in what the command prints while it runs, whose name is the group `layer` where one can be printed again; or
    /// its first group is how many there are.
    pub layers: Option<Pattern>,
    /// The registry does not answer as one.
    #[serde(default)]
    pub unreachable: Vec<Pattern>,
}

/// A command whose output has the digest of an image. `{reference}`, `{auth}` and `{work}` as for a
/// pull.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Its words.
    pub command: Vec<String>,
    /// Tried in this order: the first group is the digest, with or without `sha256:`.
    pub found: Vec<Pattern>,
}

/// The command that says what an image is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspect {
    /// Its words.
    pub command: Vec<String>,
    /// Where its output is a JSON object, pointers into it (RFC 6901): `id`, `entrypoint`, `ports`,
    /// `user`, `digest`, `architecture`, `os`.
    #[serde(default)]
    pub json: BTreeMap<Field, String>,
    /// Else, matches a line of its output: groups `id`, `digest`, `platform` (`linux/amd64`), `user`,
    /// `entrypoint` (a JSON list), `ports` (a JSON object with names such as `80/tcp`). All but
    /// `id` may be missing.
    pub row: Option<Pattern>,
    /// Matches its output if there is no such image here.
    #[serde(default)]
    pub absent: Vec<Pattern>,
}

/// The command that runs a shell which does nothing in the image `{reference}`, a file or directory of the host.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// Its words.
    pub command: Vec<String>,
    /// Matches its output if the image is what is wrong, and not the host.
    #[serde(default)]
    pub unusable: Vec<Pattern>,
}

/// What the engine reports about an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// What the engine knows the image by, whatever names it has.
    Id,
    /// A list of words.
    Entrypoint,
    /// An object with names such as `80/tcp`.
    Ports,
    /// The user.
    User,
    /// The digest of its manifest.
    Digest,
    /// `amd64`.
    Architecture,
    /// `linux`, which it is where this has no pointer.
    Os,
}

/// Words that stand only where a command succeeds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optional {
    /// The command, which is run as those of the engine.
    pub test: Vec<String>,
    /// Words where it succeeds.
    #[serde(default)]
    pub words: Vec<String>,
    /// Words where it fails.
    #[serde(default)]
    pub otherwise: Vec<String>,
    /// A command that is run before, where it fails.
    #[serde(default)]
    pub make: Vec<String>,
}

/// The command that writes an image into a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Save {
    /// Gives `{image}` the name `{saved}`, which it has in the file.
    pub tag: Vec<String>,
    /// Writes `{saved}` into `{file}`.
    pub command: Vec<String>,
    /// The end of the file's name.
    pub extension: String,
}

/// The command that makes the container.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Its words; `{idle}` is a shell command that does nothing.
    pub command: Vec<String>,
    /// Matches its output if the image has no `/bin/sh`.
    #[serde(default)]
    pub no_shell: Vec<Pattern>,
    /// Matches its output if the image has too many layers.
    #[serde(default)]
    pub too_deep: Vec<Pattern>,
}

/// How to know whether the container runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// A file with the id of a process that lives as long as the container and has its name in its
    /// arguments: quicker than a command.
    pub pid_file: Option<String>,
    /// The words of a command, where there is no such file.
    #[serde(default)]
    pub command: Vec<String>,
    /// All that the command prints if the container runs.
    #[serde(default)]
    pub says: String,
}

/// The commands for services: containers of their own in the network of the job's container.
/// `{service}` is the name of one. [`Description::destroy`] removes them as well.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// `{services}` of `create`: what the job's container has more for them. `{hosts}` is a file with
    /// their names.
    pub join: Vec<String>,
    /// A file with the id of a process in the network namespace of the job's container.
    pub network_process: String,
    /// Starts one. Lists of its own: `{service_identity}`, `{user}`, `{entrypoint}`, `{variables}` and
    /// `{command}`.
    pub create: Vec<String>,
    /// Starts it again, with the files and variables that it had.
    pub start: Vec<String>,
    /// Kills it.
    pub stop: Vec<String>,
    /// Prints the exit code of one that has ended.
    pub exit_code: Vec<String>,
    /// A file with the id of a process of the engine's that lives as long as the service and has its
    /// name in its arguments.
    pub process: String,
    /// A file with its output, which the engine keeps short.
    pub log: String,
    /// How many columns the engine writes before each line there.
    #[serde(default)]
    pub log_columns: usize,
    /// `{user}`: `docker: user` of the job, as `{value}`.
    #[serde(default)]
    pub user: Vec<String>,
    /// `{entrypoint}`: the job's, as `{value}`, a JSON list.
    pub entrypoint: Vec<String>,
    /// `{variables}`: `{value}` is a file with lines `NAME=VALUE`.
    pub variables: Vec<String>,
    /// For values that no line of such a file can have; without it, they are left out.
    pub value: Option<OddValue>,
}

/// How a service gets the value of a variable that has several lines or quotes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OddValue {
    /// Makes the value in `{file}` known as `{value}`.
    pub command: Vec<String>,
    /// In `{variables}`: the variable `{name}` has the value `{value}`.
    pub words: Vec<String>,
}

/// The user namespace that an engine's commands share.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// A file with the id of the engine's own process that keeps the namespace.
    pub pause: Option<String>,
    /// Begins the command that makes a namespace with one id and stays there.
    pub holder: Vec<String>,
    /// Begins each command of the engine's in such a namespace; `{holder}` is the process in it.
    pub enter: Vec<String>,
    /// Variables of the engine's commands in such a namespace.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// An engine's words for what a job may have. A word of a command that is a placeholder and nothing
/// else stands for all of the list, which may be empty.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Words {
    /// `{platform}`: where the job names one, as `{value}`; `{architecture}` is its second part.
    pub platform: Vec<String>,
    /// `{login}`: where a pull has a password.
    pub login: Vec<String>,
    /// `{mount_points}`: for each bind, as `bind`.
    pub mount_point: Vec<String>,
    /// `{binds}`: for each `{source}` and `{target}`.
    pub bind: Vec<String>,
    /// The same for what may not be written.
    pub bind_read_only: Vec<String>,
    /// Characters that separate parts of these words, and so cannot be in a path.
    pub bind_forbids: String,
    /// `{gpu}`.
    pub gpu_nvidia: Vec<String>,
    /// The other `{gpu}`.
    pub gpu_amd: Vec<String>,
    /// `{network}`: the host's.
    pub network_host: Vec<String>,
    /// The other `{network}`: one of the container's own.
    pub network_own: Vec<String>,
    /// The third `{network}`, for a job with services where the engine cannot make the second on this
    /// host: the loopback alone.
    pub network_alone: Vec<String>,
    /// `{no_new_privileges}`: setuid programs have no effect.
    pub no_new_privileges: Vec<String>,
    /// Where the engine has many ids, or needs no namespace.
    pub many: Identities,
    /// In a namespace with one id.
    pub one: Identities,
}

/// Words that depend on the ids there are.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identities {
    /// `{storage}`: for commands on images.
    pub storage: Vec<String>,
    /// `{job_storage}`: for commands on the container.
    pub job_storage: Vec<String>,
    /// `{identity}`: the script is the account.
    pub account: Vec<String>,
    /// The other `{identity}`: the script is root inside, and the account outside.
    pub root: Vec<String>,
    /// `{service_identity}`: who a service is.
    pub service: Vec<String>,
}

impl Inspect {
    /// What its output states, by the names of a row's groups. Of a configuration that cannot be read it is a platform without its parts, which no image has
    /// ([`crate::resolved::Resolved::is_whole`]), if the command has ended well.
    pub(crate) fn facts(&self, output: &str, ended_well: bool) -> Option<BTreeMap<&'static str, String>> {
        const GROUPS: [&str; 6] = ["id", "digest", "platform", "user", "entrypoint", "ports"];
        if let Some(row) = &self.row {
            // The first line alone: an image may have line breaks in what it is asked for.
            let row = row.0.captures(output.lines().next()?)?;
            return Some(
                GROUPS
                    .iter()
                    .filter_map(|group| Some((*group, row.name(group)?.as_str().to_owned())))
                    .collect(),
            );
        }
        let read = serde_json::from_str::<serde_json::Value>(output).ok();
        let Some(value) = read.filter(serde_json::Value::is_object) else {
            // An engine may have read in it what is not JSON (NaN, half of a surrogate pair): nothing of it could be judged.
            let is_of_image = ended_well && self.json.contains_key(&Field::Architecture);
            return is_of_image.then(|| BTreeMap::from([("platform", "/".to_owned())]));
        };
        let fact = |(field, pointer): (&Field, &String)| {
            let found = value.pointer(pointer).filter(|found| !found.is_null())?;
            let text = found.as_str().map(str::to_owned);
            Some(match field {
                Field::Id => ("id", text?),
                Field::Entrypoint => ("entrypoint", found.to_string()),
                Field::Ports => ("ports", found.to_string()),
                Field::User => ("user", text?),
                Field::Digest => ("digest", text?),
                Field::Architecture => ("architecture", text?),
                Field::Os => ("os", text?),
            })
        };
        let mut facts: BTreeMap<_, _> = self.json.iter().filter_map(fact).collect();
        if self.json.contains_key(&Field::Architecture) {
            let of_linux = if self.json.contains_key(&Field::Os) { "" } else { "linux" };
            let os = facts.remove("os").unwrap_or_else(|| of_linux.to_owned());
            // A part that is missing shows (`Resolved::is_whole`).
            let architecture = facts.remove("architecture").unwrap_or_default();
            facts.insert("platform", format!("{os}/{architecture}"));
        }
        Some(facts)
    }
}

impl Description {
    /// The description that the site names or supplies.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn of(engine: &Engine) -> Result<Self, String> {
        match engine {
            Engine::Named(name) => {
                let found = BUILT_IN.iter().find(|(known, _)| known == name);
                Self::parse(found.ok_or_else(|| format!("there is no built-in engine `{name}`"))?.1)
            }
            Engine::Described(file) => {
                let named = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
                Self::parse(&site_text(file).map_err(|e| named(&e))?).map_err(|e| named(&e))
            }
        }
    }

    /// Parses a description.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let description: Description = toml::from_str(text).map_err(|e| e.to_string())?;
        description.check()?;
        Ok(description)
    }

    /// Verbs that make no sense alone.
    fn check(&self) -> Result<(), String> {
        if self.create.is_some() && (self.running.is_none() || self.destroy.is_none()) {
            return Err("[create] needs [running] and [destroy]".to_owned());
        }
        let can_be_checked =
            |one: &Running| one.pid_file.is_some() || !one.command.is_empty() && !one.says.is_empty();
        if !self.running.as_ref().is_none_or(can_be_checked) {
            return Err("[running] needs `pid_file`, or `command` and `says`".to_owned());
        }
        if self.services.is_some() && (self.create.is_none() || self.images.kind == Kind::None) {
            return Err("[services] need [create] and images".to_owned());
        }
        if self.images.kind == Kind::Store && self.inspect.is_none() {
            return Err("images of kind \"store\" need [inspect]".to_owned());
        }
        if self.inspect.as_ref().is_some_and(|inspect| inspect.row.is_some() != inspect.json.is_empty()) {
            return Err("[inspect] needs either `row` or `json`".to_owned());
        }
        let asks = self.resolve.is_some() || self.pull.as_ref().is_some_and(|pull| pull.digest.is_some());
        if asks && !self.has_copies() {
            return Err(
                "[resolve] and [pull.digest] need images of kind \"file\" or \"directory\"".to_owned()
            );
        }
        if self.given.is_some() && !self.images.directories && self.images.extensions.is_empty() {
            return Err("[given] needs `directories` or `extensions` of [images]".to_owned());
        }
        if self.images.kind == Kind::None && self.pull.is_some() {
            return Err("[pull] needs images of another kind than \"none\"".to_owned());
        }
        let mut below = self.files.keys().chain(&self.directories);
        if below.any(|path| path.starts_with('/') || path.split('/').any(|part| part == "..")) {
            return Err("[files] and `directories` must have paths below the runtime directory".to_owned());
        }
        Ok(())
    }

    /// Whether images are in a store of the host's.
    pub fn has_store(&self) -> bool {
        self.images.kind == Kind::Store
    }

    /// Whether images are files or directories in the cache.
    pub fn has_copies(&self) -> bool {
        matches!(self.images.kind, Kind::File | Kind::Directory)
    }
}

#[cfg(test)]
pub(crate) fn podman() -> Description {
    Description::of(&Engine::Named("podman".to_owned())).expect("a built-in description")
}

#[cfg(test)]
mod tests {
    use super::{BUILT_IN, Description, podman};
    use nunbird_handover::{ENGINES, Engine};

    #[test]
    fn every_built_in_description_parses_and_has_the_name_of_an_engine() {
        for (name, _) in BUILT_IN {
            let description = Description::of(&Engine::Named(name.to_owned()));
            assert!(description.is_ok(), "{name}: {description:?}");
            assert!(ENGINES.contains(&name), "{name}");
        }
        assert!(Description::of(&Engine::Named("dokcer".to_owned())).is_err());
    }

    #[test]
    fn an_unknown_key_and_a_verb_without_the_verbs_that_it_needs_are_refused() {
        let text = BUILT_IN[0].1;
        for (old, new) in [
            ("title =", "titel ="),
            ("[words.many]", "[words.mani]"),
            ("[running]\n", "[start2]\n"),
            ("pid_file = ", "command = [\"x\"]\n#"),
            ("kind = \"store\"", "kind = \"stor\""),
            ("kind = \"store\"", "kind = \"none\""),
            ("\"containers.conf\" = ", "\"../containers.conf\" = "),
            ("(?<layer>", "(?<layer"),
            ("network_process", "network_pid"),
        ] {
            let changed = text.replacen(old, new, 1);
            assert_ne!(changed, text, "{old}");
            assert!(Description::parse(&changed).is_err(), "{new}");
        }
    }

    #[test]
    fn a_configuration_without_an_operating_system_or_an_architecture_has_an_incomplete_platform() {
        let charliecloud = Description::of(&Engine::Named("charliecloud".to_owned())).expect("an engine");
        for description in [podman(), charliecloud] {
            let inspect = description.inspect.expect("a verb");
            for (output, platform) in [
                (r#"{"os":"linux","architecture":"amd64"}"#, "linux/amd64"),
                (r#"{"architecture":"amd64"}"#, "/amd64"),
                (r#"{"os":"linux","architecture":7}"#, "linux/"),
                ("{}", "/"),
                // Of a platform that is not one, nothing passes for another fact.
                (r#"{"os":"linux","architecture":"amd64|x\n\",\"id\":1"}"#, "linux/amd64|x\n\",\"id\":1"),
                // What cannot be read here: some of it is JSON to Python.
                ("null", "/"),
                (r#"{"os":"linux","architecture":"amd64","created":NaN}"#, "/"),
                (r#"{"os":"linux","architecture":"amd64","created":-Infinity}"#, "/"),
                (r#"{"os":"linux","architecture":"amd64","created":"\ud800"}"#, "/"),
                ("\u{feff}{\"os\":\"linux\",\"architecture\":\"amd64\"}", "/"),
            ] {
                let facts = inspect.facts(output, true).expect("facts");
                assert_eq!(facts.get("platform").map(String::as_str), Some(platform), "{output}");
            }
            assert_eq!(inspect.facts("no such image", false), None, "a command that has failed says nothing");
        }
    }

    #[test]
    fn what_says_nothing_of_a_platform_may_be_no_json() {
        let apptainer = Description::of(&Engine::Named("apptainer".to_owned())).expect("an engine");
        // The third part of a SIF that another program has made.
        assert_eq!(apptainer.inspect.expect("a verb").facts("\u{1}", true), None);
    }

    #[test]
    fn podman_never_pulls_while_it_makes_a_container() {
        let create = podman().create.expect("a verb").command;
        assert!(create.iter().any(|word| word == "--pull=never"), "{create:?}");
    }
}
