//! The programs that make a tree: each in namespaces of mounts and processes of its own, so that nothing that it mounts or starts is left
//! when it has ended or this process has, even by SIGKILL.

use crate::output::CtlError;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use nunbird_stage::signals::Signals;
use nunbird_unprivileged::job_command;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where programs are looked for, here and in trees.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Variables of the caller that programs get: how they reach the network.
const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
/// The free space in bytes below which a step is ended: an archive may hold more than there is.
const SPACE: u64 = 512 << 20;
/// The same for free inodes: an archive of empty files needs no space.
const INODES: u64 = 10_000;
/// How long one program may run.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// How long a program may take for a short answer, and how long the answer may be in bytes.
const SOON: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 64 << 10;
/// The longest log of a version, in bytes.
const MAX_LOG: u64 = 256 << 20;
/// What an error says after a signal.
pub(super) const INTERRUPTED: &str = "interrupted; nothing was changed";
/// How long processes may take to die.
const DYING: Duration = Duration::from_secs(10);
/// How much of a program's output an error has.
const LAST_LINES: usize = 15;
const LAST_BYTES: u64 = 8192;

/// What all steps of one build share.
pub(super) struct Steps<'a> {
    partial: &'a Path,
    /// The machine's lock. Each program inherits it, so that it is held until the last one is gone.
    lock: &'a File,
    pub(super) signals: &'a Signals,
    log: PathBuf,
}

/// Fails once an end was requested.
pub(super) fn go_on(signals: &Signals) -> Result<(), CtlError> {
    let request = signals.request().map_err(|e| CtlError::new(format!("signals: {e}")))?;
    request.map_or(Ok(()), |_| Err(CtlError::new(INTERRUPTED)))
}

impl<'a> Steps<'a> {
    pub(super) fn new(partial: &'a Path, lock: &'a File, signals: &'a Signals) -> Self {
        Steps { partial, lock, signals, log: partial.join("log") }
    }

    /// Fails once an end was requested.
    pub(super) fn go_on(&self) -> Result<(), CtlError> {
        go_on(self.signals)
    }

    /// Fails once an end was requested, and where the file system is about to be full: what fills it is strangers' work.
    pub(super) fn room(&self) -> Result<(), CtlError> {
        self.go_on()?;
        let file_system = statvfs(self.partial).map_err(CtlError::new)?;
        let full = |what: String| {
            CtlError::new(format!(
                "{}: less than {what} are free, so the build was ended; free some, or use a smaller source",
                self.partial.display()
            ))
        };
        if file_system.blocks_available().saturating_mul(file_system.fragment_size()) < SPACE {
            return Err(full(format!("{} MiB", SPACE >> 20)));
        }
        // btrfs has no number of inodes.
        if file_system.files() > 0 && file_system.files_available() < INODES {
            return Err(full(format!("{INODES} inodes")));
        }
        match fs::metadata(&self.log) {
            Ok(log) if log.len() > MAX_LOG => Err(CtlError::new(format!(
                "a program printed more than {} MiB, so the build was ended; have it print less:\n{}",
                MAX_LOG >> 20,
                self.last_lines()
            ))),
            _ => Ok(()),
        }
    }

    /// Runs a program to its end. Its output is in `log` of the version.
    pub(super) fn run<S: AsRef<OsStr>>(
        &self,
        program: &str,
        words: &[S],
        help: &str,
    ) -> Result<(), CtlError> {
        self.run_as(program, program, words, help)
    }

    /// The same for one that is another program's, by whose name errors call it.
    pub(super) fn run_as<S: AsRef<OsStr>>(
        &self,
        name: &str,
        program: &str,
        words: &[S],
        help: &str,
    ) -> Result<(), CtlError> {
        self.go_on()?;
        if find(program).is_none() {
            return Err(CtlError::new(format!("{program} is not installed on this host; {help}")));
        }
        let mut options = OpenOptions::new();
        let log = options.append(true).create(true).mode(0o600).open(&self.log);
        let log = log.map_err(|e| CtlError::new(format!("{}: {e}", self.log.display())))?;
        let failed = |e: std::io::Error| CtlError::new(format!("{program}: {e}"));
        let mut command = confined(program, words);
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        let mut child = job_command::spawn(command, &[self.lock.as_fd()]).map_err(failed)?;
        let ended = self.wait(name, &mut child);
        if ended.is_err() {
            end(&mut child);
        }
        let status = ended?;
        match status.success() {
            // What filled the file system within one turn of the loop.
            true => self.room(),
            false => {
                Err(CtlError::new(format!("{name} failed ({}):\n{}", words_of(status), self.last_lines())))
            }
        }
    }

