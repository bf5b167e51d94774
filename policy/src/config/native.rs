//! Nunbird's own configuration: every table but servers and rules.

use super::executor::{BatchSettings, Executor, SchedulerFile};
use super::model::*;
use super::reader::{At, Section};
use super::values::{self, Values};
use super::{batch, conditions, directories, limits, rules, servers};
use crate::{DEFAULT_AUDIT_FILE, DEFAULT_KEYS_DIR, DEFAULT_LAUNCHER, IdentitySource};
use nunbird_handover::Isolation;
use nunbird_handover::{Audit, Syslog};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const DEFAULT_TOKEN_VARIABLES: [&str; 3] = ["SITE_ID_TOKEN", "NUNBIRD_ID_TOKEN", "CI_JOB_JWT"];
pub(super) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const HOUR: u64 = 3600;
pub(super) const PINNING: [(&str, Pinning); 3] =
    [("off", Pinning::Off), ("remember", Pinning::Remember), ("known", Pinning::Known)];

/// Reads a whole configuration; findings stay with the reader.
pub(super) fn read(file: &Path, mut root: Section<'_>) -> Policy {
    let downscope = root.choice(
        "downscope",
        &[("setuid", Downscope::Setuid), ("sudo", Downscope::Sudo), ("none", Downscope::None)],
    );
    let downscope = downscope.map_or(Downscope::Setuid, |at| at.value);
    let keys_dir = root.path("keys_dir", DEFAULT_KEYS_DIR);
    let gitlab = servers::read(&mut root);
    let identity = identity(root.table("identity"));
    let (accounts, authorized_projects) = accounts(root.table("accounts"));
    if downscope == Downscope::Sudo && authorized_projects != AuthorizedProjects::Off {
        let help = "remove it, or use `downscope = \"setuid\"`";
        root.find("`authorized_projects` is read as the user, which `downscope = \"sudo\"` cannot", help);
    }
    let directories = directories::read(root.table("directories"), downscope == Downscope::Setuid);
    let schedulers = batch::schedulers(&mut root);
    let limits = limits::all(&mut root);
    let known = Named { schedulers: &schedulers, limits: &limits };
    let job = job(root.table("job"), &Job::default(), &known);
    let job = Job { batch: batch::read(root.table("batch"), &job.batch), ..job };
    let profiles = profiles(&mut root, &job, &directories, &known);
    let maps = maps(&mut root);
    let validation = validation(root.table("validation"));
    let pam = super::pam::read(root.table("pam"), downscope);
    let audit = audit(root.table("audit"), downscope);
    let known = conditions::Known {
        profiles: &profiles,
        maps: &maps,
        validated: validation.is_some(),
        gitlab: &gitlab,
        limits: &limits,
    };
    let rules = rules::read(&mut root, &known);
    let tests = rules::tests(&mut root, &known);
    root.finish();
    Policy {
        file: file.to_path_buf(),
        dialect: Dialect::Native,
        downscope,
        keys_dir,
        gitlab,
        identity,
        accounts,
        directories,
        job,
        limits,
        profiles,
        schedulers,
        maps,
        audit,
        validation,
        pam,
        authorized_projects,
        rules,
        tests,
    }
}

fn identity(mut table: Section<'_>) -> IdentitySettings {
    let sources = table.texts("sources").map_or_else(|| vec![IdentitySource::IdToken], sources);
    let token_variables = match table.texts("token_variables") {
        None => DEFAULT_TOKEN_VARIABLES.map(str::to_owned).to_vec(),
        Some(names) => {
            let help = "list the names used under `id_tokens:` in .gitlab-ci.yml: letters, digits and `_`";
            if names.value.is_empty() {
                names.spot.find("these are no names of id tokens", help);
            }
            for name in names.value.iter().filter(|name| !values::is_variable(name.value)) {
                name.spot.find("this is no name of an id token", help);
            }
            names.value.iter().map(|name| name.value.to_owned()).collect()
        }
    };
    let settings = IdentitySettings {
        sources,
        token_variables,
        clock_skew: table.seconds("clock_skew", 60, 0..=300),
        late_stages: table.seconds("late_stages", HOUR / 4, 0..=HOUR),
    };
    table.finish();
    settings
}

