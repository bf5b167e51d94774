//! A decision for programs. Strings are unchanged: JSON escapes deceptive characters.

use crate::containers::JobContainer;
use crate::explain::{Explanation, isolation};
use crate::explain_job::{Admission, ConfigResult};
use crate::host::group_name;
use crate::limits;
use crate::output::CtlError;
use nunbird_policy::{Host, explain_rule};
use serde_json::{Value, json};

impl Explanation<'_> {
    /// docs/nunbirdctl.md lists the fields.
    pub(crate) fn machine(&self, host: &dyn Host) -> Result<Value, CtlError> {
        let judged = self.judged;
        let decided_by = self.decided_by();
        let unchecked = match &judged.answer {
            ConfigResult::Undecided(unchecked) => unchecked.as_slice(),
            _ => &[],
        };
        let mut answer = json!({
            "verdict": judged.verdict(),
            "code": null,
            "rules": self.rules(host)?,
            "signature": judged.signature,
            "rule": decided_by.as_ref().map(|(name, _)| name),
            "place": decided_by.as_ref().map(|(_, place)| place),
            "unchecked": unchecked,
            "notes": judged.notes,
        });
        let more = match &judged.answer {
            ConfigResult::Admitted(admission) => {
                let Admission { rule, account, data_dir, container } = &**admission;
                let (job, _) = self.reading.policy.job_of(rule);
                let names: Vec<Option<String>> = account.groups.iter().map(|gid| group_name(*gid)).collect();
                json!({
                    "account": account.name,
                    "uid": account.uid,
                    "gid": account.gid,
                    "groups": account.groups,
                    "group_names": names,
                    "profile": rule.profile,
                    "limits": limits::machine(self.reading, rule),
                    "executor": job.executor.name(),
                    "shell": job.shell,
                    "login_shell": job.login_shell,
                    "data_dir": data_dir,
                    "isolation": isolation(job),
                    "container": container.as_ref().map(JobContainer::machine),
                })
            }
            ConfigResult::Refused(refusal) => json!({
                "code": refusal.code.name(),
                "reason": refusal.message,
                "detail": refusal.detail,
                "help": refusal.help,
            }),
            ConfigResult::Undecided(unchecked) => json!({ "reason": unchecked.join("; ") }),
        };
        if let (Some(fields), Value::Object(more)) = (answer.as_object_mut(), more) {
            fields.extend(more);
        }
        Ok(answer)
    }

    /// Every rule that was evaluated.
    fn rules(&self, host: &dyn Host) -> Result<Vec<Value>, CtlError> {
        let Some(course) = &self.judged.course else { return Ok(Vec::new()) };
        let Some(decision) = &course.decision else { return Ok(Vec::new()) };
        let rule = |step: &nunbird_policy::Step<'_>| {
            let (predicates, account) = explain_rule(&self.reading.policy, step.rule, &course.subject, host)
                .map_err(|e| CtlError::new(e.detail))?;
            let conditions: Vec<Value> = predicates
                .iter()
                .map(|p| {
                    // Under `when` an unknown value counts as not matching; under `unless` it does
                    // not.
                    let holds = if p.exception { p.holds } else { Some(p.holds == Some(true)) };
                    json!({
                        "under": if p.exception { "unless" } else { "when" },
                        "fact": p.condition.key(), "wanted": p.condition.wanted().to_string(),
                        "seen": p.seen, "holds": holds, "fits": p.fits,
                    })
                })
                .collect();
            Ok(json!({
                "name": step.rule.name,
                "place": step.rule.place.to_string(),
                "fits": step.failed.is_none(),
                "account": account,
                "conditions": conditions,
            }))
        };
        decision.steps.iter().map(rule).collect()
    }
}
