//! The two processes that hold one session for a whole job, between its stages as well: root's, away from the runner's and the
//! stages' sessions, with no file of theirs.
//!
//! pam_close_session(3) needs the handle that opened the session, and limits, keyring, login uid, mounts and control group
//! are of the process that called PAM. So that process stays, and is the parent of every stage's launcher; the other waits for it as
//! for a stage's. Requests come by a socket in the directory of the job records, which root alone reaches. The session is closed
//! when `cleanup` asks for it, when the job's time is up and no stage runs, and at a signal.

use crate::group::Group;
use crate::launcher::{self, Files, Place, failed};
use crate::order::{self, Inherited};
use crate::outputs::Outputs;
use crate::pam::Session;
use crate::passed::{self, Request};
use crate::stage::{change, current_umask, settle};
use crate::supervisor::supervise;
use crate::trouble::{SessionTrouble, Trouble};
use crate::voice::Voice;
use nunbird_drop::launch::Change;
use nunbird_messages::{Keep, SessionAdditions, SessionOrder};
use nunbird_relay::watch::{Ready, Watch};
use nunbird_relay::{self as relay, HEEDED};
use nunbird_started::session::{raise_files, session_keyring};
use nunbird_sys::clock;
use nunbird_sys::fork::Child;
use nunbird_sys::process;
use nunbird_sys::rlimits::{self, Limits};
use nunbird_sys::signals::{CHLD, CONT, KILL, TERM, USR1, USR2};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// How long a stage may go on when the session is to end, and how long its end may take after that.
const GRACE: Duration = Duration::from_secs(Keep::GRACE);

/// GitLab lets no job run longer (docs.gitlab.com/ci/pipelines/settings, "timeout"), whatever a record has.
const LONGEST: Duration = Duration::from_secs(32 * 86_400);

/// The whole life of the process that waits. `opened` hears one byte when the session is open.
pub(crate) fn run(first: Inherited, limits: Limits, listener: UnixListener, opened: PipeWriter) -> i32 {
    let Inherited { order, report, script, exit_code, summary, launcher, control } = first;
    drop((script, exit_code, summary, launcher, control));
    let Some(keep) = order.keep.clone() else { return 1 };
    let timeout = Duration::from_secs(order.pam.timeout);
    // Both processes let go of the runner's files as soon as the session is open: they would keep its pipes from ending.
    let runners = RefCell::new(Some((report, opened)));
    let supervised = process::new_session().and_then(|()| Outputs::take()?.errors()).and_then(|errors| {
        let tell_opened = || {
            if let Some((_, mut opened)) = runners.take() {
                let _gone = opened.write_all(b"o");
            }
        };
        supervise(timeout, tell_opened, |phases, parent| {
            let mut keeper = Keeper { order, keep, limits, listener, phases };
            if let Err((trouble, detail)) = keeper.attend(parent, errors, &runners) {
                if let Some((report, _)) = runners.take() {
                    order::send(&report, trouble, detail);
                }
                keeper.say(b"r");
            }
            keeper.say(b".");
            0
        })
    });
    if let Some((report, _)) = runners.take() {
        match supervised {
            Ok(course) => course.report(&report),
            Err(e) => order::send(&report, SessionTrouble::Failed, format_args!("the session's keeper: {e}")),
        }
    }
    0
}

/// The process that calls the modules.
#[derive(Debug)]
struct Keeper {
    /// The first stage's.
    order: SessionOrder,
    keep: Keep,
    limits: Limits,
    listener: UnixListener,
    phases: PipeWriter,
}

/// What every stage gets of the session.
#[derive(Debug)]
struct Given {
    umask: u32,
    change: Change,
    limits: Limits,
    group: Option<Group>,
    voice: Voice,
}

/// A stage that runs.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Of its shepherd, while that lives.
    control: Option<File>,
    client: UnixStream,
}

