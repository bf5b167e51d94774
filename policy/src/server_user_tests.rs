use super::{ServerUser, UserViolation};
use crate::made_up::{MadeUp, account, subject};
use crate::{HostError, Policy, Subject, Verdict, decide, lint};
use nunbird_handover::Code;
use std::path::Path;

fn parse(text: &str) -> Result<Policy, String> {
    let head = "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"https://gitlab.example.org\"\n";
    let text = text
        .strip_prefix("OFF")
        .map_or_else(|| format!("{head}{text}"), |rest| format!("{head}user_check = \"off\"\n{rest}"));
    Policy::parse(Path::new("c.toml"), &text).map_err(|findings| {
        findings.iter().map(|finding| finding.message.clone()).collect::<Vec<_>>().join("; ")
    })
}

fn rule(keys: &str) -> String {
    format!("[[rule]]\nname = \"r\"\n{keys}\n")
}

fn person() -> ServerUser {
    ServerUser::person(&subject())
}

fn robot() -> ServerUser {
    ServerUser { bot: Some(true), ..person() }
}

/// What comes of alice's job, and how often the server was asked.
fn decided(text: &str, user: ServerUser, job: &Subject) -> (String, usize) {
    let policy = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let accounts = ["alice", "svc", "project_7_bot_ab"];
    let mut host = MadeUp {
        user: Some(Ok(user)),
        map: "alice svc\n7 svc\nhpc/app svc\n".to_owned(),
        ..MadeUp::default()
    };
    for (uid, name) in (5001..).zip(accounts) {
        host = host.with(account(name, uid));
    }
    let verdict = match decide(&policy, job, &host, 990).verdict {
        Verdict::Admitted { account, .. } => account.name,
        Verdict::DeniedUser { violation, .. } => violation.code().name().to_owned(),
        Verdict::NoRule => "no rule".to_owned(),
        other => format!("{other:?}"),
    };
    (verdict, host.asked.get())
}

fn on(text: &str, user: ServerUser) -> String {
    decided(text, user, &subject()).0
}

const SELF: &str = "run_as = \"$user_login\"";

