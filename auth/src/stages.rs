//! What each of gitlab-runner's four programs does, once the process is in order.

use crate::arguments::{Call, Stage};
use crate::checks;
use crate::context::Context;
use crate::decider::{self, Decided, Question, Service};
use crate::kept_session;
use crate::launch::{Start, killed};
use crate::limits;
use crate::machine;
use crate::opened::{self, Opened};
use crate::refusal::{Class, Code, Refusal, print, print_error};
use crate::settings;
use crate::store::{self, Store, job_directory};
use crate::tidying;
use crate::trace;
use nunbird_host::runner;
use nunbird_messages::Record;
use nunbird_requests::{Launch, StageEnd, StageKind, Status, Task};
use std::cell::Cell;
use std::path::Path;

/// Serves one call. The code is the process's exit code.
///
/// # Errors
/// A refusal that is still to be printed. Whatever the decider was asked about it has written and printed; this one has left a line of syslog.
pub(crate) fn serve(call: &Call, context: &mut Context<'_>) -> Result<u8, Refusal> {
    let served = match &call.stage {
        Stage::Config => config(call, context),
        Stage::Prepare => stage(call, context, None),
        Stage::Run { script, stage: name } => stage(call, context, Some((script, name))),
        Stage::Cleanup => cleanup(call, context),
        Stage::Reap(record) => reap(context, record, false),
        Stage::End(record) => reap(context, record, true),
        Stage::Tidy(account) => tidying::tidy(call, context, account),
    };
    let codes = context.inputs.exit_codes;
    match served.map_err(|refusal| trace::leave(context, refusal))? {
        Served::Done => Ok(0),
        Served::Refused(Class::Denied) => Ok(codes.build_failure),
        Served::Refused(Class::System) => Ok(codes.system_failure),
        Served::Ended(Status::Exited(code)) => Ok(u8::try_from(code).unwrap_or(codes.system_failure)),
        Served::Ended(Status::Killed(signal)) => Err(killed(signal)),
    }
}

/// What became of a call.
pub(crate) enum Served {
    /// It is done.
    Done,
    /// It was refused, and the refusal is written and printed.
    Refused(Class),
    /// The launcher ran and has ended.
    Ended(Status),
}

fn config(call: &Call, context: &mut Context<'_>) -> Result<Served, Refusal> {
    let prepared = (|| {
        // Step 9.
        let configuration = settings::open(call.configuration.as_deref(), context.privilege)?;
        // Step 11.
        let directory = job_directory(context.inputs.job_directory(), context.privilege)?;
        // Before anything is decided: a host that keeps no records runs no jobs.
        // Step 12.
        Store::open(context.privilege)?;
        // Step 13.
        Ok((configuration, directory, opened::job_response(context)?))
    })();
    let question = Question::new(Task::Config);
    let decided = match prepared {
        Ok((configuration, directory, response)) => {
            let question = Question { configuration, response: Some(response), ..question };
            // Steps 10, 15, 15a.
            decider::decide(context, question, Service::Config(Some(directory)))
        }
        Err(refusal) => decider::decide(context, question.refused(refusal), Service::Config(None)),
    };
    Ok(match decided? {
        Decided::Done => Served::Done,
        Decided::Refused(class) => Served::Refused(class),
    })
}

