//! How `explain` judges a job: with the functions of `nunbird-auth`, with the permissions of the
//! calling admin. A check that these permissions do not allow is reported, never assumed to pass.

use crate::host::group_name;
use crate::{fetched, floor_facts, programs};
use nunbird_accounts::users;
use nunbird_files::identity::Caller;
use nunbird_handover::Code;
use nunbird_host::{Floor, Here, Rights, System};
use nunbird_judge::account::{self, ThisHost};
use nunbird_judge::authorized_projects;
use nunbird_judge::evidence::{self, Evidence, JobEvidence};
use nunbird_judge::keys::{self, Keys};
use nunbird_judge::validation::{self, Question, Validated};
use nunbird_judge::{Fetched, Means, Refusal, nologin};
use nunbird_policy::{
    AccountFacts, AuthorizedProjects, Downscope, GitLabServer, Host, HostError, MapFile, Policy,
    ProjectFacts, ServerUser, Subject, Validation, projects_answer,
};
use nunbird_sys::capabilities::Capabilities;
use nunbird_token::{Admitted, JobToken, JobUser, MAX_RESPONSE, Rejection};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use zeroize::Zeroizing;

/// How a judgement ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// As `nunbird-auth` would end it.
    Refused(Refusal),
    /// The caller cannot find out, and why.
    Undecided(String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

/// What to do with the site's validation program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValidationMode {
    /// It is run only if it would have no other permissions than the caller has already.
    Unprivileged,
    /// The caller is root and requests that it runs.
    Run,
    /// It is not run: this is taken as its answer.
    Answer(String),
}

/// What an admin can check with.
pub(crate) struct AsAdmin<'a> {
    policy: &'a Policy,
    pub(crate) rights: Rights,
    /// The bytes of the job response.
    response: Vec<u8>,
    /// Whether there is no response, only claims or a token: then no server can be asked about the
    /// job.
    pub(crate) no_job: bool,
    ask: ValidationMode,
    host: RecordingHost,
    notes: RefCell<Vec<String>>,
    signature: RefCell<Option<String>>,
}

impl<'a> AsAdmin<'a> {
    pub(crate) fn new(policy: &'a Policy, runner: &str, response: Vec<u8>, ask: ValidationMode) -> Self {
        let (rights, known) = rights(policy, runner);
        let given_up = if rights.can_change_user { give_up_override() } else { Ok(()) };
        let means = AsAdmin {
            policy,
            rights,
            no_job: response.is_empty(),
            response,
            ask,
            host: RecordingHost::new(rights),
            notes: RefCell::default(),
            signature: RefCell::default(),
        };
        means.host.is_draft.set(means.no_job);
        if let Err(e) = given_up {
            means.skip(format!("files were read with more permissions than nunbird-auth has: {e}"));
        }
        if !known && !means.no_job {
            means.skip(format!(
                "this host has no account `{runner}`, and no job runs as the \
                                runner's account: name it with --runner-user"
            ));
        }
        means
    }

    /// Records a check that was not made.
    fn skip(&self, what: String) {
        self.host.skip(what);
    }

    /// Sets the job's user. `known` is false for claims that do not contain it.
    pub(crate) fn is_of(&self, user_id: u64, known: bool) {
        self.host.user_id.set(user_id);
        self.host.anybody.set(!known);
    }

