//! `[[rule]]`: who may run as whom.

use super::conditions::{self, RuleNames};
use super::keys::{Form, Key, Setting, Table, form};
use super::limits;
use super::model::*;
use super::reader::{Kind, Raw, Section, Spot};
use super::toml_text::toml_key;
use super::{UserCheck, values};
use crate::account::check_name;
use crate::{Condition, Location};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[[rule]]`.
#[rustfmt::skip]
pub static RULE_KEYS: Table<Rule> = Table {
    path: "rule[]",
    defaults: || Rule {
        name: String::new(),
        place: Location { file: PathBuf::new(), line: 0, column: 0 },
        conditions: Vec::new(),
        exceptions: Vec::new(),
        outcome: RuleOutcome::Deny(String::new()),
        profile: None,
        limits: None,
        pinning: true,
        bots: false,
        user_check: None,
    },
    keys: &[
        Key::<Rule>::new("name", form!(Text: name), "unique; appears in audit events").or("required"),
        Key::<Rule>::new("when", Form::Own { takes: "table of [conditions](#conditions)", get: |t| conditions::setting(&t.conditions) },
            "conditions, all of which must hold").or("the rule matches every job"),
        Key::<Rule>::new("unless", Form::Own { takes: "table of the same conditions", get: |t| conditions::setting(&t.exceptions) },
            "the same conditions, none of which may hold").or("no exception"),
        Key::<Rule>::new("run_as", Form::Own { takes: "text or table", get: |t| setting(&t.outcome) },
            "the account: `$user_login`, a name, `$validated`, or a table that says where it is looked up").or("none; a rule has `run_as` or `deny`"),
        Key::<Rule>::new("deny",
            Form::Text {
                get: |t| if let RuleOutcome::Deny(message) = &t.outcome { Some(message.clone()) } else { None },
                set: |t, at| t.outcome = RuleOutcome::Deny(at.value.to_owned()),
            },
            "refuses the job, with this message to its user").or("none; a rule has `run_as` or `deny`"),
        Key::<Rule>::new("profile", form!(TextOrNone: profile), "the profile that its jobs run by").or("`[job]`"),
        Key::<Rule>::new("limits",
            Form::Own { takes: "text", get: |t| t.limits.as_ref().and_then(|own| limits::setting(own.limits.as_ref())) },
            "the name of a `[limits.NAME]`, or an empty text for no limits").or("the profile's, else that of `[job]`"),
        Key::<Rule>::new("pinning",
            // What is as everywhere is not written.
            Form::Word {
                words: || vec!["on", "off"],
                former: &[],
                get: |t| (!t.pinning).then_some("off"),
                set: |t, word| t.pinning = word == "on",
            },
            "`off`: its jobs get their account by name alone, whatever `accounts.pinning` is").or("`on`"),
        Key::<Rule>::new("bots", Form::Flag { get: |t| t.bots.then_some(true), set: |t, flag| t.bots = flag },
            "`true` also admits bots of GitLab: service accounts and the users of access tokens").or("`accounts.allow_bots`"),
        Key::<Rule>::new("user_check", form!(WordOrNone: user_check, UserCheck),
            "`off`: the server is not asked about the user; `required`: it is").or("the server's"),
    ],
};

/// A `run_as` that is a table.
#[derive(Default)]
pub(super) struct LookedUp {
    map: Option<String>,
    identity: Option<String>,
    attribute: Option<String>,
}

/// `run_as` of `[[rule]]`, where it is a table.
#[rustfmt::skip]
pub(super) static RUN_AS_KEYS: Table<LookedUp> = Table {
    path: "rule[].run_as",
    defaults: LookedUp::default,
    keys: &[
        Key::<LookedUp>::new("map", form!(TextOrNone: map), "the `[map.NAME]` that has the account"),
        Key::<LookedUp>::new("identity", form!(TextOrNone: identity), "the identity provider of GitLab that has the account"),
        Key::<LookedUp>::new("attribute", form!(TextOrNone: attribute),
            "the first part of a distinguished name, such as `uid`").or("the whole name"),
    ],
};

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
    let mut rule = Rule { place: table.spot()?.place(), ..(RULE_KEYS.defaults)() };
    // What the table's list does not read first: with these and its name a rule mostly has no other key.
    rule.conditions = conditions::read(table.table("when"), known);
    rule.exceptions = conditions::read(table.table("unless"), known);
    rule.limits = table.text("limits").map(|at| limits::of_rule(&at, known.limits));
    let run_as = table.raw("run_as", Kind::Text);
    RULE_KEYS.read(&mut table, &mut rule);
    let name = table.text_of("name");
    match &name {
        None if !table.has("name") => {
            table.find("this rule has no name", "add `name = \"…\"`; it appears in audit events");
        }
        None => {}
        Some(name) => values::unique(name, names, "rule"),
    }
    if let Some(profile) = &rule.profile
        && !known.profiles.contains_key(profile)
    {
        table.find_at("profile", "unknown profile", format!("add a table `[profile.{}]`", toml_key(profile)));
    }
    let outcome = outcome(&table, run_as, known);
    if matches!(outcome, Some(RuleOutcome::Deny(_))) {
        for (key, what) in OF_NO_DENIAL {
            if table.has(key) {
                table.find_at(key, *what, "remove the line");
            }
        }
    }
    if rule.bots && !rule.conditions.iter().any(names_bots) {
        let help = "add a condition on `user_id`, `project`, `project_id` or `namespace` to `when`: anybody can create a bot in a project of their own";
        table.find_at("bots", "this rule admits any bot", help);
    }
    table.finish();
    name.and(outcome).map(|outcome| Rule { outcome, ..rule })
}

