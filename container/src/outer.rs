//! The outer script: a POSIX shell script, generated for one stage, that puts the container around
//! it, on this host or on a node that has nothing of Nunbird.
//!
//! Every word of an engine's command is quoted here. What only the node knows (the runtime
//! directory, the ids) is a variable of the script's, between the quotes.

use crate::binds::inside;
use crate::description::{Action, Description};
use crate::marks::{MARK, fill, word, words};
use crate::needs;
use crate::networks;
use crate::resolved::Resolved;
use crate::runner::is_of_runner;
use crate::save::SavedImage;
use crate::services::ServiceImage;
use crate::serving;
use crate::words::{Ids, Lists, Network, Values};
use nunbird_handover::{Bind, Container, Handover, Untrusted};
use nunbird_stage::StageError;
use nunbird_stage::template::fill_word;
use nunbird_stage::words::{is_name, quoted};
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const TEMPLATE: &str = include_str!("outer.sh");
/// Where no site has said another: the directories of a Debian or a Red Hat.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// Places for the runtime directory, the first that fits. Not `/run/user`: it goes with the last
/// session of the account.
pub(crate) const BASES: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// The exit status of `create` and `run` if the image cannot even do nothing.
pub(crate) const ENDED_AT_ONCE: i32 = 76;
/// Seconds for what earlier stages have left on a host.
const CLEAN: u32 = 20;
/// What the container's first process does, behind the container's name. It ends when it is asked to, takes in orphans, and does
/// not run in circles in an image without sleep(1).
const IDLE: &str = "PATH=${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin; trap 'exit 0' TERM; while :; do sleep 2147483647 & wait \"$!\"; case $? in 126 | 127) exit 1 ;; esac; done";

/// Everything that an outer script is made from.
#[derive(Debug)]
pub struct Outer<'a> {
    /// The engine.
    pub description: &'a Description,
    /// The job and its account.
    pub handover: &'a Handover,
    /// The job's container.
    pub container: &'a Container,
    /// Its image, once it is there.
    pub image: Option<&'a Resolved>,
    /// The images of its services, once they are there.
    pub(crate) services: &'a [ServiceImage],
    /// What of the host's files is in it.
    pub binds: &'a [Bind],
    /// 32 hexadecimal digits that the record of the stage ends with.
    pub nonce: &'a str,
    /// Seconds that a script may take to end after a signal.
    pub grace: u64,
    /// The allocation that it is for; `None` for this host.
    pub allocation: Option<&'a Allocation>,
}

/// The name of a container of a job on this host, and of its directories.
pub(crate) fn name(handover: &Handover, container: &Container) -> String {
    match is_of_runner(container) {
        // Neither is a part of the other, because processes are found by it.
        true => format!("{}-runner", short(handover)),
        false => format!("nb-{}", handover.decision_id),
    }
}

/// The beginning of the names of a job's other containers: Podman takes no path of more than 50 characters for what is in the
/// runtime directory.
fn short(handover: &Handover) -> String {
    format!("nb-{}", handover.decision_id.get(..20).unwrap_or(&handover.decision_id))
}

/// An allocation of a batch scheduler, in which one stage runs.
#[derive(Debug)]
pub struct Allocation {
    /// Part of the container's name: the node may be this host.
    pub suffix: String,
    /// The image as a file.
    pub image: Option<SavedImage>,
}