fn sources(names: At<'_, Vec<At<'_, &str>>>) -> Vec<IdentitySource> {
    let mut sources = Vec::new();
    for name in &names.value {
        match [IdentitySource::IdToken, IdentitySource::JobToken].into_iter().find(|s| s.name() == name.value)
        {
            Some(source) if !sources.contains(&source) => sources.push(source),
            Some(_) => name.spot.find("this source stands twice", "remove one of the two"),
            None => name.spot.find("this is no source of an identity", "write `id_token` or `job_token`"),
        }
    }
    if sources.first() == Some(&IdentitySource::JobToken) && sources.len() > 1 {
        names.spot.find("nothing is tried behind `job_token`: every job has one", "write `id_token` first");
    }
    if sources.is_empty() {
        names.spot.find("without a source no job has an identity", "write `[\"id_token\"]`");
    }
    sources
}

fn accounts(mut table: Section<'_>) -> (Accounts, AuthorizedProjects) {
    let min_uid = table.uid("min_uid", 1000);
    if min_uid.value < 100 {
        let help = "uids below 100 belong to the system; sites start at 500 or 1000";
        min_uid.find("`min_uid` lets system accounts run jobs", help);
    }
    let max_uid = table.uid("max_uid", u32::MAX - 1);
    if max_uid.value < min_uid.value {
        max_uid.find("no uid lies between `min_uid` and `max_uid`", "write a number above `min_uid`");
    }
    let word = [
        ("off", AuthorizedProjects::Off),
        ("optional", AuthorizedProjects::Optional),
        ("required", AuthorizedProjects::Required),
    ];
    let authorized_projects =
        table.choice("authorized_projects", &word).map_or_else(Default::default, |at| at.value);
    let accounts = Accounts {
        min_uid: min_uid.value,
        max_uid: max_uid.value,
        deny: table.owned_texts("deny"),
        deny_groups: table.owned_texts("deny_groups"),
        shells: table.paths("shells"),
        nologin: table.flag("nologin", false),
        allow_bots: table.flag("allow_bots", false),
        pinning: table.choice("pinning", &PINNING).map_or_else(Default::default, |at| at.value),
        people_file: table.text("people_file").map(|at| values::path(&at)),
    };
    table.finish();
    (accounts, authorized_projects)
}

/// What `[job]` and profiles may name.
struct Named<'k> {
    schedulers: &'k BTreeMap<String, SchedulerFile>,
    limits: &'k limits::Known,
}

/// `[job]`. The launcher is the same for all jobs.
fn job(mut table: Section<'_>, base: &Job, known: &Named<'_>) -> Job {
    let job = job_keys(&mut table, base, known);
    let job = Job { launcher: table.path("launcher", DEFAULT_LAUNCHER), ..job };
    table.finish();
    job
}

/// What `[job]` and profiles have in common; what is not said is as in `base`.
fn job_keys(table: &mut Section<'_>, base: &Job, known: &Named<'_>) -> Job {
    let mut environment = base.environment.clone();
    environment.extend(table.environment("environment"));
    let no_new_privileges = table.flag("no_new_privileges", base.isolation.no_new_privileges);
    let isolation = Isolation {
        no_new_privileges,
        block_tty_injection: filter(
            table,
            "block_tty_injection",
            base.isolation.block_tty_injection,
            no_new_privileges,
        ),
        limit_setuid: filter(table, "limit_setuid", base.isolation.limit_setuid, no_new_privileges),
    };
    Job {
        launcher: base.launcher.clone(),
        executor: batch::executor(table, &base.executor, known.schedulers),
        batch: base.batch.clone(),
        shell: table.path_or("shell", &base.shell),
        login_shell: table.flag("login_shell", base.login_shell),
        isolation,
        environment,
        message: table.text("message").map_or_else(|| base.message.clone(), |at| values::message(&at)),
        stages: table.texts("stages").map_or_else(|| base.stages.clone(), |at| values::stages(&at.value)),
        raise_stack_limit: table.flag("raise_stack_limit", base.raise_stack_limit),
        images: table.choice("images", &Images::WORDS).map_or(base.images, |at| at.value),
        limits: limits::named(table, base.limits.as_ref(), known.limits),
    }
}

/// The kernel takes a filter from a process without privilege only together with no_new_privs (seccomp(2)).
fn filter(table: &mut Section<'_>, key: &'static str, base: bool, no_new_privileges: bool) -> bool {
    let Some(wanted) = table.boolean(key) else { return base && no_new_privileges };
    if wanted.value && !no_new_privileges {
        let help =
            "add `no_new_privileges = true`; setuid programs (sudo, ping, fusermount) are then inert in jobs";
        wanted.spot.find("a filter of system calls needs no_new_privileges", help);
    }
    wanted.value
}

