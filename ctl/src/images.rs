//! `nunbirdctl images`: the container images of the caller's own jobs on this host.
//!
//! Runs as the account, on its own files. A pull is that of a job: the same rules for images, the
//! same code as in `prepare`.

use crate::arguments::{ImagePlace, Images, ImagesAction};
use crate::files;
use crate::host::ThisHost;
use crate::output::{CtlError, DENIED, FAILURE, Format, OK, print, print_json};
use crate::time;
use nunbird_accounts::users;
use nunbird_container::images::{Pruned, StoredImage, Which, list, place, prune, prune_cache, pull};
use nunbird_container::{Failure, JobUse};
use nunbird_handover::{
    Account, CacheBounds, Container, ExitCodes, FORMAT_VERSION, Handover, Identity, Shell, SiteRules, Task,
    Untrusted, Workspace,
};
use nunbird_judge::{containers, registries};
use nunbird_policy::{AccountFacts, ContainerPolicy, Directories, Host, Job, Policy, data_dir};
use nunbird_stage::signals::Signals;
use nunbird_sys::{clock, process, random};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How long a pull by hand may use a copy, beside `pull_timeout`, in seconds.
const SLACK: u64 = 3600;

pub(crate) fn run(options: &Images, format: Format) -> Result<u8, CtlError> {
    // Files are removed by age and by name here, in directories that an account chooses.
    if nix::unistd::geteuid().is_root() {
        return Err(CtlError::new(
            "no job runs as root, so root has no images; run this as the account whose images they are",
        ));
    }
    match &options.action {
        ImagesAction::List { place } => list_all(place, format),
        ImagesAction::Pull { reference, place } => pull_one(reference, place, format),
        ImagesAction::Prune { all, dry_run, place } => prune_all(*all, *dry_run, place, format),
    }
}

/// A container of the configuration for the caller, in one of the directories that its jobs have.
struct Setting<'p> {
    from: &'p ContainerPolicy,
    no_new_privileges: bool,
    data_dir: PathBuf,
    account: AccountFacts,
}

impl Setting<'_> {
    /// The container as a job of the caller's has it, with the directory that the caller names.
    fn container(
        &self,
        image: Option<&str>,
        store: Option<&Path>,
        decision_id: &str,
    ) -> Result<Container, CtlError> {
        let at = containers::Place { account: &self.account, data_dir: &self.data_dir, decision_id };
        let mut container = containers::apart(self.from, image, self.no_new_privileges, &at)
            .map_err(|refusal| CtlError::new(refusal.detail))?;
        if let Some(store) = store {
            container.store = Some(store.to_owned());
            store.clone_into(&mut container.cache);
        }
        Ok(container)
    }

    /// A message as for a job that has only just begun.
    fn handover(&self, container: Container, decision_id: String) -> Result<Handover, CtlError> {
        let AccountFacts { name, uid, gid, home, shell, .. } = self.account.clone();
        let now = clock::now().map_err(|e| CtlError::new(format!("the clock: {e}")))?;
        Ok(Handover {
            version: FORMAT_VERSION,
            decision_id,
            job_id: 0,
            task: Task::Prepare,
            identity: Identity {
                server: String::new(),
                user_login: name.clone(),
                user_id: 0,
                project_path: String::new(),
            },
            account: Account { name, uid, gid, home, shell: shell.clone() },
            workspace: Workspace {
                builds_root: self.data_dir.clone(),
                builds_dir: self.data_dir.join("builds"),
                cache_dir: self.data_dir.join("cache"),
                project_dir: self.data_dir.join("builds"),
                data_dir: self.data_dir.clone(),
            },
            shell: Shell { path: shell, login: false },
            environment: BTreeMap::new(),
            session_variables: BTreeSet::new(),
            umask: None,
            exit_codes: ExitCodes::default(),
            exit_code_file: false,
            batch: None,
            expires_at: now.saturating_add(container.pull_timeout).saturating_add(SLACK),
            timed_out: false,
            container: Some(container),
            credentials: nunbird_handover::Credentials::default(),
            credential_helpers: Vec::new(),
            site: SiteRules::default(),
        })
    }
}

