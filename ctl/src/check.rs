//! All findings about a configuration that need no job.

use crate::arguments::Check;
use crate::files;
use crate::finding::Finding;
use crate::host;
use crate::host_facts;
use crate::limit_facts;
use crate::output::{CtlError, Format, INVALID, OK, TESTS_FAILED, print, print_json};
use crate::scheduler_facts;
use crate::test;
use nunbird_handover::Untrusted;
use nunbird_policy::{Dialect, FormerName, Policy, Reading, check_map, lint, read_people};
use nunbird_render::keys_without_effect;
use serde_json::{Value, json};

pub(crate) fn run(options: &Check, format: Format) -> Result<u8, CtlError> {
    let reading = files::read(options.file.as_ref().unwrap_or(&options.configuration.configuration), format)?;
    let mut findings = of_policy(&reading.policy);
    findings.extend(lost_keys(&reading));
    findings.extend(former_names(&reading));
    let policy = reading.policy;
    if !options.no_host {
        host_facts::inspect(&policy, &options.runner.runner_user, &mut findings);
    }
    report(&policy, &options.runner.runner_user, &findings, options.strict, format)
}

/// Findings from the files alone.
pub(crate) fn of_policy(policy: &Policy) -> Vec<Finding> {
    let mut findings = remarks(policy);
    maps(policy, &mut findings);
    people(policy, &mut findings);
    scheduler_facts::check(policy, &mut findings);
    limit_facts::check(policy, &mut findings);
    findings
}

/// One remark on all keys of a Jacamar file that have no effect here: an admin who sets one expects
/// an effect.
pub(crate) fn lost_keys(reading: &Reading) -> Option<Finding> {
    let lost = match reading.policy.dialect {
        Dialect::Jacamar => keys_without_effect(&reading.origins),
        Dialect::Native => Vec::new(),
    };
    let first = lost.first()?.1;
    let items = lost.iter().map(|(key, place, why)| format!("line {}, {key}: {why}", place.line)).collect();
    let message = "these keys of Jacamar's have no effect here";
    let help = "remove those that you do not need; docs/migration.md describes what replaces them";
    Some(Finding::remark("no-effect", message, help).at(first.to_string()).listing(items))
}

/// One remark on all keys and values that are written as in an earlier version.
pub(crate) fn former_names(reading: &Reading) -> Option<Finding> {
    let first = &reading.former.first()?.place;
    let item = |one: &FormerName| format!("{}: `{}` is now `{}`", one.place, one.former, one.name);
    let items = reading.former.iter().map(item).collect();
    let message = "these names are those of an earlier version, which stay valid";
    Some(Finding::remark("renamed", message, "write the new ones").at(first.to_string()).listing(items))
}

/// Runs the policy's tests, prints them and the findings, and gives the exit code.
pub(crate) fn report(
    policy: &Policy,
    runner: &str,
    findings: &[Finding],
    strict: bool,
    format: Format,
) -> Result<u8, CtlError> {
    let tests = test::all(policy, host::runner(policy, runner))?;
    let failed: Vec<&test::TestResult<'_>> = tests.iter().filter(|outcome| !outcome.passed()).collect();
    let errors = findings.iter().filter(|f| f.is_error() || strict).count();
    let remarks = findings.len() - errors;
    match format {
        Format::Text => {
            let mut text: String = findings.iter().map(|finding| format!("{finding}\n\n")).collect();
            text.extend(failed.iter().map(|outcome| outcome.text()));
            text.push_str(&format!(
                "{}: {}, {}; {}, {}; {} of {} failed\n",
                Untrusted(&policy.file.to_string_lossy()),
                counted(policy.gitlab.len(), "server"),
                counted(policy.rules.len(), "rule"),
                counted(errors, "error"),
                counted(remarks, "remark"),
                failed.len(),
                counted(tests.len(), "test"),
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

pub(crate) fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn remarks(policy: &Policy) -> Vec<Finding> {
    lint(policy)
        .into_iter()
        .map(|lint| {
            let made = if lint.error { Finding::error } else { Finding::remark };
            made(lint.code, lint.message, lint.help).at(lint.place.to_string())
        })
        .collect()
}

/// Lines of map files that no decision would ever use, and keys that deny every user with that key.
fn maps(policy: &Policy, findings: &mut Vec<Finding>) {
    for (name, map) in &policy.maps {
        let shown = map.file.display();
        match files::text(&map.file) {
            Err(CtlError::Failure(why)) => findings.push(Finding::error(
                "map",
                why,
                format!("create the file, owned by root and readable, or remove [map.{}]", Untrusted(name)),
            )),
            Err(CtlError::Invalid(..)) => {}
            Ok(text) => findings.extend(check_map(&text).into_iter().map(|finding| {
                let help = "a line has a value and an account: `ada ada1`".to_owned();
                Finding::error("map", finding.message.to_owned(), help)
                    .at(format!("{shown}:{}", finding.line))
            })),
        }
    }
}

/// Lines of the site's list of people that cannot be parsed, and those about servers that the
/// policy does not contain.
fn people(policy: &Policy, findings: &mut Vec<Finding>) {
    let Some(file) = &policy.accounts.people_file else { return };
    let shown = file.display();
    let text = match files::text(file) {
        Err(CtlError::Failure(why)) => {
            let help = "create the file, owned by root and readable, or remove accounts.people_file";
            findings.push(Finding::error("people", why, help));
            return;
        }
        Err(CtlError::Invalid(..)) => return,
        Ok(text) => text,
    };
    let help = "a line has an account, a server and the id of a GitLab user: `ada example 42`";
    match read_people(&text) {
        Err(wrong) => findings.extend(wrong.into_iter().map(|finding| {
            Finding::error("people", finding.message, help)
                .at(format!("{shown}:{}:{}", finding.line, finding.column))
        })),
        Ok(people) => {
            let known = |name: &str| policy.gitlab.iter().any(|server| server.name == name);
            if let Some((line, person)) = people.iter().find(|(_, person)| !known(&person.server)) {
                let message = format!("`{}` is not a server of this configuration", person.server);
                let help = "write a `name` of a [[gitlab]] table, or leave the line for another host";
                findings.push(Finding::remark("people", message, help).at(format!("{shown}:{line}")));
            }
        }
    }
}
