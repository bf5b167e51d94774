//! The four variables that gitlab-runner sets for its driver. Nothing else of the environment is read: every
//! `CUSTOM_ENV_*` can be set by a CI user, also the ones that look like GitLab's own.
//!
//! `TMPDIR`, which the runner sets as well, never reaches a program with setuid bit or file capabilities: the
//! dynamic loader takes it away (ld.so(8), secure-execution mode). The job's directory is where the response lies.

use nunbird_handover::ExitCodes;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What the runner says beside the arguments.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// `JOB_RESPONSE_FILE`, in the runner's private directory of this job.
    pub(crate) response: Option<PathBuf>,
    /// `BUILD_EXIT_CODE_FILE`, gitlab-runner 17.9 and later.
    pub(crate) exit_code_file: Option<PathBuf>,
    /// `BUILD_FAILURE_EXIT_CODE` and `SYSTEM_FAILURE_EXIT_CODE`.
    pub(crate) exit_codes: ExitCodes,
}

impl Inputs {
    /// Takes the four variables and clears the environment.
    pub(crate) fn take() -> Self {
        Self::of(nunbird_sys::environment::take([
            "JOB_RESPONSE_FILE",
            "BUILD_EXIT_CODE_FILE",
            "BUILD_FAILURE_EXIT_CODE",
            "SYSTEM_FAILURE_EXIT_CODE",
        ]))
    }

    /// What the values of the four variables mean, in the order of [`Inputs::take`].
    pub(crate) fn of([response, file, build, system]: [Option<OsString>; 4]) -> Self {
        let path = |value: Option<OsString>| value.filter(|v| !v.is_empty()).map(PathBuf::from);
        Inputs {
            response: path(response),
            exit_code_file: path(file),
            exit_codes: exit_codes(build.as_ref(), system.as_ref()),
        }
    }

    /// The runner's private directory of this job.
    pub(crate) fn job_directory(&self) -> Option<&Path> {
        self.response.as_deref()?.parent()
    }
}

/// The codes that the runner names, where both are failures and differ; else the ones it always used.
///
/// A code of 0 would turn a refusal into a success.
fn exit_codes(build: Option<&OsString>, system: Option<&OsString>) -> ExitCodes {
    let number = |value: Option<&OsString>| value?.to_str()?.parse::<u8>().ok().filter(|n| *n != 0);
    match (number(build), number(system)) {
        (Some(build_failure), Some(system_failure)) if build_failure != system_failure => {
            ExitCodes { build_failure, system_failure }
        }
        _ => ExitCodes::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ExitCodes, OsString, exit_codes};

    #[test]
    fn only_two_different_failures_are_taken_from_the_runner() {
        let codes = |b: &str, s: &str| exit_codes(Some(&OsString::from(b)), Some(&OsString::from(s)));
        assert_eq!(codes("3", "4"), ExitCodes { build_failure: 3, system_failure: 4 });
        for (b, s) in [("0", "2"), ("1", "0"), ("256", "2"), ("-1", "2"), ("x", "2"), ("5", "5"), ("", "")] {
            assert_eq!(codes(b, s), ExitCodes::default(), "{b} {s}");
        }
        assert_eq!(exit_codes(None, None), ExitCodes::default());
    }
}
