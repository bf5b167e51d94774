//! What a job asks for besides a script: an image, services, steps. Written by the user.
//!
//! The names are read leniently, for the job log of a site that has no container for the job. All of it is read strictly into
//! [`AskedContainers`]: there a field of another form is an error that names it, because a job must not run in another
//! container than it asks for.

use crate::asked::{self, AskedContainers};
use crate::claims::is_plain;
use crate::response::Response;
use serde_json::Value;

/// The longest text about images or services for the job log, in bytes.
const MOST: usize = 1024;

/// `image:`, `services:` and `run:` of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containers {
    /// The name of the image, as far as it may be shown.
    pub image: Option<String>,
    /// The names of the services, with `, ` between them, likewise.
    pub services: Option<String>,
    /// Whether the job has steps (`run:`).
    pub steps: bool,
    /// All that it says of the image and the services, or the first field that is malformed.
    pub asked: Result<AskedContainers, String>,
}

impl Default for Containers {
    fn default() -> Self {
        Containers { image: None, services: None, steps: false, asked: Ok(AskedContainers::default()) }
    }
}

impl Containers {
    /// Whether the job asks for none of them. What is malformed and has no name counts as nothing.
    pub fn is_empty(&self) -> bool {
        self.image.is_none() && self.services.is_none() && !self.steps
    }

    /// The relevant part of a job response (gitlab-runner, common/spec/spec.go, `Job`).
    pub(crate) fn of(response: &Response) -> Self {
        let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
        let services = response.services.as_array().map_or(&[][..], Vec::as_slice);
        let services: Vec<String> = services.iter().filter_map(name).collect();
        Containers {
            image: shown(name(&response.image)),
            services: shown((!services.is_empty()).then(|| services.join(", "))),
            steps: match &response.run {
                Value::String(text) => !text.is_empty(),
                Value::Array(steps) => !steps.is_empty(),
                _ => false,
            },
            asked: asked::read(response),
        }
    }
}

/// As much of it as may be shown.
fn shown(text: Option<String>) -> Option<String> {
    let text = text.filter(|text| !text.is_empty())?;
    let end = (0..=MOST.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let text = text.get(..end).unwrap_or_default();
    Some(if is_plain(text) { text.to_owned() } else { "?".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Containers, MOST};
    use crate::response::Response;

    fn containers(more: &str) -> Containers {
        let json = more.replacen('{', r#"{"id":1,"job_info":{"project_id":1}"#, 1).replacen("}\"", "},\"", 1);
        Containers::of(&Response::parse(json.as_bytes()).expect("a response"))
    }

    #[test]
    fn names_are_taken_and_what_is_not_there_asks_for_nothing() {
        let json = r#"{"image":{"name":"rockylinux:9","entrypoint":null},"services":[{"name":"postgres:16"},{"name":"redis"}],"run":"[{}]"}"#;
        let found = containers(json);
        assert_eq!(
            (found.image.as_deref(), found.services.as_deref(), found.steps),
            (Some("rockylinux:9"), Some("postgres:16, redis"), true)
        );
        assert!(!found.is_empty());
        let steps = [r#"{"run":[{}]}"#, r#"{"run":[]}"#].map(|json| containers(json).steps);
        assert_eq!(steps, [true, false]);
        for nothing in [
            "{}",
            r#"{"image":{"name":""},"services":[],"run":""}"#,
            r#"{"image":null,"services":null,"run":null}"#,
            r#"{"image":7,"services":{"name":"x"},"run":7}"#,
        ] {
            assert!(containers(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn what_cannot_be_shown_is_asked_for_all_the_same() {
        assert_eq!(containers("{\"image\":{\"name\":\"a\\u001bb\"}}").image.as_deref(), Some("?"));
        let long = format!("{{\"image\":{{\"name\":\"{}\"}}}}", "ü".repeat(MOST));
        assert_eq!(containers(&long).image.map(|name| name.len()), Some(MOST));
    }
}
