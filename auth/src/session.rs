//! From a prepared launcher to `nunbird-session`, which runs it in a PAM session.
//!
//! The child becomes root's with an empty environment and becomes that program; the parent stays as shepherd, as ever, and
//! reaches the child by a pipe. A failure of the session is reported by another, in one message of fixed form.

use crate::context::Context;
use crate::decider;
use crate::limits::Confines;
use crate::opened::could_not_start;
use crate::privilege::Privilege;
use crate::refusal::{Code, Refusal};
use crate::shepherd::{self, Reach};
use crate::store;
use nunbird_drop::launch::Launch as Launcher;
use nunbird_host::files;
use nunbird_messages::{
    CONTROL_FD, HANDOVER_FD, Keep, LAUNCHER_FD, REPORT_FD, Record, RefusedBy, SessionOrder, SessionSpan,
    Untrusted, Version,
};
use nunbird_requests::Launch;
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::signals::Waiter;
use nunbird_sys::{answer, exec, process};
use nunbird_wire::Message;
use std::convert::Infallible;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

/// It lies beside this program.
const PROGRAM: &str = "nunbird-session";
/// The longest report, in bytes.
const MAX_REPORT: usize = 4096;

/// What a session needs beside the launcher.
#[derive(Debug)]
pub(crate) struct Session {
    program: File,
    order: File,
}

impl Session {
    /// Prepares the session of a stage, where the job has one. `cleanup` runs nothing of the user's, and must work for an
    /// account that PAM refuses by now.
    ///
    /// # Errors
    /// A system refusal when the program is missing or not trusted.
    pub(crate) fn prepare(
        context: &Context<'_>,
        record: &Record,
        launch: &Launch,
        groups: &[u32],
    ) -> Result<Option<Self>, Refusal> {
        let clears_away = context.stage == "cleanup";
        let Some(pam) = record.pam.as_ref().filter(|_| !clears_away) else {
            return Ok(None);
        };
        context.privilege.source.check_pam().map_err(|e| failed(&e))?;
        // Beside this program: a record could name another tree of root's.
        let program = files::beside(PROGRAM, context.privilege.rights()).map_err(|e| failed(&e))?;
        let order = SessionOrder {
            version: Version,
            record: Record { body: Vec::new(), ..record.clone() },
            groups: groups.to_vec(),
            exit_codes: context.inputs.exit_codes,
            message: launch.message.clone(),
            environment: launch.environment.clone(),
            pam: pam.clone(),
            keep: (pam.session == SessionSpan::Job).then(|| Keep {
                socket: store::session_socket(record),
                record: store::record_file(record),
                opens: context.stage == "prepare",
            }),
        };
        Ok(Some(Session {
            program,
            order: exec::sealed(c"nunbird-session", &order.to_bytes()).map_err(|e| failed(&e))?,
        }))
    }

    /// Runs the stage in its session and comes back when both have ended, as the shepherd.
    ///
    /// # Errors
    /// A denial when PAM refuses the account; a system refusal when there was no session or no launcher in it.
    pub(crate) fn run(
        self,
        launch: Launcher,
        confines: &Confines,
        context: &Context<'_>,
    ) -> Result<Ended, Refusal> {
        let step = |name: &'static str| move |e: io::Error| could_not_start(name, &e);
        let user = launch.ids.uid;
        let waiter = Waiter::block(&shepherd::HEEDED).map_err(step("sigprocmask"))?;
        let (control, signals) = io::pipe().map_err(step("pipe"))?;
        let (reports, report) = io::pipe().map_err(step("pipe"))?;
        let mut files: Vec<(RawFd, File)> =
            launch.files.into_iter().filter(|(number, _)| *number != HANDOVER_FD).collect();
        files.push((HANDOVER_FD, self.order));
        files.push((LAUNCHER_FD, launch.program));
        files.push((CONTROL_FD, File::from(OwnedFd::from(control))));
        files.push((REPORT_FD, File::from(OwnedFd::from(report))));
        let child = fork_into(|| match become_session(&self.program, &files, confines, context.privilege) {
            Ok(never) => match never {},
            Err(error) => {
                let refusal = could_not_start(PROGRAM, &error);
                refusal.print(&context.decision_id, context.unobfuscated);
                i32::from(refusal.exit_code(context.inputs.exit_codes))
            }
        });
        let child = child.map_err(step("fork"))?;
        // The session's ends of both pipes among them.
        drop(files);
        let ended = shepherd::watch(&child, &waiter, Reach::Pipe(signals), context, user)?;
        let said = answer::what_is_there(reports, MAX_REPORT).map_err(step("report of the session"))?;
        if said.is_empty() { Ok(ended) } else { Err(refusal_of(&said)) }
    }
}

/// In the child. Everything but the standard descriptors and these files is closed by execve(2), the shepherd's end of the
/// pipe among it. The job's control group is for the launcher to enter, once no module can move it any more, and so is the job's score
/// with the out-of-memory killer.
fn become_session(
    program: &File,
    files: &[(RawFd, File)],
    confines: &Confines,
    privilege: Privilege,
) -> io::Result<Infallible> {
    process::new_session()?;
    process::null_stdin()?;
    let files: Vec<(RawFd, &File)> = files.iter().map(|(number, file)| (*number, file)).collect();
    exec::place(&files)?;
    confines.take_place_of_keepers(privilege)?;
    confines.rlimits.restore()?;
    Linux.set_groups(&[])?;
    Linux.set_gids(0, 0, 0)?;
    Linux.set_uids(0, 0, 0)?;
    process::default_signals()?;
    exec::execute(program, &[c"nunbird-session".to_owned()], &[])
}

fn failed(detail: &dyn Display) -> Refusal {
    Refusal::system(Code::Pam, "a session for the job could not be opened on this host", detail)
}

/// What nunbird-session may report.
const REPORTED: [Code; 6] =
    [Code::Pam, Code::PamAccount, Code::PamUser, Code::PamTimeout, Code::PamSession, Code::Launcher];

/// A report that cannot be read is trouble all the same.
fn refusal_of(said: &[u8]) -> Refusal {
    match RefusedBy::from_bytes(said) {
        Ok(refused) if REPORTED.iter().any(|code| code.name() == refused.code) => decider::refusal(refused),
        Ok(refused) => failed(&format!("nunbird-session refuses with the code {}", Untrusted(&refused.code))),
        Err(e) => failed(&format!("the report of nunbird-session: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{REPORTED, refusal_of};
    use crate::refusal::Code;
    use nunbird_messages::RefusedBy;
    use nunbird_wire::Message;

    #[test]
    fn a_session_refuses_with_codes_of_sessions_alone() {
        let report = |code: &str| {
            let of = |text: &str| text.to_owned();
            let refused =
                RefusedBy { denied: true, code: of(code), message: of("m"), detail: of("d"), help: of("h") };
            refusal_of(&refused.to_bytes())
        };
        for code in Code::ALL {
            let refusal = report(code.name());
            let expected = if REPORTED.contains(code) { *code } else { Code::Pam };
            assert_eq!(refusal.code, expected, "{}", code.name());
            assert_eq!(refusal.detail == "d", REPORTED.contains(code), "{}", refusal.detail);
        }
        assert_eq!(report("\u{1b}[31m").detail, "nunbird-session refuses with the code \\u{1b}[31m");
        assert_eq!(refusal_of(b"x").code, Code::Pam);
    }
}