impl Keeper {
    fn attend(
        &mut self,
        parent: i32,
        errors: File,
        runners: &RefCell<Option<(File, PipeWriter)>>,
    ) -> Result<(), Trouble> {
        process::die_with_parent(TERM, parent).map_err(|e| failed("prctl(PR_SET_PDEATHSIG)", &e))?;
        let voice = Voice::default();
        voice.turn(Some(errors));
        let keyring = session_keyring();
        process::set_umask(0o022);
        let order = &self.order;
        // Before modules run: mounts may change.
        let group = order.record.group.as_ref().map(Group::prepare).transpose();
        let group = group.map_err(|e| failed("control group", &e))?;
        let mut session = Session::open(&order.pam, &order.record.account.name, &self.limits, &voice)?;
        let umask = current_umask();
        let served = raise_files()
            .map_err(|e| failed("RLIMIT_NOFILE", &e))
            .and_then(|limits| settle(parent).map(|()| limits))
            .map(|limits| Given { umask, change: change(keyring), limits, group, voice: voice.clone() })
            .and_then(|given| {
                Watch::begin(&HEEDED).map(|watch| (given, watch)).map_err(|e| failed("signalfd", &e))
            })
            .and_then(|(given, watch)| self.serve(&mut session, &given, &watch, runners));
        // A later stage must not wait at a socket without a listener.
        let _also_when_it_is_gone = std::fs::remove_file(&self.keep.socket);
        self.say(b"c");
        // The job's limits and signals are not the modules'. systemd asks a service's processes twice to end, the modules' own programs
        // among them, and the second request may wait already; the time for it is limited.
        let _as_they_are =
            process::default_signals_but(&process::REQUESTS_TO_END).and_then(|()| rlimits::raise_limits());
        process::ignore_failed_writes();
        let closers = served.as_deref().unwrap_or_default();
        voice.turn(
            closers.first().and_then(|closer| closer.try_clone().ok()).map(|s| File::from(OwnedFd::from(s))),
        );
        let whole = session.close();
        for mut closer in closers.iter().filter(|_| whole) {
            let _gone = closer.write_all(&[Keep::CLOSED]);
        }
        served.map(drop)
    }

    /// Runs stages until the session is to end; the answer is who asked for that. All of them hear when it has: one that heard earlier would
    /// remove the job's record.
    fn serve(
        &mut self,
        session: &mut Session,
        given: &Given,
        watch: &Watch,
        runners: &RefCell<Option<(File, PipeWriter)>>,
    ) -> Result<Vec<UnixStream>, Trouble> {
        let now = clock::boottime().map_err(|e| failed("clock", &e))?;
        let left =
            Duration::from_secs(self.order.record.expires_at_boottime.saturating_sub(now)).min(LONGEST);
        let mut until = Some(Instant::now() + left);
        // What is left out is reported now, while time is limited: a stage's log may have no reader.
        let _left_out_is_said = session.variables(&self.order.pam);
        given.voice.turn(None);
        self.say(b"o");
        drop(runners.take());
        let mut running: Option<Running> = None;
        let mut closers = Vec::new();
        let mut ending = false;
        while !(ending && running.is_none()) {
            let mut doors = vec![self.listener.as_fd()];
            let control = running.as_ref().and_then(|stage| stage.control.as_ref());
            doors.extend(control.map(AsFd::as_fd));
            let mut end = false;
            match watch.any(&doors, until).map_err(|e| failed("poll", &e))? {
                Ready::Signal(CHLD | USR1 | USR2) => {}
                Ready::Signal(_) => end = true,
                Ready::Other(0) => match self.hear().map_err(|e| failed("accept", &e))? {
                    Some((Request::Close, who)) => {
                        closers.push(who);
                        end = true;
                    }
                    Some((Request::Stage(stage, outputs), client)) => {
                        if let Some(begun) =
                            self.begin(session, given, *stage, &outputs, client, &running, ending)
                        {
                            running = Some(begun);
                        }
                    }
                    None => {}
                },
                Ready::Other(_) => {
                    if let Some(stage) = &mut running {
                        stage.heed();
                    }
                }
                // The job's time is up: a stage that still runs has its shepherd, who ends it.
                Ready::Late if !ending && running.is_some() => until = None,
                Ready::Late if !ending => end = true,
                Ready::Late => {
                    until = Some(Instant::now() + GRACE);
                    if let Some(stage) = &running {
                        stage.signal(KILL);
                    }
                }
            }
            if end && !ending {
                until = Some(Instant::now() + GRACE);
                if let Some(stage) = &running {
                    stage.signal(TERM);
                    stage.signal(CONT);
                }
            }
            ending |= end;
            running = match running.map(Running::look).transpose().map_err(|e| failed("waitpid", &e))? {
                Some(Some(stage)) => Some(stage),
                Some(None) if until.is_none() => {
                    ending = true;
                    None
                }
                _ => None,
            };
        }
        Ok(closers)
    }

