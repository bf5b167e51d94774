//! From a record and the decider's message to a running launcher.
//!
//! This process forks, under every runner: the child becomes the user and the launcher, and the parent stays as
//! shepherd. For `cleanup` the parent waits with its privilege instead, because a record is to be removed.

use crate::context::Context;
use crate::limits::{Confines, Entry, Held};
use crate::opened::{Opened, could_not_start};
use crate::refusal::{Code, Refusal, clean, print, print_error};
use crate::session::Session;
use crate::shepherd::{self, Reach};
use crate::sudo::Sudo;
use nunbird_accounts::users::UserEntry;
use nunbird_drop::launch::{Change, Launch as Launcher, Surroundings};
use nunbird_host::files;
use nunbird_messages::{
    EXIT_CODE_FD, Envelope, HANDOVER_FD, Isolation, Record, SCRIPT_FD, SUMMARY_FD, SUMMARY_SIZE,
};
use nunbird_requests::{Launch, StageEnd, Status, Tidying};
use nunbird_surrender::Ids;
use nunbird_sys::fork::{Child, Ended, fork_into};
use nunbird_sys::signals::Waiter;
use nunbird_sys::{answer, exec, process};
use std::convert::Infallible;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long `cleanup`'s launcher may take: it gives processes twenty seconds and old directories a minute.
const CLEANUP: Duration = Duration::from_secs(120);
/// The same where it has to see a batch job gone, for which it takes up to 180 seconds itself.
const BATCH_CLEANUP: Duration = Duration::from_secs(300);
/// How long its process may take to be gone after that.
const LAST_MOMENTS: Duration = Duration::from_secs(5);
/// The most that it may print, in bytes.
const MAX_WORDS: usize = 64 << 10;

/// Everything the launcher's start needs, prepared while a refusal can still be reported properly.
#[derive(Debug)]
pub(crate) struct Start {
    way: Way,
    /// How long it may take, where it is `cleanup`'s.
    cleanup: Duration,
    held: Option<Held>,
    confines: Confines,
    summary: Option<File>,
}

/// How the launcher starts.
#[derive(Debug)]
enum Way {
    /// By this process's child.
    Here(Launcher),
    /// In a PAM session.
    InSession(Launcher, Session),
    /// By sudo, where that changes the user.
    BySudo(Sudo),
}

impl Start {
    /// Prepares the launcher's start for a stage.
    ///
    /// # Errors
    /// A system refusal when the launcher is missing or not trusted.
    pub(crate) fn prepare(
        context: &Context<'_>,
        record: &Record,
        launch: Launch,
        opened: Opened,
        groups: Vec<u32>,
    ) -> Result<Self, Refusal> {
        let cleanup = if record.scheduler { BATCH_CLEANUP } else { CLEANUP };
        let confines = Confines::of(context, &record.processes).map_err(|e| failed(&e))?;
        if Sudo::is_the_way(context.privilege, record) {
            let way = Way::BySudo(Sudo::prepare(record, launch, opened)?);
            return Ok(Start { way, cleanup, summary: None, held: None, confines });
        }
        let summary = match launch.submits {
            true => Some(exec::slate(c"nunbird-summary", SUMMARY_SIZE).map_err(|e| failed(&e))?),
            false => None,
        };
        let session = Session::prepare(context, record, &launch, &groups)?;
        let ids = Ids { uid: record.account.uid, gid: record.account.gid, groups };
        let launcher =
            launcher(context, &record.launcher, record.isolation, ids, launch, opened, summary.as_ref())?;
        let way = match session {
            Some(session) => Way::InSession(launcher, session),
            None => Way::Here(launcher),
        };
        Ok(Start { way, cleanup, summary, held: None, confines })
    }

    /// Prepares the start of a launcher without a job.
    ///
    /// # Errors
    /// As [`Start::prepare`].
    pub(crate) fn tidy(context: &Context<'_>, tidying: Tidying, account: UserEntry) -> Result<Self, Refusal> {
        let Tidying { launcher: path, isolation, launch, .. } = tidying;
        let ids = Ids { uid: account.uid, gid: account.gid, groups: account.groups };
        let launcher = launcher(context, &path, isolation, ids, launch, Opened::default(), None)?;
        let confines = Confines::of(context, &Default::default()).map_err(|e| failed(&e))?;
        Ok(Start { way: Way::Here(launcher), cleanup: CLEANUP, summary: None, held: None, confines })
    }

