//! The runner's service in the host, and the way to it.
//!
//! `nbt-runner` is the half of gitlab-runner that calls the driver: a systemd service under the
//! runner's account that gets each call through a socket and runs it as its own child, in its own
//! process group. The other half, which knows the job, stays in the test ([`crate::runner`]) and
//! has `nbt-enter` in place of the driver's process: it forwards output, signals and the end.
//!
//! A call is one connection. It begins with the length (4 bytes, little endian) and the text of a
//! [`Spec`](crate::world::enter::Spec). The service sends frames: a kind, a length, bytes. The test sends a byte `T` for
//! SIGTERM to the group; the end of the connection before the end of the call is SIGKILL.

use crate::world::enter::Spec;
use nix::sys::signal::{SigSet, Signal, killpg, raise};
use nix::unistd::Pid;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// The exit code, 4 bytes.
const CODE: u8 = 3;
/// The signal that ended it, 4 bytes.
const SIGNAL: u8 = 4;

/// The exit code of a call whose service ended before it.
pub const SERVICE_ENDED: u8 = 126;

/// The whole of `nbt-runner SOCKET`: serves until it is ended.
pub fn main() -> ExitCode {
    let served = std::env::args_os().nth(1).ok_or_else(|| "no socket".to_owned());
    let Err(error) = served.and_then(|socket| serve(Path::new(&socket)));
    eprintln!("nbt-runner: {error}");
    ExitCode::FAILURE
}

fn serve(socket: &Path) -> Result<std::convert::Infallible, String> {
    // The socket of a service that ended before.
    let _absent = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(|e| e.to_string())?;
    if let Some(manager) = std::env::var_os("NOTIFY_SOCKET") {
        let shown = UnixDatagram::unbound().and_then(|s| s.send_to(b"READY=1", manager));
        shown.map_err(|e| format!("NOTIFY_SOCKET: {e}"))?;
    }
    loop {
        let (stream, _) = listener.accept().map_err(|e| format!("accept: {e}"))?;
        std::thread::spawn(move || {
            if let Err(error) = call(stream) {
                eprintln!("nbt-runner: {error}");
            }
        });
    }
}

/// Makes one call to its end.
fn call(mut stream: UnixStream) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut text = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut text)?;
    let spec: Spec = serde_json::from_slice(&text)?;
    let mut child = Command::new(&spec.program)
        .args(&spec.arguments)
        .env_clear()
        .envs(spec.environment.iter().map(|(k, v)| (k, v)))
        .current_dir(&spec.directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let frames = Arc::new(Mutex::new(stream.try_clone()?));
    let copies = [
        copy(child.stdout.take().expect("a pipe"), STDOUT, &frames),
        copy(child.stderr.take().expect("a pipe"), STDERR, &frames),
    ];
    let ended = Arc::new(Mutex::new(false));
    let (seen, commands) = (Arc::clone(&ended), stream.try_clone()?);
    std::thread::spawn(move || obey(commands, group, &seen));
    let status = child.wait()?;
    *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    let (kind, number) = status.code().map_or((SIGNAL, status.signal().unwrap_or(0)), |code| (CODE, code));
    frame(&frames, kind, &number.to_le_bytes())?;
    for copied in copies {
        copied.join().expect("a copying thread");
    }
    stream.shutdown(Shutdown::Both)
}

fn copy(
    mut from: impl Read + Send + 'static,
    kind: u8,
    frames: &Arc<Mutex<UnixStream>>,
) -> std::thread::JoinHandle<()> {
    let frames = Arc::clone(frames);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if frame(&frames, kind, &buffer[..n]).is_err() {
                break;
            }
        }
    })
}

fn frame(frames: &Mutex<UnixStream>, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let mut message = vec![kind];
    message.extend(u32::try_from(bytes.len()).expect("a short frame").to_le_bytes());
    message.extend(bytes);
    frames.lock().unwrap_or_else(PoisonError::into_inner).write_all(&message)
}

/// Signals the group as the test requests, as long as its id cannot have been reused.
fn obey(mut commands: UnixStream, group: Pid, ended: &Mutex<bool>) {
    let mut byte = [0];
    loop {
        let signal = match commands.read(&mut byte) {
            Ok(1) => Signal::SIGTERM,
            _ => Signal::SIGKILL,
        };
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ended && let Err(error) = killpg(group, signal) {
            eprintln!("nbt-runner: {signal} to the process group {group}: {error}");
        }
        if *ended || signal == Signal::SIGKILL {
            return;
        }
    }
}

/// `nbt-enter` in the place of a process of the host: has the service make the call, and ends as it ended.
pub(crate) fn stand_in(socket: &Path, spec: &Spec) -> Result<std::convert::Infallible, String> {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    term.thread_block().map_err(|e| format!("signals: {e}"))?;
    let lost = |e: io::Error| format!("the runner's service at {}: {e}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(lost)?;
    let text = serde_json::to_vec(spec).map_err(|e| e.to_string())?;
    let length = u32::try_from(text.len()).map_err(|e| e.to_string())?;
    stream.write_all(&length.to_le_bytes()).and_then(|()| stream.write_all(&text)).map_err(lost)?;
    let mut commands = stream.try_clone().map_err(lost)?;
    let waited = term;
    std::thread::spawn(move || while waited.wait().is_ok() && commands.write_all(b"T").is_ok() {});
    let end = pass_on(&mut stream);
    match end {
        Some((CODE, code)) => std::process::exit(code),
        Some((SIGNAL, number)) => {
            let signal = Signal::try_from(number).map_err(|e| format!("signal {number}: {e}"))?;
            term.thread_unblock().map_err(|e| format!("signals: {e}"))?;
            raise(signal).map_err(|e| format!("{signal}: {e}"))?;
            Err(format!("{signal} did not end it"))
        }
        _ => {
            eprintln!("nbt-enter: the runner's service ended before the call");
            std::process::exit(i32::from(SERVICE_ENDED))
        }
    }
}

/// Passes output on until the connection ends; returns how the call ended, when it did.
fn pass_on(stream: &mut UnixStream) -> Option<(u8, i32)> {
    let mut end = None;
    loop {
        let mut head = [0; 5];
        if stream.read_exact(&mut head).is_err() {
            return end;
        }
        let [kind, length @ ..] = head;
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        if stream.read_exact(&mut bytes).is_err() {
            return end;
        }
        // The test has given up and no longer reads.
        let _unread = match kind {
            STDOUT => io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush()),
            STDERR => io::stderr().write_all(&bytes),
            _ => {
                end = bytes.try_into().ok().map(|number| (kind, i32::from_le_bytes(number)));
                Ok(())
            }
        };
    }
}
