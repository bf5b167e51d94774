//! What a job asks for besides a script: an image, services, steps. Nunbird runs only scripts, and
//! reports the rest.

use crate::claims::is_plain;
use crate::response::Response;
use serde_json::Value;

/// The longest text about images or services, in bytes.
const MOST: usize = 1024;

/// `image:`, `services:` and `run:` of a job. Written by the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Containers {
    /// The name of the image.
    pub image: Option<String>,
    /// The names of the services, with `, ` between them.
    pub services: Option<String>,
    /// Whether the job has steps (`run:`).
    pub steps: bool,
}

impl Containers {
    /// Whether the job asks for none of them.
    pub fn is_empty(&self) -> bool {
        *self == Containers::default()
    }
}

impl Containers {
    /// The relevant part of a job response (gitlab-runner, common/spec/spec.go, `Job`). Anything of
    /// another form counts as absent.
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
        let expected = Containers {
            image: Some("rockylinux:9".to_owned()),
            services: Some("postgres:16, redis".to_owned()),
            steps: true,
        };
        assert_eq!(containers(json), expected);
        assert!(!expected.is_empty());
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
