//! Where events go: opened with privilege, written to without.
//!
//! The file and the local sockets are opened while the process may, so that the shepherd can write a stage's end after it
//! has given up every right. Remote daemons are connected to for each event: anybody may, and a connection that was held
//! through a job could be dead without anybody noticing.

use super::encode;
use super::event::Event;
use super::unverified::{self, Turn};
use crate::privilege::Privilege;
use nunbird_files::directory::Directory;
use nunbird_files::identity::FileIdentity;
use nunbird_files::lines::Lines;
use nunbird_files::trusted::open_trusted_directory;
use nunbird_handover::{Audit, Syslog};
use nunbird_sys::clock;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one sink may hold an event up, for each of connecting and writing.
const PATIENCE: Duration = Duration::from_secs(1);

/// The sockets of this host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) journal: &'a str,
    pub(super) log: &'a str,
}

/// Of every host with systemd, and with a syslog daemon.
const PLACES: Places<'_> = Places { journal: "/run/systemd/journal/socket", log: "/dev/log" };

/// One place where events go, open.
#[derive(Debug)]
enum Sink {
    File(PathBuf, Lines),
    Journal(Datagrams),
    Log(Datagrams),
    Udp(SocketAddr),
    Tcp(SocketAddr),
}

/// All places where events of a job go.
#[derive(Debug, Default)]
pub(crate) struct Sinks {
    /// Remote ones first and the file last: what fails is written down where it still can be.
    open: Vec<Sink>,
    /// Those that could not be opened, and why.
    closed: Vec<String>,
    pub(crate) required: bool,
}

impl Sinks {
    /// Opens every sink that is set. One that cannot be opened is a trouble of every event.
    pub(crate) fn open(audit: &Audit, privilege: Privilege) -> Self {
        Self::open_at(audit, privilege, PLACES)
    }

    pub(super) fn open_at(audit: &Audit, privilege: Privilege, places: Places<'_>) -> Self {
        let mut sinks = Sinks { required: audit.required, ..Sinks::default() };
        let local = |path: &str, sink: fn(Datagrams) -> Sink| {
            let opened = as_keeper(privilege, || Datagrams::open(Path::new(path)));
            opened.map(sink).map_err(|e| format!("{path}: {e}"))
        };
        match audit.syslog {
            None => {}
            Some(Syslog::Local) => sinks.add(local(places.log, Sink::Log)),
            Some(Syslog::Udp(address)) => sinks.add(Ok(Sink::Udp(address))),
            Some(Syslog::Tcp(address)) => sinks.add(Ok(Sink::Tcp(address))),
        }
        if audit.journald {
            sinks.add(local(places.journal, Sink::Journal));
        }
        if let Some(path) = &audit.file {
            let opened = open_file(path, privilege);
            sinks.add(
                opened
                    .map(|lines| Sink::File(path.clone(), lines))
                    .map_err(|e| format!("{}: {e}", path.display())),
            );
        }
        sinks
    }

    /// Whether the site has set no place at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty()
    }

    fn add(&mut self, opened: Result<Sink, String>) {
        match opened {
            Ok(sink) => self.open.push(sink),
            Err(trouble) => self.closed.push(trouble),
        }
    }

    /// Writes an event to every sink.
    ///
    /// # Errors
    /// The sinks that do not have it, and why, one a line; the others have it.
    pub(crate) fn write(&self, event: &Event<'_>, durably: bool) -> Result<(), String> {
        let mut troubles = self.closed.clone();
        for sink in &self.open {
            let known = event.not_written.iter().chain(&troubles).map(String::as_str);
            let not_written = Some(known.collect::<Vec<_>>().join("; ")).filter(|all| !all.is_empty());
            if let Err(e) = sink.send(&Event { not_written, ..event.clone() }, durably) {
                troubles.push(format!("{sink}: {e}"));
            }
        }
        if troubles.is_empty() { Ok(()) } else { Err(troubles.join("\n")) }
    }
}

impl Sink {
    fn send(&self, event: &Event<'_>, durably: bool) -> io::Result<()> {
        match self {
            Sink::File(_, lines) => {
                lines.append(&encode::json_line(event)?)?;
                if durably { lines.sync() } else { Ok(()) }
            }
            Sink::Journal(socket) => socket.send(&encode::journal(event)?),
            Sink::Log(socket) => socket.send(&encode::syslog_local(event)?),
            Sink::Udp(address) => send_udp(*address, &encode::syslog_5424(event)?),
            Sink::Tcp(address) => send_tcp(*address, &encode::syslog_5424(event)?),
        }
    }
}

impl Display for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sink::File(path, _) => write!(f, "{}", path.display()),
            Sink::Journal(socket) | Sink::Log(socket) => write!(f, "{}", socket.path.display()),
            Sink::Udp(address) => write!(f, "udp://{address}"),
            Sink::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

fn as_keeper<T>(privilege: Privilege, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let keeper = privilege.keeper();
    let _identity = FileIdentity::assume(keeper.uid, keeper.gid)?;
    act()
}

fn open_file(path: &Path, privilege: Privilege) -> io::Result<Lines> {
    let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
    let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    as_keeper(privilege, || {
        let fd = open_trusted_directory(parent, &privilege.trusted_owners()).map_err(io::Error::other)?;
        Directory::new(fd).lines(name, privilege.keeper().uid)
    })
}

/// Whether a refusal of a call without a verified identity is written, counted beside this audit file.
///
/// # Errors
/// As [`unverified::turn`], and where the directory is not root's alone.
pub(crate) fn turn(file: &Path, privilege: Privilege) -> io::Result<Turn> {
    let parent = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    as_keeper(privilege, || {
        let fd = open_trusted_directory(parent, &privilege.trusted_owners()).map_err(io::Error::other)?;
        unverified::turn(&Directory::new(fd), privilege.caller.uid, clock::now()?)
    })
}

/// A socket of a daemon on this host.
#[derive(Debug)]
struct Datagrams {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Datagrams {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Datagrams { path: path.to_path_buf(), socket: connect(path)? })
    }

    /// Once more by the path, when the daemon has made a new socket meanwhile: anybody may connect to it.
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self.socket.send(bytes) {
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected) => {
                connect(&self.path)?.send(bytes).map(drop)
            }
            other => other.map(drop),
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    // A daemon that hangs must not hang a job.
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn send_udp(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send(bytes)?;
    // On this host a port that nobody listens on answers at once; a remote one later or never.
    socket.take_error()?.map_or(Ok(()), Err)
}

fn send_tcp(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one write: RFC 6587 section 3.4.1.
    stream.write_all(&[format!("{} ", bytes.len()).as_bytes(), bytes].concat())
}
