//! The facts of a job as JSON has them: a token's payload as GitLab signs it, a line of the audit file, or what an admin
//! writes down by hand.

use nunbird_handover::Untrusted;
use nunbird_policy::{FACTS, Fact, Field, IdField, IdentitySource, Policy, Subject, TextField};
use nunbird_token::{Admitted, Source, UserIdentity, fork_by_pipeline};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Reads an object that an admin names. One without `iss` is no token's payload, and then a name that is not known here is
/// a misspelt one.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn named(value: &Value, policy: &Policy) -> Result<Subject, String> {
    let object = value.as_object().ok_or("not a JSON object")?;
    if !object.contains_key("iss")
        && let Some(unknown) = object.keys().find(|key| !names().any(|name| name == key.as_str()))
    {
        let known: Vec<&str> = names().collect();
        return Err(format!("unknown fact `{}`; known: {}", Untrusted(unknown), known.join(", ")));
    }
    read(object, policy)
}

/// Reads an object of which only some is known: a payload, or an event.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn read(object: &Map<String, Value>, policy: &Policy) -> Result<Subject, String> {
    let facts = Facts(object);
    let is_payload = object.contains_key("iss");
    let mut subject = Subject::default();
    for fact in FACTS {
        // A payload has no claim of this name, whatever it says.
        if !(is_payload && fact.claim == "fork") {
            facts.fill(fact, &mut subject)?;
        }
    }
    // In a merge request from a fork `project_path` is the fork's, and the job's project has claims of its own. As in a
    // token, the role in a fork is none in the project that runs the job.
    let sources = facts.number("project_id")?;
    let job_project = facts.number("job_project_id")?;
    let from_fork = job_project.is_some_and(|id| Some(id) != sources);
    subject.project_id = job_project.unwrap_or(subject.project_id);
    if from_fork {
        subject.access_level = None;
    }
    subject.project_path = facts.text("job_project_path")?.unwrap_or(subject.project_path);
    for (name, value) in [("project_path", &subject.project_path), ("user_login", &subject.user_login)] {
        if value.is_empty() && facts.get(name).is_none() {
            return Err(format!("there is no `{name}`"));
        }
    }
    match facts.text("job_namespace_path")? {
        Some(path) => subject.namespace_path = path,
        None if facts.get("namespace_path").is_some() => {}
        None => {
            let parent = subject.project_path.rsplit_once('/').map_or("", |(parent, _)| parent);
            subject.namespace_path = parent.to_owned();
        }
    }
    if job_project.is_some() {
        subject.fork = Some(from_fork);
    } else if is_payload {
        subject.fork = fork_by_pipeline(subject.pipeline_source.as_deref(), &subject.git_ref);
    }
    if facts.get("server").is_none() {
        subject.server = server(&facts, policy);
    }
    // As in a token: an account without a name belongs to nobody.
    subject.identities.retain(|(provider, name)| !provider.is_empty() && !name.is_empty());
    Ok(subject)
}

/// Names that an admin may give facts, as in `[[test]]`. The namespace's id is for the validation program alone.
fn names() -> impl Iterator<Item = &'static str> {
    FACTS.iter().map(|fact| fact.claim).chain(["namespace_id"])
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

    /// Reads one fact into `subject`.
    fn fill(&self, fact: &Fact, subject: &mut Subject) -> Result<(), String> {
        let name = fact.claim;
        match fact.field {
            Field::Text(TextField::Known(lens), _) => {
                *(lens.get_mut)(subject) = self.text(name)?.unwrap_or_default();
            }
            Field::Text(TextField::Maybe(lens), _) => *(lens.get_mut)(subject) = self.text(name)?,
            Field::Text(TextField::List(lens), _) => *(lens.get_mut)(subject) = self.texts(name)?,
            Field::Text(TextField::Providers(lens), _) => *(lens.get_mut)(subject) = self.identities(name)?,
            Field::Id(IdField::Known(lens)) => *(lens.get_mut)(subject) = self.number(name)?.unwrap_or(0),
            Field::Id(IdField::Maybe(lens)) => *(lens.get_mut)(subject) = self.number(name)?,
            Field::Flag(lens) => *(lens.get_mut)(subject) = self.flag(name)?,
            Field::Source(lens) => {
                if let Some(text) = self.text(name)? {
                    *(lens.get_mut)(subject) = IdentitySource::of_name(&text)
                        .ok_or_else(|| format!("`{}` is not a source of an identity", Untrusted(&text)))?;
                }
            }
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("`{name}` is not a string")),
        }
    }

    fn texts(&self, name: &str) -> Result<Option<Vec<String>>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let all =
            value.as_array().and_then(|all| all.iter().map(|v| v.as_str().map(str::to_owned)).collect());
        all.map(Some).ok_or_else(|| format!("`{name}` is not an array of strings"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        number.map(Some).ok_or_else(|| format!("`{name}` is not a number"))
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
    fn identities(&self, name: &str) -> Result<Vec<(String, String)>, String> {
        let wrong = || format!("`{name}` has another form");
        match self.get(name) {
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
