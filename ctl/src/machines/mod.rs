//! `nunbirdctl machines`: the trees that machines of `[container.NAME]` with the engine `nspawn` boot from.
//!
//! Runs as root, in directories that only root can change. What goes into a tree is strangers' bytes: mmdebstrap(1), tar(1) and umoci(1)
//! unpack it, and a tree is read without following its links.

mod build;
mod definition;
mod steps;
mod store;
mod tree;
mod words;

use crate::arguments::{Machines, MachinesAction};
use crate::output::{CtlError, FAILURE, Format, INVALID, OK, finding, print, print_json};
use build::{Built, From};
use definition::{Definition, KEEP, Source, Unusable, check_name};
use jiff::Timestamp;
use nunbird_handover::Untrusted;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::Command;
use store::{LIST, Machine, Removed, Store, order_of};

pub(crate) fn run(options: &Machines, format: Format) -> Result<u8, CtlError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(CtlError::new(
            "trees of machines are root's, with the owners of all their files; run this as root",
        ));
    }
    let root = &options.root;
    match &options.action {
        MachinesAction::Build { name, source } => build_one(root, name, source.as_deref(), format),
        MachinesAction::Update { names, all } => update(root, names, *all, format),
        MachinesAction::List => list(root, format),
        MachinesAction::Verify { name } => verify(root, name.as_deref(), format),
        MachinesAction::Login { name, write, command } => login(root, name, *write, command, format),
        MachinesAction::Gc => gc(root, format),
        MachinesAction::Remove { name, version } => remove(root, name, version.as_deref(), format),
    }
}

/// Progress: of a program's output, standard output has the result alone.
fn say(format: Format) -> impl Fn(&str) {
    move |line| match format {
        Format::Text => drop(print(&format!("{}\n", Untrusted(line)))),
        Format::Json => eprintln!("nunbirdctl: {}", Untrusted(line)),
    }
}

/// Prints why a definition cannot be used.
fn refuse(why: Unusable, store: &Store, name: &str, format: Format) -> Result<u8, CtlError> {
    match why {
        Unusable::Failure(error) => Err(error),
        Unusable::Absent => {
            let known = store.defined()?;
            let there = match known.is_empty() {
                true => "there are no definitions".to_owned(),
                false => format!("there are definitions of {}", known.join(", ")),
            };
            Err(CtlError::new(format!(
                "no definition {}; {there}; write one (docs/machines.md), or name a source by --source",
                store.definition(name).display()
            )))
        }
        Unusable::Invalid(findings) => {
            match format {
                Format::Json => {
                    let all: Vec<Value> = findings.iter().map(finding).collect();
                    print_json(&json!({ "valid": false, "findings": all }))?;
                }
                Format::Text => {
                    for finding in &findings {
                        eprintln!("{finding}\n");
                    }
                }
            }
            Ok(INVALID)
        }
    }
}

fn build_one(root: &Path, name: &str, source: Option<&str>, format: Format) -> Result<u8, CtlError> {
    check_name(name)?;
    let store = Store::make(root)?;
    let read = Definition::read(&store.definition(name));
    let definition = match (source, read) {
        (None, Ok(definition)) => definition,
        (Some(word), Err(Unusable::Absent)) => Definition::of_source(of_word(word)?),
        (Some(word), Ok(definition)) => Definition { source: of_word(word)?, ..definition },
        (_, Err(why)) => return refuse(why, &store, name, format),
    };
    let built = make(&store, name, &definition, format)?;
    built_text(name, &built, format)?;
    Ok(OK)
}

fn of_word(word: &str) -> Result<Source, CtlError> {
    Source::of_word(word).map_err(|help| CtlError::new(format!("--source `{word}`: {help}")))
}

fn make(store: &Store, name: &str, definition: &Definition, format: Format) -> Result<Built, CtlError> {
    let machine = store.machine(name);
    machine.make()?;
    let held = machine.hold()?;
    let built = build::build(&machine, &From::Definition(definition), &held, &say(format));
    if built.is_err() && machine.versions().is_ok_and(|versions| versions.is_empty()) {
        // Of a machine that never was.
        machine.unlink_current().and_then(|()| machine.remove_all(&held))?;
    }
    built
}

