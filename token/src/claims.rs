//! The claims of GitLab's id tokens, with the types that GitLab sends.
//!
//! A closed struct: serde refuses a claim that appears twice, a number where GitLab sends a string,
//! and a string where it sends a number. Claims that are not listed are skipped, because GitLab
//! adds some with every few releases; nothing here is ever read through a generic JSON value, which
//! would silently keep the last of two claims.
//!
//! Source: GitLab `lib/gitlab/ci/jwt_v2.rb`, `lib/json_web_token/user_project_token_claims.rb`, and
//! docs.gitlab.com/ci/secrets/id_token_authentication.

use crate::UserIdentity;
use nunbird_handover::Untrusted;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// The longest text claim, in bytes. GitLab limits paths and refs to 255 characters.
pub(crate) const MAX_TEXT: usize = 1024;
/// The most audiences.
const MAX_AUDIENCES: usize = 64;
/// The most groups; GitLab leaves the claim out above 200.
pub(crate) const MAX_GROUPS: usize = 200;
/// The most identities; GitLab sends all, and users have one or two.
pub(crate) const MAX_IDENTITIES: usize = 64;

/// Claims of one id token, before any check.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Audiences.
    pub aud: Audience,
    /// Seconds since the epoch.
    pub exp: u64,
    /// Seconds since the epoch.
    pub nbf: u64,
    /// Seconds since the epoch.
    pub iat: u64,
    /// Project of the sources: in a merge request from a fork, the fork.
    pub project_id: Id,
    /// Its path.
    pub project_path: String,
    /// Its namespace.
    pub namespace_path: String,
    /// Id of its namespace.
    pub namespace_id: Option<Id>,
    /// Project that runs the job (GitLab 18.4 and later).
    pub job_project_id: Option<Id>,
    /// Its path.
    pub job_project_path: Option<String>,
    /// Its namespace.
    pub job_namespace_path: Option<String>,
    /// Id of its namespace.
    pub job_namespace_id: Option<Id>,
    /// Numeric id of the user.
    pub user_id: Id,
    /// Login of the user.
    pub user_login: String,
    /// Pipeline.
    pub pipeline_id: Id,
    /// What started the pipeline.
    pub pipeline_source: String,
    /// Job.
    pub job_id: Id,
    /// Branch or tag.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// Whether it is protected.
    pub ref_protected: Flag,
    /// Environment, if the job names one.
    pub environment: Option<String>,
    /// Runner; a number, unlike the other ids.
    pub runner_id: Option<Id>,
    /// Primary e-mail address of the user.
    pub user_email: Option<String>,
    /// The user's role in the project of the sources.
    pub user_access_level: Option<String>,
    /// `branch` or `tag`.
    pub ref_type: Option<String>,
    /// Whether the environment is protected.
    pub environment_protected: Option<Flag>,
    /// Full paths of the groups that the user is a direct member of; absent above 200.
    pub groups_direct: Option<Vec<String>>,
    /// The user's accounts with identity providers, if the server and the user disclose them.
    pub user_identities: Option<Vec<ProviderIdentity>>,
}

/// One element of `user_identities`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProviderIdentity {
    /// GitLab's name of the provider.
    pub provider: String,
    /// The user's name there.
    pub extern_uid: String,
}

impl ProviderIdentity {
    /// `None` for an account without a name, which GitLab sends as an empty string: it must not
    /// match any user.
    pub(crate) fn named(self) -> Option<UserIdentity> {
        let ProviderIdentity { provider, extern_uid } = self;
        (!provider.is_empty() && !extern_uid.is_empty()).then_some(UserIdentity { provider, extern_uid })
    }
}

/// The project that runs the job, as far as the server reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunningProject<'a> {
    pub(crate) id: u64,
    pub(crate) path: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) namespace_id: Option<u64>,
}

