//! The launcher, started in an open session: the last steps with privilege, in a child of the process that called the modules.

use crate::group::Group;
use crate::order;
use crate::outputs::Outputs;
use crate::trouble::{SessionTrouble, Trouble};
use nunbird_drop::launch::{Change, Launch, Surroundings};
use nunbird_files::identity::Caller;
use nunbird_messages::{
    EXIT_CODE_FD, Envelope, HANDOVER_FD, SCRIPT_FD, SUMMARY_FD, SessionAdditions, SessionOrder, Version,
};
use nunbird_surrender::Ids;
use nunbird_sys::fork::{Child, fork_into};
use nunbird_sys::rlimits::Limits;
use nunbird_sys::signals::KILL;
use nunbird_sys::{exec, priority, process};
use nunbird_wire::Message;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};

/// The status of a child that did not become the launcher; it has been reported by then.
const NOT_STARTED: i32 = 125;

/// Its files, which are given away.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) launcher: File,
    pub(crate) script: Option<File>,
    pub(crate) exit_code: Option<File>,
    pub(crate) summary: Option<File>,
}

/// What it comes into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Its standard output and error.
    pub(crate) outputs: &'a Outputs,
    /// Whether the session keyring is its own already.
    pub(crate) change: Change,
    /// What the session's modules left of the limits that its own process has raised.
    pub(crate) limits: &'a Limits,
    /// The job's control group.
    pub(crate) group: Option<&'a Group>,
}

/// Starts it by an order, with what the session adds. Why it did not start after all is said in `report`.
pub(crate) fn start(
    order: &SessionOrder,
    additions: SessionAdditions,
    files: Files,
    place: Place<'_>,
    report: &File,
) -> Result<Child, Trouble> {
    let launch = prepare(order, additions, files).map_err(|e| failed("launcher", &e))?;
    // The launcher's alone: root's processes of the session must not be the host's first victims.
    let score = order.record.processes.oom_score_adj;
    let report = exec::out_of_the_way(report).map_err(|e| failed("report", &e))?;
    let parent = process::id();
    let (released, release) = io::pipe().map_err(|e| failed("pipe", &e))?;
    let released = exec::out_of_the_way(&released).map_err(|e| failed("pipe", &e))?;
    let (mut ends, mut released) = (Some(release), Some(released));
    let child = fork_into(|| {
        // With its own copy open it would never see the parent's end close.
        drop(ends.take());
        become_launcher(launch, place, score, (parent, released.take()), &report)
    });
    let child = child.map_err(|e| failed("fork, which a module that leaves threads running prevents", &e))?;
    if let Err(why) = place.group.map_or(Ok(()), |group| group.take(child.pid())) {
        // It waits, and has run nothing of the job's.
        let _already_gone = child.signal(KILL);
        let _reaped = child.wait();
        return Err((SessionTrouble::Launcher, format!("control group: {why}")));
    }
    // One that has ended already has reported why.
    let _gone = ends.map(|mut release| release.write_all(b"!"));
    Ok(child)
}

fn prepare(order: &SessionOrder, additions: SessionAdditions, files: Files) -> io::Result<Launch> {
    let account = &order.record.account;
    let mut environment = order.environment.clone();
    environment.extend(beside(&additions.variables, &order.environment));
    let envelope = Envelope { version: Version, message: order.message.clone(), session: Some(additions) };
    let message = exec::sealed(c"nunbird-handover", &envelope.to_bytes())?;
    let named = [
        (HANDOVER_FD, Some(message)),
        (SCRIPT_FD, files.script),
        (EXIT_CODE_FD, files.exit_code),
        (SUMMARY_FD, files.summary),
    ];
    Ok(Launch {
        program: exec::out_of_the_way(&files.launcher)?,
        files: named.into_iter().filter_map(|(fd, file)| Some((fd, file?))).collect(),
        argv: vec![c"nunbird".to_owned()],
        environment,
        ids: Ids { uid: account.uid, gid: account.gid, groups: order.groups.clone() },
        isolation: order.record.isolation,
    })
}

/// The variables as entries of an environment (environ(7)) that has these already, which win.
fn beside(variables: &[(String, String)], environment: &[CString]) -> Vec<CString> {
    let new = |(name, value): &(String, String)| {
        let name = format!("{name}=");
        let known = environment.iter().any(|entry| entry.as_bytes().starts_with(name.as_bytes()));
        if known { None } else { CString::new(name + value).ok() }
    };
    variables.iter().filter_map(new).collect()
}

/// In the child.
fn become_launcher(
    launch: Launch,
    place: Place<'_>,
    score: Option<u16>,
    (parent, gate): (i32, Option<File>),
    report: &File,
) -> i32 {
    let around = Surroundings {
        change: place.change,
        limits: Some(place.limits),
        keeper: Caller { uid: 0, gid: 0 },
        parent,
        gate,
    };
    let failure = match place.outputs.give_back() {
        Err(e) => format!("standard output: {e}"),
        Ok(()) => match score.map_or(Ok(()), priority::set_oom_score) {
            Err(e) => format!("oom_score_adj: {e}"),
            Ok(()) => match launch.execute(around) {
                Ok(never) => match never {},
                Err(failure) => failure.to_string(),
            },
        },
    };
    order::send(report, SessionTrouble::Launcher, failure);
    NOT_STARTED
}

/// A step that failed, as the reason why there is no session.
pub(crate) fn failed(step: &str, error: &io::Error) -> Trouble {
    (SessionTrouble::Failed, format!("{step}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn the_sites_variables_win_over_a_sessions() {
        let variables = [("A", "1"), ("AB", "2"), ("C", "3")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let site = [c"HOME=/h".to_owned(), c"A=site".to_owned()];
        assert_eq!(beside(&variables, &site), [c"AB=2".to_owned(), c"C=3".to_owned()]);
    }
}
