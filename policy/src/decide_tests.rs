use super::{Mismatch, Verdict, decide};
use crate::made_up::{MadeUp, account, subject};
use crate::{Policy, Subject, Violation, check_name};
use proptest::prelude::*;
use std::path::Path;

const HEAD: &str = r#"
[[gitlab]]
name = "main"
url = "https://gitlab.example.org"
audience = "https://gitlab.example.org"
"#;
const ALL: &str = "[[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n";
const RUNNER: u32 = 990;

fn policy(rules: &str) -> Policy {
    Policy::parse(Path::new("/etc/nunbird/config.toml"), &format!("{HEAD}{rules}"))
        .unwrap_or_else(|e| panic!("{e:?}"))
}

fn host() -> MadeUp {
    let mut host = MadeUp::default()
        .with(account("alice", 5001))
        .with(account("svc-ci", 6001))
        .with(account("project_7_bot_ab", 6002))
        .with(account("a.l", 5002));
    host.groups.insert("physics".to_owned(), 5001);
    host
}

fn verdict_on(host: &MadeUp, rules: &str, subject: &Subject) -> String {
    match decide(&policy(rules), subject, host, RUNNER).verdict {
        Verdict::Admitted { rule, account } => format!("{} -> {}", rule.name, account.name),
        Verdict::DeniedByRule { rule, message } => format!("{} denies: {message}", rule.name),
        Verdict::DeniedAccount { rule, account, .. } => format!("{} no account {account}", rule.name),
        Verdict::DeniedPin { account, pinned, .. } => format!("{} belongs to {pinned:?}", account.name),
        Verdict::DeniedUser { rule, violation } => format!("{} {}", rule.name, violation.code()),
        Verdict::NoRule => "no rule".to_owned(),
        Verdict::Failed(trouble) => format!("failed: {trouble}"),
    }
}

fn verdict(rules: &str, subject: &Subject) -> String {
    verdict_on(&host(), rules, subject)
}

#[test]
fn the_first_rule_that_fits_decides_and_none_means_no() {
    let rules = r#"
[[rule]]
name = "no-schedules"
when = { pipeline_source = "schedule" }
deny = "schedules may not run here"
[[rule]]
name = "service"
when = { project = "svc/**" }
run_as = "svc-ci"
[[rule]]
name = "hpc"
when = { namespace = ["hpc", "hpc/*"], ref_protected = true }
run_as = "$user_login"
"#;
    assert_eq!(verdict(rules, &subject()), "hpc -> alice");
    let scheduled = Subject { pipeline_source: Some("schedule".to_owned()), ..subject() };
    assert_eq!(verdict(rules, &scheduled), "no-schedules denies: schedules may not run here");
    let service = Subject { project_path: "svc/a/b".to_owned(), ..subject() };
    assert_eq!(verdict(rules, &service), "service -> svc-ci");
    assert_eq!(verdict(rules, &Subject { ref_protected: Some(false), ..subject() }), "no rule");
    assert_eq!(verdict(rules, &Subject { ref_protected: None, ..subject() }), "no rule");
}

