//! `nunbirdctl user edit-config`: the file with the tokens in an editor, on memory and not on disk, checked before it is stored.

use super::kept::Kept;
use super::manager;
use super::person::Person;
use crate::finding::Finding;
use crate::output::{CtlError, Format, INVALID, OK, print};
use crate::{files, runner_config};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

pub(super) fn run(person: &Person, format: Format) -> Result<u8, CtlError> {
    let mut kept = Kept::read(person)?;
    let target = person.runners();
    if !kept.files.contains_key(&target) {
        return Err(CtlError::new("you have no runner here; `nunbirdctl user setup` makes one"));
    }
    let policy = files::read(&person.policy(), format)?.policy;
    let before = files::text(&target)?;
    // The runtime directory is on memory and nobody else's; without one, beside the file. Never /tmp.
    let runtime = person.runtime();
    let place = if runtime.is_dir() { runtime.as_path() } else { target.parent().unwrap_or(Path::new("/")) };
    let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", place.display()));
    // Its removal takes an editor's own copies with it.
    let directory = tempfile::Builder::new().prefix("nunbird-edit-").tempdir_in(place).map_err(failed)?;
    let copy = directory.path().join("runner.toml");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy).map_err(failed)?;
    file.write_all(before.as_bytes()).map_err(failed)?;
    drop(file);
    edit(&copy)?;
    let after = files::text(&copy)?;
    if after == before {
        print("nothing was changed\n")?;
        return Ok(OK);
    }
    let mut findings = Vec::new();
    runner_config::inspect_text(&policy, &target, &after, &mut findings);
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n\n")).collect();
    if findings.iter().any(Finding::is_error) {
        text.push_str("the edited text is not stored; the runners are as they were\n");
        print(&text)?;
        return Ok(INVALID);
    }
    // An editor may take a while: what gitlab-runner or another setup has written meanwhile is not overwritten.
    if files::text(&target)? != before {
        return Err(CtlError::new(format!(
            "{}: it has changed while you edited it, so nothing is stored; run this again",
            target.display()
        )));
    }
    kept.write(&target, &after, 0o600)?;
    kept.save(person)?;
    let state = manager::state(person, super::person::RUNNER);
    text.push_str(&format!("{}: stored; gitlab-runner ({state}) reads it by itself\n", target.display()));
    print(&text)?;
    Ok(OK)
}

/// `$VISUAL` or `$EDITOR`, which may have arguments, or vi(1).
fn edit(copy: &Path) -> Result<(), CtlError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| OsString::from("vi"));
    let mut line = editor.clone();
    line.push(" \"$1\"");
    let ended = Command::new("/bin/sh").arg("-c").arg(line).arg("sh").arg(copy).status();
    let shown = editor.to_string_lossy();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(CtlError::new(format!("the editor `{shown}` ended with {status}; nothing is stored")))
        }
        Err(e) => Err(CtlError::new(format!("the editor `{shown}`: {e}"))),
    }
}
