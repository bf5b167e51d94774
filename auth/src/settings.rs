//! Reading the configuration, as root or as the user itself, from a file that nobody else can have written.

use crate::privilege::{Privilege, Source};
use crate::refusal::Refusal;
use aws_lc_rs::digest::{SHA256, digest};
use nunbird_policy::{DEFAULT_CONFIGURATION, Downscope, Policy};
use nunbird_sys::identity::FileIdentity;
use nunbird_sys::trusted::{Distrust, open_trusted};
use std::io::Read;
use std::path::Path;

/// Configurations beside the default one that runners may name.
const ALLOWED_CONFIGURATIONS: &str = "/etc/nunbird/configurations";
/// The largest configuration, in bytes.
const MAX_CONFIGURATION: u64 = 4 << 20;

/// The site's policy and the digest it is known by.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    /// SHA-256 of the file, in hexadecimal.
    pub(crate) digest: String,
}

/// Reads the configuration that the caller names, or the default one.
///
/// # Errors
/// A system refusal: for a file that is missing, not trusted, or not a policy.
pub(crate) fn read(named: Option<&Path>, privilege: Privilege) -> Result<Settings, Refusal> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONFIGURATION));
    let refuse = |code, detail: &dyn std::fmt::Display| {
        Refusal::system(code, "Nunbird's configuration on this host cannot be used", detail)
    };
    check_allowed(path, privilege).map_err(|detail| refuse("configuration-file", &detail))?;
    let text = read_text(path, privilege).map_err(|e| refuse("configuration-file", &e))?;
    let text = String::from_utf8(text)
        .map_err(|e| refuse("configuration-invalid", &format!("{}: {e}", path.display())))?;
    let policy = Policy::parse(path, &text).map_err(|findings| {
        let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
        refuse("configuration-invalid", &all.join("\n"))
    })?;
    if policy.downscope == Downscope::Setuid && privilege.source == Source::None {
        let detail = format!("{} demands a change of user, but {}", path.display(), privilege.explain_lack());
        return Err(refuse("privilege", &detail));
    }
    if policy.downscope == Downscope::None && privilege.source == Source::Root {
        let detail = format!(
            "{}: downscope = \"none\" would run jobs as root; run gitlab-runner as the user",
            path.display()
        );
        return Err(refuse("privilege", &detail));
    }
    let digest = hex(digest(&SHA256, text.as_bytes()).as_ref());
    Ok(Settings { policy, digest })
}

/// A runner that is not root names the default configuration, or one that root has listed, and no other file of root's:
/// a taken-over runner would look for a backup with an older policy, or have `/etc/shadow` quoted in a finding.
fn check_allowed(path: &Path, privilege: Privilege) -> Result<(), String> {
    let free = matches!(privilege.source, Source::Root | Source::None);
    if free || path == Path::new(DEFAULT_CONFIGURATION) {
        return Ok(());
    }
    let refused = |why: &dyn std::fmt::Display| {
        format!("{} is not listed in {ALLOWED_CONFIGURATIONS}, one path a line: {why}", path.display())
    };
    let list = read_text(Path::new(ALLOWED_CONFIGURATIONS), privilege).map_err(|e| refused(&e))?;
    let list = String::from_utf8(list).map_err(|e| refused(&e))?;
    if list.lines().any(|line| Path::new(line.trim()) == path) {
        Ok(())
    } else {
        Err(refused(&"it is not in there"))
    }
}

fn read_text(path: &Path, privilege: Privilege) -> Result<Vec<u8>, Distrust> {
    let keeper = privilege.keeper();
    let open_error = |e| Distrust::Open(path.into(), e);
    let identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(open_error)?;
    let file = open_trusted(path, &privilege.trusted_owners())?;
    drop(identity);
    let mut bytes = Vec::new();
    file.take(MAX_CONFIGURATION + 1).read_to_end(&mut bytes).map_err(open_error)?;
    let too_long = u64::try_from(bytes.len()).is_ok_and(|n| n > MAX_CONFIGURATION);
    if too_long { Err(Distrust::Size(path.into(), MAX_CONFIGURATION)) } else { Ok(bytes) }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
