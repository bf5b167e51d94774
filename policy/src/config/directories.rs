//! `[directories]`: where an account's jobs work, and how its directories are made and kept.

use super::keys::{Form, Key, Table, form};
use super::reader::Section;
use super::values;
use nunbird_handover::Upkeep;

const HOUR: u64 = 3600;
/// gitlab-runner's slot is kept until a clean-up ends, and its output is not shown: one directory per job, as Jacamar CI does.
const CLEANUP_BATCH: u64 = 1;

/// Where jobs work. `$HOME` and `$USER` are the account's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// Root of all that Nunbird keeps for an account.
    pub data_dir: String,
    /// Whether users name a directory for their builds by [`BUILDS_VARIABLE`].
    pub user_builds_dir: bool,
    /// Whether each job has a build directory of its own instead of its slot's.
    pub per_job: bool,
    /// How the directories are made and kept.
    pub upkeep: Upkeep,
}

/// The CI variable by which users name a directory for their builds, as Jacamar CI has it.
pub const BUILDS_VARIABLE: &str = "CUSTOM_CI_BUILDS_DIR";

impl Default for Directories {
    fn default() -> Self {
        Directories {
            data_dir: "$HOME/.nunbird".to_owned(),
            user_builds_dir: false,
            per_job: false,
            upkeep: Upkeep { at_once: Some(CLEANUP_BATCH), ..Upkeep::default() },
        }
    }
}

/// `[directories]`.
#[rustfmt::skip]
pub static DIRECTORIES_KEYS: Table<Directories> = Table {
    path: "directories",
    defaults: Directories::default,
    keys: &[
        DATA_DIR,
        Key::<Directories>::new("user_builds_dir", form!(Flag: user_builds_dir),
            "the CI variable `CUSTOM_CI_BUILDS_DIR` names a directory, in which the account gets one of its own for builds"),
        Key::<Directories>::new("per_job", form!(Flag: per_job),
            "each job has a build directory of its own, `<server>-<job>`, instead of its slot's"),
        Key::<Directories>::new("create", form!(Flag: upkeep.create),
            "the first directory of `data_dir` with `$USER` in it is made where it is missing, mode 0700, see below"),
        Key::<Directories>::new("group_access", form!(Flag: upkeep.group_access),
            "directories have mode 0750 instead of 0700, so that the account's primary group can read builds and cache"),
        KEEP,
        Key::<Directories>::new("max_age", form!(Seconds: upkeep.max_age, HOUR, 36_500 * 24 * HOUR),
            "a build directory that no job has used for so long is removed").or("none"),
        Key::<Directories>::new("max_dirs", form!(Number: upkeep.max_dirs, 1, u64::MAX),
            "how many build directories stay on this host; the least recently used are removed").or("none"),
        Key::<Directories>::new("min_free", form!(Bytes: upkeep.min_free, 0),
            "while less is free on their file system, the least recently used are removed").or("none"),
        Key::<Directories>::new("cleanup_batch",
            Form::Number { get: |t| Some(t.upkeep.at_once.unwrap_or(0)), set: |t, n| t.upkeep.at_once = (n > 0).then_some(n), least: 0, most: u64::MAX },
            "how many directories the clean-up of one job removes at most; `0` for all, within a minute").was(&["remove_at_once"]),
    ],
};

/// `data_dir`, also of a profile.
const DATA_DIR: Key<Directories> = Key::<Directories>::new(
    "data_dir",
    Form::Text { get: |t| Some(t.data_dir.clone()), set: |t, at| t.data_dir = values::data_dir(at) },
    "root of all that Nunbird keeps for an account, with `$HOME` or `$USER` of the account in it",
);

/// `keep`, also of a profile.
const KEEP: Key<Directories> = Key::<Directories>::new(
    "keep",
    Form::Seconds {
        get: |t| Some(t.upkeep.keep.unwrap_or(0)),
        set: |t, n| t.upkeep.keep = (n > 0).then_some(n),
        least: 0,
        most: Upkeep::LONGEST_KEEP,
    },
    "the longest time for which the CI variable `NUNBIRD_KEEP` keeps what a failed script has left; `0s` for none",
);

/// The CI variable by which users ask for [`Upkeep::keep`].
pub const KEEP_VARIABLE: &str = "NUNBIRD_KEEP";

/// The keys of a profile that belong to [`Directories`].
pub static PROFILE_DIRECTORIES_KEYS: Table<Directories> =
    Table { path: "profile[]", defaults: Directories::default, keys: &[DATA_DIR, KEEP] };

pub(super) fn read(mut table: Section<'_>, has_privilege: bool) -> Directories {
    let mut directories = Directories::default();
    DIRECTORIES_KEYS.read(&mut table, &mut directories);
    if directories.upkeep.create && !has_privilege {
        let help = "remove the line: the launcher makes the directory as the user";
        table.find_at("create", "without privilege no directory is made for another user", help);
    }
    table.finish();
    directories
}
