//! The facts of a job as a test writes them down, written again.

use super::toml_text::{inline, quote};
use crate::Subject;
use std::collections::BTreeMap;

/// Keys and values of `claims`, in the order of the policy reference.
pub(super) fn of(subject: &Subject) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.as_deref().map(quote);
    let flag = |value: Option<bool>| value.map(|value| value.to_string());
    let groups = subject.groups.as_ref().map(|groups| {
        let all: Vec<String> = groups.iter().map(|group| quote(group)).collect();
        format!("[{}]", all.join(", "))
    });
    let identities: BTreeMap<String, String> = subject.identities.iter().cloned().collect();
    let all = [
        ("server", Some(quote(&subject.server))),
        ("identity_source", Some(quote(subject.source.name()))),
        ("user_login", Some(quote(&subject.user_login))),
        ("user_id", Some(subject.user_id.to_string())),
        ("user_email", text(&subject.user_email)),
        ("user_access_level", text(&subject.access_level)),
        ("groups_direct", groups),
        ("user_identities", (!identities.is_empty()).then(|| inline(&identities))),
        ("project_path", Some(quote(&subject.project_path))),
        ("project_id", Some(subject.project_id.to_string())),
        ("namespace_path", Some(quote(&subject.namespace_path))),
        ("ref", Some(quote(&subject.git_ref))),
        ("ref_type", text(&subject.ref_type)),
        ("ref_protected", flag(subject.ref_protected)),
        ("pipeline_source", text(&subject.pipeline_source)),
        ("fork", flag(subject.fork)),
        ("environment", text(&subject.environment)),
        ("environment_protected", flag(subject.environment_protected)),
        ("runner_id", subject.runner_id.map(|id| id.to_string())),
        ("validated", text(&subject.validated)),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}
