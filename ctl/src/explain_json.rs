//! A decision for machines. Texts are as they came: JSON escapes what could deceive.

use crate::explain::{Explained, isolation};
use crate::limits;
use crate::output::Trouble;
use nunbird_policy::{Host, Verdict, explain_rule};
use serde_json::{Value, json};

impl Explained<'_> {
    /// docs/nunbirdctl.md has the fields.
    pub(crate) fn machine(&self, host: &dyn Host, signature: Option<String>) -> Result<Value, Trouble> {
        let reason = self.reason();
        let decided_by = match self.decision.verdict {
            Verdict::Admitted { rule, .. }
            | Verdict::DeniedByRule { rule, .. }
            | Verdict::DeniedAccount { rule, .. }
            | Verdict::DeniedPin { rule, .. } => Some(rule),
            _ => None,
        };
        let mut answer = json!({
            "verdict": match (&self.decision.verdict, &reason) {
                (Verdict::Failed(_), _) => "undecided",
                (_, None) => "admitted",
                _ => "denied",
            },
            "rules": self.rules(host)?,
            "signature": signature,
            "rule": decided_by.map(|rule| &rule.name),
            "place": decided_by.map(|rule| rule.place.to_string()),
            "notes": self.outcome.map(|outcome| outcome.notes.as_slice()).unwrap_or_default(),
        });
        let more = match (&self.decision.verdict, reason, self.outcome) {
            (Verdict::Admitted { rule, account }, None, Some(outcome)) => {
                let (job, _) = self.reading.policy.job_of(rule);
                json!({
                    "account": account.name,
                    "uid": account.uid,
                    "gid": account.gid,
                    "groups": account.groups,
                    "profile": rule.profile,
                    "limits": limits::machine(self.reading, rule),
                    "executor": job.executor.name(),
                    "shell": job.shell,
                    "login_shell": job.login_shell,
                    "data_dir": outcome.data_dir,
                    "isolation": isolation(job),
                })
            }
            (_, reason, _) => json!({ "reason": reason }),
        };
        if let (Some(fields), Value::Object(more)) = (answer.as_object_mut(), more) {
            fields.extend(more);
        }
        Ok(answer)
    }

    /// Every rule that was looked at.
    fn rules(&self, host: &dyn Host) -> Result<Vec<Value>, Trouble> {
        let rule = |step: &nunbird_policy::Step<'_>| {
            let (predicates, account) = explain_rule(&self.reading.policy, step.rule, self.subject, host)
                .map_err(|e| Trouble::new(e.detail))?;
            let conditions: Vec<Value> = predicates
                .iter()
                .map(|p| json!({"fact": p.condition.key(), "wanted": p.condition.wanted(), "seen": p.seen, "holds": p.holds}))
                .collect();
            Ok(json!({
                "name": step.rule.name,
                "place": step.rule.place.to_string(),
                "fits": step.failed.is_none(),
                "account": account,
                "conditions": conditions,
            }))
        };
        self.decision.steps.iter().map(rule).collect()
    }
}
