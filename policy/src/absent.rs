//! Whether a job fits no rule only because its user has no account on this host.
//!
//! A condition about the account (`local_group`, `uid`, `shell`) does not hold where there is no account, so the job would be
//! refused as one that no rule admits, and its user would look for the cause in the project. The answer is about the user's
//! own login alone: whether another name is an account of this host is not revealed.

use crate::host::{Host, HostError};
use crate::{Policy, Rule, RuleOutcome, RunAs, Subject, check_name};

/// The first rule that would admit the job if only the user's account existed.
///
/// # Errors
/// When the host does not answer.
pub(crate) fn rule_for_absent_account<'p>(
    policy: &'p Policy,
    subject: &Subject,
    host: &dyn Host,
) -> Result<Option<&'p Rule>, HostError> {
    let login = &subject.user_login;
    if check_name(login).is_err() {
        return Ok(None);
    }
    for rule in policy.rules.iter().filter(|rule| gives_own_account(rule, subject)) {
        if needs_account(rule, subject, host)? && host.account(login)?.is_none() {
            return Ok(Some(rule));
        }
    }
    Ok(None)
}

fn gives_own_account(rule: &Rule, subject: &Subject) -> bool {
    match &rule.outcome {
        RuleOutcome::RunAs(RunAs::UserLogin) => true,
        RuleOutcome::RunAs(RunAs::Validated) => subject.validated.as_ref() == Some(&subject.user_login),
        _ => false,
    }
}

/// Whether all that keeps the job from the rule is a condition that no absent account fulfils.
fn needs_account(rule: &Rule, subject: &Subject, host: &dyn Host) -> Result<bool, HostError> {
    let mut needed = false;
    let conditions = rule.conditions.iter().map(|condition| (condition, true));
    for (condition, wanted) in conditions.chain(rule.exceptions.iter().map(|exception| (exception, false))) {
        let (holds, absence_counts) = match condition.holds(subject) {
            Ok(holds) => (holds, false),
            Err(local) => (local.holds(&subject.user_login, host)?, local.needs_existing_account()),
        };
        match holds {
            Some(holds) if holds == wanted => {}
            None if absence_counts => needed = true,
            Some(_) | None => return Ok(false),
        }
    }
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use crate::made_up::{MadeUp, account, subject};
    use crate::{Policy, Subject, Verdict, Violation, decide};
    use std::path::Path;

    /// The code that the program would print, and the account of a denial.
    fn verdict(rules: &str, subject: &Subject, host: &MadeUp) -> String {
        let head = "[[gitlab]]\nname = \"main\"\nurl = \"https://g.example\"\naudience = \"a\"\n\
                    [map.m]\nfile = \"/etc/map\"\n";
        let policy = Policy::parse(Path::new("/p.toml"), &format!("{head}{rules}"))
            .unwrap_or_else(|e| panic!("{e:?}"));
        match decide(&policy, subject, host, 990).verdict {
            Verdict::NoRule => "no-rule".to_owned(),
            Verdict::DeniedAccount { account, violation: Violation::Missing, .. } => {
                format!("account {account}")
            }
            other => format!("{other:?}"),
        }
    }

    fn rule(when: &str, run_as: &str) -> String {
        format!("[[rule]]\nname = \"r\"\nwhen = {{ {when} }}\nrun_as = \"{run_as}\"\n")
    }

    #[test]
    fn a_user_without_an_account_reads_so_behind_every_condition_about_the_account() {
        let mut host = MadeUp::default().with(account("other", 5001));
        host.groups.insert("physics".to_owned(), 5001);
        let alice = subject();
        for when in ["local_group = \"physics\"", "uid = \"1000-9000\"", "shell = \"/bin/bash\""] {
            assert_eq!(
                verdict(&rule(when, "$user_login"), &alice, &host),
                format!("account {}", alice.user_login)
            );
        }
        // It would not help to have an account.
        let other_project = "local_group = \"physics\", project = \"none/such\"";
        assert_eq!(verdict(&rule(other_project, "$user_login"), &alice, &host), "no-rule");
        assert_eq!(
            verdict(&rule("account = \"x*\", uid = \"1000-9000\"", "$user_login"), &alice, &host),
            "no-rule"
        );
        assert_eq!(verdict(&rule("project = \"none/such\"", "$user_login"), &alice, &host), "no-rule");
        let unless = |exception: &str| {
            format!("{}unless = {{ {exception} }}\n", rule("uid = \"1000-9000\"", "$user_login"))
        };
        let without_account = format!("account {}", alice.user_login);
        assert_eq!(verdict(&unless("local_group = \"physics\""), &alice, &host), without_account);
        assert_eq!(verdict(&unless("project = \"none/such\""), &alice, &host), without_account);
        assert_eq!(verdict(&unless("project = \"**\""), &alice, &host), "no-rule");
        // The user has an account, which the condition does not admit.
        let host = host.with(account(&alice.user_login, 5002));
        assert_eq!(verdict(&rule("uid = \"7000\"", "$user_login"), &alice, &host), "no-rule");
    }

    #[test]
    fn nobody_learns_whether_another_name_is_an_account_here() {
        let alice = subject();
        for host in [MadeUp::default(), MadeUp::default().with(account("svc", 7))] {
            assert_eq!(verdict(&rule("uid = \"1000-9000\"", "svc"), &alice, &host), "no-rule");
            let validated = Subject { validated: Some("svc".to_owned()), ..alice.clone() };
            let program = "[validation]\nscript = \"/x\"\nuser = \"nunbird\"\n";
            let rules = format!("{program}{}", rule("uid = \"1000-9000\"", "$validated"));
            assert_eq!(verdict(&rules, &validated, &host), "no-rule");
        }
    }

    #[test]
    fn a_user_database_that_does_not_answer_is_no_answer() {
        let host = MadeUp { silent: true, ..MadeUp::default() };
        let said = verdict(&rule("uid = \"1000-9000\"", "$user_login"), &subject(), &host);
        assert!(said.starts_with("Failed"), "{said}");
    }
}