fn profiles(
    root: &mut Section<'_>,
    job: &Job,
    directories: &Directories,
    known: &Named<'_>,
) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    for (name, mut table) in root.named("profile") {
        values::check_label(&name, "profile");
        let data_dir = table.text("data_dir").map(|at| values::data_dir(&at));
        let limits = table.place_of("limits");
        let own = job_keys(&mut table, job, known);
        let job = Job { batch: batch::read(table.table("batch"), &own.batch), ..own };
        table.finish();
        let directories = match data_dir {
            Some(data_dir) => Directories { data_dir, ..directories.clone() },
            None => directories.clone(),
        };
        profiles
            .insert(name.value.to_owned(), Profile { place: name.spot.place(), job, directories, limits });
    }
    profiles
}

fn maps(root: &mut Section<'_>) -> BTreeMap<String, MapFile> {
    let keys = [
        ("user_login", MapKey::UserLogin),
        ("user_id", MapKey::UserId),
        ("user_email", MapKey::UserEmail),
        ("project_path", MapKey::Project),
        ("namespace_path", MapKey::Namespace),
    ];
    let mut maps = BTreeMap::new();
    for (name, mut table) in root.named("map") {
        values::check_label(&name, "map");
        let key = table.choice("key", &keys).map_or(MapKey::UserLogin, |at| at.value);
        if !table.has("file") {
            name.spot.find("this map has no file", "add `file = \"/etc/nunbird/users.map\"`");
        }
        let file = table.path("file", "/");
        table.finish();
        maps.insert(name.value.to_owned(), MapFile { place: name.spot.place(), file, key });
    }
    maps
}

fn validation(mut table: Section<'_>) -> Option<Validation> {
    if !table.is_present() {
        return None;
    }
    if !table.has("script") {
        table.find("there is no program to ask", "add `script = \"/etc/nunbird/validate\"`");
    }
    if !table.has("user") {
        let help = "add `user = \"nunbird\"`, or `\"root\"` if it must be";
        table.find("it is not said as whom the program runs", help);
    }
    let script = table.path("script", "/");
    let sha256 = table.text("sha256").map(|at| values::sha256(&at));
    let user_variable = table.text("user_variable").and_then(|at| values::variable_name(&at));
    let validation = Validation {
        script,
        sha256,
        user_variable,
        environment: table.environment("environment"),
        timeout: table.seconds("timeout", 10, 1..=300),
        user: table.text("user").map_or("", |at| at.value).to_owned(),
        rules_first: table.flag("rules_first", false),
    };
    table.finish();
    Some(validation)
}

fn audit(mut table: Section<'_>, downscope: Downscope) -> Audit {
    let file = match table.raw("file", super::reader::Kind::Text) {
        None => (downscope == Downscope::Setuid).then(|| PathBuf::from(DEFAULT_AUDIT_FILE)),
        Some(raw) if raw.as_boolean() == Some(false) => None,
        Some(raw) => match raw.as_text() {
            Some(value) => Some(values::path(&At { value, spot: raw.spot })),
            None => raw.wrong_type("string or `false`", "write an absolute path in quotes, or `false`"),
        },
    };
    let audit = Audit {
        file,
        journald: table.flag("journald", false),
        syslog: table.text("syslog").and_then(|at| syslog(&at)),
        required: table.flag("required", true),
    };
    table.finish();
    audit
}

fn syslog(at: &At<'_, &str>) -> Option<Syslog> {
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    let parsed = match at.value.split_once("://") {
        None if at.value == "local" => Some(Syslog::Local),
        Some(("udp", rest)) => address(rest).map(Syslog::Udp),
        Some(("tcp", rest)) => address(rest).map(Syslog::Tcp),
        _ => None,
    };
    if parsed.is_none() {
        let help = "write `local`, `udp://192.0.2.1:514` or `tcp://[2001:db8::1]:601`; no name is looked up with privilege";
        at.spot.find("this is no syslog daemon", help);
    }
    parsed
}

impl Default for Job {
    fn default() -> Self {
        Job {
            launcher: PathBuf::from(DEFAULT_LAUNCHER),
            shell: PathBuf::from("/bin/bash"),
            login_shell: true,
            isolation: Isolation::default(),
            executor: Executor::default(),
            batch: BatchSettings::default(),
            environment: BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]),
            message: None,
            stages: Vec::new(),
            raise_stack_limit: false,
            images: Images::default(),
            limits: None,
        }
    }
}
