//! `[audit]`: where decisions and ends of stages are written.

use super::keys::{Form, Key, Setting, Table, form};
use super::model::Downscope;
use super::reader::{At, Kind, Section};
use super::values;
use crate::DEFAULT_AUDIT_FILE;
use nunbird_handover::{Audit, Syslog};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[audit]`.
#[rustfmt::skip]
pub static AUDIT_KEYS: Table<Audit> = Table {
    path: "audit",
    defaults: || Audit { file: None, journald: false, syslog: None, required: true },
    keys: &[
        Key::<Audit>::new("file", Form::Own { takes: "path or `false`", get: file_setting },
            "one JSON object per line; `false` for no file, see below").or("`\"/var/log/nunbird/audit.jsonl\"`; `false` unless `downscope` is `\"setuid\"`"),
        Key::<Audit>::new("journald", form!(Flag: journald), "systemd's journal"),
        Key::<Audit>::new("syslog", Form::Text { get: syslog_text, set: |t, at| t.syslog = syslog(at) },
            "`\"local\"`, `\"udp://192.0.2.1:514\"` or `\"tcp://192.0.2.1:601\"`").or("none"),
        Key::<Audit>::new("required", form!(Flag: required), "a job whose admission cannot be written to each of them does not run"),
    ],
};

pub(super) fn read(mut table: Section<'_>, downscope: Downscope) -> Audit {
    let mut audit = (AUDIT_KEYS.defaults)();
    audit.file = match table.raw("file", Kind::Text) {
        None => (downscope == Downscope::Setuid).then(|| PathBuf::from(DEFAULT_AUDIT_FILE)),
        Some(raw) if raw.as_boolean() == Some(false) => None,
        Some(raw) => match raw.as_text() {
            Some(value) => Some(values::path(&At { value, spot: raw.spot })),
            None => raw.wrong_type("string or `false`", "write an absolute path in quotes, or `false`"),
        },
    };
    AUDIT_KEYS.read(&mut table, &mut audit);
    table.finish();
    audit
}

fn file_setting(audit: &Audit) -> Option<Setting> {
    let path = |file: &PathBuf| Setting::Text(file.to_string_lossy().into_owned());
    Some(audit.file.as_ref().map_or(Setting::Flag(false), path))
}

fn syslog_text(audit: &Audit) -> Option<String> {
    Some(match audit.syslog? {
        Syslog::Local => "local".to_owned(),
        Syslog::Udp(address) => format!("udp://{address}"),
        Syslog::Tcp(address) => format!("tcp://{address}"),
    })
}

fn syslog(at: &At<'_, &str>) -> Option<Syslog> {
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    let parsed = match at.value.split_once("://") {
        None if at.value == "local" => Some(Syslog::Local),
        Some(("udp", rest)) => address(rest).map(Syslog::Udp),
        Some(("tcp", rest)) => address(rest).map(Syslog::Tcp),
        _ => None,
    };
    if parsed.is_none() {
        let help =
            "write `local`, `udp://192.0.2.1:514` or `tcp://[2001:db8::1]:601`; names are not looked up";
        at.spot.find("invalid address of a syslog daemon", help);
    }
    parsed
}
