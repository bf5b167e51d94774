//! `[pam]`: a PAM session around each stage, or one around the job.

use super::keys::{Form, Key, Table, Word, form};
use super::model::Downscope;
use super::reader::{At, Section};
use nunbird_handover::{Pam, SessionSpan};

/// The file of the package in `/etc/pam.d`.
const SERVICE: &str = "nunbird";
/// What sessions make that jobs need: login sessions, tickets, languages.
const ENVIRONMENT: [&str; 7] =
    ["DBUS_SESSION_BUS_ADDRESS", "KRB5CCNAME", "LANG", "LC_*", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_SESSION_*"];

impl Word for SessionSpan {
    const WORDS: &'static [(&'static str, Self)] =
        &[("stage", SessionSpan::Stage), ("job", SessionSpan::Job)];
}

/// `[pam]`.
#[rustfmt::skip]
pub static PAM_KEYS: Table<Pam> = Table {
    path: "pam",
    defaults: || Pam {
        service: SERVICE.to_owned(),
        timeout: 30,
        environment: ENVIRONMENT.map(str::to_owned).to_vec(),
        session: SessionSpan::Stage,
    },
    keys: &[
        Key::<Pam>::new("service", Form::Text { get: |t| Some(t.service.clone()), set: |t, at| t.service = service(at) },
            "a file of `/etc/pam.d`, root's"),
        Key::<Pam>::new("timeout", form!(Seconds: timeout, 1, 300), "how long the modules may take to open a session, and again to close it"),
        Key::<Pam>::new("session", form!(Word: session, SessionSpan), "what has a session of its own: each stage, or the whole job"),
        Key::<Pam>::new("environment", Form::Texts { get: |t| Some(t.environment.clone()), set: |t, at| t.environment = environment(&at) },
            "which variables of the session reach the job, see below; a name may end in `*`"),
    ],
};

/// Reads the table; none where the configuration does not have it.
pub(super) fn read(mut table: Section<'_>, downscope: Downscope) -> Option<Pam> {
    let present = table.is_present();
    if present && downscope != Downscope::Setuid {
        let help = "remove the table, or use `downscope = \"setuid\"` with nunbird-auth setuid-root or under a root runner";
        table.find("a PAM session needs root", help);
    }
    let mut pam = (PAM_KEYS.defaults)();
    PAM_KEYS.read(&mut table, &mut pam);
    table.finish();
    present.then_some(pam)
}

fn service(at: &At<'_, &str>) -> String {
    let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if at.value.is_empty() || at.value.starts_with('.') || !at.value.chars().all(proper) {
        at.spot.find("invalid name of a PAM service", "name a file of /etc/pam.d");
    }
    at.value.to_owned()
}

fn environment(names: &At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    for name in &names.value {
        let plain = name.value.strip_suffix('*').unwrap_or(name.value);
        if !plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || name.value.is_empty() {
            let help = "write a name of letters, digits and `_`, which may end in `*`";
            name.spot.find("invalid name of a variable", help);
        }
    }
    names.value.iter().map(|name| name.value.to_owned()).collect()
}
