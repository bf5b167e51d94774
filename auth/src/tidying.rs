//! Removing an account's old build directories without a job: for `nunbirdctl sweep`, so that the directories of people who
//! start no jobs any more go, too.
//!
//! Only the keeper of the records may ask. The decider names the directories, by each of the site's rules, and the launcher removes, as the
//! user, what no job has.

use crate::arguments::Call;
use crate::context::Context;
use crate::decider::{self, Decided, Question, Service};
use crate::refusal::{Code, Refusal};
use crate::settings;
use crate::stages::Served;
use nunbird_requests::Task;

/// Tidies the account's build directories.
///
/// # Errors
/// A refusal for any other caller than the keeper, for an account that no job may become, and when the launcher does not start.
pub(crate) fn tidy(call: &Call, context: &Context<'_>, name: &str) -> Result<Served, Refusal> {
    let (caller, keeper) = (context.privilege.caller, context.privilege.keeper());
    if caller.uid != keeper.uid {
        let detail = format!("uid {} does not keep the records", caller.uid);
        return Err(Refusal::denied(Code::NotTheKeeper, "this is for nunbirdctl sweep, run by root", detail));
    }
    let configuration = settings::open(call.configuration.as_deref(), context.privilege)?;
    let question = Question { configuration, ..Question::new(Task::Tidy(name.to_owned())) };
    match decider::decide(context, question, Service::Tidy)? {
        Decided::Done => Ok(Served::Done),
        Decided::Refused(class) => Ok(Served::Refused(class)),
    }
}
