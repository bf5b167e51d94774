//! What is in a tree: read by descriptors, one component at a time, so that no link of the tree leads out of it.
//!
//! The bytes are strangers'. Nothing here executes or changes any of them but device nodes, which are removed.

use super::words::escaped;
use crate::output::CtlError;
use aws_lc_rs::digest::{Context, SHA256};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Deeper trees are refused: each level costs a descriptor.
const DEEPEST: usize = 200;
/// The longest file that is read as text, in bytes.
const MAX_TEXT: u64 = 64 << 20;
/// The longest file of a tree and all of them together, in bytes as they say themselves: a file without blocks takes as long to read.
const MAX_FILE: u64 = 64 << 30;
const MAX_TOTAL: u64 = 256 << 30;
/// The longest list of a tree, in bytes.
pub(super) const MAX_LIST: usize = 512 << 20;

/// Asked while something long goes on; an error ends it.
pub(super) type GoOn<'g> = dyn Fn() -> Result<(), CtlError> + 'g;

/// All entries of a tree, one line each, and what they amount to.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// In the order of their paths.
    entries: Vec<(String, String)>,
    /// Of all files, in bytes.
    pub(super) size: u64,
}

impl Contents {
    /// The list that the digest of a tree is of.
    pub(super) fn text(&self) -> String {
        self.entries.iter().map(|(path, facts)| format!("{path} {facts}\n")).collect()
    }
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn failed(path: &[u8], e: impl std::fmt::Display) -> CtlError {
    CtlError::new(format!("/{} of the tree: {e}", String::from_utf8_lossy(path)))
}

fn open(tree: &Path) -> Result<OwnedFd, CtlError> {
    openat(AT_FDCWD, tree, DIRECTORY, Mode::empty())
        .map_err(|e| CtlError::new(format!("{}: {e}", tree.display())))
}

fn kind(stat: &FileStat) -> libc::mode_t {
    stat.st_mode & libc::S_IFMT
}

fn is_device(stat: &FileStat) -> bool {
    matches!(kind(stat), libc::S_IFBLK | libc::S_IFCHR)
}

fn names(directory: &OwnedFd) -> nix::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::openat(directory.as_fd(), ".", DIRECTORY, Mode::empty())?.iter() {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Gets a directory, a name in it, the path of that, and its facts.
type Visit<'v> = dyn FnMut(&OwnedFd, &[u8], &[u8], &FileStat) -> Result<(), CtlError> + 'v;

/// Calls `visit` with each entry: its directory, its name and its path. Directories come before what is in them.
fn walk(
    directory: &OwnedFd,
    path: &mut Vec<u8>,
    depth: usize,
    visit: &mut Visit<'_>,
) -> Result<(), CtlError> {
    if depth > DEEPEST {
        return Err(failed(path, format!("it is deeper than {DEEPEST} directories; use another source")));
    }
    for name in names(directory).map_err(|e| failed(path, e))? {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let stat =
            fstatat(directory, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| failed(path, e))?;
        visit(directory, &name, path, &stat)?;
        if kind(&stat) == libc::S_IFDIR {
            let below =
                openat(directory, name.as_slice(), DIRECTORY, Mode::empty()).map_err(|e| failed(path, e))?;
            walk(&below, path, depth + 1, visit)?;
        }
        path.truncate(length);
    }
    Ok(())
}

/// Removes all device nodes, and returns those that no machine needs: a machine has a `/dev` of its own, and on the host a node gives its
/// device to everybody whom its mode lets in.
pub(super) fn remove_devices(tree: &Path, go_on: &GoOn<'_>) -> Result<Vec<String>, CtlError> {
    let mut odd = Vec::new();
    walk(&open(tree)?, &mut Vec::new(), 0, &mut |directory, name, path, stat| {
        go_on()?;
        if is_device(stat) {
            unlinkat(directory, name, UnlinkatFlags::NoRemoveDir).map_err(|e| failed(path, e))?;
            if !path.starts_with(b"dev/") {
                odd.push(escaped(path));
            }
        }
        Ok(())
    })?;
    odd.sort();
    Ok(odd)
}

/// The top of a tree while programs run in it, some of them without root.
pub(super) const OPEN: u32 = 0o755;
/// The same when it is whole. Its setuid programs are not kept up to date as the host's are, and no account of the host reaches them. A
/// machine does not see this mode: the top of its overlay is that of the upper layer.
pub(super) const CLOSED: u32 = 0o700;

/// Gives the top of the tree to root alone, with this mode: an archive has an entry for it as well.
pub(super) fn take_over(tree: &Path, mode: u32) -> Result<(), CtlError> {
    let directory = open(tree)?;
    let done = fchown(&directory, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))
        .and_then(|()| fchmod(&directory, Mode::from_bits_truncate(mode)));
    done.map_err(|e| CtlError::new(format!("{}: {e}", tree.display())))
}

/// Reads everything. `go_on` is asked before each entry and each part of a file.
pub(super) fn contents(tree: &Path, go_on: &GoOn<'_>) -> Result<Contents, CtlError> {
    let mut contents = Contents::default();
    let mut length = 0;
    let top = open(tree)?;
    let stat = fstat(&top).map_err(|e| failed(b"", e))?;
    contents.entries.push((".".to_owned(), facts(&stat, "d", 0, "-")));
    walk(&top, &mut Vec::new(), 0, &mut |directory, name, path, stat| {
        go_on()?;
        if kind(stat) == libc::S_IFREG {
            let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            if size > MAX_FILE {
                let most = MAX_FILE >> 30;
                return Err(failed(path, format!("it is longer than {most} GiB; use a source without it")));
            }
            contents.size += size;
            if contents.size > MAX_TOTAL {
                let most = MAX_TOTAL >> 30;
                return Err(failed(
                    path,
                    format!("with it the files have more than {most} GiB; use a smaller source"),
                ));
            }
        }
        let said = describe(directory, name, stat, path, go_on)?;
        let path = escaped(path);
        length += path.len() + said.len() + 2;
        if length > MAX_LIST {
            return Err(CtlError::new(format!(
                "the names of the tree's files take more than {} MiB; use a source with fewer files",
                MAX_LIST >> 20
            )));
        }
        contents.entries.push((path, said));
        Ok(())
    })?;
    contents.entries.sort();
    Ok(contents)
}

fn facts(stat: &FileStat, kind: &str, size: i64, more: &str) -> String {
    format!("{kind} {:04o} {} {} {size} {more}", stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

/// Opens a regular file. It is looked at before it is opened: to open a device does something already, and a FIFO waits.
fn open_regular(directory: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let place = openat(directory, name, flags, Mode::empty())?;
    if kind(&fstat(&place)?) != libc::S_IFREG {
        return Err(io::Error::other("not a regular file"));
    }
    let again = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    Ok(File::from(openat(AT_FDCWD, again.as_str(), flags, Mode::empty())?))
}

fn describe(
    directory: &OwnedFd,
    name: &[u8],
    stat: &FileStat,
    path: &[u8],
    go_on: &GoOn<'_>,
) -> Result<String, CtlError> {
    Ok(match kind(stat) {
        libc::S_IFDIR => facts(stat, "d", 0, "-"),
        libc::S_IFLNK => {
            let target = readlinkat(directory, name).map_err(|e| failed(path, e))?;
            facts(stat, "l", 0, &escaped(std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str())))
        }
        libc::S_IFREG => {
            let file = open_regular(directory, name).map_err(|e| failed(path, e))?;
            let sum = sum(&file, |e| failed(path, e), go_on)?;
            // File capabilities make a program as powerful as a setuid bit does.
            let capabilities = match xattr::FileExt::get_xattr(&file, "security.capability") {
                Ok(Some(value)) => format!(" {}", hex(&value)),
                Ok(None) => String::new(),
                Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
                Err(e) => return Err(failed(path, e)),
            };
            facts(stat, "f", stat.st_size, &format!("{sum}{capabilities}"))
        }
        libc::S_IFIFO => facts(stat, "p", 0, "-"),
        libc::S_IFSOCK => facts(stat, "s", 0, "-"),
        _ => facts(stat, "device", 0, &stat.st_rdev.to_string()),
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of what is left of a file.
fn sum(file: &File, failed: impl Fn(io::Error) -> CtlError, go_on: &GoOn<'_>) -> Result<String, CtlError> {
    copy(file, &mut io::sink(), failed, go_on)
}

/// Copies what is left of a file, and returns its SHA-256.
pub(super) fn copy(
    mut file: &File,
    to: &mut dyn Write,
    failed: impl Fn(io::Error) -> CtlError,
    go_on: &GoOn<'_>,
) -> Result<String, CtlError> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        go_on()?;
        let n = file.read(&mut buffer).map_err(&failed)?;
        if n == 0 {
            return Ok(hex(context.finish().as_ref()));
        }
        length += u64::try_from(n).unwrap_or(u64::MAX);
        if length > MAX_FILE {
            return Err(failed(io::Error::other(format!("it is longer than {} GiB", MAX_FILE >> 30))));
        }
        let part = buffer.get(..n).unwrap_or_default();
        context.update(part);
        to.write_all(part).map_err(&failed)?;
    }
}

/// The first difference between a list and a tree, in words.
pub(super) fn difference(list: &str, now: &Contents) -> Option<String> {
    let before: Vec<(&str, &str)> = list.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut before = before.into_iter().peekable();
    let mut now = now.entries.iter().peekable();
    loop {
        let (old, new) = match (before.peek(), now.peek()) {
            (None, None) => return None,
            (Some((path, _)), None) => return Some(format!("/{path} is missing")),
            (None, Some((path, _))) => return Some(format!("/{path} was added")),
            (Some(old), Some(new)) => (*old, *new),
        };
        if old.0 < new.0.as_str() {
            return Some(format!("/{} is missing", old.0));
        }
        if old.0 > new.0.as_str() {
            return Some(format!("/{} was added", new.0));
        }
        if old.1 != new.1 {
            let path = if old.0 == "." { "the tree's top".to_owned() } else { format!("/{}", old.0) };
            return Some(format!("{path}: {}", changed(old.1, &new.1)));
        }
        before.next();
        now.next();
    }
}

fn changed(old: &str, new: &str) -> String {
    const NAMES: [&str; 7] = ["type", "mode", "owner", "group", "size", "content", "capabilities"];
    let fields = |text: &str| -> Vec<String> {
        let mut fields: Vec<String> = text.split(' ').map(str::to_owned).collect();
        fields.resize(NAMES.len(), "none".to_owned());
        fields
    };
    let (before, now) = (fields(old), fields(new));
    let mut all = NAMES.iter().zip(before.iter().zip(&now)).filter(|(_, (a, b))| a != b);
    let is_link = old.starts_with('l');
    all.next().map_or_else(
        || "it differs".to_owned(),
        |(name, (a, b))| match *name {
            "content" if is_link => format!("it was a link to {a}, and leads to {b} now"),
            "content" => "its content was changed".to_owned(),
            name => format!("its {name} was {a}, and is {b} now"),
        },
    )
}

/// A file of a tree, by a path without links.
fn inside(tree: &OwnedFd, path: &str) -> nix::Result<Option<(OwnedFd, Vec<u8>)>> {
    let mut directory = tree.try_clone().map_err(|_| Errno::EMFILE)?;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return match fstatat(&directory, part, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(_) => Ok(Some((directory, part.as_bytes().to_vec()))),
                Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
                Err(e) => Err(e),
            };
        }
        directory = match openat(&directory, part, DIRECTORY, Mode::empty()) {
            Ok(below) => below,
            // A link is ENOTDIR or ELOOP here.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            Err(e) => return Err(e),
        };
    }
    Ok(None)
}

fn exists(tree: &OwnedFd, path: &str) -> bool {
    inside(tree, path).is_ok_and(|found| found.is_some())
}

fn text_of(tree: &OwnedFd, path: &str) -> Option<String> {
    let (directory, name) = inside(tree, path).ok()??;
    let file = open_regular(&directory, &name).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a tree says of itself.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// `PRETTY_NAME` of os-release(5).
    pub(super) os: Option<String>,
    /// `VERSION_CODENAME`.
    pub(super) suite: Option<String>,
    /// How many dpkg has installed. The database of rpm is no text, and rpm(8) would open what is in the tree by the tree's own settings.
    pub(super) packages: Option<u64>,
}

/// Reads them.
///
/// # Errors
/// If the tree cannot boot, with what it lacks.
pub(super) fn judge(tree: &Path) -> Result<Facts, CtlError> {
    let top = open(tree)?;
    let release = ["usr/lib/os-release", "etc/os-release"].iter().find_map(|path| text_of(&top, path));
    let Some(release) = release else {
        return Err(CtlError::new(
            "the tree does not boot: it has no usr/lib/os-release, so it is no system; a source holds a whole file system, with `etc` and \
             `usr` at its top",
        ));
    };
    let inits = ["usr/lib/systemd/systemd", "lib/systemd/systemd", "sbin/init", "usr/sbin/init"];
    if !inits.iter().any(|path| exists(&top, path)) {
        return Err(CtlError::new(
            "the tree does not boot: it has neither systemd nor /sbin/init; add `systemd-sysv` and `dbus` (Debian), `systemd` and \
             `dbus-broker` (Fedora, RHEL) or `openrc` (Alpine) to the image, or install them by a hook",
        ));
    }
    let status = text_of(&top, "var/lib/dpkg/status");
    let installed = |status: &String| {
        let count = status.lines().filter(|line| *line == "Status: install ok installed").count();
        u64::try_from(count).unwrap_or(0)
    };
    Ok(Facts {
        os: value(&release, "PRETTY_NAME"),
        suite: value(&release, "VERSION_CODENAME"),
        packages: status.as_ref().map(installed),
    })
}

/// A value of os-release(5), without its quotes.
fn value(release: &str, name: &str) -> Option<String> {
    let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    let text: String = line.trim().trim_matches(['"', '\'']).chars().take(200).collect();
    Some(text).filter(|text| !text.is_empty())
}

/// The tree of a version.
pub(super) fn of(version: &Path) -> PathBuf {
    version.join("tree")
}
