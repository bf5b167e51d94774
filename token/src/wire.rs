//! The messages that the worker sends back: fixed layout, no alternatives, no trailing bytes.
//!
//! An attacker who controls the worker writes these bytes, so the reader trusts nothing: every
//! length is bounded, every string is checked again, and a byte too many or too few is an error.
//! Numbers are little-endian; strings have a u16 length prefix.
//!
//! ```text
//! "NBW7"  0  code  bound                                              a rejection
//! "NBW7"  0  254  0  server  eight bytes                              a job of another runner; 0 for an unknown id
//! "NBW7"  1  server  flags(u32)  eight u64  five texts  the optional    an identity
//!            texts of the flags  groups  identities  image and services
//! "NBW7"  2  server  text                                             a job token, and where it goes
//! "NBW7"  3  flags(u8)  u64  text  the optional text of the flags     the user of a job
//! ```
//!
//! Groups and identities are a u8 count and so many texts, or pairs of texts. Image and services are in [`crate::asked_wire`].

use crate::asked_wire;
use crate::claims::{MAX_GROUPS, MAX_IDENTITIES};
use crate::containers::Containers;
use crate::job_token::{JobToken, MAX_JOB_TOKEN};
use crate::job_user::JobUser;
use crate::reader::{Reader, WireError};
use crate::{Admitted, Bound, Rejection, Source, UserIdentity};
use std::path::{Component, Path, PathBuf};

const MAGIC: &[u8; 4] = b"NBW7";
/// The longest message, in bytes: room for two hundred groups of 255 characters.
pub const MAX_MESSAGE: usize = 256 << 10;

const REJECTIONS: [Rejection; 14] = [
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
    Rejection::OtherServer,
    Rejection::JobAnswer,
];
const BOUNDS: [Bound; 4] = [Bound::Job, Bound::Project, Bound::Pipeline, Bound::User];
/// The code of [`Rejection::OtherJob`].
const OTHER_JOB: u8 = 255;
/// The code of [`Rejection::OtherRunner`].
const OTHER_RUNNER: u8 = 254;

// Flags: which optional facts are there, and the truth of those that are true or false.
const HAS_RUNNER: u32 = 1;
const HAS_PROTECTED: u32 = 1 << 1;
const PROTECTED: u32 = 1 << 2;
const HAS_ENVIRONMENT_PROTECTED: u32 = 1 << 3;
const ENVIRONMENT_PROTECTED: u32 = 1 << 4;
const BY_JOB_TOKEN: u32 = 1 << 5;
const HAS_GROUPS: u32 = 1 << 6;
/// The first of seven flags for the optional texts.
const FIRST_TEXT: u32 = 1 << 7;
const HAS_NAMESPACE_ID: u32 = 1 << 14;
const HAS_QUEUED: u32 = 1 << 15;
const HAS_FORK: u32 = 1 << 16;
const FORK: u32 = 1 << 17;
const HAS_IMAGE: u32 = 1 << 18;
const HAS_SERVICES: u32 = 1 << 19;
const STEPS: u32 = 1 << 20;
/// All of them.
const KNOWN: u32 = (1 << 21) - 1;

// Flags of a job's user.
const HAS_BOT: u8 = 1;
const BOT: u8 = 1 << 1;
const HAS_STATE: u8 = 1 << 2;

/// The message for an answer.
pub fn encode(answer: &Result<Admitted, Rejection>) -> Vec<u8> {
    match answer {
        Err(rejection) => encode_rejection(*rejection),
        Ok(admitted) => encode_admitted(admitted),
    }
}

/// The message for a job token.
pub fn encode_job_token(answer: &Result<JobToken, Rejection>) -> Vec<u8> {
    match answer {
        Err(rejection) => encode_rejection(*rejection),
        Ok(found) => {
            let mut out = MAGIC.to_vec();
            out.extend_from_slice(&[2, u8::try_from(found.server).unwrap_or(u8::MAX)]);
            put_text(&mut out, &found.token);
            out
        }
    }
}

/// The message for the user of a job.
pub fn encode_job_user(answer: &Result<JobUser, Rejection>) -> Vec<u8> {
    match answer {
        Err(rejection) => encode_rejection(*rejection),
        Ok(user) => {
            let flag = |set: bool, bit: u8| if set { bit } else { 0 };
            let flags = flag(user.bot.is_some(), HAS_BOT)
                | flag(user.bot == Some(true), BOT)
                | flag(user.state.is_some(), HAS_STATE);
            let mut out = MAGIC.to_vec();
            out.extend_from_slice(&[3, flags]);
            out.extend_from_slice(&user.id.to_le_bytes());
            put_text(&mut out, &user.username);
            user.state.iter().for_each(|state| put_text(&mut out, state));
            out
        }
    }
}

