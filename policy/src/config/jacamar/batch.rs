//! `[batch]`: how stages run by a scheduler, where the executor is one.

use super::general::expand;
use super::{duration, ignore, list, on, set};
use crate::config::Job;
use crate::config::batch::{BatchSettings, DEFAULT_ARGUMENTS_VARIABLE, check_variable};
use crate::config::reader::{At, Section};
use crate::config::values;
use std::collections::BTreeMap;

const HOUR: u64 = 3600;

pub(super) fn read(mut t: Section<'_>) -> BatchSettings {
    let table = &mut t;
    let mut arguments_variables: Vec<String> = list(table, "arguments_variable")
        .into_iter()
        .flat_map(|at| at.value)
        .filter_map(|at| values::variable_name(&at))
        .collect();
    // Asked last in any case.
    arguments_variables.retain(|name| name != DEFAULT_ARGUMENTS_VARIABLE);
    arguments_variables.push(DEFAULT_ARGUMENTS_VARIABLE.to_owned());
    let mut settings = BatchSettings {
        arguments_variables,
        scheduler_bin: set(table, "scheduler_bin").map(|at| values::path(&at)),
        environment: environment(table),
        allow_illegal_arguments: on(table, "allow_illegal_args"),
        job_prefix: !on(table, "disable_name_prefix"),
        poll_interval: duration(table, "command_delay", 30, HOUR).max(5),
        nfs_timeout: duration(table, "nfs_timeout", 30, HOUR),
        ..BatchSettings::default()
    };
    settings.rules.default = words(table, "default_args");
    ignore(table, &[], &["skip_cobalt_log", "lsf_job_cancellation"], &[]);
    table.allow_prefix("ff_");
    t.finish();
    settings
}

/// Jacamar puts these texts onto a command's line; each may hold several words there.
pub(super) fn words(table: &mut Section<'_>, key: &'static str) -> Vec<String> {
    let mut words = Vec::new();
    for one in list(table, key).into_iter().flat_map(|at| at.value) {
        if one.value.contains(['\'', '"', '\\', '$', '`', '\0']) {
            let help = "write each word of the command in a text of its own, without quotes: Nunbird calls no shell here";
            one.spot.find("these arguments need a shell", help);
        }
        words.extend(one.value.split_whitespace().map(str::to_owned));
    }
    words
}

/// `env_vars`: `NAME=value` for the scheduler's commands, where `PATH` is the job's.
fn environment(table: &mut Section<'_>) -> BTreeMap<String, String> {
    let mut known = Job::default().environment;
    let mut all = BTreeMap::new();
    for one in list(table, "env_vars").into_iter().flat_map(|at| at.value) {
        let Some((name, value)) = one.value.split_once('=') else {
            one.spot.find("expected an assignment", "write `NAME=value`");
            continue;
        };
        let value = without_unset(value, "LD_LIBRARY_PATH", &known);
        match expand(&value, &known) {
            Ok(value) => {
                check_variable(
                    &At { value: name, spot: one.spot },
                    &At { value: value.as_str(), spot: one.spot },
                );
                known.insert(name.to_owned(), value.clone());
                all.insert(name.to_owned(), value);
            }
            Err(problem) => one.spot.find(problem, "write the value out"),
        }
    }
    all
}

/// Takes a variable that no job has out of a list. An empty part of it would be the current directory (ld.so(8)).
fn without_unset(value: &str, name: &str, known: &BTreeMap<String, String>) -> String {
    if known.contains_key(name) {
        return value.to_owned();
    }
    let is_it = |part: &str| part == format!("${name}") || part == format!("${{{name}}}");
    let parts: Vec<&str> = value.split(':').filter(|part| !is_it(part)).collect();
    parts.join(":")
}
