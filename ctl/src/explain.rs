//! One decision, rule by rule, condition by condition.

use crate::arguments::Explain;
use crate::as_admin::{AsAdmin, ValidationMode};
use crate::containers::JobContainer;
use crate::explain_job::{self, Admission, ConfigResult, Job as Known, JobVerdict};
use crate::host::group_name;
use crate::output::{Colour, CtlError, DENIED, FAILED, Format, OK, UNDECIDED, paint, print, print_json};
use crate::{explain_decision, files, limits};
use nunbird_handover::{Code, Untrusted};
use nunbird_judge::{Class, Refusal};
use nunbird_policy::{
    AccountFacts, DEFAULT_CONFIGURATION, Decision, Host, Job, Mismatch, Policy, Reading, Rule, Subject,
    Verdict, explain_rule,
};
use std::fmt::Write;
use std::path::Path;

pub(crate) fn run(options: &Explain, format: Format) -> Result<u8, CtlError> {
    let reading = files::read(&options.configuration.configuration, format)?;
    let policy = &reading.policy;
    let digest = nunbird_judge::files::digest_of(&files::sources(&options.configuration.configuration)?);
    let which = &options.job;
    if options.run_validation && !nix::unistd::geteuid().is_root() {
        return Err(CtlError::new("--run-validation: only root may run the validation program"));
    }
    let (job, past) = match (&which.claims, &which.token, &which.job, &which.decision) {
        (Some(file), ..) => (Some(Known::from_claims(file, policy)?), None),
        (_, Some(file), ..) => (Some(Known::from_token(file)?), None),
        (_, _, Some(file), _) => (Some(Known::from_response(file)?), None),
        (.., Some(id)) => {
            let past = explain_decision::find(id, options.log.as_deref(), policy)?;
            (past.claims().map(Known::Claims), Some(past))
        }
        _ => return Err(CtlError::new("name --claims, --token, --job or --decision")),
    };
    let runner = options.runner.runner_user.as_str();
    let ask = match &options.validated {
        Some(name) => ValidationMode::Answer(name.clone()),
        None if options.run_validation => ValidationMode::Run,
        None => past
            .as_ref()
            .and_then(explain_decision::PastDecision::validated)
            .map_or(ValidationMode::Unprivileged, ValidationMode::Answer),
    };
    let judged = match &job {
        Some(job) => explain_job::judge(policy, job, runner, ask)?,
        None => JobVerdict::of(ConfigResult::Undecided(vec![
            "the job was refused before its identity was known, so there are no claims to judge".to_owned(),
        ])),
    };
    let mut judged = judged;
    if let Some(refusal) = unusable(options, policy, runner) {
        judged.answer = ConfigResult::Refused(refusal);
    }
    let means = AsAdmin::new(policy, runner, Vec::new(), ValidationMode::Unprivileged);
    let explained = Explanation { reading: &reading, judged: &judged };
    match format {
        Format::Text => {
            let mut text = past.as_ref().map(|past| past.text(&digest)).unwrap_or_default();
            text.push_str(&explained.text(nunbird_judge::Means::host(&means))?);
            print(&text)?;
        }
        Format::Json => {
            let mut answer = explained.machine(nunbird_judge::Means::host(&means))?;
            if let (Some(past), Some(fields)) = (&past, answer.as_object_mut()) {
                fields.insert("decision".to_owned(), past.machine(&digest));
            }
            print_json(&answer)?;
        }
    }
    Ok(explained.code())
}

/// What would become of a job with this id token, as text, and the exit code for it. The job itself is not known.
pub(crate) fn of_token(reading: &Reading, token: &Path, runner: &str) -> Result<(u8, String), CtlError> {
    let policy = &reading.policy;
    let job = Known::from_token(token)?;
    let judged = explain_job::judge(policy, &job, runner, ValidationMode::Unprivileged)?;
    let means = AsAdmin::new(policy, runner, Vec::new(), ValidationMode::Unprivileged);
    let explained = Explanation { reading, judged: &judged };
    Ok((explained.code(), explained.text(nunbird_judge::Means::host(&means))?))
}

