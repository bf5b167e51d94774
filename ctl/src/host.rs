//! What the configuration needs of this host, looked at from outside.

use nunbird_policy::{Downscope, Policy};
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// One finding.
pub(crate) enum Finding {
    /// Jobs will fail.
    Error(String),
    /// Worth a look.
    Remark(String),
}

impl Finding {
    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Finding::Error(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Error(text) => write!(f, "error: {text}"),
            Finding::Remark(text) => write!(f, "remark: {text}"),
        }
    }
}

/// Keys older than this were missed by the timer several times.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Looks at the programs, the keys and the directories.
pub(crate) fn look(policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    configuration(&policy.file, &mut findings);
    programs(policy, &mut findings);
    for server in &policy.gitlab {
        keys(&policy.keys_dir.join(format!("{}.json", server.name)), &mut findings);
    }
    if policy.downscope == Downscope::Setuid {
        private(Path::new("/var/lib/nunbird/jobs"), &mut findings);
    }
    if let Some(parent) = policy.audit.file.as_deref().and_then(Path::parent) {
        match parent.metadata() {
            Ok(meta) if meta.is_dir() => {}
            _ => findings.push(Finding::Error(format!(
                "{}: no such directory, so no decision can be written and no job runs; make it, owned by root",
                parent.display()
            ))),
        }
    }
    findings
}

fn configuration(file: &Path, findings: &mut Vec<Finding>) {
    let Ok(meta) = file.symlink_metadata() else { return };
    let shown = file.display();
    if meta.is_symlink() {
        findings.push(Finding::Error(format!("{shown}: is a symbolic link, which nunbird-auth refuses")));
    }
    if meta.uid() != 0 {
        findings.push(Finding::Error(format!("{shown}: owned by uid {}; make it root's", meta.uid())));
    }
    if meta.mode() & 0o022 != 0 {
        findings.push(Finding::Error(format!("{shown}: writable by others; chmod go-w")));
    }
}

fn programs(policy: &Policy, findings: &mut Vec<Finding>) {
    let launcher = &policy.job.launcher;
    let auth: PathBuf = launcher.with_file_name("nunbird-auth");
    let keys = launcher.with_file_name("nunbird-keys");
    for program in [launcher, &auth, &keys] {
        match program.metadata() {
            Err(e) => findings.push(Finding::Error(format!("{}: {e}", program.display()))),
            Ok(meta) if meta.uid() != 0 || meta.mode() & 0o022 != 0 => {
                let (shown, uid, mode) = (program.display(), meta.uid(), meta.mode() & 0o7777);
                findings.push(Finding::Error(format!(
                    "{shown}: owned by uid {uid}, mode {mode:04o}; it must be root's and writable by nobody else"
                )));
            }
            Ok(_) => {}
        }
    }
    if let Ok(meta) = auth.metadata()
        && meta.mode() & 0o001 != 0
        && meta.mode() & 0o4000 != 0
    {
        findings.push(Finding::Error(format!(
            "{}: setuid-root and executable by everybody; chown root:<the runner's group> and chmod 4750",
            auth.display()
        )));
    }
}

fn keys(file: &Path, findings: &mut Vec<Finding>) {
    let shown = file.display();
    match file.metadata().and_then(|meta| meta.modified()) {
        Err(e) => findings.push(Finding::Error(format!("{shown}: {e}; run `nunbird-keys refresh`"))),
        Ok(modified) => {
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            if age > STALE {
                let hours = age.as_secs() / 3600;
                findings.push(Finding::Remark(format!(
                    "{shown}: fetched {hours} hours ago; is nunbird-keys.timer running? pinned keys may be older"
                )));
            }
        }
    }
}

fn private(directory: &Path, findings: &mut Vec<Finding>) {
    let shown = directory.display();
    match directory.metadata() {
        Err(e) => findings.push(Finding::Error(format!("{shown}: {e}; make it, root's, mode 0700"))),
        Ok(meta) if meta.uid() != 0 || meta.mode() & 0o077 != 0 => findings.push(Finding::Error(format!(
            "{shown}: owned by uid {}, mode {:04o}; it must be root's, mode 0700",
            meta.uid(),
            meta.mode() & 0o7777
        ))),
        Ok(_) => {}
    }
}
