//! The user database and the site's files, as a decision asks for them.

use crate::book::{Book, book, entry};
use crate::policy;
use nunbird_accounts::shadow::Expiry;
use nunbird_accounts::users::UserEntry;
use nunbird_host::System;
use nunbird_judge::account::{ThisHost, again, check_expiry, permitted, refuse, unanswered};
use nunbird_judge::refusal::{Class, Code, Refusal};
use nunbird_policy::{Host, HostError, IdentitySource, Location, MapFile, MapKey, Subject, Violation};
use std::path::{Path, PathBuf};

fn silent() -> Book {
    Book { silent: true, ..book() }
}

#[test]
fn an_account_is_looked_up_once_and_all_of_a_decision_sees_the_same() {
    let host = ThisHost::new(book());
    let facts = host.account("alice").expect("an answer").expect("an account");
    assert_eq!((facts.name.as_str(), facts.uid, facts.gid), ("alice", 4101, 4101));
    assert_eq!(
        (facts.groups.as_slice(), facts.home.as_path()),
        ([4101, 4200].as_slice(), Path::new("/home/alice"))
    );
    assert_eq!(
        (facts.shell.as_path(), facts.name_of_uid.as_deref()),
        (Path::new("/bin/bash"), Some("alice"))
    );
    assert_eq!(host.account("alice"), Ok(Some(facts)));
    assert_eq!(host.account("gone"), Ok(None));
    assert_eq!(ThisHost::new(silent()).account("alice").map_err(|e| e.code), Err(Code::UserDatabase));
}

#[test]
fn nothing_is_asked_twice() {
    let looked_up = |ask: &dyn Fn(&ThisHost<Book>)| {
        let book = book();
        let asked = std::rc::Rc::clone(&book.asked);
        let host = ThisHost::new(book);
        ask(&host);
        let once = asked.get();
        ask(&host);
        (once, asked.get())
    };
    assert_eq!(looked_up(&|host| drop(host.account("alice"))), (1, 1));
    assert_eq!(looked_up(&|host| drop(host.group("lattice"))), (1, 1));
    assert_eq!(looked_up(&|host| drop(host.pinned(None, "main", "alice"))), (1, 1));
}

#[test]
fn a_membership_counts_by_the_accounts_groups_and_by_the_groups_list() {
    let host = ThisHost::new(book());
    let (alice, bob) = (host.account("alice"), host.account("bob"));
    let (alice, bob) = (alice.expect("an answer").expect("her"), bob.expect("an answer").expect("him"));
    assert_eq!(host.group("lattice"), Ok(Some(4200)));
    assert_eq!(host.group("gone"), Ok(None));
    assert_eq!(host.is_member(&alice, "lattice"), Ok(Some(true)));
    assert_eq!(host.is_member(&bob, "lattice"), Ok(Some(false)));
    assert_eq!(host.is_member(&bob, "listed"), Ok(Some(true)));
    assert_eq!(host.is_member(&alice, "gone"), Ok(None));
    let away = ThisHost::new(silent());
    assert_eq!(away.is_member(&alice, "lattice").map_err(|e| e.code), Err(Code::UserDatabase));
    assert!(away.group("lattice").is_err());
}

/// A file that is gone with the value.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("nbt_judge_{}_{name}", std::process::id()));
        std::fs::write(&path, content).expect("a file");
        Written(path)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("removed");
    }
}

#[test]
fn a_map_is_the_text_of_its_file_and_nothing_else_is_one() {
    let host = ThisHost::new(book());
    let map = |file: &Path| {
        let map = MapFile {
            place: Location { file: "config.toml".into(), line: 1, column: 1 },
            file: file.to_path_buf(),
            key: MapKey::UserLogin,
        };
        host.map(&map).map(std::borrow::Cow::into_owned)
    };
    let written = Written::new("map", "ada alice\n");
    assert_eq!(map(&written.0).as_deref(), Ok("ada alice\n"));
    let binary = Written::new("binary", [0xff]);
    let trouble = map(&binary.0).expect_err("no text");
    assert!(
        trouble.code == Code::Map && trouble.detail.starts_with(&binary.0.display().to_string()),
        "{trouble}"
    );
    assert_eq!(map(Path::new("/nowhere")).map_err(|e| e.code), Err(Code::Map));
}

