//! `--as-rule NAME`: what a rule or a profile of the site's configuration sets for the jobs of GitLab's, for a job by hand.
//!
//! The configuration is read by the same reader, and images, services and the scheduler's settings are judged by the same functions as in
//! `nunbird-decide`. Whether the rule would admit the job, and as whom, is not looked at: the job is the caller's. What takes privilege is not
//! done, and said: control groups, filters of system calls, PAM sessions, another account's directory.

use crate::failure::{Failure, nearest};
use crate::job::{AskedImage, AskedService, Job};
use crate::surroundings::{scheduler_environment, service_variables};
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::getuid;
use nunbird_handover::{
    Account, Amounts, Batch, Container, Engine, MACHINES, PullPolicy, Rlimits, SiteRules, UNLIMITED,
    Untrusted,
};
use nunbird_judge::refusal::Refusal;
use nunbird_judge::{batch, containers};
use nunbird_policy::{
    AccountFacts, CONFIGURATIONS, DEFAULT_CONFIGURATION, Job as JobPolicy, Limits, Location, Policy, Rule,
    RuleOutcome, RunAs, SourceFile, conf_d,
};
use nunbird_stage::error::shown;
use nunbird_sys::{priority, process};
use nunbird_token::{AskedContainers, Containers};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The longest file of a configuration, in bytes.
const LONGEST: u64 = 4 << 20;
/// The most findings of a configuration that are printed.
const FINDINGS: usize = 5;
/// Stages of jobs by hand that a site's list of stages does not know.
const OWN_STAGES: [&str; 2] = ["get_sources", "step_shell"];

/// A rule of a site's.
#[derive(Debug)]
pub(crate) struct Site {
    policy: Policy,
    rule: Rule,
}

impl Site {
    /// Reads the configuration, and finds the rule or the profile of this name in it.
    ///
    /// # Errors
    /// For a configuration that cannot be read or used, and for an unknown name.
    pub(crate) fn read(name: &str, file: &Path) -> Result<Site, Failure> {
        let policy = Policy::of_files(&sources(file)?).map_err(|findings| {
            let mut failure = Failure::new(format!("the configuration {} is not valid", shown(file)));
            for finding in findings.iter().take(FINDINGS) {
                let text = finding.to_string();
                let lines: Vec<String> = text.lines().map(|line| Untrusted(line).to_string()).collect();
                failure = failure.help(lines.join("\n    "));
            }
            failure
                .help(format!("`nunbirdctl check --configuration {}` prints all that is wrong", shown(file)))
        })?;
        let found = policy.rules.iter().find(|rule| rule.name == name).cloned();
        let rule =
            found.or_else(|| policy.profiles.get(name).map(|profile| of_profile(name, &profile.place)));
        let Some(rule) = rule else { return Err(unknown(name, file, &policy)) };
        if let RuleOutcome::Deny(message) = &rule.outcome {
            let what = format!(
                "the rule `{}` at {} refuses jobs: {}",
                Untrusted(name),
                place(&rule),
                Untrusted(message)
            );
            return Err(Failure::new(what).help("name a rule that runs them"));
        }
        Ok(Site { policy, rule })
    }

    fn job(&self) -> &JobPolicy {
        self.policy.job_of(&self.rule).0
    }

    /// The rule with its place, for messages.
    pub(crate) fn name(&self) -> String {
        format!("`{}` at {}", Untrusted(&self.rule.name), place(&self.rule))
    }

    /// The shell of scripts.
    pub(crate) fn shell(&self) -> nunbird_handover::Shell {
        let job = self.job();
        nunbird_handover::Shell { path: job.shell.clone(), login: job.login_shell }
    }

    /// The variables of every job.
    pub(crate) fn environment(&self) -> std::collections::BTreeMap<String, String> {
        self.job().variables()
    }

    /// What else it says about stages.
    pub(crate) fn rules(&self) -> SiteRules {
        let job = self.job();
        let mut stages = job.stages.clone();
        if !stages.is_empty() {
            stages.extend(OWN_STAGES.map(str::to_owned));
        }
        let raised = job.raise_stack_limit.then_some(UNLIMITED);
        SiteRules {
            message: job.message.clone(),
            stages,
            stack: self.limits().and_then(|limits| limits.rlimits.stack).or(raised),
            ..SiteRules::default()
        }
    }

    fn limits(&self) -> Option<&Limits> {
        self.policy.limits_of(&self.rule)
    }

