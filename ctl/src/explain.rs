//! One decision, rule by rule, condition by condition.

use crate::arguments::Explain;
use crate::host::{self, ThisHost};
use crate::output::{Colour, DENIED, FAILURE, Format, OK, Trouble, paint, print, print_json};
use crate::{claims, files, token};
use nunbird_handover::Untrusted;
use nunbird_policy::{
    AccountFacts, Decision, Host, Mismatch, Policy, Rule, Subject, Verdict, decide, explain_rule,
};
use serde_json::{Value, json};
use std::fmt::Write;

pub(crate) fn run(options: &Explain, format: Format) -> Result<u8, Trouble> {
    let policy = files::read(&options.configuration.configuration, format)?.policy;
    let (mut subject, signature) = subject(options, &policy)?;
    if options.validated.is_some() {
        subject.validated.clone_from(&options.validated);
    }
    let host = ThisHost::default();
    let caller = host::runner(&policy, &options.runner.runner_user);
    let decision = decide(&policy, &subject, &host, caller);
    match format {
        Format::Text => {
            let mut text = signature.map(|line| format!("{line}\n\n")).unwrap_or_default();
            text.push_str(&trace(&policy, &decision, &subject, &host)?);
            text.push_str(&verdict(&policy, &decision));
            if policy.validation.is_some() && subject.validated.is_none() {
                text.push_str(
                    "note: a validation program is configured; say what it would answer with --validated\n",
                );
            }
            print(&text)?;
        }
        Format::Json => print_json(&machine(&policy, &decision, &subject, &host, signature)?)?,
    }
    Ok(code(&decision))
}

/// The exit code of a decision.
pub(crate) fn code(decision: &Decision<'_>) -> u8 {
    match decision.verdict {
        Verdict::Admitted { .. } => OK,
        Verdict::Failed(_) => FAILURE,
        _ => DENIED,
    }
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

fn place(rule: &Rule) -> String {
    Untrusted(&rule.place.to_string()).to_string()
}

/// The answer in words.
fn verdict(policy: &Policy, decision: &Decision<'_>) -> String {
    match &decision.verdict {
        Verdict::Admitted { rule, account } => {
            let admitted = paint(Colour::Green, "admitted");
            let (name, place) = (Untrusted(&rule.name), place(rule));
            format!("{admitted} by `{name}` at {place}\n{}", result(policy, rule, account))
        }
        Verdict::Failed(trouble) => format!("undecided: {}\n", Untrusted(&trouble.detail)),
        _ => format!("{}: {}\n", paint(Colour::Red, "denied"), denial(decision)),
    }
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
        Verdict::DeniedBot => "the login is a bot's, and accounts.allow_bots is false".to_owned(),
        Verdict::NoRule => "no rule fits".to_owned(),
        Verdict::Failed(trouble) => Untrusted(&trouble.detail).to_string(),
        Verdict::Admitted { .. } => String::new(),
    }
}

/// What the job would get.
fn result(policy: &Policy, rule: &Rule, account: &AccountFacts) -> String {
    let (job, directories) = policy.job_of(rule);
    let groups: Vec<String> = account.groups.iter().map(ToString::to_string).collect();
    let on = |flag: bool, name: &str| if flag { format!(" {name}") } else { String::new() };
    let isolation = [
        on(job.isolation.no_new_privileges, "no_new_privileges"),
        on(job.isolation.block_tty_injection, "block_tty_injection"),
        on(job.isolation.limit_setuid, "limit_setuid"),
    ]
    .concat();
    let rows = [
        ("account", format!("{} (uid {}, gid {})", account.name, account.uid, account.gid)),
        ("groups", groups.join(", ")),
        ("profile", rule.profile.clone().unwrap_or_else(|| "none: [job]".to_owned())),
        ("executor", "shell".to_owned()),
        ("shell", format!("{}{}", job.shell.display(), on(job.login_shell, "(login)"))),
        ("data_dir", data_dir(&directories.data_dir, account)),
        ("isolation", if isolation.is_empty() { "none".to_owned() } else { isolation.trim().to_owned() }),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<10} {}", Untrusted(&value));
    }
    text
}

fn data_dir(template: &str, account: &AccountFacts) -> String {
    template.replace("$HOME", &account.home.to_string_lossy()).replace("$USER", &account.name)
}

/// The decision for machines. Texts are as they came: JSON escapes what could deceive.
fn machine(
    policy: &Policy,
    decision: &Decision<'_>,
    subject: &Subject,
    host: &dyn Host,
    signature: Option<String>,
) -> Result<Value, Trouble> {
    let mut rules = Vec::new();
    for step in &decision.steps {
        let (predicates, account) =
            explain_rule(policy, step.rule, subject, host).map_err(|e| Trouble::new(e.detail))?;
        let predicates: Vec<Value> = predicates
            .iter()
            .map(|p| json!({"fact": p.condition.key(), "wanted": p.condition.wanted(), "seen": p.seen, "holds": p.holds}))
            .collect();
        rules.push(json!({
            "name": step.rule.name,
            "place": place(step.rule),
            "fits": step.failed.is_none(),
            "account": account,
            "conditions": predicates,
        }));
    }
    let mut answer = json!({
        "verdict": match decision.verdict {
            Verdict::Admitted { .. } => "admitted",
            Verdict::Failed(_) => "undecided",
            _ => "denied",
        },
        "rules": rules,
        "signature": signature,
    });
    let Some(fields) = answer.as_object_mut() else { return Ok(answer) };
    if let Verdict::Admitted { rule, account } = &decision.verdict {
        let (job, directories) = policy.job_of(rule);
        fields.insert("rule".to_owned(), json!(rule.name));
        fields.insert("account".to_owned(), json!(account.name));
        fields.insert("uid".to_owned(), json!(account.uid));
        fields.insert("gid".to_owned(), json!(account.gid));
        fields.insert("groups".to_owned(), json!(account.groups));
        fields.insert("profile".to_owned(), json!(rule.profile));
        fields.insert("executor".to_owned(), json!("shell"));
        fields.insert("shell".to_owned(), json!(job.shell));
        fields.insert("data_dir".to_owned(), json!(data_dir(&directories.data_dir, account)));
    } else {
        fields.insert("reason".to_owned(), json!(denial(decision)));
    }
    Ok(answer)
}
