//! The environment of the driver's programs, in gitlab-runner's four groups.

use super::Variable;
use super::session::Places;
use super::variables::expand;
use std::ffi::OsString;
use std::path::Path;

type Pairs = Vec<(OsString, OsString)>;

/// What the runner sets for its driver by fixed names.
pub(super) fn fixed(directory: &Path, exit_code_file: bool) -> Pairs {
    let mut pairs: Pairs = vec![
        ("TMPDIR".into(), directory.into()),
        ("BUILD_FAILURE_EXIT_CODE".into(), "1".into()),
        ("SYSTEM_FAILURE_EXIT_CODE".into(), "2".into()),
        ("JOB_RESPONSE_FILE".into(), directory.join("response.json").into()),
    ];
    if exit_code_file {
        pairs.push(("BUILD_EXIT_CODE_FILE".into(), directory.join("build_exit_code").into()));
    }
    pairs
}

/// The job's variables, each behind `CUSTOM_ENV_`, and the services.
pub(super) fn custom(variables: &[Variable], places: &Places) -> Pairs {
    let name = |key: &str| OsString::from(format!("CUSTOM_ENV_{key}"));
    let mut pairs: Pairs =
        variables.iter().map(|v| (name(&v.key), expand(v, variables, places).into())).collect();
    pairs.push((name("CI_JOB_SERVICES"), OsString::new()));
    pairs
}

/// Keeps the last value of each name, as Go's `exec.Cmd` does before it starts a program.
pub(super) fn last_wins(pairs: Pairs) -> Pairs {
    let mut kept: Pairs = Vec::new();
    for (name, value) in pairs.into_iter().rev() {
        if kept.iter().all(|(known, _)| *known != name) {
            kept.push((name, value));
        }
    }
    kept.reverse();
    kept
}
