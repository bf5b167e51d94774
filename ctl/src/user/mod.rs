//! `nunbirdctl user`: a person's own runner, without root.
//!
//! Runs as the person, and refuses root. Everything lies in the home directory: Nunbird's configuration, gitlab-runner's with the tokens
//! (mode 0600), and units of the person's own systemd. What was made is listed, so that `remove` takes that away and nothing
//! else ([`kept`]). Jobs run as the person; the configuration admits one GitLab user.

mod caches;
mod edit;
mod facts;
mod kept;
mod manager;
mod person;
mod removal;
mod runners;
mod texts;

use crate::arguments::{ImagePlace, Images, ImagesAction, Setup, User, UserAction, UserHost};
use crate::finding::Finding;
use crate::output::{CtlError, FAILURE, Format, INVALID, OK, print, print_json};
use crate::{check, files, images};
use kept::{Kept, Now};
use nunbird_handover::Untrusted;
use nunbird_policy::{Policy, SourceFile, data_dir};
use person::{KEYS, KEYS_TIMER, PRUNE, PRUNE_TIMER, Person, RUNNER};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use texts::{Choice, Server};

/// What is started and enabled.
const STARTED: [&str; 3] = [KEYS_TIMER, PRUNE_TIMER, RUNNER];

pub(crate) fn run(options: &User, format: Format) -> Result<u8, CtlError> {
    let person = Person::caller()?;
    match &options.action {
        UserAction::Check { host } => inspect(&person, host, format),
        UserAction::Setup(setup) => set_up(&person, setup, format),
        UserAction::EditConfig => edit::run(&person, format),
        UserAction::Status => status(&person, format),
        UserAction::Logs { lines, follow } => {
            let shown = manager::journal(&person, &[RUNNER, KEYS, PRUNE], *lines, *follow);
            Ok(if shown.map_err(CtlError::new)? { OK } else { FAILURE })
        }
        UserAction::Prune { quota, dry_run } => prune(&person, *quota, *dry_run, format),
        UserAction::Remove { dry_run } => removal::run(&person, *dry_run, format),
    }
}

fn no_runner() -> CtlError {
    CtlError::new("you have no runner here; `nunbirdctl user setup` makes one")
}

/// The host of the runner's unit, where it is not this one: the home directory is that of both.
fn other_host(person: &Person) -> Result<Option<(String, String)>, CtlError> {
    let here = manager::host().map_err(CtlError::new)?;
    let unit = std::fs::read_to_string(person.unit(RUNNER)).unwrap_or_default();
    Ok(texts::host_of(&unit).filter(|host| *host != here).map(|host| (host.to_owned(), here.clone())))
}

fn errors(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.is_error()).count()
}

fn shown(findings: &[Finding]) -> String {
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n\n")).collect();
    let wrong = errors(findings);
    text.push_str(&format!(
        "{}, {}\n",
        check::counted(wrong, "error"),
        check::counted(findings.len() - wrong, "remark")
    ));
    text
}

fn inspect(person: &Person, host: &UserHost, format: Format) -> Result<u8, CtlError> {
    let findings = facts::inspect(person, &Choice::of(host))?;
    let wrong = errors(&findings);
    match format {
        Format::Text => print(&shown(&findings))?,
        Format::Json => {
            let all: Vec<Value> = findings.iter().map(Finding::machine).collect();
            print_json(&json!({ "valid": wrong == 0, "findings": all }))?;
        }
    }
    Ok(if wrong == 0 { OK } else { INVALID })
}

/// A file that `setup` wants to have.
struct Wanted {
    path: PathBuf,
    text: String,
    mode: u32,
}

/// What becomes of one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    Unchanged,
    /// Its owner's changes stay.
    Changed,
}

impl Fate {
    fn word(self, dry_run: bool) -> &'static str {
        match self {
            Fate::Written if dry_run => "would write",
            Fate::Written => "written",
            Fate::Unchanged => "unchanged",
            Fate::Changed => "kept, as you have changed it",
        }
    }
}

fn read_policy(person: &Person, text: String, format: Format) -> Result<Policy, CtlError> {
    let source = SourceFile { path: person.policy(), text };
    Ok(Policy::read(&[source]).map_err(|found| CtlError::Invalid(found, format))?.policy)
}

