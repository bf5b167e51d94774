//! What a job may use: decided and put in force by `config`, entered by every stage, ended and removed by `cleanup`.
//!
//! Limits and place of each process are its own to take. Control groups are `nunbird-limits`' work, which this program starts with the ids
//! of their owner: what a group is to be, and what it is, are bytes that pass through here. A limit that is demanded and cannot be put in
//! force is a refusal.

use crate::context::Context;
use crate::privilege::{NOBODY_AT_ALL, Privilege, Source};
use crate::refusal::{Code, Refusal};
use nunbird_ask::{As, PROGRAM};
use nunbird_files::identity::acting_as;
use nunbird_groups::{Answer, Counter, Make, Request, Systemd};
use nunbird_host::files;
use nunbird_messages::{Group, ProcessLimits, Record};
use nunbird_requests::{Confine, Counted};
use nunbird_sys::capabilities::{CAP_SETGID, CAP_SETUID};
use nunbird_sys::fork::Child;
use nunbird_sys::{priority, process, rlimits, signals};
use std::fmt::Display;
use std::io;
use std::time::Duration;

/// How long a group may take to be made or entered: longer than systemd is given for it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long one may take to be emptied or removed: longer than the kernel is given for it.
const LONG_PATIENCE: Duration = Duration::from_secs(40);

/// Whether the kernel lets the job's processes have their limits and their place.
///
/// # Errors
/// A system refusal that names what it does not.
fn check(context: &Context<'_>, confine: &Confine) -> Result<(), Refusal> {
    bounds(context, &confine.processes).map_err(|e| refused(&confine.name, &e))?;
    check_nice(confine.processes.nice).map_err(|why| refused(&confine.name, &why))
}

/// Makes the job's group; or why there is none, for the admin. Whether the job runs without one is the decider's to say, as is what to limit.
///
/// # Errors
/// A system refusal when the job's processes cannot have their own limits and their place.
pub(crate) fn establish(context: &Context<'_>, confine: &Confine) -> Result<Result<Group, String>, Refusal> {
    check(context, confine)?;
    Ok(make(context, confine))
}

/// The group, in bytes that later stages pass on. Whether it is the runner's `nunbird-limits` finds out, as the runner.
fn make(context: &Context<'_>, confine: &Confine) -> Result<Group, String> {
    let privilege = context.privilege;
    let decision =
        context.decision_id.get(..16).and_then(|half| u64::from_str_radix(half, 16).ok()).unwrap_or(0);
    let request = Request::Make(Make {
        runner: privilege.caller.uid,
        keeper: privilege.keeper().uid,
        systemd: match privilege.source {
            Source::Root | Source::Setuid => Systemd::Answers,
            Source::FileCapabilities => Systemd::Capabilities,
            Source::None => Systemd::NoPrivilege,
        },
        runner_id: confine.runner_id,
        job_id: confine.job_id,
        decision,
        account: confine.account.clone(),
        order: confine.order.clone(),
    });
    for is_runners in [true, false] {
        let by = by(privilege, is_runners, privilege.caller.uid);
        match ask(privilege, by, &request, PATIENCE)? {
            (Answer::Made(bytes), _) => {
                let owner = by.ids.map_or(privilege.caller.uid, |(uid, _)| uid);
                let (limits, job_id) = (confine.name.clone(), confine.job_id);
                return Ok(Group { limits, is_runners, owner, job_id, decision, bytes });
            }
            (Answer::Keeper, _) if is_runners => {}
            (answer, _) => return Err(unexpected(answer)),
        }
    }
    Err(unexpected(Answer::Keeper))
}

/// Takes back what [`establish`] made for a job that is not admitted after all.
pub(crate) fn abandon(privilege: Privilege, group: &Group) {
    let _the_refusal_is_reported_instead = remove_of(privilege, Some(group), privilege.caller.uid);
}

/// What a stage's process is put under while it still has privilege.
#[derive(Debug)]
pub(crate) struct Confines {
    /// The job's group, where it has one that this process's child enters.
    pub(crate) group: Option<Entry>,
    /// The limits of its processes.
    pub(crate) rlimits: rlimits::Limits,
    /// Their nice value and score.
    pub(crate) processes: ProcessLimits,
}

