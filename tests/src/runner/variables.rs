//! A job's variables in gitlab-runner's order, and how their values are expanded.

use super::session::Places;
use crate::issuer::JobFacts;
use crate::runner::RunnerVersion;
use serde_json::{Value, json};

/// One variable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variable {
    /// Name.
    pub key: String,
    /// Value, or the content for a file variable.
    pub value: String,
    /// Whether jobs see a path in its place.
    pub file: bool,
    /// Whether the value is taken as it is.
    pub raw: bool,
    /// Whether the log hides it.
    pub masked: bool,
}

impl Variable {
    /// An ordinary variable.
    pub fn new(key: &str, value: &str) -> Self {
        Variable { key: key.to_owned(), value: value.to_owned(), ..Variable::default() }
    }

    pub(super) fn secret(key: &str, value: &str) -> Self {
        Variable { masked: true, raw: true, ..Variable::new(key, value) }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "key": self.key, "value": self.value, "public": !self.masked, "file": self.file,
                "masked": self.masked, "raw": self.raw })
    }
}

/// What GitLab sends with the job, in its order: predefined, id tokens, the user's own.
pub(super) fn from_gitlab(
    facts: &JobFacts,
    server: &str,
    repository: &str,
    job_token: &str,
    id_tokens: &[(String, String)],
    own: &[Variable],
) -> Vec<Variable> {
    let project = facts.project_path.as_str();
    let mut all = vec![
        Variable::new("CI_PIPELINE_ID", &facts.pipeline_id.to_string()),
        Variable::new("CI_JOB_ID", &facts.job_id.to_string()),
        Variable::secret("CI_JOB_TOKEN", job_token),
        Variable::new("CI_REPOSITORY_URL", repository),
    ];
    all.extend(id_tokens.iter().map(|(key, value)| Variable::secret(key, value)));
    all.extend(
        [
            ("CI", "true"),
            ("GITLAB_CI", "true"),
            ("CI_SERVER_URL", server),
            ("CI_PROJECT_PATH", project),
            ("CI_PROJECT_ID", &facts.project_id.to_string()),
            ("CI_COMMIT_SHA", &facts.sha),
            ("CI_COMMIT_REF_NAME", &facts.git_ref),
            ("CI_PIPELINE_SOURCE", &facts.pipeline_source),
            ("CI_COMMIT_MESSAGE", "größer & \"schöner\"\nwith a second line, a `backquote` and $(nothing)"),
            ("GITLAB_USER_ID", &facts.user_id.to_string()),
            ("GITLAB_USER_LOGIN", &facts.user_login),
        ]
        .map(|(key, value)| Variable { raw: true, ..Variable::new(key, value) }),
    );
    all.extend_from_slice(own);
    all
}

/// All variables of the job as scripts export them (`Build.GetAllVariables`): flags, the runner's own,
/// GitLab's, internal ones. Duplicates stay; the last one wins.
pub(super) fn all(
    from_gitlab: &[Variable],
    facts: &JobFacts,
    version: RunnerVersion,
    places: &Places,
) -> Vec<Variable> {
    let flags =
        ["FF_NETWORK_PER_BUILD", "FF_POSIXLY_CORRECT_ESCAPES", "FF_ENABLE_JOB_CLEANUP", "FF_TIMESTAMPS"];
    let mut all: Vec<Variable> = flags.iter().map(|flag| Variable::new(flag, "false")).collect();
    all.extend([
        Variable::new("CI_RUNNER_SHORT_TOKEN", SHORT_TOKEN),
        Variable::new("CI_BUILDS_DIR", &places.builds_dir),
        Variable::new("CI_PROJECT_DIR", &places.project_dir),
        Variable::new("CI_CONCURRENT_ID", "0"),
        Variable::new("CI_CONCURRENT_PROJECT_ID", "0"),
        Variable::new("CI_SERVER", "yes"),
        Variable::new("CI_JOB_STATUS", places.status),
        Variable::new("CI_JOB_TIMEOUT", &facts.timeout.to_string()),
    ]);
    all.extend_from_slice(from_gitlab);
    all.extend([
        Variable::new("CI_SHARED_ENVIRONMENT", "true"),
        Variable::new("CI_RUNNER_VERSION", version.text()),
        Variable::new("CI_RUNNER_EXECUTABLE_ARCH", "linux/amd64"),
        Variable::new("RUNNER_TEMP_PROJECT_DIR", &places.temporary()),
    ]);
    all
}

/// First nine characters of the runner's token: a directory's name where `builds_dir` is shared.
pub(super) const SHORT_TOKEN: &str = "nbtRunner";

/// The value as the job gets it: `$NAME` and `${NAME}` filled in once, from unexpanded values; a file
/// variable stands for its path.
pub(super) fn expand(variable: &Variable, all: &[Variable], places: &Places) -> String {
    if variable.raw || variable.file {
        return variable.value.clone();
    }
    let value_of = |name: &str| {
        let found = all.iter().rev().find(|other| other.key == name);
        found.map_or(
            String::new(),
            |other| if other.file { places.file(&other.key) } else { other.value.clone() },
        )
    };
    let mut text = String::new();
    let mut rest = variable.value.as_str();
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            text.push_str(&value_of(name));
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            text.push_str(&value_of(&rest[..end]));
            rest = &rest[end..];
        }
    }
    text + rest
}
