//! `[pam]`: a PAM session around each stage, or one around the job.

use super::model::Downscope;
use super::reader::Section;
use super::values::Values;
use nunbird_handover::{Pam, SessionSpan};

/// The file of the package in `/etc/pam.d`.
const SERVICE: &str = "nunbird";
/// What sessions make that jobs need: login sessions, tickets, languages.
const ENVIRONMENT: [&str; 7] =
    ["DBUS_SESSION_BUS_ADDRESS", "KRB5CCNAME", "LANG", "LC_*", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_SESSION_*"];

/// What has a session of its own.
pub(super) const SPANS: [(&str, SessionSpan); 2] = [("stage", SessionSpan::Stage), ("job", SessionSpan::Job)];

/// Reads the table; none where it does not stand.
pub(super) fn read(mut table: Section<'_>, downscope: Downscope) -> Option<Pam> {
    let present = table.is_present();
    if present && downscope != Downscope::Setuid {
        let help = "remove the table, or use `downscope = \"setuid\"` with nunbird-auth setuid-root or under a root runner";
        table.find("a PAM session needs root", help);
    }
    let service = table.text("service").map_or(SERVICE, |at| {
        let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if at.value.is_empty() || at.value.starts_with('.') || !at.value.chars().all(proper) {
            at.spot.find("this is no name of a PAM service", "name a file of /etc/pam.d");
        }
        at.value
    });
    let environment = table.texts("environment").map_or_else(
        || ENVIRONMENT.map(str::to_owned).to_vec(),
        |names| {
            for name in &names.value {
                let plain = name.value.strip_suffix('*').unwrap_or(name.value);
                if !plain.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || name.value.is_empty() {
                    let help = "write its name, or the beginning of names with `*` behind it";
                    name.spot.find("this is no name of a variable", help);
                }
            }
            names.value.iter().map(|name| name.value.to_owned()).collect()
        },
    );
    let session = table.choice("session", &SPANS).map_or(SessionSpan::Stage, |at| at.value);
    let timeout = table.seconds("timeout", 30, 1..=300);
    let pam = Pam { service: service.to_owned(), timeout, environment, session };
    table.finish();
    present.then_some(pam)
}