/// `prepare`, and `run` with its script and the runner's name of the stage.
fn stage(call: &Call, context: &mut Context<'_>, script: Option<(&Path, &str)>) -> Result<Served, Refusal> {
    // First of all: the file is the same for every stage, and the runner would take an earlier stage's number
    // for this one's if this one were refused.
    // Step 23.
    let exit_code = script.map_or(Ok(None), |_| opened::exit_code_file(context))?;
    // Step 24.
    let (_, record) = admitted(context)?;
    let ready = (|| {
        checks::same_configuration(call, &record)?;
        Store::check_live(&record)?;
        // Step 24a.
        checks::runner_runs(&record)?;
        // Step 25.
        let account = checks::permitted_account(context, &record)?;
        checks::not_expired(&record.account.name, context)?;
        // Step 26.
        let script = script.map(|(path, _)| opened::take_script(path, context)).transpose()?;
        Ok((settings::open(Some(&record.policy_path), context.privilege)?, account, script))
    })();
    let kind = script.map_or(StageKind::Prepare, |(_, name)| StageKind::Run(name.to_owned()));
    let question = Question::of_stage(context, kind, &record, exit_code.is_some(), None)?;
    let (question, ready) = match ready {
        Ok((configuration, account, script)) => {
            let copy = script.as_ref().map(std::fs::File::try_clone).transpose();
            let copy = copy.map_err(|e| opened::could_not_start("dup", &e))?;
            (Question { configuration, script: copy, ..question }, Some((account, script)))
        }
        Err(refusal) => (question.refused(refusal), None),
    };
    let mut ended = None;
    let launch = |context: &Context<'_>, launch: Launch| -> Result<StageEnd, Refusal> {
        let (account, script) = ready.ok_or_else(|| decider::failed(&"it runs what was refused"))?;
        // Once more: the decider has had its time.
        Store::check_live(&record)?;
        checks::runner_runs(&record)?;
        if script.is_none() {
            // Step 25a.
            opened::make_own_directory(context, &record)?;
        }
        // Step 28d.
        if script.is_some() {
            machine::start(context, &record, &account)?;
        }
        let opened = Opened { script, exit_code };
        // Steps 27, 28a.
        let start =
            Start::prepare(context, &record, launch, opened, account.groups)?.limited(context, &record)?;
        // Step 29.
        start.run(context).inspect(|end| ended = Some(end.end))
    };
    let service = Service::stage(launch, || Ok(()));
    // Steps 25b, 28.
    let decided = decider::decide(context, question, service);
    served(context, decided, ended)
}

/// What became of a stage. How its launcher ended is known, whatever the decider does after that.
fn served(
    context: &Context<'_>,
    decided: Result<Decided, Refusal>,
    ended: Option<Status>,
) -> Result<Served, Refusal> {
    match (decided, ended) {
        (Ok(Decided::Refused(class)), _) => Ok(Served::Refused(class)),
        (Ok(Decided::Done), None) => Err(decider::failed(&"it ended before the stage")),
        (Ok(Decided::Done), Some(status)) => Ok(Served::Ended(status)),
        (Err(refusal), None) => Err(refusal),
        (Err(refusal), Some(status)) => {
            report(context, refusal);
            Ok(Served::Ended(status))
        }
    }
}

/// Reports what changes nothing about the call's end.
fn report(context: &Context<'_>, refusal: Refusal) {
    trace::leave(context, refusal).print(&context.decision_id, context.unobfuscated);
}

fn cleanup(call: &Call, context: &mut Context<'_>) -> Result<Served, Refusal> {
    let (store, record) = match admitted(context) {
        Ok(found) => found,
        Err(refusal) if matches!(refusal.code, Code::NoRecord | Code::JobDirectory) => {
            print(&format!("nunbird: nothing to clean up: {}\n", refusal.detail));
            return Ok(Served::Done);
        }
        Err(refusal) => return Err(refusal),
    };
    let name = store.name_of(&record.job_directory);
    let may = checks::same_configuration(call, &record);
    finish(context, &store, &name, record, may)
}

/// The clean-up of a job that is over, for `nunbirdctl sweep`: its runner will never ask for it. With `live`, for `nunbirdctl jobs end`, also
/// of one that runs.
fn reap(context: &mut Context<'_>, name: &str, live: bool) -> Result<Served, Refusal> {
    let store = Store::open(context.privilege)?;
    // Step 29a.
    let record = store.named(name)?;
    // What runs is that stage: the audit events name it.
    (context.stage, context.sweeps) = ("cleanup", true);
    context.decision_id.clone_from(&record.decision_id);
    // A record that was set aside is found by no stage, and no other call ends a clean-up that has begun.
    let now = store::now()?;
    // Step 29b.
    let over =
        record.is_over(&now) || record.is_abandoned(name) || runner::is_gone(&record, &now).unwrap_or(false);
    // Step 29d.
    let may = if over || live { Ok(()) } else { Err(still_live(&record)) };
    finish(context, &store, name, record, may)
}

fn still_live(record: &Record) -> Refusal {
    let detail = format!("job {} may still run; expires_at {}", record.job_id, record.expires_at);
    Refusal::denied(Code::StillLive, "this job may still run", detail)
}

