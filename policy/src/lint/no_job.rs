//! Rules that seem to admit jobs, all of which an invariant then denies.

use super::Findings;
use crate::account::refuses_login;
use crate::{Dialect, Downscope, IdentitySource, MapKey, Policy, Rule, RuleOutcome, RunAs};

/// Reports why the rule admits no job, or only jobs of the runner's own account. False where it may admit others.
pub(super) fn look(policy: &Policy, rule: &Rule, findings: &mut Findings<'_>) -> bool {
    let RuleOutcome::RunAs(run_as) = &rule.outcome else { return false };
    let name = &rule.name;
    let shells = &policy.accounts.shells;
    if !shells.is_empty() && shells.iter().all(|shell| refuses_login(shell)) {
        let message = format!("rule `{name}` admits no job: every shell of `accounts.shells` refuses logins");
        findings.add(true, "no-job", message, "list the users' login shells, such as `/bin/bash`");
        return true;
    }
    if let RunAs::Account(account) = run_as
        && policy.accounts.deny.contains(account)
    {
        let message = format!("rule `{name}` admits no job: `accounts.deny` has `{account}`");
        findings.add(true, "no-job", message, "name another account, or remove it from `accounts.deny`");
        return true;
    }
    if !policy.identity.sources.contains(&IdentitySource::IdToken)
        && let Some(fact) = unproven(policy, run_as)
    {
        let message = format!(
            "rule `{name}` admits no job: it looks the account up by {fact}, which no job token proves"
        );
        findings.add(true, "no-job", message, "add `id_token` to `identity.sources`");
        return true;
    }
    if policy.downscope == Downscope::None && !matches!(run_as, RunAs::Account(_)) {
        own_account(policy, rule, findings);
        return true;
    }
    false
}

/// The fact by which the account is looked up, where the answer to a job token does not have it.
fn unproven(policy: &Policy, run_as: &RunAs) -> Option<&'static str> {
    match run_as {
        RunAs::Identity { .. } => Some("an identity"),
        RunAs::Map(map) => {
            policy.maps.get(map).filter(|map| map.key == MapKey::UserEmail).map(|_| "an e-mail address")
        }
        _ => None,
    }
}

/// Without privilege the one account that a job can get is the runner's.
fn own_account(policy: &Policy, rule: &Rule, findings: &mut Findings<'_>) {
    let name = &rule.name;
    if policy.dialect == Dialect::Jacamar {
        findings.add(
            true,
            "no-job",
            format!(
                "rule `{name}` denies every job but those of the GitLab user whose login is the name of the account that runs \
                 gitlab-runner: with `downscope = \"none\"` Jacamar CI runs everybody's jobs as that account, and Nunbird gives \
                 it only to a rule that names it"
            ),
            "print Nunbird's own configuration with `nunbirdctl migrate`, and replace its rules by one such as `[[rule]]` \
             `name = \"shared\"` `when = { project = \"GROUP/**\" }` `run_as = \"ACCOUNT\"`, where ACCOUNT runs gitlab-runner; \
             `gitlab-runner` itself runs no jobs",
        );
        return;
    }
    findings.remark(
        "own-account",
        format!(
            "with `downscope = \"none\"` rule `{name}` admits only jobs that get the account which runs gitlab-runner, \
             and denies all others"
        ),
        "write `run_as = \"ACCOUNT\"` with conditions on users and projects, if others' jobs are to run as that account",
    );
}
