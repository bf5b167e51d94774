//! systemd, asked for the transient units of CI jobs by two calls: `StartTransientUnit` and `StopUnit`
//! (org.freedesktop.systemd1(5)).
//!
//! `nunbird-auth` calls it as root, before it gives privilege up, over `/run/systemd/private`: process 1 itself listens there and
//! answers to root alone, and no bus daemon is between them. Who listens is proven by the kernel (`SO_PEERCRED`, unix(7)). A call
//! that is accepted has only been queued: that it came about is read from the kernel's files, in [`crate`].

mod message;
mod reply;
#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;

pub use reply::{Reply, read_reply};

use crate::{Amounts, Way};
use message::Value;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nunbird_sys::peer;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where systemd listens for root.
pub const SOCKET: &str = "/run/systemd/private";
/// The longest line of its greeting, in bytes.
const MOST_GREETING: usize = 200;
/// The error of systemd for a property that it does not know.
const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";
/// The error of systemd for a unit that is not loaded.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Why systemd did not do what was asked.
#[derive(Debug)]
pub enum Trouble {
    /// Nobody listens at [`SOCKET`].
    Absent(io::Error),
    /// The listener is another process than the first, or not root's: its process and user id.
    Stranger(i32, u32),
    /// The conversation broke off: at which step, and how.
    Talk(&'static str, io::Error),
    /// It refused: which call, the error's name, and its words, as they came.
    Refused(&'static str, String, String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Absent(e) => {
                write!(
                    f,
                    "{SOCKET}: {e}: systemd is not the first process of this host, or this is a container"
                )
            }
            Trouble::Stranger(pid, uid) => {
                write!(f, "{SOCKET}: process {pid} of uid {uid} listens there, and not systemd as process 1")
            }
            Trouble::Talk(step, e) => write!(f, "{SOCKET}: {step}: {e}"),
            Trouble::Refused(call, name, words) => write!(f, "systemd refused {call}: {words} ({name})"),
        }
    }
}

impl std::error::Error for Trouble {}

/// A conversation with systemd.
#[derive(Debug)]
pub struct Systemd {
    stream: UnixStream,
    deadline: Instant,
    serial: u32,
}

impl Systemd {
    /// Connects, for calls until `deadline`. The effective user must be root.
    ///
    /// # Errors
    /// [`Trouble::Absent`] and [`Trouble::Stranger`]; [`Trouble::Talk`] when systemd does not take this process for root.
    pub fn connect(deadline: Instant) -> Result<Self, Trouble> {
        let stream = peer::connect(Path::new(SOCKET), left(deadline)).map_err(Trouble::Absent)?;
        // Its process id is 0 where it is in a pid namespace that this process does not see.
        let peer = getsockopt(&stream, PeerCredentials).map_err(|e| Trouble::Absent(e.into()))?;
        if (peer.pid(), peer.uid()) != (1, 0) {
            return Err(Trouble::Stranger(peer.pid(), peer.uid()));
        }
        let mut systemd = Systemd { stream, deadline, serial: 0 };
        systemd.greet().map_err(|e| Trouble::Talk("the greeting", e))?;
        Ok(systemd)
    }