impl Confines {
    /// Without a group.
    ///
    /// # Errors
    /// When the kernel does not let a limit go so high.
    pub(crate) fn of(context: &Context<'_>, processes: &ProcessLimits) -> io::Result<Self> {
        Ok(Confines { group: None, rlimits: bounds(context, processes)?, processes: *processes })
    }

    /// Takes the job's place among processes: every process that this one starts has it.
    ///
    /// # Errors
    /// As setpriority(2), and write(2) to `oom_score_adj`.
    pub(crate) fn take_place(&self, privilege: Privilege) -> io::Result<()> {
        if let Some(nice) = self.processes.nice {
            let named = |e| io::Error::other(format!("the nice value {nice}: {e}"));
            priority::set_nice(i32::from(nice)).map_err(named)?;
        }
        let named = |e| io::Error::other(format!("oom_score_adj: {e}"));
        self.take_oom_score(privilege).map_err(named)
    }

    /// Takes the job's nice value alone, for root's processes of its session.
    ///
    /// # Errors
    /// As [`Confines::take_place`].
    pub(crate) fn take_place_of_keepers(&self, privilege: Privilege) -> io::Result<()> {
        let processes = ProcessLimits { oom_score_adj: None, ..self.processes };
        Confines { group: None, rlimits: self.rlimits.clone(), processes }.take_place(privilege)
    }

    fn take_oom_score(&self, privilege: Privilege) -> io::Result<()> {
        let take =
            || self.processes.oom_score_adj.map_or_else(priority::plain_oom_score, priority::set_oom_score);
        if privilege.source.is_privileged() {
            return acting_as(privilege.keeper(), take)?;
        }
        // The file is root's while no process may look into this one, and here no process is root. Those that may look
        // meanwhile are processes of the same account, which started this one.
        process::while_inspection_is_allowed(take)
    }
}

/// Whether processes can be given their place: to go before others takes a capability that this program has not.
fn check_nice(wanted: Option<u8>) -> Result<(), String> {
    let (now, wanted) = (priority::nice(), wanted.map(i32::from));
    match wanted.filter(|wanted| *wanted < now) {
        None => Ok(()),
        Some(wanted) => Err(format!(
            "the nice value cannot be {wanted}: that of gitlab-runner is {now}; lower Nice= of its unit"
        )),
    }
}

/// The way into a job's group.
#[derive(Debug)]
pub(crate) struct Entry {
    group: Group,
    runner: u32,
}

/// The group while a stage runs.
#[derive(Debug)]
pub(crate) struct Held {
    /// What the counters are, which the decider reads.
    described: Vec<u8>,
    counters: Vec<Counter>,
    /// What was in them when the stage began.
    before: Vec<Vec<u8>>,
}

impl Entry {
    /// Of the job's group, if it has one.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        Some(Entry { group: record.group.clone()?, runner: record.runner_uid })
    }

    /// Makes sure that the group's limits are in force, and opens its counters.
    ///
    /// # Errors
    /// A system refusal when the group is gone or was changed.
    pub(crate) fn hold(&self, privilege: Privilege) -> Result<Held, Refusal> {
        self.open(privilege, None).map_err(|trouble| refused(&self.group.limits, &trouble))
    }

    /// As [`Entry::hold`], and brings this child into the group. It must wait for that, before it has run anything of the job's; it is ended
    /// where it cannot be brought in.
    ///
    /// # Errors
    /// As [`Entry::hold`].
    pub(crate) fn take(&self, privilege: Privilege, child: &Child, user: u32) -> Result<Held, Refusal> {
        self.open(privilege, Some(child.pid())).map_err(|trouble| {
            // It has this process's ids until it has the user's.
            let _already_gone = child.signal(signals::KILL).or_else(|_| child.kill_as(user));
            refused(&self.group.limits, &trouble)
        })
    }

    fn open(&self, privilege: Privilege, process: Option<i32>) -> Result<Held, String> {
        let by = by(privilege, self.group.is_runners, self.runner);
        match ask(privilege, by, &Request::Enter(self.group.clone(), process), PATIENCE)? {
            (Answer::Entered(described, before), counters) => Ok(Held { described, counters, before }),
            (answer, _) => Err(unexpected(answer)),
        }
    }
}

