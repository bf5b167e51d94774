//! Starting the two programs that decide, and the conversation with the first of them.
//!
//! `nunbird-decide` reads the configuration that this program has opened, and judges; `nunbird-decide verify` reads what strangers wrote. Both are
//! executed by descriptor, give up everything before that, and die with this process. What the decider asks for is served by
//! [`crate::requests`]; it is believed as far as the checks there go (docs/threat-model.md).

use crate::context::Context;
use crate::privilege::{NOBODY_AT_ALL, Privilege};
use crate::refusal::{Class, Code, Refusal};
use crate::requests::{Serving, message};
use crate::settings;
use crate::store;
use nunbird_files::identity::Caller;
use nunbird_host::{memory, runner};
use nunbird_messages::{JobDirectory, Record, Untrusted, Version};
use nunbird_requests::{
    Counted, Launch, MAX_REQUEST, MONITOR_FD, PEER_FD, RESPONSE_FD, RefusedBy, Reply, Request, Stage,
    StageEnd, StageKind, Start, Task,
};
use nunbird_surrender::{self as surrender, Ids};
use nunbird_sys::fork::{Child, Ended, fork_into};
use nunbird_sys::kernel::Linux;
use nunbird_sys::{exec, passing, process, signals};
use nunbird_wire::{Message, read_frame, write_frame};
use std::ffi::CString;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Uid and gid of the decider. Not the verifier's, nor a shepherd's: none of them must be in a place to signal another.
const DECIDER: u32 = NOBODY_AT_ALL - 3;
/// It lies beside this program.
const PROGRAM: &str = "nunbird-decide";
/// How long the decider may think before its next request. A sound one needs some milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to end behind its last request.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
/// How long it may think in all.
const ALL_PATIENCE: Duration = Duration::from_secs(300);
/// After so many seconds both end by themselves, should this program be unable to signal them: longer than any admission takes.
const SECONDS: u32 = 900;
/// What a stage may go on for after its job's time has run out, in seconds; longer than any after_script.
const DAY: u32 = 24 * 60 * 60;

/// What there is to decide, and the open files for it.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) task: Task,
    pub(crate) refused: Option<RefusedBy>,
    /// After so many seconds the decider ends by itself.
    pub(crate) seconds: u32,
    pub(crate) configuration: settings::Opened,
    /// Of a stage, for its digest.
    pub(crate) script: Option<File>,
    /// The job response, for the verifier.
    pub(crate) response: Option<File>,
}

impl Question {
    pub(crate) fn new(task: Task) -> Self {
        let configuration = settings::Opened::default();
        let seconds = if matches!(task, Task::Config) { SECONDS } else { DAY };
        Question { task, refused: None, seconds, configuration, script: None, response: None }
    }

    /// About a stage of an admitted job.
    ///
    /// # Errors
    /// A system refusal when the clock does not answer.
    pub(crate) fn of_stage(
        context: &Context<'_>,
        kind: StageKind,
        record: &Record,
        exit_code_file: bool,
        used: Option<Counted>,
    ) -> Result<Self, Refusal> {
        let stage = Stage {
            script: matches!(kind, StageKind::Run(_)),
            kind,
            body: record.body.clone(),
            exit_codes: context.inputs.exit_codes,
            exit_code_file,
            used,
        };
        // It waits for the end of the stage.
        let left = record.expires_at.saturating_sub(store::now()?.epoch);
        let seconds = DAY.saturating_add(u32::try_from(left).unwrap_or(u32::MAX));
        Ok(Question { seconds, ..Question::new(Task::Stage(Box::new(stage))) })
    }

    /// With a refusal of this program's, which the decider has only to write and to print.
    pub(crate) fn refused(mut self, refusal: Refusal) -> Self {
        self.refused = Some(message(refusal));
        if let Task::Stage(stage) = &mut self.task {
            stage.script = false;
        }
        self
    }
}

/// Starts the launcher and comes back when it has ended.
pub(crate) type Launching<'s> = Box<dyn FnOnce(&Context<'_>, Launch) -> Result<StageEnd, Refusal> + 's>;
/// Does what comes after it.
pub(crate) type Finishing<'s> = Box<dyn FnOnce() -> Result<(), Refusal> + 's>;

/// What this process does for the task's sake beside serving requests.
pub(crate) enum Service<'s> {
    /// Admits the job of this directory.
    Config(Option<JobDirectory>),
    /// Runs a stage, and does what comes after it.
    Stage { launch: Option<Launching<'s>>, finish: Option<Finishing<'s>> },
    /// Runs launchers that tidy.
    Tidy,
}