impl Claims {
    /// Reads the decoded payload of a token whose signature has been checked.
    ///
    /// Returns `None` unless it is one JSON object with every claim in its type, and no string in
    /// it is longer than a kilobyte or contains characters that change how the surrounding text is
    /// displayed.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        // serde reads an array into a struct as well, claim after claim in the order of the fields.
        if !payload.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        let claims: Claims = serde_json::from_slice(payload).ok()?;
        (claims.texts_are_plain() && claims.running_project().is_some()).then_some(claims)
    }

    fn texts_are_plain(&self) -> bool {
        let required = [
            &self.iss,
            &self.project_path,
            &self.namespace_path,
            &self.user_login,
            &self.pipeline_source,
            &self.git_ref,
        ];
        let optional = [
            &self.job_project_path,
            &self.job_namespace_path,
            &self.environment,
            &self.user_email,
            &self.user_access_level,
            &self.ref_type,
        ];
        let groups = self.groups_direct.as_deref().unwrap_or_default();
        let identities = self.user_identities.as_deref().unwrap_or_default();
        let lists = groups.len() <= MAX_GROUPS
            && groups.iter().all(|text| !text.is_empty() && is_plain(text))
            && identities.len() <= MAX_IDENTITIES
            && identities.iter().flat_map(|one| [&one.provider, &one.extern_uid]).all(|text| is_plain(text));
        required.into_iter().all(|text| !text.is_empty() && is_plain(text))
            && optional.into_iter().flatten().all(|text| is_plain(text))
            && lists
            && self.aud.0.len() <= MAX_AUDIENCES
            && self.aud.0.iter().all(|text| is_plain(text))
    }

    /// Whether the sources come from another project than the one that runs the job.
    ///
    /// GitLab 18.4 and later names both projects. Older servers name one, which was not the
    /// sources' in every release, so a merge request's pipeline is no evidence there.
    pub fn fork(&self) -> Option<bool> {
        match self.job_project_id {
            Some(id) => Some(id != self.project_id),
            None => fork_by_pipeline(Some(&self.pipeline_source), &self.git_ref),
        }
    }

    /// All three of `job_project_id`, `job_project_path` and `job_namespace_path`, or none of them.
    pub(crate) fn running_project(&self) -> Option<RunningProject<'_>> {
        match (self.job_project_id, &self.job_project_path, &self.job_namespace_path) {
            (None, None, None) => Some(RunningProject {
                id: self.project_id.0,
                path: &self.project_path,
                namespace: &self.namespace_path,
                namespace_id: self.namespace_id.map(|id| id.0),
            }),
            (Some(id), Some(path), Some(namespace)) if !path.is_empty() && !namespace.is_empty() => {
                let namespace_id = self.job_namespace_id.map(|id| id.0);
                Some(RunningProject { id: id.0, path, namespace, namespace_id })
            }
            _ => None,
        }
    }
}

/// Pipelines that GitLab starts on a ref of the project itself (`CI_PIPELINE_SOURCE`). Only pipelines of merge requests, and
/// their child pipelines, have sources of another project (GitLab `app/models/ci/pipeline.rb`,
/// `merge_request_from_forked_project?`).
const ON_OWN_REFS: [&str; 7] = ["api", "chat", "push", "schedule", "trigger", "web", "webide"];

/// Whether the sources belong to another project, as far as the pipeline's source and its ref show.
/// `Some(true)` is never returned: a merge request may come from a fork or from a branch of the
/// project.
pub fn fork_by_pipeline(source: Option<&str>, git_ref: &str) -> Option<bool> {
    let own = source.is_some_and(|source| ON_OWN_REFS.contains(&source));
    (own && !git_ref.starts_with("refs/merge-requests/")).then_some(false)
}

pub(crate) fn is_plain(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.chars().any(Untrusted::is_deceptive)
}

/// The largest id: 18 digits.
const MAX_ID: u64 = 999_999_999_999_999_999;

/// An id that GitLab sends as a string of digits: not 0, no sign, no leading zero. An integer means
/// the same: GitLab's documentation shows both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(pub u64);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of digits or an integer")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Id, E> {
                if (1..=MAX_ID).contains(&id) { Ok(Id(id)) } else { Err(E::custom("not an id")) }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                let plain =
                    text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0') && text.len() <= 18;
                if !plain {
                    return Err(E::custom("not an id"));
                }
                text.parse().map(Id).map_err(|_| E::custom("not an id"))
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// A boolean that GitLab sends as the string `"true"` or `"false"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Flag {
    /// `"true"`.
    #[serde(rename = "true")]
    True,
    /// `"false"`.
    #[serde(rename = "false")]
    False,
}

/// One audience or several (RFC 7519 §4.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience(pub Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Audience, E> {
                Ok(Audience(vec![text.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Audience, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    all.push(text);
                    if all.len() > MAX_AUDIENCES {
                        return Err(de::Error::custom("too many audiences"));
                    }
                }
                Ok(Audience(all))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}
