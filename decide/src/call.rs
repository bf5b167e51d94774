//! One call of `nunbird-auth`, from the first message to the last.

use crate::monitor::{Monitor, decider_failed, refused_by};
use crate::sandbox::{self, Part};
use crate::settings::{self, Settings};
use crate::verifier::Verifier;
use crate::{admission, denials, monitor, stage, tidying};
use nunbird_audit::{Script, Usage};
use nunbird_handover::JobSpec;
use nunbird_host::refusal::{Class, Refusal, print_error};
use nunbird_policy::Subject;
use nunbird_requests::{Request, StageKind, Start, Task};
use nunbird_token::Admitted;
use std::fs::File;
use std::process::ExitCode;

/// The status for an answer that gitlab-runner did not take.
const UNHEARD: u8 = 3;

/// What every step of a decision needs to know.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) start: &'a Start,
    pub(crate) monitor: &'a Monitor,
    /// `config`, `prepare`, `run` or `cleanup`, as events name it.
    pub(crate) stage: &'static str,
    /// The verified identity, once there is one.
    pub(crate) admitted: Option<Admitted>,
    /// What rules may ask about it.
    pub(crate) subject: Option<Subject>,
    /// What is kept of the job, once it is made or read.
    pub(crate) record: Option<JobSpec>,
    /// The script of a `run`, once it has been read.
    pub(crate) script: Option<Script>,
    /// What the job has used, for its clean-up.
    pub(crate) used: Option<Usage>,
}

impl Call<'_> {
    /// What is kept of the job.
    ///
    /// # Errors
    /// A system refusal before there is a job.
    pub(crate) fn spec(&self) -> Result<&JobSpec, Refusal> {
        self.record.as_ref().ok_or_else(|| decider_failed(&"no job"))
    }
}

/// The decider's whole life.
pub(crate) fn serve() -> ExitCode {
    let taken = Monitor::take().and_then(|monitor| Ok((monitor, Verifier::take()?)));
    let begun = taken.and_then(|(monitor, verifier)| {
        sandbox::enter(Part::Decider)?;
        let (start, files) = monitor.start()?;
        Ok((monitor, verifier, start, files))
    });
    match begun {
        Ok((monitor, verifier, start, files)) => decide(&monitor, &verifier, &start, files),
        Err(e) => {
            print_error(&format!("nunbird-decide: {e}; only nunbird-auth starts this program\n"));
            ExitCode::FAILURE
        }
    }
}

fn decide(monitor: &Monitor, verifier: &Verifier, start: &Start, files: Vec<File>) -> ExitCode {
    let (stage, used) = match &start.task {
        Task::Config => ("config", None),
        Task::Tidy(_) => ("tidy", None),
        Task::Stage(stage) => {
            (name(&stage.kind), stage.used.as_ref().and_then(stage::used).map(|(_, now)| now))
        }
    };
    let mut call =
        Call { start, monitor, stage, admitted: None, subject: None, record: None, script: None, used };
    match &start.task {
        Task::Config => config(&mut call, verifier, files),
        Task::Stage(stage) => match stage::serve(&mut call, stage, files) {
            Ok(()) => ExitCode::SUCCESS,
            Err(refusal) => refuse(&call, &refusal),
        },
        Task::Tidy(name) => {
            let tidied =
                settings::read(start, files).and_then(|settings| tidying::tidy(&call, &settings, name));
            let last = tidied.map_or_else(|refusal| Request::Deny(refused_by(refusal)), |()| Request::Tidied);
            let _heard = monitor.ask(&last);
            ExitCode::SUCCESS
        }
    }
}

fn name(kind: &StageKind) -> &'static str {
    match kind {
        StageKind::Prepare => "prepare",
        StageKind::Run(_) => "run",
        StageKind::Cleanup | StageKind::CleanupOfSucceeded => "cleanup",
    }
}

fn config(call: &mut Call<'_>, verifier: &Verifier, files: Vec<File>) -> ExitCode {
    let settings: Result<Settings, Refusal> = match &call.start.refused {
        Some(refused) => Err(monitor::refusal(refused.clone())),
        None => settings::read(call.start, files),
    };
    let decided = match settings {
        Ok(settings) => admission::admit(call, &settings, verifier)
            .map_err(|refusal| denials::write(call, Some(&settings), refusal)),
        Err(refusal) => Err(denials::write(call, None, refusal)),
    };
    match decided {
        Ok(answer) => match admission::print(&answer) {
            Ok(()) => ExitCode::SUCCESS,
            Err(refusal) => {
                print(call, &refusal);
                ExitCode::from(UNHEARD)
            }
        },
        Err(refusal) => refuse(call, &refusal),
    }
}

/// Prints a refusal that has been written, and ends the conversation by it.
fn refuse(call: &Call<'_>, refusal: &Refusal) -> ExitCode {
    print(call, refusal);
    let _heard = call.monitor.ask(&Request::Refuse(refusal.class == Class::Denied));
    ExitCode::SUCCESS
}

fn print(call: &Call<'_>, refusal: &Refusal) {
    refusal.print(&call.start.decision_id, call.start.unobfuscated);
}
