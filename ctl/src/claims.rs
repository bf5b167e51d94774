//! The facts of a job as JSON has them: a token's payload as GitLab signs it, a line of the audit file, or what an admin
//! writes down by hand.

use nunbird_handover::Untrusted;
use nunbird_policy::{IdentitySource, Policy, Subject};
use nunbird_token::{Admitted, Source, UserIdentity, fork_by_pipeline};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Names that facts have when an admin writes them, as in `[[test]]`.
const NAMES: [&str; 21] = [
    "server",
    "identity_source",
    "user_login",
    "user_id",
    "user_email",
    "user_access_level",
    "groups_direct",
    "user_identities",
    "project_path",
    "project_id",
    "namespace_path",
    "ref",
    "ref_type",
    "ref_protected",
    "pipeline_source",
    "fork",
    "environment",
    "environment_protected",
    "runner_id",
    "validated",
    "namespace_id",
];

/// Reads an object that an admin names. One without `iss` is no token's payload, and then a name that is not known here is
/// a misspelt one.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn named(value: &Value, policy: &Policy) -> Result<Subject, String> {
    let object = value.as_object().ok_or("this is no JSON object")?;
    if !object.contains_key("iss")
        && let Some(unknown) = object.keys().find(|key| !NAMES.contains(&key.as_str()))
    {
        return Err(format!("unknown fact `{}`; known: {}", Untrusted(unknown), NAMES.join(", ")));
    }
    read(object, policy)
}

/// Reads an object of which only some is known: a payload, or an event.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn read(object: &Map<String, Value>, policy: &Policy) -> Result<Subject, String> {
    let facts = Facts(object);
    let needed = |name: &str| facts.text(name)?.ok_or_else(|| format!("there is no `{name}`"));
    // In a merge request from a fork `project_path` is the fork's, and the job's project has a claim of its own.
    let project_path = match facts.text("job_project_path")? {
        Some(path) => path,
        None => needed("project_path")?,
    };
    let parent = || project_path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
    let namespace_path = match facts.text("job_namespace_path")? {
        Some(path) => path,
        None => facts.text("namespace_path")?.unwrap_or_else(parent),
    };
    let source = match facts.text("identity_source")?.as_deref() {
        None | Some("id_token") => IdentitySource::IdToken,
        Some("job_token") => IdentitySource::JobToken,
        Some(other) => return Err(format!("`{}` is no source of an identity", Untrusted(other))),
    };
    // As in a token: the role in a fork is none in the project that runs the job.
    let sources = facts.number("project_id")?;
    let own_sources = facts.number("job_project_id")?.is_none_or(|id| Some(id) == sources);
    let project_id = match facts.number("job_project_id")? {
        Some(id) => id,
        None => sources.unwrap_or(0),
    };
    let git_ref = facts.text("ref")?.unwrap_or_default();
    let pipeline_source = facts.text("pipeline_source")?;
    // A payload has no such claim.
    let fork = match facts.number("job_project_id")? {
        Some(_) => Some(!own_sources),
        None if object.contains_key("iss") => fork_by_pipeline(pipeline_source.as_deref(), &git_ref),
        None => facts.flag("fork")?,
    };
    Ok(Subject {
        server: facts.text("server")?.unwrap_or_else(|| server(&facts, policy)),
        source,
        user_login: needed("user_login")?,
        user_id: facts.number("user_id")?.unwrap_or(0),
        user_email: facts.text("user_email")?,
        access_level: facts.text("user_access_level")?.filter(|_| own_sources),
        groups: facts.texts("groups_direct")?,
        // As in a token: an account without a name fits nobody.
        identities: facts
            .identities()?
            .into_iter()
            .filter(|(p, name)| !p.is_empty() && !name.is_empty())
            .collect(),
        namespace_path,
        project_path,
        project_id,
        git_ref,
        ref_type: facts.text("ref_type")?,
        ref_protected: facts.flag("ref_protected")?,
        pipeline_source,
        fork,
        environment: facts.text("environment")?,
        environment_protected: facts.flag("environment_protected")?,
        runner_id: facts.number("runner_id")?,
        validated: facts.text("validated")?,
    })
}

