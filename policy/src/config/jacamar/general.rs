//! `[general]` and `[general.podman]`.

use super::batch::words;
use super::{assignments, duration, ignore, list, on, required, set};
use crate::Executor;
use crate::config::batch::executor_of;
use crate::config::container::{ContainerPolicy, image};
use crate::config::listed::ListedServer;
use crate::config::reader::{At, Section};
use crate::config::{CONFIGURATIONS, Directories, GitLabServer, Job, servers, values};
use nunbird_handover::{Engine, PullPolicy, Upkeep};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What `[general]` says, as far as it has an effect.
pub(super) struct General {
    pub(super) executor: Executor,
    pub(super) container: Option<ContainerPolicy>,
    pub(super) shell: PathBuf,
    pub(super) directories: Directories,
    pub(super) message: Option<String>,
    pub(super) raise_stack_limit: bool,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) token_variable: String,
    /// Without its audience, which `[auth]` has.
    pub(super) server: GitLabServer,
}

const DAY: u64 = 86_400;

/// What is found where the server is not named: `migrate --gitlab-server` settles it.
pub const NO_GITLAB_SERVER: &str = "there is no `gitlab_server`";

pub(super) fn read<'t>(root: &mut Section<'t>, listed: Option<ListedServer<'t>>) -> General {
    let mut t = root.table("general");
    if !t.is_present() {
        root.find("there is no table `[general]`", "add it, with `executor`, `data_dir` and `gitlab_server`");
    }
    let table = &mut t;
    let executor = executor(table);
    let (container, executor) = match container(table) {
        Mechanism::None => (None, executor),
        Mechanism::Container(container) => (Some(*container), executor),
        Mechanism::Unknown(stand_in) => (None, stand_in),
    };
    let directories = directories(table);
    let server = server(table, listed);
    let shell = set(table, "shell_path").map_or_else(|| PathBuf::from("/bin/bash"), |at| values::path(&at));
    let token_variable = set(table, "jwt_env_variable").and_then(|at| values::variable_name(&at));
    let environment = environment(table);
    duration(table, "kill_timeout", 120, u64::MAX);
    let message = set(table, "job_message").and_then(|at| values::message(&at));
    let raise_stack_limit = on(table, "set_stack_size");
    ignore(
        table,
        &["name", "force_mechanism"],
        &[
            "retain_logs",
            "unrestricted_cmd_line",
            "file_lock_debug",
            "user_enabled_limit",
            "variable_data_dir",
        ],
        &[],
    );
    let container = podman(table.table("podman"), container);
    table.allow_prefix("ff_");
    t.finish();
    General {
        executor,
        container,
        shell,
        directories,
        message,
        raise_stack_limit,
        environment,
        token_variable: token_variable.unwrap_or_else(|| "CI_JOB_JWT".to_owned()),
        server,
    }
}

/// What there is no executor for gets a name that none has: with its finding the file is no policy, and what `migrate` writes
/// of it is none before the site decides how its jobs run. It must never become jobs on the runner's host.
fn executor(table: &mut Section<'_>) -> Executor {
    match required(table, "executor", "write `executor = \"shell\"`") {
        None => Executor::Described("NAME".to_owned()),
        Some(at) if at.value == "pjm" => {
            let help = "describe the scheduler (docs/schedulers.md has this one) and write a configuration of Nunbird's own with a table `[scheduler.pjm]`; `/opt/nunbird/bin/nunbirdctl migrate` writes the rest";
            at.spot.find("this scheduler is not built in", help);
            Executor::Described(at.value.to_owned())
        }
        Some(at) => {
            executor_of(&at, std::iter::empty()).unwrap_or_else(|| Executor::Described(at.value.to_owned()))
        }
    }
}

/// What `run_mechanism` says.
enum Mechanism {
    None,
    Container(Box<ContainerPolicy>),
    /// With the name of an executor that there is none of: such jobs must never run outside of a container.
    Unknown(Executor),
}