    fn wait(&self, program: &str, child: &mut Child) -> Result<ExitStatus, CtlError> {
        let deadline = Instant::now() + LONGEST;
        loop {
            if let Some(status) = child.try_wait().map_err(CtlError::new)? {
                return Ok(status);
            }
            let mut fds = [PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(500_u16)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(CtlError::new(format!("poll: {e}"))),
            }
            self.room()?;
            if Instant::now() >= deadline {
                return Err(CtlError::new(format!(
                    "{program} ran for longer than {} hours, so it was ended; what it waits for is in its output:\n{}",
                    LONGEST.as_secs() / 3600,
                    self.last_lines()
                )));
            }
        }
    }

    fn last_lines(&self) -> String {
        use std::io::{Seek, SeekFrom};
        let mut bytes = Vec::new();
        if let Ok(mut log) = File::open(&self.log) {
            let length = log.metadata().map_or(0, |meta| meta.len());
            let _from_its_start = log.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)));
            let _as_much_as_there_is = log.take(LAST_BYTES).read_to_end(&mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).copied().collect::<Vec<_>>().join("\n")
    }
}

/// A program in namespaces of its own.
fn confined<S: AsRef<OsStr>>(program: &str, words: &[S]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", program]);
    command.args(words).env_clear().envs(environment()).current_dir("/").stdin(Stdio::null());
    command
}

/// What a program prints, for short answers: none if it fails, prints more than an answer has, or does not end soon.
///
/// # Errors
/// If an end was requested.
pub(super) fn answer<S: AsRef<OsStr>>(
    program: &str,
    words: &[S],
    signals: &Signals,
) -> Result<Option<String>, CtlError> {
    let mut command = confined(program, words);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = job_command::spawn(command, &[]) else { return Ok(None) };
    let said = listen(&mut child, signals);
    if !matches!(child.try_wait(), Ok(Some(_))) {
        end(&mut child);
    }
    said
}

fn listen(child: &mut Child, signals: &Signals) -> Result<Option<String>, CtlError> {
    let deadline = Instant::now() + SOON;
    let mut pipe = child.stdout.take();
    let mut bytes = Vec::new();
    while Instant::now() < deadline && bytes.len() <= MAX_ANSWER {
        go_on(signals)?;
        if let (None, Some(status)) = (&pipe, child.try_wait().map_err(CtlError::new)?) {
            return Ok(String::from_utf8(bytes).ok().filter(|_| status.success()));
        }
        let mut fds = vec![PollFd::new(signals.fd(), PollFlags::POLLIN)];
        fds.extend(pipe.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::from(100_u16)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(CtlError::new(format!("poll: {e}"))),
        }
        let readable = fds.get(1).and_then(PollFd::any).unwrap_or(false);
        if let Some(open) = pipe.as_mut().filter(|_| readable) {
            let mut buffer = [0; 4096];
            match open.read(&mut buffer).map_err(CtlError::new)? {
                0 => pipe = None,
                n => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            }
        }
    }
    Ok(None)
}

fn words_of(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"))
}

/// Ends the first process of the namespace, with which all others in it end, and waits for that.
fn end(child: &mut Child) {
    let pid = child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for first in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let _may_be_gone = kill(Pid::from_raw(first), Signal::SIGKILL);
    }
    let deadline = Instant::now() + DYING;
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _may_be_gone = child.kill();
    let _reaped = child.wait();
}

/// The environment of programs. None of the caller's goes into a tree, but how to reach the network.
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    let proxies = PROXIES.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let own = [("PATH", PATH), ("LC_ALL", "C.UTF-8"), ("HOME", "/root"), ("SYSTEMD_NSPAWN_LOCK", "0")];
    own.iter().map(|(name, value)| ((*name).into(), (*value).into())).chain(proxies).collect()
}

/// Has the programs that are started from now on hold this lock as well, so that a shell keeps it when this process is killed.
pub(super) fn inherit(lock: &File) -> Result<(), CtlError> {
    let done = fcntl(lock, FcntlArg::F_SETFD(FdFlag::empty()));
    done.map(drop).map_err(|e| CtlError::new(format!("fcntl: {e}")))
}

/// Where a program is; a path is one already.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    PATH.split(':').map(|directory| Path::new(directory).join(program)).find(|path| path.is_file())
}
