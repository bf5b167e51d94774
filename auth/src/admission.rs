//! The `config` stage: who the job belongs to, whether it may run, and as whom.

use crate::account::{self, ThisHost};
use crate::audit::{self, Event, Job, Outcome, Sinks};
use crate::context::Context;
use crate::identify;
use crate::nologin;
use crate::privilege::Privilege;
use crate::refusal::{Refusal, clean};
use crate::settings::Settings;
use crate::store::{Claim, Store, clocks, job_directory};
use nunbird_handover::{
    Account, Audit, FORMAT_VERSION, Identity, JobDirectory, Record, RuleRef, Shell, Syslog, Workspace,
};
use nunbird_policy::{AccountFacts, DEFAULT_AUDIT_FILE, IdentitySource, Rule, Subject, Verdict, decide};
use nunbird_sys::process;
use nunbird_token::{Admitted, Source, UserIdentity};
use std::path::{Path, PathBuf};

/// Admits the job: writes its audit line and its record.
///
/// # Errors
/// Every way in which the answer is no. Nothing but an audit line is left behind then.
pub(crate) fn admit(context: &mut Context<'_>, settings: &Settings) -> Result<Record, Refusal> {
    let privilege = context.privilege;
    let directory = job_directory(context.inputs.job_directory(), privilege)?;
    let store = Store::open(privilege)?;
    let admitted = identify::identify(context, settings)?;
    context.admitted = Some(admitted.clone());
    let (rule, target) = judge(&admitted, settings, privilege)?;
    if settings.policy.accounts.nologin {
        nologin::check(privilege)?;
    }
    let lock = store.lock()?;
    let server = settings.policy.gitlab.get(admitted.server).map_or("", |server| server.name.as_str());
    let claim = Claim { job_directory: &directory, server, job_id: admitted.job_id, uid: target.uid };
    let slot = store.free_slot(&claim, &lock)?;
    let record = record(context, settings, &admitted, rule, &target, directory, slot)?;
    write_admission(context, settings, &record)?;
    store.write(&record, &lock)?;
    Ok(record)
}

/// The policy's word: the rule that decided, and the account.
fn judge<'p>(
    admitted: &Admitted,
    settings: &'p Settings,
    privilege: Privilege,
) -> Result<(&'p Rule, AccountFacts), Refusal> {
    let server = settings.policy.gitlab.get(admitted.server).map(|server| server.name.clone());
    let Some(server) = server else {
        let message = "the job's identity could not be checked on this host";
        return Err(Refusal::system("worker", message, "the worker named a server that is not configured"));
    };
    let subject = subject(admitted, server);
    let host = ThisHost::new(privilege);
    match decide(&settings.policy, &subject, &host, privilege.caller.uid).verdict {
        Verdict::Admitted { rule, account } => Ok((rule, account)),
        Verdict::DeniedByRule { rule, message } => {
            let text = format!("this job may not run here: {message}");
            Err(Refusal::denied("rule", text, format!("rule `{}` at {}", rule.name, rule.place)))
        }
        Verdict::DeniedAccount { rule, account, violation } => {
            let refusal = account::refuse(&account, &violation);
            let detail = format!("rule `{}` at {}: {}", rule.name, rule.place, refusal.detail);
            Err(Refusal { detail: clean(&detail), ..refusal })
        }
        Verdict::DeniedBot => {
            let message = "this job was started by a bot of GitLab, and only people's jobs run here";
            Err(Refusal::denied(
                "bot",
                message,
                format!("login `{}`; accounts.allow_bots is false", admitted.user_login),
            ))
        }
        Verdict::NoRule => {
            let message = "this job may not run here: no rule of this site admits it";
            Err(Refusal::denied(
                "no-rule",
                message,
                format!("none of {} rules fits", settings.policy.rules.len()),
            ))
        }
        Verdict::Failed(trouble) => Err(account::unanswered(&trouble)),
    }
}