/// What a rule that denies cannot have, with what is wrong then.
const OF_NO_DENIAL: &[(&str, &str)] = &[
    ("profile", "a job that is denied has no profile"),
    ("limits", "a job that is denied has no limits"),
    ("pinning", "a job that is denied has no account"),
    ("bots", "a rule that denies admits no user"),
    ("user_check", "a rule that denies admits no user"),
];

/// A condition by which a rule can admit certain bots and no others.
fn names_bots(condition: &Condition) -> bool {
    condition.fact().is_some_and(|fact| fact.names_bots)
}

fn outcome<'t>(table: &Section<'t>, run_as: Option<Raw<'t>>, known: &RuleNames<'_>) -> Option<RuleOutcome> {
    let deny = table.text_of("deny");
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
    let mut found = LookedUp::default();
    RUN_AS_KEYS.read(&mut table, &mut found);
    let run_as = match found {
        LookedUp { map: Some(map), identity: None, attribute } => {
            if !known.maps.contains_key(&map) {
                table.find_at("map", "unknown map", format!("add a table `[map.{}]`", toml_key(&map)));
            }
            if attribute.is_some() {
                table.find_at("attribute", "an attribute belongs to an identity", "remove it");
            }
            Some(RunAs::Map(map))
        }
        LookedUp { map: None, identity: Some(provider), attribute } => {
            Some(RunAs::Identity { provider, attribute })
        }
        _ => {
            table
                .find("missing key `map` or `identity`", "write `{ map = \"…\" }` or `{ identity = \"…\" }`");
            None
        }
    };
    table.finish();
    run_as
}

/// The value of the key `run_as`.
fn setting(outcome: &RuleOutcome) -> Option<Setting> {
    let RuleOutcome::RunAs(run_as) = outcome else { return None };
    let text = |name: &str| Setting::Text(name.to_owned());
    let table = |found: LookedUp| Setting::Table(RUN_AS_KEYS.settings(&found));
    Some(match run_as {
        RunAs::UserLogin => text("$user_login"),
        RunAs::Validated => text("$validated"),
        RunAs::Account(name) => text(name),
        RunAs::Map(map) => table(LookedUp { map: Some(map.clone()), ..LookedUp::default() }),
        RunAs::Identity { provider, attribute } => {
            table(LookedUp { map: None, identity: Some(provider.clone()), attribute: attribute.clone() })
        }
    })
}
