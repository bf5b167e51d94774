//! What gitlab-runner, or an attacker who controls its account, passes to `nunbird-auth`: the
//! arguments, the four variables, and, through the site's configuration, the variables of the job.
//!
//! `nunbird-auth` is a program and not a library; the files under test are its own, compiled a
//! second time.

use crate::arguments::{Request, Stage, USAGE, parse};
use crate::inputs::Inputs;
use nunbird_handover::{ExitCodes, Handover, Untrusted};
use nunbird_policy::Policy;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The command line, its words separated by NUL: what is accepted is what the caller wrote, in that
/// form.
pub fn command_line(bytes: &[u8]) {
    let words: Vec<&[u8]> = bytes.split(|b| *b == 0).collect();
    let said = |word: &[u8]| words.contains(&word);
    match parse(words.iter().map(|word| OsString::from_vec(word.to_vec()))) {
        Ok(Request::Version) => assert!(said(b"--version")),
        Ok(Request::Help) => assert!(said(b"--help") || said(b"-h")),
        Ok(Request::Stage(call)) => {
            assert!(said(call.stage.name().as_bytes()) && USAGE.contains(call.stage.name()));
            // The reverse need not hold: a configuration file may have that name.
            assert!(!call.unobfuscated || said(b"-u") || said(b"--unobfuscated"));
            if let Some(file) = call.configuration {
                let file = file.as_os_str().as_bytes();
                assert!(!file.is_empty());
                assert!(said(file) || said(&[b"--configuration=", file].concat()), "not the caller's words");
            }
            if let Stage::Run { script, stage } = call.stage {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
                assert!((1..=128).contains(&stage.len()) && stage.bytes().all(plain));
                assert!(said(stage.as_bytes()) && said(script.as_os_str().as_bytes()));
            }
        }
        Err(error) => assert!(!error.is_empty() && !error.chars().any(Untrusted::is_deceptive)),
    }
}

/// The values of the four variables and one of the job's, separated by NUL, missing ones last: a
/// failure never becomes a success, no two failures get the same exit code, and the job's variable
/// keeps its name.
pub fn variables(bytes: &[u8]) {
    let mut parts = bytes.split(|b| *b == 0).map(|part| OsString::from_vec(part.to_vec()));
    let names = [
        "JOB_RESPONSE_FILE",
        "BUILD_EXIT_CODE_FILE",
        "BUILD_FAILURE_EXIT_CODE",
        "SYSTEM_FAILURE_EXIT_CODE",
        "CUSTOM_ENV_A",
    ];
    let values = [(); 5].map(|()| parts.next());
    let set = names.into_iter().zip(values.clone()).filter_map(|(name, value)| Some((name.into(), value?)));
    let inputs = Inputs::of(set.collect());
    let [response, file, build, system, of_job] = values;
    let text = of_job.map(|value| value.into_string());
    match (inputs.job_variable("A"), text) {
        (Ok(Some(value)), Some(Ok(text))) => assert!(!value.is_empty() && value == text),
        (Ok(None), None) => {}
        (Ok(None), Some(Ok(text))) => assert!(text.is_empty()),
        (Err(_), Some(Err(_))) => {}
        other => panic!("{other:?}"),
    }
    for (path, value) in [(&inputs.response, response), (&inputs.exit_code_file, file)] {
        assert_eq!(path.as_ref().map(|p| p.as_os_str()), value.as_deref().filter(|v| !v.is_empty()));
    }
    if let (Some(directory), Some(response)) = (inputs.job_directory(), &inputs.response) {
        assert!(response.starts_with(directory) && response != directory);
    }
    let ExitCodes { build_failure, system_failure } = inputs.exit_codes;
    assert!(build_failure != 0 && system_failure != 0 && build_failure != system_failure);
    if inputs.exit_codes != ExitCodes::default() {
        let said = |value: Option<OsString>| value.and_then(|v| v.to_str()?.parse().ok());
        assert_eq!((said(build), said(system)), (Some(build_failure), Some(system_failure)));
    }
}

const CONFIGURATION: &str = include_str!("../corpus/configuration/example0");
const HANDOVER: &[u8] = include_bytes!("../corpus/record/handover");
/// As in sudo's table of bad variables: those that a loader or a shell interprets before the first
/// line of a script.
const STEERING: [&str; 5] = ["BASH_ENV", "ENV", "IFS", "SHELLOPTS", "PS4"];

/// The lines of `[job.environment]`: every variable is unique, four belong to the account and keep
/// their values, and none controls the loader or a shell.
pub fn job_environment(bytes: &[u8]) {
    let Ok(lines) = std::str::from_utf8(bytes) else { return };
    let text = format!("{CONFIGURATION}\n[job.environment]\n{lines}\n");
    let Ok(policy) = Policy::parse(Path::new("/etc/nunbird/config.toml"), &text) else { return };
    let mut handover = Handover::from_message(HANDOVER).expect("a message of the corpus");
    handover.environment = policy.job.environment;
    let variables =
        handover.launch_environment().expect("a configuration that was accepted makes an environment");
    let variables: Vec<&str> = variables.iter().map(|v| v.to_str().expect("UTF-8")).collect();
    let own = ["HOME=/home/alice", "USER=alice", "LOGNAME=alice", "SHELL=/bin/bash"];
    assert_eq!(variables.get(..4), Some(&own[..]));
    let mut names = BTreeSet::new();
    for variable in variables {
        let (name, _) = variable.split_once('=').expect("a name and a value");
        assert!(names.insert(name), "{name} is duplicated");
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        assert!(!name.starts_with("LD_") && !STEERING.contains(&name), "{name}");
    }
    assert!(names.contains("PATH"));
}
