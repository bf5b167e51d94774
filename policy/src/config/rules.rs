//! `[[rule]]`: who may run as whom.

use super::conditions::{self, RuleNames};
use super::limits;
use super::model::*;
use super::reader::{At, Kind, Raw, Section, Spot};
use super::{UserCheck, values};
use crate::account::check_name;
use crate::{Condition, ServerUser, Subject};
use std::collections::BTreeMap;

pub(super) fn read(root: &mut Section<'_>, known: &RuleNames<'_>) -> Vec<Rule> {
    let tables = root.tables("rule");
    if tables.is_empty() {
        let help = "add a `[[rule]]` with `name` and `run_as`; without one every job is denied";
        root.find("there is no rule", help);
    }
    let mut names = BTreeMap::new();
    tables.into_iter().filter_map(|table| rule(table, &mut names, known)).collect()
}

fn rule<'t>(
    mut table: Section<'t>,
    names: &mut BTreeMap<&'t str, Spot<'t>>,
    known: &RuleNames<'_>,
) -> Option<Rule> {
    let place = table.spot()?.place();
    let name = table.text("name");
    match &name {
        None if !table.has("name") => {
            table.find("this rule has no name", "add `name = \"…\"`; it appears in audit events");
        }
        None => {}
        Some(name) => unique(name, names, "rule"),
    }
    let conditions = conditions::read(table.table("when"), known);
    let exceptions = conditions::read(table.table("unless"), known);
    let profile = table.text("profile");
    if let Some(profile) = &profile
        && !known.profiles.contains_key(profile.value)
    {
        let help = format!("add a table `[profile.{}]`", profile.value);
        profile.spot.find("unknown profile", help);
    }
    let limits = table.text("limits");
    let bots = table.boolean("bots");
    let user_check = table.choice::<UserCheck>("user_check");
    let outcome = outcome(&mut table, known);
    let pinning = table.word("pinning", &["on", "off"], &[]);
    if matches!(outcome, Some(RuleOutcome::Deny(_))) {
        if let Some(profile) = &profile {
            profile.spot.find("a job that is denied has no profile", "remove the line");
        }
        if let Some(limits) = &limits {
            limits.spot.find("a job that is denied has no limits", "remove the line");
        }
        if let Some(pinning) = &pinning {
            pinning.spot.find("a job that is denied has no account", "remove the line");
        }
        for spot in
            [bots.as_ref().map(|at| at.spot), user_check.as_ref().map(|at| at.spot)].into_iter().flatten()
        {
            spot.find("a rule that denies admits no user", "remove the line");
        }
    }
    if let Some(bots) = bots.as_ref().filter(|at| at.value)
        && !conditions.iter().any(names_bots)
    {
        let help = "add a condition on `user_id`, `project`, `project_id` or `namespace` to `when`: anybody can create a bot in a project of their own";
        bots.spot.find("this rule admits any bot", help);
    }
    table.finish();
    Some(Rule {
        name: name?.value.to_owned(),
        place,
        conditions,
        exceptions,
        outcome: outcome?,
        profile: profile.map(|at| at.value.to_owned()),
        limits: limits.map(|at| limits::of_rule(&at, known.limits)),
        pinning: pinning.is_none_or(|at| at.value == "on"),
        bots: bots.is_some_and(|at| at.value),
        user_check: user_check.map(|at| at.value),
    })
}

/// A condition by which a rule can admit certain bots and no others.
fn names_bots(condition: &Condition) -> bool {
    condition.fact().is_some_and(|fact| fact.names_bots)
}

fn unique<'t>(name: &At<'t, &'t str>, names: &mut BTreeMap<&'t str, Spot<'t>>, what: &str) {
    values::check_label(name, what);
    if let Some(first) = names.insert(name.value, name.spot) {
        let message = format!("two {what}s have this name");
        name.spot.clash(Some(first), message, format!("give each {what} its own name"));
    }
}

fn outcome(table: &mut Section<'_>, known: &RuleNames<'_>) -> Option<RuleOutcome> {
    let run_as = table.raw("run_as", Kind::Text);
    let deny = table.text("deny");
    match (run_as, deny) {
        (Some(raw), None) => run_as_of(&raw, known).map(RuleOutcome::RunAs),
        (None, Some(deny)) => Some(RuleOutcome::Deny(deny.value.to_owned())),
        (Some(raw), Some(deny)) => {
            deny.spot.clash(
                Some(raw.spot),
                "a rule cannot both run and deny a job",
                "keep `run_as` or `deny`",
            );
            None
        }
        (None, None) => {
            if !table.has("deny") {
                let help = "add `run_as = \"$user_login\"` or `deny = \"why\"`";
                table.find("this rule has no outcome", help);
            }
            None
        }
    }
}