    /// The job's container, as the site allows it.
    ///
    /// # Errors
    /// What the site refuses, and what takes root.
    pub(crate) fn container(
        &self,
        job: &Job,
        image: Option<&str>,
        at: (&Account, &Path, &str),
    ) -> Result<Option<Container>, Failure> {
        let (account, data_dir, decision_id) = at;
        let facts = facts(account);
        let place = containers::Place { account: &facts, data_dir, decision_id };
        let asked = asked(job, image)?;
        let given = containers::of(&self.policy, &self.rule, &asked, &place)
            .map_err(|refusal| self.refused(&refusal))?;
        if let Some(unserved) = &given.unserved {
            let what = [
                unserved.image.as_ref().map(|_| "`image:`"),
                unserved.services.as_ref().map(|_| "`services:`"),
            ];
            let what: Vec<&str> = what.into_iter().flatten().collect();
            if !what.is_empty() {
                crate::run::say(&format!(
                    "remark: {} of the job: this site does not use them",
                    what.join(" and ")
                ));
            }
        }
        let Some(mut container) = given.container else { return Ok(None) };
        if matches!(&container.engine, Engine::Named(name) if name == MACHINES) {
            let what = format!(
                "[container.{}] of the rule is a booted machine, which takes root",
                Untrusted(&container.name)
            );
            return Err(Failure::new(what).help("--no-container runs the job with this host's software"));
        }
        for (service, asked) in container.services.iter_mut().zip(&job.services) {
            service.variables = service_variables(&job.public, &asked.variables, &job.values);
        }
        container.service_logs = job.values.get("CI_DEBUG_SERVICES") == Some("true");
        // Programs of the site's that have passwords of the site's runner.
        container.credential_helpers = nunbird_handover::CredentialHelpers::default();
        if container.stages.iter().all(|stage| stage != "step_*") && container.holds("build_script") {
            container.stages.push("step_shell".to_owned());
        }
        Ok(Some(container))
    }

    /// The scheduler of the job's stages.
    ///
    /// # Errors
    /// What the site refuses.
    pub(crate) fn batch(
        &self,
        job: &Job,
        data_dir: &Path,
        decision_id: &str,
    ) -> Result<Option<Batch>, Failure> {
        let directory = data_dir.join("batch").join(decision_id);
        let plan =
            batch::of(&self.policy, self.job(), directory, None).map_err(|refusal| self.refused(&refusal))?;
        let variable = |name: &str| {
            let value = job.values.get(name).filter(|value| !value.is_empty());
            Ok::<_, std::convert::Infallible>(value.map(str::to_owned))
        };
        let Some(plan) = plan else { return Ok(None) };
        let Ok(mut batch) = plan.with(variable);
        for (name, value) in scheduler_environment() {
            batch.environment.entry(name).or_insert(value);
        }
        Ok(Some(batch))
    }

    fn refused(&self, refusal: &Refusal) -> Failure {
        let mut failure = Failure::new(format!(
            "the rule `{}` at {} does not run this job: {} [{}]",
            Untrusted(&self.rule.name),
            place(&self.rule),
            Untrusted(&refusal.message),
            refusal.code
        ));
        for line in refusal.detail.lines().chain(refusal.help.lines()) {
            failure = failure.help(Untrusted(line).to_string());
        }
        failure
    }

    /// Gives this process, and so all that it starts, the limits that a process can give itself, and what is inherited else. Each line that is
    /// returned is about something that is not applied.
    pub(crate) fn limit(&self) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(limits) = self.limits() {
            let name = Untrusted(&limits.name).to_string();
            for (what, resource, soft, hard) in wanted(&limits.rlimits) {
                if let Err(why) = bound(resource, soft, hard) {
                    left.push(format!("`{what}` of [limits.{name}]: {why}"));
                }
            }
            if let Some(nice) = limits.standing.nice.filter(|nice| i32::from(*nice) != priority::nice())
                && let Err(e) = priority::set_nice(i32::from(nice))
            {
                left.push(format!("`nice` of [limits.{name}]: {e}"));
            }
            if let Some(score) = limits.standing.oom_score_adj
                && let Err(e) = priority::set_oom_score(score)
            {
                left.push(format!("`oom_score_adj` of [limits.{name}]: {e}"));
            }
            if limits.amounts != Amounts::default() || !limits.disks.is_empty() {
                left.push(format!(
                    "memory, processors, processes and disks of [limits.{name}]: a control group takes privilege"
                ));
            }
        }
        let isolation = &self.job().isolation;
        if isolation.no_new_privileges
            && let Err(e) = process::no_new_privileges()
        {
            left.push(format!("`no_new_privileges`: {e}"));
        }
        let own = [
            ("`block_tty_injection`", isolation.block_tty_injection),
            ("`limit_setuid`", isolation.limit_setuid),
            ("`[pam]`", self.policy.pam.is_some()),
            ("`data_dir`", self.policy.job_of(&self.rule).1.data_dir != "$HOME/.nunbird"),
        ];
        left.extend(
            own.iter()
                .filter(|(_, set)| *set)
                .map(|(what, _)| format!("{what}: only nunbird-auth does that")),
        );
        left
    }
}