/// What rules may ask about the job.
fn subject(admitted: &Admitted, server: String) -> Subject {
    let identity = |identity: &UserIdentity| (identity.provider.clone(), identity.extern_uid.clone());
    Subject {
        server,
        source: source(admitted),
        user_login: admitted.user_login.clone(),
        user_id: admitted.user_id,
        user_email: admitted.user_email.clone(),
        access_level: admitted.access_level.clone(),
        groups: admitted.groups.clone(),
        identities: admitted.identities.iter().map(identity).collect(),
        project_path: admitted.project_path.clone(),
        project_id: admitted.project_id,
        namespace_path: admitted.namespace_path.clone(),
        git_ref: admitted.git_ref.clone(),
        ref_type: admitted.ref_type.clone(),
        ref_protected: admitted.ref_protected,
        pipeline_source: admitted.pipeline_source.clone(),
        environment: admitted.environment.clone(),
        environment_protected: admitted.environment_protected,
        runner_id: admitted.runner_id,
        validated: None,
    }
}

fn source(admitted: &Admitted) -> IdentitySource {
    match admitted.source {
        Source::IdToken => IdentitySource::IdToken,
        Source::JobToken => IdentitySource::JobToken,
    }
}

fn record(
    context: &Context<'_>,
    settings: &Settings,
    admitted: &Admitted,
    rule: &Rule,
    entry: &AccountFacts,
    job_directory: JobDirectory,
    slot: u16,
) -> Result<Record, Refusal> {
    let policy = &settings.policy;
    let (now, boottime) = clocks()?;
    let expires_at = admitted.expires_at.saturating_add(policy.identity.late_stages);
    let (job, directories) = policy.job_of(rule);
    let data_dir = data_dir(&directories.data_dir, &entry.name, &entry.home)?;
    let builds_dir = data_dir.join(format!("builds/{}/{slot:03}", process::short_host_name()));
    let server = policy.gitlab.get(admitted.server).map(|s| s.name.clone()).unwrap_or_default();
    Ok(Record {
        version: FORMAT_VERSION,
        decision_id: context.decision_id.clone(),
        job_id: admitted.job_id,
        pipeline_id: admitted.pipeline_id,
        project_id: admitted.project_id,
        identity: Identity {
            server,
            user_login: admitted.user_login.clone(),
            user_id: admitted.user_id,
            project_path: admitted.project_path.clone(),
        },
        rule: RuleRef { name: rule.name.clone(), file: rule.place.file.clone(), line: rule.place.line },
        policy_path: policy.file.clone(),
        policy_digest: settings.digest.clone(),
        account: Account {
            name: entry.name.clone(),
            uid: entry.uid,
            gid: entry.gid,
            home: entry.home.clone(),
            shell: entry.shell.clone(),
        },
        min_uid: policy.accounts.min_uid,
        runner_uid: context.privilege.caller.uid,
        job_directory,
        admitted_at: now,
        expires_at,
        expires_at_boottime: boottime.saturating_add(expires_at.saturating_sub(now)),
        slot,
        workspace: Workspace {
            project_dir: builds_dir.join(&admitted.project_dir),
            cache_dir: data_dir.join("cache"),
            builds_dir,
            data_dir,
        },
        shell: Shell { path: job.shell.clone(), login: job.login_shell },
        launcher: job.launcher.clone(),
        isolation: job.isolation,
        environment: job.environment.clone(),
        identity_source: source(admitted).name().to_owned(),
        audit: destinations(settings),
        closed: false,
    })
}

