//! Events as bytes for each kind of sink. Nothing in a value can end a line, a field or a datagram.

use super::event::{Event, Outcome};
use nunbird_handover::Untrusted;
use nunbird_sys::process;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use std::io::{self, Write};

/// The program's name in journal and syslog.
const IDENTIFIER: &str = "nunbird-auth";
/// `LOG_AUTHPRIV` (syslog(3), RFC 5424 section 6.2.1).
const FACILITY: u8 = 10;
/// The longest detail in a datagram, in characters; the file has all of it.
const MAX_DETAIL: usize = 2000;

/// The event as one line of JSON with its line feed.
pub(crate) fn json_line(event: &Event<'_>) -> io::Result<Vec<u8>> {
    let mut line = json(event)?;
    line.push(b'\n');
    Ok(line)
}

/// JSON in which characters that deceive whoever prints it are escaped, so that the value stays exact.
fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Escaping))?;
    Ok(bytes)
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            if !Untrusted::is_deceptive(c) {
                CompactFormatter.write_string_fragment(writer, c.encode_utf8(&mut [0; 4]))?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

/// A datagram in journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): every field in the form with a length
/// before the value, in which no value can begin another field.
pub(crate) fn journal(event: &Event<'_>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut field = |name: &str, value: &str| {
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    };
    field("MESSAGE", &event.message());
    field("PRIORITY", &severity(event).to_string());
    field("SYSLOG_FACILITY", &FACILITY.to_string());
    field("SYSLOG_IDENTIFIER", IDENTIFIER);
    let detail = event.detail.map(cut);
    let Value::Object(fields) = serde_json::to_value(Event { detail: detail.as_deref(), ..event.clone() })?
    else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    for (name, value) in &fields {
        let name = format!("NUNBIRD_{}", name.to_ascii_uppercase());
        match value {
            Value::Object(parts) => {
                for (part, value) in parts {
                    field(&format!("{name}_{}", field_name(part)), &plain(value, false));
                }
            }
            _ => field(&name, &plain(value, name == "NUNBIRD_DETAIL")),
        }
    }
    Ok(out)
}

/// Capitals, digits and `_`, which is all that journald takes (systemd.journal-fields(7)). The names of identity providers are
/// the server's: with a `=` in one, journald would read the line as a whole field and the value behind it as further ones.
fn field_name(part: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    part.chars().map(plain).collect()
}

/// A value as text. A detail was made clean line by line when its refusal was made.
fn plain(value: &Value, clean: bool) -> String {
    match value {
        Value::String(text) if clean => text.clone(),
        Value::String(text) => Untrusted(text).to_string(),
        other => {
            json(other).map_or_else(|_| String::new(), |json| String::from_utf8_lossy(&json).into_owned())
        }
    }
}

/// A datagram for the local syslog daemon, as syslog(3) writes it but without the time, which the daemon adds.
pub(crate) fn syslog_local(event: &Event<'_>) -> io::Result<Vec<u8>> {
    let head = format!("<{}>{IDENTIFIER}[{}]: ", priority(event), process::id());
    Ok([head.into_bytes(), cee(event)?].concat())
}

/// A message as RFC 5424 has it.
pub(crate) fn syslog_5424(event: &Event<'_>) -> io::Result<Vec<u8>> {
    let Event { timestamp, host, outcome, .. } = event;
    let (priority, pid) = (priority(event), process::id());
    let head = format!("<{priority}>1 {timestamp} {host} {IDENTIFIER} {pid} {} - ", outcome.name());
    Ok([head.into_bytes(), cee(event)?].concat())
}

/// The event's JSON behind the mark by which syslog daemons know JSON, the line for people first.
fn cee(event: &Event<'_>) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Readable<'a> {
        message: String,
        #[serde(flatten)]
        event: &'a Event<'a>,
    }
    let detail = event.detail.map(cut);
    let event = Event { detail: detail.as_deref(), ..event.clone() };
    let body = json(&Readable { message: event.message(), event: &event })?;
    Ok([b"@cee: ".to_vec(), body].concat())
}

fn cut(detail: &str) -> String {
    match detail.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}[...]", detail.get(..end).unwrap_or_default()),
        None => detail.to_owned(),
    }
}

fn priority(event: &Event<'_>) -> u8 {
    FACILITY * 8 + severity(event)
}

/// `LOG_WARNING` for a denial, `LOG_INFO` for the rest.
fn severity(event: &Event<'_>) -> u8 {
    if event.outcome == Outcome::Denied { 4 } else { 6 }
}
