//! `/etc/nologin`: while it exists, a site that says so admits no job, as pam_nologin(8) admits no login.

use crate::refusal::{Code, Refusal};
use crate::rights::Rights;
use nunbird_files::identity::FileIdentity;
use nunbird_files::trusted::{Distrust, open_trusted};
use nunbird_handover::Untrusted;
use std::io::Read;
use std::path::Path;

/// pam_nologin(8) looks at the first two; systemd-user-sessions(8) writes the second while the host boots or goes down.
const FILES: [&str; 2] = ["/etc/nologin", "/run/nologin"];
/// The most of its text that the user sees, in bytes.
const MAX_TEXT: u64 = 2048;

/// Refuses the job while one of the files exists, with its text for the user.
///
/// # Errors
/// A system refusal: the runner may try again, and so may the user.
pub fn check(rights: Rights) -> Result<(), Refusal> {
    FILES.iter().try_for_each(|file| check_one(Path::new(file), rights))
}

fn check_one(file: &Path, rights: Rights) -> Result<(), Refusal> {
    let refuse = |text: &str, detail: &dyn std::fmt::Display| {
        let message = match text {
            "" => "no jobs run on this host at present".to_owned(),
            text => format!("no jobs run on this host at present: {text}"),
        };
        Refusal::system(Code::Nologin, message, detail)
            .help("try again when your site says that the host is back")
    };
    // What stands in the way of looking is not the file's absence.
    match file.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(refuse("", &format!("{}: {e}", file.display()))),
        Ok(_) => {}
    }
    let text = read(file, rights).unwrap_or_default();
    let words: Vec<String> = text.split_whitespace().map(|word| Untrusted(word).to_string()).collect();
    Err(refuse(&words.join(" "), &format!("{} exists", file.display())))
}

/// The text, where the file is root's own; the file counts whatever it holds.
fn read(file: &Path, rights: Rights) -> Result<String, Distrust> {
    let keeper = rights.keeper;
    let failed = |e| Distrust::Open(file.into(), e);
    let _identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(failed)?;
    let mut bytes = Vec::new();
    open_trusted(file, &rights.trusted_owners())?.take(MAX_TEXT).read_to_end(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
