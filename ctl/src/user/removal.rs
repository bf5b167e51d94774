//! `nunbirdctl user remove`: takes away what `setup` made.

use super::kept::{Kept, Now};
use super::person::{KEYS_TIMER, PRUNE_TIMER, Person, RUNNER};
use super::{STARTED, edit, manager, other_host, texts};
use crate::files;
use crate::output::{CtlError, Format, OK, print, print_json};
use nunbird_handover::Untrusted;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// When systemd ran the timers last, and the locks of job records where no record is left.
fn left_by_units(person: &Person) {
    for timer in [KEYS_TIMER, PRUNE_TIMER] {
        let stamps = person.home.join(".local/share/systemd/timers");
        let _may_be_absent = std::fs::remove_file(stamps.join(format!("stamp-{timer}")));
    }
    let jobs = person.state().join("jobs");
    let entries: Vec<PathBuf> =
        std::fs::read_dir(&jobs).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let is_lock =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".lock-"));
    if entries.iter().all(is_lock) {
        for path in entries {
            let _no_longer_needed = std::fs::remove_file(path);
        }
        let _may_be_absent = std::fs::remove_dir(&jobs);
    }
}

/// What our units have written into directories that `setup` has made: keys, by the names of their servers, and gitlab-runner's own id of
/// this host.
fn by_units(person: &Person, kept: &Kept) -> Vec<PathBuf> {
    // A link leads to a directory of somebody else's.
    let made = |path: &Path| {
        kept.directories.iter().any(|one| one == path)
            && path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
    };
    let mut all = Vec::new();
    if made(&person.keys()) {
        // The configuration may be gone, or in pieces.
        let policy = files::read(&person.policy(), Format::Text).ok().map(|reading| reading.policy);
        let servers = policy.iter().flat_map(|policy| &policy.gitlab).map(|server| server.name.to_string());
        let names: BTreeSet<String> = servers.chain([texts::SERVER.to_owned()]).collect();
        let kinds = ["json", "json.new", "attempt"];
        let files = names.iter().flat_map(|name| kinds.map(|kind| format!("{name}.{kind}")));
        all.extend(files.chain([".lock".to_owned()]).map(|file| person.keys().join(file)));
    }
    // A text with tokens that edit-config has not stored.
    all.push(edit::spared(person));
    if person.runners().parent().is_some_and(made) {
        all.push(person.runners().with_file_name(".runner_system_id"));
    }
    all.retain(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file()));
    all
}

/// Stops and disables each unit by itself: one that was never started, or has lost its file, does not keep the others and the tokens.
fn stop(person: &Person) -> Result<(), String> {
    for unit in STARTED {
        let has_file = person.unit(unit).symlink_metadata().is_ok();
        let words: &[&str] = if has_file { &["disable", "--now"] } else { &["stop"] };
        let stopped = manager::systemctl(person, &[words, &["--", unit]].concat());
        // Without a runtime directory there is no manager, and nothing of it runs.
        let runs = person.runtime().is_dir()
            && !matches!(manager::state(person, unit).as_str(), "inactive" | "failed" | "");
        if let (Err(why), true) = (&stopped, runs) {
            return Err(format!("{unit}: {why}"));
        }
        if stopped.is_err() {
            enabled_no_longer(person, unit);
        }
    }
    Ok(())
}

/// Removes the link by which systemd starts the unit, as `disable` does.
fn enabled_no_longer(person: &Person, unit: &str) {
    for target in ["default.target.wants", "timers.target.wants"] {
        let link = person.unit(target).join(unit);
        if link.is_symlink() {
            let _stays_without_effect = std::fs::remove_file(link);
        }
    }
}

pub(super) fn run(person: &Person, dry_run: bool, format: Format) -> Result<u8, CtlError> {
    let mut kept = Kept::read(person)?;
    if kept.is_empty() && kept.directories.is_empty() {
        print("there is nothing that `user setup` has made\n")?;
        return Ok(OK);
    }
    let other = other_host(person)?;
    let (mut gone, mut stay) = (Vec::new(), Vec::new());
    for path in kept.files.keys().cloned().collect::<Vec<PathBuf>>() {
        match kept.state(&path)? {
            Now::Ours => gone.push(path),
            // gitlab-runner writes the file with the tokens as well, so a changed one is still of this setup.
            Now::Changed if path == person.runners() => gone.push(path),
            Now::Changed => stay.push(path),
            Now::Absent | Now::Foreign => {}
        }
    }
    gone.extend(by_units(person, &kept));
    if !dry_run {
        stop(person).map_err(|why| CtlError::new(format!("{why}; nothing was removed")))?;
        for path in &gone {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(CtlError::new(format!("{}: {e}", path.display())));
                }
                _ => {}
            }
        }
        let _may_be_absent = std::fs::remove_file(person.manifest());
        left_by_units(person);
        kept.directories.reverse();
        for path in &kept.directories {
            let _stays_where_others_use_it = std::fs::remove_dir(path);
        }
        let _no_longer_known = manager::systemctl(person, &["daemon-reload"]);
    }
    match format {
        Format::Text => {
            let verb = if dry_run { "would be removed" } else { "removed" };
            let mut out: String = gone.iter().map(|path| format!("{}: {verb}\n", path.display())).collect();
            for path in &stay {
                out.push_str(&format!("{}: stays, as you have changed it\n", path.display()));
            }
            if let Some((host, _)) = &other {
                out.push_str(&format!(
                    "The host {0} has the same home directory, and its runner goes on until it ends: there, systemctl --user stop {RUNNER}\n",
                    Untrusted(host)
                ));
            }
            out.push_str("Files of jobs and the audit file stay. Delete the runner in GitLab as well.\n");
            print(&out)?;
        }
        Format::Json => print_json(&json!({ "removed": gone, "kept": stay, "dry_run": dry_run }))?,
    }
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::by_units;
    use crate::user::kept::Kept;
    use crate::user::person::Person;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn remove_names_only_what_units_write_into_directories_that_setup_made() {
        let scratch = tempfile::tempdir().expect("a directory");
        let person = Person { name: "ada".to_owned(), uid: 1000, home: scratch.path().to_path_buf() };
        let mut kept = Kept::default();
        kept.make_directory(&person.keys()).expect("made");
        kept.make_directory(&scratch.path().join(".config/nunbird")).expect("made");
        for name in ["server.json", "server.attempt", ".lock", "other.json", "notes"] {
            fs::write(person.keys().join(name), "x").expect("a file");
        }
        let id = person.runners().with_file_name(".runner_system_id");
        fs::write(&id, "x").expect("a file");
        let key = |name: &str| person.keys().join(name);
        assert_eq!(by_units(&person, &kept), [key("server.json"), key("server.attempt"), key(".lock"), id]);
        // Directories of the person's own, and a link in the place of ours.
        assert!(by_units(&person, &Kept::default()).is_empty());
        fs::rename(person.keys(), scratch.path().join("mine")).expect("moved");
        symlink(scratch.path().join("mine"), person.keys()).expect("a link");
        assert_eq!(by_units(&person, &kept).len(), 1);
    }
}
