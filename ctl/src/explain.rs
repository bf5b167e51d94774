//! One decision, rule by rule, condition by condition.

use crate::arguments::Explain;
use crate::host::{self, ThisHost};
use crate::judgement::{self, Outcome};
use crate::output::{Colour, DENIED, FAILURE, Format, OK, Trouble, paint, print, print_json};
use crate::{claims, files, limits, token};
use nunbird_handover::Untrusted;
use nunbird_policy::{
    AccountFacts, Decision, Host, Job, Mismatch, Policy, Reading, Rule, Subject, Verdict, explain_rule,
};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

pub(crate) fn run(options: &Explain, format: Format) -> Result<u8, Trouble> {
    let reading = files::read(&options.configuration.configuration, format)?;
    let policy = &reading.policy;
    let (mut subject, signature) = subject(options, policy)?;
    if options.validated.is_some() {
        subject.validated.clone_from(&options.validated);
    }
    let host = ThisHost::for_job(policy, &options.runner.runner_user, &subject);
    let caller = host::runner(policy, &options.runner.runner_user);
    let decision = judgement::decision(policy, &subject, &host, caller);
    let outcome = match &decision.verdict {
        Verdict::Admitted { rule, account } => Some(judgement::outcome(policy, rule, account, &subject)),
        _ => None,
    };
    let explained =
        Explained { reading: &reading, subject: &subject, decision: &decision, outcome: outcome.as_ref() };
    match format {
        Format::Text => {
            let mut text = signature.map(|line| format!("{line}\n\n")).unwrap_or_default();
            text.push_str(&trace(policy, &decision, &subject, &host)?);
            text.push_str(&explained.verdict());
            for note in outcome.iter().flat_map(|outcome| &outcome.notes) {
                let _ = writeln!(text, "note: {}", Untrusted(note));
            }
            print(&text)?;
        }
        Format::Json => print_json(&explained.machine(&host, signature)?)?,
    }
    Ok(explained.code())
}

/// A job, and all that is known of what comes of it.
pub(crate) struct Explained<'a> {
    pub(crate) reading: &'a Reading,
    pub(crate) subject: &'a Subject,
    pub(crate) decision: &'a Decision<'a>,
    pub(crate) outcome: Option<&'a Outcome>,
}

impl Explained<'_> {
    fn code(&self) -> u8 {
        match self.decision.verdict {
            Verdict::Admitted { .. } if self.reason().is_none() => OK,
            Verdict::Failed(_) => FAILURE,
            _ => DENIED,
        }
    }

    /// Why the answer is no; none where it is yes.
    pub(crate) fn reason(&self) -> Option<String> {
        match &self.decision.verdict {
            Verdict::Admitted { .. } => self.outcome.and_then(|outcome| outcome.denial.clone()),
            _ => Some(denial(self.decision)),
        }
    }

    /// The answer in words.
    fn verdict(&self) -> String {
        match (&self.decision.verdict, self.reason()) {
            (Verdict::Failed(_), Some(reason)) => format!("undecided: {reason}\n"),
            (Verdict::Admitted { rule, account }, None) => {
                let admitted = paint(Colour::Green, "admitted");
                let (name, place) = (Untrusted(&rule.name), place(rule));
                format!("{admitted} by `{name}` at {place}\n{}", self.result(rule, account))
            }
            (_, reason) => {
                // Already made safe, but for what a home directory is called.
                let reason = reason.unwrap_or_default();
                let safe = if self.outcome.is_some() { Untrusted(&reason).to_string() } else { reason };
                format!("{}: {safe}\n", paint(Colour::Red, "denied"))
            }
        }
    }

    /// What the job would get.
    fn result(&self, rule: &Rule, account: &AccountFacts) -> String {
        let (job, _) = self.reading.policy.job_of(rule);
        let groups: Vec<String> = account.groups.iter().map(ToString::to_string).collect();
        let isolation = isolation(job);
        let data_dir = self.outcome.and_then(|outcome| outcome.data_dir.as_deref()).unwrap_or(Path::new(""));
        let login = if job.login_shell { " (login)" } else { "" };
        let rows = [
            ("account", format!("{} (uid {}, gid {})", account.name, account.uid, account.gid)),
            ("groups", groups.join(", ")),
            ("profile", rule.profile.clone().unwrap_or_else(|| "none: [job]".to_owned())),
            ("executor", job.executor.name().to_owned()),
            ("shell", format!("{}{login}", job.shell.display())),
            ("data_dir", data_dir.display().to_string()),
            ("isolation", if isolation.is_empty() { "none".to_owned() } else { isolation.join(", ") }),
        ];
        let limits = limits::lines(self.reading, rule);
        let names = std::iter::once("limits").chain(std::iter::repeat(""));
        rows.into_iter().chain(names.zip(limits)).fold(String::new(), |text, (name, value)| {
            text + &format!("  {name:<10} {}\n", Untrusted(&value))
        })
    }
}

