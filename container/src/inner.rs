//! The inner script: what the image's `/bin/sh` reads in the container.
//!
//! It stands in the job's control directory and has no secret: the stage's script is its standard
//! input. The image's own environment stays, `PATH` and the loader's variables among it; the host's
//! has no meaning there.

use crate::binds::inside;
use crate::marks::fill;
use nunbird_handover::{Container, Handover};
use nunbird_stage::shell::{MARK, shell_command};
use nunbird_stage::words::{is_name, quoted};
use std::ffi::OsStr;
use std::fmt::Write;

const TEMPLATE: &str = include_str!("inner.sh");

/// The script for one stage.
pub fn text(handover: &Handover, container: &Container, stage: &str, nonce: &str) -> String {
    let directory = quoted(inside(container).as_os_str());
    // The whole script is in the shell's memory before it begins: nothing of it is left in a file,
    // and its commands read no standard input.
    let read = format!("printf s >{directory}/script; eval \"$(cat <&3)\" 3<&-");
    let parts = [
        ("@DIRECTORY@", directory),
        ("@NONCE@", nonce.to_owned()),
        ("@EXPORTS@", exports(handover, stage)),
        ("@WORK@", quoted(handover.workspace.builds_dir.as_os_str())),
        ("@UMASK@", format!("{:04o}", handover.umask.unwrap_or(0o022) & 0o777)),
        ("@LOGIN@", if handover.shell.login { "-l " } else { "" }.to_owned()),
        ("@COMMAND@", quoted(OsStr::new(&shell_command(stage, &read, handover.shell.login)))),
    ];
    fill(TEMPLATE, &parts)
}

/// Whether a variable of the site's has a meaning inside.
fn has_meaning(name: &str) -> bool {
    is_name(name.as_bytes()) && name != "PATH" && !name.starts_with("LD_")
}

fn exports(handover: &Handover, stage: &str) -> String {
    let account = &handover.account;
    let mut text = String::new();
    let mut export = |name: &str, value: &OsStr| {
        writeln!(text, "export {name}={}", quoted(value)).unwrap_or_default();
    };
    // What a session on this host has added leads to the host's own files and sockets.
    let site =
        handover.environment.iter().filter(|(name, _)| !handover.session_variables.contains(name.as_str()));
    for (name, value) in site.filter(|(name, _)| has_meaning(name)) {
        export(name, OsStr::new(value));
    }
    export("HOME", account.home.as_os_str());
    export("USER", OsStr::new(&account.name));
    export("LOGNAME", OsStr::new(&account.name));
    export("NUNBIRD_JOB_ID", OsStr::new(&handover.job_id.to_string()));
    export(MARK, OsStr::new(&handover.decision_id));
    export("NUNBIRD_STAGE", OsStr::new(stage));
    text
}
