use super::lint;
use crate::Policy;
use std::path::Path;

const HEAD: &str = r#"
[[gitlab]]
name = "main"
url = "https://gitlab.example.org"
audience = "https://gitlab.example.org"
runner_ids = [12]
[accounts]
min_uid = 5000
"#;

fn codes(rules: &str) -> Vec<&'static str> {
    let policy =
        Policy::parse(Path::new("c.toml"), &format!("{HEAD}{rules}")).unwrap_or_else(|e| panic!("{e:?}"));
    lint(&policy).iter().map(|remark| remark.code).collect()
}

fn rule(name: &str, when: &str, outcome: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nwhen = {{ {when} }}\n{outcome}\n")
}

const SELF: &str = "run_as = \"$user_login\"";

#[test]
fn a_rule_behind_a_wider_one_never_decides() {
    let wide = rule("wide", "project = \"hpc/**\"", SELF);
    let narrow = rule("narrow", "project = [\"hpc/app\", \"hpc/*/x\"], user = \"ada\"", "run_as = \"svc\"");
    assert_eq!(codes(&format!("{wide}{narrow}")), ["shadowed"]);
    assert_eq!(codes(&format!("{narrow}{wide}")), Vec::<&str>::new());
    let other = rule("other", "project = \"hpc/app\"", "deny = \"no\"");
    assert_eq!(codes(&format!("{wide}{other}")), ["contradiction"]);
}

#[test]
fn a_rule_for_everybody_shadows_all_that_follow() {
    let all = rule("all", "", SELF);
    assert_eq!(codes(&format!("{all}{}", rule("r", "user = \"ada\"", SELF))), ["everybody", "shadowed"]);
}

#[test]
fn a_rule_with_a_map_shadows_only_rules_with_the_same_map() {
    let head = "[map.m]\nfile = \"/m\"\n";
    let mapped = rule("mapped", "project = \"**\"", "run_as = { map = \"m\" }");
    let own = rule("own", "project = \"a/b\"", SELF);
    assert_eq!(codes(&format!("{head}{mapped}{own}")), ["matches-everything"]);
}

#[test]
fn conditions_that_cannot_hold_or_cannot_fail_are_told() {
    for (when, code) in [
        ("uid = \"1000-4999\"", "never-fits"),
        ("runner_id = 13", "never-fits"),
        ("identity_source = \"job_token\"", "never-fits"),
        ("pipeline_source = \"pushh\"", "never-fits"),
        ("ref_type = \"branches\"", "never-fits"),
        ("user = \"*\"", "matches-everything"),
        ("project = \"**\"", "matches-everything"),
        ("ref = { regex = \".*\" }", "matches-everything"),
    ] {
        assert_eq!(codes(&rule("r", when, SELF)), [code], "{when}");
    }
    assert_eq!(codes(&rule("r", "project = \"*\"", SELF)), Vec::<&str>::new());
}

#[test]
fn a_denial_by_a_fact_that_a_job_token_does_not_tell_is_told() {
    let denial = rule("r", "ref_protected = false", "deny = \"no\"");
    assert_eq!(codes(&denial), Vec::<&str>::new());
    let sources = "[identity]\nsources = [\"id_token\", \"job_token\"]\n";
    assert_eq!(codes(&format!("{sources}{denial}")), ["not-told"]);
    assert_eq!(codes(&format!("{sources}{}", rule("r", "ref_protected = true", SELF))), Vec::<&str>::new());
}

#[test]
fn a_denial_by_group_that_many_groups_get_round_is_told() {
    assert_eq!(codes(&rule("r", "group = \"bad/**\"", "deny = \"no\"")), ["not-told"]);
    assert_eq!(codes(&rule("r", "group = \"good/**\"", SELF)), Vec::<&str>::new());
}

#[test]
fn a_denial_by_the_account_that_a_later_rule_does_not_give_is_told() {
    let map = "[map.m]\nfile = \"/m\"\n";
    for when in ["local_group = \"bad\"", "account = \"eve\"", "uid = \"6000-6999\"", "shell = \"/bin/sh\""] {
        let denial = rule("denial", when, "deny = \"no\"");
        let own = rule("own", "project = \"hpc/*\"", SELF);
        assert_eq!(codes(&format!("{denial}{own}")), Vec::<&str>::new(), "{when}");
        for other in ["run_as = \"svc\"", "run_as = { map = \"m\" }", "run_as = { identity = \"ldap\" }"] {
            let other = rule("other", "project = \"ops/*\"", other);
            assert_eq!(codes(&format!("{map}{denial}{own}{other}")), ["other-account"], "{when} {other}");
            assert_eq!(codes(&format!("{map}{other}{denial}{own}")), Vec::<&str>::new(), "{when} {other}");
        }
    }
}

#[test]
fn a_rule_that_gives_accounts_by_a_name_of_the_users_choice_without_pinning_is_remarked() {
    let off = |outcome: &str| rule("r", "project = \"hpc/app\"", &format!("{outcome}\npinning = \"off\""));
    assert_eq!(codes(&off(SELF)), ["unpinned"]);
    assert_eq!(codes(&off("run_as = \"svc\"")), Vec::<&str>::new());
    assert_eq!(
        codes(&format!("pinning = \"off\"\n{}", rule("r", "project = \"hpc/app\"", SELF))),
        ["unpinned"]
    );
    assert_eq!(
        codes(&format!("pinning = \"known\"\n{}", rule("r", "project = \"hpc/app\"", SELF))),
        Vec::<&str>::new()
    );
}