#[test]
fn the_user_of_an_account_comes_from_the_sites_file_and_else_from_the_hosts_memory() {
    let book = book();
    let remember =
        |name: &str, line: &str| book.people.borrow_mut().insert(name.to_owned(), line.as_bytes().to_vec());
    remember("main:alice", "alice main 7\n");
    remember("main:bob", "bob main 8\n");
    let with = |known: &Book| Book { people: std::rc::Rc::clone(&known.people), ..Book::default() };
    let site = Written::new("people", "alice main 70\n");
    let pinned =
        |file: Option<&Path>, account: &str| ThisHost::new(with(&book)).pinned(file, "main", account);
    assert_eq!(pinned(None, "alice"), Ok(Some(7)));
    assert_eq!(pinned(Some(&site.0), "alice"), Ok(Some(70)));
    assert_eq!(pinned(Some(&site.0), "bob"), Ok(Some(8)));
    assert_eq!(pinned(Some(&site.0), "carol"), Ok(None));
    let code = |answer: Result<Option<u64>, HostError>| answer.map_err(|e| e.code);
    assert_eq!(code(pinned(Some(Path::new("/nowhere")), "alice")), Err(Code::PinStore));
    let broken = Written::new("broken", "alice main 70\nalice main\n");
    let trouble = pinned(Some(&broken.0), "alice").expect_err("broken");
    assert!(trouble.detail.starts_with(&format!("{}:2:", broken.0.display())), "{trouble}");
    let binary = Written::new("people-binary", [0xff]);
    assert_eq!(code(pinned(Some(&binary.0), "alice")), Err(Code::PinStore));
    remember("main:alice", "");
    assert_eq!(code(pinned(None, "alice")), Err(Code::PinStore), "an empty file is no free account");
}

#[test]
fn a_host_alone_knows_nothing_of_a_jobs_user() {
    let subject = Subject {
        server: "main".to_owned(),
        source: IdentitySource::IdToken,
        user_login: "ada".to_owned(),
        user_id: 7,
        user_email: None,
        access_level: None,
        groups: None,
        identities: Vec::new(),
        project_path: "hpc/app".to_owned(),
        project_id: 3,
        namespace_path: "hpc".to_owned(),
        git_ref: "main".to_owned(),
        ref_type: None,
        ref_protected: None,
        pipeline_source: None,
        fork: None,
        environment: None,
        environment_protected: None,
        runner_id: None,
        validated: None,
    };
    assert_eq!(ThisHost::new(book()).server_user(&subject).map_err(|e| e.code), Err(Code::UserCheck));
}

fn why(refusal: &Refusal) -> (Class, Code, &str) {
    (refusal.class, refusal.code, &refusal.detail)
}

#[test]
fn an_admitted_account_is_judged_again_by_what_no_configuration_changes() {
    assert_eq!(again("alice", 1000, &book()).map(|facts| facts.uid).map_err(|e| e.code), Ok(4101));
    for (name, min_uid, expected) in
        [("gone", 1000, "account `gone`: "), ("small", 1000, "below"), ("alice", 5000, "below")]
    {
        let refusal = again(name, min_uid, &book()).expect_err(name);
        let (class, code, detail) = why(&refusal);
        assert!((class, code) == (Class::Denied, Code::Account) && detail.contains(expected), "{refusal:?}");
    }
    assert_eq!(again("small", 500, &book()).map(|facts| facts.uid).map_err(|e| e.code), Ok(900));
    let refusal = again("alice", 1000, &silent()).expect_err("no answer");
    assert_eq!(why(&refusal), (Class::System, Code::UserDatabase, "the database is away"));
}

