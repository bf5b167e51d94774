//! The environment that gitlab-runner gives its driver, taken once and then gone: four variables of the runner's own, and
//! the job's variables as `CUSTOM_ENV_<NAME>`.
//!
//! A CI user can set every `CUSTOM_ENV_*`, also the ones that look like GitLab's own. None is looked at until the site's
//! policy names it, and then its value is untrusted text of the user's and goes to the launcher as it is. `CI_SERVER_URL` alone is looked at
//! in any case, once a job is refused: it chooses which of the site's servers the help is about.
//!
//! `TMPDIR`, which the runner sets as well, never reaches a program with setuid bit or file capabilities: the
//! dynamic loader takes it away (ld.so(8), secure-execution mode). The job's directory is where the response lies.

use nunbird_messages::ExitCodes;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What the runner passes beside the arguments.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// `JOB_RESPONSE_FILE`, in the runner's private directory of this job.
    pub(crate) response: Option<PathBuf>,
    /// `BUILD_EXIT_CODE_FILE`, gitlab-runner 17.9 and later.
    pub(crate) exit_code_file: Option<PathBuf>,
    /// `BUILD_FAILURE_EXIT_CODE` and `SYSTEM_FAILURE_EXIT_CODE`.
    pub(crate) exit_codes: ExitCodes,
    /// The process that called: gitlab-runner, or a wrapper of the site's.
    pub(crate) caller: i32,
    /// The whole environment.
    variables: Vec<(OsString, OsString)>,
}

impl Inputs {
    /// Takes the environment, which is empty afterwards.
    pub(crate) fn take() -> Self {
        Self::of(nunbird_sys::environment::take())
    }

    /// What an environment means.
    pub(crate) fn of(variables: Vec<(OsString, OsString)>) -> Self {
        let value = |name: &str| first(&variables, OsStr::new(name));
        let path = |name: &str| value(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Inputs {
            response: path("JOB_RESPONSE_FILE"),
            exit_code_file: path("BUILD_EXIT_CODE_FILE"),
            exit_codes: exit_codes(
                value("BUILD_FAILURE_EXIT_CODE").as_ref(),
                value("SYSTEM_FAILURE_EXIT_CODE").as_ref(),
            ),
            caller: nunbird_sys::process::parent(),
            variables,
        }
    }

    /// The runner's private directory of this job.
    pub(crate) fn job_directory(&self) -> Option<&Path> {
        self.response.as_deref()?.parent()
    }

    /// The value of one of the job's variables, as the runner expanded it: untrusted text of the CI user's. An empty one counts as not set.
    ///
    /// # Errors
    /// The value where it is no UTF-8, which GitLab does not let happen.
    pub(crate) fn job_variable(&self, name: &str) -> Result<Option<String>, OsString> {
        let value = first(&self.variables, OsStr::new(&format!("CUSTOM_ENV_{name}")));
        Ok(value.map(OsString::into_string).transpose()?.filter(|text| !text.is_empty()))
    }
}

/// As getenv(3): of two entries of one name the first counts.
fn first(variables: &[(OsString, OsString)], name: &OsStr) -> Option<OsString> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
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
    use super::{ExitCodes, Inputs, OsString, exit_codes};
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn only_two_different_failures_are_taken_from_the_runner() {
        let codes = |b: &str, s: &str| exit_codes(Some(&OsString::from(b)), Some(&OsString::from(s)));
        assert_eq!(codes("3", "4"), ExitCodes { build_failure: 3, system_failure: 4 });
        for (b, s) in [("0", "2"), ("1", "0"), ("256", "2"), ("-1", "2"), ("x", "2"), ("5", "5"), ("", "")] {
            assert_eq!(codes(b, s), ExitCodes::default(), "{b} {s}");
        }
        assert_eq!(exit_codes(None, None), ExitCodes::default());
    }

    #[test]
    fn a_variable_of_the_job_is_had_by_its_exact_name_and_the_first_counts() {
        let pairs = [
            ("A", "runner's"),
            ("CUSTOM_ENV_A", "first"),
            ("CUSTOM_ENV_A", "second"),
            ("CUSTOM_ENV_EMPTY", ""),
            ("custom_env_B", "small"),
        ];
        let mut variables: Vec<(OsString, OsString)> =
            pairs.map(|(name, value)| (name.into(), value.into())).to_vec();
        variables.push(("CUSTOM_ENV_RAW".into(), OsString::from_vec(vec![0xff])));
        let inputs = Inputs::of(variables);
        assert_eq!(inputs.job_variable("A"), Ok(Some("first".to_owned())));
        assert_eq!(inputs.job_variable("EMPTY"), Ok(None));
        assert_eq!(inputs.job_variable("B"), Ok(None));
        assert!(inputs.job_variable("RAW").is_err());
    }
}
