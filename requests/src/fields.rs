//! Fields of types that other crates define.

use nunbird_files::own_file::Doubt;
use nunbird_host::{Destination, Fetch, Nologin, OwnFile, PersonFile, Report, Turn, Validate};
use nunbird_sys::shadow::Expiry;
use nunbird_sys::users::{GroupEntry, UserEntry};
use nunbird_wire::{Malformed, Reader, Writer};
use std::net::SocketAddr;
use std::time::Duration;

/// The most groups of an account (`NGROUPS_MAX`), and members of a group.
const MAX_GROUPS: usize = 65_536;
/// The most members of a group that are passed on: getgrnam(3) gives 1 MiB of them at most.
const MAX_MEMBERS: usize = 1 << 20;
const DOUBTS: [Doubt; 6] =
    [Doubt::Home, Doubt::Unreadable, Doubt::Kind, Doubt::Owner, Doubt::Writable, Doubt::Size];
const EXPIRIES: [Expiry; 3] = [Expiry::Valid, Expiry::Expired, Expiry::Unknown];

pub(crate) fn number<T: PartialEq>(known: &[T], value: &T) -> u8 {
    known.iter().position(|one| one == value).and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX)
}

pub(crate) fn known<T: Copy>(known: &[T], number: u8) -> Result<T, Malformed> {
    known.get(usize::from(number)).copied().ok_or(Malformed)
}

pub(crate) fn put_account(out: &mut Writer, account: &UserEntry) {
    out.text(&account.name);
    out.u32(account.uid);
    out.u32(account.gid);
    out.list(&account.groups, |out, group| out.u32(*group));
    out.path(&account.home);
    out.path(&account.shell);
    out.optional(account.name_of_uid.as_ref(), |out, name| out.text(name));
}

pub(crate) fn account(input: &mut Reader<'_>) -> Result<UserEntry, Malformed> {
    Ok(UserEntry {
        name: input.text()?,
        uid: input.u32()?,
        gid: input.u32()?,
        groups: input.list(MAX_GROUPS, Reader::u32)?,
        home: input.path()?,
        shell: input.path()?,
        name_of_uid: input.optional(Reader::text)?,
    })
}

pub(crate) fn put_group(out: &mut Writer, group: &GroupEntry) {
    out.u32(group.gid);
    out.list(&group.members, |out, member| out.text(member));
}

pub(crate) fn group(input: &mut Reader<'_>) -> Result<GroupEntry, Malformed> {
    Ok(GroupEntry { gid: input.u32()?, members: input.list(MAX_MEMBERS, Reader::text)? })
}

pub(crate) fn put_fetch(out: &mut Writer, fetch: &Fetch) {
    out.path(&fetch.directory);
    out.flag(fetch.writes);
    out.path(&fetch.program);
    out.words(&fetch.argv);
    out.optional(fetch.input.as_ref(), |out, input| out.bytes(input));
    out.u32(u32::try_from(fetch.limit).unwrap_or(u32::MAX));
    out.u32(u32::try_from(fetch.patience.as_millis()).unwrap_or(u32::MAX));
}

pub(crate) fn fetch(input: &mut Reader<'_>) -> Result<Fetch, Malformed> {
    Ok(Fetch {
        directory: input.path()?,
        writes: input.flag()?,
        program: input.path()?,
        argv: input.words()?,
        input: input.optional(|input| Ok(input.bytes()?.to_vec()))?,
        limit: usize::try_from(input.u32()?).map_err(|_| Malformed)?,
        patience: Duration::from_millis(input.u32()?.into()),
    })
}

pub(crate) fn put_validate(out: &mut Writer, validate: &Validate) {
    out.path(&validate.script);
    out.optional(validate.sha256.as_ref(), |out, digest| out.text(digest));
    out.text(&validate.user);
    out.words(&validate.argv);
    out.words(&validate.environment);
    out.u64(validate.seconds);
}

