//! `[batch]`: typed, and without effect as long as the executor is `shell`.

use super::{assignments, duration, ignore, list};
use crate::config::reader::Section;

pub(super) fn read(mut table: Section<'_>) {
    let _without_effect = list(&mut table, "arguments_variable");
    let _without_effect = list(&mut table, "default_args");
    duration(&mut table, "command_delay", 30, u64::MAX);
    duration(&mut table, "nfs_timeout", 30, u64::MAX);
    let without = list(&mut table, "env_vars").into_iter().flat_map(|at| at.value);
    let _told = assignments(without.filter(|one| !one.value.contains('=')));
    let switches = ["allow_illegal_args", "skip_cobalt_log", "lsf_job_cancellation", "disable_name_prefix"];
    ignore(&mut table, &["scheduler_bin"], &switches, &[]);
    table.allow_prefix("ff_");
    table.finish();
}