#[test]
fn an_active_person_with_the_tokens_id_and_login_passes_and_nobody_else() {
    let text = rule(SELF);
    assert_eq!(on(&text, person()), "alice");
    for (user, code) in [
        (robot(), "bot"),
        (ServerUser { bot: None, ..person() }, "user-kind"),
        (ServerUser { state: None, ..person() }, "user-kind"),
        (ServerUser { state: Some("blocked".to_owned()), ..person() }, "user-inactive"),
        (ServerUser { state: Some(String::new()), ..person() }, "user-inactive"),
        (ServerUser { id: 8, ..person() }, "user-mismatch"),
        (ServerUser { username: "Alice".to_owned(), ..person() }, "user-mismatch"),
    ] {
        assert_eq!(on(&text, user.clone()), code, "{user:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_trouble_and_no_admission() {
    let policy = parse(&rule(SELF)).unwrap();
    let trouble = HostError { code: Code::UserCheck, detail: "down".to_owned() };
    let host = MadeUp { user: Some(Err(trouble.clone())), ..MadeUp::default() }.with(account("alice", 5001));
    assert_eq!(decide(&policy, &subject(), &host, 990).verdict, Verdict::Failed(trouble));
}

#[test]
fn the_server_is_asked_unless_the_account_follows_from_what_nobody_can_choose() {
    let map = |key: &str, more: &str| {
        format!(
            "[map.m]\nfile = \"/m\"\nkey = \"{key}\"\n{}",
            rule(&format!("{more}\nrun_as = {{ map = \"m\" }}"))
        )
    };
    let identity = rule("run_as = { identity = \"saml\" }");
    let identified = Subject { identities: vec![("saml".to_owned(), "alice".to_owned())], ..subject() };
    let email = Subject { user_email: Some("a@example.org".to_owned()), ..subject() };
    for (text, job, asked) in [
        (rule(SELF), subject(), 1),
        (rule("run_as = \"svc\""), subject(), 1),
        (map("user_login", ""), subject(), 1),
        (map("project_path", ""), subject(), 1),
        (map("user_id", ""), subject(), 0),
        (map("user_id", "when.user = \"alice\""), subject(), 1),
        (map("user_id", "when.user_email = \"*@example.org\""), email, 1),
        (map("user_id", "when.group = \"x\""), subject(), 0),
        (map("user_id", "user_check = \"required\""), subject(), 1),
        (identity.clone(), identified.clone(), 0),
        (format!("OFF{}", rule(SELF)), subject(), 0),
        (format!("OFF{}", rule(&format!("user_check = \"required\"\n{SELF}"))), subject(), 1),
        (rule(&format!("user_check = \"off\"\n{SELF}")), subject(), 0),
        (rule("deny = \"no\""), subject(), 0),
        (rule(SELF), Subject { user_login: "nobody-here".to_owned(), ..subject() }, 0),
        (rule(SELF), Subject { user_login: "project_7_bot_ab".to_owned(), ..subject() }, 0),
    ] {
        assert_eq!(decided(&text, person(), &job).1, asked, "{text}");
    }
    assert_eq!(decided(&identity, robot(), &identified).0, "alice");
}

#[test]
fn a_rule_for_robots_lifts_both_tests_for_bots_and_no_other() {
    let text = rule(&format!("bots = true\nwhen.project_id = 3\n{SELF}"));
    assert_eq!(on(&text, robot()), "alice");
    assert_eq!(on(&text, person()), "alice");
    assert_eq!(on(&text, ServerUser { bot: None, ..person() }), "alice");
    assert_eq!(on(&text, ServerUser { state: Some("blocked".to_owned()), ..robot() }), "user-inactive");
    assert_eq!(on(&text, ServerUser { id: 8, ..robot() }), "user-mismatch");
    let by_letters = Subject { user_login: "project_7_bot_ab".to_owned(), ..subject() };
    let user = ServerUser { username: by_letters.user_login.clone(), ..robot() };
    assert_eq!(decided(&text, user.clone(), &by_letters).0, "project_7_bot_ab");
    assert_eq!(decided(&text, user.clone(), &Subject { project_id: 4, ..by_letters.clone() }).0, "no rule");
    assert_eq!(decided(&rule(SELF), user.clone(), &by_letters).0, "bot");
    let everywhere = format!("[accounts]\nallow_bots = true\n{}", rule(SELF));
    assert_eq!(decided(&everywhere, user, &by_letters).0, "project_7_bot_ab");
    let denied = format!("[[rule]]\nname = \"d\"\ndeny = \"no\"\n{text}");
    assert!(on(&denied, robot()).contains("DeniedByRule"));
}

#[test]
fn a_rule_that_admits_robots_says_which() {
    for when in ["user_id = 7", "project = \"hpc/app\"", "project_id = 3", "namespace = \"hpc\""] {
        parse(&rule(&format!("bots = true\nwhen = {{ {when} }}\n{SELF}"))).unwrap();
    }
    for when in ["", "user = \"robot\"", "ref_protected = true", "group = \"hpc\""] {
        let error = parse(&rule(&format!("bots = true\nwhen = {{ {when} }}\n{SELF}"))).unwrap_err();
        assert!(error.contains("admits any bot"), "{when}: {error}");
        parse(&rule(&format!("bots = false\nwhen = {{ {when} }}\n{SELF}"))).unwrap();
    }
    for key in ["bots = true\nwhen.project_id = 3", "user_check = \"off\""] {
        let error = parse(&rule(&format!("{key}\ndeny = \"no\""))).unwrap_err();
        assert_eq!(error, "a rule that denies admits no user", "{key}");
    }
    assert!(parse(&rule(&format!("user_check = \"on\"\n{SELF}"))).is_err());
    assert!(parse(&rule(&format!("user_check = false\n{SELF}"))).is_err());
}

#[test]
fn a_name_that_users_choose_and_nobody_checks_is_remarked_on() {
    let remarks = |text: &str| -> Vec<String> {
        let remarks = lint(&parse(text).unwrap_or_else(|e| panic!("{e}\n{text}")));
        remarks
            .into_iter()
            .filter(|remark| remark.code == "chosen-name")
            .map(|remark| format!("{} {}", remark.message, remark.help))
            .collect()
    };
    let own = rule(&format!("when.project = \"a/b\"\n{SELF}"));
    assert_eq!(remarks(&own), Vec::<String>::new());
    let map =
        |key: &str| format!("[map.m]\nfile = \"/m\"\nkey = \"{key}\"\n{}", rule("run_as = { map = \"m\" }"));
    for open in [own, map("user_login"), map("user_email"), rule("when.user = \"ada\"\nrun_as = \"svc\"")] {
        let all = remarks(&format!("OFF{open}"));
        assert_eq!(all.len(), 1, "{open}");
        for word in ["server `main`", "service account", "renames", "deleted name"] {
            assert!(all[0].contains(word), "{all:?}");
        }
        let by_rule = open.replace("run_as", "user_check = \"off\"\nrun_as");
        assert!(remarks(&by_rule)[0].contains("in the rule"));
        assert!(
            remarks(&format!("OFF{}", open.replace("run_as", "user_check = \"required\"\nrun_as")))
                .is_empty()
        );
    }
    for fixed in [
        map("user_id"),
        map("project_path"),
        rule("run_as = { identity = \"saml\" }"),
        rule("run_as = \"svc\""),
        rule("deny = \"no\""),
    ] {
        assert!(remarks(&format!("OFF{fixed}")).is_empty(), "{fixed}");
    }
}

#[test]
fn a_remark_is_about_servers_that_the_rule_serves() {
    let other = "[[gitlab]]\nname = \"old\"\nurl = \"https://old.example.org\"\naudience = \"x\"\nuser_check = \"off\"\n";
    for (when, open) in [("", true), ("when.server = \"main\"", false), ("when.server = [\"o*\"]", true)] {
        let policy = parse(&format!("{other}{}", rule(&format!("{when}\n{SELF}")))).unwrap();
        let found = lint(&policy).into_iter().find(|remark| remark.code == "chosen-name");
        assert_eq!(found.is_some(), open, "{when}");
        assert!(found.is_none_or(|remark| remark.message.contains("server `old`")));
    }
}

#[test]
fn what_a_server_says_is_shown_escaped() {
    let shown = UserViolation::OtherLogin("a\u{202e}b".to_owned()).to_string();
    assert!(!shown.contains('\u{202e}'), "{shown}");
    let shown = UserViolation::Inactive("x\u{1b}[31m".to_owned()).to_string();
    assert!(!shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn with_several_servers_an_account_by_id_needs_the_word_of_the_jobs_own() {
    let second = "[[gitlab]]\nname = \"second\"\nurl = \"https://second.example.org\"\naudience = \"x\"\n";
    let by_id = format!("[map.m]\nfile = \"/m\"\nkey = \"user_id\"\n{}", rule("run_as = { map = \"m\" }"));
    let job = Subject { user_id: 7, ..subject() };
    let user = |id: u64, bot: bool| ServerUser { id, bot: Some(bot), ..ServerUser::person(&job) };
    let both = format!("{second}{by_id}");
    assert_eq!(decided(&by_id, user(8, true), &job), ("svc".to_owned(), 0));
    assert_eq!(decided(&both, user(8, false), &job), ("user-mismatch".to_owned(), 1));
    // A robot whose id the site has written into its map is meant.
    assert_eq!(decided(&both, user(7, true), &job), ("svc".to_owned(), 1));
    let off = both.replace("run_as", "user_check = \"off\"\nrun_as");
    assert_eq!(decided(&off, user(8, false), &job), ("svc".to_owned(), 0));
}
