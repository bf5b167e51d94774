//! What systemd answers: one reply among messages that are none of ours.
//!
//! systemd sends its signals to everybody who is connected to its private socket, so a reply comes in between. Only the fixed
//! part and the header fields of a message are looked at, and of an error its first text; every length is judged before
//! it is believed. Whatever makes no sense ends the conversation. Source: the D-Bus specification, "Message Protocol".

use super::message::{ORDER, PROTOCOL};
use std::io::{self, Read};

/// `METHOD_RETURN` and `ERROR`.
const RETURN: u8 = 2;
const ERROR: u8 = 3;
/// Header fields.
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const SIGNATURE: u8 = 8;
/// Bytes before the header fields.
const FIXED: usize = 16;
/// The longest message that is read over, in bytes; a list of properties that changed has some thousand.
const MOST: usize = 1 << 20;
/// The most messages that are none of ours.
const MOST_OTHERS: usize = 10_000;
/// What is kept of an error's name and of its text, in bytes.
const MOST_WORDS: usize = 500;

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It was accepted.
    Return,
    /// It was not: the error's name and its words, as they came.
    Error(String, String),
}

/// Reads up to the reply to the call of this serial number.
///
/// # Errors
/// As read(2); `InvalidData` with words for what is no message, for one that is too long, and for too many others.
pub fn read_reply(mut from: impl Read, serial: u32) -> io::Result<Reply> {
    for _ in 0..MOST_OTHERS {
        let mut message = vec![0; FIXED];
        from.read_exact(&mut message)?;
        let length = length(&message).ok_or_else(|| nonsense("no message of this machine's D-Bus"))?;
        if length > MOST {
            return Err(nonsense("a message longer than a mebibyte"));
        }
        message.resize(length, 0);
        from.read_exact(message.get_mut(FIXED..).unwrap_or_default())?;
        let kind = message.get(1).copied().unwrap_or_default();
        if kind != RETURN && kind != ERROR {
            continue;
        }
        let fields = Fields::of(&message).ok_or_else(|| nonsense("a reply whose header makes no sense"))?;
        if fields.serial != Some(serial) {
            continue;
        }
        return match kind {
            RETURN => Ok(Reply::Return),
            _ => Ok(Reply::Error(fields.error.unwrap_or_default(), fields.words)),
        };
    }
    Err(nonsense("ten thousand messages and no reply"))
}

fn nonsense(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The length of the message whose fixed part this is, all in bytes.
fn length(fixed: &[u8]) -> Option<usize> {
    let mut at = Cursor { bytes: fixed, next: 0 };
    let [order, kind, _flags, version] = at.array::<4>()?;
    if order != ORDER || version != PROTOCOL || !(1..=4).contains(&kind) {
        return None;
    }
    let body = at.word()?;
    let _serial = at.word()?;
    let fields = at.word()?;
    FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)
}

/// The header of a reply, and the first text of its body.
#[derive(Debug, Default)]
struct Fields {
    serial: Option<u32>,
    error: Option<String>,
    words: String,
}

impl Fields {
    /// None where the bytes are not what their lengths and types say.
    fn of(message: &[u8]) -> Option<Self> {
        let mut at = Cursor { bytes: message, next: FIXED - 4 };
        let end = at.word()?.checked_add(FIXED)?;
        let mut fields = Fields::default();
        let mut speaks = false;
        while at.next < end {
            at.align(8)?;
            let [code] = at.array::<1>()?;
            match (code, at.signature()?) {
                (REPLY_SERIAL, b"u") => fields.serial = Some(at.number()?),
                (ERROR_NAME, b"s") => fields.error = Some(at.text()?),
                (SIGNATURE, b"g") => speaks = at.signature()?.first() == Some(&b's'),
                (_, b"s" | b"o") => drop(at.text()?),
                (_, b"g") => drop(at.signature()?),
                (_, b"u") => drop(at.number()?),
                _ => return None,
            }
        }
        if at.next != end {
            return None;
        }
        at.align(8)?;
        if speaks {
            fields.words = at.text()?;
        }
        Some(fields)
    }
}

/// Reads one value after the other.
struct Cursor<'b> {
    bytes: &'b [u8],
    next: usize,
}

impl<'b> Cursor<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let end = self.next.checked_add(length)?;
        let taken = self.bytes.get(self.next..end)?;
        self.next = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn align(&mut self, to: usize) -> Option<()> {
        let skipped = self.next.checked_next_multiple_of(to)? - self.next;
        self.take(skipped).map(drop)
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4)?;
        self.array().map(u32::from_ne_bytes)
    }

    fn word(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.word()?;
        let text = self.take(length)?;
        self.end_of_text()?;
        let kept = text.get(..length.min(MOST_WORDS))?;
        Some(String::from_utf8_lossy(kept).into_owned())
    }

    fn signature(&mut self) -> Option<&'b [u8]> {
        let [length] = self.array::<1>()?;
        let text = self.take(usize::from(length))?;
        self.end_of_text()?;
        Some(text)
    }

    fn end_of_text(&mut self) -> Option<()> {
        (self.array::<1>()? == [0]).then_some(())
    }
}
