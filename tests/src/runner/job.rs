//! What a job is: the facts that GitLab knows, its token, its scripts, and the runner's
//! configuration.

use super::outcome::{Outcome, StageOutcome};
use super::session::Session;
use super::stage::{Cancel, Canceller, Trigger};
use super::variables::{self, Variable};
use super::{RunnerVersion, run};
use crate::issuer::{Issuer, JobFacts, JobToken};
use crate::world::{AUDIENCE, World};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// `[runners.custom]` of config.toml: the program and its arguments. The runner appends script and stage to `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// The driver.
    pub program: PathBuf,
    /// `config_args`.
    pub config: Vec<OsString>,
    /// `prepare_args`.
    pub prepare: Vec<OsString>,
    /// `run_args`.
    pub run: Vec<OsString>,
    /// `cleanup_args`.
    pub cleanup: Vec<OsString>,
}

pub(super) type ResponseEdit = Box<dyn Fn(&mut Value) + Send + Sync>;
type TokenEdit = Box<dyn Fn(JobToken) -> JobToken + Send + Sync>;
type Forger = Box<dyn Fn(JobToken, &Issuer) -> String + Send + Sync>;

/// A job, made by [`World::job`] and changed by its methods. By default it is alice's job 7001 in
/// `physics/lattice` (see [`JobFacts::default`]) with a sound token, on the newest runner.
pub struct Job<'w> {
    pub(super) world: &'w World,
    pub(super) facts: JobFacts,
    pub(super) version: RunnerVersion,
    pub(super) script: Vec<String>,
    pub(super) after_script: Vec<String>,
    pub(super) artifacts: Vec<String>,
    pub(super) commands: Commands,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) response_edits: Vec<ResponseEdit>,
    pub(super) canceller: Canceller,
    pub(super) triggers: Vec<Trigger>,
    pub(super) graceful: Duration,
    pub(super) force: Duration,
    pub(super) limit: Duration,
    pub(super) job_token: String,
    variables: Vec<Variable>,
    token_edits: Vec<TokenEdit>,
    forger: Option<Forger>,
    tokens: Vec<(String, Option<String>)>,
    /// What the server knows of the job's token.
    known: Known,
}

/// The reply to `GET /api/v4/job` about a job.
enum Known {
    /// The job, with these changes.
    Job(Vec<ResponseEdit>),
    /// Nothing: 401.
    Unknown,
}

impl fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("facts", &self.facts)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The name of the id token's variable.
const TOKEN_VARIABLE: &str = "SITE_ID_TOKEN";

