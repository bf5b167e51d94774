//! `[identity]`: what proves the identity of a job, and how long it holds.

use super::keys::{Form, Key, Table, form};
use super::reader::{At, Section};
use super::values;
use crate::IdentitySource;

const DEFAULT_TOKEN_VARIABLES: [&str; 3] = ["SITE_ID_TOKEN", "NUNBIRD_ID_TOKEN", "CI_JOB_JWT"];
const HOUR: u64 = 3600;

/// Where the identity comes from and how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentitySettings {
    /// What may prove an identity, in the order they are tried.
    pub sources: Vec<IdentitySource>,
    /// Names of the job's `id_tokens:`, each tried in order.
    pub token_variables: Vec<String>,
    /// Seconds by which this host's clock and the server's may differ.
    pub clock_skew: u64,
    /// Seconds after the token's expiry during which the job's late stages still run.
    pub late_stages: u64,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        IdentitySettings {
            sources: vec![IdentitySource::IdToken],
            token_variables: DEFAULT_TOKEN_VARIABLES.map(str::to_owned).to_vec(),
            clock_skew: 60,
            late_stages: HOUR / 4,
        }
    }
}

/// `[identity]`.
#[rustfmt::skip]
pub static IDENTITY_KEYS: Table<IdentitySettings> = Table {
    path: "identity",
    defaults: IdentitySettings::default,
    keys: &[
        Key::<IdentitySettings>::new("sources",
            Form::Texts { get: |t| Some(t.sources.iter().map(|source| source.name().to_owned()).collect()), set: |t, at| t.sources = sources(at) },
            "what proves an identity, in the order in which it is tried; `\"job_token\"` as the second serves jobs without `id_tokens:`"),
        Key::<IdentitySettings>::new("token_variables",
            Form::Texts { get: |t| Some(t.token_variables.clone()), set: |t, at| t.token_variables = token_variables(at) },
            "names of the jobs' `id_tokens:`, tried in order"),
        Key::<IdentitySettings>::new("clock_skew", form!(Seconds: clock_skew, 0, 300),
            "by how much the clocks of this host and the server may differ"),
        Key::<IdentitySettings>::new("late_stages", form!(Seconds: late_stages, 0, HOUR),
            "how long after the token's expiry late stages of the job still run"),
    ],
};

pub(super) fn read(mut table: Section<'_>) -> IdentitySettings {
    let mut settings = IdentitySettings::default();
    IDENTITY_KEYS.read(&mut table, &mut settings);
    table.finish();
    settings
}

fn token_variables(names: At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    let help = "list the names used under `id_tokens:` in .gitlab-ci.yml: letters, digits and `_`";
    if names.value.is_empty() {
        names.spot.find("an empty list of id tokens", help);
    }
    for name in names.value.iter().filter(|name| !values::is_variable(name.value)) {
        name.spot.find("invalid name of an id token", help);
    }
    names.value.iter().map(|name| name.value.to_owned()).collect()
}

fn sources(names: At<'_, Vec<At<'_, &str>>>) -> Vec<IdentitySource> {
    let mut sources = Vec::new();
    for name in &names.value {
        match IdentitySource::of_name(name.value) {
            Some(source) if !sources.contains(&source) => sources.push(source),
            Some(source) => {
                let first =
                    names.value.iter().find(|name| IdentitySource::of_name(name.value) == Some(source));
                let first = first.map(|first| first.spot);
                name.spot.clash(first, "this source is listed twice", "remove one of the two");
            }
            None => name.spot.find("unknown source of an identity", "write `id_token` or `job_token`"),
        }
    }
    if sources.first() == Some(&IdentitySource::JobToken) && sources.len() > 1 {
        names.spot.find("nothing is tried after `job_token`: every job has one", "write `id_token` first");
    }
    if sources.is_empty() {
        names.spot.find("without a source no job has an identity", "write `[\"id_token\"]`");
    }
    sources
}