/// What is taken away from the job, by the configuration's keys.
pub(crate) fn isolation(job: &Job) -> Vec<&'static str> {
    let taken = [
        (job.isolation.no_new_privileges, "no_new_privileges"),
        (job.isolation.block_tty_injection, "block_tty_injection"),
        (job.isolation.limit_setuid, "limit_setuid"),
    ];
    taken.into_iter().filter_map(|(on, name)| on.then_some(name)).collect()
}

fn subject(options: &Explain, policy: &Policy) -> Result<(Subject, Option<String>), Trouble> {
    let which = &options.job;
    if let Some(file) = &which.claims {
        let text = files::text(file)?;
        let value: Value = serde_json::from_str(&text).map_err(|e| {
            Trouble::new(format!("{}:{}:{}: no JSON: {e}", file.display(), e.line(), e.column()))
        })?;
        let subject =
            claims::named(&value, policy).map_err(|e| Trouble::new(format!("{}: {e}", file.display())))?;
        return Ok((subject, None));
    }
    let said = match (&which.token, &which.job) {
        (Some(file), _) => token::from_file(file, policy)?,
        (None, Some(file)) => token::from_response(file, policy)?,
        (None, None) => return Err(Trouble::new("name --claims, --token or --job")),
    };
    let subject = claims::read(&said.claims, policy).map_err(|e| Trouble::new(format!("the token: {e}")))?;
    Ok((subject, Some(said.signature)))
}

/// Every rule that was looked at, with every condition and the value it saw.
pub(crate) fn trace(
    policy: &Policy,
    decision: &Decision<'_>,
    subject: &Subject,
    host: &dyn Host,
) -> Result<String, Trouble> {
    let mut text = String::new();
    for (index, step) in decision.steps.iter().enumerate() {
        let rule = step.rule;
        let fits = match step.failed {
            None => "fits",
            Some(Mismatch::Condition(_)) => "does not fit",
            Some(Mismatch::NoAccount) => "does not fit: it has no account for this job",
        };
        // A String takes everything.
        let _ = writeln!(text, "{:>3}. {} ({}): {fits}", index + 1, Untrusted(&rule.name), place(rule));
        let (predicates, _) =
            explain_rule(policy, rule, subject, host).map_err(|e| Trouble::new(e.detail))?;
        for predicate in predicates {
            let mark = if predicate.holds { "yes" } else { "no " };
            let key = predicate.condition.key();
            let wanted = predicate.condition.wanted();
            let seen = predicate
                .seen
                .map_or_else(|| "not told".to_owned(), |seen| format!("`{}`", Untrusted(&seen)));
            let _ = writeln!(text, "       {mark}  {key} is {seen}, wanted {}", Untrusted(&wanted));
        }
    }
    Ok(text)
}

pub(crate) fn place(rule: &Rule) -> String {
    rule.place.to_string()
}

/// Why the answer is no, in words.
pub(crate) fn denial(decision: &Decision<'_>) -> String {
    match &decision.verdict {
        Verdict::DeniedByRule { rule, message } => {
            format!("rule `{}` says: {}", Untrusted(&rule.name), Untrusted(message))
        }
        Verdict::DeniedAccount { rule, account, violation } => {
            let (name, account) = (Untrusted(&rule.name), Untrusted(account));
            format!("rule `{name}` gives `{account}`, which no job may become: {violation}")
        }
        Verdict::DeniedPin { rule, account, pinned } => {
            let name = Untrusted(&rule.name);
            let owner = match pinned {
                Some(user_id) => format!("which belongs to GitLab user id {user_id}, not to this job's user"),
                None => "which nobody is known for, and accounts.pinning is \"known\"".to_owned(),
            };
            format!("rule `{name}` gives `{}`, {owner}", Untrusted(&account.name))
        }
        Verdict::DeniedBot => "the login is a bot's, and accounts.allow_bots is false".to_owned(),
        Verdict::NoRule => "no rule fits".to_owned(),
        Verdict::Failed(trouble) => Untrusted(&trouble.detail).to_string(),
        Verdict::Admitted { .. } => String::new(),
    }
}
