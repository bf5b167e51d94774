use super::{Verdict, decide};
use crate::{Policy, Subject};
use std::path::Path;

const HEAD: &str = r#"
[[gitlab]]
name = "main"
url = "https://gitlab.example.org"
audience = "https://gitlab.example.org"
"#;

fn policy(rules: &str) -> Policy {
    Policy::parse(Path::new("/etc/nunbird/config.toml"), &format!("{HEAD}{rules}"))
        .unwrap_or_else(|e| panic!("{e:?}"))
}

fn subject() -> Subject {
    Subject {
        server: "main".to_owned(),
        user_login: "alice".to_owned(),
        user_id: 7,
        project_path: "hpc/app".to_owned(),
        project_id: 3,
        namespace_path: "hpc".to_owned(),
        git_ref: "main".to_owned(),
        ref_protected: true,
        pipeline_source: "push".to_owned(),
        environment: None,
        runner_id: None,
    }
}

fn verdict(rules: &str, subject: &Subject) -> String {
    match decide(&policy(rules), subject).verdict {
        Verdict::RunAs { rule, account } => format!("{} -> {account}", rule.name),
        Verdict::DeniedByRule { rule, message } => format!("{} denies: {message}", rule.name),
        Verdict::DeniedAccount { rule, account, .. } => format!("{} no account {account}", rule.name),
        Verdict::DeniedBot => "bot".to_owned(),
        Verdict::NoRule => "no rule".to_owned(),
    }
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
    let scheduled = Subject { pipeline_source: "schedule".to_owned(), ..subject() };
    assert_eq!(verdict(rules, &scheduled), "no-schedules denies: schedules may not run here");
    let service = Subject { project_path: "svc/a/b".to_owned(), ..subject() };
    assert_eq!(verdict(rules, &service), "service -> svc-ci");
    assert_eq!(verdict(rules, &Subject { ref_protected: false, ..subject() }), "no rule");
}

#[test]
fn all_conditions_of_a_rule_must_hold_and_an_absent_fact_holds_none() {
    for (when, holds) in [
        (r#"server = "main""#, true),
        (r#"server = "other""#, false),
        (r#"user = ["bob", "alice"]"#, true),
        ("user_id = 7", true),
        ("user_id = [8, 9]", false),
        (r#"ref = "release-*""#, false),
        (r#"environment = "**""#, false),
        ("runner_id = 1", false),
        (r#"user = "alice", user_id = 8"#, false),
    ] {
        let rules = format!("[[rule]]\nname = \"r\"\nwhen = {{ {when} }}\nrun_as = \"$user_login\"\n");
        assert_eq!(verdict(&rules, &subject()) == "r -> alice", holds, "{when}");
    }
}

#[test]
fn a_login_that_is_no_portable_name_gets_no_account() {
    let rules = "[[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n";
    for login in ["root", "0", "1000", "-x", "..", "Alice", "a b"] {
        let subject = Subject { user_login: login.to_owned(), ..subject() };
        assert_eq!(verdict(rules, &subject), format!("all no account {login}"));
    }
}

#[test]
fn bots_are_refused_before_any_rule_unless_the_site_allows_them() {
    let rules = "[[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n";
    let bot = Subject { user_login: "project_7_bot_ab".to_owned(), ..subject() };
    assert_eq!(verdict(rules, &bot), "bot");
    assert_eq!(verdict(&format!("[accounts]\nallow_bots = true\n{rules}"), &bot), "all -> project_7_bot_ab");
}

#[test]
fn the_steps_say_which_condition_failed() {
    let policy = policy("[[rule]]\nname = \"r\"\nwhen = { user = \"bob\" }\nrun_as = \"$user_login\"\n");
    let decision = decide(&policy, &subject());
    assert_eq!(decision.steps.len(), 1);
    assert!(matches!(decision.steps[0].failed, Some(crate::Condition::User(_))));
    assert_eq!(decision.steps[0].rule.place.line, 6);
}
