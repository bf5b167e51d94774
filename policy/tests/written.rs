//! A policy that is written and read again decides as before: native ones are the same, Jacamar's agree on every job.

use nunbird_policy::{
    AccountFacts, Host, IdentitySource, MapFile, Policy, Subject, Trouble, Verdict, decide, to_toml,
};
use proptest::prelude::*;
use std::borrow::Cow;
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
        }
        for (test, first) in again.tests.iter_mut().zip(&policy.tests) {
            test.place = first.place.clone();
        }
        for (map, first) in again.maps.values_mut().zip(policy.maps.values()) {
            map.place = first.place.clone();
        }
        for (profile, first) in again.profiles.values_mut().zip(policy.profiles.values()) {
            profile.place = first.place.clone();
        }
        assert_eq!(again, policy);
    }
}

#[test]
fn a_comment_stands_behind_its_key_and_cannot_end_its_line() {
    let policy = read(include_str!("../src/config/sample.toml"));
    let text = to_toml(&policy, &|key| (key == "accounts.min_uid").then(|| "a\nb = 1".to_owned()));
    assert!(text.contains("min_uid = 1000  # a b = 1\n"), "{text}");
}

/// Four people with groups, shells and uids of every kind.
struct Site;

impl Host for Site {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, Trouble> {
        let (uid, groups, shell) = match name {
            "ada" => (5001, vec![5001, 70], "/bin/bash"),
            "bob" => (5002, vec![5002, 71], "/bin/zsh"),
            "eve" => (5003, vec![5003, 70, 71], "/bin/bash"),
            "old" => (500, vec![500], "/bin/bash"),
            _ => return Ok(None),
        };
        Ok(Some(AccountFacts {
            name: name.to_owned(),
            uid,
            gid: uid,
            groups,
            home: "/home/x".into(),
            shell: shell.into(),
            name_of_uid: Some(name.to_owned()),
        }))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, Trouble> {
        Ok([("physics", 70), ("guests", 71)]
            .into_iter()
            .find(|(group, _)| *group == name)
            .map(|(_, gid)| gid))
    }

    fn map(&self, _: &MapFile) -> Result<Cow<'_, str>, Trouble> {
        Ok(Cow::Borrowed(""))
    }
}

fn verdict(policy: &Policy, subject: &Subject) -> String {
    match decide(policy, subject, &Site, 990).verdict {
        Verdict::Admitted { rule, account } => format!("{} runs as {}", rule.name, account.name),
        Verdict::DeniedByRule { rule, message } => format!("{} denies: {message}", rule.name),
        Verdict::DeniedAccount { rule, account, violation } => {
            format!("{}: {account}: {violation}", rule.name)
        }
        other => format!("{other:?}"),
    }
}

fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::subsequence(names, 0..=names.len().min(3)).prop_map(|all| format!("{all:?}"))
}

const PEOPLE: &[&str] = &["ada", "bob", "eve", "old", "*", "nobody", "a.b"];

proptest! {
    #[test]
    fn a_migrated_configuration_and_its_original_always_agree(
        (user_allow, user_block) in (some_of(PEOPLE), some_of(PEOPLE)),
        (group_allow, group_block) in (some_of(&["physics", "guests", "ghosts"]), some_of(&["physics", "guests", "ghosts"])),
        sources in some_of(&["push", "web"]),
        shells in some_of(&["/bin/bash", "/bin/zsh"]),
        (bots, runas, nologin) in (any::<bool>(), any::<bool>(), any::<bool>()),
        downscope in prop_oneof![Just("setuid"), Just("none")],
        logging in prop_oneof![Just(""), Just("location = \"/var/log/j.log\""), Just("network = \"udp\"\naddress = \"127.0.0.1:514\"")],
        jobs in proptest::collection::vec(("(ada|bob|eve|old|root|project_1_bot_x|.{0,5})", "(push|web|schedule)", "(ada|bob|.{0,3})"), 1..8),
    ) {
        let runas = if runas && downscope == "setuid" { "[auth.runas]\nvalidation_script = \"/etc/v\"\nvalidation_env = [\"K=a\\\"b\"]\n" } else { "" };
        let text = format!(
            "[general]\nexecutor = \"shell\"\ndata_dir = \"/ecp\"\ngitlab_server = \"https://g.example.org\"\n\
             [auth]\ndownscope = \"{downscope}\"\nuser_allowlist = {user_allow}\nuser_blocklist = {user_block}\n\
             groups_allowlist = {group_allow}\ngroups_blocklist = {group_block}\npipeline_source_allowlist = {sources}\n\
             shell_allowlist = {shells}\nallow_bot_accounts = {bots}\nenforce_nologin = {nologin}\n\
             {runas}[auth.logging]\nenabled = true\n{logging}\n"
        );
        let original = read(&text);
        let written = to_toml(&original, &|_| None);
        let migrated = read(&written);
        prop_assert_eq!(&original.audit, &migrated.audit);
        prop_assert_eq!(&original.validation, &migrated.validation);
        prop_assert_eq!(&original.accounts, &migrated.accounts);
        prop_assert_eq!(&original.job, &migrated.job);
        for (login, source, validated) in jobs {
            let subject = Subject {
                server: "g-example-org".to_owned(),
                source: IdentitySource::IdToken,
                user_login: login,
                pipeline_source: Some(source),
                validated: original.validation.as_ref().map(|_| validated),
                ..Subject::default()
            };
            prop_assert_eq!(verdict(&original, &subject), verdict(&migrated, &subject));
        }
    }
}
