//! Nunbird's own configuration, table by table.

use super::directories::PROFILE_DIRECTORIES_KEYS;
use super::job::{self, JobNames};
use super::keys::{Key, Table, Word, form};
use super::model::*;
use super::reader::Section;
use super::{AuthorizedProjects, Directories, Job};
use super::{
    accounts, audit, batch, conditions, container, credentials, directories, identity, limits, maps, pam,
    rules, servers, test_cases, validation, values,
};
use crate::DEFAULT_KEYS_DIR;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl Word for Downscope {
    const WORDS: &'static [(&'static str, Self)] =
        &[("setuid", Downscope::Setuid), ("sudo", Downscope::Sudo), ("none", Downscope::None)];
}

/// The keys above the first table.
pub struct TopLevel {
    /// [`Policy::downscope`].
    pub downscope: Downscope,
    /// [`Policy::keys_dir`].
    pub keys_dir: PathBuf,
}

impl Default for TopLevel {
    fn default() -> Self {
        TopLevel { downscope: Downscope::Setuid, keys_dir: PathBuf::from(DEFAULT_KEYS_DIR) }
    }
}

impl Policy {
    /// Its keys above the first table.
    pub fn top_level(&self) -> TopLevel {
        TopLevel { downscope: self.downscope, keys_dir: self.keys_dir.clone() }
    }
}

/// The keys above the first table.
#[rustfmt::skip]
pub static TOP_LEVEL_KEYS: Table<TopLevel> = Table {
    path: "",
    defaults: TopLevel::default,
    keys: &[
        Key::<TopLevel>::new("downscope", form!(Word: downscope, Downscope), "how jobs get their account, below"),
        Key::<TopLevel>::new("keys_dir", form!(Path: keys_dir), "where `nunbird-keys` keeps keys, below"),
    ],
};

/// Reads a whole configuration; findings stay with the reader.
pub(super) fn read(file: &Path, mut root: Section<'_>) -> Policy {
    let mut top = TopLevel::default();
    TOP_LEVEL_KEYS.read(&mut root, &mut top);
    let TopLevel { downscope, keys_dir } = top;
    let gitlab = servers::read(&mut root);
    let identity = identity::read(root.table("identity"));
    let accounts = accounts::read(root.table("accounts"));
    if downscope == Downscope::Sudo && accounts.authorized_projects != AuthorizedProjects::Off {
        let help = "remove it, or use `downscope = \"setuid\"`";
        root.find("`authorized_projects` is read as the user, which `downscope = \"sudo\"` cannot", help);
    }
    let directories = directories::read(root.table("directories"), downscope == Downscope::Setuid);
    let schedulers = batch::schedulers(&mut root);
    let limits = limits::all(&mut root);
    let containers = container::all(&mut root);
    let credentials = credentials::all(&mut root, &gitlab, downscope);
    let known = JobNames { schedulers: &schedulers, limits: &limits, containers: &containers };
    let mut job = job::read(root.table("job"), &known);
    job.batch = batch::read(root.table("batch"), &job.batch);
    let profiles = profiles(&mut root, &job, &directories, &known);
    let maps = maps::read(&mut root);
    let validation = validation::read(root.table("validation"));
    let pam = pam::read(root.table("pam"), downscope);
    let audit = audit::read(root.table("audit"), downscope);
    let known = conditions::RuleNames {
        profiles: &profiles,
        maps: &maps,
        validated: validation.is_some(),
        gitlab: &gitlab,
        limits: &limits,
    };
    let rules = rules::read(&mut root, &known);
    let tests = test_cases::read(&mut root, &known);
    root.finish();
    Policy {
        file: file.to_path_buf(),
        dialect: Dialect::Native,
        downscope,
        keys_dir,
        gitlab,
        identity,
        accounts,
        directories,
        job,
        limits,
        containers,
        credentials,
        profiles,
        schedulers,
        maps,
        audit,
        validation,
        pam,
        rules,
        tests,
    }
}

fn profiles(
    root: &mut Section<'_>,
    job: &Job,
    directories: &Directories,
    known: &JobNames<'_>,
) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    for (name, mut table) in root.named("profile") {
        values::check_label(&name, "profile");
        let (mut job, mut directories) = (job.clone(), directories.clone());
        PROFILE_DIRECTORIES_KEYS.read(&mut table, &mut directories);
        let limits = table.place_of("limits");
        job::read_shared(&mut table, &mut job, known);
        job.batch = batch::read(table.table("batch"), &job.batch);
        table.finish();
        let place = name.spot.place();
        profiles.insert(name.value.to_owned(), Profile { place, job, directories, limits });
    }
    profiles
}
