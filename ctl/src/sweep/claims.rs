//! Slot claims of admissions that were killed before they wrote their record, and those of earlier
//! boots.
//!
//! Such a claim is removed under the lock of its runner account, as in `config`: meanwhile no
//! process of that account can make another of the same name. A runner that stops its `config` only
//! keeps its own claims.

use super::records::{self, LONGEST_JOB};
use super::{Action, Item};
use nix::unistd::geteuid;
use nunbird_files::directory::Directory;
use nunbird_messages::{Claim, Now, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long calls of one runner account may hold its lock.
const LOCK: Duration = Duration::from_secs(1);

/// Removes invalid claims.
pub(super) fn sweep(now: &Now, dry_run: bool) -> Vec<Item> {
    let Ok(Some((path, directory))) = records::own() else { return Vec::new() };
    let item = |name: &str, action, reason: String| Item {
        kind: "slot",
        path: path.join(name),
        action,
        reason,
        said: Vec::new(),
    };
    let swept = void(&directory, &path, now).map(|void| {
        let mut items = Vec::new();
        for (runner, names) in void {
            let lock = directory.lock(&Record::lock(runner), LOCK);
            for name in names {
                let done = match &lock {
                    Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", Record::lock(runner)))),
                    Ok(_) if dry_run => Ok(Action::WouldRemove),
                    Ok(_) => remove(&directory, &path, now, &name),
                };
                let why = "no record has it";
                items.push(match done {
                    Ok(action) => item(&name, action, why.to_owned()),
                    Err(e) => item(&name, Action::Kept, format!("{why}: {e}")),
                });
            }
        }
        items
    });
    swept.unwrap_or_else(|e| vec![item("", Action::Failed, format!("slot claims were not inspected: {e}"))])
}

/// By the runner account whose lock their removal needs.
fn void(directory: &Directory, path: &Path, now: &Now) -> io::Result<BTreeMap<u32, Vec<String>>> {
    let names = directory.names()?;
    let mut void: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut claims = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(Claim::SUFFIX)) {
        // What cannot be parsed comes from another version: it may belong to a running job.
        let Ok(claim) = read(directory, name) else { continue };
        if directory.try_lock(name).is_ok_and(|held| held.is_some()) && is_judged_here(name, path, now) {
            claims.push((name.clone(), claim));
        }
    }
    // After taking the locks: an admission writes its record before it releases its claim.
    let decisions = decisions(directory)?;
    for (name, claim) in claims {
        if !decisions.contains(&claim.decision_id) {
            void.entry(claim.runner_uid).or_default().push(name);
        }
    }
    Ok(void)
}

/// Several hosts may share a home directory: there, a name with another boot id may belong to a
/// running job.
fn is_judged_here(name: &str, path: &Path, now: &Now) -> bool {
    let old = || records::age(&path.join(name), now).is_some_and(|age| age > LONGEST_JOB);
    geteuid().is_root() || name.starts_with(&now.boot_id) || old()
}

fn remove(directory: &Directory, path: &Path, now: &Now, name: &str) -> io::Result<Action> {
    let still = void(directory, path, now)?.values().flatten().any(|void| void == name);
    if !still {
        return Ok(Action::Kept);
    }
    directory.remove(name).map(|()| Action::Removed)
}

fn read(directory: &Directory, name: &str) -> io::Result<Claim> {
    let (bytes, ..) = directory.read(name, Claim::MOST)?;
    Claim::parse(&bytes).map_err(io::Error::other)
}

/// From every record that can be parsed.
fn decisions(directory: &Directory) -> io::Result<BTreeSet<String>> {
    let names = directory.names()?;
    let read = |name: &String| directory.read(name, Record::MOST).ok();
    let records = names.iter().filter(|name| name.ends_with(Record::SUFFIX)).filter_map(read);
    Ok(records.filter_map(|(bytes, ..)| Record::parse(&bytes).ok()).map(|r| r.decision_id).collect())
}