    /// "Authentication Protocol" of the D-Bus specification. systemd compares the uid, 0 as the hexadecimal digits of its
    /// text, with the one that the kernel reports.
    ///
    /// All in one piece, as systemd's own programs do it: a whole call that arrives together with the last line lies there
    /// until something else comes (seen with 252), and systemd has read that line when it answers the first.
    fn greet(&mut self) -> io::Result<()> {
        self.send(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n")?;
        let mut line = Vec::new();
        // Nothing follows this line before the first call.
        while !line.ends_with(b"\r\n") && line.len() < MOST_GREETING {
            let mut piece = [0; MOST_GREETING];
            match Timed(self).read(&mut piece)? {
                0 => break,
                length => line.extend(piece.get(..length).unwrap_or_default()),
            }
        }
        if line.starts_with(b"OK ") && line.ends_with(b"\r\n") {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "this process is not taken for root"))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(left(self.deadline)))?;
        self.stream.write_all(bytes)
    }

    fn ask(&mut self, what: &'static str, message: &[u8]) -> Result<(), Trouble> {
        self.send(message).map_err(|e| Trouble::Talk(what, e))?;
        let serial = self.serial;
        match read_reply(Timed(self), serial).map_err(|e| Trouble::Talk(what, e))? {
            Reply::Return => Ok(()),
            Reply::Error(name, words) => Err(Trouble::Refused(what, name, words)),
        }
    }

    fn start(&mut self, name: &str, properties: &[(&str, Value)]) -> Result<(), Trouble> {
        self.serial += 1;
        self.ask("StartTransientUnit", &message::start(self.serial, name, properties))
    }

    /// Has a slice started that carries these limits, with its processes counted. It stays until it is stopped.
    ///
    /// # Errors
    /// [`Trouble::Refused`] for a name that is there already and for properties that this systemd does not know.
    pub fn start_slice(
        &mut self,
        name: &str,
        description: &str,
        amounts: &Amounts,
        way: Way,
    ) -> Result<(), Trouble> {
        self.start(name, &slice_properties(description, amounts, way))
    }

    /// Has a scope started in a slice, with one process in it. It goes with its last process.
    ///
    /// Since version 253 systemd ends all processes of a scope when the kernel has killed one for want of memory; the other
    /// ways do not. Older ones do not have the property for that, and keep the name that they refused: hence a second.
    ///
    /// # Errors
    /// As [`Systemd::start_slice`].
    pub fn start_scope(
        &mut self,
        names: [&str; 2],
        description: &str,
        slice: &str,
        pid: u32,
    ) -> Result<(), Trouble> {
        let mut properties = scope_properties(description, slice, pid);
        let [first, second] = names;
        properties.push(("OOMPolicy", text("continue")));
        match self.start(first, &properties) {
            Err(Trouble::Refused(_, name, _)) if name == UNKNOWN_PROPERTY => {
                properties.pop();
                self.start(second, &properties)
            }
            other => other,
        }
    }

    /// Has a unit stopped, and what is in it. One that is not there is fine.
    ///
    /// # Errors
    /// [`Trouble::Refused`].
    pub fn stop(&mut self, name: &str) -> Result<(), Trouble> {
        self.serial += 1;
        match self.ask("StopUnit", &message::stop(self.serial, name)) {
            Err(Trouble::Refused(_, error, _)) if error == NO_SUCH_UNIT => Ok(()),
            other => other,
        }
    }
}

/// Reads until the deadline, which every message that is none of ours brings nearer.
struct Timed<'s>(&'s mut Systemd);

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.stream.set_read_timeout(Some(left(self.0.deadline)))?;
        self.0.stream.read(buffer)
    }
}

/// What is left; at least a millisecond, because none at all would mean for ever.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// systemd.resource-control(5). Not one stays in systemd's memory after it has ended, not even a failed one.
fn slice_properties(description: &str, amounts: &Amounts, way: Way) -> Vec<(&'static str, Value)> {
    let number = |name, amount: Option<u64>| amount.map(|amount| (name, Value::Number(amount)));
    // systemd would set five times a weight of version 2 on version 1, where it has a property of its own.
    let weight = if way == Way::Unified { "IOWeight" } else { "BlockIOWeight" };
    let limits = [
        number("MemoryMax", amounts.memory),
        number("MemorySwapMax", amounts.swap),
        // Microseconds of processor time in a second.
        number("CPUQuotaPerSecUSec", amounts.cpu.map(|thousandths| thousandths.saturating_mul(1000))),
        number("TasksMax", amounts.pids),
        number(weight, amounts.io_weight),
    ];
    let counted = ["MemoryAccounting", "TasksAccounting", "CPUAccounting"];
    let mut properties =
        vec![("Description", text(description)), ("CollectMode", text("inactive-or-failed"))];
    properties.extend(counted.map(|name| (name, Value::Flag(true))));
    properties.extend(limits.into_iter().flatten());
    properties
}

fn scope_properties(description: &str, slice: &str, pid: u32) -> Vec<(&'static str, Value)> {
    vec![
        ("Description", text(description)),
        ("CollectMode", text("inactive-or-failed")),
        ("Slice", text(slice)),
        // The slice's limit counts; systemd's default for units could be lower.
        ("TasksMax", Value::Number(u64::MAX)),
        ("PIDs", Value::Processes(vec![pid])),
    ]
}