/// Why `nunbird-auth` would not read the installed configuration. A draft elsewhere need not belong
/// to root yet.
fn unusable(options: &Explain, policy: &Policy, runner: &str) -> Option<Refusal> {
    let file = &options.configuration.configuration;
    if file != Path::new(DEFAULT_CONFIGURATION) {
        return None;
    }
    let rights = AsAdmin::new(policy, runner, Vec::new(), ValidationMode::Unprivileged).rights;
    let more = files::more(file).unwrap_or_default();
    let refused = std::iter::once(file)
        .chain(&more)
        .find_map(|file| nunbird_host::files::read_bytes(file, rights).err());
    refused.map(|why| {
        Refusal::system(Code::ConfigurationFile, "Nunbird's configuration on this host cannot be used", why)
    })
}

/// A job, and all that is known of its result.
pub(crate) struct Explanation<'a> {
    pub(crate) reading: &'a Reading,
    pub(crate) judged: &'a JobVerdict<'a>,
}

impl Explanation<'_> {
    fn code(&self) -> u8 {
        match &self.judged.answer {
            ConfigResult::Admitted(_) => OK,
            ConfigResult::Refused(refusal) if refusal.class == Class::Denied => DENIED,
            ConfigResult::Refused(_) => FAILED,
            ConfigResult::Undecided(_) => UNDECIDED,
        }
    }

    fn text(&self, host: &dyn Host) -> Result<String, CtlError> {
        let mut text = self.judged.signature.as_ref().map(|line| format!("{line}\n\n")).unwrap_or_default();
        if let Some(course) = &self.judged.course
            && let Some(decision) = &course.decision
        {
            text.push_str(&trace(&self.reading.policy, decision, &course.subject, host)?);
        }
        text.push_str(&self.verdict());
        for note in &self.judged.notes {
            let _ = writeln!(text, "note: {}", Untrusted(note));
        }
        Ok(text)
    }

    /// The answer as text.
    fn verdict(&self) -> String {
        match &self.judged.answer {
            ConfigResult::Admitted(admission) => {
                let admitted = paint(Colour::Green, "admitted");
                let (name, place) = (Untrusted(&admission.rule.name), place(admission.rule));
                format!("{admitted} by `{name}` at {place}\n{}", self.result(admission))
            }
            ConfigResult::Refused(refusal) => {
                let word = if refusal.class == Class::Denied { "denied" } else { "failed" };
                let Refusal { code, message, detail, help, .. } = refusal;
                let mut text = format!("{} [{code}]: {}\n", paint(Colour::Red, word), Untrusted(message));
                if let Some((rule, place)) = self.decided_by() {
                    let _ = writeln!(text, "  by `{}` at {place}", Untrusted(&rule));
                }
                for line in detail.lines().filter(|line| !line.is_empty()) {
                    let _ = writeln!(text, "  {}", Untrusted(line));
                }
                let _ = writeln!(text, "  help for the user: {}", Untrusted(help));
                text
            }
            ConfigResult::Undecided(unchecked) => unchecked.iter().fold(String::new(), |text, what| {
                text + &format!("{}: {}\n", paint(Colour::Yellow, "undecided"), Untrusted(what))
            }),
        }
    }

    /// Name and place of the rule that decided.
    pub(crate) fn decided_by(&self) -> Option<(String, String)> {
        let decision = self.judged.course.as_ref()?.decision.as_ref()?;
        let step = decision.steps.last().filter(|step| step.failed.is_none())?;
        Some((step.rule.name.clone(), place(step.rule)))
    }

    /// What the job would get.
    fn result(&self, admission: &Admission<'_>) -> String {
        let Admission { rule, account, data_dir, container } = admission;
        let (job, _) = self.reading.policy.job_of(rule);
        let isolation = isolation(job);
        let login = if job.login_shell { " (login)" } else { "" };
        let rows = [
            ("account", format!("{} (uid {}, gid {})", account.name, account.uid, account.gid)),
            ("groups", groups(account)),
            ("profile", rule.profile.clone().unwrap_or_else(|| "none: [job]".to_owned())),
            ("executor", job.executor.name().to_owned()),
            ("shell", format!("{}{login}", job.shell.display())),
            ("data_dir", data_dir.display().to_string()),
            ("isolation", if isolation.is_empty() { "none".to_owned() } else { isolation.join(", ") }),
        ];
        let container = container.as_ref().map(JobContainer::rows).unwrap_or_default();
        let limits = limits::lines(self.reading, rule);
        let names = std::iter::once("limits").chain(std::iter::repeat(""));
        rows.into_iter()
            .chain(container)
            .chain(names.zip(limits))
            .fold(String::new(), |text, (name, value)| {
                text + &format!("  {name:<10} {}\n", Untrusted(&value))
            })
    }
}

