//! Whether an account stays with the GitLab user whose job had it first.

use crate::{MapKey, Pinning, Policy, Rule, RuleOutcome, RunAs, Subject};

/// Whether this job's account must belong to its GitLab user: where the rule gives it by something that a GitLab user can choose.
pub fn is_pinned(policy: &Policy, rule: &Rule, subject: &Subject, account: &str) -> bool {
    let by_choice = match &rule.outcome {
        RuleOutcome::RunAs(RunAs::Validated) => account == subject.user_login,
        _ => gives_by_choice(policy, rule),
    };
    policy.accounts.pinning != Pinning::Off && rule.pinning && by_choice
}

/// Whether the rule gives accounts by something that a GitLab user can choose: the login or the e-mail address. For a rule with
/// `$validated` it depends on the program's answer, so it may.
pub fn gives_by_choice(policy: &Policy, rule: &Rule) -> bool {
    match &rule.outcome {
        RuleOutcome::RunAs(RunAs::UserLogin | RunAs::Validated) => true,
        RuleOutcome::RunAs(RunAs::Map(name)) => {
            let key = policy.maps.get(name).map(|map| map.key);
            matches!(key, Some(MapKey::UserLogin | MapKey::UserEmail))
        }
        RuleOutcome::RunAs(RunAs::Identity { .. } | RunAs::Account(_)) | RuleOutcome::Deny(_) => false,
    }
}
