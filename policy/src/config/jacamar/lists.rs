//! Jacamar's four lists as ordered rules: `user_allowlist` over `user_blocklist` over `groups_blocklist` over
//! `groups_allowlist`. Each rule has the name and the place of its key.
//!
//! The lists speak of local accounts and local groups, after the RunAs script has had its say. With an allow list,
//! users on none are denied. `pipeline_source_allowlist` comes before all of them: every rule asks for a source of
//! the list, and the last rule denies what fits none.

use crate::config::model::{Rule, RuleOutcome, RunAs};
use crate::config::reader::{At, Spot};
use crate::facts::{PIPELINE_SOURCE, TextField};
use crate::lens::lens;
use crate::{Condition, Local, Matcher, Pattern};

/// The lists, as they are set.
pub(super) struct Lists<'t> {
    pub(super) user_allowlist: Option<At<'t, Vec<At<'t, &'t str>>>>,
    pub(super) user_blocklist: Option<At<'t, Vec<At<'t, &'t str>>>>,
    pub(super) groups_blocklist: Option<At<'t, Vec<At<'t, &'t str>>>>,
    pub(super) groups_allowlist: Option<At<'t, Vec<At<'t, &'t str>>>>,
    /// `pipeline_source_allowlist`.
    pub(super) sources: Option<At<'t, Vec<At<'t, &'t str>>>>,
    /// Where `[auth]` begins: the place of what no list says.
    pub(super) auth: Option<Spot<'t>>,
    /// Whether a RunAs script is set.
    pub(super) validated: bool,
}

pub(super) fn rules(lists: &Lists<'_>) -> Vec<Rule> {
    let run = || RuleOutcome::RunAs(if lists.validated { RunAs::Validated } else { RunAs::UserLogin });
    let deny = |what: &str| RuleOutcome::Deny(format!("your account may not run CI jobs here ({what})"));
    let mut rules = Vec::new();
    let mut add = |name: &str, spot: Option<Spot<'_>>, condition: Option<Condition>, outcome: RuleOutcome| {
        let Some(spot) = spot else { return };
        let sources = lists.sources.as_ref().map(|sources| pipeline_sources(sources));
        let conditions = sources.into_iter().chain(condition).collect();
        rules.push(Rule {
            name: name.to_owned(),
            place: spot.place(),
            conditions,
            exceptions: Vec::new(),
            outcome,
            profile: None,
            limits: None,
            pinning: true,
            bots: false,
            user_check: None,
        });
    };
    if let Some(users) = &lists.user_allowlist {
        add("user_allowlist", Some(users.spot), Some(Condition::Local(Local::Account(exact(users)))), run());
    }
    if let Some(users) = &lists.user_blocklist {
        add(
            "user_blocklist",
            Some(users.spot),
            Some(Condition::Local(Local::Account(exact(users)))),
            deny("user_blocklist"),
        );
    }
    if let Some(groups) = &lists.groups_blocklist {
        add(
            "groups_blocklist",
            Some(groups.spot),
            Some(Condition::Local(Local::Group(names(groups)))),
            deny("groups_blocklist"),
        );
    }
    if let Some(groups) = &lists.groups_allowlist {
        add(
            "groups_allowlist",
            Some(groups.spot),
            Some(Condition::Local(Local::Group(names(groups)))),
            run(),
        );
    }
    if lists.user_allowlist.is_none() && lists.groups_allowlist.is_none() {
        add("everybody", lists.auth, None, run());
    } else {
        let outcome =
            RuleOutcome::Deny("your account is on no list of those who may run CI jobs here".to_owned());
        add("on no list", lists.auth, None, outcome);
    }
    rules.extend(lists.sources.as_ref().map(other_sources));
    rules
}

fn pipeline_sources(sources: &At<'_, Vec<At<'_, &str>>>) -> Condition {
    Condition::Fact(&PIPELINE_SOURCE, Matcher::Text(TextField::Maybe(lens!(pipeline_source)), exact(sources)))
}

fn other_sources(sources: &At<'_, Vec<At<'_, &str>>>) -> Rule {
    Rule {
        name: "pipeline_source_allowlist".to_owned(),
        place: sources.spot.place(),
        conditions: Vec::new(),
        exceptions: Vec::new(),
        outcome: RuleOutcome::Deny("pipelines started this way do not run here".to_owned()),
        profile: None,
        limits: None,
        pinning: true,
        bots: false,
        user_check: None,
    }
}

fn names(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    at.value.iter().map(|one| one.value.to_owned()).collect()
}

/// Jacamar compares names, it has no patterns.
fn exact(at: &At<'_, Vec<At<'_, &str>>>) -> Vec<Pattern> {
    at.value.iter().map(|one| Pattern::exact(one.value)).collect()
}