    pub(crate) fn unchecked(&self) -> Vec<String> {
        self.host.unchecked.borrow().clone()
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// What is known of the id token's signature; `None` if there is no token.
    pub(crate) fn signature(&self) -> Option<String> {
        self.signature.borrow().clone()
    }

    /// The same end, except for a refusal caused by a file that the caller may not read.
    pub(crate) fn honest(&self, stop: Stop) -> Stop {
        match (stop, self.host.withheld.borrow().clone()) {
            (Stop::Refused(refusal), Some(why)) if refusal.class == nunbird_judge::Class::System => {
                Stop::Undecided(why)
            }
            (stop, _) => stop,
        }
    }

    /// Whether there is no job response: the identity comes from claims.
    pub(crate) fn response_is_empty(&self) -> bool {
        self.response.is_empty()
    }

    /// What `nunbird-auth` requires of an account, whatever the policy states.
    pub(crate) fn above_floor(&self, account: &str, own: Option<&Path>) -> Result<(), Stop> {
        let here = Here(self.rights);
        let unknown = |why: String| Stop::Undecided(why);
        let entry = here.account(account).map_err(unknown)?;
        let entry = entry.ok_or_else(|| unknown(format!("no account `{account}`")))?;
        let floor = Floor::read(self.rights)?;
        floor.check(account, &entry, self.rights, &here)?;
        match own.filter(|own| self.rights.privileged && !floor.may_own(own, account)) {
            None => Ok(()),
            Some(own) => {
                let detail = format!(
                    "{}: the floor of this host does not allow an account's directory there; \
                     write `directories_in {}` into {}",
                    own.display(),
                    own.parent().unwrap_or(own).display(),
                    floor_facts::FILE,
                );
                let message = "this job could not be decided on this host";
                Err(Refusal::system(Code::Decider, message, detail).into())
            }
        }
    }

    fn is_root(&self) -> bool {
        self.rights.can_change_user
    }

    fn report_signature(&self, answer: &Result<Admitted, Rejection>) {
        let genuine = |server: &str| format!("signature verified with a key of {server}");
        let text = match answer {
            Ok(admitted) => {
                let name = self.policy.gitlab.get(admitted.server).map_or("", |server| server.name.as_str());
                genuine(&format!("server `{name}`"))
            }
            Err(Rejection::Response | Rejection::NoToken | Rejection::Empty) => return,
            Err(Rejection::Keys) => {
                let keys = self.policy.keys_dir.display();
                format!("signature NOT verified: no keys can be read in {keys}")
            }
            Err(rejection @ (Rejection::UnknownKey | Rejection::Malformed)) => {
                format!("signature NOT genuine: {rejection}")
            }
            Err(_) => genuine("a configured server"),
        };
        *self.signature.borrow_mut() = Some(text);
    }
}

/// Gives up capabilities that override file modes: `nunbird-auth` keeps two capabilities, and these
/// are not among them (capabilities(7)).
fn give_up_override() -> std::io::Result<()> {
    const OVERRIDE: u64 = (1 << 1) | (1 << 2);
    let held = Capabilities::current()?;
    let effective = held.effective & !OVERRIDE;
    let permitted = held.permitted & !OVERRIDE;
    Capabilities { effective, permitted, ..held }.apply()
}

/// The caller's permissions applied to the `nunbird-auth` of this policy, and whether the runner's
/// account is known.
fn rights(policy: &Policy, runner: &str) -> (Rights, bool) {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let own = Caller { uid, gid };
    let is_root = uid == 0;
    let privileged = policy.downscope == Downscope::Setuid;
    let of_name =
        users::by_name(runner).ok().flatten().map(|entry| Caller { uid: entry.uid, gid: entry.gid });
    let caller = match policy.downscope {
        Downscope::None if !is_root => Some(own),
        _ => of_name,
    };
    let known = caller.is_some();
    let caller = caller.unwrap_or(Caller { uid: u32::MAX, gid: u32::MAX });
    let keeper = if is_root && !privileged && known { caller } else { own };
    let reads_shadow = privileged && !programs::has_capabilities(&programs::auth(policy));
    (Rights { privileged, can_change_user: is_root, keeper, caller, reads_shadow }, known)
}

/// Whether the caller's own permissions deny access to an existing file. Root reads what the
/// program reads.
fn is_closed(path: &Path, rights: Rights) -> bool {
    !rights.can_change_user && matches!(File::open(path), Err(e) if e.kind() == ErrorKind::PermissionDenied)
}

impl Means for AsAdmin<'_> {
    type Stop = Stop;

