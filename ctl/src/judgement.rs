//! A job on the whole way that `nunbird-auth` takes with it once the identity is known (auth/src/judgement.rs): the rules before
//! the validation program where the site wants that, the rules, then what depends on the account's home and on this moment.

use nunbird_policy::{
    AccountFacts, AuthorizedProjects, Decision, Host, MAX_AUTHORIZED_PROJECTS, Policy, ProjectFacts, Rule,
    Subject, Verdict, data_dir, decide, users_word,
};
use nunbird_sys::own_file::{self, Doubt};
use std::path::{Path, PathBuf};

/// The user's own word, below their home.
const OWN_WORD: &str = ".config/nunbird/authorized_projects";

/// The policy's decision.
///
/// With `validation.rules_first` a job whose login the rules refuse is refused before the program is asked.
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

/// What comes of an admitted job.
pub(crate) struct Outcome {
    /// Where it works.
    pub(crate) data_dir: Option<PathBuf>,
    /// Why it is denied all the same.
    pub(crate) denial: Option<String>,
    /// What this program cannot decide, or what holds for the moment only.
    pub(crate) notes: Vec<String>,
}

/// Looks at what is asked after the rules.
pub(crate) fn outcome(policy: &Policy, rule: &Rule, account: &AccountFacts, subject: &Subject) -> Outcome {
    let (_, directories) = policy.job_of(rule);
    let data_dir = data_dir(&directories.data_dir, &account.name, &account.home);
    let mut notes = Vec::new();
    if policy.validation.is_some() && subject.validated.is_none() {
        notes.push(
            "a validation program is configured and is not asked here; say what it would answer with --validated"
                .to_owned(),
        );
    }
    if policy.accounts.nologin {
        let there = ["/etc/nologin", "/run/nologin"].into_iter().filter(|file| Path::new(file).exists());
        notes.extend(there.map(|file| format!("{file} exists, so no job starts at present")));
    }
    let mut denial = own_word(policy, account, subject, &mut notes);
    if data_dir.is_none() {
        let home = account.home.display();
        denial = Some(format!("home directory {home} has characters that a shell would interpret"));
    }
    Outcome { data_dir, denial, notes }
}

/// Holds the job against the account's `authorized_projects`, which is read as its owner or not at all: opening what a user
/// put there is nothing for another account to do.
fn own_word(
    policy: &Policy,
    account: &AccountFacts,
    subject: &Subject,
    notes: &mut Vec<String>,
) -> Option<String> {
    let mode = policy.authorized_projects;
    if mode == AuthorizedProjects::Off {
        return None;
    }
    if nix::unistd::geteuid().as_raw() != account.uid {
        let name = &account.name;
        notes.push(format!(
            "~/{OWN_WORD} of `{name}` is asked, too; run this command as that account (`runuser -u {name} -- …`) to ask it"
        ));
        return None;
    }
    let facts = ProjectFacts {
        server: &subject.server,
        project_path: &subject.project_path,
        git_ref: Some(&subject.git_ref),
        ref_protected: subject.ref_protected,
        pipeline_source: subject.pipeline_source.as_deref(),
    };
    match own_file::read(&account.home, Path::new(OWN_WORD), account.uid, MAX_AUTHORIZED_PROJECTS) {
        Ok(None) if mode == AuthorizedProjects::Optional => None,
        Ok(None) => Some(format!("there is no ~/{OWN_WORD}, and accounts.authorized_projects is required")),
        Err(doubt) => Some(format!("~/{OWN_WORD} does not count: {}", why(doubt))),
        Ok(Some(content)) => match users_word(&content, &facts).admitted_by {
            Some(line) => {
                notes.push(format!("line {line} of ~/{OWN_WORD} admits it"));
                None
            }
            None => Some(format!("no line of ~/{OWN_WORD} admits it")),
        },
    }
}

fn why(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Home => "the home directory is not there",
        Doubt::Unreadable => "it cannot be read",
        Doubt::Kind => "it is not a regular file",
        Doubt::Owner => "it, or a directory on the way, belongs to somebody else",
        Doubt::Writable => "it, or a directory on the way, can be written by others",
        Doubt::Size => "it is too long",
    }
}