/// The limits of processes for the job: the runner's, and the site's over them.
///
/// # Errors
/// When the kernel does not let one go so high.
fn bounds(context: &Context<'_>, processes: &ProcessLimits) -> io::Result<rlimits::Limits> {
    let [nofile, nproc, fsize, core, stack, stack_hard, memlock, address_space, cpu_time] = processes.rlimits;
    context.limits.bounded(rlimits::Bounds {
        nofile,
        nproc,
        fsize,
        core,
        stack,
        stack_hard,
        memlock,
        address_space,
        cpu_time,
    })
}

/// Ends every process of the job. Its user's other processes are in other groups.
///
/// # Errors
/// A system refusal when some do not end; the record stays, so that `cleanup` can be called again.
pub(crate) fn end(privilege: Privilege, record: &Record) -> Result<Option<Counted>, Refusal> {
    let Some((by, group)) = parts(privilege, record.group.as_ref(), record.runner_uid) else {
        return Ok(None);
    };
    let request = Request::End(group, record.account.uid);
    // A keeper that does not have the kernel do it acts as the user.
    let able = match privilege.source.is_privileged() {
        true => As { ids: Some((0, 0)), capabilities: (1 << CAP_SETUID) | (1 << CAP_SETGID) },
        false => by,
    };
    let by = if by.ids == able.ids { able } else { by };
    let answer = match ask(privilege, by, &request, LONG_PATIENCE) {
        Ok((Answer::Keeper, _)) => ask(privilege, able, &request, LONG_PATIENCE),
        other => other,
    };
    match answer.map_err(|trouble| left(&trouble))? {
        (Answer::Ended(described, now), _) => Ok(Some(Counted { described, before: Vec::new(), now })),
        (Answer::Done, _) => Ok(None),
        (answer, _) => Err(left(&unexpected(answer))),
    }
}

/// Removes the group, once it is empty, or has systemd stop it. One that is gone is fine: the host has restarted, or this is the second time.
///
/// # Errors
/// As [`end`].
pub(crate) fn remove(privilege: Privilege, record: &Record) -> Result<(), Refusal> {
    remove_of(privilege, record.group.as_ref(), record.runner_uid)
}

fn remove_of(privilege: Privilege, group: Option<&Group>, runner: u32) -> Result<(), Refusal> {
    let Some((by, group)) = parts(privilege, group, runner) else { return Ok(()) };
    match ask(privilege, by, &Request::Remove(group), LONG_PATIENCE).map_err(|trouble| left(&trouble))? {
        (Answer::Done, _) => Ok(()),
        (answer, _) => Err(left(&unexpected(answer))),
    }
}

/// As whom the job's group is used, and the group.
fn parts(privilege: Privilege, group: Option<&Group>, runner: u32) -> Option<(As, Group)> {
    Some((by(privilege, group?.is_runners, runner), group?.clone()))
}

/// `runner` is the caller, or where root reaps a job the one that is in its record.
fn by(privilege: Privilege, is_runners: bool, runner: u32) -> As {
    let caller = privilege.caller;
    let ids = match is_runners {
        true if runner == caller.uid => (caller.uid, caller.gid),
        true => (runner, NOBODY_AT_ALL),
        false => (0, 0),
    };
    As { ids: privilege.source.is_privileged().then_some(ids), capabilities: 0 }
}

/// Has `nunbird-limits`, which lies beside this program, do one thing.
fn ask(
    privilege: Privilege,
    by: As,
    request: &Request,
    patience: Duration,
) -> Result<(Answer, Vec<Counter>), String> {
    nunbird_ask::ask(&files::beside(PROGRAM, privilege.rights())?, by, request, patience)
}

fn unexpected(answer: Answer) -> String {
    match answer {
        Answer::Trouble(why) => why,
        _ => format!("{PROGRAM} answered something else than was asked"),
    }
}

fn refused(name: &str, detail: &dyn Display) -> Refusal {
    let message = "the limits for this job cannot be put in force on this host";
    Refusal::system(Code::Limits, message, format!("[limits.{name}]: {detail}"))
}

fn left(trouble: &dyn Display) -> Refusal {
    let message = "processes of this job could not be ended on this host";
    Refusal::system(Code::LimitsCleanup, message, trouble)
}

impl Held {
    /// What the counters say. Looks once, without privilege: the files are open.
    pub(crate) fn counted(self) -> Counted {
        let now = self.counters.iter().map(Counter::content).collect();
        Counted { described: self.described, before: self.before, now }
    }
}