    fn response(&self) -> Result<Zeroizing<Vec<u8>>, Stop> {
        if u64::try_from(self.response.len()).unwrap_or(u64::MAX) > MAX_RESPONSE {
            let detail = format!("larger than {MAX_RESPONSE} bytes");
            let message = "the runner's job response could not be read";
            return Err(Refusal::system(Code::ResponseFile, message, detail).into());
        }
        Ok(Zeroizing::new(self.response.clone()))
    }

    fn now(&self) -> Result<u64, Stop> {
        Ok(account::now()?)
    }

    fn keys(&self) -> Result<Keys, Stop> {
        let keys = keys::read(self.policy, &Here(self.rights));
        let mut files =
            self.policy.gitlab.iter().map(|s| self.policy.keys_dir.join(format!("{}.json", s.name)));
        match files.find(|file| is_closed(file, self.rights)) {
            Some(file) => Err(Stop::Undecided(format!("{}: you may not read the keys", file.display()))),
            None => Ok(keys),
        }
    }

    fn fetched_keys(&self) -> Result<Fetched, Stop> {
        let before = keys::read(self.policy, &Here(self.rights));
        fetched::keys(self.policy, self.rights, before)
            .map_err(|e| Stop::Undecided(format!("the keys could not be fetched again: {e}")))
    }

    fn by_id_tokens(&self, evidence: &Evidence<'_>) -> Result<Result<Admitted, Rejection>, Stop> {
        let answer = evidence::by_id_tokens(evidence, self.policy);
        self.report_signature(&answer);
        Ok(answer)
    }

    fn job_token(
        &self,
        response: &[u8],
        repositories: &[Vec<String>],
    ) -> Result<Result<JobToken, Rejection>, Stop> {
        Ok(nunbird_token::job_token(response, repositories))
    }

    fn job_user(
        &self,
        response: &[u8],
        answer: &[u8],
        server: &GitLabServer,
    ) -> Result<Result<JobUser, Rejection>, Stop> {
        Ok(evidence::job_user(response, answer, server))
    }

    fn assumes_a_person(&self) -> bool {
        if self.no_job {
            let what =
                "the server was not asked about the user, who is assumed to be an active person: no job response"
                    .to_owned();
            if !self.notes.borrow().contains(&what) {
                self.notes.borrow_mut().push(what);
            }
        }
        self.no_job
    }

    fn unanswered(&self, stop: Stop) -> String {
        match stop {
            Stop::Refused(refusal) => refusal.detail,
            Stop::Undecided(why) => {
                *self.host.withheld.borrow_mut() = Some(why.clone());
                why
            }
        }
    }

    fn ask_about_job(&self, server: &GitLabServer, token: &str) -> Result<Result<Vec<u8>, String>, Stop> {
        let program = self.policy.job.launcher.with_file_name("nunbird-keys");
        if is_closed(&program, self.rights) {
            return Err(Stop::Undecided(format!("{}: you may not execute it", program.display())));
        }
        Ok(keys::ask_about_job(self.policy, server, token, &Here(self.rights)))
    }

    fn by_job_answer(&self, evidence: &JobEvidence<'_>) -> Result<Result<Admitted, Rejection>, Stop> {
        Ok(evidence::by_job_answer(evidence, self.policy))
    }

    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn caller(&self) -> u32 {
        self.rights.caller.uid
    }

    fn validate(&self, program: &Validation, question: &Question<'_>) -> Result<Validated, Stop> {
        let own = !self.rights.privileged && self.rights.keeper.uid == self.rights.caller.uid;
        match &self.ask {
            ValidationMode::Answer(name) => {
                validation::named(question)?;
                Ok(Validated { username: Some(name.clone()), data_dir: None })
            }
            ValidationMode::Run if self.is_root() => {
                Ok(validation::ask(program, question, &Here(self.rights))?)
            }
            _ if own && !self.is_root() => Ok(validation::ask(program, question, &Here(self.rights))?),
            _ => {
                validation::named(question)?;
                let script = program.script.display();
                Err(Stop::Undecided(format!(
                    "{script} was not asked; --run-validation, as root, asks it, and --validated \
                     NAME replaces its answer"
                )))
            }
        }
    }

