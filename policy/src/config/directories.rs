//! `[directories]`: where an account's jobs work, and how its directories are made and kept.

use super::model::Directories;
use super::reader::{At, Section};
use super::values::{self, Values};
use nunbird_handover::Upkeep;

const DAY: u64 = 86_400;
/// A clean-up keeps gitlab-runner's slot, and nobody sees what it does: one directory a job, as Jacamar CI does.
const AT_ONCE: u64 = 1;

pub(super) fn read(mut table: Section<'_>, has_privilege: bool) -> Directories {
    let base = Directories::default();
    let data_dir = table.text("data_dir").map_or(base.data_dir, |at| values::data_dir(&at));
    let create = table.boolean("create").filter(|at| at.value);
    if let Some(at) = create.as_ref().filter(|_| !has_privilege) {
        let help = "remove the line: the launcher makes the directory as the user";
        at.spot.find("without privilege no directory is made for anybody else", help);
    }
    let has_age = table.has("max_age");
    let max_age = table.seconds("max_age", DAY, 3600..=36_500 * DAY);
    let at_once = table.integer("remove_at_once").map_or(AT_ONCE, |at| at.value);
    let directories = Directories {
        data_dir,
        user_builds_dir: table.flag("user_builds_dir", false),
        per_job: table.flag("per_job", false),
        upkeep: Upkeep {
            create: create.is_some(),
            group_access: table.flag("group_access", false),
            max_age: has_age.then_some(max_age),
            max_dirs: least_one(&mut table, "max_dirs"),
            min_free: table.text("min_free").and_then(|at| size(&at)),
            at_once: (at_once > 0).then_some(at_once),
        },
    };
    table.finish();
    directories
}

fn least_one(table: &mut Section<'_>, key: &'static str) -> Option<u64> {
    let at = table.integer(key)?;
    if at.value == 0 {
        at.spot.find("a job needs a directory", "write 1 or more, or remove the line");
    }
    Some(at.value)
}

/// Bytes, as `500M`, `20G` or `1T`: powers of 1024.
fn size(at: &At<'_, &str>) -> Option<u64> {
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((at.value.strip_suffix(unit)?, *shift)))
        .unwrap_or((at.value, 64));
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let bytes = digits.parse::<u64>().ok().filter(|_| plain && shift < 64);
    let bytes = bytes.and_then(|number| number.checked_mul(1 << shift));
    if bytes.is_none() {
        at.spot.find("this is no amount of space", "write a number with `K`, `M`, `G` or `T`, such as `20G`");
    }
    bytes
}

impl Default for Directories {
    fn default() -> Self {
        Directories {
            data_dir: "$HOME/.nunbird".to_owned(),
            user_builds_dir: false,
            per_job: false,
            upkeep: Upkeep { at_once: Some(AT_ONCE), ..Upkeep::default() },
        }
    }
}
