//! A password from a program of the site's that the job names: docker's protocol of credential helpers.
//!
//! The program reads the name of the registry from standard input and answers in JSON. It runs as the job's account, with nothing of the job's
//! in its arguments or its environment but the mark by which clean-up finds what it has left. Its process group is killed once it has answered.
//! `nunbirdctl credentials refresh` asks programs for passwords of the site's by the same code ([`answer`]).

use crate::outer::PATH;
use crate::trouble::Failure;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use nunbird_handover::{Container, Credential, CredentialHelper, Handover, Untrusted};
use nunbird_stage::StageError;
use nunbird_stage::signals::Signals;
use nunbird_unprivileged::job_command;
use serde::Deserialize;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::mem::take;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of an answer. A password has a few; a token a few thousand.
const LONGEST: usize = 64 << 10;
/// Bytes that are read of it at once.
const PIECE: usize = 4096;
/// What a helper that has no password for a registry answers, with exit code 1.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// How its run ended.
enum Ran {
    Ended(ExitStatus, Zeroizing<String>, String),
    Late,
    Flood,
    Cancelled,
}

/// What a helper has for a registry.
#[derive(Deserialize)]
pub struct Answer {
    /// The user name, or [`Credential::TOKEN`].
    #[serde(rename = "Username")]
    pub user: String,
    /// The password, which nothing prints.
    #[serde(rename = "Secret")]
    pub secret: String,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// This process is to end.
    Cancelled,
    /// The program has failed: with its own words, which may be of a password although they do not look like one.
    Ended(ExitStatus, String),
    /// In words, none of them the program's answer.
    Failed(String),
}

/// Requests to end, for all threads that ask programs: only one of them takes a signal, and the others see it within a second.
#[derive(Debug)]
pub struct Cancel<'a> {
    signals: &'a Signals,
    requested: AtomicBool,
}

impl<'a> Cancel<'a> {
    /// None has arrived yet.
    pub fn new(signals: &'a Signals) -> Self {
        Cancel { signals, requested: AtomicBool::new(false) }
    }

    fn is_requested(&self) -> nix::Result<bool> {
        if self.signals.request()?.is_some() {
            self.requested.store(true, Ordering::Relaxed);
        }
        Ok(self.requested.load(Ordering::Relaxed))
    }
}

/// The program's name.
pub(crate) fn program(helper: &CredentialHelper) -> String {
    format!("docker-credential-{}", helper.name)
}

/// Asks the program. `None` if it has no password for the registry.
pub(crate) fn ask(
    helper: &CredentialHelper,
    container: &Container,
    handover: &Handover,
    deadline: Instant,
    signals: &Signals,
) -> Result<Option<Credential>, Failure> {
    let path = find(helper, container)?;
    let limit = Duration::from_secs(container.credential_helpers.timeout);
    let until = deadline.min(Instant::now() + limit);
    let mut command = Command::new(&path);
    command.arg("get").current_dir("/").env_clear();
    command.env("PATH", PATH).envs(&container.engine_environment);
    let account = &handover.account;
    command.env("HOME", &account.home).env("USER", &account.name).env("LOGNAME", &account.name);
    command.env("NUNBIRD_DECISION_ID", &handover.decision_id);
    let failed = |cause: &str| {
        let what = format!("cannot get a password for {} from {}", helper.registry, path.display());
        let help = "if the message does not help, write a password under `auths` of DOCKER_AUTH_CONFIG, or report it to the administrators";
        Failure::System(StageError::new(&what, cause, help))
    };
    let cancel = Cancel::new(signals);
    match answer(command, &helper.server, limit, until, &cancel) {
        Ok(found) => {
            let registry = helper.registry.clone();
            Ok(found.map(|mut answer| Credential {
                registry,
                user: take(&mut answer.user),
                password: take(&mut answer.secret),
                site: None,
            }))
        }
        Err(NoAnswer::Cancelled) => Err(Failure::Cancelled),
        // The job's own account has run it, and the log is the job's.
        Err(NoAnswer::Ended(status, words)) => Err(failed(&format!("it ended with {status}{words}"))),
        Err(NoAnswer::Failed(why)) => Err(failed(&why)),
    }
}

/// Runs such a program, which `get` and its environment belong to, until `until` or for `limit` at most. `None` if it has no password for the server.
///
/// # Errors
/// A cancel, or what is wrong without a word that may be of a password.
pub fn answer(
    command: Command,
    server: &str,
    limit: Duration,
    until: Instant,
    cancel: &Cancel<'_>,
) -> Result<Option<Answer>, NoAnswer> {
    let failed = |why: String| NoAnswer::Failed(why);
    let (status, out, err) = match run(command, server, until, cancel).map_err(|e| failed(e.to_string()))? {
        Ran::Ended(status, out, err) => (status, out, err),
        Ran::Late => return Err(failed(format!("it did not answer within {} s", limit.as_secs()))),
        Ran::Flood => return Err(failed(format!("its answer has more than {} KiB", LONGEST >> 10))),
        Ran::Cancelled => return Err(NoAnswer::Cancelled),
    };
    if !status.success() {
        if out.trim() == NOT_FOUND {
            return Ok(None);
        }
        return Err(NoAnswer::Ended(status, reason(&out, &err)));
    }
    match serde_json::from_str::<Answer>(&out) {
        // A colon would end the user name, as engines read it.
        Ok(answer) if is_plain(&answer.user) && !answer.user.contains(':') && is_plain(&answer.secret) => {
            Ok(Some(answer))
        }
        // The answer may be a password: none of it is shown.
        _ => Err(failed("its answer is not JSON with `Username` and `Secret`".to_owned())),
    }
}

