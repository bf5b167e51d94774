//! Past decisions, made again with two configurations.
//!
//! What the audit file does not contain about a job (local accounts and groups at that time) is
//! taken from the present state of this host, for both: so every difference comes from the
//! configurations.

use crate::arguments::Diff;
use crate::changed_keys::{self, AffectedDecisions, ChangedKey};
use crate::explain::denial;
use crate::host::{self, ThisHost};
use crate::output::{CtlError, DENIED, FAILURE, Format, OK, print, print_json};
use crate::{claims, files, judgement, replay};
use nunbird_handover::Untrusted;
use nunbird_policy::{Decision, GitLabServer, Policy, Rule, Subject, Verdict};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(crate) fn run(options: &Diff, format: Format) -> Result<u8, CtlError> {
    let old = files::read(&options.old, format)?.policy;
    let new = files::read(&options.new, format)?.policy;
    let host = ThisHost::of(&new, &options.runner.runner_user);
    let callers =
        (host::runner(&old, &options.runner.runner_user), host::runner(&new, &options.runner.runner_user));
    let mut tally = Tally::default();
    let unread = replay::events(&options.log, |line, event| {
        let Some(subject) = decided(&event, &old) else { return Ok(()) };
        let subject = match subject {
            Ok(subject) => subject,
            Err(why) => {
                tally.unusable.push((line, why));
                return Ok(());
            }
        };
        let before = ReplayedJob::of(&old, &subject, &old, &host, callers.0);
        let after = ReplayedJob::of(&new, &subject, &old, &host, callers.1);
        tally.touched.count(&subject.server, &[(&old, before.admitted_by()), (&new, after.admitted_by())]);
        tally.count(&event, (&before, &after));
        Ok(())
    })?;
    tally.keys = changed_keys::between(&old, &new);
    match format {
        Format::Text => print(&(tally.text() + &replay::unread_note(&options.log, &unread)))?,
        Format::Json => print_json(&tally.machine(&unread))?,
    }
    Ok(match tally.changes.is_empty() && tally.keys.is_empty() {
        false => DENIED,
        true if tally.undecided.0 > 0 => FAILURE,
        true => OK,
    })
}

/// The facts of a decision of `config`; `None` for other events, and for denials before the
/// identity was known.
fn decided(event: &Map<String, Value>, policy: &Policy) -> Option<Result<Subject, String>> {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let is_decision =
        matches!(text("outcome"), Some("admitted" | "denied")) && text("stage") == Some("config");
    if !is_decision || !event.contains_key("user_login") {
        return None;
    }
    Some(claims::read(event, policy))
}

#[derive(Default)]
struct Tally {
    decisions: usize,
    /// The changes by kind, each with its count and an example.
    changes: BTreeMap<(String, String), (usize, Value)>,
    unusable: Vec<(usize, String)>,
    /// How many decisions this host could not make, and the reason of the first.
    undecided: (usize, String),
    touched: AffectedDecisions,
    /// Every key that differs.
    keys: Vec<ChangedKey>,
}

/// A past job, judged again.
enum ReplayedJob<'p> {
    /// By the rules.
    Decided(Decision<'p>),
    /// The configuration refuses the job before its rules.
    Refused(String),
}

impl<'p> ReplayedJob<'p> {
    /// `old` is the configuration that contains the subject's server; in another configuration the
    /// server is found by the same issuer.
    fn of(policy: &'p Policy, subject: &Subject, old: &Policy, host: &ThisHost, caller: u32) -> Self {
        let of_name = |server: &&GitLabServer| server.name == subject.server;
        let issuer = old.gitlab.iter().find(of_name).map(|server| server.issuer.as_str());
        let same =
            |server: &&GitLabServer| issuer.map_or(server.name == subject.server, |i| server.issuer == i);
        let Some(server) = policy.gitlab.iter().find(same) else {
            return ReplayedJob::Refused(format!(
                "no server has the issuer of `{}`",
                Untrusted(&subject.server)
            ));
        };
        if !policy.identity.sources.contains(&subject.source) {
            return ReplayedJob::Refused(format!("`{}` is not a source of identity", subject.source.name()));
        }
        let named = |id: Option<u64>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
        if !server.runner_ids.is_empty()
            && !subject.runner_id.is_some_and(|id| server.runner_ids.contains(&id))
        {
            let (id, name) = (named(subject.runner_id), Untrusted(&server.name));
            return ReplayedJob::Refused(format!("runner {id} is not among the runner_ids of `{name}`"));
        }
        let subject = Subject { server: server.name.clone(), ..subject.clone() };
        ReplayedJob::Decided(judgement::decision(policy, &subject, host, caller))
    }

    fn admitted_by(&self) -> Option<&'p Rule> {
        match self {
            ReplayedJob::Decided(Decision { verdict: Verdict::Admitted { rule, .. }, .. }) => Some(rule),
            _ => None,
        }
    }
}

