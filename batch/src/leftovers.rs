//! Ends what the stages of a job left with the scheduler: cancels the jobs, waits for their
//! confirmed end and removes their files.
//!
//! May run beside a stage that has not ended, several times for one job, and when nothing was ever
//! submitted.

use super::machine::{ABSENT_FOR, Machine};
use super::messages::{Event, Limits};
use super::options::Arguments;
use super::outcome::StageOutcome;
use super::stage::{Intent, Stage, directory};
use super::{StageContext, described, engine, limits};
use nunbird_handover::{Batch, Handover, Untrusted};
use nunbird_stage::signals::Signals;
use nunbird_stage::{StageError, Timeouts};
use nunbird_sys::process::set_umask;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// The variable that the scheduler sets for processes in an allocation, if it sets one.
pub fn job_variable(batch: &Batch) -> Option<String> {
    described(batch).ok()?.agent.id
}

/// Cancels what the job's stages left with the scheduler, and removes their files. May run beside a
/// stage.
pub fn cleanup(handover: &Handover, batch: &Batch, timeouts: Timeouts) -> Result<(), StageError> {
    set_umask(0o077);
    if directory(handover, &batch.directory, false)?.is_none() {
        return Ok(());
    }
    // A stage that cannot be ended does not stop the loop; its files stay for the next cleanup.
    let mut trouble = Ok(());
    for entry in fs::read_dir(&batch.directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            trouble = trouble.and(cancel_stage(handover, batch, &name, timeouts));
        }
    }
    trouble?;
    let (Some(parent), Some(name)) = (batch.directory.parent(), batch.directory.file_name()) else {
        return Ok(());
    };
    match directory(handover, parent, false)? {
        Some(parent) => nunbird_stage::trees::remove_tree(&parent, name),
        None => Ok(()),
    }
}

fn cancel_stage(
    handover: &Handover,
    batch: &Batch,
    name: &str,
    timeouts: Timeouts,
) -> Result<(), StageError> {
    let Some(stage) = Stage::open(handover, batch, name, false)? else { return Ok(()) };
    let ending = stage.ending().ok().flatten();
    if ending.as_ref().is_some_and(|ending| ending.over) {
        return Ok(());
    }
    // A refused submission need not be waited for until it appears.
    let absent_for =
        if ending.is_some_and(|ending| ending.is_refusal()) { Duration::ZERO } else { ABSENT_FOR };
    let Some(intent) = stage.intent()? else { return Ok(()) };
    let description = described(batch)?;
    let parts = StageContext { handover, batch, name, stage: &stage, description: &description, timeouts };
    cancel_left(&parts, &intent, absent_for)
}

fn cancel_left(parts: &StageContext<'_>, intent: &Intent, absent_for: Duration) -> Result<(), StageError> {
    let StageContext { batch, stage, description, .. } = *parts;
    let signals = Signals::block()
        .map_err(|e| StageError::new("cannot wait for signals", e, "report it to the administrators"))?;
    let limits = Limits {
        absent_for,
        nfs: Duration::ZERO,
        grace: Duration::ZERO,
        deadline: None,
        ..limits(batch, intent)
    };
    let mut machine = Machine::new(description, limits, true, stage.job()?);
    machine.handle(Duration::ZERO, Event::Cancel(false));
    machine.handle(Duration::ZERO, Event::Cancel(true));
    // gitlab-runner writes a cleanup's output into its own log, where the job's output does not
    // belong.
    let null = File::options().write(true).open("/dev/null");
    let null =
        null.map_err(|e| StageError::new("cannot open /dev/null", e, "report it to the administrators"))?;
    let sinks = [null.as_fd(), null.as_fd()];
    let mut engine = engine(parts, intent, machine, Arguments::default(), signals, sinks)?;
    let outcome = engine.run()?;
    let id = Untrusted(engine.machine.id.as_deref().unwrap_or("without a number")).to_string();
    match outcome {
        StageOutcome::NotCancelled(..) | StageOutcome::Lost(_) => Err(StageError::new(
            &format!("cannot cancel {} job {id} ({})", description.title, Untrusted(&intent.tag)),
            "the scheduler does not confirm its end",
            "cancel it by hand: its files are kept",
        )),
        _ => {
            println_lossy(&format!(
                "nunbird: {} job {id} ({}) is over\n",
                description.title,
                Untrusted(&intent.tag)
            ));
            Ok(())
        }
    }
}

fn println_lossy(line: &str) {
    // The work is done, whether or not the runner reads this line.
    drop(io::stdout().write_all(line.as_bytes()));
}
