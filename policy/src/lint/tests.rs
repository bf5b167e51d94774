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
fn conditions_that_cannot_hold_or_cannot_fail_are_reported() {
    for (when, code) in [
        ("uid = \"1000-4999\"", "never-fits"),
        ("runner_id = 13", "never-fits"),
        ("identity_source = \"job_token\"", "never-fits"),
        ("pipeline_source = \"pushh\"", "unknown-value"),
        ("ref_type = \"branches\"", "never-fits"),
        ("user = \"*\"", "matches-everything"),
        ("project = \"**\"", "matches-everything"),
        ("ref = { regex = \".*\" }", "matches-everything"),
    ] {
        assert_eq!(codes(&rule("r", when, SELF)), [code], "{when}");
    }
    assert_eq!(codes(&rule("r", "project = \"*/*\"", SELF)), Vec::<&str>::new());
}

#[test]
fn a_denial_by_a_fact_that_a_job_token_does_not_contain_is_reported() {
    let denial = rule("r", "ref_protected = false", "deny = \"no\"");
    assert_eq!(codes(&denial), Vec::<&str>::new());
    let sources = "[identity]\nsources = [\"id_token\", \"job_token\"]\n";
    assert_eq!(codes(&format!("{sources}{denial}")), ["unknown-fact"]);
    assert_eq!(codes(&format!("{sources}{}", rule("r", "ref_protected = true", SELF))), Vec::<&str>::new());
}

#[test]
fn a_denial_by_group_that_many_groups_get_round_is_reported() {
    assert_eq!(codes(&rule("r", "group = \"bad/**\"", "deny = \"no\"")), ["unknown-fact"]);
    assert_eq!(codes(&rule("r", "group = \"good/**\"", SELF)), Vec::<&str>::new());
}