fn run_as_of(raw: &Raw<'_>, known: &RuleNames<'_>) -> Option<RunAs> {
    if let Some(table) = raw.as_table() {
        return looked_up(table, known);
    }
    let Some(name) = raw.as_text() else {
        return raw.wrong_type(
            "string or table",
            "write an account's name, `\"$user_login\"`, or a table such as `{ map = \"users\" }`",
        );
    };
    match name {
        "$user_login" => return Some(RunAs::UserLogin),
        "$validated" if known.validated => return Some(RunAs::Validated),
        "$validated" => {
            let help = "add a table `[validation]`, or write `$user_login`";
            raw.spot.find("no validation program is configured", help);
            return None;
        }
        _ => {}
    }
    if let Err(violation) = check_name(name) {
        let help = "write the name of a local account, or `$user_login` for the GitLab login";
        raw.spot.find(format!("no job can run as this account: {violation}"), help);
    }
    Some(RunAs::Account(name.to_owned()))
}

fn looked_up(mut table: Section<'_>, known: &RuleNames<'_>) -> Option<RunAs> {
    let (map, identity, attribute) = (table.text("map"), table.text("identity"), table.text("attribute"));
    let run_as = match (&map, &identity) {
        (Some(map), None) => {
            if !known.maps.contains_key(map.value) {
                map.spot.find("unknown map", format!("add a table `[map.{}]`", map.value));
            }
            if let Some(attribute) = &attribute {
                attribute.spot.find("an attribute belongs to an identity", "remove it");
            }
            Some(RunAs::Map(map.value.to_owned()))
        }
        (None, Some(provider)) => Some(RunAs::Identity {
            provider: provider.value.to_owned(),
            attribute: attribute.map(|at| at.value.to_owned()),
        }),
        _ => {
            table
                .find("missing key `map` or `identity`", "write `{ map = \"…\" }` or `{ identity = \"…\" }`");
            None
        }
    };
    table.finish();
    run_as
}

/// `[[test]]`: what the site expects of its rules.
pub(super) fn tests(root: &mut Section<'_>, known: &RuleNames<'_>) -> Vec<TestCase> {
    let mut names = BTreeMap::new();
    root.tables("test").into_iter().filter_map(|table| test(table, &mut names, known)).collect()
}

fn test<'t>(
    mut table: Section<'t>,
    names: &mut BTreeMap<&'t str, Spot<'t>>,
    known: &RuleNames<'_>,
) -> Option<TestCase> {
    let place = table.spot()?.place();
    for key in ["name", "claims", "expect"] {
        if !table.has(key) {
            table.find(format!("this test has no `{key}`"), "a test has `name`, `claims` and `expect`");
        }
    }
    let name = table.text("name");
    if let Some(name) = &name {
        unique(name, names, "test");
    }
    let first = known.gitlab.first().map_or("", |server| server.name.as_str());
    let subject = conditions::subject(table.table("claims"), first);
    let local = local_facts(table.table("local"));
    let pinned = table.integer("pinned").map(|at| at.value);
    let server_user = server_user(table.table("server_user"), subject.as_ref());
    let expect = table.text("expect").map(|at| match at.value.split_once(':') {
        None if at.value == "deny" => Expectation::Denied,
        Some(("deny", rule)) => Expectation::DeniedBy(rule.trim().to_owned()),
        _ => Expectation::Account(at.value.to_owned()),
    });
    table.finish();
    let (name, server_user) = (name?.value.to_owned(), server_user?);
    Some(TestCase { name, place, subject: subject?, local, pinned, server_user, expect: expect? })
}

/// What the server says about the user of a test's job: an active person with the id and the login of the claims, unless the
/// test has it otherwise.
fn server_user(mut table: Section<'_>, subject: Option<&Subject>) -> Option<ServerUser> {
    let (id, username) = (table.integer("id"), table.text("username"));
    let (bot, state) = (table.boolean("bot"), table.text("state"));
    table.finish();
    let person = ServerUser::person(subject?);
    Some(ServerUser {
        id: id.map_or(person.id, |at| at.value),
        username: username.map_or(person.username, |at| at.value.to_owned()),
        bot: bot.map(|at| at.value).or(person.bot),
        state: state.map(|at| at.value.to_owned()).or(person.state),
    })
}

fn local_facts(mut table: Section<'_>) -> Option<LocalFacts> {
    if !table.is_present() {
        return None;
    }
    let uid = table.integer("uid").map_or(Some(60_000), |at| {
        let uid = u32::try_from(at.value).ok().filter(|uid| *uid != u32::MAX);
        if uid.is_none() {
            at.spot.find("`uid` is out of range", "uids end at 4294967294");
        }
        uid
    });
    let groups = table.texts("groups").map_or_else(Vec::new, |all| all.value);
    let facts = LocalFacts {
        uid: uid.unwrap_or(60_000),
        groups: groups.iter().map(|at| at.value.to_owned()).collect(),
        shell: table.text("shell").map_or_else(|| "/bin/bash".into(), |at| values::path(&at)),
    };
    table.finish();
    Some(facts)
}