/// Before anything is written: what a unit could not have as it is.
fn checked(person: &Person, choice: &Choice, options: &Setup) -> Result<(), CtlError> {
    let mut paths = choice.odd().into_iter().chain(options.ca_file.as_deref()).chain([person.home.as_path()]);
    if let Some(path) = paths.find(|path| !texts::plain(path)) {
        return Err(CtlError::new(format!(
            "{}: a path with control characters or without UTF-8; rename it",
            Untrusted(&path.to_string_lossy())
        )));
    }
    match &options.prune {
        Some(text) => manager::calendar(person, text).map_err(CtlError::new),
        None => Ok(()),
    }
}

fn set_up(person: &Person, options: &Setup, format: Format) -> Result<u8, CtlError> {
    let mut kept = Kept::read(person)?;
    let runs = kept.files.contains_key(&person.unit(RUNNER));
    if let (true, Some((host, here))) = (runs, other_host(person)?) {
        return Err(CtlError::new(format!(
            "your runner is on the host {}, with the same home directory as on this one ({here}); add runners there, or take it away with \
             `nunbirdctl user remove`, there as long as the host exists",
            Untrusted(&host)
        )));
    }
    let unit = if runs { std::fs::read_to_string(person.unit(RUNNER)).ok() } else { None };
    let earlier = match kept.files.contains_key(&person.policy()) && person.policy().exists() {
        true => Some(files::read(&person.policy(), format)?.policy),
        false => None,
    };
    let choice = Choice::of(&options.host).or_earlier(&options.host, unit.as_deref(), earlier.as_ref());
    checked(person, &choice, options)?;
    let findings = facts::inspect(person, &choice)?;
    let wrong = errors(&findings);
    if wrong > 0 {
        match format {
            Format::Text => print(&format!("{}nothing was changed\n", shown(&findings)))?,
            Format::Json => {
                let all: Vec<Value> = findings.iter().map(Finding::machine).collect();
                print_json(&json!({ "changed": false, "findings": all, "files": [] }))?;
            }
        }
        return Ok(INVALID);
    }
    let token = runners::token(options)?;
    let server = Server::of(options, person);
    let mut wanted = Vec::new();
    // A later runner has the server of the first: the configuration's.
    let own = texts::policy(person, &server, &choice);
    let mut fates = Vec::new();
    let policy = match kept.state(&person.policy())? {
        Now::Foreign => return Err(foreign(&person.policy())),
        Now::Absent => {
            let policy = read_policy(person, own.clone(), format)?;
            fates.push((person.policy(), Fate::Written));
            wanted.push(Wanted { path: person.policy(), text: own, mode: 0o600 });
            policy
        }
        state @ (Now::Changed | Now::Ours) => {
            as_it_is(person, options, &own)?;
            fates.push((person.policy(), if state == Now::Ours { Fate::Unchanged } else { Fate::Changed }));
            files::read(&person.policy(), format)?.policy
        }
    };
    if !policy.gitlab.iter().any(|one| one.url.trim_end_matches('/') == server.url) {
        return Err(CtlError::new(format!(
            "{}: it has no [[gitlab]] with the url {}. Add the server there, and a [[rule]] with `when.server` for it, because the rule `me` admits \
             your login on the server `{}` alone. If the first URL was wrong: `nunbirdctl user remove`, then set up again",
            person.policy().display(),
            Untrusted(server.url),
            texts::SERVER
        )));
    }
    let host = manager::host().map_err(CtlError::new)?;
    let mut restart = false;
    for (name, text) in texts::units(person, &choice, &policy, options, &host) {
        let path = person.unit(name);
        // A call that does not say it leaves what an earlier one has said.
        let said = match name {
            PRUNE => options.quota.is_some(),
            PRUNE_TIMER => options.prune.is_some(),
            _ => true,
        };
        let fate = match kept.state(&path)? {
            Now::Foreign => return Err(foreign(&path)),
            Now::Changed => Fate::Changed,
            Now::Ours if !said || files::text(&path)? == text => Fate::Unchanged,
            Now::Ours | Now::Absent => Fate::Written,
        };
        // gitlab-runner reads its own file again by itself, and its unit only at a start.
        restart |= name == RUNNER && fate == Fate::Written && runs && path.exists();
        fates.push((path.clone(), fate));
        wanted.push(Wanted { path, text, mode: 0o644 });
    }
    // gitlab-runner itself may write its file anew, and edit-config does: it is added to, whatever it is now.
    let now = match kept.state(&person.runners())? {
        Now::Foreign => return Err(foreign(&person.runners())),
        Now::Absent => None,
        Now::Ours | Now::Changed => Some(files::text(&person.runners())?),
    };
    let runners = runners::with(person, &policy, now.as_deref(), options, &token)?;
    fates.push((person.runners(), if runners.is_some() { Fate::Written } else { Fate::Unchanged }));
    if !options.dry_run {
        store(person, &mut kept, &wanted, &fates, runners.as_deref())?;
        start(person, fates.iter().any(|(path, fate)| *fate == Fate::Written && is_unit(path)), restart)?;
    }
    let changed = !options.dry_run && fates.iter().any(|(_, fate)| *fate == Fate::Written);
    match format {
        Format::Text => {
            let mut text =
                if findings.is_empty() { String::new() } else { format!("{}\n", shown(&findings)) };
            for (path, fate) in &fates {
                text.push_str(&format!("{}: {}\n", path.display(), fate.word(options.dry_run)));
            }
            if restart {
                let verb = if options.dry_run { "would be restarted" } else { "restarted" };
                text.push_str(&format!("{RUNNER}: {verb}, which cancels jobs that run\n"));
            }
            text.push_str(&format!(
                "The tokens are in {}, which only you can read (mode 0600).\n",
                person.runners().display()
            ));
            // A configuration that was there says itself whom it admits.
            if fates.contains(&(person.policy(), Fate::Written)) {
                text.push_str(&admitted(person, options, &server));
            }
            print(&text)?;
        }
        Format::Json => {
            let all: Vec<Value> = findings.iter().map(Finding::machine).collect();
            let each = |(path, fate): &(PathBuf, Fate)| json!({ "path": path, "written": *fate == Fate::Written && !options.dry_run, "kept": *fate == Fate::Changed });
            print_json(&json!({
                "changed": changed, "restarted": restart && !options.dry_run, "findings": all, "files": fates.iter().map(each).collect::<Vec<Value>>(),
            }))?;
        }
    }
    Ok(OK)
}