/// A rule that has nothing but the profile.
fn of_profile(name: &str, place: &Location) -> Rule {
    Rule {
        name: name.to_owned(),
        place: place.clone(),
        conditions: Vec::new(),
        exceptions: Vec::new(),
        outcome: RuleOutcome::RunAs(RunAs::UserLogin),
        profile: Some(name.to_owned()),
        limits: None,
        pinning: false,
        bots: false,
        user_check: None,
    }
}

fn place(rule: &Rule) -> String {
    Untrusted(&rule.place.to_string()).to_string()
}

fn unknown(name: &str, file: &Path, policy: &Policy) -> Failure {
    let rules = policy.rules.iter().map(|rule| rule.name.as_str());
    let known: Vec<&str> = rules.chain(policy.profiles.keys().map(String::as_str)).collect();
    let failure = Failure::new(format!("{} has no rule and no profile `{}`", shown(file), Untrusted(name)));
    let failure = match nearest(name, known.iter().copied()) {
        Some(near) => failure.help(format!("the nearest name is `{}`", Untrusted(near))),
        None => failure,
    };
    let list = |names: Vec<&str>| {
        let shown: Vec<String> = names.into_iter().map(|name| format!("`{}`", Untrusted(name))).collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    };
    failure
        .help(format!("rules: {}", list(policy.rules.iter().map(|rule| rule.name.as_str()).collect())))
        .help(format!("profiles: {}", list(policy.profiles.keys().map(String::as_str).collect())))
}

/// The named file, the list that may name its server, and those of its `conf.d`, as nunbird-auth reads them.
fn sources(file: &Path) -> Result<Vec<SourceFile>, Failure> {
    let mut all = vec![source(file)?];
    let list = Path::new(CONFIGURATIONS);
    if file != Path::new(DEFAULT_CONFIGURATION) && list.exists() {
        all.push(source(list)?);
    }
    let mut more = Vec::new();
    if let Some(directory) = conf_d(file) {
        match fs::read_dir(&directory) {
            Ok(entries) => {
                for entry in entries {
                    more.push(entry.map_err(|e| unreadable(&directory, &e))?.path());
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(unreadable(&directory, &e)),
        }
    }
    more.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        name.ends_with(".toml") && !name.starts_with('.')
    });
    more.sort();
    for path in more {
        all.push(source(&path)?);
    }
    Ok(all)
}

fn unreadable(path: &Path, e: &io::Error) -> Failure {
    let failure = Failure::new(format!("cannot read the site's configuration {}: {e}", shown(path)));
    match e.kind() {
        io::ErrorKind::NotFound => failure.help("name the file by --configuration"),
        _ => failure
            .help("your site does not show it: ask its admins for a copy, and name that by --configuration")
            .help("or set what you need yourself: --executor, --image, --variable"),
    }
}

/// A file that names programs which run as this account: only root and this account may change it.
fn source(path: &Path) -> Result<SourceFile, Failure> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| unreadable(path, &e))?;
    let meta = file.metadata().map_err(|e| unreadable(path, &e))?;
    let refused = |why: String| {
        Failure::new(format!("refusing to use the configuration {}: {why}", shown(path)))
            .help("it names programs that run as you: copy it to a file of your own, and look at it")
    };
    if !meta.is_file() {
        return Err(refused("it is no regular file".to_owned()));
    }
    if meta.uid() != 0 && meta.uid() != getuid().as_raw() {
        return Err(refused(format!("it belongs to uid {}", meta.uid())));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(refused(format!("it has mode {:04o}, so others may change it", meta.mode() & 0o7777)));
    }
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(|e| unreadable(path, &e))?;
    if text.len() as u64 > LONGEST {
        return Err(refused(format!("it is longer than {LONGEST} bytes")));
    }
    Ok(SourceFile { path: path.to_owned(), text })
}

