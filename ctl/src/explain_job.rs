//! Judges a job for `explain`: from a job response, a token or claims to what `nunbird-auth config`
//! would answer.

use crate::as_admin::{AsAdmin, Stop, ValidationMode};
use crate::claims;
use crate::containers::JobContainer;
use crate::output::CtlError;
use nunbird_judge::{Class, Course, Identity, Means, Proof, Refusal, containers, identify, place};
use nunbird_policy::{AccountFacts, Policy, RequestRefused, Rule, Subject};
use nunbird_token::{MAX_RESPONSE, Rejection, Response};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// In place of a decision's id, where there is no decision.
const NO_DECISION: &str = "00000000000000000000000000000000";

/// The answer.
pub(crate) enum ConfigResult<'p> {
    /// Every check was made, and passed.
    Admitted(Box<Admission<'p>>),
    /// The program's own refusal.
    Refused(Refusal),
    /// It could not be determined, and why.
    Undecided(Vec<String>),
}

/// What an admitted job gets.
#[derive(Debug)]
pub(crate) struct Admission<'p> {
    pub(crate) rule: &'p Rule,
    pub(crate) account: AccountFacts,
    pub(crate) data_dir: PathBuf,
    pub(crate) container: Option<JobContainer>,
}

/// What `nunbird-auth` would answer, and the findings on the way to it.
pub(crate) struct JobVerdict<'p> {
    pub(crate) answer: ConfigResult<'p>,
    /// `None` if the identity was not verified.
    pub(crate) course: Option<Course<'p>>,
    /// For humans: what was assumed, or not checked.
    pub(crate) notes: Vec<String>,
    pub(crate) signature: Option<String>,
    /// The result of an undecided job if everything that was not checked were in order.
    admission: Option<Admission<'p>>,
}

impl<'p> JobVerdict<'p> {
    /// An answer about a job of which nothing else is known.
    pub(crate) fn of(answer: ConfigResult<'p>) -> Self {
        JobVerdict { answer, course: None, notes: Vec::new(), signature: None, admission: None }
    }

    /// One word for programs.
    pub(crate) fn verdict(&self) -> &'static str {
        match &self.answer {
            ConfigResult::Admitted(_) => "admitted",
            ConfigResult::Refused(refusal) if refusal.class == Class::Denied => "denied",
            ConfigResult::Refused(_) => "failed",
            ConfigResult::Undecided(_) => "undecided",
        }
    }
}

/// What is known of a job before it is judged.
pub(crate) enum Job {
    /// `JOB_RESPONSE_FILE`.
    Response(Vec<u8>),
    /// An id token without a response to compare it with.
    Token(String),
    /// Unverified facts.
    Claims(Map<String, Value>),
}

impl Job {
    /// Reads a job response.
    pub(crate) fn from_response(file: &Path) -> Result<Self, CtlError> {
        let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", file.display()));
        let mut bytes = Vec::new();
        // One byte over the limit: then the refusal is the program's.
        File::open(file).map_err(failed)?.take(MAX_RESPONSE + 1).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Job::Response(bytes))
    }

    /// Reads a token.
    pub(crate) fn from_token(file: &Path) -> Result<Self, CtlError> {
        Ok(Job::Token(crate::files::text(file)?.trim().to_owned()))
    }

    /// Reads an object of claims.
    pub(crate) fn from_claims(file: &Path, policy: &Policy) -> Result<Self, CtlError> {
        let text = crate::files::text(file)?;
        let value: Value = serde_json::from_str(&text).map_err(|e| {
            CtlError::new(format!("{}:{}:{}: no JSON: {e}", file.display(), e.line(), e.column()))
        })?;
        claims::named(&value, policy).map_err(|e| CtlError::new(format!("{}: {e}", file.display())))?;
        match value {
            Value::Object(claims) => Ok(Job::Claims(claims)),
            _ => Err(CtlError::new(format!("{}: not a JSON object", file.display()))),
        }
    }
}

/// Judges the job.
///
/// # Errors
/// For malformed claims.
pub(crate) fn judge<'p>(
    policy: &'p Policy,
    job: &Job,
    runner: &str,
    ask: ValidationMode,
) -> Result<JobVerdict<'p>, CtlError> {
    match job {
        Job::Response(bytes) => Ok(by_proof(policy, bytes.clone(), runner, ask, Vec::new())),
        Job::Token(token) => {
            let notes = vec![
                "the token's binding to a job was not judged: name the job response with --job".to_owned(),
            ];
            Ok(by_proof(policy, response_of(token, policy), runner, ask, notes))
        }
        Job::Claims(claims) => by_claims(policy, claims, runner, ask),
    }
}