/// The configured directory with `$HOME` and `$USER` filled in.
///
/// gitlab-runner writes paths below it into scripts inside double quotes, where a `$` or a backquote in a
/// home directory would run.
fn data_dir(template: &str, user: &str, home: &Path) -> Result<PathBuf, Refusal> {
    let refuse = || {
        let detail = format!(
            "home directory {} of `{user}` has characters that a shell would interpret",
            home.display()
        );
        Refusal::system("home", "your home directory on this host cannot hold CI jobs", detail)
    };
    let home = home.to_str().ok_or_else(refuse)?;
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+' | '@' | ',' | '=' | ':');
    let path = template.replace("$HOME", home.trim_end_matches('/')).replace("$USER", user);
    if path.starts_with('/') && path.chars().all(plain) { Ok(PathBuf::from(path)) } else { Err(refuse()) }
}

/// Where the configuration sends events.
fn destinations(settings: &Settings) -> Audit {
    let audit = &settings.policy.audit;
    Audit {
        file: audit.file.clone(),
        journald: audit.journald,
        syslog: audit.syslog.as_ref().map(|syslog| match syslog {
            nunbird_policy::Syslog::Local => Syslog::Local,
            nunbird_policy::Syslog::Udp(address) => Syslog::Udp(*address),
            nunbird_policy::Syslog::Tcp(address) => Syslog::Tcp(*address),
        }),
        required: audit.required,
    }
}

fn write_admission(context: &mut Context<'_>, settings: &Settings, record: &Record) -> Result<(), Refusal> {
    context.record = Some(record.clone());
    let job = context.admitted.as_ref().map(|admitted| facts(admitted, settings));
    let event = Event { job, ..Event::of(context, Outcome::Admitted) };
    audit::demand(&Sinks::open(&record.audit, context.privilege), &event, context)
}

/// Writes down that a job was denied, and gives the refusal back. Where that fails the refusal says so, too.
///
/// Without settings the line goes where a packaged installation has it: the admin must learn why a broken
/// configuration denies every job.
pub(crate) fn write_denial(context: &Context<'_>, settings: Option<&Settings>, refusal: Refusal) -> Refusal {
    let default = context.privilege.source.is_privileged().then(|| PathBuf::from(DEFAULT_AUDIT_FILE));
    let default = Audit { file: default, ..Audit::default() };
    let destinations = settings.map_or(default, destinations);
    let event = Event {
        code: Some(refusal.code),
        detail: Some(&refusal.detail),
        job: context.admitted.as_ref().zip(settings).map(|(admitted, settings)| facts(admitted, settings)),
        policy_digest: settings.map(|settings| settings.digest.as_str()),
        ..Event::of(context, Outcome::Denied)
    };
    let written_down = Sinks::open(&destinations, context.privilege).write(&event, true);
    written(written_down, refusal)
}

/// Writes down that a later stage of an admitted job was refused, and gives the refusal back. The decision's id leads to
/// the event that admitted the job.
pub(crate) fn write_late_denial(context: &Context<'_>, refusal: Refusal) -> Refusal {
    let event = Event {
        code: Some(refusal.code),
        detail: Some(&refusal.detail),
        ..Event::of(context, Outcome::Denied)
    };
    let written_down = context.sinks.write(&event, true);
    written(written_down, refusal)
}

/// The refusal, which says so where it could not be written down.
fn written(result: Result<(), String>, refusal: Refusal) -> Refusal {
    match result {
        Ok(()) => refusal,
        Err(troubles) => {
            let detail = format!("{}\n(not written down: {})", refusal.detail, clean(&troubles));
            Refusal { detail, ..refusal }
        }
    }
}

fn facts<'a>(admitted: &'a Admitted, settings: &'a Settings) -> Job<'a> {
    Job {
        server: settings.policy.gitlab.get(admitted.server).map_or("", |server| server.name.as_str()),
        job_id: admitted.job_id,
        pipeline_id: admitted.pipeline_id,
        project_id: admitted.project_id,
        project_path: &admitted.project_path,
        user_login: &admitted.user_login,
        user_id: admitted.user_id,
        identity_source: source(admitted).name(),
        git_ref: Some(&admitted.git_ref),
        pipeline_source: admitted.pipeline_source.as_deref(),
    }
}