impl<'s> Service<'s> {
    /// For a stage.
    pub(crate) fn stage(
        launch: impl FnOnce(&Context<'_>, Launch) -> Result<StageEnd, Refusal> + 's,
        finish: impl FnOnce() -> Result<(), Refusal> + 's,
    ) -> Self {
        Service::Stage { launch: Some(Box::new(launch)), finish: Some(Box::new(finish)) }
    }
}

/// What was decided.
#[derive(Debug)]
pub(crate) enum Decided {
    /// The job is admitted and its runner knows, or the stage has run, or build directories have been tidied.
    Done,
    /// The call is refused, which has been written and printed.
    Refused(Class),
}

/// What the decider asks for last.
#[derive(Debug)]
pub(crate) enum Last {
    /// It has been done; in `config` the decider has to print the answer to the runner.
    Done,
    /// See [`Decided::Refused`].
    Refused(Class),
    /// A refusal for this process to print.
    Denied(Refusal),
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A reply.
    Reply(Reply),
    /// [`Reply::Done`] and this file.
    File(File),
    /// The end of the conversation.
    Last(Last),
}

/// Has it decided.
///
/// # Errors
/// A refusal of the decider's for [`Task::Tidy`]; a system refusal when it does anything but what it should.
pub(crate) fn decide(
    context: &Context<'_>,
    question: Question,
    service: Service<'_>,
) -> Result<Decided, Refusal> {
    let program = nunbird_host::files::beside(PROGRAM, context.privilege.rights()).map_err(|e| failed(&e))?;
    let account = account(context.privilege);
    let step = |name: &'static str| move |e: io::Error| failed(&format!("{name}: {e}"));
    let (ours, monitor) = UnixStream::pair().map_err(step("socketpair"))?;
    let (peer, verifier) = UnixStream::pair().map_err(step("socketpair"))?;
    let seconds = question.seconds;
    let stays = matches!(question.task, Task::Stage(_) | Task::Tidy(_));
    let part =
        Part { program: &program, privilege: context.privilege, parent: process::id(), seconds, stays };
    let (monitor, peer, answers) = (file(monitor), file(peer), file(verifier));
    let verifier = match &question.response {
        Some(response) => {
            let ids = Ids { uid: NOBODY_AT_ALL, gid: NOBODY_AT_ALL, groups: Vec::new() };
            let files = [(PEER_FD, &answers), (RESPONSE_FD, response)];
            Some(part.start(Some("verify"), &files, ids)?)
        }
        None => None,
    };
    let uid = account.uid;
    let decider = part.start(None, &[(MONITOR_FD, &monitor), (PEER_FD, &peer)], account);
    // The shepherd of a stage keeps nothing open but its socket.
    drop((monitor, peer, answers, program));
    let decided = decider.and_then(|decider| {
        let config = matches!(service, Service::Config(_));
        let policy = question.configuration.paths.first().cloned();
        let mut serving = Serving::new(context, policy, service);
        let last = converse(&ours, question, &mut serving);
        drop(ours);
        let last = last.inspect_err(|_| kill(&decider, uid));
        let ended = decider.wait_at_most(LAST_MOMENTS).map_err(step("waitpid"));
        if matches!(ended, Ok(None)) {
            kill(&decider, uid);
        }
        let (last, ended) = (last?, ended?);
        let done = matches!(last, Last::Done);
        let decided = conclude(last, ended, config)?;
        if done {
            serving.keep();
        }
        Ok(decided)
    });
    if let Some(verifier) = verifier {
        // It ends when the decider has, which held the other end of its socket.
        let ended = verifier.wait_at_most(LAST_MOMENTS).map_err(step("waitpid"))?;
        if ended.is_none() {
            kill(&verifier, NOBODY_AT_ALL);
        }
    }
    decided
}

/// Judges the end of the decider.
fn conclude(last: Last, ended: Option<Ended>, config: bool) -> Result<Decided, Refusal> {
    match (last, ended) {
        (Last::Done, Some(Ended::Exited(0))) => Ok(Decided::Done),
        (Last::Done, Some(Ended::Exited(UNHEARD))) if config => Ok(Decided::Refused(Class::System)),
        // The stage has run, and its events are written.
        (Last::Done, _) if !config => Ok(Decided::Done),
        (Last::Refused(class), _) => Ok(Decided::Refused(class)),
        (Last::Denied(refusal), _) => Err(refusal),
        (last, ended) => Err(failed(&format!("it ended as {ended:?} after {last:?}"))),
    }
}

/// The status of a decider whose answer gitlab-runner did not take. It has said so.
const UNHEARD: i32 = 3;

fn kill(child: &Child, uid: u32) {
    let _already_gone = child.kill_as(uid);
    let _reaped = child.wait_at_most(LAST_MOMENTS);
}

/// Serves requests until the last one.
fn converse(socket: &UnixStream, question: Question, serving: &mut Serving<'_, '_>) -> Result<Last, Refusal> {
    let step = |e: io::Error| failed(&format!("socket: {e}"));
    socket.set_read_timeout(Some(PATIENCE)).map_err(step)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(step)?;
    let Question { task, refused, configuration, script, .. } = question;
    let start = start(serving, task, refused, configuration.paths)?;
    write_frame(socket, &start.to_bytes()).map_err(step)?;
    for file in configuration.files.iter().chain(&script) {
        passing::send(socket, b'f', &[file]).map_err(step)?;
    }
    drop((configuration.files, script));
    let mut patience = ALL_PATIENCE;
    loop {
        let asked = Instant::now();
        let bytes = read_frame(socket, MAX_REQUEST).map_err(step)?;
        patience = patience.checked_sub(asked.elapsed()).ok_or_else(|| failed(&"it takes too long"))?;
        let bytes = bytes.ok_or_else(|| failed(&"it ended without a decision"))?;
        let request = Request::from_bytes(&bytes).map_err(|e| failed(&e))?;
        match serving.serve(request)? {
            Answer::Reply(reply) => write_frame(socket, &reply.to_bytes()).map_err(step)?,
            Answer::File(file) => {
                write_frame(socket, &Reply::Done.to_bytes()).map_err(step)?;
                passing::send(socket, b'f', &[&file]).map_err(step)?;
            }
            Answer::Last(last) => {
                write_frame(socket, &Reply::Done.to_bytes()).map_err(step)?;
                return Ok(last);
            }
        }
    }
}

fn start(
    serving: &Serving<'_, '_>,
    task: Task,
    refused: Option<RefusedBy>,
    files: Vec<std::path::PathBuf>,
) -> Result<Start, Refusal> {
    let (context, now) = (serving.context, store::now()?);
    // Step 20d.
    let runner = if matches!(task, Task::Config) {
        runner::calling().map_err(|e| {
            Refusal::system(Code::Process, "this host does not say which runner runs this job", e)
        })?
    } else {
        None
    };
    Ok(Start {
        version: Version,
        task,
        refused,
        privileges: context.privilege.source,
        inert: process::has_no_new_privileges(),
        caller: context.privilege.caller.uid,
        decision_id: context.decision_id.clone(),
        unobfuscated: context.unobfuscated,
        files,
        boot_id: now.boot_id,
        now: (now.epoch, now.boottime),
        job_directory: serving.directory().cloned(),
        runner,
    })
}

fn file(socket: UnixStream) -> File {
    File::from(OwnedFd::from(socket))
}

pub(crate) fn failed(detail: &dyn Display) -> Refusal {
    let message = "this job could not be decided about on this host";
    Refusal::system(Code::Decider, message, format!("{PROGRAM}: {detail}"))
}

/// A refusal in the decider's words.
pub(crate) fn refusal(refused: RefusedBy) -> Refusal {
    let RefusedBy { denied, code, message, detail, help } = refused;
    let Some(code) = Code::ALL.iter().find(|known| known.name() == code) else {
        return failed(&format!("it refuses with a code that there is not: {}", Untrusted(&code)));
    };
    let refusal = match denied {
        true => Refusal::denied(*code, message, detail),
        false => Refusal::system(*code, message, detail),
    };
    refusal.help(help)
}

/// As whom the decider runs: an account of no name, which owns no file, and which no other program of Nunbird's shares.
fn account(privilege: Privilege) -> Ids {
    let Caller { uid, gid } = match privilege.source.is_privileged() {
        true => Caller { uid: DECIDER, gid: DECIDER },
        false => privilege.caller,
    };
    Ids { uid, gid, groups: Vec::new() }
}

/// What both programs have in common.
struct Part<'a> {
    program: &'a File,
    privilege: Privilege,
    parent: i32,
    seconds: u32,
    /// Whether the decider waits for the end of a launcher.
    stays: bool,
}

