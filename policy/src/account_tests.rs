use super::{AccountFacts, Violation, check_account, check_name, is_bot};
use crate::Accounts;
use proptest::prelude::*;

fn alice() -> AccountFacts {
    AccountFacts {
        name: "alice".to_owned(),
        uid: 5001,
        gid: 5001,
        groups: vec![5001, 6000],
        home: "/home/alice".into(),
        shell: "/bin/bash".into(),
        name_of_uid: Some("alice".to_owned()),
    }
}

fn rules() -> Accounts {
    Accounts { max_uid: 60_000, ..Accounts::default() }
}

fn check(facts: &AccountFacts) -> Result<(), Violation> {
    check_account("alice", facts, &rules())
}

#[test]
fn an_ordinary_account_passes() {
    assert_eq!(check(&alice()), Ok(()));
}

#[test]
fn names_that_could_be_read_as_something_else_are_refused() {
    for name in [
        "",
        "0",
        "1000",
        "-x",
        "--",
        ".",
        "..",
        ".a",
        "a/b",
        "a:b",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\0",
        "Alice",
        "álice",
        "a$",
        "DOM\\a",
        "a@b",
        "a.",
        "\u{202e}a",
        "a\u{1b}[m",
    ] {
        assert_eq!(check_name(name), Err(Violation::Name), "{name:?}");
    }
    assert_eq!(check_name(&"a".repeat(33)), Err(Violation::Name));
}

#[test]
fn names_of_the_system_are_refused_whatever_their_uid() {
    for name in ["root", "toor", "nobody", "daemon", "nunbird", "gitlab-runner", "systemd-network"] {
        assert!(matches!(check_name(name), Err(Violation::System(_))), "{name}");
    }
}

#[test]
fn ordinary_names_pass() {
    for name in ["a", "alice", "_svc", "alice.b-c_1", &"a".repeat(32)] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
}

#[test]
fn a_database_that_answers_with_another_spelling_is_not_believed() {
    let facts = AccountFacts { name: "Alice".to_owned(), ..alice() };
    assert!(matches!(check(&facts), Err(Violation::Alias(_))));
}

#[test]
fn two_names_for_one_uid_are_refused() {
    let facts = AccountFacts { name_of_uid: Some("bob".to_owned()), ..alice() };
    assert!(matches!(check(&facts), Err(Violation::Alias(_))));
    assert!(check(&AccountFacts { name_of_uid: None, ..alice() }).is_err());
}

#[test]
fn ids_that_are_no_users_are_refused() {
    for (uid, gid) in [(0, 5001), (5001, 0), (u32::MAX, 5001), (5001, u32::MAX), (65534, 5001)] {
        assert!(matches!(check(&AccountFacts { uid, gid, ..alice() }), Err(Violation::Id(_))), "{uid} {gid}");
    }
    assert_eq!(check(&AccountFacts { uid: 999, ..alice() }), Err(Violation::BelowMinimum(999, 1000)));
    assert_eq!(check(&AccountFacts { groups: vec![5001, 0], ..alice() }), Err(Violation::Group(0)));
}

#[test]
fn accounts_that_cannot_log_in_are_refused() {
    for shell in ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "", "bash", "/"] {
        assert!(
            matches!(check(&AccountFacts { shell: shell.into(), ..alice() }), Err(Violation::Shell(_))),
            "{shell}"
        );
    }
    assert_eq!(check(&AccountFacts { home: "home".into(), ..alice() }), Err(Violation::Home));
}

#[test]
fn a_site_can_deny_accounts_by_name() {
    let rules = Accounts { deny: vec!["alice".to_owned()], ..rules() };
    assert_eq!(check_account("alice", &alice(), &rules), Err(Violation::Denied));
}

#[test]
fn a_site_can_bound_uids_and_list_shells() {
    let bounded = Accounts { max_uid: 5000, ..rules() };
    assert_eq!(check_account("alice", &alice(), &bounded), Err(Violation::AboveMaximum(5001, 5000)));
    let listed = Accounts { shells: vec!["/bin/zsh".into()], ..rules() };
    assert_eq!(check_account("alice", &alice(), &listed), Err(Violation::ShellNotListed("/bin/bash".into())));
    let listed = Accounts { shells: vec!["/bin/zsh".into(), "/bin/bash".into()], ..rules() };
    assert_eq!(check_account("alice", &alice(), &listed), Ok(()));
}

#[test]
fn bots_are_distinguished_from_people() {
    for bot in ["project_7_bot", "project_7_bot_0a1b", "group_12_bot1", "service_account_x", "ghost"] {
        assert!(is_bot(bot), "{bot}");
    }
    for person in ["alice", "project_manager", "project__bot", "projects_7_bot", "group_x_bot", "ghostwriter"]
    {
        assert!(!is_bot(person), "{person}");
    }
}

proptest! {
    #[test]
    fn no_facts_ever_let_root_or_a_low_uid_pass(
        name in "[a-z]{1,8}", uid in any::<u32>(), gid in any::<u32>(), min_uid in 100..70000_u32,
        groups in proptest::collection::vec(any::<u32>(), 0..4),
    ) {
        let facts = AccountFacts { name: name.clone(), uid, gid, groups, name_of_uid: Some(name.clone()), ..alice() };
        if check_account(&name, &facts, &Accounts { min_uid, max_uid: u32::MAX, ..rules() }).is_ok() {
            prop_assert!(uid >= min_uid && uid != u32::MAX && gid != 0 && !facts.groups.contains(&0));
        }
    }

    #[test]
    fn any_text_can_be_judged(name in ".{0,40}") {
        if check_name(&name).is_ok() {
            prop_assert!(name.bytes().all(|b| b.is_ascii_graphic()) && !name.starts_with(|c: char| c.is_ascii_digit() || c == '-'));
        }
    }
}