impl<'w> Job<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let mut config = words("config --configuration");
        config.push(world.paths().configuration.clone().into());
        Job {
            world,
            facts: JobFacts { user_login: world.default_user().to_owned(), ..JobFacts::default() },
            version: RunnerVersion::V19_3,
            script: vec!["id -un".to_owned()],
            after_script: Vec::new(),
            artifacts: Vec::new(),
            commands: Commands {
                program: world.paths().bin.join("nunbird-auth"),
                config,
                prepare: words("prepare"),
                run: words("run"),
                cleanup: words("cleanup"),
            },
            environment: Vec::new(),
            response_edits: Vec::new(),
            canceller: Canceller::default(),
            triggers: Vec::new(),
            graceful: Duration::from_secs(20),
            force: Duration::from_secs(3),
            limit: Duration::from_secs(60),
            job_token: "glcbt-64_nbtJobToken7001".to_owned(),
            variables: Vec::new(),
            token_edits: Vec::new(),
            forger: None,
            tokens: vec![(TOKEN_VARIABLE.to_owned(), None)],
            known: Known::Job(Vec::new()),
        }
    }

    /// Changes what GitLab knows of the job: the token and the job response both follow.
    #[must_use]
    pub fn facts(mut self, change: impl FnOnce(&mut JobFacts)) -> Self {
        change(&mut self.facts);
        self.job_token = format!("glcbt-64_nbtJobToken{}", self.facts.job_id);
        self
    }

    /// Makes it the job of this GitLab login; the user's id stays.
    #[must_use]
    pub fn user(self, login: &str) -> Self {
        self.facts(|facts| login.clone_into(&mut facts.user_login))
    }

    /// Makes it a job with this id.
    #[must_use]
    pub fn id(self, job_id: u64) -> Self {
        self.facts(|facts| facts.job_id = job_id)
    }

    /// Changes the server's answer about the job token; by default it is a running job of an active
    /// person.
    #[must_use]
    pub fn edit_server_answer(mut self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        if let Known::Job(edits) = &mut self.known {
            edits.push(Box::new(edit));
        }
        self
    }

    /// Sets a member of the server's answer, such as `/user/bot`.
    #[must_use]
    pub fn server_says(self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a JSON pointer");
        let (parent, name) = (parent.to_owned(), name.to_owned());
        self.edit_server_answer(move |answer| {
            answer.pointer_mut(&parent).expect("the parent")[&name] = value.clone();
        })
    }

    /// Removes a member of `user` from the server's answer.
    #[must_use]
    pub fn server_omits(self, member: &str) -> Self {
        let member = member.to_owned();
        self.edit_server_answer(move |answer| {
            answer["user"].as_object_mut().expect("a user").remove(&member);
        })
    }

    /// The server does not know the job's token.
    #[must_use]
    pub fn unknown_to_server(mut self) -> Self {
        self.known = Known::Unknown;
        self
    }

    /// Registers the job with the server as it is now.
    pub fn tell_server(&self) {
        let issuer = self.world.issuer();
        match &self.known {
            Known::Unknown => issuer.forget_job(&self.job_token),
            Known::Job(edits) => {
                let mut answer = issuer.job_entity(&self.facts);
                edits.iter().for_each(|edit| edit(&mut answer));
                issuer.know_job(&self.job_token, answer);
            }
        }
    }

    /// The version of gitlab-runner.
    #[must_use]
    pub fn version(mut self, version: RunnerVersion) -> Self {
        self.version = version;
        self
    }

    /// Replaces the script by one command, which may have several lines.
    #[must_use]
    pub fn script(mut self, line: &str) -> Self {
        self.script = vec![line.to_owned()];
        self
    }

    /// Replaces `after_script:` by one command.
    #[must_use]
    pub fn after_script(mut self, line: &str) -> Self {
        self.after_script = vec![line.to_owned()];
        self
    }

    /// Uploads a path of the project after success.
    #[must_use]
    pub fn artifact(mut self, path: &str) -> Self {
        self.artifacts.push(path.to_owned());
        self
    }

    /// Adds a variable of the user's. It comes behind GitLab's own and the id token, so it can shadow them.
    #[must_use]
    pub fn variable(mut self, key: &str, value: &str) -> Self {
        self.variables.push(Variable::new(key, value));
        self
    }

    /// Adds a file variable of the user's: the script sees the path of a file with this content.
    #[must_use]
    pub fn file_variable(mut self, key: &str, content: &str) -> Self {
        self.variables.push(Variable { file: true, ..Variable::new(key, content) });
        self
    }

    /// Sets a claim of the token alone, to any JSON value.
    #[must_use]
    pub fn claim(self, name: &str, value: Value) -> Self {
        let name = name.to_owned();
        self.edit_token(move |token| token.claim(&name, value.clone()))
    }

    /// Leaves a claim of the token out.
    #[must_use]
    pub fn without_claim(self, name: &str) -> Self {
        let name = name.to_owned();
        self.edit_token(move |token| token.without_claim(&name))
    }

    /// Sets a member of the token's header, to any JSON value.
    #[must_use]
    pub fn header(self, name: &str, value: Value) -> Self {
        let name = name.to_owned();
        self.edit_token(move |token| token.header(&name, value.clone()))
    }

    /// Changes the token before it is signed.
    #[must_use]
    pub fn edit_token(mut self, edit: impl Fn(JobToken) -> JobToken + Send + Sync + 'static) -> Self {
        self.token_edits.push(Box::new(edit));
        self
    }

    /// Makes the token's text instead of signing it with the server's key. `forger` gets the token with all edits.
    #[must_use]
    pub fn forge(mut self, forger: impl Fn(JobToken, &Issuer) -> String + Send + Sync + 'static) -> Self {
        self.forger = Some(Box::new(forger));
        self
    }

    /// Replaces the token by this text, for instance the token of another job.
    #[must_use]
    pub fn token(self, text: &str) -> Self {
        let text = text.to_owned();
        self.forge(move |_, _| text.clone())
    }

    /// Gives the job no id token, as without `id_tokens:` in `.gitlab-ci.yml`.
    #[must_use]
    pub fn without_token(mut self) -> Self {
        self.tokens.clear();
        self
    }

    /// Gives the id token another variable's name.
    #[must_use]
    pub fn token_variable(mut self, name: &str) -> Self {
        self.tokens = vec![(name.to_owned(), None)];
        self
    }

    /// Adds another id token with this text behind the first, before all other variables.
    #[must_use]
    pub fn extra_token(mut self, name: &str, text: &str) -> Self {
        self.tokens.push((name.to_owned(), Some(text.to_owned())));
        self
    }

    /// Changes the job response before it is written.
    #[must_use]
    pub fn response(mut self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.response_edits.push(Box::new(edit));
        self
    }

    /// Adds to the environment of the runner's own process, which the driver inherits.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Changes `[runners.custom]`.
    #[must_use]
    pub fn commands(mut self, change: impl FnOnce(&mut Commands)) -> Self {
        change(&mut self.commands);
        self
    }

    /// Cancels the job as soon as this text is in the log of this stage. Text of the script itself
    /// is in the log as the command that is run, so let the script compose it (`echo go''ing`).
    #[must_use]
    pub fn cancel_when(mut self, stage: &str, words: &str, how: Cancel) -> Self {
        self.triggers.push(Trigger { stage: stage.to_owned(), words: words.to_owned(), how });
        self
    }

    /// A handle that cancels the job from another thread.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// `graceful_kill_timeout` and `force_kill_timeout` (20 s and 3 s here).
    #[must_use]
    pub fn kill_timeouts(mut self, graceful: Duration, force: Duration) -> Self {
        (self.graceful, self.force) = (graceful, force);
        self
    }

    /// The time after which a call is ended like by a timeout of the job (60 s).
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The text of the job's id token.
    pub fn token_text(&self) -> String {
        let issuer = self.world.issuer();
        let token = JobToken::gitlab(&issuer.url(), &json!(AUDIENCE), &self.facts);
        let token = self.token_edits.iter().fold(token, |token, edit| edit(token));
        match &self.forger {
            Some(forger) => forger(token, issuer),
            None => token.sign(&issuer.key()),
        }
    }

    /// The job's own token.
    pub fn job_token_text(&self) -> &str {
        &self.job_token
    }

    /// What GitLab knows of the job.
    pub fn known_facts(&self) -> &JobFacts {
        &self.facts
    }

    /// Runs the whole job.
    pub fn run(mut self) -> Outcome {
        self.facts.sha = self.world.repository(&self.facts.project_path);
        self.world.issuer().accept_job_token(&self.job_token);
        run::run(&self)
    }

    /// Calls `config` alone.
    pub fn config(&self) -> StageOutcome {
        self.begin().config()
    }

    /// Begins an attempt, to make its calls one by one. Fetching sources this way needs [`Job::with_repository`].
    pub fn begin(&self) -> Session<'_> {
        Session::begin(self)
    }

    /// Begins an attempt whose `config` and `prepare` succeed.
    ///
    /// # Panics
    /// When one of them does not.
    #[track_caller]
    pub fn prepared(&self) -> Session<'_> {
        let mut session = self.begin();
        for call in [session.config(), session.prepare()] {
            assert!(call.succeeded(), "{}", call.log);
        }
        session
    }

    /// Makes the repository, so that `get_sources` works in a [`Session`]. [`Job::run`] does this by itself.
    #[must_use]
    pub fn with_repository(mut self) -> Self {
        self.facts.sha = self.world.repository(&self.facts.project_path);
        self.world.issuer().accept_job_token(&self.job_token);
        self
    }

    /// The repository's URL, with the job token.
    pub(super) fn repository(&self) -> String {
        let server = self.world.issuer().plain_url();
        let authority = server.trim_start_matches("http://");
        format!("http://gitlab-ci-token:{}@{authority}/{}.git", self.job_token, self.facts.project_path)
    }

    pub(super) fn variables_from_gitlab(&self) -> Vec<Variable> {
        let text = |fixed: &Option<String>| fixed.clone().unwrap_or_else(|| self.token_text());
        let tokens: Vec<_> = self.tokens.iter().map(|(name, fixed)| (name.clone(), text(fixed))).collect();
        let server = self.world.issuer().plain_url();
        variables::from_gitlab(
            &self.facts,
            &server,
            &self.repository(),
            &self.job_token,
            &tokens,
            &self.variables,
        )
    }
}