fn facts(account: &Account) -> AccountFacts {
    AccountFacts {
        name: account.name.clone(),
        uid: account.uid,
        gid: account.gid,
        groups: Vec::new(),
        home: account.home.clone(),
        shell: account.shell.clone(),
        name_of_uid: Some(account.name.clone()),
    }
}

/// What the job asks for, as the runner would say it.
fn asked(job: &Job, image: Option<&str>) -> Result<Containers, Failure> {
    let of_command_line = image.map(|name| nunbird_token::AskedImage {
        name: name.to_owned(),
        ..nunbird_token::AskedImage::default()
    });
    let of_job = || job.image.as_ref().map(asked_image).transpose();
    let image = match of_command_line {
        Some(image) => Some(image),
        None => of_job()?,
    };
    let services = job.services.iter().map(asked_service).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = services.iter().map(|service| service.image.name.as_str()).collect();
    Ok(Containers {
        image: image.as_ref().map(|image| image.name.clone()),
        services: (!names.is_empty()).then(|| names.join(", ")),
        steps: false,
        // Their values are filled in here, not by the judgement.
        asked: Ok(AskedContainers { image, services, public: Vec::new() }),
    })
}

fn asked_image(asked: &AskedImage) -> Result<nunbird_token::AskedImage, Failure> {
    let pull = asked.pull.iter().map(|word| match word.as_str() {
        "always" => Ok(PullPolicy::Always),
        "if-not-present" => Ok(PullPolicy::IfNotPresent),
        "never" => Ok(PullPolicy::Never),
        other => Err(Failure::new(format!("there is no pull policy `{}`", Untrusted(other)))
            .help("write always, if-not-present or never")),
    });
    Ok(nunbird_token::AskedImage {
        name: asked.name.clone(),
        // `[""]` is none.
        entrypoint: asked
            .entrypoint
            .as_ref()
            .map(|words| if words.iter().all(String::is_empty) { Vec::new() } else { words.clone() }),
        user: asked.user.clone(),
        platform: asked.platform.clone(),
        pull: pull.collect::<Result<_, _>>()?,
    })
}

fn asked_service(asked: &AskedService) -> Result<nunbird_token::AskedService, Failure> {
    let port = asked.variables.iter().find(|(name, _)| *name == "HEALTHCHECK_TCP_PORT");
    Ok(nunbird_token::AskedService {
        image: asked_image(&asked.image)?,
        aliases: asked.aliases.clone(),
        command: asked.command.clone(),
        ports: port
            .and_then(|(_, variable)| variable.value.parse().ok())
            .filter(|port| *port != 0)
            .into_iter()
            .collect(),
        variables: Vec::new(),
    })
}

/// The limits of processes that are set: key, resource, soft, hard; none for the hard one that there is.
fn wanted(limits: &Rlimits) -> Vec<(&'static str, Resource, Option<u64>, Option<u64>)> {
    let alike = [
        ("nofile", Resource::RLIMIT_NOFILE, limits.nofile),
        ("nproc", Resource::RLIMIT_NPROC, limits.nproc),
        ("fsize", Resource::RLIMIT_FSIZE, limits.fsize),
        ("core", Resource::RLIMIT_CORE, limits.core),
        ("memlock", Resource::RLIMIT_MEMLOCK, limits.memlock),
        ("as", Resource::RLIMIT_AS, limits.address_space),
        ("cpu_time", Resource::RLIMIT_CPU, limits.cpu_time),
    ];
    let mut all: Vec<_> = alike
        .into_iter()
        .filter_map(|(key, resource, value)| value.map(|value| (key, resource, Some(value), Some(value))))
        .collect();
    if limits.stack_hard.is_some() {
        all.push(("stack_hard", Resource::RLIMIT_STACK, None, limits.stack_hard));
    }
    // The launcher sets the soft one of the stack.
    all
}

/// Sets one. Where this account may not go so high, nothing is set.
fn bound(resource: Resource, soft: Option<u64>, hard: Option<u64>) -> Result<(), String> {
    let (now, most) = getrlimit(resource).map_err(|e| e.desc().to_owned())?;
    let hard = hard.unwrap_or(most);
    if hard > most {
        return Err(format!("your hard limit on this host is {most}"));
    }
    setrlimit(resource, soft.unwrap_or(now).min(hard), hard).map_err(|e| e.desc().to_owned())
}
