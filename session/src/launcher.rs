//! The launcher, started in an open session: the last steps with privilege, in a child of the process that called the modules.

use crate::order;
use crate::pam::Trouble;
use nunbird_cgroup::{Door, Entrance, JobGroup, Units, Way};
use nunbird_drop::launch::{Change, Launch, Surroundings};
use nunbird_drop::surrender::Ids;
use nunbird_files::foreign::Caller;
use nunbird_files::outputs::Outputs;
use nunbird_handover::{GroupPlace, JobUnits};
use nunbird_messages::{
    EXIT_CODE_FD, Envelope, HANDOVER_FD, SCRIPT_FD, SUMMARY_FD, SessionAdditions, SessionOrder,
    SessionTrouble, Version,
};
use nunbird_sys::fork::{Child, fork_into};
use nunbird_sys::rlimits::Limits;
use nunbird_sys::{exec, priority, process};
use nunbird_wire::Message;
use std::fs::File;
use std::io;

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
    pub(crate) group: Option<&'a Entrance>,
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
    let score = order.oom_score_adj;
    let report = exec::out_of_the_way(report).map_err(|e| failed("report", &e))?;
    let parent = process::id();
    fork_into(|| become_launcher(launch, place, score, parent, &report))
        .map_err(|e| failed("fork, which a module that leaves threads running prevents", &e))
}

fn prepare(order: &SessionOrder, additions: SessionAdditions, files: Files) -> io::Result<Launch> {
    let mut environment = order.environment.clone();
    environment.extend(additions.beside(&order.environment));
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
        ids: Ids { uid: order.account.uid, gid: order.account.gid, groups: order.groups.clone() },
        isolation: order.isolation,
    })
}

/// The way into the job's control group. Opened as root: with the runner's rights the kernel lets nobody move a process out of
/// a group that is not the runner's (cgroup-v2.rst, "Delegation Containment"). Where systemd made the group, a scope of the
/// launcher's own is asked for when it is entered.
pub(crate) fn entrance((place, owner): &(Vec<u8>, u32)) -> io::Result<Entrance> {
    let place: GroupPlace = serde_json::from_slice(place).map_err(io::Error::other)?;
    if let Some(units) = place.units.clone() {
        let JobUnits { slice, scopes, description } = units;
        let units = Units { slice, scopes, description };
        return Ok(Entrance::Scope(Door::new(units, place.directories.clone())));
    }
    let way = if place.unified { Way::Unified } else { Way::Separate };
    let group = JobGroup::open(way, &place.directories, *owner);
    group.and_then(|group| group.entrance()).map_err(|trouble| io::Error::other(trouble.to_string()))
}

/// In the child.
fn become_launcher(launch: Launch, place: Place<'_>, score: Option<u16>, parent: i32, report: &File) -> i32 {
    let around = Surroundings {
        change: place.change,
        limits: Some(place.limits),
        keeper: Caller { uid: 0, gid: 0 },
        parent,
        gate: None,
    };
    let failure = match place.outputs.give_back() {
        Err(e) => format!("standard output: {e}"),
        Ok(()) => match place.group.map_or(Ok(()), Entrance::enter) {
            Err(trouble) => format!("control group: {trouble}"),
            Ok(()) => match score.map_or(Ok(()), priority::set_oom_score) {
                Err(e) => format!("oom_score_adj: {e}"),
                Ok(()) => match launch.execute(around) {
                    Ok(never) => match never {},
                    Err(failure) => failure.to_string(),
                },
            },
        },
    };
    order::tell(report, SessionTrouble::Launcher, failure);
    NOT_STARTED
}

/// A step that failed, as the reason why there is no session.
pub(crate) fn failed(step: &str, error: &io::Error) -> Trouble {
    (SessionTrouble::Failed, format!("{step}: {error}"))
}
