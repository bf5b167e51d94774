//! The process that calls PAM for one stage: the launcher's parent, root's as long as the session is open.
//!
//! Its standard output and error are `/dev/null` while foreign code runs in it; the launcher gets the runner's.

use crate::group::Group;
use crate::launcher::{self, Files, Place, failed};
use crate::order::{self, Inherited};
use crate::outputs::Outputs;
use crate::pam::Session;
use crate::trouble::Trouble;
use crate::voice::Voice;
use nix::sys::stat::{Mode, umask};
use nunbird_drop::launch::Change;
use nunbird_messages::SessionAdditions;
use nunbird_relay as relay;
use nunbird_relay::watch::Watch;
use nunbird_started::session::{raise_files, session_keyring};
use nunbird_sys::fork::Ended;
use nunbird_sys::process;
use nunbird_sys::rlimits::{self, Limits};
use nunbird_sys::signals::TERM;
use std::io::{PipeWriter, Write};

/// One stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) inherited: Inherited,
    /// The job's, where PAM sets none.
    pub(crate) limits: Limits,
    /// To the process that waits.
    pub(crate) phases: PipeWriter,
}

impl Stage {
    /// The whole life of this process.
    pub(crate) fn run(mut self, parent: i32) -> i32 {
        if let Err((trouble, detail)) = self.attend(parent) {
            order::send(&self.inherited.report, trouble, detail);
            self.say(b"r");
        }
        self.say(b".");
        0
    }

    fn attend(&mut self, parent: i32) -> Result<(), Trouble> {
        process::die_with_parent(TERM, parent).map_err(|e| failed("prctl(PR_SET_PDEATHSIG)", &e))?;
        let outputs = Outputs::take().map_err(|e| failed("standard output", &e))?;
        let voice = Voice::default();
        voice.turn(Some(outputs.errors().map_err(|e| failed("standard error", &e))?));
        let keyring = session_keyring();
        // What a login has where no module sets another.
        process::set_umask(0o022);
        let order = &self.inherited.order;
        let account = &order.record.account.name;
        // Before modules run: mounts may change.
        let group = order.record.group.as_ref().map(Group::prepare).transpose();
        let group = group.map_err(|e| failed("control group", &e))?;
        let mut session = Session::open(&order.pam, account, &self.limits, &voice)?;
        let ended = self.job(&mut session, parent, keyring, &outputs, group.as_ref());
        if let Ok(ended) = &ended {
            self.say(&ended.words());
        }
        // The job's limits and signals are not the modules'. systemd asks a service's processes twice to end, the modules' own programs
        // among them, and the second request may wait already; the time for it is limited.
        let _as_they_are =
            process::default_signals_but(&process::REQUESTS_TO_END).and_then(|()| rlimits::raise_limits());
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
        group: Option<&Group>,
    ) -> Result<Ended, Trouble> {
        let additions = SessionAdditions {
            umask: current_umask(),
            variables: session.variables(&self.inherited.order.pam),
        };
        settle(parent)?;
        let limits = raise_files().map_err(|e| failed("RLIMIT_NOFILE", &e))?;
        let watch = Watch::begin(&relay::HEEDED).map_err(|e| failed("signalfd", &e))?;
        self.say(b"o");
        let Inherited { order, script, exit_code, summary, launcher, control, report } = &mut self.inherited;
        let files = Files {
            launcher: launcher.try_clone().map_err(|e| failed("launcher", &e))?,
            script: script.take(),
            exit_code: exit_code.take(),
            summary: summary.take(),
        };
        let place = Place { outputs, change: change(keyring), limits: &limits, group };
        let child = launcher::start(order, additions, files, place, report)?;
        relay::follow(&child, &watch, control).map_err(|e| failed("waiting for the launcher", &e))
    }

    /// A missing listener means that this process has been asked to end.
    fn say(&mut self, bytes: &[u8]) {
        let _unheard = self.phases.write_all(bytes);
    }
}

/// The process in order again after modules have run in it: they change ids for a while, which clears the signal of the
/// parent's death (prctl(2)).
pub(crate) fn settle(parent: i32) -> Result<(), Trouble> {
    process::set_umask(0o077);
    process::die_with_parent(TERM, parent).map_err(|e| failed("prctl(PR_SET_PDEATHSIG)", &e))?;
    process::forbid_inspection().map_err(|e| failed("prctl(PR_SET_DUMPABLE)", &e))
}

/// A session keyring other than the one from before the modules is theirs, and the job's.
pub(crate) fn change(before: Option<i64>) -> Change {
    if session_keyring() == before { Change::BecomeUser } else { Change::BecomeUserWithKeyring }
}

/// The umask, in octal. It is not changed, but for a moment of this one thread.
pub(crate) fn current_umask() -> u32 {
    let now = umask(Mode::from_bits_truncate(0o077));
    umask(now);
    now.bits()
}