#[test]
fn a_later_stage_is_judged_by_the_present_configuration() {
    let rules = "[[rule]]\nname = \"all\"\nrun_as = \"$user_login\"\n";
    let permits = |accounts: &str, host: &dyn Host, caller: u32| {
        permitted("alice", &policy(&format!("{accounts}{rules}")), host, caller)
    };
    let host = ThisHost::new(book());
    assert_eq!(permits("", &host, 4001).map(|facts| facts.name).map_err(|e| e.code), Ok("alice".to_owned()));
    for (accounts, caller) in [
        ("[accounts]\ndeny = [\"alice\"]\n", 4001),
        ("[accounts]\ndeny_groups = [\"lattice\"]\n", 4001),
        ("", 4101),
    ] {
        let refusal = permits(accounts, &host, caller).expect_err(accounts);
        assert_eq!((refusal.class, refusal.code), (Class::Denied, Code::Account), "{accounts} {caller}");
    }
    let away = permits("", &ThisHost::new(silent()), 4001).expect_err("no answer");
    assert_eq!((away.class, away.code), (Class::System, Code::UserDatabase));
}

#[test]
fn an_account_that_has_expired_is_denied_and_one_that_nobody_may_look_up_is_not() {
    let check = |expiry, silent| check_expiry("alice", &Book { expiry: Some(expiry), silent, ..book() });
    check(Expiry::Valid, false).expect("valid");
    check(Expiry::Unknown, false).expect("not to be read");
    let refusal = check(Expiry::Expired, false).expect_err("expired");
    assert_eq!((refusal.class, refusal.code), (Class::Denied, Code::AccountExpired));
    assert!(refusal.detail.contains("chage -l alice"), "{refusal:?}");
    let refusal = check(Expiry::Valid, true).expect_err("no answer");
    assert_eq!((refusal.class, refusal.code), (Class::System, Code::UserDatabase));
}

#[test]
fn the_clock_is_the_hosts() {
    let known = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let now = nunbird_judge::account::now().map_err(|e| e.code).expect("a time");
    assert!(now.abs_diff(known) < 60, "{now}");
}

#[test]
fn a_denial_names_to_the_user_the_name_alone_and_to_the_admin_the_cause() {
    let missing = refuse("alice", &Violation::Missing);
    let denied = refuse("alice", &Violation::Denied);
    assert_eq!((missing.class, missing.code), (Class::Denied, Code::Account));
    assert_eq!(
        (&missing.message, &missing.help),
        (&denied.message, &denied.help),
        "no account is distinguished from another"
    );
    assert!(missing.detail.starts_with("account `alice`: ") && missing.detail != denied.detail);
    assert!(!missing.message.contains("alice") && missing.help.contains("GitLab login"));
    let name = refuse("Al\u{1b}ice", &Violation::Name);
    assert!(name.message.contains("`Al\\u{1b}ice` is not a name"), "{}", name.message);
    assert!(name.help.contains("lower-case letters"), "{}", name.help);
}

#[test]
fn what_does_not_answer_is_named_to_the_user_and_is_never_the_jobs_fault() {
    let refusal = |code| unanswered(&HostError { code, detail: "why".to_owned() });
    let said = |code| refusal(code).message;
    assert!(said(Code::UserDatabase).contains("user database does not answer"));
    assert!(said(Code::Group).contains("a group that its policy names"));
    assert!(said(Code::PinStore).contains("list of people"));
    assert!(said(Code::UserCheck).contains("does not say who started this job"));
    assert!(said(Code::Map).contains("tables of accounts"));
    for code in [Code::UserDatabase, Code::Group, Code::PinStore, Code::UserCheck, Code::Map] {
        assert_eq!(why(&refusal(code)), (Class::System, code, "why"));
        let retry = refusal(code).help.contains("retry the job in a minute");
        assert_eq!(retry, code == Code::UserCheck, "{code:?}");
    }
}

#[test]
fn an_entry_of_another_name_is_no_account_of_the_one_asked_for() {
    let mut book = book();
    book.accounts.insert("4101".to_owned(), entry("alice", 4101));
    book.accounts.insert(
        "carol".to_owned(),
        UserEntry { name_of_uid: Some("root".to_owned()), ..entry("carol", 4103) },
    );
    for name in ["4101", "carol"] {
        assert!(book.account(name).is_ok_and(|entry| entry.is_some()));
        assert_eq!(again(name, 1000, &book).map(|facts| facts.name).map_err(|e| e.code), Err(Code::Account));
    }
}
