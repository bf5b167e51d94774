//! Everything that can be said of a configuration before a job meets it.

use crate::arguments::Check;
use crate::files;
use crate::host;
use crate::host_facts::{self, Finding};
use crate::output::{Format, INVALID, OK, TESTS_FAILED, Trouble, print, print_json};
use crate::test;
use nunbird_handover::Untrusted;
use nunbird_policy::{Policy, check_map, lint};
use serde_json::{Value, json};

pub(crate) fn run(options: &Check, format: Format) -> Result<u8, Trouble> {
    let file = &options.configuration.configuration;
    let policy = files::read(file, format)?.policy;
    let mut findings = remarks(&policy);
    maps(&policy, &mut findings);
    let caller = host::runner(&policy, &options.runner.runner_user);
    if !options.no_host {
        host_facts::look(&policy, &options.runner.runner_user, &mut findings);
    }
    let tests = test::all(&policy, caller)?;
    let failed: Vec<&test::Outcome<'_>> = tests.iter().filter(|outcome| !outcome.passed()).collect();
    let errors = findings.iter().filter(|f| f.is_error() || options.strict).count();
    let remarks = findings.len() - errors;
    match format {
        Format::Text => {
            let mut text: String = findings.iter().map(|finding| format!("{finding}\n\n")).collect();
            text.extend(failed.iter().map(|outcome| outcome.text()));
            let (servers, rules) = (policy.gitlab.len(), policy.rules.len());
            text.push_str(&format!(
                "{}: {servers} servers, {rules} rules; {errors} errors, {remarks} remarks; {} of {} tests failed\n",
                file.display(),
                failed.len(),
                tests.len()
            ));
            print(&text)?;
        }
        Format::Json => {
            let all: Vec<Value> = findings.iter().map(Finding::machine).collect();
            print_json(&json!({
                "valid": errors == 0, "findings": all, "tests": tests.len(), "tests_failed": failed.len(),
            }))?;
        }
    }
    Ok(match (errors, failed.len()) {
        (0, 0) => OK,
        (0, _) => TESTS_FAILED,
        _ => INVALID,
    })
}

fn remarks(policy: &Policy) -> Vec<Finding> {
    lint(policy)
        .into_iter()
        .map(|lint| Finding::remark(lint.code, lint.message, lint.help).at(lint.place.to_string()))
        .collect()
}

/// Lines of map files that no decision would ever take, and keys that deny whoever has them.
fn maps(policy: &Policy, findings: &mut Vec<Finding>) {
    for (name, map) in &policy.maps {
        let shown = map.file.display();
        match files::text(&map.file) {
            Err(Trouble::Failure(why)) => findings.push(Finding::error(
                "map",
                why,
                format!("write the file, root's and readable, or remove [map.{}]", Untrusted(name)),
            )),
            Err(Trouble::Invalid(..)) => {}
            Ok(text) => findings.extend(check_map(&text).into_iter().map(|finding| {
                let help = "a line has a value and an account: `ada ada1`".to_owned();
                Finding::error("map", finding.message.to_owned(), help)
                    .at(format!("{shown}:{}", finding.line))
            })),
        }
    }
}
