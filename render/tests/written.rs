//! A policy that is written and read again is the same. What comes from Jacamar: `jacamar/agreement.rs`.

use nunbird_policy::Policy;
use nunbird_render::to_toml;
use std::path::Path;

fn read(text: &str) -> Policy {
    Policy::parse(Path::new("config.toml"), text).unwrap_or_else(|findings| {
        panic!("{}\n{text}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

#[test]
fn every_example_of_the_reference_is_the_same_when_it_is_written_and_read_again() {
    let reference = include_str!("../../docs/policy-reference.md");
    for block in reference.split("```toml\n").skip(1) {
        let policy = read(block.split("```").next().unwrap_or(""));
        let mut again = read(&to_toml(&policy, &|_| None));
        // What is written has other lines.
        for (rule, first) in again.rules.iter_mut().zip(&policy.rules) {
            rule.place = first.place.clone();
            if let (Some(own), Some(first)) = (&mut rule.limits, &first.limits) {
                own.place = first.place.clone();
            }
        }
        for (test, first) in again.tests.iter_mut().zip(&policy.tests) {
            test.place = first.place.clone();
        }
        for (map, first) in again.maps.values_mut().zip(policy.maps.values()) {
            map.place = first.place.clone();
        }
        for (container, first) in again.containers.values_mut().zip(policy.containers.values()) {
            container.place = first.place.clone();
        }
        for (credential, first) in again.credentials.values_mut().zip(policy.credentials.values()) {
            credential.place = first.place.clone();
        }
        for (profile, first) in again.profiles.values_mut().zip(policy.profiles.values()) {
            profile.place = first.place.clone();
            profile.limits.clone_from(&first.limits);
        }
        assert_eq!(again, policy);
    }
}

#[test]
fn a_comment_stands_behind_its_key_and_cannot_end_its_line() {
    let policy = read(include_str!("../../policy/src/config/sample.toml"));
    let text = to_toml(&policy, &|key| (key == "accounts.min_uid").then(|| "a\nb = 1".to_owned()));
    assert!(text.contains("min_uid = 1000  # a b = 1\n"), "{text}");
}
