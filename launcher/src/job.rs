//! The run stage: runs the stage's script in the configured shell as the user, and reports the
//! result.
//!
//! The shell's environment is built from scratch: the runner's script exports the job's variables
//! itself. A failure of the script is reported to the runner with its exact exit code; success is
//! reported only if the script has begun and the job was not cancelled.

use crate::contained;
use crate::escaped::Mark;
use crate::relay::Stream;
use crate::script::{BEGIN, in_memory};
use crate::supervise::{JobEnd, Supervisor};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::Pid;
use nunbird_container::of_stage;
use nunbird_handover::{Handover, Untrusted};
use nunbird_stage::error::shown;
use nunbird_stage::exit_code::report_exit_code;
use nunbird_stage::shell::{enter_directory, environment, shell_command};
use nunbird_stage::signals::Signals;
use nunbird_stage::{Loss, StageError, StageResult, Timeouts, print_message};
use nunbird_sys::process::set_umask;
use nunbird_unprivileged::job_command;
use nunbird_unprivileged::process::set_soft_stack;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Runs the script.
pub(crate) fn run(
    handover: &Handover,
    stage: &str,
    script: Option<File>,
    exit_code: Option<File>,
    timeouts: Timeouts,
) -> Result<StageResult, StageError> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let script = script.ok_or_else(missing).map_err(internal("cannot read the script"))?;
    if let Some(container) = handover.container.as_ref().and_then(|container| of_stage(container, stage)) {
        return contained::run(handover, &container, stage, &script, exit_code, timeouts);
    }
    let signals = Signals::block().map_err(|e| internal("cannot wait for signals")(e.into()))?;
    let memory = in_memory(BEGIN, &script)?;
    drop(script);
    let (begun, tell_begun) = io::pipe().map_err(internal("cannot make a pipe"))?;
    fcntl(&begun, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|e| internal("cannot make a pipe")(e.into()))?;

    enter_directory(handover);
    set_umask(handover.umask.unwrap_or(0o022));
    if let Some(bytes) = handover.site.stack {
        set_soft_stack(bytes).map_err(internal("cannot set the stack limit"))?;
    }
    let mut child = job_command::spawn(command(handover, stage), &[memory.as_fd(), tell_begun.as_fd()])
        .map_err(|e| start_error(handover, &e))?;
    drop((memory, tell_begun));

    let (out, err) = (io::stdout(), io::stderr());
    let streams = streams(&mut child, out.as_fd(), err.as_fd());
    let (out, err) = streams.map_err(internal("cannot read the job's output"))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let mark = Mark::of(&handover.decision_id);
    let mut supervisor = Supervisor::new(pid, mark.clone(), signals, out, err, timeouts);
    let end = supervisor.run()?;
    report_losses(supervisor.losses());
    if end != JobEnd::OfItself {
        kill_marked(&mark, timeouts);
    }
    if end == JobEnd::Abandoned {
        report_abandoned();
        return Ok(StageResult::Cancelled);
    }
    let status = child.wait().map_err(internal("cannot determine how the job ended"))?;
    verdict(handover, status, end, has_begun(begun), exit_code)
}

pub(crate) fn internal(what: &'static str) -> impl Fn(io::Error) -> StageError {
    move |e: io::Error| StageError::new(what, e, "run the job again, or report it to the administrators")
}

/// Kills what a cancelled script has left.
pub(crate) fn kill_marked(mark: &Mark, timeouts: Timeouts) {
    let left = mark.kill(timeouts.abandon);
    if left > 0 {
        print_message(&format!("{left} processes of the job do not end, not even by KILL"));
    }
}

pub(crate) fn report_abandoned() {
    print_message(
        "the job's processes do not end, not even by KILL; they may be waiting for a file \
         system that does not respond",
    );
}

fn command(handover: &Handover, stage: &str) -> Command {
    let shell = &handover.shell;
    let mut command = Command::new(&shell.path);
    if shell.login {
        command.arg("-l");
    }
    let script = format!(". /dev/fd/{}", job_command::FIRST_FD);
    command
        .arg("-c")
        .arg(shell_command(stage, &script, shell.login))
        .arg(shell.path.file_name().unwrap_or(OsStr::new("sh")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_clear().envs(environment(handover, stage));
    command
}

fn start_error(handover: &Handover, error: &io::Error) -> StageError {
    let shell = &handover.shell.path;
    let help = match error.kind() {
        io::ErrorKind::NotFound => {
            "install it on this host, or name another `shell` under [job] of the configuration"
        }
        io::ErrorKind::PermissionDenied => {
            "the job's account must be allowed to execute it; report it to the administrators"
        }
        _ => "run the job again; if that does not help, report it to the administrators",
    };
    StageError::at("cannot start the shell", shell, error, help)
}

pub(crate) fn streams<'fd>(
    child: &mut Child,
    out: std::os::fd::BorrowedFd<'fd>,
    err: std::os::fd::BorrowedFd<'fd>,
) -> io::Result<(Stream<'fd>, Stream<'fd>)> {
    let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdout = OwnedFd::from(child.stdout.take().ok_or_else(closed)?);
    let stderr = OwnedFd::from(child.stderr.take().ok_or_else(closed)?);
    Ok((Stream::new(stdout, out)?, Stream::new(stderr, err)?))
}

fn has_begun(mut begun: io::PipeReader) -> bool {
    matches!(begun.read(&mut [0]), Ok(1))
}

pub(crate) fn report_losses(losses: [Option<Loss>; 2]) {
    for (stream, loss) in ["standard output", "standard error"].into_iter().zip(losses) {
        if let Some(Loss { bytes, cause }) = loss {
            print_message(&format!("the last {bytes} bytes of the job's {stream} are lost: {cause}"));
        }
    }
}

/// What is reported to the runner.
fn verdict(
    handover: &Handover,
    status: ExitStatus,
    end: JobEnd,
    begun: bool,
    exit_code: Option<File>,
) -> Result<StageResult, StageError> {
    let code = code(status);
    if !begun && end == JobEnd::OfItself {
        let account = Untrusted(&handover.account.name);
        print_message(&format!(
            "the shell {} ended with {code} before the stage's script began: look at the login profile of \
             {account} for `exit`, for `exec`, and for uses of descriptors 3 and 4",
            shown(&handover.shell.path)
        ));
    }
    match code {
        0 if begun && end == JobEnd::OfItself => return Ok(StageResult::Success),
        // A cancelled script may well end with 0, and a profile that replaces the shell ends before
        // the script.
        0 => {}
        code => {
            report_exit_code(exit_code.as_ref(), code)?;
            if begun && end == JobEnd::OfItself {
                return Ok(StageResult::ScriptFailed);
            }
        }
    }
    Ok(if end == JobEnd::OfItself { StageResult::BuildFailure } else { StageResult::Cancelled })
}

/// As a shell counts: 128 plus the signal number.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