fn built_text(name: &str, built: &Built, format: Format) -> Result<(), CtlError> {
    match format {
        Format::Json => print_json(&json!({ "manifest": built.manifest, "remarks": built.remarks })),
        Format::Text => {
            for remark in &built.remarks {
                print(&format!("remark: {}\n", Untrusted(remark)))?;
            }
            print(&format!("{name} {} is current: {}\n", built.version, summary(&built.manifest)))
        }
    }
}

/// A manifest in one line.
fn summary(manifest: &Value) -> String {
    let text = |key: &str| manifest.get(key).and_then(Value::as_str).unwrap_or("unknown");
    let number = |key: &str| manifest.get(key).and_then(Value::as_u64);
    let packages = number("packages").map(|n| format!(", {n} packages")).unwrap_or_default();
    let size = number("size").map(|n| format!(", {}", words::size(n))).unwrap_or_default();
    format!("{}{packages}{size}", Untrusted(text("os")))
}

fn update(root: &Path, names: &[String], all: bool, format: Format) -> Result<u8, CtlError> {
    let store = Store::make(root)?;
    let names = if all { store.defined()? } else { names.to_vec() };
    let (mut code, mut items) = (OK, Vec::new());
    for name in &names {
        let read = check_name(name).map_err(Unusable::Failure);
        let definition = match read.and_then(|()| Definition::read(&store.definition(name))) {
            Ok(definition) => definition,
            Err(why) => {
                // The others are built all the same.
                code = code.max(refuse(why, &store, name, Format::Text).unwrap_or_else(CtlError::report));
                items.push(json!({ "name": name, "action": "failed" }));
                continue;
            }
        };
        let machine = store.machine(name);
        // An end is meant for all of them.
        let Some(reason) = build::reason(&machine, &definition)? else {
            items.push(json!({ "name": name, "action": "kept", "version": machine.current() }));
            if format == Format::Text {
                print(&format!("{name} is up to date\n"))?;
            }
            continue;
        };
        say(format)(&format!("{name}: {reason}"));
        match make(&store, name, &definition, format) {
            Ok(built) => {
                items.push(
                    json!({ "name": name, "action": "built", "version": built.version, "reason": reason }),
                );
                if format == Format::Text {
                    built_text(name, &built, format)?;
                }
            }
            // An end is meant for all of them.
            Err(CtlError::Failure(why)) if why == steps::INTERRUPTED => return Err(CtlError::Failure(why)),
            Err(error) => {
                code = code.max(error.report());
                items.push(json!({ "name": name, "action": "failed", "reason": reason }));
            }
        }
    }
    if format == Format::Json {
        print_json(&json!({ "machines": items }))?;
    }
    Ok(code)
}

fn list(root: &Path, format: Format) -> Result<u8, CtlError> {
    let machines = match Store::open(root)? {
        Some(store) => store.machines()?,
        None => Vec::new(),
    };
    let now = Timestamp::now().as_second();
    let (mut items, mut rows) = (Vec::new(), String::new());
    for machine in &machines {
        let current = machine.current();
        let mut versions = Vec::new();
        for version in machine.versions()? {
            let manifest = machine.manifest(&version).unwrap_or_default();
            let in_use = machine.is_in_use(&version)?;
            let is_current = current.as_ref() == Some(&version);
            let made =
                manifest.get("made").and_then(Value::as_str).and_then(|made| made.parse::<Timestamp>().ok());
            let age = made.and_then(|made| u64::try_from(now - made.as_second()).ok());
            let size = manifest.get("size").and_then(Value::as_u64);
            let os = manifest.get("os").and_then(Value::as_str).unwrap_or("its manifest cannot be read");
            rows.push_str(&format!(
                "{:<20} {version:<19} {:<8} {:<6} {:<9} {:<6} {}\n",
                machine.name,
                if is_current { "current" } else { "-" },
                if in_use { "in use" } else { "-" },
                size.map_or_else(|| "-".to_owned(), words::size),
                age.map_or_else(|| "-".to_owned(), words::age),
                Untrusted(os),
            ));
            versions.push(json!({
                "version": version, "current": is_current, "in_use": in_use, "age_seconds": age, "manifest": manifest,
            }));
        }
        items.push(json!({ "name": machine.name, "current": current, "versions": versions }));
    }
    match format {
        Format::Json => print_json(&json!({ "machines": items }))?,
        Format::Text if rows.is_empty() => print("there are no machines\n")?,
        Format::Text => {
            let head = "NAME                 VERSION             CURRENT  JOBS   SIZE      AGE    SYSTEM\n";
            print(&format!("{head}{rows}"))?;
        }
    }
    Ok(OK)
}

