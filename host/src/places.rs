//! Where audit events go: opened with privilege, written to without.
//!
//! The file and the local sockets are opened while the process may, so that the shepherd can write a stage's end after it
//! has given up every right. Remote daemons are connected to for each event: anybody may, and a connection that was held
//! through a job could be dead without notice.

use crate::rights::Rights;
use crate::unverified::{self, Turn};
use nunbird_files::directory::Directory;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_files::lines::Lines;
use nunbird_files::trusted::open_trusted_directory;
use nunbird_sys::clock;
use nunbird_wire::choice;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one place may hold an event up, for each of connecting and writing.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of every host with systemd.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Of every host with a syslog daemon.
const LOG: &str = "/dev/log";

/// A place for audit events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file of lines, in a directory of root's.
    File(PathBuf),
    /// systemd-journald's native socket.
    Journal,
    /// The local syslog daemon's socket.
    Syslog,
    /// A daemon by datagrams (RFC 5426).
    Udp(SocketAddr),
    /// A daemon by a stream with octet counting (RFC 6587).
    Tcp(SocketAddr),
}

choice!(Destination { 0 => File(path), 1 => Journal, 2 => Syslog, 3 => Udp(address), 4 => Tcp(address) });

impl Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::File(path) => write!(f, "{}", path.display()),
            Destination::Journal => f.write_str(JOURNAL),
            Destination::Syslog => f.write_str(LOG),
            Destination::Udp(address) => write!(f, "udp://{address}"),
            Destination::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Sockets of this host.
#[derive(Debug, Clone, Copy)]
pub struct Sockets<'a> {
    /// journald's.
    pub journal: &'a Path,
    /// The syslog daemon's.
    pub log: &'a Path,
}

/// One place, open.
#[derive(Debug)]
enum Place {
    File(PathBuf, Lines),
    Local(Datagrams),
    Udp(SocketAddr),
    Tcp(SocketAddr),
}

/// Places, open as far as they could be, by their numbers.
#[derive(Debug, Default)]
pub struct Places(Vec<Result<Place, String>>);

impl Places {
    /// Opens each of them.
    pub fn open(destinations: &[Destination], rights: Rights) -> Self {
        Self::open_at(destinations, rights, Sockets { journal: Path::new(JOURNAL), log: Path::new(LOG) })
    }

    /// The same with other sockets.
    pub fn open_at(destinations: &[Destination], rights: Rights, sockets: Sockets<'_>) -> Self {
        let local = |path: &Path| {
            let opened = acting_as(rights.keeper, || Datagrams::open(path)).flatten();
            opened.map(Place::Local).map_err(|e| format!("{}: {e}", path.display()))
        };
        let open = |destination: &Destination| match destination {
            Destination::Udp(address) => Ok(Place::Udp(*address)),
            Destination::Tcp(address) => Ok(Place::Tcp(*address)),
            Destination::Journal => local(sockets.journal),
            Destination::Syslog => local(sockets.log),
            Destination::File(path) => open_file(path, rights)
                .map(|lines| Place::File(path.clone(), lines))
                .map_err(|e| format!("{}: {e}", path.display())),
        };
        Places(destinations.iter().map(open).collect())
    }

    /// Why each of them could not be opened; none for one that is open.
    pub fn closed(&self) -> Vec<Option<String>> {
        self.0.iter().map(|place| place.as_ref().err().cloned()).collect()
    }

    /// Sends an event to the place of this number.
    ///
    /// # Errors
    /// The place, and why it does not have the event.
    pub fn send(&self, index: usize, bytes: &[u8], durably: bool) -> Result<(), String> {
        let place = match self.0.get(index) {
            Some(Ok(place)) => place,
            Some(Err(trouble)) => return Err(trouble.clone()),
            None => return Err("no such place".to_owned()),
        };
        place.send(bytes, durably).map_err(|e| format!("{place}: {e}"))
    }
}

impl Place {
    fn send(&self, bytes: &[u8], durably: bool) -> io::Result<()> {
        match self {
            Place::File(_, lines) => {
                lines.append(bytes)?;
                if durably { lines.sync() } else { Ok(()) }
            }
            Place::Local(socket) => socket.send(bytes),
            Place::Udp(address) => send_udp(*address, bytes),
            Place::Tcp(address) => send_tcp(*address, bytes),
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::File(path, _) => write!(f, "{}", path.display()),
            Place::Local(socket) => write!(f, "{}", socket.path.display()),
            Place::Udp(address) => write!(f, "udp://{address}"),
            Place::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

fn open_file(path: &Path, rights: Rights) -> io::Result<Lines> {
    let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
    let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    acting_as(rights.keeper, || {
        let fd = open_trusted_directory(parent, &rights.trusted_owners()).map_err(io::Error::other)?;
        Directory::new(fd).lines(name, rights.keeper.uid)
    })?
}

/// Whether a refusal of a call without a verified identity is written, counted beside this audit file.
///
/// # Errors
/// Where it cannot be counted: it must not be written then.
pub fn turn(file: &Path, rights: Rights) -> Result<Turn, String> {
    let count = || {
        let parent = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
        acting_as(rights.keeper, || {
            let fd = open_trusted_directory(parent, &rights.trusted_owners()).map_err(io::Error::other)?;
            unverified::turn(&Directory::new(fd), rights.caller.uid, clock::now()?)
        })?
    };
    count().map_err(|e| format!("counter beside {}: {e}", file.display()))
}

/// Sends a line to the local syslog daemon with the caller's rights, as logger(1) does: any account may send such a line, so it proves
/// nothing. A process that has given up its privileges has no more than those. Without a daemon there is no place that is left.
pub fn to_syslog(line: &[u8], caller: Option<Caller>) {
    let send = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to(line, LOG)
    };
    if caller.is_none_or(|caller| acting_as(caller, send).is_err()) {
        let _nobody_listens = send();
    }
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
    // On this host a port without a listener answers at once; a remote one later or never.
    socket.take_error()?.map_or(Ok(()), Err)
}

fn send_tcp(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one write: RFC 6587 section 3.4.1.
    stream.write_all(&[format!("{} ", bytes.len()).as_bytes(), bytes].concat())
}