/// Whose jobs the configuration that is written admits, and where.
fn admitted(person: &Person, options: &Setup, server: &Server<'_>) -> String {
    let why = match options.gitlab_user {
        Some(_) => "",
        None => {
            " (the name of your account; if somebody else has this login there, `nunbirdctl user remove`, and set up with --gitlab-user)"
        }
    };
    format!(
        "Jobs of the GitLab user {}{why} on {} run as {}, and can read and change all of the account's files.\n",
        Untrusted(server.login),
        Untrusted(server.url),
        person.name
    )
}

/// The configuration is written once. A call that asks for another one is refused, so that none loses what an earlier one has set.
fn as_it_is(person: &Person, options: &Setup, own: &str) -> Result<(), CtlError> {
    let asks = options.host.image.is_some()
        || options.host.store.is_some()
        || options.host.programs.is_some()
        || options.gitlab_user.is_some()
        || options.audience.is_some()
        || options.ca_file.is_some();
    if asks && files::text(&person.policy())? != own {
        return Err(CtlError::new(format!(
            "{}: it has other settings than this call; change them there, and leave --programs, --image, --store, --gitlab-user, --audience and --ca-file out here; or begin again with `nunbirdctl user remove`",
            person.policy().display()
        )));
    }
    Ok(())
}

fn is_unit(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "service" || kind == "timer")
}

fn foreign(path: &Path) -> CtlError {
    CtlError::new(format!(
        "{}: `nunbirdctl user setup` has not made it, and overwrites nothing; move it away first",
        path.display()
    ))
}

/// The list of what was made is written before the last file, so that a setup that breaks off can be removed.
fn store(
    person: &Person,
    kept: &mut Kept,
    wanted: &[Wanted],
    fates: &[(PathBuf, Fate)],
    runners: Option<&str>,
) -> Result<(), CtlError> {
    kept.make_directory(&person.state())?;
    kept.make_directory(&person.keys())?;
    let written = |path: &Path| fates.iter().any(|(other, fate)| *other == path && *fate == Fate::Written);
    for file in wanted.iter().filter(|file| written(&file.path)) {
        kept.write(&file.path, &file.text, file.mode)?;
        kept.save(person)?;
    }
    if let Some(text) = runners {
        kept.write(&person.runners(), text, 0o600)?;
        kept.save(person)?;
    }
    Ok(())
}

fn start(person: &Person, reload: bool, restart: bool) -> Result<(), CtlError> {
    let call = |words: &[&str]| manager::systemctl(person, words).map_err(CtlError::new);
    if reload {
        call(&["daemon-reload"])?;
    }
    // Before the runner has its first job.
    call(&["start", KEYS]).map_err(|_| {
        CtlError::new("the signing keys of the server cannot be fetched: `nunbirdctl user logs` has the reason; run this again afterwards, or `nunbirdctl user remove` if the URL is wrong")
    })?;
    let enable = [["enable", "--now"].as_slice(), STARTED.as_slice()].concat();
    call(&enable)?;
    if restart {
        call(&["try-restart", RUNNER])?;
    }
    Ok(())
}