fn encode_rejection(rejection: Rejection) -> Vec<u8> {
    if let Rejection::OtherRunner { server, runner_id } = rejection {
        let server = u8::try_from(server).unwrap_or(u8::MAX);
        let id = runner_id.unwrap_or(0).to_le_bytes();
        return [MAGIC.as_slice(), &[0, OTHER_RUNNER, 0, server], &id].concat();
    }
    let code = REJECTIONS.iter().position(|r| *r == rejection).and_then(|i| u8::try_from(i).ok());
    let bound = match rejection {
        Rejection::OtherJob(bound) => {
            BOUNDS.iter().position(|b| *b == bound).and_then(|i| u8::try_from(i).ok())
        }
        _ => None,
    };
    [MAGIC.as_slice(), &[0, code.unwrap_or(OTHER_JOB), bound.unwrap_or(0)]].concat()
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn optional_texts(a: &Admitted) -> [&Option<String>; 7] {
    [
        &a.user_email,
        &a.access_level,
        &a.ref_type,
        &a.pipeline_source,
        &a.environment,
        &a.requested_account,
        &a.requested_builds_dir,
    ]
}

fn flags(a: &Admitted) -> u32 {
    let flag = |set: bool, bit: u32| if set { bit } else { 0 };
    let mut flags = flag(a.runner_id.is_some(), HAS_RUNNER)
        | flag(a.ref_protected.is_some(), HAS_PROTECTED)
        | flag(a.ref_protected == Some(true), PROTECTED)
        | flag(a.environment_protected.is_some(), HAS_ENVIRONMENT_PROTECTED)
        | flag(a.environment_protected == Some(true), ENVIRONMENT_PROTECTED)
        | flag(a.source == Source::JobToken, BY_JOB_TOKEN)
        | flag(a.groups.is_some(), HAS_GROUPS)
        | flag(a.namespace_id.is_some(), HAS_NAMESPACE_ID)
        | flag(a.queued.is_some(), HAS_QUEUED)
        | flag(a.fork.is_some(), HAS_FORK)
        | flag(a.fork == Some(true), FORK)
        | flag(a.containers.image.is_some(), HAS_IMAGE)
        | flag(a.containers.services.is_some(), HAS_SERVICES)
        | flag(a.containers.steps, STEPS);
    for (index, text) in optional_texts(a).into_iter().enumerate() {
        flags |= flag(text.is_some(), FIRST_TEXT << index);
    }
    flags
}

fn encode_admitted(a: &Admitted) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[1, u8::try_from(a.server).unwrap_or(u8::MAX)]);
    out.extend_from_slice(&flags(a).to_le_bytes());
    let numbers = [a.expires_at, a.job_id, a.pipeline_id, a.project_id, a.user_id];
    let optional = [a.runner_id, a.namespace_id, a.queued].map(|number| number.unwrap_or(0));
    for number in numbers.into_iter().chain(optional) {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let project_dir = a.project_dir.to_str().unwrap_or("");
    for text in [&a.user_login, &a.project_path, &a.namespace_path, &a.git_ref, project_dir] {
        put_text(&mut out, text);
    }
    let containers = [&a.containers.image, &a.containers.services];
    for text in optional_texts(a).into_iter().chain(containers).flatten() {
        put_text(&mut out, text);
    }
    let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    if let Some(groups) = &a.groups {
        out.push(count(groups.len()));
        groups.iter().for_each(|group| put_text(&mut out, group));
    }
    out.push(count(a.identities.len()));
    for identity in &a.identities {
        put_text(&mut out, &identity.provider);
        put_text(&mut out, &identity.extern_uid);
    }
    asked_wire::put(&mut out, &a.containers.asked);
    out
}

/// Reads a message about an identity.
///
/// # Errors
/// [`WireError`] for anything that [`encode`] does not write, and for an identity with ids of 0, texts with
/// deceptive characters or a project directory that leaves its parent.
pub fn decode(bytes: &[u8]) -> Result<Result<Admitted, Rejection>, WireError> {
    let (kind, mut reader) = open(bytes)?;
    let answer = match kind {
        0 => Err(decode_rejection(&mut reader)?),
        1 => Ok(decode_admitted(&mut reader)?),
        _ => return Err(WireError),
    };
    reader.end(answer)
}

/// Reads a message about a job token.
///
/// # Errors
/// [`WireError`] for anything that [`encode_job_token`] does not write.
pub fn decode_job_token(bytes: &[u8]) -> Result<Result<JobToken, Rejection>, WireError> {
    let (kind, mut reader) = open(bytes)?;
    let answer = match kind {
        0 => Err(decode_rejection(&mut reader)?),
        2 => {
            let server = usize::from(reader.byte()?);
            let token = reader.raw_text()?;
            if token.is_empty() || token.len() > MAX_JOB_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic())
            {
                return Err(WireError);
            }
            Ok(JobToken { server, token: token.to_owned() })
        }
        _ => return Err(WireError),
    };
    reader.end(answer)
}

