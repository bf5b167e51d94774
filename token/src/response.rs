//! The runner's job response: the part of it that identifies this job.
//!
//! gitlab-runner writes what GitLab sent it to `JOB_RESPONSE_FILE` (14.1 and later). A CI user
//! chooses the variables in it, but not the ids: those bind a token to this job.

use crate::claims::is_plain;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The largest response that is read, in bytes. Real ones contain every variable of the job, seldom
/// a megabyte.
pub const MAX_RESPONSE: u64 = 16 << 20;

/// The longest account name that a user may request, in bytes.
const MAX_ACCOUNT: usize = 256;
/// The longest path that a user may request, in bytes.
const MAX_DIRECTORY: usize = 1024;
/// The longest time in a queue that is reported, in seconds: ten years.
const LONGEST_QUEUE: u64 = 3650 * 86_400;
/// Replaces a text that cannot be shown. It is neither a valid account name nor an absolute path.
const UNUSABLE: &str = "?";

/// What Nunbird reads of a job response. Everything else in it is skipped.
#[derive(Deserialize)]
pub struct Response {
    /// The job's id.
    pub id: u64,
    /// Ids of project, pipeline and user.
    pub job_info: JobInfo,
    /// Where the repository is.
    #[serde(default)]
    pub git_info: GitInfo,
    /// The job's own token, which GitLab accepts while the job runs.
    #[serde(default)]
    pub token: String,
    /// How long the job may take.
    #[serde(default)]
    pub runner_info: RunnerInfo,
    /// The job's variables, with duplicates, in GitLab's order.
    #[serde(default)]
    pub variables: Vec<Variable>,
    /// `{name, entrypoint, …}`, or null.
    #[serde(default)]
    pub(crate) image: Value,
    /// A list of such.
    #[serde(default)]
    pub(crate) services: Value,
    /// Steps, as text.
    #[serde(default)]
    pub(crate) run: Value,
}

/// Ids that the runner got from GitLab.
#[derive(Debug, Deserialize)]
pub struct JobInfo {
    /// Project that runs the job.
    pub project_id: u64,
    /// User of the job; runners since 18.5 pass it on. 0 means that the server did not send it.
    #[serde(default)]
    pub user_id: Option<u64>,
    /// Pipeline; runners since 19.0 pass it on. 0 means that the server did not send it.
    #[serde(default)]
    pub pipeline_id: Option<u64>,
    /// Seconds that the job waited for a runner, with a fraction, as the server counts them.
    #[serde(default)]
    pub time_in_queue_seconds: Option<f64>,
}

impl JobInfo {
    /// Whole seconds in the queue; `None` for a value that is not a time.
    pub(crate) fn queued(&self) -> Option<u64> {
        let seconds = self.time_in_queue_seconds?;
        Duration::try_from_secs_f64(seconds)
            .ok()
            .map(|time| time.as_secs())
            .filter(|time| *time <= LONGEST_QUEUE)
    }
}

/// Where the repository is.
#[derive(Debug, Default, Deserialize)]
pub struct GitInfo {
    /// URL with the job token in it: never printed, only its path is used.
    #[serde(default)]
    pub repo_url: String,
}

/// How long the job may take.
#[derive(Debug, Default, Deserialize)]
pub struct RunnerInfo {
    /// Seconds. 0 or absent means that the server did not send it.
    #[serde(default)]
    pub timeout: Option<u64>,
}

/// One variable of the job.
#[derive(Deserialize)]
pub struct Variable {
    /// Name.
    pub key: String,
    /// Value, unexpanded.
    #[serde(default)]
    pub value: String,
    /// Whether GitLab lets everybody know it who may see the job.
    #[serde(default)]
    pub(crate) public: bool,
    /// Whether scripts get the path of a file with the value.
    #[serde(default)]
    pub(crate) file: bool,
}

impl std::fmt::Debug for Response {
    /// Without the token and the URL with it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("id", &self.id)
            .field("job_info", &self.job_info)
            .field("variables", &self.variables)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Variable {
    /// Without the value, which may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variable").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Response {
    /// Reads a response.
    ///
    /// Returns `None` for anything but one JSON object with the fields above.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        // serde reads an array into a struct as well; the runner never writes one.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }

    /// Values of the variables of this name, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.variables.iter().filter(move |v| v.key == name).map(|v| v.value.as_str())
    }

