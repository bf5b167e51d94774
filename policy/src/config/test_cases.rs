//! `[[test]]`: what the site expects of its rules.

use super::conditions::{self, RuleNames};
use super::keys::{Form, Key, Setting, Table, form};
use super::model::*;
use super::reader::{Section, Spot};
use super::values;
use crate::{Location, ServerUser, Subject};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The uid of all ones means none.
const LAST_UID: u64 = 4_294_967_294;

/// `[[test]]`.
#[rustfmt::skip]
pub static TEST_KEYS: Table<TestCase> = Table {
    path: "test[]",
    defaults: || TestCase {
        name: String::new(),
        place: Location { file: PathBuf::new(), line: 0, column: 0 },
        subject: Subject::default(),
        local: None,
        pinned: None,
        server_user: (SERVER_USER_KEYS.defaults)(),
        expect: Expectation::Denied,
    },
    keys: &[
        Key::<TestCase>::new("name", form!(Text: name), "unique").or("required"),
        Key::<TestCase>::new("claims", Form::Own { takes: "table", get: |t| Some(conditions::claims(&t.subject)) },
            "facts of the job, by GitLab's names").or("required"),
        Key::<TestCase>::new("local",
            Form::Own { takes: "table", get: |t| t.local.as_ref().map(|local| Setting::Dotted(LOCAL_KEYS.settings(local))) },
            "facts about the account").or("those of this host's user database"),
        Key::<TestCase>::new("pinned", form!(Number: pinned, 0, u64::MAX),
            "the id of the GitLab user that the account belongs to").or("no user is known for the account"),
        Key::<TestCase>::new("server_user",
            Form::Own { takes: "table", get: |t| Some(Setting::Dotted(SERVER_USER_KEYS.settings(&t.server_user))) },
            "what the server answers about the user").or("an active person with the id and the login of `claims`"),
        Key::<TestCase>::new("expect",
            Form::Text { get: |t| Some(expected(&t.expect)), set: |t, at| t.expect = expectation(at.value) },
            "the account, `deny`, or `deny: NAME OF THE RULE`").or("required"),
    ],
};

/// `local` of `[[test]]`.
#[rustfmt::skip]
pub(super) static LOCAL_KEYS: Table<LocalFacts> = Table {
    path: "test[].local",
    defaults: || LocalFacts { uid: 60_000, groups: Vec::new(), shell: "/bin/bash".into() },
    keys: &[
        Key::<LocalFacts>::new("uid", form!(Number: uid, 0, LAST_UID), "the account's uid"),
        Key::<LocalFacts>::new("groups",
            Form::Texts { get: |t| Some(t.groups.clone()), set: |t, at| t.groups = at.value.iter().map(|one| one.value.to_owned()).collect() },
            "the account's groups, by name"),
        Key::<LocalFacts>::new("shell", form!(Path: shell), "the account's login shell"),
    ],
};

/// `server_user` of `[[test]]`.
#[rustfmt::skip]
pub(super) static SERVER_USER_KEYS: Table<ServerUser> = Table {
    path: "test[].server_user",
    defaults: || ServerUser::person(&Subject::default()),
    keys: &[
        Key::<ServerUser>::new("id", form!(Number: id, 0, u64::MAX), "the user's id").or("that of `claims`"),
        Key::<ServerUser>::new("username", form!(Text: username), "the user's login").or("that of `claims`"),
        Key::<ServerUser>::new("bot", form!(FlagOrNone: bot), "whether the user is a bot"),
        Key::<ServerUser>::new("state", form!(TextOrNone: state), "`active`, `blocked` and the like"),
    ],
};

pub(super) fn read(root: &mut Section<'_>, known: &RuleNames<'_>) -> Vec<TestCase> {
    let mut names = BTreeMap::new();
    root.tables("test").into_iter().filter_map(|table| test(table, &mut names, known)).collect()
}

fn test<'t>(
    mut table: Section<'t>,
    names: &mut BTreeMap<&'t str, Spot<'t>>,
    known: &RuleNames<'_>,
) -> Option<TestCase> {
    let mut test = TestCase { place: table.spot()?.place(), ..(TEST_KEYS.defaults)() };
    for key in ["name", "claims", "expect"] {
        if !table.has(key) {
            table.find(format!("this test has no `{key}`"), "a test has `name`, `claims` and `expect`");
        }
    }
    TEST_KEYS.read(&mut table, &mut test);
    let (name, expect) = (table.text_of("name"), table.text_of("expect"));
    if let Some(name) = &name {
        values::unique(name, names, "test");
    }
    let first = known.gitlab.first().map_or("", |server| server.name.as_str());
    let subject = conditions::subject(table.table("claims"), first);
    test.local = local_facts(table.table("local"));
    test.server_user = server_user(table.table("server_user"), subject.as_ref());
    table.finish();
    name.and(expect).and(subject).map(|subject| TestCase { subject, ..test })
}

fn expectation(text: &str) -> Expectation {
    match text.split_once(':') {
        None if text == "deny" => Expectation::Denied,
        Some(("deny", rule)) => Expectation::DeniedBy(rule.trim().to_owned()),
        _ => Expectation::Account(text.to_owned()),
    }
}

fn expected(expect: &Expectation) -> String {
    match expect {
        Expectation::Account(account) => account.clone(),
        Expectation::Denied => "deny".to_owned(),
        Expectation::DeniedBy(rule) => format!("deny: {rule}"),
    }
}

/// What the server says about the user of a test's job: an active person with the id and the login of the claims, unless the
/// test has it otherwise.
fn server_user(mut table: Section<'_>, subject: Option<&Subject>) -> ServerUser {
    let mut user = subject.map_or_else(SERVER_USER_KEYS.defaults, ServerUser::person);
    SERVER_USER_KEYS.read(&mut table, &mut user);
    table.finish();
    user
}

fn local_facts(mut table: Section<'_>) -> Option<LocalFacts> {
    if !table.is_present() {
        return None;
    }
    let mut facts = (LOCAL_KEYS.defaults)();
    LOCAL_KEYS.read(&mut table, &mut facts);
    table.finish();
    Some(facts)
}
