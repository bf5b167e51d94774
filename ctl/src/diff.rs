//! Past decisions, made again by two configurations.
//!
//! What the audit file does not tell of a job (local accounts and groups at that time) is taken from this host as it is now,
//! for both: so a difference comes from the configurations alone.

use crate::arguments::Diff;
use crate::explain::denial;
use crate::host::{self, ThisHost};
use crate::output::{DENIED, Format, OK, Trouble, print, print_json};
use crate::{claims, files, judgement, replay};
use nunbird_handover::Untrusted;
use nunbird_policy::{Decision, Policy, Subject, Verdict};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(crate) fn run(options: &Diff, format: Format) -> Result<u8, Trouble> {
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
        let before = judgement::decision(&old, &subject, &host, callers.0);
        let after = judgement::decision(&new, &subject, &host, callers.1);
        tally.count(&event, (&before, &after));
        Ok(())
    })?;
    match format {
        Format::Text => print(&(tally.text() + &replay::unread_note(&options.log, &unread)))?,
        Format::Json => print_json(&tally.machine(&unread))?,
    }
    Ok(if tally.changes.is_empty() { OK } else { DENIED })
}

/// The facts of a decision of `config`; none for other events, and for denials before the identity was known.
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
    /// What changes, by what it is, with how often and an example.
    changes: BTreeMap<(String, String), (usize, Value)>,
    unusable: Vec<(usize, String)>,
}

impl Tally {
    fn count(&mut self, event: &Map<String, Value>, (before, after): (&Decision<'_>, &Decision<'_>)) {
        self.decisions += 1;
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
        json!({"decisions": self.decisions, "changes": changes, "unusable": unusable, "unread_lines": unread})
    }
}

/// What decided, for people who look for the line.
fn rule(decision: &Decision<'_>) -> String {
    match decision.verdict {
        Verdict::Admitted { rule, .. }
        | Verdict::DeniedByRule { rule, .. }
        | Verdict::DeniedAccount { rule, .. }
        | Verdict::DeniedPin { rule, .. }
        | Verdict::DeniedUser { rule, .. } => format!("rule `{}` ({})", rule.name, rule.place),
        Verdict::NoRule | Verdict::Failed(_) => "no rule".to_owned(),
    }
}

/// A decision as two configurations can be compared by: the account, or the class of the denial. A rule's name may change
/// without anything changing for a job.
fn outcome(decision: &Decision<'_>) -> String {
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
