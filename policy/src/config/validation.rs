//! `[validation]`: the site's own program.

use super::keys::{Form, Key, Table, form};
use super::reader::Section;
use super::values;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The site's own program that decides on the account of a job, as Jacamar's RunAs script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// The program: owned by root and writable only by root.
    pub script: PathBuf,
    /// SHA-256 of its content in lower-case hexadecimal, checked before each run.
    pub sha256: Option<String>,
    /// The CI variable in which a user may name the account that the job should get.
    pub user_variable: Option<String>,
    /// Environment of the program beside the claims.
    pub environment: BTreeMap<String, String>,
    /// Seconds that it may take.
    pub timeout: u64,
    /// The account that it runs as; `root` where the site says so.
    pub user: String,
    /// Whether the rules must admit the GitLab login, too, before the program is asked.
    pub rules_first: bool,
}

/// `[validation]`.
#[rustfmt::skip]
pub static VALIDATION_KEYS: Table<Validation> = Table {
    path: "validation",
    defaults: || Validation {
        script: PathBuf::from("/"),
        sha256: None,
        user_variable: None,
        environment: BTreeMap::new(),
        timeout: 10,
        user: String::new(),
        rules_first: false,
    },
    keys: &[
        Key::<Validation>::new("script", form!(Path: script), "the program: owned by root and writable only by root").or("required"),
        Key::<Validation>::new("user", Form::Text { get: |t| Some(t.user.clone()), set: |t, at| t.user = at.value.to_owned() },
            "the account that runs it: one that jobs may have, or one that `/etc/nunbird/floor` names (`validation_user`)").or("required"),
        Key::<Validation>::new("sha256", Form::Text { get: |t| t.sha256.clone(), set: |t, at| t.sha256 = Some(values::sha256(at)) },
            "its checksum, verified before each run").or("none"),
        Key::<Validation>::new("user_variable",
            Form::Text { get: |t| t.user_variable.clone(), set: |t, at| t.user_variable = values::variable_name(at) },
            "the CI variable in which a user may name an account").or("none"),
        Key::<Validation>::new("environment", form!(Variables: environment, values::check_variable), "variables for it").or("none"),
        Key::<Validation>::new("timeout", form!(Seconds: timeout, 1, 300), "how long it may take"),
        Key::<Validation>::new("rules_first", form!(Flag: rules_first), "the rules must admit the GitLab login, too, before it is asked"),
    ],
};

/// None where the configuration has no such table.
pub(super) fn read(mut table: Section<'_>) -> Option<Validation> {
    if !table.is_present() {
        return None;
    }
    for (key, help) in [
        ("script", "add `script = \"/etc/nunbird/validate\"`"),
        ("user", "add `user = \"nunbird\"`, or `\"root\"` if it must be"),
    ] {
        if !table.has(key) {
            table.find(format!("missing key `{key}`"), help);
        }
    }
    let mut validation = (VALIDATION_KEYS.defaults)();
    VALIDATION_KEYS.read(&mut table, &mut validation);
    table.finish();
    Some(validation)
}