fn caller() -> Result<AccountFacts, CtlError> {
    let uid = nix::unistd::getuid().as_raw();
    let failed = |why: String| CtlError::new(format!("uid {uid}: {why}"));
    let entry = users::by_uid(uid)
        .map_err(|e| failed(e.to_string()))?
        .ok_or_else(|| failed("this host has no account with this id".to_owned()))?;
    let account = ThisHost::default().account(&entry.name).map_err(|e| failed(e.detail))?;
    account.ok_or_else(|| failed("this host has no account with this id".to_owned()))
}

/// Each container with each of the directories that jobs in it have.
fn settings<'p>(policy: &'p Policy, options: &ImagePlace) -> Result<Vec<Setting<'p>>, CtlError> {
    let account = caller()?;
    let chosen: Vec<&ContainerPolicy> = match &options.container {
        None => policy.containers.values().collect(),
        Some(name) => vec![policy.containers.get(name).ok_or_else(|| {
            let known: Vec<&str> = policy.containers.keys().map(String::as_str).collect();
            let there = match known.is_empty() {
                true => "it has no containers".to_owned(),
                false => format!("there are {}", known.join(", ")),
            };
            CtlError::new(format!("{}: no [container.{name}]; {there}", policy.file.display()))
        })?],
    };
    let profiles = policy.profiles.values().map(|profile| (&profile.job, &profile.directories));
    let all: Vec<(&Job, &Directories)> =
        std::iter::once((&policy.job, &policy.directories)).chain(profiles).collect();
    let mut settings: Vec<Setting<'p>> = Vec::new();
    for from in chosen {
        let uses = |job: &Job| job.container.as_ref() == Some(&from.name);
        let used: Vec<_> = all.iter().filter(|(job, _)| uses(job)).collect();
        for (job, directories) in if used.is_empty() { all.iter().take(1).collect() } else { used } {
            let template = &directories.data_dir;
            let data_dir = data_dir(template, &account.name, &account.home).ok_or_else(|| {
                CtlError::new(format!(
                    "`{template}` is no directory for {}, whose home is {}",
                    account.name,
                    account.home.display()
                ))
            })?;
            settings.push(Setting {
                from,
                no_new_privileges: job.isolation.no_new_privileges,
                data_dir,
                account: account.clone(),
            });
        }
    }
    Ok(settings)
}

/// The directory that the caller names.
fn named(options: &ImagePlace) -> Result<Option<PathBuf>, CtlError> {
    let Some(path) = &options.store else { return Ok(None) };
    let path = std::path::absolute(path).map_err(|e| CtlError::new(format!("{}: {e}", path.display())))?;
    Ok(Some(path))
}

/// The same, where it must have images already.
fn with_images(path: &Path) -> Result<(), CtlError> {
    if let Err(e) = std::fs::read_dir(path) {
        return Err(CtlError::new(format!("{}: {e}", path.display())));
    }
    if ["copies", "images-many", "images-one"].iter().any(|part| path.join(part).is_dir()) {
        return Ok(());
    }
    Err(CtlError::new(format!(
        "{}: it has no images of Nunbird's: neither `copies` nor `images-many` nor `images-one`; name a `store` or `cache` of [container.NAME]",
        path.display()
    )))
}

fn list_all(options: &ImagePlace, format: Format) -> Result<u8, CtlError> {
    let places = match named(options)? {
        Some(path) => {
            with_images(&path)?;
            vec![path]
        }
        None => {
            let reading = files::read(&options.configuration.configuration, format)?;
            let mut places = Vec::new();
            for setting in settings(&reading.policy, options)? {
                let container = setting.container(None, None, "list")?;
                places.extend(place(&container, setting.account.uid).map_err(CtlError::new)?);
            }
            places.sort();
            places.dedup();
            places
        }
    };
    let mut images = Vec::new();
    for place in &places {
        images.extend(list(place).map_err(CtlError::new)?);
    }
    match format {
        Format::Json => {
            print_json(&json!({ "images": images.iter().map(machine).collect::<Vec<Value>>() }))?;
        }
        Format::Text if images.is_empty() => print("there are no images\n")?,
        Format::Text => {
            let head =
                "SIZE      USED                  ENGINE        JOBS        DIGEST               REFERENCE\n";
            let rows: String = images.iter().map(row).collect();
            print(&format!("{head}{rows}"))?;
        }
    }
    Ok(OK)
}