    /// Has the stage run in the job's control group, if it has one.
    ///
    /// # Errors
    /// A system refusal when the group, which `nunbird-session`'s launcher is to enter, is gone or its limits are not in force.
    pub(crate) fn limited(self, context: &Context<'_>, record: &Record) -> Result<Self, Refusal> {
        let Some(group) = Entry::of(record) else { return Ok(self) };
        if let Way::InSession(..) = self.way {
            return Ok(Start { held: Some(group.hold(context.privilege)?), ..self });
        }
        Ok(Start { confines: Confines { group: Some(group), ..self.confines }, ..self })
    }

    /// Runs the stage and comes back when it has ended, as the shepherd.
    ///
    /// The child waits until the parent has become the shepherd: only then does the shepherd's death reach it.
    ///
    /// # Errors
    /// A system refusal when the launcher did not start.
    pub(crate) fn run(self, context: &Context<'_>) -> Result<StageEnd, Refusal> {
        let Start { way, mut held, confines, summary, .. } = self;
        let started = Instant::now();
        let ended = match way {
            Way::InSession(launch, session) => session.run(launch, &confines, context)?,
            Way::BySudo(sudo) => sudo.run(&confines, context, &mut held)?,
            Way::Here(launch) => run_here(launch, &confines, context, &mut held)?,
        };
        let summary = summary.and_then(|summary| {
            let mut bytes = vec![0; SUMMARY_SIZE];
            summary.read_exact_at(&mut bytes, 0).ok().map(|()| bytes)
        });
        Ok(StageEnd { counted: held.map(Held::counted), summary, ..stage_end(ended, started) })
    }

    /// Runs `cleanup`'s launcher, which runs no code of the user's, and waits with privilege kept for what
    /// the caller has to do afterwards.
    ///
    /// The user can stop the launcher, so the wait is bounded, and the launcher gets a pipe of ours instead of the
    /// runner's: the runner waits until no process holds its own any more.
    ///
    /// # Errors
    /// A system refusal when it did not start or did not end in time.
    pub(crate) fn run_and_wait(self, context: &Context<'_>) -> Result<StageEnd, Refusal> {
        let Start { way, cleanup: patience, confines, .. } = self;
        let started = Instant::now();
        let launch = match way {
            Way::BySudo(sudo) => {
                let ended = sudo.run_and_wait(&confines, context, patience)?;
                return Ok(stage_end(ended, started));
            }
            Way::Here(launch) | Way::InSession(launch, _) => launch,
        };
        let user = launch.ids.uid;
        let pipe = || io::pipe().map_err(|e| could_not_start("pipe", &e));
        let ((out, to_out), (err, to_err)) = (pipe()?, pipe()?);
        let child = fork(launch, &confines, context, || exec::outputs_to(&to_out, &to_err).map(|()| None))?;
        drop((to_out, to_err));
        let began = Instant::now();
        // One after the other: a launcher that prints more than a pipe holds is not waited for any longer than one that prints nothing.
        let said = answer::read_to_end(out, MAX_WORDS, patience).and_then(|out| {
            let left = patience.saturating_sub(began.elapsed());
            Ok((out, answer::read_to_end(err, MAX_WORDS, left)?))
        });
        if said.is_err() {
            let _already_gone = child.kill_as(user);
        }
        // A FUSE server of the user's that has read a request keeps even a killed process until it answers (fuse_dev.c,
        // request_wait_answer), and a sweep of root's may wait for this call. The record stays.
        let ended = child.wait_at_most(LAST_MOMENTS).map_err(|e| could_not_start("waitpid", &e))?;
        let said = said.map_err(|e| could_not_start("cleanup did not end in time", &e))?;
        // gitlab-runner writes standard error into its log as a warning.
        let (out, err) = said;
        print(&lines(&out));
        print_error(&lines(&err));
        let late = || could_not_start("cleanup did not end in time", &"the launcher is still there");
        Ok(stage_end(ended.ok_or_else(late)?, started))
    }
}

/// What the launcher has printed, each line of it with an end; nothing where it printed nothing.
fn lines(said: &[u8]) -> String {
    let text = clean(&String::from_utf8_lossy(said));
    if text.is_empty() { text } else { format!("{text}\n") }
}

fn stage_end(ended: Ended, started: Instant) -> StageEnd {
    let end = match ended {
        Ended::Exited(code) => Status::Exited(code),
        Ended::Killed(signal) => Status::Killed(signal),
    };
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    StageEnd { end, duration_ms, summary: None, counted: None }
}