pub(crate) fn validate(input: &mut Reader<'_>) -> Result<Validate, Malformed> {
    Ok(Validate {
        script: input.path()?,
        sha256: input.optional(Reader::text)?,
        user: input.text()?,
        argv: input.words()?,
        environment: input.words()?,
        seconds: input.u64()?,
    })
}

pub(crate) fn put_report(out: &mut Writer, report: &Report) {
    out.u32(report.uid);
    out.message(&report.said);
}

pub(crate) fn report(input: &mut Reader<'_>) -> Result<Report, Malformed> {
    Ok(Report { uid: input.u32()?, said: input.message()? })
}

pub(crate) fn put_expiry(out: &mut Writer, expiry: Expiry) {
    out.u8(number(&EXPIRIES, &expiry));
}

pub(crate) fn expiry(input: &mut Reader<'_>) -> Result<Expiry, Malformed> {
    known(&EXPIRIES, input.u8()?)
}

pub(crate) fn put_person(out: &mut Writer, person: &PersonFile) {
    out.path(&person.path);
    out.bytes(&person.bytes);
}

pub(crate) fn person(input: &mut Reader<'_>) -> Result<PersonFile, Malformed> {
    Ok(PersonFile { path: input.path()?, bytes: input.bytes()?.to_vec() })
}

pub(crate) fn put_own_file(out: &mut Writer, file: &OwnFile) {
    match file {
        OwnFile::Missing => out.u8(0),
        OwnFile::Doubted(doubt) => {
            out.u8(1);
            out.u8(number(&DOUBTS, doubt));
        }
        OwnFile::Content(content) => {
            out.u8(2);
            out.bytes(content);
        }
    }
}

pub(crate) fn own_file(input: &mut Reader<'_>) -> Result<OwnFile, Malformed> {
    match input.u8()? {
        0 => Ok(OwnFile::Missing),
        1 => Ok(OwnFile::Doubted(known(&DOUBTS, input.u8()?)?)),
        2 => Ok(OwnFile::Content(input.bytes()?.to_vec())),
        _ => Err(Malformed),
    }
}

pub(crate) fn put_nologin(out: &mut Writer, nologin: &Nologin) {
    out.path(&nologin.file);
    out.text(&nologin.text);
}

pub(crate) fn nologin(input: &mut Reader<'_>) -> Result<Nologin, Malformed> {
    Ok(Nologin { file: input.path()?, text: input.text()? })
}

pub(crate) fn put_destination(out: &mut Writer, destination: &Destination) {
    match destination {
        Destination::File(path) => {
            out.u8(0);
            out.path(path);
        }
        Destination::Journal => out.u8(1),
        Destination::Syslog => out.u8(2),
        Destination::Udp(address) => {
            out.u8(3);
            out.text(&address.to_string());
        }
        Destination::Tcp(address) => {
            out.u8(4);
            out.text(&address.to_string());
        }
    }
}

pub(crate) fn destination(input: &mut Reader<'_>) -> Result<Destination, Malformed> {
    let address = |input: &mut Reader<'_>| input.text()?.parse::<SocketAddr>().map_err(|_| Malformed);
    Ok(match input.u8()? {
        0 => Destination::File(input.path()?),
        1 => Destination::Journal,
        2 => Destination::Syslog,
        3 => Destination::Udp(address(input)?),
        4 => Destination::Tcp(address(input)?),
        _ => return Err(Malformed),
    })
}

pub(crate) fn put_turn(out: &mut Writer, turn: Turn) {
    match turn {
        Turn::Write(left_out) => {
            out.u8(0);
            out.u64(left_out);
        }
        Turn::LeaveOut => out.u8(1),
    }
}

pub(crate) fn turn(input: &mut Reader<'_>) -> Result<Turn, Malformed> {
    match input.u8()? {
        0 => Ok(Turn::Write(input.u64()?)),
        1 => Ok(Turn::LeaveOut),
        _ => Err(Malformed),
    }
}
