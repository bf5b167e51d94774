use super::{Mismatch, Verdict, decide};
use crate::made_up::{MadeUp, account, subject};
use crate::{IdentitySource, Policy, Subject, Violation, explain_rule};
use std::path::Path;

const HEAD: &str = "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"x\"\n";
const RUNNER: u32 = 990;

fn host() -> MadeUp {
    let mut alice = account("alice", 5001);
    alice.groups.push(4242);
    let mut host = MadeUp::default().with(alice).with(account("sandbox", 5002));
    host.groups.insert("hpc".to_owned(), 4242);
    host.groups.insert("other".to_owned(), 4243);
    host
}

fn verdict_on(host: &MadeUp, rules: &str, subject: &Subject) -> String {
    let policy =
        Policy::parse(Path::new("c.toml"), &format!("{HEAD}{rules}")).unwrap_or_else(|e| panic!("{e:?}"));
    match decide(&policy, subject, host, RUNNER).verdict {
        Verdict::Admitted { account, .. } => account.name,
        Verdict::DeniedByRule { .. } => "denied".to_owned(),
        Verdict::NoRule => "no rule".to_owned(),
        Verdict::DeniedAccount { violation: Violation::Missing, .. } => "no account".to_owned(),
        Verdict::Failed(trouble) => trouble.code.name().to_owned(),
        other => format!("{other:?}"),
    }
}

fn admitting(unless: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nunless = {{ {unless} }}\nrun_as = \"$user_login\"\n")
}

fn denying(unless: &str) -> String {
    format!(
        "[[rule]]\nname = \"r\"\nunless = {{ {unless} }}\ndeny = \"no\"\n\
         [[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n"
    )
}

/// A condition that holds for the first subject, does not for the second, and is unknown of the third.
fn facts() -> Vec<(&'static str, Subject, Subject, Subject)> {
    let with = |change: &dyn Fn(&mut Subject)| {
        let mut subject = subject();
        change(&mut subject);
        subject
    };
    let text = |text: &str| Some(text.to_owned());
    let identity = |name: &str| vec![(name.to_owned(), "uid".to_owned())];
    vec![
        (
            "fork = true",
            with(&|s| s.fork = Some(true)),
            with(&|s| s.fork = Some(false)),
            with(&|s| s.fork = None),
        ),
        (
            "fork = false",
            with(&|s| s.fork = Some(false)),
            with(&|s| s.fork = Some(true)),
            with(&|s| s.fork = None),
        ),
        (
            "identity = \"ldap*\"",
            with(&|s| s.identities = [identity("saml"), identity("ldapmain")].concat()),
            with(&|s| s.identities = identity("saml")),
            with(&|s| s.identities = Vec::new()),
        ),
        (
            "user_email = \"*@example.org\"",
            with(&|s| s.user_email = text("a@example.org")),
            with(&|s| s.user_email = text("a@example.com")),
            with(&|s| s.user_email = None),
        ),
        (
            "access_level = \"guest\"",
            with(&|s| s.access_level = text("guest")),
            with(&|s| s.access_level = text("developer")),
            with(&|s| s.access_level = None),
        ),
        (
            "group = \"bad/*\"",
            with(&|s| s.groups = Some(vec!["bad/x".to_owned()])),
            with(&|s| s.groups = Some(Vec::new())),
            with(&|s| s.groups = None),
        ),
        (
            "ref_type = \"tag\"",
            with(&|s| s.ref_type = text("tag")),
            with(&|s| s.ref_type = text("branch")),
            with(&|s| s.ref_type = None),
        ),
        (
            "ref_protected = false",
            with(&|s| s.ref_protected = Some(false)),
            with(&|s| s.ref_protected = Some(true)),
            with(&|s| s.ref_protected = None),
        ),
        (
            "pipeline_source = \"schedule\"",
            with(&|s| s.pipeline_source = text("schedule")),
            with(&|s| s.pipeline_source = text("push")),
            with(&|s| s.pipeline_source = None),
        ),
        (
            "environment = \"production\"",
            with(&|s| s.environment = text("production")),
            with(&|s| s.environment = None),
            with(&|s| s.source = IdentitySource::JobToken),
        ),
        (
            "environment_protected = false",
            with(&|s| (s.environment, s.environment_protected) = (text("x"), Some(false))),
            with(&|s| s.environment = None),
            with(&|s| s.environment = text("x")),
        ),
        (
            "runner_id = 12",
            with(&|s| s.runner_id = Some(12)),
            with(&|s| s.runner_id = Some(13)),
            with(&|s| s.runner_id = None),
        ),
    ]
}