#[test]
fn a_denial_by_the_account_that_a_later_rule_does_not_give_is_reported() {
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

fn findings(text: &str) -> Vec<super::Lint> {
    let policy = Policy::parse(Path::new("c.toml"), text).unwrap_or_else(|e| panic!("{e:?}"));
    lint(&policy)
}

/// Values that GitLab never sends, each with the words that say why.
const NEVER: [(&str, &str, &str); 22] = [
    ("access_level", "Developer", "lower case, `developer`"),
    ("access_level", "none", "sends no role"),
    ("project", "/hpc/app", "write `hpc/app`"),
    ("project", "hpc/app/", "write `hpc/app`"),
    ("project", "/hpc/**", "write `hpc/**`"),
    ("project", "https://gitlab.example.org/hpc/app", "a URL"),
    ("project", "app", "`app/…` or `…/app`"),
    ("project", "*", "`**` does"),
    ("project", "app-?", "`**` does"),
    ("namespace", "hpc/", "write `hpc`"),
    ("namespace", "/hpc", "write `hpc`"),
    ("namespace", "https://x.org/hpc", "a URL"),
    ("group", "/hpc/sub", "write `hpc/sub`"),
    ("group", "hpc/", "write `hpc`"),
    ("user_email", "@example.org", "`*@example.org`"),
    ("user_email", "example.org", "`*@example.org`"),
    ("user_email", "ada@", "no domain"),
    ("user_email", "Ada <ada@example.org>", "spaces"),
    ("user", "Ada Lovelace", "full names"),
    ("user", "ada@example.org", "`user_email`"),
    ("user", "-ada", "begins with `-`"),
    ("ref_type", "branches", "a `branch` or a `tag`"),
];

#[test]
fn a_value_that_gitlab_never_sends_is_an_error_where_it_lets_jobs_in_and_a_remark_where_it_keeps_them_out() {
    for (key, value, why) in NEVER {
        for (place, outcome, error) in [
            ("when", SELF, false),
            ("when", "deny = \"no\"", true),
            ("unless", SELF, true),
            ("unless", "deny = \"no\"", false),
        ] {
            let text = format!(
                "{HEAD}[[rule]]\nname = \"r\"\nwhen.project_id = 3\n{place}.{key} = \"{value}\"\n{outcome}\n"
            );
            let all = findings(&text);
            let found: Vec<_> = all.iter().filter(|lint| lint.code == "never-fits").collect();
            assert_eq!(found.len(), 1, "{key} = {value}: {all:?}");
            assert!(
                found[0].error == error && found[0].message.contains(why),
                "{place} {outcome}: {:?}",
                found[0]
            );
        }
    }
}

#[test]
fn values_that_gitlab_sends_pass_without_a_word() {
    for (key, values) in [
        ("access_level", vec!["guest", "developer", "*er", "maintainer"]),
        ("project", vec!["hpc/app", "hpc/**", "*/*", "**/app", "a/b/c-?"]),
        ("namespace", vec!["hpc", "hpc/*", "hpc/**"]),
        ("group", vec!["hpc", "hpc/**"]),
        ("user_email", vec!["ada@example.org", "*@example.org", "*.example.org"]),
        ("user", vec!["ada.l", "ada-*", "_x", "A7"]),
        ("ref_type", vec!["tag", "branch"]),
        ("ref", vec!["main", "release/*", "refs/merge-requests/**"]),
        ("pipeline_source", vec!["push", "duo_workflow", "pipeline_execution_policy_schedule"]),
    ] {
        for value in values {
            let found = codes(&rule("r", &format!("{key} = \"{value}\""), SELF));
            assert_eq!(found, Vec::<&str>::new(), "{key} = {value}");
        }
    }
    // What a regular expression matches is not guessed.
    assert_eq!(codes(&rule("r", "project = { regex = \"/?hpc/app\" }", SELF)), Vec::<&str>::new());
}

#[test]
fn a_value_that_is_not_known_here_is_a_remark_wherever_it_stands() {
    for (key, value) in
        [("pipeline_source", "pushh"), ("access_level", "devloper"), ("ref", "refs/heads/main")]
    {
        for outcome in [SELF, "deny = \"no\""] {
            let all = findings(&format!("{HEAD}{}", rule("r", &format!("{key} = \"{value}\""), outcome)));
            assert!(all.len() == 1 && all[0].code == "unknown-value" && !all[0].error, "{key}: {all:?}");
        }
    }
}

#[test]
fn a_rule_about_forks_that_names_pull_requests_of_github_is_reported() {
    let named = |name: &str, when: &str, deny: &str| codes(&rule(name, when, &format!("deny = \"{deny}\"")));
    let event = "pipeline_source = \"external_pull_request_event\"";
    assert_eq!(named("no-merge-requests-from-forks", event, "no"), ["not-forks"]);
    assert_eq!(named("outside", event, "Forks may not run here"), ["not-forks"]);
    assert_eq!(named("no_merge_requests", event, "no"), ["not-forks"]);
    let both = "pipeline_source = [\"external_pull_request_event\", \"merge_request_event\"]";
    assert_eq!(named("no merge requests", both, "no"), Vec::<&str>::new());
    assert_eq!(named("no pull requests of GitHub", event, "no"), Vec::<&str>::new());
}

#[test]
fn a_rule_with_an_exception_shadows_only_what_has_the_exception_too() {
    let of =
        |name: &str, more: &str, outcome: &str| format!("[[rule]]\nname = \"{name}\"\n{more}\n{outcome}\n");
    let wide = of("wide", "when.project = \"hpc/**\"\nunless.fork = true", SELF);
    let same = of("same", "when.project = \"hpc/app\"\nunless.fork = true", SELF);
    let open = of("open", "when.project = \"hpc/app\"", SELF);
    assert_eq!(codes(&format!("{wide}{same}")), ["shadowed"]);
    assert_eq!(codes(&format!("{wide}{open}")), Vec::<&str>::new());
    assert_eq!(codes(&format!("{open}{}", same.replace("same", "s2"))), ["shadowed"]);
    // A denial also fits a job whose fork nobody knows, and the rule before it does not.
    let denial = of("denial", "when.project = \"hpc/app\"\nunless.fork = true", "deny = \"no\"");
    assert_eq!(codes(&format!("{wide}{denial}")), Vec::<&str>::new());
    assert_eq!(codes(&of("r", "when.project_id = 3\nunless.user = \"*\"", SELF)), ["never-fits"]);
}

#[test]
fn a_denial_by_fork_or_identity_that_a_job_token_does_not_contain_is_reported() {
    let sources = "[identity]\nsources = [\"id_token\", \"job_token\"]\n";
    for when in ["fork = true", "identity = \"github\""] {
        assert_eq!(
            codes(&format!("{sources}{}", rule("r", when, "deny = \"no\""))),
            ["unknown-fact"],
            "{when}"
        );
    }
    let strict = "[[rule]]\nname = \"r\"\nunless.fork = false\ndeny = \"no\"\n";
    assert_eq!(codes(&format!("{sources}{strict}")), Vec::<&str>::new());
    let only = "[identity]\nsources = [\"job_token\"]\n";
    assert_eq!(codes(&format!("{only}{}", rule("r", "identity = \"ldapmain\"", SELF))), ["never-fits"]);
}

#[test]
fn a_rule_whose_jobs_an_invariant_denies_is_an_error_and_never_said_to_admit_everybody() {
    let head = HEAD.replace("[accounts]\n", "[accounts]\nSETTING\n");
    for (setting, run_as) in [
        ("deny = [\"svc\"]", "run_as = \"svc\""),
        ("shells = [\"/sbin/nologin\", \"/bin/false\"]", SELF),
        ("[identity]\nsources = [\"job_token\"]\n[directories]", "run_as = { identity = \"ldapmain\" }"),
        (
            "[identity]\nsources = [\"job_token\"]\n[map.m]\nfile = \"/m\"\nkey = \"user_email\"\n[directories]",
            "run_as = { map = \"m\" }",
        ),
    ] {
        let head = head.replace("SETTING\nmin_uid = 5000", setting);
        let all = findings(&format!("{head}[[rule]]\nname = \"r\"\n{run_as}\n"));
        assert!(all.len() == 1 && all[0].code == "no-job" && all[0].error, "{setting}: {all:?}");
    }
    let none = format!("downscope = \"none\"\n{HEAD}");
    let all = findings(&format!("{none}[[rule]]\nname = \"r\"\n{SELF}\n"));
    assert!(all.len() == 1 && all[0].code == "own-account" && !all[0].error, "{all:?}");
    assert_eq!(findings(&format!("{none}[[rule]]\nname = \"r\"\nrun_as = \"svc\"\n"))[0].code, "everybody");
    let denied = format!("{}[[rule]]\nname = \"all\"\n{SELF}\n", rule("nobody", "", "deny = \"no\""));
    assert_eq!(codes(&denied), ["contradiction"], "a rule that never decides admits nobody");
}

#[test]
fn a_file_of_jacamar_without_privilege_is_said_to_deny_everybody_with_the_rule_to_write() {
    let file = |downscope: &str| {
        format!(
            "[general]\nexecutor = \"shell\"\ndata_dir = \"$HOME\"\ngitlab_server = \"https://gitlab.example.org\"\n\
             [auth]\ndownscope = \"{downscope}\"\n"
        )
    };
    let all = findings(&file("none"));
    assert!(all.len() == 1 && all[0].code == "no-job" && all[0].error, "{all:?}");
    assert!(all[0].message.contains("denies every job but those of the GitLab user"), "{}", all[0].message);
    assert!(all[0].help.contains("nunbirdctl migrate") && all[0].help.contains("run_as = \"ACCOUNT\""));
    assert_eq!(findings(&file("setuid"))[0].code, "everybody");
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