fn verify(root: &Path, name: Option<&str>, format: Format) -> Result<u8, CtlError> {
    let store = Store::open(root)?;
    let machines = match (&store, name) {
        (Some(store), Some(name)) => vec![store.existing(name)?],
        (Some(store), None) => store.machines()?,
        (None, Some(name)) => return Err(CtlError::new(format!("no machine `{name}`; there are none"))),
        (None, None) => Vec::new(),
    };
    let (mut items, mut code) = (Vec::new(), OK);
    for machine in &machines {
        for version in machine.versions()? {
            let difference = match compare(machine, &version) {
                Ok(difference) => difference,
                Err(CtlError::Failure(why)) => Some(why),
                Err(other) => return Err(other),
            };
            if difference.is_some() {
                code = FAILURE;
            }
            if format == Format::Text {
                let said = difference
                    .as_deref()
                    .map_or_else(|| "as it was built".to_owned(), |d| format!("differs: {d}"));
                print(&format!("{} {version}: {}\n", machine.name, Untrusted(&said)))?;
            }
            items.push(json!({ "name": machine.name, "version": version, "difference": difference }));
        }
    }
    if format == Format::Json {
        print_json(&json!({ "machines": items }))?;
    }
    Ok(code)
}

/// The first difference between a version and what was built.
fn compare(machine: &Machine, version: &str) -> Result<Option<String>, CtlError> {
    let path = machine.path.join(version);
    nunbird_files::trusted::open_trusted_directory(&path, &[0]).map_err(CtlError::new)?;
    let manifest = machine.manifest(version)?;
    let file = path.join(LIST);
    let opened = nunbird_files::trusted::open_trusted(&file, &[0]).map_err(CtlError::new)?;
    let mut list = String::new();
    let most = u64::try_from(tree::MAX_LIST).unwrap_or(u64::MAX);
    std::io::Read::read_to_string(&mut std::io::Read::take(opened, most), &mut list)
        .map_err(|e| CtlError::new(format!("{}: {e}", file.display())))?;
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, list.as_bytes());
    let sum = format!("sha256:{}", tree::hex(sum.as_ref()));
    if manifest.get("digest").and_then(Value::as_str) != Some(sum.as_str()) {
        return Ok(Some("its list is not that of its manifest".to_owned()));
    }
    let now = tree::contents(&tree::of(&path), &|| Ok(()))?;
    Ok(tree::difference(&list, &now))
}

fn login(root: &Path, name: &str, write: bool, command: &[OsString], format: Format) -> Result<u8, CtlError> {
    let store = Store::open(root)?.ok_or_else(|| CtlError::new("there are no machines"))?;
    let machine = store.existing(name)?;
    let current = machine
        .current()
        .ok_or_else(|| CtlError::new(format!("`{name}` has no current version; build it")))?;
    if steps::find("systemd-nspawn").is_none() {
        return Err(CtlError::new(
            "systemd-nspawn is not installed on this host; install the package systemd-container",
        ));
    }
    if write {
        let held = machine.hold()?;
        let kept = machine.share(&current)?;
        steps::inherit(&kept)?;
        steps::inherit(&held.0)?;
        let change = |tree: &Path| match shell(build::in_own_ids(tree), command)? {
            0 => Ok(()),
            code => {
                Err(CtlError::new(format!("the shell ended with exit status {code}, so nothing was changed")))
            }
        };
        let built = build::build(&machine, &From::Version(&current, &change), &held, &say(format))?;
        built_text(name, &built, format)?;
        return Ok(OK);
    }
    let kept = machine.share(&current)?;
    steps::inherit(&kept)?;
    let tree = tree::of(&machine.path.join(&current));
    shell(build::throw_away(tree), command)
}

/// A shell or command in a tree, with this program's terminal.
fn shell(mut words: Vec<OsString>, command: &[OsString]) -> Result<u8, CtlError> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        words.push("--pipe".into());
    }
    words.push("--".into());
    match command {
        [] => words.extend([
            "/bin/sh".into(),
            "-c".into(),
            "[ -x /bin/bash ] && exec /bin/bash -l; exec /bin/sh -l".into(),
        ]),
        command => words.extend_from_slice(command),
    }
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn.args(words).env_clear().envs(steps::environment());
    nspawn.envs(std::env::var_os("TERM").map(|term| ("TERM", term)));
    let status = nspawn.status().map_err(|e| CtlError::new(format!("systemd-nspawn: {e}")))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILURE))
}