fn failed(detail: &dyn Display) -> Refusal {
    Refusal::system(Code::Launcher, "the job's launcher could not be started on this host", detail)
}

/// The launcher with everything that it gets.
fn launcher(
    context: &Context<'_>,
    path: &Path,
    isolation: Isolation,
    ids: Ids,
    launch: Launch,
    opened: Opened,
    summary: Option<&File>,
) -> Result<Launcher, Refusal> {
    let program = files::open(path, context.privilege.rights()).map_err(|e| failed(&e))?;
    let program = exec::out_of_the_way(&program).map_err(|e| failed(&e))?;
    let handover = Envelope::plain(launch.message);
    let named = [
        (HANDOVER_FD, Some(exec::sealed(c"nunbird-handover", &handover).map_err(|e| failed(&e))?)),
        (SCRIPT_FD, opened.script),
        (EXIT_CODE_FD, opened.exit_code),
        (SUMMARY_FD, summary.map(File::try_clone).transpose().map_err(|e| failed(&e))?),
    ];
    Ok(Launcher {
        program,
        files: named.into_iter().filter_map(|(fd, file)| Some((fd, file?))).collect(),
        argv: vec![c"nunbird".to_owned()],
        environment: launch.environment,
        isolation,
        ids,
    })
}

/// Runs the launcher as this process's child, and comes back when it has ended, as the shepherd. It is `held` by the job's group by then.
fn run_here(
    launch: Launcher,
    confines: &Confines,
    context: &Context<'_>,
    held: &mut Option<Held>,
) -> Result<Ended, Refusal> {
    let user = launch.ids.uid;
    let waiter = Waiter::block(&shepherd::HEEDED).map_err(|e| could_not_start("sigprocmask", &e))?;
    let (released, release) = io::pipe().map_err(|e| could_not_start("pipe", &e))?;
    // The launcher's descriptors must not take its number.
    let released = exec::out_of_the_way(&File::from(OwnedFd::from(released)));
    let released = released.map_err(|e| could_not_start("pipe", &e))?;
    let mut ends = Some(release);
    let child = fork(launch, confines, context, || {
        // With its own copy open it would never see the parent's end close.
        drop(ends.take());
        Ok(Some(released))
    })?;
    let Some(release) = ends else { return Err(could_not_start("pipe", &"lost")) };
    if let Some(group) = &confines.group {
        // Step 28c.
        *held = Some(group.take(context.privilege, &child, user)?);
    }
    shepherd::watch(&child, &waiter, Reach::Signals(Some(release)), context, user)
}

/// Forks; the child does `first`, becomes the launcher, and before that waits for the pipe that `first` may give.
fn fork(
    launch: Launcher,
    confines: &Confines,
    context: &Context<'_>,
    first: impl FnOnce() -> io::Result<Option<File>>,
) -> Result<Child, Refusal> {
    let parent = process::id();
    fork_into(|| {
        let started = first()
            .map_err(|e| could_not_start("descriptors", &e))
            .and_then(|gate| become_launcher(launch, confines, context, parent, gate));
        match started {
            Ok(never) => match never {},
            Err(refusal) => {
                refusal.print(&context.decision_id, context.unobfuscated);
                i32::from(refusal.exit_code(context.inputs.exit_codes))
            }
        }
    })
    .map_err(|e| could_not_start("fork", &e))
}

/// The child's way to the launcher: `nunbird_drop::launch`.
fn become_launcher(
    launch: Launcher,
    confines: &Confines,
    context: &Context<'_>,
    parent: i32,
    gate: Option<File>,
) -> Result<Infallible, Refusal> {
    confines.take_place(context.privilege).map_err(|e| could_not_start("limits", &e))?;
    let privileged = context.privilege.source.is_privileged();
    let around = Surroundings {
        change: if privileged { Change::BecomeUser } else { Change::Stay },
        limits: Some(&confines.rlimits),
        keeper: context.privilege.keeper(),
        parent,
        gate,
    };
    launch.execute(around).map_err(|failure| could_not_start(failure.step, &failure.error))
}

pub(crate) fn killed(signal: i32) -> Refusal {
    let detail = format!("the launcher was ended by signal {signal}");
    Refusal::system(Code::LauncherKilled, "the job's launcher was killed on this host", detail)
}