    /// The account that the user names in a variable. The last one of that name counts, as in the
    /// job's scripts; an empty one requests nothing. A text that cannot be an account name must not
    /// count as no request: it is kept as far as it can be shown.
    pub(crate) fn requested_account(&self, name: &str) -> Option<String> {
        self.requested(name, MAX_ACCOUNT)
    }

    /// The directory that the user names in a variable, likewise.
    pub(crate) fn requested_builds_dir(&self, name: &str) -> Option<String> {
        self.requested(name, MAX_DIRECTORY)
    }

    fn requested(&self, name: &str, longest: usize) -> Option<String> {
        let value = self.values(name).last().filter(|value| !value.is_empty())?;
        let plain = value.len() <= longest && is_plain(value);
        Some(if plain { value.to_owned() } else { UNUSABLE.to_owned() })
    }

    /// The project's directory below `builds_dir`, as gitlab-runner derives it: the path of the repository's
    /// URL without `.git` (common/build.go, `ProjectSlug`). `None` for a URL with any other shape.
    pub fn project_dir(&self) -> Option<PathBuf> {
        let (_, rest) = self.git_info.repo_url.split_once("://")?;
        let (_, path) = rest.split_once('/')?;
        let path = path.strip_suffix(".git").unwrap_or(path).trim_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+');
        let relative = Path::new(path);
        let normal = relative.components().all(|c| matches!(c, Component::Normal(_)));
        (!path.is_empty() && path.chars().all(plain) && normal && !path.contains(".."))
            .then(|| relative.to_path_buf())
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_QUEUE, MAX_RESPONSE, Response};
    use std::path::Path;

    fn response(url: &str) -> Response {
        let json = format!(r#"{{"id":1,"job_info":{{"project_id":2}},"git_info":{{"repo_url":"{url}"}}}}"#);
        Response::parse(json.as_bytes()).expect("a response")
    }

    #[test]
    fn the_project_directory_is_the_path_of_the_repository_url() {
        for (url, dir) in [
            ("https://gitlab-ci-token:x@gitlab.example.org/a/b.git", Some("a/b")),
            ("https://gitlab-ci-token:x@host:8443/gitlab/a/b/c.git", Some("gitlab/a/b/c")),
            ("https://host/../etc.git", None),
            ("https://host/a/..b.git", None),
            ("https://host/.git", None),
            ("https://host", None),
            ("git@host:a/b.git", None),
            ("https://host/a/b%2f..%2fc.git", None),
        ] {
            assert_eq!(response(url).project_dir().as_deref(), dir.map(Path::new), "{url}");
        }
    }

    #[test]
    fn the_time_in_the_queue_is_whole_seconds_of_ten_years_at_most() {
        let queued = |time: &str| {
            let json = format!(r#"{{"id":1,"job_info":{{"project_id":2,"time_in_queue_seconds":{time}}}}}"#);
            Response::parse(json.as_bytes()).expect("a response").job_info.queued()
        };
        let longest = 10 * 365 * 24 * 3600;
        assert_eq!(longest, LONGEST_QUEUE);
        for (time, expected) in [
            ("0", Some(0)),
            ("2.9", Some(2)),
            ("315360000.5", Some(longest)),
            ("315360001", None),
            ("-1", None),
            ("1e300", None),
            ("null", None),
        ] {
            assert_eq!(queued(time), expected, "{time}");
        }
        assert_eq!(response("https://host/a/b.git").job_info.queued(), None);
    }

    #[test]
    fn the_largest_response_is_the_one_that_the_documentation_names() {
        assert_eq!(MAX_RESPONSE, 16_777_216);
    }

    #[test]
    fn an_array_is_no_response() {
        assert!(Response::parse(br#"[1,{"project_id":2},{"repo_url":""},[]]"#).is_none());
    }

    #[test]
    fn a_variable_never_shows_its_value() {
        let json = br#"{"id":1,"job_info":{"project_id":2},"variables":[{"key":"K","value":"hunter2"}]}"#;
        let shown = format!("{:?}", Response::parse(json));
        assert!(shown.contains('K') && !shown.contains("hunter2"), "{shown}");
    }
}