fn row(image: &StoredImage) -> String {
    let jobs = match image.jobs.as_slice() {
        [] => "-".to_owned(),
        [one] => job(one),
        [one, more @ ..] => format!("{} +{}", job(one), more.len()),
    };
    let digest = image.digest.as_deref().and_then(|digest| digest.get(..19)).unwrap_or("-");
    let digest = Untrusted(digest).to_string();
    format!(
        "{:<9} {:<21} {:<13} {jobs:<11} {digest:<20} {}{}\n",
        image.size.map_or_else(|| "-".to_owned(), amount),
        moment(image),
        Untrusted(&image.engine).to_string(),
        Untrusted(&image.reference),
        if image.is_current { "" } else { " (replaced)" },
    )
}

fn job(one: &JobUse) -> String {
    one.job.map_or_else(|| "a pull".to_owned(), |job| job.to_string())
}

/// Bytes in the words that the configuration has for them.
fn amount(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes.div_ceil(1024)),
        mib @ 1..10_240 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib >> 10),
    }
}

fn moment(image: &StoredImage) -> String {
    time::moment(image.used.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// For programs. docs/nunbirdctl.md lists the fields.
fn machine(image: &StoredImage) -> Value {
    let job = |one: &JobUse| json!({ "job_id": one.job, "decision_id": one.decision });
    json!({
        "reference": image.reference, "engine": image.engine, "digest": image.digest, "size": image.size,
        "used": moment(image), "current": image.is_current, "path": image.path,
        "jobs": image.jobs.iter().map(job).collect::<Vec<Value>>(),
    })
}

fn decision_id() -> Result<String, CtlError> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes).map_err(|e| CtlError::new(format!("no random bytes: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn signals() -> Result<Signals, CtlError> {
    Signals::block().map_err(|e| CtlError::new(format!("cannot wait for signals: {e}")))
}

fn words(failure: Failure) -> CtlError {
    match failure {
        Failure::Job(error) | Failure::System(error) | Failure::Refused(error) => CtlError::new(
            error
                .to_string()
                .replace(" into .gitlab-ci.yml", " instead")
                .replace("in .gitlab-ci.yml", "here"),
        ),
        Failure::Cancelled => CtlError::new("interrupted"),
    }
}

fn pull_one(reference: &str, options: &ImagePlace, format: Format) -> Result<u8, CtlError> {
    let reading = files::read(&options.configuration.configuration, format)?;
    if options.container.is_none() {
        return Err(CtlError::new("say by --container NAME for which [container.NAME] the image is"));
    }
    let settings = settings(&reading.policy, options)?;
    let setting = settings.first().ok_or_else(|| CtlError::new("there is no such container"))?;
    let store = named(options)?;
    let id = decision_id()?;
    let container = match setting.container(Some(reference), store.as_deref(), &id) {
        Ok(container) => container,
        Err(CtlError::Failure(why)) => {
            CtlError::Failure(why).report();
            return Ok(DENIED);
        }
        Err(other) => return Err(other),
    };
    let found = registries::credentials(
        &container,
        |_| Ok(None),
        |name| {
            let value = std::env::var_os(name).map(OsString::into_string).transpose();
            value.map_err(|_| "it is not UTF-8".to_owned())
        },
    )
    .map_err(|refusal| CtlError::new(refusal.message))?;
    let mut handover = setting.handover(container.clone(), id)?;
    handover.credentials = found.credentials.clone();
    make_data_dir(&setting.data_dir)?;
    process::set_umask(0o077);
    // With --format json, standard output has the result alone.
    let say = |line: &str| match format {
        Format::Text => drop(print(&format!("{}\n", Untrusted(line)))),
        Format::Json => eprintln!("nunbirdctl: {}", Untrusted(line)),
    };
    let image = pull(&handover, &container, &signals()?, &say).map_err(words)?;
    match format {
        Format::Json => print_json(
            &json!({ "reference": image.name, "digest": image.digest, "platform": image.platform, "image": image.for_create }),
        )?,
        Format::Text => {
            let digest = image.digest.as_ref().map(|digest| format!(" ({digest})")).unwrap_or_default();
            print(&format!("{}{}\n", Untrusted(&image.name), Untrusted(&digest)))?;
        }
    }
    Ok(OK)
}

/// As the first job of the account would make it.
fn make_data_dir(path: &Path) -> Result<(), CtlError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| CtlError::new(format!("cannot make {}: {e}", path.display())))
}

fn prune_all(all: bool, dry_run: bool, options: &ImagePlace, format: Format) -> Result<u8, CtlError> {
    let store = named(options)?;
    if let Some(store) = &store {
        with_images(store)?;
    }
    let mut pruned = Vec::new();
    match (&store, &options.container) {
        (Some(store), None) if !store.join("copies").is_dir() => {
            return Err(CtlError::new(format!(
                "{}: only its engine can remove images from a store; say by --container NAME which it is",
                store.display()
            )));
        }
        (Some(store), None) if all => {
            pruned = prune_cache(store, Which::All, dry_run).map_err(CtlError::new)?;
        }
        (Some(_), None) => {
            return Err(CtlError::new(
                "say by --container NAME whose bounds count, or --all for all images that no job uses",
            ));
        }
        _ => {
            let reading = files::read(&options.configuration.configuration, format)?;
            let signals = signals()?;
            process::set_umask(0o077);
            for setting in settings(&reading.policy, options)? {
                pruned.extend(prune_setting(&setting, store.as_deref(), all, dry_run, &signals)?);
            }
        }
    }
    report(&pruned, dry_run, format)
}

fn prune_setting(
    setting: &Setting<'_>,
    store: Option<&Path>,
    all: bool,
    dry_run: bool,
    signals: &Signals,
) -> Result<Vec<Pruned>, CtlError> {
    let id = decision_id()?;
    let container = setting.container(None, store, &id)?;
    let images = place(&container, setting.account.uid).map_err(CtlError::new)?;
    // Nothing to do, and nothing to make for it.
    if !images.is_some_and(|images| images.is_dir()) || !setting.data_dir.is_dir() {
        return Ok(Vec::new());
    }
    let bounds: CacheBounds = container.cache_bounds;
    let which = if all { Which::All } else { Which::Beyond(bounds) };
    let handover = setting.handover(container.clone(), id)?;
    prune(&handover, &container, which, dry_run, signals).map_err(words)
}

fn report(pruned: &[Pruned], dry_run: bool, format: Format) -> Result<u8, CtlError> {
    let action = |one: &Pruned| match (&one.failed, dry_run) {
        (Some(_), _) => "failed",
        (None, true) => "would remove",
        (None, false) => "removed",
    };
    match format {
        Format::Json => {
            let item = |one: &Pruned| {
                let mut value = machine(&one.image);
                if let Some(members) = value.as_object_mut() {
                    members.insert("action".to_owned(), json!(action(one)));
                    members.insert("failed".to_owned(), json!(one.failed));
                }
                value
            };
            print_json(&json!({ "images": pruned.iter().map(item).collect::<Vec<Value>>() }))?;
        }
        Format::Text if pruned.is_empty() => print("there is nothing to remove\n")?,
        Format::Text => {
            let line = |one: &Pruned| {
                let size = one.image.size.map(|size| format!(" ({})", amount(size))).unwrap_or_default();
                let why = one.failed.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                format!("{} {}{size}{}\n", action(one), Untrusted(&one.image.reference), Untrusted(&why))
            };
            print(&pruned.iter().map(line).collect::<String>())?;
        }
    }
    Ok(if pruned.iter().all(|one| one.failed.is_none()) { OK } else { FAILURE })
}
