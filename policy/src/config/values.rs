//! Checks of single values that several tables share.

use super::document::{At, Spot};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An absolute path without detours.
pub(super) fn path(at: &At<'_, &str>) -> PathBuf {
    let text = at.value;
    if !text.starts_with('/') || text.contains('\0') || has_dots(text) {
        at.spot.find("expected an absolute path", "start with `/`, without `.` and `..`");
    }
    PathBuf::from(text)
}

pub(super) fn has_dots(path: &str) -> bool {
    path.split('/').any(|part| part == "." || part == "..")
}

/// A data directory with `$HOME` and `$USER` in it.
pub(super) fn data_dir(at: &At<'_, &str>) -> String {
    let text = at.value;
    let plain = text.replace("$HOME", "").replace("$USER", "");
    let absolute = text.starts_with('/') || text == "$HOME" || text.starts_with("$HOME/");
    let shared = !text.contains("$HOME") && !text.contains("$USER");
    // `$USERNAME` is not `$USER`, in no shell.
    let whole = ["$HOME", "$USER"].iter().all(|name| {
        text.split(name)
            .skip(1)
            .all(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    });
    if !absolute || !whole || plain.contains(['$', '"', '`', '\\', '\n', '\0']) || has_dots(text) {
        let help = "write an absolute path; `$HOME` and `$USER` are the account's";
        at.spot.find("invalid data directory", help);
    } else if shared {
        let help = "put `$USER` or `$HOME` into the path, so that each account has its own";
        at.spot.find("all accounts would share this directory", help);
    }
    text.to_owned()
}

/// Whether this is an absolute path, which may have `$HOME`, `$USER` and `$UID` of an account in it. If not, it is found.
pub(super) fn account_path(at: &At<'_, &str>) -> bool {
    let sound = crate::workplace::is_account_path(at.value);
    if !sound {
        let help =
            "write an absolute path without `.` and `..`; `$HOME`, `$USER` and `$UID` are the account's";
        at.spot.find("expected an absolute path", help);
    }
    sound
}

pub(super) fn is_variable(name: &str) -> bool {
    let shape = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && name.bytes().all(shape) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// The name of a CI variable; an empty text is none.
pub(super) fn variable_name(at: &At<'_, &str>) -> Option<String> {
    if !at.value.is_empty() && !is_variable(at.value) {
        at.spot.find("invalid name of a variable", "use letters, digits and `_`");
    }
    (!at.value.is_empty()).then(|| at.value.to_owned())
}

/// A variable that a job may be given by its site.
pub(super) fn check_variable(name: &At<'_, &str>, value: &At<'_, &str>) {
    let key = name.value;
    if !is_variable(key) {
        name.spot.find("invalid name of a variable", "use letters, digits and `_`");
    } else if ["HOME", "USER", "LOGNAME", "SHELL"].contains(&key) {
        name.spot.find("this variable comes from the account", "remove the line");
    } else if key.starts_with("LD_") || ["BASH_ENV", "ENV", "IFS", "SHELLOPTS", "PS4"].contains(&key) {
        name.spot
            .find("this variable changes how programs are loaded or scripts are read", "remove the line");
    }
    if value.value.contains('\0') {
        value.spot.find("a variable cannot hold a NUL character", "remove it");
    }
}

/// Names of rules, profiles, maps and tests appear in logs and messages.
pub(super) fn check_label(name: &At<'_, &str>, what: &str) {
    let text = name.value;
    if text.is_empty() || text.len() > 64 || text.chars().any(nunbird_handover::Untrusted::is_deceptive) {
        name.spot.find(format!("invalid name of a {what}"), "use 1 to 64 printable characters");
    }
}

/// A name that no table before it has.
pub(super) fn unique<'t>(name: &At<'t, &'t str>, names: &mut BTreeMap<&'t str, Spot<'t>>, what: &str) {
    check_label(name, what);
    if let Some(first) = names.insert(name.value, name.spot) {
        let message = format!("two {what}s have this name");
        name.spot.clash(Some(first), message, format!("give each {what} its own name"));
    }
}

/// 64 hexadecimal digits, in lower case.
pub(super) fn sha256(at: &At<'_, &str>) -> String {
    if at.value.len() != 64 || !at.value.bytes().all(|b| b.is_ascii_hexdigit()) {
        at.spot.find("invalid SHA-256 digest", "write the 64 digits that `sha256sum` prints");
    }
    at.value.to_ascii_lowercase()
}

/// Lines for the user's job log. An empty text is none.
pub(super) fn message(at: &At<'_, &str>) -> Option<String> {
    if at.value.len() > 4096 {
        at.spot.find("this message is too long for a job log", "write at most 4096 bytes");
    }
    let lines: Vec<String> =
        at.value.lines().map(|line| nunbird_handover::Untrusted(line).to_string()).collect();
    (!at.value.is_empty()).then(|| lines.join("\n"))
}

/// Names of gitlab-runner's stages; a name may end in `*`.
pub(super) fn stages(all: &[At<'_, &str>]) -> Vec<String> {
    for one in all {
        let name = one.value.strip_suffix('*').unwrap_or(one.value);
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if one.value.is_empty() || one.value.len() > 128 || !plain {
            let help = "write names such as `get_sources` and `step_script`; one may end in `*`";
            one.spot.find("invalid name of a stage", help);
        }
    }
    all.iter().map(|one| one.value.to_owned()).collect()
}