/// A job response that this token would be bound to.
fn response_of(token: &str, policy: &Policy) -> Vec<u8> {
    let claims = crate::token::payload(token).unwrap_or_default();
    let number = |name: &str| {
        let value = claims.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let project = number("job_project_id").or_else(|| number("project_id")).unwrap_or(0);
    let name = policy.identity.token_variables.first().map_or("", String::as_str);
    let response = json!({
        "id": number("job_id").unwrap_or(0),
        "job_info": { "project_id": project },
        "variables": [{ "key": name, "value": token }],
    });
    response.to_string().into_bytes()
}

fn by_proof<'p>(
    policy: &'p Policy,
    response: Vec<u8>,
    runner: &str,
    ask: ValidationMode,
    notes: Vec<String>,
) -> JobVerdict<'p> {
    let variables = Variables::of(&response);
    let mut means = AsAdmin::new(policy, runner, response, ask);
    // The notes of a token already state that there is no job.
    means.no_job = !notes.is_empty();
    let identified = means.response().and_then(|response| {
        let identity = identify(&means, policy, &response)?;
        let subject = nunbird_judge::subject(&identity.admitted, policy)?;
        Ok((response, identity, subject))
    });
    match identified {
        Ok((response, identity, subject)) => {
            let proof = Proof { response: &response, identity: &identity };
            known(policy, &means, &proof, subject, &variables, notes)
        }
        Err(stop) => {
            let answer = answer(means.honest(stop));
            JobVerdict {
                answer,
                course: None,
                notes: [notes, means.notes()].concat(),
                signature: means.signature(),
                admission: None,
            }
        }
    }
}

/// Judges a job whose identity is taken from the claims.
fn by_claims<'p>(
    policy: &'p Policy,
    claims: &Map<String, Value>,
    runner: &str,
    ask: ValidationMode,
) -> Result<JobVerdict<'p>, CtlError> {
    let subject = claims::read(claims, policy).map_err(CtlError::new)?;
    let means = AsAdmin::new(policy, runner, Vec::new(), ask);
    let mut notes = vec!["signature, time and binding to a job are assumed: claims prove nothing".to_owned()];
    let is_payload = claims.contains_key("iss");
    let Some(server) = policy.gitlab.iter().position(|server| server.name == subject.server) else {
        let refusal = nunbird_judge::identify::refuse(Rejection::Issuer, &[], true, policy);
        return Ok(JobVerdict {
            answer: ConfigResult::Refused(refusal),
            course: None,
            notes,
            signature: None,
            admission: None,
        });
    };
    let settings = policy.gitlab.get(server);
    let (audience, runner_ids) = settings
        .map_or((&[][..], &[][..]), |server| (server.audience.as_slice(), server.runner_ids.as_slice()));
    let rejection = match claims.get("aud") {
        Some(aud) if !names_one(aud, audience) => Some(Rejection::Audience),
        _ if runner_ids.is_empty() => None,
        _ => {
            match subject.runner_id {
                Some(id) if runner_ids.contains(&id) => None,
                None if !is_payload => {
                    notes.push("runner_ids is set, and no `runner_id` is among the claims: assumed to be one of them".to_owned());
                    None
                }
                runner_id => Some(Rejection::OtherRunner { server, runner_id }),
            }
        }
    };
    if let Some(rejection) = rejection {
        let refusal = nunbird_judge::identify::refuse(rejection, &[], true, policy);
        return Ok(JobVerdict {
            answer: ConfigResult::Refused(refusal),
            course: None,
            notes,
            signature: None,
            admission: None,
        });
    }
    let identity = Identity { admitted: claims::admitted(claims, &subject, server), answer: None };
    let proof = Proof { response: &[], identity: &identity };
    let mut judged = known(policy, &means, &proof, subject, &Variables::default(), notes);
    // Nothing about a hypothetical job is certain: what else was not checked is one more
    // assumption.
    if let (ConfigResult::Undecided(unchecked), Some(admission)) = (&judged.answer, judged.admission.take()) {
        judged.notes.extend(unchecked.iter().map(|what| format!("assumed, not checked: {what}")));
        judged.answer = ConfigResult::Admitted(Box::new(admission));
    }
    Ok(judged)
}

/// Whether a token's `aud`, a string or an array of strings, contains one of these.
fn names_one(aud: &Value, audience: &[String]) -> bool {
    let is_one =
        |value: &Value| value.as_str().is_some_and(|text| audience.iter().any(|known| known == text));
    is_one(aud) || aud.as_array().is_some_and(|all| all.iter().any(is_one))
}

