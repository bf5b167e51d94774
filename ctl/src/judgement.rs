//! The decision by the rules alone, for tests of the policy and for comparing two configurations.
//! `explain` judges the whole job.

use nunbird_policy::{Decision, Host, Policy, Subject, Verdict, decide};

/// The policy's decision.
///
/// With `validation.rules_first` a job whose login the rules refuse is refused before the program
/// is asked.
pub(crate) fn decision<'p>(
    policy: &'p Policy,
    subject: &Subject,
    host: &dyn Host,
    caller: u32,
) -> Decision<'p> {
    if policy.validation.as_ref().is_some_and(|validation| validation.rules_first) {
        let alone = Subject { validated: Some(subject.user_login.clone()), ..subject.clone() };
        let first = decide(policy, &alone, host, caller);
        if !matches!(first.verdict, Verdict::Admitted { .. }) {
            return first;
        }
    }
    decide(policy, subject, host, caller)
}
