//! Who a job belongs to: by its id token, or, where the site allows it, by what the GitLab server says of its job token.

use crate::context::Context;
use crate::keys;
use crate::refusal::{Code, Refusal};
use crate::settings::Settings;
use crate::store;
use crate::token_help;
use crate::worker::{self, Evidence, JobEvidence};
use nunbird_policy::IdentitySource;
use nunbird_sys::foreign;
use nunbird_token::{Admitted, MAX_RESPONSE, Rejection};
use std::io::Read;
use zeroize::Zeroizing;

/// Tries the configured sources in order. Only a job that has nothing of the first kind goes on to the next: a bad id token
/// is a denial.
///
/// # Errors
/// A denial when nothing proves the identity; a system refusal when it could not be checked.
pub(crate) fn identify(context: &Context<'_>, settings: &Settings) -> Result<Admitted, Refusal> {
    let response = read_response(context)?;
    let mut last = None;
    for source in &settings.policy.identity.sources {
        let (rejection, refusal) = match source {
            IdentitySource::IdToken => match by_id_token(context, settings, &response)? {
                Ok(admitted) => return Ok(admitted),
                Err(rejected) => rejected,
            },
            IdentitySource::JobToken => match by_job_token(context, settings, &response)? {
                Ok(admitted) => return Ok(admitted),
                Err(rejected) => rejected,
            },
        };
        if !matches!(rejection, Rejection::NoToken | Rejection::Empty) {
            return Err(refusal);
        }
        // What is missing is told of the first source: that is the one the site wants.
        last.get_or_insert(refusal);
    }
    Err(last.unwrap_or_else(|| refuse(Rejection::NoToken, &[], true, settings)))
}

type Identified = Result<Admitted, (Rejection, Refusal)>;

/// Asks the worker; once more after fetching keys, if none fitted.
fn by_id_token(context: &Context<'_>, settings: &Settings, response: &[u8]) -> Result<Identified, Refusal> {
    let now = store::now()?.epoch;
    let mut keys = keys::read(&settings.policy, context.privilege);
    let ask = |files: &[Vec<u8>]| {
        let evidence = Evidence { response, keys: files, now };
        worker::ask(&evidence, &settings.policy, context.privilege)
    };
    let mut answer = ask(&keys.files)?;
    let mut fetched = true;
    if matches!(answer, Err(Rejection::Keys | Rejection::UnknownKey)) {
        let (done, troubles) = keys::refresh(settings, context.privilege);
        fetched = done;
        keys = keys::read(&settings.policy, context.privilege);
        keys.troubles.extend(troubles);
        answer = ask(&keys.files)?;
    }
    Ok(answer.map_err(|rejection| (rejection, refuse(rejection, &keys.troubles, fetched, settings))))
}

/// One worker finds the job's token, the server is asked by an unprivileged program, another worker judges the answer.
fn by_job_token(context: &Context<'_>, settings: &Settings, response: &[u8]) -> Result<Identified, Refusal> {
    let (policy, privilege) = (&settings.policy, context.privilege);
    let found = match worker::find_job_token(response, policy, privilege)? {
        Ok(found) => found,
        Err(rejection) => return Ok(Err((rejection, refuse(rejection, &[], true, settings)))),
    };
    let unanswered = |detail: String| {
        Refusal::system(Code::JobAnswer, "the GitLab server does not say whose job this is", detail)
            .help("try again in a minute, or give the job an id token")
    };
    let server = policy
        .gitlab
        .get(found.server)
        .ok_or_else(|| unanswered("the worker named a server that is not configured".to_owned()))?;
    let token = Zeroizing::new(found.token);
    let answer = keys::ask_about_job(policy, server, &token, privilege)
        .map_err(|e| unanswered(format!("server {}: {e}", server.name)))?;
    let now = store::now()?.epoch;
    let evidence = JobEvidence { response, answer: &answer, server: found.server, now };
    let judged = worker::judge_job_answer(&evidence, policy, privilege)?;
    Ok(judged.map_err(|rejection| (rejection, refuse(rejection, &[], true, settings))))
}

fn refuse(rejection: Rejection, troubles: &[String], fetched: bool, settings: &Settings) -> Refusal {
    let names = settings.policy.identity.token_variables.join(", ");
    let detail = match rejection {
        Rejection::NoToken => format!("no variable named {names}"),
        Rejection::OtherRunner { server, runner_id } => {
            token_help::other_runner(server, runner_id, &settings.policy)
        }
        _ => troubles.join("\n"),
    };
    let (code, message) = (rejection.code(), rejection.to_string());
    match rejection {
        // Nobody can be told from anybody while the keys are missing: that is this host's trouble, not the job's.
        Rejection::Keys => Refusal::system(code, message, detail),
        Rejection::UnknownKey if !fetched && !troubles.is_empty() => Refusal::denied(code, message, detail)
            .help("if the server's keys were just replaced, try again in a minute; else the token is not of this server"),
        Rejection::Response => Refusal::system(code, message, detail),
        _ => Refusal::denied(code, message, detail),
    }
}

fn read_response(context: &Context<'_>) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let refuse = |detail: String| {
        Refusal::system(Code::ResponseFile, "the runner's job response could not be read", detail)
            .help("gitlab-runner 14.1 or later writes it; see the admin guide")
    };
    let path = context
        .inputs
        .response
        .as_deref()
        .ok_or_else(|| refuse("JOB_RESPONSE_FILE is not set".to_owned()))?;
    let shown = path.display();
    let file = foreign::open_for_reading(path, context.privilege.caller)
        .map_err(|e| refuse(format!("{shown}: not a readable regular file of the runner's account: {e}")))?;
    // Room for all of it at once: growing would leave copies behind that nobody wipes.
    let size = file.metadata().map_err(|e| refuse(format!("{shown}: {e}")))?.len().min(MAX_RESPONSE);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 64));
    file.take(MAX_RESPONSE + 1).read_to_end(&mut bytes).map_err(|e| refuse(format!("{shown}: {e}")))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_RESPONSE {
        return Err(refuse(format!("{shown}: larger than {MAX_RESPONSE} bytes")));
    }
    Ok(bytes)
}
