//! A Jacamar site switches by changing a path: its configuration, real ones of sites, and every key there is.

mod agreement;
mod keys;
mod sites;

use nunbird_policy::{Condition, Local, Location, Matcher};
use nunbird_policy::{Diagnostic, Pattern, Policy, SourceFile};
use nunbird_render::{Migration, ServerOptions, migrate};
use std::path::Path;

/// A configuration without findings.
fn read(text: &str) -> Policy {
    let file = if text.contains("[general]") {
        "/etc/gitlab-runner/jacamar.toml"
    } else {
        "/etc/nunbird/config.toml"
    };
    Policy::parse(Path::new(file), text)
        .unwrap_or_else(|findings| panic!("{}\n{text}", shown(&findings).join("\n")))
}

/// Line and message of each finding; each says what to do.
fn findings(text: &str) -> Vec<(u32, String)> {
    let found = Policy::parse(Path::new("jacamar.toml"), text).expect_err(text);
    assert!(found.iter().all(|finding| finding.help.is_some()), "{found:?}");
    found.into_iter().map(|finding| (finding.place.line, finding.message)).collect()
}

fn shown(findings: &[Diagnostic]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

fn migrated(text: &str) -> (String, Vec<Diagnostic>) {
    migrated_with(text, &ServerOptions::default())
}

fn migrated_with(text: &str, given: &ServerOptions) -> (String, Vec<Diagnostic>) {
    let source = SourceFile { path: "jacamar.toml".into(), text: text.to_owned() };
    match migrate(&source, given) {
        Migration::Migrated { text, findings, refused } => {
            assert_eq!(refused, Policy::parse(Path::new("written.toml"), &text).err().unwrap_or_default());
            assert!(refused.is_empty() || !findings.is_empty(), "{refused:?}\n{text}");
            (text, findings)
        }
        other => panic!("{other:?}"),
    }
}

/// The policy without what a file's name, dialect and lines give it. A pattern that is a text and the regular expression
/// that matches this text alone are the same.
fn substance(policy: &Policy) -> String {
    let mut policy = policy.clone();
    policy.file = "".into();
    policy.dialect = nunbird_policy::Dialect::Native;
    for container in policy.containers.values_mut() {
        container.place = Location { file: "".into(), line: 0, column: 0 };
    }
    for rule in &mut policy.rules {
        rule.place = Location { file: "".into(), line: 0, column: 0 };
        for condition in &mut rule.conditions {
            if let Condition::Local(Local::Account(patterns))
            | Condition::Fact(_, Matcher::Text(_, patterns)) = condition
            {
                for pattern in patterns {
                    *pattern = Pattern::exact(&pattern.to_string().replace('\\', ""));
                }
            }
        }
    }
    format!("{policy:#?}")
}
