//! One call of `nunbird-auth`, from the first message to the last.

use crate::monitor::{Monitor, decider_failed, refused_by};
use crate::sandbox::{self, Part};
use crate::settings::{self, Settings};
use crate::verifier::Verifier;
use crate::{admission, denials, tidying};
use nunbird_audit::Script;
use nunbird_handover::Record;
use nunbird_host::refusal::{Class, Refusal, print_error};
use nunbird_judge::account::{self, ThisHost};
use nunbird_policy::Subject;
use nunbird_requests::{Request, Start, Task};
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
    /// The verified identity, once there is one.
    pub(crate) admitted: Option<Admitted>,
    /// What rules may ask about it.
    pub(crate) subject: Option<Subject>,
    /// The record, once it is made.
    pub(crate) record: Option<Record>,
    /// A job has none before it runs.
    pub(crate) script: Option<Script>,
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
    let mut call = Call { start, monitor, admitted: None, subject: None, record: None, script: None };
    let settings = settings::read(start, files);
    let decided = match &start.task {
        Task::Config => return config(&mut call, verifier, settings),
        Task::Permit(name) => settings.and_then(|settings| {
            let host = ThisHost::new(monitor);
            account::permitted(name, &settings.policy, &host, start.caller).map(drop)
        }),
        Task::Tidy(name) => settings.and_then(|settings| tidying::tidy(&call, &settings, name)),
    };
    let last = decided.map_or_else(|refusal| Request::Deny(refused_by(refusal)), |()| Request::Permit);
    let _heard = monitor.ask(&last);
    ExitCode::SUCCESS
}

fn config(call: &mut Call<'_>, verifier: &Verifier, settings: Result<Settings, Refusal>) -> ExitCode {
    let decided = match settings {
        Ok(settings) => admission::admit(call, &settings, verifier)
            .map_err(|refusal| denials::write(call, Some(&settings), refusal)),
        Err(refusal) => Err(denials::write(call, None, refusal)),
    };
    match decided {
        Ok(record) => match admission::answer(&record) {
            Ok(()) => ExitCode::SUCCESS,
            Err(refusal) => {
                print(call, &refusal);
                ExitCode::from(UNHEARD)
            }
        },
        Err(refusal) => {
            print(call, &refusal);
            let _heard = call.monitor.ask(&Request::Refuse(refusal.class == Class::Denied));
            ExitCode::SUCCESS
        }
    }
}

fn print(call: &Call<'_>, refusal: &Refusal) {
    refusal.print(&call.start.decision_id, call.start.unobfuscated);
}

/// Has `nunbird-auth` do what a record asks for.
///
/// # Errors
/// Its refusal.
pub(crate) fn bytes(record: &Record) -> Result<Vec<u8>, Refusal> {
    record.to_bytes().map_err(|e| decider_failed(&e))
}