/// The decision on a job whose identity is known.
fn known<'p>(
    policy: &'p Policy,
    means: &AsAdmin<'_>,
    proof: &Proof<'_>,
    subject: Subject,
    variables: &Variables,
    mut notes: Vec<String>,
) -> JobVerdict<'p> {
    let from_claims = means.response_is_empty();
    means.is_of(subject.user_id, subject.user_id != 0 || !from_claims);
    let mut course = Course { subject, decision: None };
    let mut unchecked = Vec::new();
    let judged = nunbird_judge::judge(means, policy, proof, &mut course).and_then(|judged| {
        let data_dir = judged.data_dir.as_deref();
        let (_, directories) = policy.job_of(judged.rule);
        let template = data_dir.unwrap_or(&directories.data_dir);
        let AccountFacts { name, home, .. } = &judged.account;
        let own = nunbird_policy::own_directory(template, name, home).filter(|_| directories.upkeep.create);
        means.above_floor(name, own.as_deref())?;
        let place = place::of(policy, judged.rule, &judged.account, &proof.identity.admitted, data_dir)?;
        let is_elsewhere = place.builds_root.is_some() || data_dir.is_some();
        place::keep(directories, is_elsewhere, |name| {
            variables.value(name, &mut unchecked).map_err(|RequestRefused(why)| why)
        })?;
        let container = match policy.container_of(judged.rule) {
            Some(container) if from_claims || means.no_job => {
                notes.push("the job's image and services are not known here, and were not judged".to_owned());
                Some(JobContainer::without_job(container))
            }
            _ => {
                let (account, data_dir) = (&judged.account, place.data_dir.as_path());
                let place = containers::Place { account, data_dir, decision_id: NO_DECISION };
                let given = containers::of(policy, judged.rule, &proof.identity.admitted.containers, &place)?;
                JobContainer::of(policy, judged.rule, &course.subject, &given)
            }
        };
        if let Some(limits) = policy.limits_of(judged.rule) {
            let asked = limits.asked(|name| variables.value(name, &mut unchecked));
            asked.map_err(|e| place::limits_refused(limits, &e))?;
        }
        Ok(Admission { rule: judged.rule, account: judged.account, data_dir: place.data_dir, container })
    });
    unchecked.extend(means.unchecked());
    notes.extend(means.notes());
    let mut admission = None;
    let answer = match judged {
        Ok(found) if unchecked.is_empty() => ConfigResult::Admitted(Box::new(found)),
        Ok(found) => {
            admission = Some(found);
            ConfigResult::Undecided(unchecked)
        }
        Err(stop) => {
            notes.extend(unchecked.into_iter().map(|what| format!("not checked: {what}")));
            answer(means.honest(stop))
        }
    };
    JobVerdict { answer, admission, course: Some(course), notes, signature: means.signature() }
}

fn answer<'p>(stop: Stop) -> ConfigResult<'p> {
    match stop {
        Stop::Refused(refusal) => ConfigResult::Refused(refusal),
        Stop::Undecided(why) => ConfigResult::Undecided(vec![why]),
    }
}

/// The job's variables, as far as a job response shows their values after gitlab-runner has
/// processed them.
#[derive(Default)]
struct Variables(Vec<Variable>);

struct Variable {
    key: String,
    value: String,
    /// Whether the runner passes the value on unchanged.
    plain: bool,
}

impl Variables {
    fn of(response: &[u8]) -> Self {
        if Response::parse(response).is_none() {
            return Variables::default();
        }
        let parsed: Value = serde_json::from_slice(response).unwrap_or_default();
        let all = parsed.get("variables").and_then(Value::as_array);
        let variable = |value: &Value| {
            let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or_default();
            let value = text("value");
            let plain = !flag("file") && (flag("raw") || !value.contains('$'));
            Variable { key: text("key"), value, plain }
        };
        Variables(all.into_iter().flatten().map(variable).collect())
    }

    /// The last of this name counts. A variable that the runner expands counts as unknown.
    fn value(&self, name: &str, unchecked: &mut Vec<String>) -> Result<Option<String>, RequestRefused> {
        let Some(found) = self.0.iter().rfind(|variable| variable.key == name) else { return Ok(None) };
        if !found.plain {
            unchecked.push(format!("{name}: gitlab-runner expands its value"));
            return Ok(None);
        }
        Ok(Some(found.value.clone()).filter(|value| !value.is_empty()))
    }
}
