//! A stage of a job whose session outlives it. This process is the shepherd's child: it has the session opened where the stage
//! is the job's first, passes the stage on to the process that keeps it, and ends as the launcher ended there.

use crate::keeper;
use crate::order::{self, Inherited};
use crate::outputs::Outputs;
use crate::passed;
use crate::supervisor::own_keyring;
use crate::trouble::{SessionTrouble, Trouble};
use nunbird_files::trusted::open_trusted;
use nunbird_messages::{Keep, Record};
use nunbird_relay::watch;
use nunbird_started::process::end_by;
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::rlimits::Limits;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// Runs the stage. The code is this program's.
pub(crate) fn run(inherited: Inherited, limits: Limits, keep: &Keep) -> u8 {
    let codes = inherited.order.exit_codes;
    let report = inherited.report.try_clone();
    let ended = attend(inherited, limits, keep).unwrap_or_else(|(trouble, detail)| {
        if let Ok(report) = report {
            order::send(&report, trouble, detail);
        }
        None
    });
    match ended {
        Some(Ended::Exited(code)) => u8::try_from(code).unwrap_or(codes.system_failure),
        Some(Ended::Killed(signal)) => end_by(signal),
        None => codes.system_failure,
    }
}

/// None where the launcher has not run, which has been reported.
fn attend(inherited: Inherited, limits: Limits, keep: &Keep) -> Result<Option<Ended>, Trouble> {
    let mut control = &inherited.control;
    if control.read(&mut [0]).map_err(failed("control"))? == 0 {
        // The shepherd has ended: the stage is not wanted any more.
        return Ok(None);
    }
    let mut inherited = Some(inherited);
    if keep.opens && !open(&mut inherited, limits, keep)? {
        return Ok(None);
    }
    let Some(stage) = inherited else { return Ok(None) };
    let lost = |e: io::Error| (SessionTrouble::Lost, format!("{}: {e}", keep.socket.display()));
    let mut keeper = UnixStream::connect(&keep.socket).map_err(lost)?;
    passed::trust(&keeper).map_err(failed("the keeper of the session"))?;
    let shepherd = stage.control.try_clone().map_err(failed("control"))?;
    passed::send(&keeper, stage).map_err(lost)?;
    // The launcher has them now. Whatever becomes of this process must not keep the runner's pipes from ending.
    drop(Outputs::take().map_err(failed("standard output"))?);
    if !watch::first_or_end_of(keeper.as_fd(), shepherd.as_fd()).map_err(lost)? {
        // The shepherd has ended, as the keeper sees too: no process is left to report the end of the stage to.
        return Ok(None);
    }
    let mut answer = [0; 2];
    keeper.read_exact(&mut answer).map_err(lost)?;
    // Anything else means that the launcher did not start, and the report has the reason.
    Ok(Ended::of(answer))
}

/// Opens the session and leaves it to its keeper; returns whether it is open. One that is there already is as good: the runner
/// has begun `prepare` once more.
fn open(inherited: &mut Option<Inherited>, limits: Limits, keep: &Keep) -> Result<bool, Trouble> {
    let listener = match UnixListener::bind(&keep.socket) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Ok(true),
        other => other.map_err(failed("the session's socket"))?,
    };
    // Only now: cleanup closes the record before it looks for the socket, so one of the two sees the other.
    if let Err(why) = job_stands(inherited.as_ref(), keep) {
        let _also_when_it_is_gone = std::fs::remove_file(&keep.socket);
        return Err((SessionTrouble::Failed, why));
    }
    own_keyring().map_err(failed("keyring"))?;
    let (mut opened, ready) = io::pipe().map_err(failed("pipe"))?;
    let mut given = Some((listener, ready, limits));
    let forked = fork_into(|| match (inherited.take(), given.take()) {
        (Some(stage), Some((listener, ready, limits))) => keeper::run(stage, limits, listener, ready),
        _ => 1,
    });
    // This process must not be one that listens.
    drop(given);
    let heard = forked.and_then(|_keeper| opened.read(&mut [0]));
    if !matches!(heard, Ok(1)) {
        let _also_when_the_keeper_did = std::fs::remove_file(&keep.socket);
    }
    heard.map(|count| count == 1).map_err(failed("the keeper of the session"))
}

/// Makes sure that the job has not been cleaned up since `nunbird-auth` looked: a runner's account can stop that program, run
/// `cleanup`, and have it go on.
fn job_stands(stage: Option<&Inherited>, keep: &Keep) -> Result<(), String> {
    let file = open_trusted(&keep.record, &[0]).map_err(|e| format!("the job's record: {e}"))?;
    let mut bytes = Vec::new();
    file.take(Record::MOST).read_to_end(&mut bytes).map_err(|e| format!("the job's record: {e}"))?;
    let record = Record::parse(&bytes).map_err(|e| format!("the job's record: {e}"))?;
    let same = stage.is_some_and(|stage| stage.order.record.decision_id == record.decision_id);
    if same && !record.closed { Ok(()) } else { Err("the job has been cleaned up".to_owned()) }
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> Trouble {
    move |e| (SessionTrouble::Failed, format!("{step}: {e}"))
}