/// What gc and removal print.
struct Outcome {
    path: String,
    action: &'static str,
    reason: String,
}

fn outcome(path: &Path, done: Result<Removed, CtlError>) -> Result<Outcome, CtlError> {
    let (action, reason) = match done {
        Ok(Removed::Gone) => ("removed", String::new()),
        Ok(Removed::InUse) => ("kept", "a job or a shell uses it".to_owned()),
        Err(CtlError::Failure(why)) => ("failed", why),
        Err(other) => return Err(other),
    };
    Ok(Outcome { path: path.display().to_string(), action, reason })
}

fn report(outcomes: &[Outcome], format: Format) -> Result<(), CtlError> {
    match format {
        Format::Json => {
            let item =
                |one: &Outcome| json!({ "path": one.path, "action": one.action, "reason": one.reason });
            print_json(&json!({ "items": outcomes.iter().map(item).collect::<Vec<Value>>() }))
        }
        Format::Text if outcomes.is_empty() => print("there is nothing to remove\n"),
        Format::Text => {
            let line = |one: &Outcome| {
                let why = if one.reason.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", Untrusted(&one.reason))
                };
                format!("{} {}{why}\n", one.action, Untrusted(&one.path))
            };
            print(&outcomes.iter().map(line).collect::<String>())
        }
    }
}

fn gc(root: &Path, format: Format) -> Result<u8, CtlError> {
    let machines = match Store::open(root)? {
        Some(store) => {
            store.machines()?.into_iter().map(|machine| (store.definition(&machine.name), machine)).collect()
        }
        None => Vec::new(),
    };
    let mut outcomes = Vec::new();
    for (file, machine) in &machines {
        let keep = match Definition::read(file) {
            Ok(definition) => definition.keep,
            Err(Unusable::Absent) => KEEP,
            Err(_) => {
                let reason = format!("{} cannot be read, so its `keep` is not known", file.display());
                outcomes.push(Outcome { path: machine.path.display().to_string(), action: "failed", reason });
                continue;
            }
        };
        let Some(held) = machine.try_hold()? else {
            let reason = "it is being built".to_owned();
            outcomes.push(Outcome { path: machine.path.display().to_string(), action: "kept", reason });
            continue;
        };
        match machine.clear(&held) {
            Ok(left) => {
                let reason = || "an interrupted command left it".to_owned();
                let removed = |path: &std::path::PathBuf| Outcome {
                    path: path.display().to_string(),
                    action: "removed",
                    reason: reason(),
                };
                outcomes.extend(left.iter().map(removed));
            }
            Err(error) => outcomes.push(outcome(&machine.path, Err(error))?),
        }
        let (versions, current) = (machine.versions()?, machine.current());
        let old = versions.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        for version in versions.iter().take(old).filter(|version| current.as_ref() != Some(*version)) {
            outcomes.push(outcome(&machine.path.join(version), machine.remove(version, &held))?);
        }
    }
    report(&outcomes, format)?;
    Ok(if outcomes.iter().any(|one| one.action == "failed") { FAILURE } else { OK })
}

fn remove(root: &Path, name: &str, version: Option<&str>, format: Format) -> Result<u8, CtlError> {
    let store = Store::open(root)?.ok_or_else(|| CtlError::new("there are no machines"))?;
    let machine = store.existing(name)?;
    let held = machine.hold()?;
    let all = machine.versions()?;
    let mut outcomes = Vec::new();
    let chosen = match version {
        None => {
            machine.unlink_current()?;
            machine.clear(&held)?;
            all
        }
        Some(version) => {
            if order_of(version).is_none() || !all.iter().any(|one| one == version) {
                return Err(CtlError::new(format!(
                    "`{name}` has no version {version}; it has {}",
                    all.join(", ")
                )));
            }
            if machine.current().as_deref() == Some(version) {
                return Err(CtlError::new(format!(
                    "{version} is the current version of `{name}`; build another first, or remove `{name}`"
                )));
            }
            vec![version.to_owned()]
        }
    };
    for version in &chosen {
        outcomes.push(outcome(&machine.path.join(version), machine.remove(version, &held))?);
    }
    let stays = outcomes.iter().any(|one| one.action != "removed");
    if version.is_none() && !stays {
        machine.remove_all(&held)?;
    }
    report(&outcomes, format)?;
    Ok(if stays { FAILURE } else { OK })
}