fn container(table: &mut Section<'_>) -> Mechanism {
    let Some(at) = set(table, "run_mechanism") else { return Mechanism::None };
    if !["podman", "charliecloud"].contains(&at.value) {
        let help = "write `podman` or `charliecloud`; Nunbird's own configuration has other engines (`[container.NAME]`)";
        at.spot.find("unknown `run_mechanism`", help);
        return Mechanism::Unknown(Executor::Described(format!("in-{}", at.value)));
    }
    let engine = Engine::Named(at.value.to_owned());
    let container = ContainerPolicy::new(at.value, engine, at.spot.place());
    // As `podman run` does by itself.
    let pull_policies = vec![PullPolicy::IfNotPresent, PullPolicy::Always];
    Mechanism::Container(Box::new(ContainerPolicy { pull_policies, ..container }))
}

/// `$HOME` alone is `~/.jacamar-ci`, and a directory that is not an account's own gets one below it for each.
fn data_dir(table: &mut Section<'_>) -> String {
    let fallback = || "$HOME/.jacamar-ci".to_owned();
    let Some(at) = required(table, "data_dir", "write `data_dir = \"$HOME\"`") else { return fallback() };
    let text = at.value.replace("${HOME}", "$HOME").replace("${USER}", "$USER");
    let text = text.trim_end_matches('/');
    let text = match text {
        "$HOME" | "~" => fallback(),
        other if other.contains("$HOME") || other.contains("$USER") => other.to_owned(),
        other => format!("{other}/$USER"),
    };
    values::data_dir(&At { value: text.as_str(), spot: at.spot })
}

fn server(table: &mut Section<'_>, listed: Option<ListedServer<'_>>) -> GitLabServer {
    let own = set(table, "gitlab_server").map(|at| (servers::url(&at), at.spot));
    let (proxy, proxy_auth_file) = listed.as_ref().map_or((None, None), servers::listed_proxy);
    let listed = listed.map(|listed| (servers::url(&listed.url), listed.url.spot));
    let url = match (own, listed) {
        (Some((own, place)), Some((listed, spot))) if own != listed => {
            let help = "remove the URL from this line, or correct one of the two";
            spot.find(format!("another server than `gitlab_server` at {}", place.place()), help);
            Some(own)
        }
        (Some((own, _)), _) => Some(own),
        (None, Some((listed, spot))) => {
            table.keep_origin("gitlab_server", spot);
            Some(listed)
        }
        (None, None) => {
            let help = format!(
                "add `gitlab_server = \"https://your.gitlab.server\"`, a key of Jacamar's own, or write the URL behind the file's name in {CONFIGURATIONS}: Nunbird trusts no URL that a job brings along"
            );
            table.find(NO_GITLAB_SERVER, help);
            None
        }
    };
    let ca_file = set(table, "tls-ca-file").map(|at| values::path(&at));
    GitLabServer { ca_file, proxy, proxy_auth_file, ..GitLabServer::with_url(url.unwrap_or_default()) }
}

/// The build directories. A job always takes the first that no other live job of the account has, which is what
/// `limit_build_dir` is for; `max_build_dir` belongs to it.
fn directories(table: &mut Section<'_>) -> Directories {
    let data_dir = data_dir(table);
    let limited = on(table, "limit_build_dir");
    let most = table.integer("max_build_dir").map(|at| at.value).filter(|most| limited && *most > 0);
    let per_job = on(table, "static_builds_dir");
    let days = table.integer("static_min_days").map_or(7, |at| at.value);
    // A hundred years of days are for ever.
    let max_age = days.min(36_500) * DAY;
    let all_at_once = on(table, "uncap_build_dir_cleanup");
    let base = Directories::default();
    Directories {
        data_dir,
        user_builds_dir: on(table, "custom_build_dir"),
        per_job,
        upkeep: Upkeep {
            group_access: on(table, "group_permissions"),
            max_age: (per_job && max_age > 0).then_some(max_age),
            max_dirs: most,
            at_once: if all_at_once { None } else { base.upkeep.at_once },
            ..base.upkeep
        },
    }
}