fn finish(
    context: &mut Context<'_>,
    store: &Store,
    name: &str,
    mut record: Record,
    may: Result<(), Refusal>,
) -> Result<Served, Refusal> {
    // Processes that do not end, and a runner that does not read, must not keep other jobs out.
    let closed = may.and_then(|()| {
        store.at_once(|| {
            let lock = store.lock(record.runner_uid)?;
            let succeeded = store.is_succeeded(&record)?;
            Ok((succeeded, succeeded || store.close(name, &mut record, &lock)?))
        })
    });
    let kind = match closed {
        Err(refusal) => {
            let question = Question::of_stage(context, StageKind::Cleanup, &record, false, None)?;
            let service = Service::stage(|_, _| Err(decider::failed(&"it runs what was refused")), || Ok(()));
            let decided = decider::decide(context, question.refused(refusal), service);
            return served(context, decided, None);
        }
        Ok((true, _)) => {
            print_error(
                "nunbird: the host has restarted and another job works in this one's directories: they are left alone\n",
            );
            StageKind::CleanupOfSucceeded
        }
        // Another call has just done all of this.
        Ok((_, false)) => return Ok(Served::Done),
        Ok((_, true)) => StageKind::Cleanup,
    };
    end(context, store, name, &record, kind)
}

/// Ends the job's processes and has the launcher clear away what it left. The record goes last of all: while it exists,
/// the call can be repeated.
fn end(
    context: &mut Context<'_>,
    store: &Store,
    name: &str,
    record: &Record,
    kind: StageKind,
) -> Result<Served, Refusal> {
    let privilege = context.privilege;
    // Before the group: its processes are not the user's, and the group does not empty without that.
    // Step 28e.
    let machine_ended = match record.machine.is_some() && record.is_of_boot(&store::now()?) {
        true => machine::end(privilege, record),
        false => Ok(()),
    };
    // Without the record nothing would end it any more.
    let is_gone = machine_ended.is_ok();
    // A machine that does not end, or a group that does not empty, is reported last: credentials go all the same.
    // The kernel keeps none when the host restarts.
    let (used, emptied) = match record.is_of_boot(&store::now()?).then(|| limits::end(privilege, record)) {
        Some(Ok(used)) => (used, limits::remove(privilege, record)),
        Some(Err(refusal)) => (None, Err(refusal)),
        None => (None, Ok(())),
    };
    let emptied = machine_ended.and(emptied);
    let account = checks::same_account(context, record);
    // Nothing can be done as an account that does not exist any more; only the sweep comes for such a record.
    let forget = context.sweeps
        && is_gone
        && matches!(&account, Err(refusal) if matches!(refusal.code, Code::Account | Code::AccountChanged));
    let question = Question::of_stage(context, kind, record, false, used)?;
    let (question, account) = match account {
        Ok(account) => (question, Some(account)),
        Err(refusal) => (question.refused(refusal), None),
    };
    let (ended, emptied) = (Cell::new(None), Cell::new(Some(emptied)));
    let launch = |context: &Context<'_>, launch: Launch| -> Result<StageEnd, Refusal> {
        let account = account.ok_or_else(|| decider::failed(&"it runs what was refused"))?;
        let start = Start::prepare(context, record, launch, Opened::default(), account.groups)?;
        start.run_and_wait(context).inspect(|end| ended.set(Some(end.end)))
    };
    let finish = || {
        let Some(emptied) = emptied.take() else { return Ok(()) };
        // Whatever came of that: processes of root's must not outlive the job.
        // Step 28b.
        let closed = kept_session::close(privilege, record);
        emptied?;
        let lost = closed.err().map(kept_session::lost).transpose()?;
        if ended.get() == Some(Status::Exited(0)) {
            store.remove(name, record)?;
        }
        lost.map_or(Ok(()), Err)
    };
    let decided = decider::decide(context, question, Service::stage(launch, finish));
    // A decider that refused or failed has not asked for it.
    let left = finish().map_err(|refusal| report(context, refusal));
    // Step 29c.
    if forget {
        store.remove(name, record)?;
    }
    let served = served(context, decided, ended.get())?;
    Ok(left.map_or(Served::Refused(Class::System), |()| served))
}

/// The record of this job.
fn admitted(context: &mut Context<'_>) -> Result<(Store, Record), Refusal> {
    let directory = job_directory(context.inputs.job_directory(), context.privilege)?;
    let store = Store::open(context.privilege)?;
    let record = store.find(&directory)?;
    context.decision_id.clone_from(&record.decision_id);
    Ok((store, record))
}