impl Part<'_> {
    fn start(&self, word: Option<&str>, files: &[(RawFd, &File)], ids: Ids) -> Result<Child, Refusal> {
        let mut argv = vec![c"nunbird-decide".to_owned()];
        argv.extend(word.map(CString::new).transpose().map_err(|e| failed(&e))?);
        fork_into(|| {
            let Err(error) = self.become_it(&argv, files, &ids, word.is_some());
            failed(&error).print("none", true);
            1
        })
        .map_err(|e| failed(&format!("fork: {e}")))
    }

    /// In the child: no files but these and the standard ones, no privilege, no way to any.
    fn become_it(
        &self,
        argv: &[CString],
        files: &[(RawFd, &File)],
        ids: &Ids,
        silent: bool,
    ) -> io::Result<std::convert::Infallible> {
        // Step 15.
        process::end_after(self.seconds);
        if self.stays {
            memory::bound_address_space()?;
        } else {
            memory::bound(self.privilege.rights())?;
        }
        process::null_stdin()?;
        if silent {
            // Its messages must not reach gitlab-runner: they go to a pipe without a reader.
            let (_, closed) = io::pipe()?;
            exec::outputs_to(&closed, &closed)?;
        }
        exec::place(files)?;
        let surrendered = if self.privilege.source.is_privileged() {
            surrender::become_user(&mut Linux, ids)
        } else {
            surrender::stay_user(&mut Linux, self.privilege.caller.uid, self.privilege.caller.gid)
        };
        surrendered.map_err(|failure| failure.error)?;
        process::forbid_inspection()?;
        process::no_new_privileges()?;
        process::die_with_parent(signals::KILL, self.parent)?;
        if self.stays {
            // A cancelled job, and a service that stops, ask every process of the runner's to end: the stage's end is still to be written.
            process::new_session()?;
            process::default_signals_but(&process::REQUESTS_TO_END)?;
        } else {
            process::default_signals()?;
        }
        exec::execute(self.program, argv, &[])
    }
}
