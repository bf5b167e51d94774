//! The process that calls PAM: the launcher's parent, root's as long as the session is open.
//!
//! Its standard output and error are `/dev/null` while foreign code runs in it; the launcher gets the runner's.

use crate::order::{self, Inherited};
use crate::pam::{Session, Trouble};
use nunbird_drop::launch::{Change, Launch, Surroundings};
use nunbird_drop::surrender::Ids;
use nunbird_drop::{environment, relay};
use nunbird_handover::{EXIT_CODE_FD, HANDOVER_FD, SCRIPT_FD, SUMMARY_FD, SessionGroup, SessionTrouble};
use nunbird_sys::cgroup::{Entrance, JobGroup, Way};
use nunbird_sys::exec;
use nunbird_sys::foreign::Caller;
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::session_keyring;
use nunbird_sys::outputs::Outputs;
use nunbird_sys::process;
use nunbird_sys::rlimits::{self, Limits};
use nunbird_sys::signals::TERM;
use nunbird_sys::watch::Watch;
use std::fs::File;
use std::io::{self, PipeWriter, Write};

/// The status of a child that did not become the launcher; it has been reported by then.
const NOT_STARTED: i32 = 125;

/// One stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) inherited: Inherited,
    /// The job's, where PAM says nothing.
    pub(crate) limits: Limits,
    /// To the process that waits.
    pub(crate) phases: PipeWriter,
}

impl Stage {
    /// The whole life of this process.
    pub(crate) fn run(mut self, parent: i32) -> i32 {
        if let Err((trouble, detail)) = self.attend(parent) {
            order::tell(&self.inherited.report, trouble, detail);
            self.say(b"r");
        }
        self.say(b".");
        0
    }

    fn attend(&mut self, parent: i32) -> Result<(), Trouble> {
        process::die_with_parent(TERM, parent).map_err(|e| failed("prctl(PR_SET_PDEATHSIG)", &e))?;
        let outputs = Outputs::take().map_err(|e| failed("standard output", &e))?;
        let keyring = session_keyring();
        // What a login has where no module says otherwise.
        process::set_umask(0o022);
        let order = &self.inherited.order;
        let account = &order.handover.account.name;
        // Before modules run: some move this process into a group of theirs, and mounts may change.
        let group =
            order.group.as_ref().map(entrance).transpose().map_err(|e| failed("control group", &e))?;
        let mut session = Session::open(&order.pam, account, &self.limits, &outputs)?;
        let ended = self.job(&mut session, parent, keyring, &outputs, group.as_ref());
        if let Ok(ended) = &ended {
            self.say(&relay::words(*ended));
        }
        // The job's limits and signals are not the modules'.
        let _as_they_are = process::default_signals().and_then(|()| rlimits::raise_limits());
        process::ignore_failed_writes();
        session.close();
        ended.map(drop)
    }

    /// Runs the launcher in the session.
    fn job(
        &mut self,
        session: &mut Session,
        parent: i32,
        keyring: Option<i64>,
        outputs: &Outputs,
        group: Option<&Entrance>,
    ) -> Result<Ended, Trouble> {
        let handover = &mut self.inherited.order.handover;
        handover.umask = Some(process::current_umask());
        session.add_environment(&self.inherited.order.pam, &mut handover.environment);
        process::set_umask(0o077);
        // Modules change ids for a while, which clears it (prctl(2)).
        process::die_with_parent(TERM, parent).map_err(|e| failed("prctl(PR_SET_PDEATHSIG)", &e))?;
        process::forbid_inspection().map_err(|e| failed("prctl(PR_SET_DUMPABLE)", &e))?;
        let launch = self.launch().map_err(|e| failed("launcher", &e))?;
        let watch = Watch::begin(&relay::HEEDED).map_err(|e| failed("signalfd", &e))?;
        self.say(b"o");
        let change =
            if session_keyring() == keyring { Change::BecomeUser } else { Change::BecomeUserWithKeyring };
        let report = self.inherited.report.try_clone().map_err(|e| failed("report", &e))?;
        let parent = process::id();
        let child = fork_into(|| become_launcher(launch, change, outputs, parent, group, &report));
        let child =
            child.map_err(|e| failed("fork, which a module that leaves threads running prevents", &e))?;
        relay::follow(&child, &watch, &self.inherited.control)
            .map_err(|e| failed("waiting for the launcher", &e))
    }

    /// The launcher and its files, which this process gives away.
    fn launch(&mut self) -> io::Result<Launch> {
        let Inherited { order, script, exit_code, summary, launcher, .. } = &mut self.inherited;
        let handover = &order.handover;
        let message = exec::sealed(c"nunbird-handover", &handover.to_bytes().map_err(io::Error::other)?)?;
        let named = [
            (HANDOVER_FD, Some(message)),
            (SCRIPT_FD, script.take()),
            (EXIT_CODE_FD, exit_code.take()),
            (SUMMARY_FD, summary.take()),
        ];
        let account = &handover.account;
        Ok(Launch {
            program: launcher.try_clone()?,
            files: named.into_iter().filter_map(|(fd, file)| Some((fd, file?))).collect(),
            argv: vec![c"nunbird".to_owned()],
            environment: environment::of(account, &handover.environment)?,
            ids: Ids { uid: account.uid, gid: account.gid, groups: order.groups.clone() },
            isolation: order.isolation,
        })
    }

    /// Nobody listening means that this process has been told to end.
    fn say(&mut self, bytes: &[u8]) {
        let _unheard = self.phases.write_all(bytes);
    }
}

fn failed(step: &str, error: &io::Error) -> Trouble {
    (SessionTrouble::Failed, format!("{step}: {error}"))
}

/// The way into the job's control group. Opened as root: with the runner's rights the kernel lets nobody move a process out of
/// a group that is not the runner's (cgroup-v2.rst, "Delegation Containment").
fn entrance(group: &SessionGroup) -> io::Result<Entrance> {
    let way = if group.place.unified { Way::Unified } else { Way::Separate };
    let group = JobGroup::open(way, &group.place.directories, group.owner);
    group.and_then(|group| group.entrance()).map_err(|trouble| io::Error::other(trouble.to_string()))
}

/// In the child.
fn become_launcher(
    launch: Launch,
    change: Change,
    outputs: &Outputs,
    parent: i32,
    group: Option<&Entrance>,
    report: &File,
) -> i32 {
    let around = Surroundings { change, limits: None, keeper: Caller { uid: 0, gid: 0 }, parent, gate: None };
    let failure = match outputs.give_back() {
        Err(e) => format!("standard output: {e}"),
        Ok(()) => match group.map_or(Ok(()), Entrance::enter) {
            Err(trouble) => format!("control group: {trouble}"),
            Ok(()) => match launch.execute(around) {
                Ok(never) => match never {},
                Err(failure) => failure.to_string(),
            },
        },
    };
    order::tell(report, SessionTrouble::Launcher, failure);
    NOT_STARTED
}
