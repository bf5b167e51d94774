//! The policy's own tests: `[[test]]`.

use crate::arguments::Test;
use crate::explain::{denial, trace};
use crate::files;
use crate::host::{self, TestHost, ThisHost};
use crate::judgement;
use crate::output::{Colour, CtlError, Format, OK, TESTS_FAILED, paint, print, print_json};
use nunbird_handover::Untrusted;
use nunbird_policy::{Dialect, Expectation, Host, Policy, SourceFile, TestCase, Verdict};
use serde_json::{Value, json};

pub(crate) fn run(options: &Test, format: Format) -> Result<u8, CtlError> {
    let policy = with_tests(options, format)?;
    let caller = host::runner(&policy, &options.runner.runner_user);
    let outcomes = all(&policy, caller)?;
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    match format {
        Format::Json => {
            let tests: Vec<Value> = outcomes.iter().map(TestResult::machine).collect();
            print_json(&json!({ "tests": tests, "failed": failed }))?;
        }
        Format::Text => {
            let mut text: String = outcomes.iter().map(TestResult::text).collect();
            if outcomes.is_empty() {
                let file = options.configuration.configuration.to_string_lossy();
                text.push_str(&format!("{}: no tests; add `[[test]]` tables\n", Untrusted(&file)));
            }
            text.push_str(&format!("{} passed, {failed} failed\n", outcomes.len() - failed));
            print(&text)?;
        }
    }
    Ok(if failed == 0 { OK } else { TESTS_FAILED })
}

/// The policy with the tests of all files. Those of a native configuration are read as a part of
/// it; Jacamar's dialect has no tests, so their files are read separately.
fn with_tests(options: &Test, format: Format) -> Result<Policy, CtlError> {
    let mut sources = files::sources(&options.configuration.configuration)?;
    let tests: Vec<SourceFile> = options
        .files
        .iter()
        .map(|file| Ok(SourceFile { path: file.clone(), text: files::text(file)? }))
        .collect::<Result<_, CtlError>>()?;
    let invalid = |findings| CtlError::Invalid(findings, format);
    let policy = Policy::of_files(&sources);
    if let Ok(mut policy) = policy
        && policy.dialect == Dialect::Jacamar
    {
        policy.add_tests(&tests).map_err(invalid)?;
        return Ok(policy);
    }
    sources.extend(tests);
    Policy::of_files(&sources).map_err(invalid)
}

/// One test that was run.
pub(crate) struct TestResult<'p> {
    test: &'p TestCase,
    expected: String,
    /// The result, in the form of an expectation.
    got: String,
    why: String,
    passed: bool,
}

impl TestResult<'_> {
    pub(crate) fn passed(&self) -> bool {
        self.passed
    }

    pub(crate) fn text(&self) -> String {
        let name = Untrusted(&self.test.name);
        if self.passed {
            return format!("{}  {name}\n", paint(Colour::Green, "pass"));
        }
        let (expected, got) = (Untrusted(&self.expected), Untrusted(&self.got));
        let (fail, place) = (paint(Colour::Red, "FAIL"), &self.test.place);
        format!("{fail}  {name} ({place}): expected {expected}, got {got}\n{}", self.why)
    }

    fn machine(&self) -> Value {
        json!({
            "name": self.test.name,
            "place": self.test.place.to_string(),
            "passed": self.passed,
            "expected": self.expected,
            "got": self.got,
        })
    }
}

/// Runs every test of the policy.
pub(crate) fn all(policy: &Policy, caller: u32) -> Result<Vec<TestResult<'_>>, CtlError> {
    let host = ThisHost::default();
    policy.tests.iter().map(|test| one(policy, test, &host, caller)).collect()
}

fn one<'p>(
    policy: &'p Policy,
    test: &'p TestCase,
    host: &ThisHost,
    caller: u32,
) -> Result<TestResult<'p>, CtlError> {
    let (facts, pinned, user) = (test.local.as_ref(), test.pinned, &test.server_user);
    let host: &dyn Host = &TestHost { facts, pinned, user, host };
    let decision = judgement::decision(policy, &test.subject, host, caller);
    let (expected, passed) = match (&test.expect, &decision.verdict) {
        (Expectation::Account(name), Verdict::Admitted { account, .. }) => {
            (name.clone(), account.name == *name)
        }
        (Expectation::Account(name), _) => (name.clone(), false),
        (Expectation::Denied, verdict) => {
            ("deny".to_owned(), !matches!(verdict, Verdict::Admitted { .. } | Verdict::Failed(_)))
        }
        (Expectation::DeniedBy(name), Verdict::DeniedByRule { rule, .. }) => {
            (format!("deny: {name}"), rule.name == *name)
        }
        (Expectation::DeniedBy(name), _) => (format!("deny: {name}"), false),
    };
    let got = match &decision.verdict {
        Verdict::Admitted { account, rule } => format!("{} by rule `{}`", account.name, rule.name),
        Verdict::Failed(trouble) => format!("no decision: {trouble}"),
        _ => format!("deny: {}", denial(&decision)),
    };
    let why = if passed { String::new() } else { trace(policy, &decision, &test.subject, host)? };
    Ok(TestResult { test, expected, got, why, passed })
}