/// Reads a message about the user of a job.
///
/// # Errors
/// [`WireError`] for anything that [`encode_job_user`] does not write.
pub fn decode_job_user(bytes: &[u8]) -> Result<Result<JobUser, Rejection>, WireError> {
    let (kind, mut reader) = open(bytes)?;
    let answer = match kind {
        0 => Err(decode_rejection(&mut reader)?),
        3 => {
            let flags = reader.byte()?;
            let bot = match (flags & HAS_BOT != 0, flags & BOT != 0) {
                (true, bot) => Some(bot),
                (false, false) => None,
                (false, true) => return Err(WireError),
            };
            if flags & !(HAS_BOT | BOT | HAS_STATE) != 0 {
                return Err(WireError);
            }
            let (id, username) = (reader.id()?, reader.required_text()?);
            let state = if flags & HAS_STATE != 0 { Some(reader.required_text()?) } else { None };
            Ok(JobUser { id, username, bot, state })
        }
        _ => return Err(WireError),
    };
    reader.end(answer)
}

fn open(bytes: &[u8]) -> Result<(u8, Reader<'_>), WireError> {
    let mut reader = Reader::new(bytes);
    if reader.take(4)? != MAGIC { Err(WireError) } else { Ok((reader.byte()?, reader)) }
}

fn decode_rejection(reader: &mut Reader<'_>) -> Result<Rejection, WireError> {
    match (reader.byte()?, reader.byte()?) {
        (OTHER_JOB, bound) => {
            BOUNDS.get(usize::from(bound)).map(|b| Rejection::OtherJob(*b)).ok_or(WireError)
        }
        (OTHER_RUNNER, 0) => {
            let server = usize::from(reader.byte()?);
            let runner_id = Some(reader.number()?).filter(|id| *id != 0);
            Ok(Rejection::OtherRunner { server, runner_id })
        }
        (code, 0) => REJECTIONS.get(usize::from(code)).copied().ok_or(WireError),
        _ => Err(WireError),
    }
}

fn decode_admitted(reader: &mut Reader<'_>) -> Result<Admitted, WireError> {
    let server = usize::from(reader.byte()?);
    let flags = reader.word()?;
    if flags & !KNOWN != 0 {
        return Err(WireError);
    }
    let has = |bit: u32| flags & bit != 0;
    let truth = |there: u32, bit: u32| {
        if has(there) {
            Ok(Some(has(bit)))
        } else if has(bit) {
            Err(WireError)
        } else {
            Ok(None)
        }
    };
    let expires_at = reader.id()?;
    let [job_id, pipeline_id, project_id, user_id] = [reader.id()?, reader.id()?, reader.id()?, reader.id()?];
    let mut number = |bit: u32| match (has(bit), reader.number()?) {
        (true, number) => Ok(Some(number)),
        (false, 0) => Ok(None),
        (false, _) => Err(WireError),
    };
    let (runner_id, namespace_id, queued) =
        (number(HAS_RUNNER)?, number(HAS_NAMESPACE_ID)?, number(HAS_QUEUED)?);
    let [user_login, project_path, namespace_path, git_ref] =
        [reader.required_text()?, reader.required_text()?, reader.required_text()?, reader.required_text()?];
    let project_dir = PathBuf::from(reader.required_text()?);
    if !stays_below(&project_dir) {
        return Err(WireError);
    }
    let mut optional: [Option<String>; 7] = Default::default();
    for (index, slot) in optional.iter_mut().enumerate() {
        if has(FIRST_TEXT << index) {
            *slot = Some(reader.text()?);
        }
    }
    let mut asked = |bit: u32| if has(bit) { reader.text().map(Some) } else { Ok(None) };
    let (image, services) = (asked(HAS_IMAGE)?, asked(HAS_SERVICES)?);
    let [user_email, access_level, ref_type, pipeline_source, environment, account, builds_dir] = optional;
    let groups = if has(HAS_GROUPS) { Some(reader.texts(MAX_GROUPS)?) } else { None };
    let count = usize::from(reader.byte()?);
    if count > MAX_IDENTITIES {
        return Err(WireError);
    }
    let identity = |reader: &mut Reader<'_>| {
        Ok(UserIdentity { provider: reader.required_text()?, extern_uid: reader.required_text()? })
    };
    let identities = (0..count).map(|_| identity(reader)).collect::<Result<_, WireError>>()?;
    let containers = Containers { image, services, steps: has(STEPS), asked: asked_wire::take(reader)? };
    Ok(Admitted {
        server,
        source: if has(BY_JOB_TOKEN) { Source::JobToken } else { Source::IdToken },
        expires_at,
        job_id,
        pipeline_id,
        project_id,
        user_id,
        runner_id,
        user_login,
        user_email,
        access_level,
        groups,
        identities,
        fork: truth(HAS_FORK, FORK)?,
        project_path,
        namespace_path,
        namespace_id,
        git_ref,
        ref_type,
        ref_protected: truth(HAS_PROTECTED, PROTECTED)?,
        pipeline_source,
        environment,
        environment_protected: truth(HAS_ENVIRONMENT_PROTECTED, ENVIRONMENT_PROTECTED)?,
        project_dir,
        queued,
        containers,
        requested_account: account,
        requested_builds_dir: builds_dir,
    })
}

fn stays_below(path: &Path) -> bool {
    path.components().all(|c| matches!(c, Component::Normal(_)))
}
