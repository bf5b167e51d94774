//! The keys of the file, one struct a table. No key is without meaning: unknown ones are errors.

use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) downscope: Option<Downscope>,
    pub(super) keys_dir: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) gitlab: Vec<Spanned<GitLab>>,
    #[serde(default)]
    pub(super) identity: Identity,
    #[serde(default)]
    pub(super) accounts: Accounts,
    #[serde(default)]
    pub(super) directories: Directories,
    #[serde(default)]
    pub(super) job: Job,
    #[serde(default)]
    pub(super) audit: Audit,
    #[serde(default)]
    pub(super) rule: Vec<Spanned<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Downscope {
    Setuid,
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GitLab {
    pub(super) name: Spanned<String>,
    pub(super) url: Spanned<String>,
    pub(super) issuer: Option<Spanned<String>>,
    pub(super) audience: Spanned<OneOrMany<String>>,
    pub(super) ca_file: Option<Spanned<String>>,
    pub(super) algorithms: Option<Spanned<Vec<Algorithm>>>,
    #[serde(default)]
    pub(super) runner_ids: Vec<u64>,
    pub(super) keys_max_age: Option<Spanned<String>>,
}

#[derive(Deserialize, Clone, Copy)]
pub(super) enum Algorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) token_variables: Option<Spanned<Vec<String>>>,
    pub(super) clock_skew: Option<Spanned<String>>,
    pub(super) late_stages: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Accounts {
    pub(super) min_uid: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) deny: Vec<String>,
    #[serde(default)]
    pub(super) allow_bots: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Directories {
    pub(super) data_dir: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    pub(super) launcher: Option<Spanned<String>>,
    pub(super) shell: Option<Spanned<String>>,
    pub(super) login_shell: Option<bool>,
    #[serde(default)]
    pub(super) no_new_privileges: bool,
    #[serde(default)]
    pub(super) block_tty_injection: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) limit_setuid: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) environment: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    pub(super) file: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) when: When,
    pub(super) run_as: Option<Spanned<String>>,
    pub(super) deny: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    pub(super) server: Option<Spanned<OneOrMany<String>>>,
    pub(super) project: Option<Spanned<OneOrMany<String>>>,
    pub(super) namespace: Option<Spanned<OneOrMany<String>>>,
    pub(super) user: Option<Spanned<OneOrMany<String>>>,
    pub(super) user_id: Option<Spanned<OneOrMany<u64>>>,
    #[serde(rename = "ref")]
    pub(super) git_ref: Option<Spanned<OneOrMany<String>>>,
    pub(super) ref_protected: Option<bool>,
    pub(super) pipeline_source: Option<Spanned<OneOrMany<String>>>,
    pub(super) environment: Option<Spanned<OneOrMany<String>>>,
    pub(super) runner_id: Option<Spanned<OneOrMany<u64>>>,
}

/// `"x"` is short for `["x"]`.
#[derive(Deserialize, Clone)]
#[serde(untagged, expecting = "expected one value or an array of values of the same type")]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub(super) fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(values) => values,
        }
    }
}