    fn nologin(&self) -> Result<(), Stop> {
        Ok(nologin::check(&Here(self.rights))?)
    }

    fn authorized_projects(
        &self,
        mode: AuthorizedProjects,
        account: &AccountFacts,
        facts: &ProjectFacts<'_>,
    ) -> Result<(), Stop> {
        if mode != AuthorizedProjects::Off && !self.is_root() && self.rights.keeper.uid != account.uid {
            self.skip(format!(
                "~/{} of uid {} was not read: only root and its owner can",
                authorized_projects::FILE,
                account.uid
            ));
            return Ok(());
        }
        if let Some(line) = authorized_projects::check(mode, &account.name, &Here(self.rights), |content| {
            Ok::<_, Stop>(projects_answer(&content, facts))
        })? {
            self.notes.borrow_mut().push(format!("line {line} of ~/{} admits it", authorized_projects::FILE));
        }
        Ok(())
    }

    fn expiry(&self, account: &str) -> Result<(), Stop> {
        if self.rights.reads_shadow && !self.is_root() {
            self.skip(format!("whether `{account}` has expired: only root reads shadow(5)"));
            return Ok(());
        }
        Ok(account::check_expiry(account, &Here(self.rights))?)
    }
}

/// The host, which also records what the caller may not read on it.
struct RecordingHost {
    host: ThisHost<Here>,
    rights: Rights,
    withheld: RefCell<Option<String>>,
    /// What was not checked, and what that means.
    unchecked: RefCell<Vec<String>>,
    /// GitLab's id of the job's user; 0 if the claims do not contain it.
    user_id: Cell<u64>,
    /// Whether it is unknown.
    anybody: Cell<bool>,
    /// Whether only claims are judged, by a policy that need not be installed.
    is_draft: Cell<bool>,
}

impl RecordingHost {
    fn new(rights: Rights) -> Self {
        RecordingHost {
            host: ThisHost::new(Here(rights)),
            rights,
            withheld: RefCell::default(),
            unchecked: RefCell::default(),
            user_id: Cell::new(0),
            anybody: Cell::new(false),
            is_draft: Cell::new(false),
        }
    }
}

impl RecordingHost {
    fn skip(&self, what: String) {
        let mut unchecked = self.unchecked.borrow_mut();
        if !unchecked.contains(&what) {
            unchecked.push(what);
        }
    }
}

impl Host for RecordingHost {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        self.host.account(name)
    }

    fn group(&self, name: &str) -> Result<Option<u32>, HostError> {
        self.host.group(name)
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        self.host.is_member(account, group)
    }

    fn group_name(&self, gid: u32) -> Option<String> {
        group_name(gid)
    }

    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, HostError> {
        let text = self.host.map(map);
        if text.is_err() && is_closed(&map.file, self.rights) {
            *self.withheld.borrow_mut() = Some(format!("{}: you may not read this map", map.file.display()));
        }
        // A draft of a map need not belong to root yet.
        if let (Err(trouble), true) = (&text, self.is_draft.get())
            && let Ok(draft) = std::fs::read_to_string(&map.file)
        {
            self.skip(format!("nunbird-auth would not use this map: {trouble}"));
            return Ok(Cow::Owned(draft));
        }
        text
    }

    fn server_user(&self, job: &Subject) -> Result<ServerUser, HostError> {
        self.host.server_user(job)
    }

    fn pinned(
        &self,
        people_file: Option<&Path>,
        server: &str,
        account: &str,
    ) -> Result<Option<u64>, HostError> {
        let own = self.user_id.get();
        if self.anybody.get() {
            self.skip(format!("whether `{account}` is bound to this user: the claims have no user_id"));
            return Ok(Some(own));
        }
        if self.rights.privileged && !self.rights.can_change_user {
            self.skip(format!(
                "whether `{account}` is bound to GitLab user {own}: only root reads the list of people"
            ));
            return Ok(Some(own));
        }
        self.host.pinned(people_file, server, account)
    }
}
