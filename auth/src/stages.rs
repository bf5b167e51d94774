//! What each of gitlab-runner's four programs does, once the process is in order.

use crate::arguments::{Call, Stage};
use crate::audit::{self, Script, Sinks};
use crate::context::Context;
use crate::decider::{self, Decided};
use crate::denials;
use crate::kept_session;
use crate::launch::{Start, killed, told};
use crate::limits;
use crate::opened::Opened;
use crate::refusal::{Class, Code, Refusal, print, print_error};
use crate::settings;
use crate::store::{self, Store, job_directory};
use crate::tidying;
use aws_lc_rs::digest;
use nunbird_files::foreign;
use nunbird_files::identity::FileIdentity;
use nunbird_files::provision::{self, Owner};
use nunbird_handover::{Record, Task};
use nunbird_host::{Floor, System, runner};
use nunbird_sys::exec;
use nunbird_sys::fork::Ended;
use nunbird_sys::shadow::Expiry;
use nunbird_sys::users::UserEntry;
use std::fs::File;
use std::path::Path;
use std::time::Instant;
use zeroize::Zeroizing;

/// The largest script, in bytes. It lies in memory while the stage starts.
const MAX_SCRIPT: u64 = 256 << 20;
/// The largest job response, in bytes.
const MAX_RESPONSE: u64 = 16 << 20;
/// What is copied of it at once, in bytes.
const PIECE: usize = 64 << 10;

/// Serves one call. The code is the process's exit code.
///
/// # Errors
/// Every refusal, already written down: as an event, or as a line of syslog where no event could be written and for a later
/// stage without a record. Of those that any caller could bring about as often as it likes, a bounded number.
pub(crate) fn serve(call: &Call, context: &mut Context<'_>) -> Result<u8, Refusal> {
    let served = match &call.stage {
        Stage::Config => return config(call, context),
        Stage::Prepare => prepare(call, context),
        Stage::Run { script, stage } => run(call, context, script, stage),
        Stage::Cleanup => cleanup(call, context),
        Stage::Reap(record) => reap(context, record, false),
        Stage::End(record) => reap(context, record, true),
        Stage::Tidy(account) => tidying::tidy(call, context, account),
    };
    match served.map_err(|refusal| denials::write(context, refusal))? {
        Ended::Exited(code) => Ok(u8::try_from(code).unwrap_or(context.inputs.exit_codes.system_failure)),
        Ended::Killed(signal) => Err(killed(signal)),
    }
}