fn find(helper: &CredentialHelper, container: &Container) -> Result<PathBuf, Failure> {
    let program = program(helper);
    let directories = &container.credential_helpers.directories;
    let path = directories.iter().map(|directory| directory.join(&program)).find(|path| path.is_file());
    path.filter(|_| CredentialHelper::is_name(&helper.name)).ok_or_else(|| {
        let places: Vec<String> = directories.iter().map(|one| one.display().to_string()).collect();
        let text = format!(
            "cannot get a password for {}: DOCKER_AUTH_CONFIG names the helper program {}, and this host has none of that name in {}; \
             write a password under `auths`, or ask the administrators for the program",
            helper.registry,
            Untrusted(&program),
            places.join(", ")
        );
        Failure::Job(StageError::sentence(&text))
    })
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// The program's own words, which by the protocol are on standard output. What looks like an answer is not shown.
fn reason(out: &str, err: &str) -> String {
    let lines = [out, err].map(|text| text.trim().lines().next_back().unwrap_or_default());
    let line = lines.into_iter().find(|line| !line.is_empty() && !line.contains(['{', '"']));
    line.map(|line| format!(": {}", Untrusted(&line.chars().take(200).collect::<String>())))
        .unwrap_or_default()
}

fn run(mut command: Command, input: &str, until: Instant, cancel: &Cancel<'_>) -> io::Result<Ran> {
    let mut file = File::from(memfd_create(c"nunbird-registry", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(input.as_bytes())?;
    file.rewind()?;
    command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = job_command::spawn(command, &[])?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let streams = (child.stdout.take(), child.stderr.take());
    let watched = match streams {
        (Some(out), Some(err)) => watch(pid, out, err, until, cancel),
        _ => Err(io::Error::from(ErrorKind::BrokenPipe)),
    };
    // Before the child is reaped, so that the number is still its own. ESRCH: none is left.
    let _ = killpg(pid, Signal::SIGKILL);
    let status = child.wait()?;
    Ok(match watched? {
        Watched::Ended(out, err) => Ran::Ended(status, out, err),
        Watched::Late => Ran::Late,
        Watched::Flood => Ran::Flood,
        Watched::Cancelled => Ran::Cancelled,
    })
}

enum Watched {
    Ended(Zeroizing<String>, String),
    Late,
    Flood,
    Cancelled,
}

/// Collects the output until the program has ended: what it leaves running may keep the pipes open.
fn watch(
    pid: Pid,
    mut out: impl Read + AsFd,
    mut err: impl Read + AsFd,
    until: Instant,
    cancel: &Cancel<'_>,
) -> io::Result<Watched> {
    for fd in [out.as_fd(), err.as_fd()] {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    // With room for all of it: a vector that grows leaves copies of the password behind.
    let mut said = Zeroizing::new(Vec::with_capacity(LONGEST + PIECE));
    let mut complained = Vec::new();
    let (mut out_open, mut err_open) = (true, true);
    loop {
        let ended = has_ended(pid)?;
        out_open = out_open && collect(&mut out, &mut said)?;
        err_open = err_open && collect(&mut err, &mut complained)?;
        if said.len().max(complained.len()) > LONGEST {
            return Ok(Watched::Flood);
        }
        if ended {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Ok(Watched::Ended(Zeroizing::new(text(&said)), text(&complained)));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Watched::Late);
        }
        // The end of the program is a signal as well.
        let mut fds = vec![PollFd::new(cancel.signals.fd(), PollFlags::POLLIN)];
        fds.extend(out_open.then(|| PollFd::new(out.as_fd(), PollFlags::POLLIN)));
        fds.extend(err_open.then(|| PollFd::new(err.as_fd(), PollFlags::POLLIN)));
        let most = left.clamp(Duration::from_millis(1), Duration::from_secs(1));
        match poll(&mut fds, PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        if cancel.is_requested()? {
            return Ok(Watched::Cancelled);
        }
    }
}

/// Whether it waits to be reaped.
fn has_ended(pid: Pid) -> io::Result<bool> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    Ok(!matches!(waitid(Id::Pid(pid), flags)?, WaitStatus::StillAlive))
}

/// Takes what is there, at most a little more than the bound; whether more may come.
fn collect(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = Zeroizing::new([0; PIECE]);
    while bytes.len() <= LONGEST {
        match stream.read(&mut piece[..]) {
            Ok(0) => return Ok(false),
            Ok(count) => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
