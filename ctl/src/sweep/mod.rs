//! What a crashed gitlab-runner left behind: records of ended jobs with everything that those jobs
//! left, cgroups without a record, and its own temporary files.
//!
//! Run by root, from a timer, or by the account that runs gitlab-runner, which can see less. It
//! changes the host: files of the runner are removed under the runner's own filesystem ids, and
//! what a job left is removed by `nunbird-auth reap`, as the job's user. Nothing is removed by its
//! path, no symbolic link is followed.

mod builds;
mod claims;
mod groups;
mod leftovers;
pub(crate) mod records;
mod tree;
mod use_of;

use crate::arguments::Sweep;
use crate::output::{Colour, CtlError, FAILURE, Format, OK, paint, print, print_json};
use crate::patient;
use nunbird_handover::Untrusted;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The result for one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Removed,
    /// With `--dry-run`.
    WouldRemove,
    Kept,
    Failed,
}

/// One inspected item.
#[derive(Debug)]
pub(crate) struct Item {
    /// `record`, `slot`, `control-group`, `job-directory`, `trace` or `build-directories`.
    pub(crate) kind: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) action: Action,
    pub(crate) reason: String,
    /// What a program printed.
    pub(crate) said: Vec<String>,
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Action::Removed => "removed",
            Action::WouldRemove => "would remove",
            Action::Kept => "kept",
            Action::Failed => "failed",
        }
    }

    fn colour(&self) -> Colour {
        match self {
            Action::Removed | Action::WouldRemove => Colour::Green,
            Action::Kept => Colour::Yellow,
            Action::Failed => Colour::Red,
        }
    }
}

/// The time limit for inspecting and removing the runner's temporary files.
const LEFTOVERS: Duration = Duration::from_secs(300);

pub(crate) fn run(options: &Sweep, format: Format) -> Result<u8, CtlError> {
    let (now, runner) = (records::now()?, leftovers::runner(options)?);
    let records = records::read(&now)?;
    let directories = use_of::Directories::of(&records);
    let runners = leftovers::runners(runner.as_ref(), &records)?;
    // First what can be cleaned up without inspecting other accounts' processes and file systems.
    let records::Progress { mut items, put_off, .. } = records::sweep_all(records, options.dry_run);
    // After the records: what a record leaves behind has no owner then.
    items.extend(claims::sweep(&now, options.dry_run));
    items.extend(groups::sweep(runner.as_ref(), options.dry_run));
    let built = builds::sweep(options, format);
    let last: Vec<Item> = put_off.into_iter().map(|record| records::sweep(record, options.dry_run)).collect();
    let live = use_of::InUse::of(directories, &runners.iter().map(|runner| runner.uid).collect::<Vec<u32>>());
    // In a child: the runner's account may have mounted a file system over one of its own
    // directories.
    let left = patient::once(LEFTOVERS, || passed(leftovers::sweep(options, &runners, &live, now.epoch)));
    let left = received(left.map_err(CtlError::new)?, options)?;
    items.extend(left.into_iter().chain(built?).chain(last));
    let failed = items.iter().filter(|item| item.action == Action::Failed).count();
    match format {
        Format::Text => print(&text(&items))?,
        Format::Json => {
            let items: Vec<Value> = items.iter().map(machine).collect();
            print_json(&json!({ "dry_run": options.dry_run, "items": items, "failed": failed }))?;
        }
    }
    Ok(if failed == 0 { OK } else { FAILURE })
}

/// The child's report.
fn passed(left: Result<Vec<Item>, CtlError>) -> Vec<u8> {
    let said = match left {
        Ok(items) => json!({ "items": items.iter().map(machine).collect::<Vec<Value>>() }),
        Err(CtlError::Failure(text)) => json!({ "trouble": text }),
        Err(CtlError::Invalid(..)) => json!({ "trouble": "the configuration is not valid" }),
    };
    said.to_string().into_bytes()
}

/// The result for the runner's temporary files.
fn received(said: Option<Vec<u8>>, options: &Sweep) -> Result<Vec<Item>, CtlError> {
    let Some(said) = said else {
        let path = options.tmpdir.first().cloned().unwrap_or_default();
        let reason = format!("its temporary files were not gone after {} seconds", LEFTOVERS.as_secs());
        return Ok(vec![Item {
            kind: "job-directory",
            path,
            action: Action::Failed,
            reason,
            said: Vec::new(),
        }]);
    };
    let said: Value = serde_json::from_slice(&said).map_err(CtlError::new)?;
    if let Some(trouble) = said.get("trouble").and_then(Value::as_str) {
        return Err(CtlError::new(trouble));
    }
    let items = said.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let known = [Action::Removed, Action::WouldRemove, Action::Kept];
    let item = |item: &Value| Item {
        kind: if text(item, "kind") == "trace" { "trace" } else { "job-directory" },
        path: text(item, "path").into(),
        action: known.iter().find(|a| a.name() == text(item, "action")).cloned().unwrap_or(Action::Failed),
        reason: text(item, "reason"),
        said: Vec::new(),
    };
    Ok(items.iter().map(item).collect())
}

/// Calls the `nunbird-auth` beside this program with an empty environment; returns whether it
/// succeeded, and its output.
pub(crate) fn auth(words: &[&OsStr]) -> (bool, Vec<String>) {
    let auth = std::env::current_exe().map(|own| own.with_file_name("nunbird-auth"));
    let output = auth.and_then(|auth| {
        Command::new(auth).args(words).env_clear().current_dir("/").stdin(Stdio::null()).output()
    });
    match output {
        Err(e) => (false, vec![format!("nunbird-auth: {e}")]),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            (
                output.status.success(),
                said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
            )
        }
    }
}

fn text(items: &[Item]) -> String {
    let mut text = String::new();
    for item in items {
        let path = item.path.to_string_lossy();
        let word = paint(item.action.colour(), item.action.name());
        text.push_str(&format!("{word} {} ({})\n", Untrusted(&path), Untrusted(&item.reason)));
        for line in &item.said {
            text.push_str(&format!("  {}\n", Untrusted(line)));
        }
    }
    let count = |wanted: &Action| items.iter().filter(|item| item.action == *wanted).count();
    let (gone, word) = match count(&Action::WouldRemove) {
        0 => (count(&Action::Removed), "removed"),
        n => (n, "would be removed"),
    };
    text.push_str(&format!(
        "{gone} {word}, {} kept, {} failed\n",
        count(&Action::Kept),
        count(&Action::Failed)
    ));
    text
}

fn machine(item: &Item) -> Value {
    json!({
        "kind": item.kind,
        "path": item.path.to_string_lossy(),
        "action": item.action.name(),
        "reason": item.reason,
        "said": item.said,
    })
}
