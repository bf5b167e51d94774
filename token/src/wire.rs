//! The one message that the worker sends back: fixed layout, no choices, no room for more.
//!
//! Whoever takes over the worker writes these bytes, so the reader believes nothing: every length is bounded,
//! every text is checked again, and a byte too many or too few is an error. Numbers are little-endian;
//! texts have a u16 length before them.
//!
//! ```text
//! "NBW1"  0  code  bound                                        a rejection
//! "NBW1"  1  server  flags  six u64  seven texts                an identity
//! ```

use crate::claims::is_plain;
use crate::{Admitted, Bound, Rejection};
use std::path::{Component, Path, PathBuf};

const MAGIC: &[u8; 4] = b"NBW1";
/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 16 << 10;
const HAS_RUNNER: u8 = 1;
const PROTECTED: u8 = 2;
const HAS_ENVIRONMENT: u8 = 4;

/// The message is not what a sound worker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireError;

const REJECTIONS: [Rejection; 12] = [
    Rejection::Response,
    Rejection::Keys,
    Rejection::NoToken,
    Rejection::Empty,
    Rejection::Malformed,
    Rejection::UnknownKey,
    Rejection::Header,
    Rejection::Claims,
    Rejection::Issuer,
    Rejection::Audience,
    Rejection::Expired,
    Rejection::NotYetValid,
];
const BOUNDS: [Bound; 5] = [Bound::Job, Bound::Project, Bound::Pipeline, Bound::User, Bound::Runner];
/// The code of [`Rejection::OtherJob`].
const OTHER_JOB: u8 = 255;

/// The message for an answer.
pub fn encode(answer: &Result<Admitted, Rejection>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    match answer {
        Err(rejection) => out.extend_from_slice(&[0, rejection_code(*rejection), bound_code(*rejection)]),
        Ok(admitted) => encode_admitted(admitted, &mut out),
    }
    out
}

fn rejection_code(rejection: Rejection) -> u8 {
    let index = REJECTIONS.iter().position(|r| *r == rejection);
    index.and_then(|i| u8::try_from(i).ok()).unwrap_or(OTHER_JOB)
}

fn bound_code(rejection: Rejection) -> u8 {
    let Rejection::OtherJob(bound) = rejection else { return 0 };
    BOUNDS.iter().position(|b| *b == bound).and_then(|i| u8::try_from(i).ok()).unwrap_or(0)
}

fn encode_admitted(a: &Admitted, out: &mut Vec<u8>) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let flags = flag(a.runner_id.is_some(), HAS_RUNNER)
        | flag(a.ref_protected, PROTECTED)
        | flag(a.environment.is_some(), HAS_ENVIRONMENT);
    out.extend_from_slice(&[1, u8::try_from(a.server).unwrap_or(u8::MAX), flags]);
    let numbers = [a.expires_at, a.job_id, a.pipeline_id, a.project_id, a.user_id, a.runner_id.unwrap_or(0)];
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let project_dir = a.project_dir.to_str().unwrap_or("");
    let environment = a.environment.as_deref().unwrap_or("");
    let texts = [
        &a.user_login,
        &a.project_path,
        &a.namespace_path,
        &a.git_ref,
        &a.pipeline_source,
        environment,
        project_dir,
    ];
    for text in texts {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

/// Reads a message.
///
/// # Errors
/// [`WireError`] for anything that [`encode`] does not write, and for an identity with ids of 0, texts with
/// deceptive characters or a project directory that leaves its parent.
pub fn decode(bytes: &[u8]) -> Result<Result<Admitted, Rejection>, WireError> {
    let mut reader = Reader(bytes);
    if reader.take(4)? != MAGIC {
        return Err(WireError);
    }
    let answer = match reader.byte()? {
        0 => Err(decode_rejection(reader.byte()?, reader.byte()?)?),
        1 => Ok(decode_admitted(&mut reader)?),
        _ => return Err(WireError),
    };
    if reader.0.is_empty() { Ok(answer) } else { Err(WireError) }
}

fn decode_rejection(code: u8, bound: u8) -> Result<Rejection, WireError> {
    match (code, bound) {
        (OTHER_JOB, bound) => {
            BOUNDS.get(usize::from(bound)).map(|b| Rejection::OtherJob(*b)).ok_or(WireError)
        }
        (code, 0) => REJECTIONS.get(usize::from(code)).copied().ok_or(WireError),
        _ => Err(WireError),
    }
}

fn decode_admitted(reader: &mut Reader<'_>) -> Result<Admitted, WireError> {
    let server = usize::from(reader.byte()?);
    let flags = reader.byte()?;
    if flags & !(HAS_RUNNER | PROTECTED | HAS_ENVIRONMENT) != 0 {
        return Err(WireError);
    }
    let expires_at = reader.id()?;
    let [job_id, pipeline_id, project_id, user_id] = [reader.id()?, reader.id()?, reader.id()?, reader.id()?];
    let runner_id = reader.number()?;
    let user_login = reader.required_text()?;
    let project_path = reader.required_text()?;
    let namespace_path = reader.required_text()?;
    let git_ref = reader.required_text()?;
    let pipeline_source = reader.required_text()?;
    let environment = reader.text()?;
    let project_dir = PathBuf::from(reader.required_text()?);
    if !stays_below(&project_dir) {
        return Err(WireError);
    }
    Ok(Admitted {
        server,
        expires_at,
        job_id,
        pipeline_id,
        project_id,
        user_id,
        runner_id: (flags & HAS_RUNNER != 0).then_some(runner_id),
        ref_protected: flags & PROTECTED != 0,
        user_login,
        project_path,
        namespace_path,
        git_ref,
        pipeline_source,
        environment: (flags & HAS_ENVIRONMENT != 0).then_some(environment),
        project_dir,
    })
}

fn stays_below(path: &Path) -> bool {
    path.components().all(|c| matches!(c, Component::Normal(_)))
}

/// What is left of the message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(WireError)?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        self.take(1)?.first().copied().ok_or(WireError)
    }

    fn number(&mut self) -> Result<u64, WireError> {
        let bytes = self.take(8)?.try_into().map_err(|_| WireError)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn id(&mut self) -> Result<u64, WireError> {
        self.number().and_then(|n| if n == 0 { Err(WireError) } else { Ok(n) })
    }

    fn text(&mut self) -> Result<String, WireError> {
        let length = self.take(2)?.try_into().map(u16::from_le_bytes).map_err(|_| WireError)?;
        let text = std::str::from_utf8(self.take(usize::from(length))?).map_err(|_| WireError)?;
        if is_plain(text) { Ok(text.to_owned()) } else { Err(WireError) }
    }

    fn required_text(&mut self) -> Result<String, WireError> {
        self.text().and_then(|text| if text.is_empty() { Err(WireError) } else { Ok(text) })
    }
}