    /// The next request. One that cannot be understood is none; its sender hears the end.
    ///
    /// # Errors
    /// As accept(2): who asks would be there for ever, and so ends the session.
    fn hear(&self) -> io::Result<Option<(Request, UnixStream)>> {
        let (socket, _) = match self.listener.accept() {
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                return Ok(None);
            }
            other => other?,
        };
        Ok(passed::receive(&socket).ok().map(|request| (request, socket)))
    }

    #[allow(clippy::too_many_arguments, reason = "everything that a stage has to do with")]
    fn begin(
        &self,
        session: &mut Session,
        given: &Given,
        stage: Inherited,
        outputs: &Outputs,
        mut client: UnixStream,
        running: &Option<Running>,
        ending: bool,
    ) -> Option<Running> {
        let Inherited { order, script, exit_code, summary, launcher, control, report } = stage;
        let files = Files { launcher, script, exit_code, summary };
        let (theirs, own) = (&order.record, &self.order.record);
        let same = theirs.account == own.account && theirs.decision_id == own.decision_id;
        let begun = if !same {
            Err((SessionTrouble::Failed, "a stage of another job".to_owned()))
        } else if running.is_some() || ending {
            Err((
                SessionTrouble::Failed,
                "another stage runs in the session, or it is being closed".to_owned(),
            ))
        } else {
            let variables = session.variables(&self.order.pam);
            let additions = SessionAdditions { umask: given.umask, variables };
            let place =
                Place { outputs, change: given.change, limits: &given.limits, group: given.group.as_ref() };
            launcher::start(&order, additions, files, place, &report)
        };
        match begun {
            Ok(child) => Some(Running { child, control: Some(control), client }),
            Err((trouble, detail)) => {
                order::send(&report, trouble, detail);
                let _gone = client.write_all(b"r.");
                None
            }
        }
    }

    /// Nobody listening means that the process that waits has ended.
    fn say(&mut self, bytes: &[u8]) {
        let _unheard = self.phases.write_all(bytes);
    }
}

impl Running {
    /// A signal for the launcher; it may have ended this very moment.
    fn signal(&self, signal: i32) {
        let _gone = self.child.signal(signal);
    }

    /// A byte of the shepherd's, or its end.
    fn heed(&mut self) {
        let mut byte = [0];
        let signal = match self.control.as_ref().map(|mut control| control.read(&mut byte)) {
            Some(Ok(1)) => relay::passed(byte),
            _ => {
                self.control = None;
                Some(TERM)
            }
        };
        if let Some(signal) = signal {
            self.signal(signal);
            // A user may have stopped it.
            self.signal(CONT);
        }
    }

    /// Reports to the client where it has ended; the stage where it has not.
    fn look(mut self) -> io::Result<Option<Self>> {
        let Some(ended) = self.child.poll()? else { return Ok(Some(self)) };
        let _gone = self.client.write_all(&ended.words());
        Ok(None)
    }
}
