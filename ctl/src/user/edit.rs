//! `nunbirdctl user edit-config`: the file with the tokens in an editor, on memory and not on disk, checked before it is stored.

use super::kept::Kept;
use super::manager;
use super::person::Person;
use crate::finding::Finding;
use crate::output::{CtlError, Format, INVALID, OK, print};
use crate::{files, replace, runner_config};
use nix::sys::signal::{SigSet, Signal};
use nunbird_policy::Policy;
use std::ffi::OsString;
use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of directories with a copy; the process follows.
const PREFIX: &str = "nunbird-edit-";

pub(super) fn run(person: &Person, format: Format) -> Result<u8, CtlError> {
    let kept = Kept::read(person)?;
    let target = person.runners();
    if !kept.files.contains_key(&target) {
        return Err(super::no_runner());
    }
    let policy = files::read(&person.policy(), format)?.policy;
    let before = files::text(&target)?;
    left_behind(&person.runtime());
    // The runtime directory is in memory, and only its owner can enter it; without one, beside the file. Never /tmp.
    let runtime = person.runtime();
    let place = if runtime.is_dir() { runtime.as_path() } else { target.parent().unwrap_or(Path::new("/")) };
    let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", place.display()));
    // Its removal takes an editor's own copies with it.
    let directory = tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(place)
        .map_err(failed)?;
    let copy = directory.path().join("runner.toml");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy).map_err(failed)?;
    file.write_all(before.as_bytes()).map_err(failed)?;
    drop(file);
    if let Err(why) = edit(&copy) {
        let spared =
            files::text(&copy).map_or_else(|_| String::new(), |after| spare(person, &before, &after));
        return Err(CtlError::new(format!("{why}{spared}")));
    }
    let after = files::text(&copy)?;
    if after == before {
        print("nothing was changed\n")?;
        return Ok(OK);
    }
    let findings = judged(&policy, &target, &after);
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n\n")).collect();
    if findings.iter().any(Finding::is_error) {
        let spared = spare(person, &before, &after);
        text.push_str(&format!("the edited text is not stored; the runners are as they were{spared}\n"));
        print(&text)?;
        return Ok(INVALID);
    }
    // An editor may take a while: what gitlab-runner or another setup has written meanwhile is not overwritten.
    if files::text(&target)? != before {
        return Err(CtlError::new(format!(
            "{}: it has changed while you edited it, so nothing is stored; run this again{}",
            target.display(),
            spare(person, &before, &after)
        )));
    }
    // Another setup may have written units since.
    let mut kept = Kept::read(person)?;
    kept.write(&target, &after, 0o600)?;
    kept.save(person)?;
    let _may_be_absent = std::fs::remove_file(spared(person));
    let state = manager::state(person, super::person::RUNNER);
    text.push_str(&format!("{}: stored; gitlab-runner ({state}) reads it by itself\n", target.display()));
    print(&text)?;
    Ok(OK)
}

/// As `runner-config --check` judges it. A text that calls Nunbird nowhere would leave the person without a runner.
fn judged(policy: &Policy, target: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    runner_config::inspect_text(policy, target, text, &mut findings);
    let error = |one: Finding| if one.code() == "no-runner" { one.into_error() } else { one };
    findings.into_iter().map(error).collect()
}

/// Where a text that was not stored lies.
pub(super) fn spared(person: &Person) -> PathBuf {
    person.runtime().join("nunbird-edited.toml")
}

/// Keeps an edited text that is not stored, on memory alone, and says where.
fn spare(person: &Person, before: &str, after: &str) -> String {
    let file = spared(person);
    if before == after || !person.runtime().is_dir() {
        return String::new();
    }
    match replace::put(&file, after.as_bytes(), 0o600) {
        Ok(()) => {
            format!(
                "; your text is in {} until a text is stored or you log out: read it into the editor there",
                file.display()
            )
        }
        Err(e) => format!("; {}: {e}", file.display()),
    }
}

/// Removes copies whose process was killed.
fn left_behind(place: &Path) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        let ended = process.is_some_and(|(process, _)| !Path::new("/proc").join(process).exists());
        if ended && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _tried_again_next_time = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// `$VISUAL` or `$EDITOR`, which may have arguments, or vi(1).
fn edit(copy: &Path) -> Result<(), String> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| OsString::from("vi"));
    let mut line = editor.clone();
    line.push(" \"$1\"");
    let ended =
        Command::new("/bin/sh").arg("-c").arg(line).arg("sh").arg(copy).spawn().and_then(|mut editor| {
            // The terminal's keys and its end are for the editor, which has started without this mask. Held back until this process ends,
            // they leave no copy of the tokens behind.
            let held: SigSet = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP].into_iter().collect();
            held.thread_block()?;
            editor.wait()
        });
    let shown = editor.to_string_lossy();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the editor `{shown}` ended with {status}; nothing is stored")),
        Err(e) => Err(format!("the editor `{shown}`: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{PREFIX, judged, left_behind};
    use crate::finding::Finding;
    use nunbird_policy::{Policy, SourceFile};
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_text_without_runners_is_an_error() {
        let text = "[[gitlab]]\nname = \"a\"\nurl = \"https://a.example.org\"\naudience = \"x\"\n[[rule]]\nname = \"me\"\nrun_as = \"ada\"\n".to_owned();
        let source = SourceFile { path: "/home/ada/config.toml".into(), text };
        let policy = Policy::read(&[source]).unwrap_or_else(|found| panic!("{found:?}")).policy;
        for text in ["", "concurrent = 2\n", "[[runners]]\nname = \"a\"\nexecutor = \"shell\"\n"] {
            let findings = judged(&policy, Path::new("/nowhere/runner.toml"), text);
            assert!(findings.iter().any(Finding::is_error), "{text}: {findings:?}");
        }
    }

    #[test]
    fn copies_of_an_editor_that_was_killed_go() {
        let place = tempfile::tempdir().expect("a directory");
        let (old, own) = (format!("{PREFIX}0-x"), format!("{PREFIX}{}-x", std::process::id()));
        for name in [old.as_str(), &own, "nunbird-other"] {
            fs::create_dir(place.path().join(name)).expect("a directory");
            fs::write(place.path().join(name).join("runner.toml"), "x").expect("a file");
        }
        left_behind(place.path());
        assert!(!place.path().join(old).exists());
        assert!(place.path().join(own).exists() && place.path().join("nunbird-other").exists());
    }
}