/// Runs a stage between the two events that say so.
fn watched(
    context: &Context<'_>,
    start: Start,
    run: impl FnOnce(Start, &Context<'_>) -> Result<Ended, Refusal>,
) -> Result<Ended, Refusal> {
    audit::stage_started(context)?;
    let started = Instant::now();
    let summary = start.summary();
    let ended = run(start, context)?;
    audit::stage_ended(context, ended, started.elapsed(), summary.as_ref().and_then(told));
    Ok(ended)
}

/// Everything of `config` is decided by the decider, which writes down and prints what it refuses; what is refused here is not.
fn config(call: &Call, context: &mut Context<'_>) -> Result<u8, Refusal> {
    let decided = decide(call, context).map_err(|refusal| {
        // A job that was admitted and is none after all: its events have places of their own.
        if let Some(record) = &context.record {
            context.sinks = Sinks::open(&record.audit, context.privilege);
        }
        denials::write(context, refusal)
    })?;
    match decided {
        Decided::Refused(Class::Denied) => Ok(context.inputs.exit_codes.build_failure),
        Decided::Refused(Class::System) => Ok(context.inputs.exit_codes.system_failure),
        Decided::Admitted | Decided::Permitted => Ok(0),
    }
}

fn decide(call: &Call, context: &mut Context<'_>) -> Result<Decided, Refusal> {
    let configuration = settings::open(call.configuration.as_deref(), context.privilege)?;
    let directory = job_directory(context.inputs.job_directory(), context.privilege)?;
    // Before anything is decided: a host that keeps no records runs no jobs.
    Store::open(context.privilege)?;
    let response = job_response(context)?;
    decider::decide(context, nunbird_requests::Task::Config, configuration, Some((&directory, response)))
}

/// The job response, opened as the runner. What is in it is the verifier's to read.
fn job_response(context: &Context<'_>) -> Result<File, Refusal> {
    let refuse = |detail: String| {
        Refusal::system(Code::ResponseFile, "the runner's job response could not be read", detail)
            .help("gitlab-runner 14.1 or later writes it; see the admin guide")
    };
    let path = context.inputs.response.as_deref();
    let path = path.ok_or_else(|| refuse("JOB_RESPONSE_FILE is not set".to_owned()))?;
    let shown = path.display();
    let file = foreign::open_for_reading(path, context.privilege.caller)
        .map_err(|e| refuse(format!("{shown}: not a readable regular file of the runner's account: {e}")))?;
    let size = file.metadata().map_err(|e| refuse(format!("{shown}: {e}")))?.len();
    if size > MAX_RESPONSE {
        return Err(refuse(format!("{shown}: larger than {MAX_RESPONSE} bytes")));
    }
    Ok(file)
}

fn prepare(call: &Call, context: &mut Context<'_>) -> Result<Ended, Refusal> {
    let (_, record) = admitted(call, context)?;
    Store::check_live(&record)?;
    check_runner(&record)?;
    let target = permitted_account(context, &record)?;
    check_expiry(&target.name, context)?;
    make_own_directory(context, &record)?;
    let start = Start::prepare(context, &record, Task::Prepare, Opened::default(), target.groups)?
        .limited(context, &record)?;
    watched(context, start, Start::run)
}

/// Where the site says so, the account's own directory in one of root's.
fn make_own_directory(context: &Context<'_>, record: &Record) -> Result<(), Refusal> {
    let wanted = record.site.own_directory.as_deref().filter(|_| context.privilege.source.is_privileged());
    let Some(path) = wanted else { return Ok(()) };
    let refuse = |e: std::io::Error| {
        let message = "the directory for your jobs could not be made on this host";
        Refusal::system(Code::DataDir, message, format!("{}: {e}", path.display()))
    };
    let keeper = context.privilege.keeper();
    let _identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(refuse)?;
    let owner = Owner { uid: record.account.uid, gid: record.account.gid };
    provision::make_for(path, owner).map(drop).map_err(refuse)
}

fn run(call: &Call, context: &mut Context<'_>, script: &Path, stage: &str) -> Result<Ended, Refusal> {
    // First of all: the file is the same for every stage, and the runner would take an earlier stage's number
    // for this one's if this one were refused.
    let exit_code = exit_code_file(context)?;
    let (_, record) = admitted(call, context)?;
    Store::check_live(&record)?;
    check_runner(&record)?;
    let target = permitted_account(context, &record)?;
    check_expiry(&target.name, context)?;
    let (script, digest) = take_script(script, context)?;
    context.script = Some(Script { name: stage.to_owned(), digest });
    let opened = Opened { script: Some(script), exit_code };
    let task = Task::Run(stage.to_owned());
    let start = Start::prepare(context, &record, task, opened, target.groups)?.limited(context, &record)?;
    watched(context, start, Start::run)
}

fn cleanup(call: &Call, context: &mut Context<'_>) -> Result<Ended, Refusal> {
    let (store, record) = match admitted(call, context) {
        Ok(found) => found,
        Err(refusal) if matches!(refusal.code, Code::NoRecord | Code::JobDirectory) => {
            print(&format!("nunbird: nothing to clean up: {}\n", refusal.detail));
            return Ok(Ended::Exited(0));
        }
        Err(refusal) => return Err(refusal),
    };
    let name = store.name_of(&record.job_directory);
    finish(context, &store, &name, record)
}

/// The clean-up of a job that is over, for `nunbirdctl sweep`: its runner will never ask for it. With `live`, for `nunbirdctl jobs end`, also
/// of one that runs.
fn reap(context: &mut Context<'_>, name: &str, live: bool) -> Result<Ended, Refusal> {
    let store = Store::open(context.privilege)?;
    let record = store.named(name)?;
    // What runs is that stage, and the audit file says so.
    context.stage = "cleanup";
    context.decision_id.clone_from(&record.decision_id);
    context.sinks = Sinks::open(&record.audit, context.privilege);
    context.record = Some(record.clone());
    // A record that was set aside is found by no stage, and a clean-up that has begun is nobody else's to end.
    let now = store::now()?;
    let over =
        record.is_over(&now) || record.is_abandoned(name) || runner::is_gone(&record, &now).unwrap_or(false);
    if !over && !live {
        let detail = format!("job {} may still run; expires_at {}", record.job_id, record.expires_at);
        return Err(Refusal::denied(Code::StillLive, "this job may still run", detail));
    }
    finish(context, &store, name, record.clone()).or_else(|refusal| {
        // Nothing can be done as somebody who is not there any more.
        if matches!(refusal.code, Code::Account | Code::AccountChanged) {
            store.remove(name, &record)?;
        }
        Err(refusal)
    })
}

fn finish(
    context: &mut Context<'_>,
    store: &Store,
    name: &str,
    mut record: Record,
) -> Result<Ended, Refusal> {
    // Processes that do not end, and a runner that does not read, must not keep other jobs out.
    let (succeeded, stands) = store.at_once(|| {
        let lock = store.lock(record.runner_uid)?;
        let succeeded = store.is_succeeded(&record)?;
        Ok((succeeded, succeeded || store.close(name, &mut record, &lock)?))
    })?;
    if succeeded {
        print_error(
            "nunbird: the host has restarted and another job works in this one's directories: they are left alone\n",
        );
        return end(context, store, name, &record, Task::Tidy);
    }
    // Another call has just done all of this.
    if !stands {
        return Ok(Ended::Exited(0));
    }
    end(context, store, name, &record, Task::Cleanup)
}

/// Ends the job's processes and has the launcher clear away what it left. The record goes last of all: while it stands,
/// the call can be repeated.
fn end(
    context: &mut Context<'_>,
    store: &Store,
    name: &str,
    record: &Record,
    task: Task,
) -> Result<Ended, Refusal> {
    // A group that does not empty is told last: credentials go all the same.
    let emptied = limits::end(context.privilege, record).and_then(|usage| {
        context.usage = usage;
        limits::remove(context.privilege, record)
    });
    let cleared = same_account(context, record)
        .and_then(|target| Start::prepare(context, record, task, Opened::default(), target.groups))
        .and_then(|start| watched(context, start, Start::run_and_wait));
    // Whatever came of that, for an account that is gone as well: processes of root's must not outlive the job.
    let closed = kept_session::close(context.privilege, record);
    let ended = cleared?;
    emptied?;
    let lost = match closed {
        Ok(()) => None,
        Err(refusal) => kept_session::lost(refusal)?,
    };
    if ended == Ended::Exited(0) {
        store.remove(name, record)?;
    }
    lost.map_or(Ok(ended), Err)
}

/// The record of this job, which must come from the configuration that the caller names, if it names one.
fn admitted(call: &Call, context: &mut Context<'_>) -> Result<(Store, Record), Refusal> {
    let directory = job_directory(context.inputs.job_directory(), context.privilege)?;
    let store = Store::open(context.privilege)?;
    let record = store.find(&directory)?;
    context.decision_id.clone_from(&record.decision_id);
    context.sinks = Sinks::open(&record.audit, context.privilege);
    context.record = Some(record.clone());
    match &call.configuration {
        Some(path) if *path != record.policy_path => {
            let detail =
                format!("admitted by {}, called with {}", record.policy_path.display(), path.display());
            Err(Refusal::system(Code::ConfigurationDiffers, "this job was admitted under another configuration", detail)
                .help("name the same --configuration in every *_args of the runner's config.toml, or in config_args alone"))
        }
        _ => Ok((store, record)),
    }
}

/// A runner that was killed cancels nothing any more: what began now would run on unwatched, beside the job that GitLab starts instead.
fn check_runner(record: &Record) -> Result<(), Refusal> {
    let failed = |e: std::io::Error| {
        Refusal::system(Code::Process, "this host does not say whether the job's runner still runs", e)
    };
    if runner::is_gone(record, &store::now()?).map_err(failed)? {
        let detail = format!("none of {:?} runs", record.runner);
        return Err(Refusal::system(
            Code::RunnerGone,
            "the gitlab-runner that started this job has ended",
            detail,
        )
        .help("run the job again"));
    }
    Ok(())
}

/// The record's account as it is now, for a stage that runs something of the user's: the configuration by which the job was
/// admitted must still allow it.
fn permitted_account(context: &mut Context<'_>, record: &Record) -> Result<UserEntry, Refusal> {
    let configuration = settings::open(Some(&record.policy_path), context.privilege)?;
    let task = nunbird_requests::Task::Permit(record.account.name.clone());
    match decider::decide(context, task, configuration, None)? {
        Decided::Permitted => {
            let (account, here) = (same_account(context, record)?, context.privilege.here());
            Floor::read(here.0)?.check(&account.name, &account, here.0, &here)?;
            Ok(account)
        }
        other => Err(decider::failed(&format!("{other:?}"))),
    }
}

/// The record's account as it is now: a user who was removed, or whose name went to another, must not run on. For what clears
/// away as well, which goes on for an account that is denied by now, and without the configuration.
fn same_account(context: &Context<'_>, record: &Record) -> Result<UserEntry, Refusal> {
    let name = &record.account.name;
    let missing = |detail: String| {
        let message = "you have no account on this host that may run CI jobs";
        Refusal::denied(Code::Account, message, detail)
    };
    let now =
        context.privilege.here().account(name).map_err(|e| {
            Refusal::system(Code::UserDatabase, "this host's user database does not answer", e)
        })?;
    let now = now.ok_or_else(|| missing(format!("account `{name}`: not in the user database")))?;
    Floor::check_ids(name, &now, context.privilege.rights())?;
    if (now.uid, now.gid) == (record.account.uid, record.account.gid) {
        return Ok(now);
    }
    let detail = format!(
        "`{}` was uid {} gid {} when the job was admitted, and is uid {} gid {} now",
        record.account.name, record.account.uid, record.account.gid, now.uid, now.gid
    );
    Err(Refusal::denied(
        Code::AccountChanged,
        "your account on this host has changed since the job began",
        detail,
    ))
}

/// Whether the account's time is not over, where this process can know.
fn check_expiry(name: &str, context: &Context<'_>) -> Result<(), Refusal> {
    let expiry =
        context.privilege.here().expiry(name).map_err(|e| {
            Refusal::system(Code::UserDatabase, "this host's user database does not answer", e)
        })?;
    match expiry {
        Expiry::Valid | Expiry::Unknown => Ok(()),
        Expiry::Expired => {
            let detail =
                format!("account `{name}`: the day of its end in shadow(5) has come (chage -l {name})");
            Err(Refusal::denied(Code::AccountExpired, "your account on this host has expired", detail)
                .help("ask your site's admins to extend it"))
        }
    }
}

/// The script in a memory file that nobody can change any more, and the SHA-256 of exactly these bytes.
///
/// The runner's file could have other bytes in it by the time that the launcher reads it.
fn take_script(path: &Path, context: &Context<'_>) -> Result<(File, String), Refusal> {
    let refuse = |e: std::io::Error| {
        let detail = format!(
            "{}: not a readable regular file of the runner's account of at most {MAX_SCRIPT} bytes: {e}",
            path.display()
        );
        Refusal::system(Code::Script, "the stage's script could not be read", detail)
    };
    let file = foreign::open_for_reading(path, context.privilege.caller).map_err(refuse)?;
    let mut digest = digest::Context::new(&digest::SHA256);
    // The job's variables pass through it, and this process stays as shepherd.
    let mut buffer = Zeroizing::new(vec![0; PIECE]);
    let name = c"nunbird-stage";
    let copy = exec::sealed_copy(name, &file, MAX_SCRIPT, &mut buffer, |piece| digest.update(piece));
    Ok((copy.map_err(refuse)?, crate::hex(digest.finish().as_ref())))
}

/// The runner's exit-code file, opened as the runner and filled with the code of a refusal.
fn exit_code_file(context: &Context<'_>) -> Result<Option<File>, Refusal> {
    let Some(path) = context.inputs.exit_code_file.as_deref() else { return Ok(None) };
    let opened = foreign::open_with_content(path, context.privilege.caller, b"1\n");
    opened.map(Some).map_err(|e| {
        let detail = format!("BUILD_EXIT_CODE_FILE {}: {e}", path.display());
        Refusal::system(Code::ExitCodeFile, "the runner's exit-code file could not be written", detail)
    })
}