fn status(person: &Person, format: Format) -> Result<u8, CtlError> {
    let kept = Kept::read(person)?;
    if kept.is_empty() {
        return Err(no_runner());
    }
    // Somebody may have removed it; the units are shown all the same.
    let text = match person.runners().try_exists() {
        Ok(false) => String::new(),
        _ => files::text(&person.runners())?,
    };
    let names = runners::known(&text)
        .map_err(|why| CtlError::new(format!("{}: {why}", person.runners().display())))?;
    let names: Vec<String> = names.into_iter().map(|one| one.name).collect();
    let units: Vec<(&str, String)> =
        STARTED.iter().map(|unit| (*unit, manager::state(person, unit))).collect();
    let active = units.iter().any(|(unit, state)| *unit == RUNNER && state == "active");
    let other = other_host(person)?;
    let changed: Vec<&PathBuf> = kept
        .files
        .keys()
        .filter(|path| match kept.state(path) {
            Ok(Now::Ours) => false,
            // gitlab-runner writes it as well.
            Ok(Now::Changed) => **path != person.runners(),
            _ => true,
        })
        .collect();
    match format {
        Format::Text => {
            let mut out: String = names.iter().map(|name| format!("runner {}\n", Untrusted(name))).collect();
            if let Some((host, here)) = &other {
                out.push_str(&format!(
                    "your runner is on the host {}: its units do not start on this one ({here})\n",
                    Untrusted(host)
                ));
            }
            for (unit, state) in &units {
                out.push_str(&format!("{unit}: {state}\n"));
            }
            for path in changed {
                out.push_str(&format!("{}: changed or removed since setup\n", path.display()));
            }
            print(&out)?;
        }
        Format::Json => {
            let units: serde_json::Map<String, Value> =
                units.iter().map(|(unit, state)| ((*unit).to_owned(), json!(state))).collect();
            print_json(
                &json!({ "runners": names, "units": units, "changed_files": changed, "other_host": other.map(|(host, _)| host) }),
            )?;
        }
    }
    Ok(if active { OK } else { FAILURE })
}

/// Below `data_dir`, where the person's jobs keep their caches.
fn cache(person: &Person, policy: &Policy) -> Option<PathBuf> {
    Some(data_dir(&policy.directories.data_dir, &person.name, &person.home)?.join("cache"))
}

fn prune(person: &Person, quota: u64, dry_run: bool, format: Format) -> Result<u8, CtlError> {
    let file = person.policy();
    if !Kept::read(person)?.files.contains_key(&file) {
        return Err(no_runner());
    }
    let policy = files::read(&file, format)?.policy;
    let place = cache(person, &policy)
        .ok_or_else(|| CtlError::new(format!("{}: data_dir is no directory of yours", file.display())))?;
    // Who could exchange a directory on the way would have this account remove files elsewhere.
    nunbird_stage::ways::judge(&place, person.uid).map_err(|e| CtlError::new(e.to_string()))?;
    let pruned = caches::prune(&place, quota, SystemTime::now(), dry_run);
    let verb = if dry_run { "would be removed" } else { "removed" };
    match format {
        Format::Text => {
            let mut out = String::new();
            for path in &pruned.removed {
                out.push_str(&format!("{}: {verb}\n", Untrusted(&path.to_string_lossy())));
            }
            out.push_str(&format!(
                "{}: {} MiB, {} MiB before\n",
                place.display(),
                pruned.after >> 20,
                pruned.before >> 20
            ));
            print(&out)?;
        }
        Format::Json => print_json(
            &json!({ "cache": place, "before": pruned.before, "after": pruned.after, "removed": pruned.removed }),
        )?,
    }
    for why in &pruned.failed {
        eprintln!("nunbirdctl: {}", Untrusted(why));
    }
    let mut code = if pruned.failed.is_empty() { OK } else { FAILURE };
    if !policy.containers.is_empty() {
        let place = ImagePlace {
            configuration: crate::arguments::Configuration { configuration: file },
            container: None,
            store: None,
        };
        // With --format json a second value follows.
        let options = Images { action: ImagesAction::Prune { all: false, dry_run, place } };
        code = code.max(images::run(&options, format)?);
    }
    Ok(code)
}