/// The identity that these claims would prove if a server had signed them. Ids that are not among them are 0.
pub(crate) fn admitted(object: &Map<String, Value>, subject: &Subject, server: usize) -> Admitted {
    let facts = Facts(object);
    let number = |name: &str| facts.number(name).ok().flatten();
    let identity = |(provider, extern_uid): &(String, String)| UserIdentity {
        provider: provider.clone(),
        extern_uid: extern_uid.clone(),
    };
    Admitted {
        server,
        source: match subject.source {
            IdentitySource::IdToken => Source::IdToken,
            IdentitySource::JobToken => Source::JobToken,
        },
        expires_at: number("exp").unwrap_or(u64::MAX),
        job_id: number("job_id").unwrap_or(0),
        pipeline_id: number("pipeline_id").unwrap_or(0),
        project_id: subject.project_id,
        user_id: subject.user_id,
        runner_id: subject.runner_id,
        user_login: subject.user_login.clone(),
        user_email: subject.user_email.clone(),
        access_level: subject.access_level.clone(),
        groups: subject.groups.clone(),
        identities: subject.identities.iter().map(identity).collect(),
        project_path: subject.project_path.clone(),
        namespace_path: subject.namespace_path.clone(),
        namespace_id: number("job_namespace_id").or_else(|| number("namespace_id")),
        git_ref: subject.git_ref.clone(),
        ref_type: subject.ref_type.clone(),
        ref_protected: subject.ref_protected,
        pipeline_source: subject.pipeline_source.clone(),
        fork: subject.fork,
        environment: subject.environment.clone(),
        environment_protected: subject.environment_protected,
        project_dir: PathBuf::from(&subject.project_path),
        queued: None,
        requested_account: None,
        containers: Default::default(),
        requested_builds_dir: None,
    }
}

/// The server whose issuer a payload has; the first one where nothing says otherwise.
fn server(facts: &Facts<'_>, policy: &Policy) -> String {
    let issuer = facts.text("iss").ok().flatten();
    let by_issuer = policy.gitlab.iter().find(|server| Some(&server.issuer) == issuer.as_ref());
    let found = by_issuer.or_else(|| policy.gitlab.first().filter(|_| issuer.is_none()));
    found.map(|server| server.name.clone()).unwrap_or_default()
}

/// Typed access, by which a number in quotes is a number: GitLab sends most ids as texts.
struct Facts<'a>(&'a Map<String, Value>);

impl Facts<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("`{name}` is no text")),
        }
    }

    fn texts(&self, name: &str) -> Result<Option<Vec<String>>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let all =
            value.as_array().and_then(|all| all.iter().map(|v| v.as_str().map(str::to_owned)).collect());
        all.map(Some).ok_or_else(|| format!("`{name}` is no array of texts"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        number.map(Some).ok_or_else(|| format!("`{name}` is no number"))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match (value.as_bool(), value.as_str()) {
            (Some(flag), _) => Ok(Some(flag)),
            (None, Some("true")) => Ok(Some(true)),
            (None, Some("false")) => Ok(Some(false)),
            _ => Err(format!("`{name}` is neither true nor false")),
        }
    }

    /// GitLab's array of objects, or the short form of a test.
    fn identities(&self) -> Result<Vec<(String, String)>, String> {
        let wrong = || "`user_identities` has another form".to_owned();
        match self.get("user_identities") {
            None => Ok(Vec::new()),
            Some(Value::Object(pairs)) => pairs
                .iter()
                .map(|(provider, uid)| Some((provider.clone(), uid.as_str()?.to_owned())))
                .collect::<Option<_>>()
                .ok_or_else(wrong),
            Some(Value::Array(all)) => all
                .iter()
                .map(|one| {
                    let part = |name| one.get(name).and_then(Value::as_str).map(str::to_owned);
                    Some((part("provider")?, part("extern_uid")?))
                })
                .collect::<Option<_>>()
                .ok_or_else(wrong),
            Some(_) => Err(wrong()),
        }
    }
}