#[test]
fn all_conditions_of_a_rule_must_hold_and_an_absent_fact_holds_none() {
    let known = Subject {
        groups: Some(vec!["lab".to_owned(), "hpc/core".to_owned()]),
        user_email: Some("alice@lab.example.org".to_owned()),
        access_level: Some("maintainer".to_owned()),
        ref_type: Some("branch".to_owned()),
        ..subject()
    };
    for (when, holds) in [
        (r#"server = "main""#, true),
        (r#"user = ["bob", "alice"]"#, true),
        ("user_id = 7", true),
        ("user_id = [8, 9]", false),
        ("project_id = 3", true),
        (r#"ref = "release-*""#, false),
        (r#"environment = "**""#, false),
        ("environment_protected = false", false),
        ("runner_id = 1", false),
        (r#"user = "alice", user_id = 8"#, false),
        (r#"group = "hpc/*""#, true),
        (r#"group = "hpc""#, false),
        (r#"user_email = "*@lab.example.org""#, true),
        (r#"access_level = ["maintainer", "owner"]"#, true),
        (r#"ref_type = "tag""#, false),
        (r#"identity_source = "id_token""#, true),
        (r#"identity_source = "job_token""#, false),
        (r#"project = { regex = "hpc/(app|lib)" }"#, true),
        (r#"project = ["x", { regex = "h.*p" }]"#, true),
        (r#"uid = "5000-5999""#, true),
        (r#"uid = ["1000-4999", "6000"]"#, false),
        (r#"shell = "/bin/bash""#, true),
        (r#"account = "al*""#, true),
        (r#"local_group = ["chemistry", "physics"]"#, true),
        (r#"local_group = "chemistry""#, false),
    ] {
        let rules = format!("[[rule]]\nname = \"r\"\nwhen = {{ {when} }}\nrun_as = \"$user_login\"\n");
        assert_eq!(verdict(&rules, &known) == "r -> alice", holds, "{when}");
    }
}

#[test]
fn a_login_that_is_no_portable_name_gets_no_account() {
    for login in ["root", "0", "1000", "-x", "..", "Alice", "a b", ""] {
        let subject = Subject { user_login: login.to_owned(), ..subject() };
        assert_eq!(verdict(ALL, &subject), format!("all no account {login}"));
    }
}

#[test]
fn bots_are_refused_by_the_rule_that_would_admit_them_unless_the_site_allows_them() {
    let bot = Subject { user_login: "project_7_bot_ab".to_owned(), ..subject() };
    assert_eq!(verdict(ALL, &bot), "all bot");
    assert_eq!(verdict(&format!("[accounts]\nallow_bots = true\n{ALL}"), &bot), "all -> project_7_bot_ab");
}

#[test]
fn a_rule_that_denies_looks_at_the_account_the_job_would_get_as_itself() {
    let rules = format!(
        "[[rule]]\nname = \"no physicists\"\nwhen = {{ local_group = \"physics\" }}\ndeny = \"no\"\n{ALL}"
    );
    assert_eq!(verdict(&rules, &subject()), "no physicists denies: no");
    assert_eq!(verdict(&rules, &Subject { user_login: "a.l".to_owned(), ..subject() }), "all -> a.l");
}

#[test]
fn a_map_gives_the_account_and_a_job_that_it_does_not_know_goes_on_to_the_next_rule() {
    let rules = format!(
        "[map.users]\nfile = \"/etc/nunbird/users.map\"\nkey = \"user_id\"\n\
         [[rule]]\nname = \"mapped\"\nrun_as = {{ map = \"users\" }}\n{ALL}"
    );
    let with = |text: &str| MadeUp { map: text.to_owned(), ..host() };
    assert_eq!(verdict_on(&with("7 svc-ci\n"), &rules, &subject()), "mapped -> svc-ci");
    assert_eq!(verdict_on(&with("77 svc-ci\n17 svc-ci\n"), &rules, &subject()), "all -> alice");
    assert_eq!(verdict_on(&with("7 root\n"), &rules, &subject()), "mapped no account root");
    assert_eq!(
        verdict_on(&with("7 svc-ci\n7 alice\n"), &rules, &subject()),
        "failed: /etc/nunbird/users.map: two accounts for one key"
    );
}

#[test]
fn a_decision_reads_a_map_once() {
    let rules = "[map.users]\nfile = \"/etc/nunbird/users.map\"\nkey = \"user_id\"\n\
         [[rule]]\nname = \"mapped\"\nrun_as = { map = \"users\" }\n";
    let host = MadeUp { map: "7 svc-ci\n".to_owned(), ..host() };
    assert_eq!(verdict_on(&host, rules, &subject()), "mapped -> svc-ci");
    assert_eq!(host.maps_read.get(), 1);
}

#[test]
fn an_identity_provider_gives_the_account_and_a_job_without_one_goes_on() {
    let rules = "[[rule]]\nname = \"ldap\"\nrun_as = { identity = \"ldapmain\", attribute = \"uid\" }\n\
                 [[rule]]\nname = \"sso\"\nrun_as = { identity = \"saml\" }\n";
    let identity = |provider: &str, uid: &str| Subject {
        identities: vec![(provider.to_owned(), uid.to_owned())],
        ..subject()
    };
    assert_eq!(verdict(rules, &identity("ldapmain", "uid=a.l,ou=people,dc=x")), "ldap -> a.l");
    assert_eq!(verdict(rules, &identity("saml", "svc-ci")), "sso -> svc-ci");
    assert_eq!(verdict(rules, &identity("ldapmain", "cn=a.l,ou=people")), "no rule");
    assert_eq!(verdict(rules, &identity("ldapmain", "uid=a\\2cl,ou=people")), "no rule");
    assert_eq!(verdict(rules, &subject()), "no rule");
}

#[test]
fn the_invariants_hold_whatever_the_rules_say() {
    let check = |rules: &str, host: &MadeUp| match decide(&policy(rules), &subject(), host, RUNNER).verdict {
        Verdict::DeniedAccount { violation, .. } => violation,
        other => panic!("{other:?}"),
    };
    assert_eq!(check(ALL, &MadeUp::default()), Violation::Missing);
    assert_eq!(
        check(&format!("[accounts]\nmin_uid = 6000\n{ALL}"), &host()),
        Violation::BelowMinimum(5001, 6000)
    );
    let groups = format!("[accounts]\ndeny_groups = [\"physics\"]\n{ALL}");
    assert_eq!(check(&groups, &host()), Violation::DeniedGroup("physics".to_owned()));
    let runner = host().with(account("alice", RUNNER + 1000));
    let all = policy(ALL);
    let verdict = decide(&all, &subject(), &runner, RUNNER + 1000).verdict;
    assert!(matches!(verdict, Verdict::DeniedAccount { violation: Violation::Runner, .. }), "{verdict:?}");
    let alone = format!("downscope = \"none\"\n{HEAD}{ALL}");
    let alone = Policy::parse(Path::new("c"), &alone).unwrap();
    let verdict = decide(&alone, &subject(), &host(), 5001).verdict;
    assert!(matches!(verdict, Verdict::Admitted { .. }), "{verdict:?}");
    let verdict = decide(&alone, &subject(), &host(), 5002).verdict;
    assert!(matches!(verdict, Verdict::DeniedAccount { violation: Violation::NotTheRunner(5002), .. }));
}

#[test]
fn a_group_that_keeps_jobs_out_must_be_there() {
    let lost = "failed: this host has no group `physiks`, by which the policy keeps jobs out";
    let denied = format!("[accounts]\ndeny_groups = [\"physiks\"]\n{ALL}");
    assert_eq!(verdict(&denied, &subject()), lost);
    let rule = |outcome: &str| {
        format!("[[rule]]\nname = \"r\"\nwhen = {{ local_group = [\"physics\", \"physiks\"] }}\n{outcome}\n")
    };
    assert_eq!(verdict(&rule("deny = \"no\""), &subject()), lost);
    assert_eq!(verdict(&rule("run_as = \"$user_login\""), &subject()), "r -> alice");
}

#[test]
fn a_user_database_that_does_not_answer_is_not_a_no() {
    let silent = MadeUp { silent: true, ..host() };
    assert_eq!(verdict_on(&silent, ALL, &subject()), "failed: no answer");
    let rules = format!("[[rule]]\nname = \"r\"\nwhen = {{ uid = \"1-2\" }}\ndeny = \"x\"\n{ALL}");
    assert_eq!(verdict_on(&silent, &rules, &subject()), "failed: no answer");
}

#[test]
fn the_validated_account_is_what_its_rule_gives() {
    let rules = "[validation]\nscript = \"/etc/v\"\nuser = \"nunbird\"\n[[rule]]\nname = \"v\"\nrun_as = \"$validated\"\n";
    let validated = Subject { validated: Some("svc-ci".to_owned()), ..subject() };
    assert_eq!(verdict(rules, &validated), "v -> svc-ci");
    assert_eq!(verdict(rules, &subject()), "no rule");
}

#[test]
fn the_steps_say_which_condition_failed() {
    let policy = policy("[[rule]]\nname = \"r\"\nwhen = { user = \"bob\" }\nrun_as = \"$user_login\"\n");
    let decision = decide(&policy, &subject(), &host(), RUNNER);
    assert_eq!(decision.steps.len(), 1);
    assert!(
        matches!(decision.steps[0].failed, Some(Mismatch::Condition(condition)) if condition.key() == "user")
    );
    assert_eq!(decision.steps[0].rule.place.line, 6);
}

/// A rule with conditions and an outcome that fit often.
fn any_rule() -> impl Strategy<Value = String> {
    let outcome = prop_oneof![
        Just("run_as = \"$user_login\"".to_owned()),
        Just("run_as = \"$validated\"".to_owned()),
        Just("run_as = { map = \"m\" }".to_owned()),
        Just("run_as = { identity = \"p\" }".to_owned()),
        "[a-z_][a-z]{0,3}"
            .prop_filter("a name", |n| check_name(n).is_ok())
            .prop_map(|n| format!("run_as = \"{n}\"")),
        Just("deny = \"no\"".to_owned()),
    ];
    let when = prop_oneof![
        Just(String::new()),
        Just("project = \"**\"".to_owned()),
        Just("user = \"a*\"".to_owned()),
        Just("uid = \"0-4294967294\"".to_owned()),
        Just("local_group = \"g\"".to_owned()),
    ];
    let unless = prop_oneof![
        3 => Just(String::new()),
        1 => Just("fork = true".to_owned()),
        1 => Just("user = \"b*\"".to_owned()),
        1 => Just("local_group = \"g\"".to_owned()),
        1 => Just("ref_type = \"tag\", uid = \"5001\"".to_owned()),
    ];
    (when, unless, outcome).prop_map(|(when, unless, outcome)| {
        format!("when = {{ {when} }}\nunless = {{ {unless} }}\n{outcome}\n")
    })
}

proptest! {
    #[test]
    fn no_claims_and_no_policy_ever_give_an_account_that_the_invariants_forbid(
        rules in proptest::collection::vec(any_rule(), 1..5),
        names in proptest::collection::vec("(root|nobody|gitlab-runner|[a-c]{1,2}|.{0,6})", 4),
        uid in prop_oneof![Just(0u32), Just(u32::MAX), Just(65534), Just(999), Just(RUNNER), 0..70_000u32],
        gid in prop_oneof![Just(0u32), 1..70_000u32],
        extra in prop_oneof![Just(0u32), 1..70_000u32],
        shell in prop_oneof![Just("/bin/bash"), Just("/sbin/nologin"), Just("sh")],
        home in prop_oneof![Just("/home/x"), Just("relative")],
        first in prop_oneof![Just(true), Just(false)],
    ) {
        let mut text = "[accounts]\nmin_uid = 1000\ndeny = [\"b\"]\ndeny_groups = [\"g\"]\n\
                        [map.m]\nfile = \"/m\"\n[validation]\nscript = \"/v\"\nuser = \"u\"\n".to_owned();
        for (index, rule) in rules.iter().enumerate() {
            text.push_str(&format!("[[rule]]\nname = \"{index}\"\n{rule}"));
        }
        let mut host = MadeUp { map: format!("{} {}\n", names[0], names[1]), ..MadeUp::default() };
        host.groups.insert("g".to_owned(), 4242);
        for name in &names {
            let mut facts = account(name, uid);
            facts.gid = gid;
            facts.groups = vec![gid, extra];
            facts.shell = shell.into();
            facts.home = home.into();
            if !first {
                facts.name_of_uid = Some("other".to_owned());
            }
            host = host.with(facts);
        }
        let subject = Subject {
            user_login: names[0].clone(),
            validated: Some(names[2].clone()),
            identities: vec![("p".to_owned(), names[3].clone())],
            ..subject()
        };
        let policy = policy(&text);
        if let Verdict::Admitted { account, .. } = decide(&policy, &subject, &host, RUNNER).verdict {
            prop_assert!(check_name(&account.name).is_ok() && account.name != "b");
            prop_assert!(account.uid >= 1000 && account.uid != u32::MAX && account.uid != 65534);
            prop_assert!(account.uid != RUNNER && account.gid != 0);
            prop_assert!(!account.groups.contains(&0) && !account.groups.contains(&4242));
            prop_assert!(account.shell == Path::new("/bin/bash") && account.home == Path::new("/home/x"));
            prop_assert!(first, "a uid with another name first");
        }
    }

    #[test]
    fn an_explanation_never_says_otherwise_than_the_decision(
        rules in proptest::collection::vec(any_rule(), 1..6),
        login in "[ab]{1,2}", validated in proptest::option::of("[a-c]"), map in "[ab] [a-c]\n",
        identity in proptest::option::of("[ab]"), member in any::<bool>(), fork in any::<Option<bool>>(),
    ) {
        let mut text = "[map.m]\nfile = \"/m\"\n[validation]\nscript = \"/v\"\nuser = \"u\"\n".to_owned();
        for (index, rule) in rules.iter().enumerate() {
            text.push_str(&format!("[[rule]]\nname = \"{index}\"\n{rule}"));
        }
        let mut host = MadeUp { map, ..MadeUp::default() };
        host.groups.insert("g".to_owned(), 4242);
        for (uid, name) in (5000..).zip(["a", "b", "c"]) {
            let mut facts = account(name, uid);
            if member {
                facts.groups.push(4242);
            }
            host = host.with(facts);
        }
        let subject = Subject {
            user_login: login,
            validated,
            identities: identity.map(|uid| ("p".to_owned(), uid)).into_iter().collect(),
            fork,
            ..subject()
        };
        let policy = policy(&text);
        let decision = decide(&policy, &subject, &host, RUNNER);
        for step in &decision.steps {
            let (predicates, account) = crate::explain_rule(&policy, step.rule, &subject, &host).unwrap();
            let failed = predicates.iter().find(|p| !p.fits).map(|p| {
                if p.exception { Mismatch::Exception(p.condition) } else { Mismatch::Condition(p.condition) }
            });
            let denies = matches!(step.rule.outcome, crate::RuleOutcome::Deny(_));
            let nobody = (!denies && account.is_none()).then_some(Mismatch::NoAccount);
            prop_assert_eq!(step.failed, failed.or(nobody));
            match &decision.verdict {
                Verdict::Admitted { rule, account: admitted } if rule.name == step.rule.name => {
                    prop_assert_eq!(account.as_deref(), Some(admitted.name.as_str()));
                }
                Verdict::DeniedAccount { rule, account: refused, .. } if rule.name == step.rule.name => {
                    prop_assert_eq!(account.as_ref(), Some(refused));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn an_account_that_users_can_choose_goes_to_the_gitlab_user_it_belongs_to() {
    let mut host = host();
    host.map = "alice alice\nalice@lab.example.org alice\n7 alice\nhpc/app alice\nhpc alice\n".to_owned();
    let map = |key: &str| {
        format!(
            "[map.m]\nfile = \"/m\"\nkey = \"{key}\"\n[[rule]]\nname = \"all\"\nrun_as = {{ map = \"m\" }}\n"
        )
    };
    let program = "[validation]\nscript = \"/v\"\nuser = \"nunbird\"\n[[rule]]\nname = \"all\"\nrun_as = \"$validated\"\n";
    let alice = Subject {
        user_email: Some("alice@lab.example.org".to_owned()),
        identities: vec![("ldap".to_owned(), "alice".to_owned())],
        validated: Some("alice".to_owned()),
        ..subject()
    };
    let renamed = Subject { user_login: "carol".to_owned(), ..alice.clone() };
    let identity = "[[rule]]\nname = \"all\"\nrun_as = { identity = \"ldap\" }\n";
    let fixed = "[[rule]]\nname = \"all\"\nrun_as = \"alice\"\n";
    let rule_off = format!("{ALL}pinning = \"off\"\n");
    let site_off = format!("[accounts]\npinning = \"off\"\n{ALL}");
    for (rules, who, pinned) in [
        (ALL.to_owned(), &alice, true),
        (map("user_login"), &alice, true),
        (map("user_email"), &alice, true),
        (program.to_owned(), &alice, true),
        (program.to_owned(), &renamed, false),
        (map("user_id"), &alice, false),
        (map("project_path"), &alice, false),
        (map("namespace_path"), &alice, false),
        (identity.to_owned(), &alice, false),
        (fixed.to_owned(), &alice, false),
        (rule_off, &alice, false),
        (site_off, &alice, false),
    ] {
        host.people.clear();
        assert_eq!(verdict_on(&host, &rules, who), "all -> alice", "{rules}");
        let known = format!("[accounts]\npinning = \"known\"\n{rules}");
        if !rules.contains("[accounts]") {
            let expected = if pinned { "alice belongs to None" } else { "all -> alice" };
            assert_eq!(verdict_on(&host, &known, who), expected, "{rules}");
        }
        host.people.insert(("other".to_owned(), "alice".to_owned()), 8);
        assert_eq!(verdict_on(&host, &rules, who), "all -> alice", "{rules}");
        host.people.insert(("main".to_owned(), "alice".to_owned()), 8);
        let expected = if pinned { "alice belongs to Some(8)" } else { "all -> alice" };
        assert_eq!(verdict_on(&host, &rules, who), expected, "{rules}");
        host.people.insert(("main".to_owned(), "alice".to_owned()), who.user_id);
        assert_eq!(verdict_on(&host, &rules, who), "all -> alice", "{rules}");
        assert_eq!(
            verdict_on(
                &host,
                &known.replace("[accounts]\npinning = \"known\"\n[accounts]", "[accounts]"),
                who
            ),
            "all -> alice",
            "{rules}"
        );
    }
}