impl Outer<'_> {
    /// The script.
    ///
    /// # Errors
    /// For a value that would be read as a variable of the script.
    pub fn text(&self) -> Result<String, StageError> {
        self.check()?;
        Ok(self.script())
    }

    /// That only this crate's own words have marks, wherever values come from.
    fn check(&self) -> Result<(), StageError> {
        let mut values = self.plain_values();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        for service in self.services {
            values.push(("image", service.image.for_create.clone()));
            values.extend(service.saved.iter().map(|saved| ("file", text(&saved.file))));
        }
        values.extend(self.saved().map(|saved| ("file", text(&saved.file))));
        values.extend(
            self.binds.iter().flat_map(|bind| [&bind.source, &bind.target]).map(|path| ("binds", text(path))),
        );
        match values.iter().find(|(_, value)| value.contains(MARK)) {
            Some((name, value)) => Err(StageError::new(
                &format!("cannot write the container's script: its value `{name}` is `{}`", Untrusted(value)),
                "it has a control character (\\u{1}) that the script uses itself",
                "name the file or directory without it, or report it to the administrators",
            )),
            None => Ok(()),
        }
    }

    fn script(&self) -> String {
        let Outer { description, handover, container, .. } = self;
        let name = self.name();
        let values = self.values();
        let namespace = description.namespace.as_ref();
        let many = Lists::new(description, container, self.binds.to_vec(), Ids::Many);
        let pause = namespace.and_then(|namespace| namespace.pause.as_ref());
        let entry = self.image.and_then(|image| image.entrypoint(container)).unwrap_or_default();
        let shell = ["/bin/sh".to_owned(), "-c".to_owned(), self.read_inner()];
        let action = |action: Option<&Action>| {
            action.map_or("  return 0\n".to_owned(), |action| self.call(&action.command, &[], " </dev/null"))
        };
        let entered: Vec<String> = entry.into_iter().chain(shell).collect();
        let parts = [
            ("@DIRECTORY@", quoted(inside(container).as_os_str())),
            ("@NAME@", quoted(OsStr::new(&name))),
            ("@TITLE@", quoted(OsStr::new(&description.title))),
            ("@PROGRAM@", quoted(OsStr::new(&program(description, container)))),
            ("@PATH@", quoted(OsStr::new(self.path()))),
            ("@NETWORKS@", networks::cases()),
            ("@IDS@", self.choose_ids()),
            ("@BASES@", BASES.join(" ")),
            ("@BASES_SHOWN@", BASES.join(", ")),
            ("@STORE@", quoted(self.store().as_os_str())),
            (
                "@IMAGES@",
                if description.has_store() { "$store/images-$ids".to_owned() } else { "''".to_owned() },
            ),
            (
                "@LAYERS@",
                if description.has_store() { "$store/jobs/$name".to_owned() } else { "''".to_owned() },
            ),
            ("@ENVIRONMENT@", self.environment(&values)),
            ("@NEEDS@", self.needs()),
            ("@LACKS@", self.lacks()),
            ("@CLEAN@", CLEAN.to_string()),
            ("@MAKE_STORE@", self.make_store()),
            ("@FILES@", self.files(&values)),
            ("@HOLDER@", namespace.map_or("true".to_owned(), |one| words(&many.fill(&one.holder, &values)))),
            (
                "@ENTER_NAMESPACE@",
                namespace.map_or(String::new(), |one| words(&many.fill(&one.enter, &values)) + " "),
            ),
            ("@OWNER@", quoted(OsStr::new(&handover.account.name))),
            ("@UID@", handover.account.uid.to_string()),
            ("@SAYS@", self.says()),
            ("@LIVES@", self.lives()),
            ("@RUNNING@", self.running()),
            ("@START@", action(description.start.as_ref())),
            (
                "@CREATE@",
                match &description.create {
                    Some(create) => serving::create(self, create),
                    None => "  return 0\n".to_owned(),
                },
            ),
            ("@LINKS@", self.links(&values)),
            ("@ENSURE@", self.ensure()),
            ("@PROVIDE@", self.provide()),
            ("@SERVICES@", serving::script(self)),
            ("@ENTER@", self.call(&description.enter.command, &entered, "")),
            ("@STOP@", action(description.stop.as_ref().or(description.destroy.as_ref()))),
            ("@DESTROY@", action(description.destroy.as_ref())),
            ("@CLEAR@", action(description.clear.as_ref())),
            ("@PAUSE@", pause.map_or(String::new(), |file| word(&fill_word(file, &values)))),
            ("@NONCE@", self.nonce.to_owned()),
            ("@GRACE@", self.grace.to_string()),
        ];
        fill(TEMPLATE, &parts)
    }

    pub(crate) fn values(&self) -> Values {
        let variable = |name: &str| format!("{MARK}{name}{MARK}");
        let mut values: Values = self.plain_values().into_iter().collect();
        values.extend([
            ("runtime", variable("r")),
            ("layers", variable("layers")),
            ("images", variable("images")),
            ("holder", variable("holder")),
            ("hosts", format!("{}/hosts", variable("r"))),
            ("directory", variable("d")),
        ]);
        values
    }

    /// Those that the script does not choose itself. A later one of a name takes the place of an earlier one.
    fn plain_values(&self) -> Vec<(&'static str, String)> {
        let account = &self.handover.account;
        let mut values = vec![
            ("program", program(self.description, self.container)),
            ("name", self.name()),
            ("uid", account.uid.to_string()),
            ("gid", account.gid.to_string()),
            ("user", account.name.clone()),
            ("idle", format!(": {}; {IDLE}", self.name())),
            ("homes", homes(&account.home)),
        ];
        values.extend(self.image.map(|image| ("image", image.for_create.clone())));
        values.extend(self.saved().map(|saved| ("image", saved.name.clone())));
        values
    }

    fn name(&self) -> String {
        match self.allocation {
            Some(allocation) => format!("{}-{}", short(self.handover), allocation.suffix),
            None => name(self.handover, self.container),
        }
    }

    fn saved(&self) -> Option<&SavedImage> {
        self.allocation?.image.as_ref()
    }

    fn provide(&self) -> String {
        let (Some(_), Some(inspect), Some(load)) =
            (self.allocation, &self.description.inspect, &self.description.load)
        else {
            return "  return 0\n".to_owned();
        };
        let mut text = "  :\n".to_owned();
        let of_services = self.services.iter().filter_map(|service| service.saved.as_ref());
        for saved in self.saved().into_iter().chain(of_services) {
            let mut values = self.values();
            values.insert("reference", saved.name.clone());
            values.insert("file", saved.file.display().to_string());
            // Two jobs that load one image at once cost time, and harm nothing.
            let load = self.call_with(&load.command, &values, &[], " </dev/null || return 1");
            let otherwise = format!(" </dev/null >/dev/null 2>&1 || {{\n{load}  }}");
            text.push_str(&self.call_with(&inspect.command, &values, &[], &otherwise));
        }
        text
    }

    fn path(&self) -> &str {
        self.container.engine_environment.get("PATH").map_or(PATH, String::as_str)
    }

    fn store(&self) -> PathBuf {
        store(self.container, self.handover.account.uid)
    }

    /// What the image's entrypoint gets behind `/bin/sh -c`.
    fn read_inner(&self) -> String {
        format!(". {}", quoted(inside(self.container).join("inner").as_os_str()))
    }

    /// Lines that run a command of the engine's in the script's function `engine`.
    fn call(&self, command: &[String], more: &[String], redirections: &str) -> String {
        self.call_with(command, &self.values(), more, redirections)
    }

    pub(crate) fn call_with(
        &self,
        command: &[String],
        values: &Values,
        more: &[String],
        redirections: &str,
    ) -> String {
        self.call_on(command, values, more, redirections, Network::of(self.container))
    }

    pub(crate) fn call_on(
        &self,
        command: &[String],
        values: &Values,
        more: &[String],
        redirections: &str,
        network: Network,
    ) -> String {
        let set = |ids: Ids| self.set(command, values, more, ids, network);
        let mut text = match &self.description.namespace {
            Some(_) => {
                format!("  if [ \"$ids\" = one ]; then\n{}  else\n{}  fi\n", set(Ids::One), set(Ids::Many))
            }
            None => set(Ids::Many),
        };
        writeln!(text, "  engine \"$@\"{redirections}").unwrap_or_default();
        text
    }

    /// Lines that make the command's words the arguments of the function they stand in.
    fn set(
        &self,
        command: &[String],
        values: &Values,
        more: &[String],
        ids: Ids,
        network: Network,
    ) -> String {
        let mut text = "    set --\n".to_owned();
        let add = |text: &mut String, list: &str| {
            if !list.is_empty() {
                writeln!(text, "    set -- \"$@\" {list}").unwrap_or_default();
            }
        };
        for part in command.split_inclusive(|word| word == "{binds}" || word == "{optional}") {
            let (binds, is_optional, plain) = match part.split_last() {
                Some((last, plain)) if last == "{binds}" => (self.binds, false, plain),
                Some((last, plain)) if last == "{optional}" => (&[][..], true, plain),
                _ => (&[][..], false, part),
            };
            let fill = |binds: &[Bind], list: &[String]| {
                let lists = Lists::new(self.description, self.container, binds.to_vec(), ids);
                words(&lists.on(network).fill(list, values))
            };
            add(&mut text, &fill(&[], plain));
            for bind in binds {
                add(&mut text, &fill(std::slice::from_ref(bind), &["{binds}".to_owned()]));
            }
            if is_optional {
                text.push_str(&self.optional(&|list| fill(self.binds, list)));
            }
        }
        // These are the job's own, and have no variable of the script.
        let literal: Vec<String> = more.iter().map(|one| quoted(OsStr::new(one))).collect();
        add(&mut text, &literal.join(" "));
        text
    }

    /// Lines that add words by what the host says.
    fn optional(&self, fill: &dyn Fn(&[String]) -> String) -> String {
        let mut text = String::new();
        for one in &self.description.optional {
            let mut line = |intro: &str, list: &[String], end: &str| {
                if !list.is_empty() {
                    writeln!(text, "{intro}{}{end}", fill(list)).unwrap_or_default();
                }
            };
            line("    if ", &one.test, " </dev/null >/dev/null 2>&1; then\n      :");
            line("      set -- \"$@\" ", &one.words, "");
            line("    else\n      :\n      ", &one.make, " </dev/null >/dev/null 2>&1");
            let intro = if one.make.is_empty() { "    else\n      " } else { "      " };
            line(&format!("{intro}set -- \"$@\" "), &one.otherwise, "");
            text.push_str("    fi\n");
        }
        text
    }

    /// The engine's lists for this job, without binds.
    pub(crate) fn lists(&self, ids: Ids) -> Lists<'_> {
        Lists::new(self.description, self.container, Vec::new(), ids)
    }

    fn environment(&self, values: &Values) -> String {
        let mut text = String::new();
        let mut export = |name: &str, value: &str, indent: &str| {
            if is_name(name.as_bytes()) && name != "PATH" {
                writeln!(text, "{indent}{name}={}\n{indent}export {name}", word(&fill_word(value, values)))
                    .unwrap_or_default();
            }
        };
        for (name, value) in &self.description.environment {
            export(name, value, "  ");
        }
        for (name, value) in &self.container.engine_environment {
            // No placeholders in a site's value.
            export(name, &value.replace(['{', MARK], ""), "  ");
        }
        if let Some(namespace) = &self.description.namespace {
            text.push_str("  if [ \"$ids\" = one ]; then\n");
            for (name, value) in &namespace.environment {
                if is_name(name.as_bytes()) {
                    writeln!(text, "    {name}={}\n    export {name}", word(&fill_word(value, values)))
                        .unwrap_or_default();
                }
            }
            text.push_str("    :\n  fi\n");
        }
        text
    }

    fn files(&self, values: &Values) -> String {
        let mut text = String::new();
        for path in &self.description.directories {
            writeln!(text, "  mkdir -p {}", word(&format!("{MARK}r{MARK}/{path}"))).unwrap_or_default();
        }
        for (name, content) in &self.description.files {
            let path = format!("{MARK}r{MARK}/{name}");
            if let Some((parent, _)) = path.rsplit_once('/') {
                writeln!(text, "  mkdir -p {}", word(parent)).unwrap_or_default();
            }
            let unless = match self.description.files_unless.get(name) {
                Some(of_host) => format!("[ -e {} ] || ", quoted(OsStr::new(of_host))),
                None => String::new(),
            };
            let content = word(&fill_word(content, values));
            writeln!(text, "  {unless}printf '%s\\n' {content} >{}", word(&path)).unwrap_or_default();
        }
        text.push_str(&serving::hosts_file(self));
        text
    }

    fn links(&self, values: &Values) -> String {
        let mut text = String::new();
        for (directory, other) in &self.description.links {
            let [directory, other] = [directory, other].map(|path| word(&fill_word(path, values)));
            writeln!(
                text,
                "  [ ! -d {other} ] || {{ mkdir -p {directory} && ln -sfn -- {other}/* {directory}; }} || return 1"
            )
            .unwrap_or_default();
        }
        text
    }

    /// Looks whether this host has what the engine needs, before it says so in words of its own.
    fn needs(&self) -> String {
        if !self.description.host.user_namespaces {
            return "    :\n".to_owned();
        }
        let program = quoted(OsStr::new(&program(self.description, self.container)));
        needs::user_namespaces(&program, needs::SETTINGS)
    }

    /// Why an engine that needs user namespaces may have failed.
    fn lacks(&self) -> String {
        match self.description.host.user_namespaces || self.description.namespace.is_some() {
            true => needs::lacks(needs::SETTINGS, "/proc/self/status"),
            false => "  :".to_owned(),
        }
    }

    fn make_store(&self) -> String {
        if !self.description.has_store() {
            return "  :\n".to_owned();
        }
        let name = &self.container.name;
        format!(
            "  mkdir -p \"$store\" 2>/dev/null\n  \
             if kind=$(network \"$store\"); then\n    \
             fail \"cannot use the store $store of $title: it is on $kind, where $title cannot keep images; ask the administrators to set \
             \\`store\\` of [container.{name}] to a directory on a local disk\"\n  fi\n  \
             private \"$store\" || fail \"cannot use the store $store of $title: it cannot be made, is a link, or is another \
             user's; ask the administrators to set \\`store\\` of [container.{name}] to a directory of yours on a local disk\"\n  \
             mkdir -p \"$images\" \"$layers/tmp\" || fail \"cannot make $layers: make sure that its file system has space and quota left\"\n"
        )
    }

    /// Which ids the engine's commands have on this host, and why they are few.
    fn choose_ids(&self) -> String {
        if self.description.namespace.is_none() {
            return "  return 0\n".to_owned();
        }
        let forced = if self.container.no_new_privileges { "true" } else { "false" };
        format!(
            "  if {forced} || grep -q '^NoNewPrivs:[[:space:]]*1$' /proc/self/status 2>/dev/null; then\n    \
             ids=one why='setuid programs such as newuidmap have no effect in this job'\n  \
             elif ! command -v newuidmap >/dev/null 2>&1 || ! command -v newgidmap >/dev/null 2>&1; then\n    \
             ids=one why='newuidmap and newgidmap are not installed on this host'\n  \
             elif {uid} || {gid}; then\n    \
             ids=one why='newuidmap or newgidmap has neither a setuid bit nor file capabilities on this host'\n  \
             elif ! subordinate /etc/subuid || ! subordinate /etc/subgid; then\n    \
             ids=one why='the account has no subordinate ids on this host'\n  fi\n",
            uid = needs::is_powerless("newuidmap"),
            gid = needs::is_powerless("newgidmap"),
        )
    }

    /// Whether the container's process on the host is there: its command line has the name.
    fn lives(&self) -> String {
        let Some(running) = &self.description.running else { return "  return 1\n".to_owned() };
        let Some(file) = &running.pid_file else {
            return "  [ \"$(running_says)\" = \"$says\" ]\n".to_owned();
        };
        let file = word(&fill_word(file, &self.values()));
        format!(
            "  pid=$(cat {file} 2>/dev/null) && [ -n \"$pid\" ] && grep -qF \"$name\" \"/proc/$pid/cmdline\" 2>/dev/null\n"
        )
    }

    /// What the engine prints of a container that runs.
    fn says(&self) -> String {
        match &self.description.running {
            Some(running) => quoted(OsStr::new(&running.says)),
            None => "''".to_owned(),
        }
    }

    fn running(&self) -> String {
        match &self.description.running {
            Some(running) if !running.command.is_empty() => {
                self.call(&running.command, &[], " </dev/null 2>/dev/null")
            }
            _ => "  return 1\n".to_owned(),
        }
    }

    fn ensure(&self) -> String {
        if self.description.create.is_none() {
            return "  return 0\n".to_owned();
        }
        let start = match self.description.start {
            Some(_) => {
                "  if [ -e \"$r/made\" ] && start >\"$r/said\" 2>&1 && settled; then\n    return 0\n  fi\n"
            }
            None => "",
        };
        format!(
            "  running && return 0\n{start}  [ ! -e \"$r/made\" ] || destroy >/dev/null 2>&1\n  : >\"$r/made\"\n  \
             create >\"$r/said\" 2>&1 || fail \"$title cannot make the job's container: $(said)$(lacks_unless \"$(said)\")\"\n  \
             settled && return 0\n  \
             echo \"nunbird: the container of $title ended as soon as it was made: the image lacks the program sleep, or its programs are for \
             another kind of machine than this host ($(uname -m))\" >&2\n  exit {ENDED_AT_ONCE}\n"
        )
    }
}

/// The `PATH` of engines' commands, where the site has set no other.
pub fn search_path() -> &'static str {
    PATH
}

/// The engine's program.
pub(crate) fn program(description: &Description, container: &Container) -> String {
    match &container.program {
        Some(program) => program.display().to_string(),
        None => description.program.clone(),
    }
}

/// The directory that has the accounts' homes; the home itself where that is the root directory.
fn homes(home: &Path) -> String {
    match home.parent() {
        Some(parent) if parent != Path::new("/") => parent.display().to_string(),
        _ => home.display().to_string(),
    }
}

/// The store of an account's images.
pub fn store(container: &Container, uid: u32) -> PathBuf {
    container.store.clone().unwrap_or_else(|| format!("/var/tmp/nunbird-{uid}").into())
}

#[cfg(test)]
mod tests;