/// `user_bash_env`, where later assignments may name earlier ones and `PATH`.
fn environment(table: &mut Section<'_>) -> BTreeMap<String, String> {
    let mut known = Job::default().environment;
    let mut all = BTreeMap::new();
    let at = list(table, "user_bash_env");
    for one in at.into_iter().flat_map(|at| at.value) {
        let expanded = match expand(one.value, &known) {
            Ok(expanded) => expanded,
            Err(problem) => {
                let help = "write the value out, or set it in a file of /etc/profile.d, which the job's login shell reads";
                one.spot.find(problem, help);
                continue;
            }
        };
        let more = assignments([At { value: expanded.as_str(), spot: one.spot }]);
        known.extend(more.clone());
        all.extend(more);
    }
    all
}

/// `$NAME` and `${NAME}` of what is known, and nothing else that a shell would act on.
pub(super) fn expand(text: &str, known: &BTreeMap<String, String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, tail) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap_or(("", "")),
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        let value = known.get(name).ok_or_else(|| match name {
            "" => "this assignment needs a shell".to_owned(),
            _ => format!("`${name}` is not known when the job starts"),
        })?;
        expanded.push_str(value);
        rest = tail;
    }
    expanded.push_str(rest);
    if expanded.contains('`') { Err("this assignment needs a shell".to_owned()) } else { Ok(expanded) }
}

/// The table belongs to `run_mechanism = "podman"`; without it, it has no effect.
fn podman(mut t: Section<'_>, container: Option<ContainerPolicy>) -> Option<ContainerPolicy> {
    let table = &mut t;
    let mut read = container.clone().filter(|container| container.is_by("podman"));
    if let Some(container) = &mut read {
        container.program = set(table, "application_path").map(|at| values::path(&at));
        container.default_image = table.text("default_image").and_then(|at| image(&at));
        container.options = words(table, "custom_options");
        let script_only = on(table, "step_script_only");
        if script_only {
            container.stages = SCRIPT_STAGES.map(str::to_owned).to_vec();
        }
        helper_image(table, container, script_only);
        for key in ["user_entry_point", "custom_entry_point"] {
            shell_alone(table, key);
        }
    } else {
        ignore(table, &["application_path", "runner_image", "default_image"], &["step_script_only"], &[]);
        for key in [
            "runner_options",
            "custom_options",
            "runner_entry_point",
            "user_entry_point",
            "custom_entry_point",
        ] {
            let _without_effect = list(table, key);
        }
    }
    table.allow_prefix("ff_");
    t.finish();
    read.or(container)
}

/// The user's script alone, without `after_script`.
const SCRIPT_STAGES: [&str; 2] = ["build_script", "step_*"];

/// The image for sources, caches and artifacts. With `step_script_only` they are handled by the runner's own program on this host, as
/// in Jacamar CI.
fn helper_image(table: &mut Section<'_>, container: &mut ContainerPolicy, script_only: bool) {
    let named = set(table, "runner_image").and_then(|at| image(&at));
    container.runner_image = named.filter(|_| !script_only);
    let help = "remove the line: the shell in the image is found without it, and `custom_options` are for this container as well";
    let rest = ["runner_options", "runner_entry_point"].map(|key| list(table, key).map(|at| (key, at.spot)));
    for (key, spot) in rest.into_iter().flatten().filter(|_| !script_only) {
        spot.find(format!("`{key}` is not supported"), help);
    }
}

/// An entry point that is a shell has no effect: the shell in the image is found without it.
fn shell_alone(table: &mut Section<'_>, key: &'static str) {
    let Some(at) = list(table, key) else { return };
    let mut words = at.value.iter().flat_map(|one| one.value.split_whitespace());
    let shell =
        words.next().is_some_and(|word| ["bash", "sh"].contains(&word.rsplit('/').next().unwrap_or("")));
    if !shell || !words.all(|word| ["-l", "-c", "-lc", "--login"].contains(&word)) {
        let help = "put the program into the image as its entrypoint, and remove the line: scripts run in the shell of the image, through its entrypoint";
        at.spot.find(format!("`{key}` is not supported"), help);
    }
}