impl Tally {
    fn count(&mut self, event: &Map<String, Value>, (before, after): (&ReplayedJob<'_>, &ReplayedJob<'_>)) {
        self.decisions += 1;
        for judged in [before, after] {
            if let ReplayedJob::Decided(Decision { verdict: Verdict::Failed(trouble), .. }) = judged {
                if self.undecided.0 == 0 {
                    self.undecided.1.clone_from(&trouble.detail);
                }
                self.undecided.0 += 1;
                break;
            }
        }
        let rules = (rule(before), rule(after));
        let (before, after) = (outcome(before), outcome(after));
        if before != after {
            let fact = |name: &str| event.get(name).cloned().unwrap_or(Value::Null);
            let example = json!({
                "job_id": fact("job_id"), "project_path": fact("project_path"), "user_login": fact("user_login"),
                "decision_id": fact("decision_id"), "time": fact("time"),
                "old_rule": rules.0, "new_rule": rules.1,
            });
            self.changes.entry((before, after)).or_insert((0, example)).0 += 1;
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for ((before, after), (count, example)) in &self.changes {
            let shown = |name: &str| match example.get(name) {
                Some(Value::String(text)) => Untrusted(text).to_string(),
                Some(Value::Null) | None => "?".to_owned(),
                Some(other) => other.to_string(),
            };
            text.push_str(&format!(
                "{count} times: {before}\n     now: {after}\n  such as job {} of {} by {}: before by {}, now by {}\n",
                shown("job_id"),
                shown("project_path"),
                shown("user_login"),
                shown("old_rule"),
                shown("new_rule"),
            ));
        }
        let changed: usize = self.changes.values().map(|(count, _)| count).sum();
        text.push_str(&format!("{changed} of {} decisions change\n", self.decisions));
        for (line, why) in &self.unusable {
            text.push_str(&format!("line {line} cannot be decided again: {}\n", Untrusted(why)));
        }
        if self.undecided.0 > 0 {
            let (count, why) = &self.undecided;
            text.push_str(&format!("{count} decisions could not be made here: {}\n", Untrusted(why)));
        }
        for (replayed, title) in
            [(true, "changed, with their decisions above:"), (false, "not replayed, but changed:")]
        {
            let keys: Vec<&ChangedKey> = self.keys.iter().filter(|key| key.replayed == replayed).collect();
            if !keys.is_empty() {
                text.push_str(&format!("{title}\n"));
            }
            for changed in keys {
                let value = |value: &Option<String>| {
                    value.as_deref().map_or_else(|| "none".to_owned(), |text| Untrusted(text).to_string())
                };
                text.push_str(&format!(
                    "  {} ({} past jobs)\n    old: {}\n    new: {}\n",
                    Untrusted(&changed.key),
                    self.touched.by(&changed.key),
                    value(&changed.old),
                    value(&changed.new),
                ));
            }
        }
        text
    }

    fn machine(&self, unread: &[usize]) -> Value {
        let changes: Vec<Value> = self
            .changes
            .iter()
            .map(|((old, new), (count, example))| json!({"old": old, "new": new, "count": count, "example": example}))
            .collect();
        let unusable: Vec<Value> =
            self.unusable.iter().map(|(line, why)| json!({"line": line, "why": why})).collect();
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|changed| {
                json!({"key": changed.key, "old": changed.old, "new": changed.new, "replayed": changed.replayed,
                    "jobs": self.touched.by(&changed.key)})
            })
            .collect();
        json!({"decisions": self.decisions, "changes": changes, "keys": keys, "undecided": self.undecided.0,
            "unusable": unusable, "unread_lines": unread})
    }
}

/// What decided, for humans who look for the line.
fn rule(judged: &ReplayedJob<'_>) -> String {
    let ReplayedJob::Decided(decision) = judged else { return "no rule".to_owned() };
    match decision.verdict {
        Verdict::Admitted { rule, .. }
        | Verdict::DeniedByRule { rule, .. }
        | Verdict::DeniedAccount { rule, .. }
        | Verdict::DeniedPin { rule, .. }
        | Verdict::DeniedUser { rule, .. } => format!("rule `{}` ({})", rule.name, rule.place),
        Verdict::NoRule | Verdict::Failed(_) => "no rule".to_owned(),
    }
}

/// A decision in the form in which two configurations are compared: the account, or the class of
/// the denial. A rule's name may change without changing anything for a job.
fn outcome(judged: &ReplayedJob<'_>) -> String {
    let decision = match judged {
        ReplayedJob::Decided(decision) => decision,
        ReplayedJob::Refused(why) => return format!("denied: {why}"),
    };
    match &decision.verdict {
        Verdict::Admitted { account, .. } => format!("runs as {}", Untrusted(&account.name)),
        Verdict::DeniedByRule { message, .. } => format!("denied: {}", Untrusted(message)),
        Verdict::DeniedAccount { account, violation, .. } => {
            format!("denied: `{}` may not run jobs: {violation}", Untrusted(account))
        }
        Verdict::DeniedUser { violation, .. } => format!("denied: {violation}"),
        Verdict::DeniedPin { .. } | Verdict::NoRule => format!("denied: {}", denial(decision)),
        Verdict::Failed(_) => format!("undecided: {}", denial(decision)),
    }
}
