//! The files that the runner names, opened as the runner, and the one directory that is made for the user.

use crate::context::Context;
use crate::refusal::{Code, Refusal};
use nunbird_files::foreign;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_files::provision;
use nunbird_messages::Record;
use nunbird_sys::exec;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::Path;

/// The largest script, in bytes. It lies in memory while the stage starts.
const MAX_SCRIPT: u64 = 256 << 20;
/// The largest job response, in bytes.
const MAX_RESPONSE: u64 = 16 << 20;

/// Files of a stage, open.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) script: Option<File>,
    pub(crate) exit_code: Option<File>,
}

/// The job response. What is in it is the verifier's to read.
///
/// # Errors
/// A system refusal when there is none that the runner could read.
pub(crate) fn job_response(context: &Context<'_>) -> Result<File, Refusal> {
    let refuse = |detail: String| {
        Refusal::system(Code::ResponseFile, "the runner's job response could not be read", detail)
            .help("gitlab-runner 14.1 or later writes it; see the admin guide")
    };
    let path = context.inputs.response.as_deref();
    let path = path.ok_or_else(|| refuse("JOB_RESPONSE_FILE is not set".to_owned()))?;
    let shown = path.display();
    let file = foreign::open_for_reading(path, context.privilege.caller)
        .map_err(|e| refuse(format!("{shown}: not a readable regular file of the runner's account: {e}")))?;
    let size = file.metadata().map_err(|e| refuse(format!("{shown}: {e}")))?.len();
    if size > MAX_RESPONSE {
        return Err(refuse(format!("{shown}: larger than {MAX_RESPONSE} bytes")));
    }
    Ok(file)
}

/// The script in a sealed memory file.
///
/// The runner's file could have other bytes in it by the time that the launcher reads it.
///
/// # Errors
/// A system refusal when the runner could not read it.
pub(crate) fn take_script(path: &Path, context: &Context<'_>) -> Result<File, Refusal> {
    let copy = foreign::open_for_reading(path, context.privilege.caller)
        .and_then(|file| exec::sealed_copy(c"nunbird-stage", &file, MAX_SCRIPT));
    copy.map_err(|e| {
        let detail = format!(
            "{}: not a readable regular file of the runner's account of at most {MAX_SCRIPT} bytes: {e}",
            path.display()
        );
        Refusal::system(Code::Script, "the stage's script could not be read", detail)
    })
}

/// The runner's exit-code file, filled with the code of a refusal.
///
/// # Errors
/// A system refusal when the runner could not write it.
pub(crate) fn exit_code_file(context: &Context<'_>) -> Result<Option<File>, Refusal> {
    let Some(path) = context.inputs.exit_code_file.as_deref() else { return Ok(None) };
    let opened = foreign::open_with_content(path, context.privilege.caller, b"1\n");
    opened.map(Some).map_err(|e| {
        let detail = format!("BUILD_EXIT_CODE_FILE {}: {e}", path.display());
        Refusal::system(Code::ExitCodeFile, "the runner's exit-code file could not be written", detail)
    })
}

/// Where the configuration asks for it, the account's own directory in one of root's.
///
/// # Errors
/// A system refusal when it cannot be made.
pub(crate) fn make_own_directory(context: &Context<'_>, record: &Record) -> Result<(), Refusal> {
    let wanted = record.own_directory.as_deref().filter(|_| context.privilege.source.is_privileged());
    let Some(path) = wanted else { return Ok(()) };
    let refuse = |e: io::Error| {
        let message = "the directory for your jobs could not be made on this host";
        Refusal::system(Code::DataDir, message, format!("{}: {e}", path.display()))
    };
    let owner = Caller { uid: record.account.uid, gid: record.account.gid };
    let made = acting_as(context.privilege.keeper(), || provision::make_for(path, owner));
    made.flatten().map(drop).map_err(refuse)
}

pub(crate) fn could_not_start(step: &str, error: &dyn Display) -> Refusal {
    let message = "the job's launcher could not be started on this host";
    Refusal::system(Code::Launcher, message, format!("{step}: {error}"))
}
