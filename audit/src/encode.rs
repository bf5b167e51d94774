//! Events as bytes for each kind of sink. Nothing in a value can end a line, a field or a datagram.

use crate::event::{Event, Job, Outcome};
use nunbird_handover::Untrusted;
use nunbird_sys::process;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};
use std::borrow::Cow;
use std::io::{self, Write};

/// The program's name in journal and syslog.
const IDENTIFIER: &str = "nunbird-auth";
/// `LOG_AUTHPRIV` (syslog(3), RFC 5424 section 6.2.1).
const FACILITY: u8 = 10;
/// The longest detail in a datagram, in characters; the file has more of it.
const MAX_DETAIL: usize = 2000;
/// The largest event in any form, in bytes. A caller without any token must not fill a disk with few calls.
pub const MAX_EVENT: usize = 32 << 10;
/// The longest text of an event, in bytes of its form.
pub const MAX_TEXT: usize = 1 << 10;
/// The same of `detail` and `message`.
pub const MAX_LONG_TEXT: usize = 4 << 10;
/// Ends a text that was cut, as [`Untrusted`] marks it.
const MARK: &str = "[...]";

/// The event as one line of JSON with its line feed, of at most [`MAX_EVENT`] bytes.
pub fn json_line(event: &Event<'_>) -> io::Result<Vec<u8>> {
    fitting(event, |event| {
        let mut line = json(event)?;
        line.push(b'\n');
        Ok(line)
    })
}

/// The event in a form of at most [`MAX_EVENT`] bytes: without the claims where it is larger with them.
///
/// Each text is bounded by itself ([`Escaping`]), but lists of the user's groups and identities can have any length.
fn fitting(event: &Event<'_>, encode: impl Fn(&Event<'_>) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let whole = encode(event)?;
    if whole.len() <= MAX_EVENT {
        return Ok(whole);
    }
    let job = event.job.clone().map(|job| Job { claims: None, ..job });
    let part = encode(&Event { job, claims_left_out: true, ..event.clone() })?;
    if part.len() <= MAX_EVENT { Ok(part) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// JSON in which deceptive characters ([`Untrusted::is_deceptive`]) are escaped, so that the value stays exact, and every text is
/// bounded in its escaped form.
fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Escaping::default()))?;
    Ok(bytes)
}

/// Writes each string in at most [`MAX_TEXT`] bytes between its quotes, `detail` and `message` in [`MAX_LONG_TEXT`]; what is
/// cut ends with [`MARK`]. Names of fields count as strings and are short.
#[derive(Debug, Default)]
struct Escaping {
    /// Bytes that the string may still take, its mark not counted.
    left: usize,
    cut: bool,
    in_key: bool,
    /// The value that follows is `detail` or `message`.
    long: bool,
}

impl Escaping {
    fn take(&mut self, bytes: usize) -> bool {
        self.cut |= bytes > self.left;
        if !self.cut {
            self.left -= bytes;
        }
        !self.cut
    }
}

impl Formatter for Escaping {
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        (self.in_key, self.long) = (true, false);
        CompactFormatter.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.in_key = false;
        Ok(())
    }

    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let most = if self.long { MAX_LONG_TEXT } else { MAX_TEXT };
        (self.left, self.cut) = (most - MARK.len(), false);
        writer.write_all(b"\"")
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let mark = if self.cut { MARK } else { "" };
        write!(writer, "{mark}\"")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        self.long |= self.in_key && ["detail", "message"].contains(&fragment);
        for c in fragment.chars() {
            let deceptive = Untrusted::is_deceptive(c);
            if !self.take(if deceptive { 6 * c.len_utf16() } else { c.len_utf8() }) {
                return Ok(());
            }
            if !deceptive {
                CompactFormatter.write_string_fragment(writer, c.encode_utf8(&mut [0; 4]))?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        let bytes = if matches!(escape, CharEscape::AsciiControl(_)) { 6 } else { 2 };
        if self.take(bytes) { CompactFormatter.write_char_escape(writer, escape) } else { Ok(()) }
    }
}

/// A datagram in journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): every field in the form with a length
/// before the value, in which no value can begin another field.
pub fn journal(event: &Event<'_>) -> io::Result<Vec<u8>> {
    fitting(event, journal_entry)
}

fn journal_entry(event: &Event<'_>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut field = |name: &str, value: &str| {
        let long = ["MESSAGE", "NUNBIRD_DETAIL"].contains(&name);
        let value = &*bounded(value, if long { MAX_LONG_TEXT } else { MAX_TEXT });
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

/// The text, in at most this many bytes.
fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let end = (0..=most - MARK.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{MARK}", text.get(..end).unwrap_or_default()).into()
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
pub fn syslog_local(event: &Event<'_>) -> io::Result<Vec<u8>> {
    let head = format!("<{}>{IDENTIFIER}[{}]: ", priority(event), process::id());
    fitting(event, |event| Ok([head.as_bytes(), &cee(event)?].concat()))
}

/// A message as RFC 5424 has it.
pub fn syslog_5424(event: &Event<'_>) -> io::Result<Vec<u8>> {
    let Event { timestamp, host, outcome, .. } = event;
    let (priority, pid) = (priority(event), process::id());
    let head = format!("<{priority}>1 {timestamp} {host} {IDENTIFIER} {pid} {} - ", outcome.name());
    fitting(event, |event| Ok([head.as_bytes(), &cee(event)?].concat()))
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

/// A line for the local syslog daemon, of at most 2 KiB: who was refused what where no event could say so.
pub fn trace(what: &str, decision_id: &str) -> Vec<u8> {
    let (priority, pid) = (FACILITY * 8 + 4, process::id());
    format!(
        "<{priority}>{IDENTIFIER}[{pid}]: {} [{decision_id}]",
        bounded(what, 2000 - decision_id.len().min(64))
    )
    .into_bytes()
}

fn priority(event: &Event<'_>) -> u8 {
    FACILITY * 8 + severity(event)
}

/// `LOG_WARNING` for a denial, `LOG_INFO` for the rest.
fn severity(event: &Event<'_>) -> u8 {
    if event.outcome == Outcome::Denied { 4 } else { 6 }
}