#[test]
fn an_unknown_fact_neither_opens_a_rule_nor_takes_a_denial_away() {
    for (condition, holds, fails, unknown) in facts() {
        let admits = |subject: &Subject| verdict_on(&host(), &admitting(condition), subject);
        assert_eq!(admits(&holds), "no rule", "{condition}");
        assert_eq!(admits(&fails), "alice", "{condition}");
        assert_eq!(admits(&unknown), "no rule", "{condition}");
        let denies = |subject: &Subject| verdict_on(&host(), &denying(condition), subject);
        assert_eq!(denies(&holds), "alice", "{condition}");
        assert_eq!(denies(&fails), "denied", "{condition}");
        assert_eq!(denies(&unknown), "denied", "{condition}");
    }
}

#[test]
fn a_condition_under_when_holds_only_where_the_fact_is_known() {
    for (condition, holds, fails, unknown) in facts() {
        let rule = format!("[[rule]]\nname = \"r\"\nwhen = {{ {condition} }}\nrun_as = \"$user_login\"\n");
        assert_eq!(verdict_on(&host(), &rule, &holds), "alice", "{condition}");
        for subject in [&fails, &unknown] {
            assert_eq!(verdict_on(&host(), &rule, subject), "no rule", "{condition}");
        }
    }
}

#[test]
fn each_exception_is_enough_and_all_conditions_are_needed() {
    let rule = "[[rule]]\nname = \"r\"\nwhen = { project = \"hpc/*\" }\n\
                unless = { user = [\"mallory\", \"eve\"], pipeline_source = \"schedule\" }\nrun_as = \"$user_login\"\n";
    assert_eq!(verdict_on(&host(), rule, &subject()), "alice");
    for change in [
        |s: &mut Subject| s.pipeline_source = Some("schedule".to_owned()),
        |s: &mut Subject| s.user_login = "eve".to_owned(),
        |s: &mut Subject| s.project_path = "ops/app".to_owned(),
    ] {
        let mut other = subject();
        change(&mut other);
        assert_eq!(verdict_on(&host(), rule, &other), "no rule");
    }
}

#[test]
fn an_exception_about_the_account_is_known_or_the_rule_gives_nothing() {
    let missing = Subject { user_login: "nobody-here".to_owned(), ..subject() };
    let odd = Subject { user_login: "../../etc".to_owned(), ..subject() };
    for (condition, holds) in [
        ("local_group = \"hpc\"", true),
        ("local_group = [\"other\", \"hpc\"]", true),
        ("local_group = \"other\"", false),
        ("uid = \"5001\"", true),
        ("uid = \"6000-6999\"", false),
        ("shell = \"/bin/bash\"", true),
        ("account = \"al*\"", true),
        ("account = \"bob\"", false),
    ] {
        let (admits, denies) = (admitting(condition), denying(condition));
        let of = |rules: &str, subject: &Subject| verdict_on(&host(), rules, subject);
        assert_eq!(of(&admits, &subject()), if holds { "no rule" } else { "alice" }, "{condition}");
        assert_eq!(of(&denies, &subject()), if holds { "alice" } else { "denied" }, "{condition}");
        if !condition.starts_with("account") {
            // A user without an account reads that, and nothing about the condition.
            for (unknown, why) in [(&missing, "no account"), (&odd, "no rule")] {
                assert_eq!(of(&admits, unknown), why, "{condition}");
                assert_eq!(of(&denies, unknown), "denied", "{condition}");
            }
        }
        let silent = MadeUp { silent: true, ..host() };
        if !condition.starts_with("account") {
            assert_eq!(verdict_on(&silent, &admits, &subject()), "user-database", "{condition}");
            assert_eq!(verdict_on(&silent, &denies, &subject()), "user-database", "{condition}");
        }
    }
}

#[test]
fn a_group_under_unless_that_the_host_has_lost_denies_whatever_the_rule_says() {
    for condition in ["local_group = \"lost\"", "local_group = [\"hpc\", \"lost\"]"] {
        for rules in [admitting(condition), denying(condition)] {
            assert_eq!(verdict_on(&host(), &rules, &subject()), "group", "{condition}");
        }
    }
}

#[test]
fn an_explanation_names_the_exception_that_kept_the_rule_from_fitting() {
    let text = format!("{HEAD}{}", admitting("fork = true, user = \"eve\""));
    let policy = Policy::parse(Path::new("c.toml"), &text).expect("a policy");
    let forked = Subject { fork: Some(true), ..subject() };
    let decision = decide(&policy, &forked, &host(), RUNNER);
    assert!(
        matches!(decision.steps[0].failed, Some(Mismatch::Exception(c)) if c.key() == "fork"),
        "{:?}",
        decision.steps
    );
    let (predicates, _) = explain_rule(&policy, &policy.rules[0], &forked, &host()).expect("an answer");
    let fork = predicates.iter().find(|p| p.condition.key() == "fork").expect("the fork");
    assert_eq!(
        (fork.exception, fork.seen.as_deref(), fork.holds, fork.fits),
        (true, Some("true"), Some(true), false)
    );
    let user = predicates.iter().find(|p| p.condition.key() == "user").expect("the user");
    assert_eq!((user.exception, user.holds, user.fits), (true, Some(false), true));
}
