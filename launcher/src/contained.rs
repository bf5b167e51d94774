//! The run stage in the job's container: runs the outer script, which enters it, and reports what
//! the inside has reported.
//!
//! The engine's command has the outer script's environment, which has nothing of the job's; the
//! script's own processes carry the job's mark, so that a request to cancel reaches them inside,
//! and the engine's command lives on to pass the last output.

use crate::escaped::Mark;
use crate::job::{internal, kill_marked, report_abandoned, report_losses, streams};
use crate::script::in_memory;
use crate::supervise::{JobEnd, Supervisor};
use nix::unistd::Pid;
use nunbird_container::{Stage, StageEnd, base_environment, shell, stop};
use nunbird_handover::{Container, Handover, Untrusted};
use nunbird_stage::exit_code::report_exit_code;
use nunbird_stage::signals::Signals;
use nunbird_stage::{StageError, StageResult, Timeouts, print_message};
use nunbird_sys::process::set_umask;
use nunbird_unprivileged::job_command;
use nunbird_unprivileged::process::set_soft_stack;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// Runs the script in the job's container.
pub(crate) fn run(
    handover: &Handover,
    container: &Container,
    stage: &str,
    script: &File,
    exit_code: Option<File>,
    timeouts: Timeouts,
) -> Result<StageResult, StageError> {
    let signals = Signals::block().map_err(|e| internal("cannot wait for signals")(e.into()))?;
    let memory = in_memory(b"", script)?;
    set_umask(0o077);
    if let Some(bytes) = handover.site.stack {
        set_soft_stack(bytes).map_err(internal("cannot set the stack limit"))?;
    }
    let entered = Stage::write(handover, container, stage, timeouts.grace)?;
    let mut command = Command::new(shell());
    command.arg(entered.outer()).arg("run").current_dir("/");
    command.stdin(memory).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_clear().envs(base_environment());
    let mut child = job_command::spawn(command, &[]).map_err(internal("cannot start /bin/sh"))?;

    let (out, err) = (io::stdout(), io::stderr());
    let streams = streams(&mut child, out.as_fd(), err.as_fd());
    let (out, err) = streams.map_err(internal("cannot read the job's output"))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let mark = Mark::of(&handover.decision_id);
    // Of a container that does not begin, the engine's last words are the reason.
    let err = err.with_tail();
    let mut supervisor = Supervisor::new(pid, mark.clone(), signals, out, err, timeouts).in_container();
    let end = supervisor.run()?;
    report_losses(supervisor.losses());
    if end != JobEnd::OfItself {
        kill_marked(&mark, timeouts);
        // Whatever else the image has started; the stage after this one starts the container again.
        if let Err(trouble) = stop(handover, container) {
            print_message(&trouble.to_string());
        }
    }
    if end == JobEnd::Abandoned {
        report_abandoned();
        return Ok(StageResult::Cancelled);
    }
    child.wait().map_err(internal("cannot determine how the job ended"))?;
    let record = match entered.end(&supervisor.last_errors()) {
        StageEnd::Recorded(record) => record,
        StageEnd::Unserved => return Ok(StageResult::BuildFailure),
        StageEnd::Unrecorded(_) if end == JobEnd::Cancelled => return Ok(StageResult::Cancelled),
        StageEnd::Unrecorded(trouble) => return Err(trouble),
    };
    if !record.begun && end == JobEnd::OfItself {
        print_message(&format!(
            "the shell in the container ended with {} before the stage's script began: look at the login profiles of the image and of {} \
             for `exit` and for `exec`",
            record.code,
            Untrusted(&handover.account.name)
        ));
    }
    if record.code != 0 {
        report_exit_code(exit_code.as_ref(), record.code)?;
    }
    Ok(match (end, record.code) {
        (JobEnd::Cancelled | JobEnd::Abandoned, _) => StageResult::Cancelled,
        (JobEnd::OfItself, 0) if record.begun => StageResult::Success,
        (JobEnd::OfItself, code) if record.begun && code != 0 => StageResult::ScriptFailed,
        (JobEnd::OfItself, _) => StageResult::BuildFailure,
    })
}