/// The account's groups, each with its name if the host knows one.
fn groups(account: &AccountFacts) -> String {
    let named =
        |gid: &u32| group_name(*gid).map_or_else(|| gid.to_string(), |name| format!("{name} ({gid})"));
    account.groups.iter().map(named).collect::<Vec<_>>().join(", ")
}

/// The restrictions of the job, by the configuration's keys.
pub(crate) fn isolation(job: &Job) -> Vec<&'static str> {
    let taken = [
        (job.isolation.no_new_privileges, "no_new_privileges"),
        (job.isolation.block_tty_injection, "block_tty_injection"),
        (job.isolation.limit_setuid, "limit_setuid"),
    ];
    taken.into_iter().filter_map(|(on, name)| on.then_some(name)).collect()
}

/// Every rule that was evaluated, with every condition and the value it saw.
pub(crate) fn trace(
    policy: &Policy,
    decision: &Decision<'_>,
    subject: &Subject,
    host: &dyn Host,
) -> Result<String, CtlError> {
    let mut text = String::new();
    for (index, step) in decision.steps.iter().enumerate() {
        let rule = step.rule;
        let fits = match step.failed {
            None => "fits",
            Some(Mismatch::Condition(_) | Mismatch::Exception(_)) => "does not fit",
            Some(Mismatch::NoAccount) => "does not fit: it has no account for this job",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>3}. {} ({}): {fits}", index + 1, Untrusted(&rule.name), place(rule));
        let (predicates, _) =
            explain_rule(policy, rule, subject, host).map_err(|e| CtlError::new(e.detail))?;
        for predicate in predicates {
            let mark = if predicate.fits { "yes" } else { "no " };
            let relation = if predicate.exception { "unless" } else { "wanted" };
            let key = predicate.condition.key();
            let wanted = predicate.condition.wanted().to_string();
            let seen =
                predicate.seen.map_or_else(|| "unknown".to_owned(), |seen| format!("`{}`", Untrusted(&seen)));
            let _ = writeln!(text, "       {mark}  {key} is {seen}, {relation} {}", Untrusted(&wanted));
        }
    }
    Ok(text)
}

pub(crate) fn place(rule: &Rule) -> String {
    rule.place.to_string()
}

/// Why the answer is no, as text.
pub(crate) fn denial(decision: &Decision<'_>) -> String {
    match &decision.verdict {
        Verdict::DeniedByRule { rule, message } => {
            format!("rule `{}` says: {}", Untrusted(&rule.name), Untrusted(message))
        }
        Verdict::DeniedAccount { rule, account, violation } => {
            let (name, account) = (Untrusted(&rule.name), Untrusted(account));
            format!("rule `{name}` gives `{account}`, which may not run jobs: {violation}")
        }
        Verdict::DeniedPin { rule, account, pinned } => {
            let name = Untrusted(&rule.name);
            let owner = match pinned {
                Some(user_id) => {
                    format!("which is bound to GitLab user id {user_id}, not to this job's user")
                }
                None => "which is not bound to a user, and accounts.pinning is \"known\"".to_owned(),
            };
            format!("rule `{name}` gives `{}`, {owner}", Untrusted(&account.name))
        }
        Verdict::DeniedUser { rule, violation } => {
            format!("rule `{}` does not admit this user: {violation}", Untrusted(&rule.name))
        }
        Verdict::NoRule => "no rule fits".to_owned(),
        Verdict::Failed(trouble) => Untrusted(&trouble.detail).to_string(),
        Verdict::Admitted { .. } => String::new(),
    }
}
