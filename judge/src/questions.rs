//! The questions about strangers' bytes, as messages: `nunbird-decide` asks them of a process that reads nothing else.

use nunbird_policy::{
    Algorithm, BUILDS_VARIABLE, GitLabServer, LineFault, Policy, ProjectFacts, ProjectsAnswer,
    projects_answer,
};
use nunbird_token::{
    Admitted, JobQuestion, JobUser, KEYS_VERSION, KeysFile, MAX_KEYS, Question, Rejection, Server,
    UserQuestion,
};
use nunbird_wire::{Malformed, Message, Reader, Writer};

/// The most servers, and the most texts of one list.
const MOST: usize = 10_000;
/// The names of algorithms, as keys and tokens have them.
const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "ES384"];
/// The most faulty lines that are named.
const MAX_FAULTS: usize = 8;

/// One question. The job response is known to the process that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Who the job belongs to, by its id tokens.
    Tokens(ByTokens),
    /// The job's own token, and which of the servers with these repository URLs it is for.
    JobToken(Vec<Vec<String>>),
    /// What a server's answer says about the user of the job: the answer, and the runners that the server may name.
    JobUser(Vec<u8>, Vec<u64>),
    /// Who the job belongs to, by a server's answer.
    JobAnswer(ByAnswer),
    /// Whether a file of the user's own admits a project.
    Projects(Vec<u8>, Project),
}

/// What id tokens are judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByTokens {
    /// Names of the tokens, in order of preference.
    pub variables: Vec<String>,
    /// The configured servers.
    pub servers: Vec<ServerFacts>,
    /// Seconds since the epoch.
    pub now: u64,
    /// Seconds by which the clocks may differ.
    pub clock_skew: u64,
    /// The CI variable in which a user may name an account.
    pub account_variable: Option<String>,
    /// The CI variable in which a user may name a directory for builds.
    pub builds_variable: Option<String>,
}

/// A configured server, and the content of its keys file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    name: String,
    issuer: String,
    audience: Vec<String>,
    algorithms: Vec<&'static str>,
    runner_ids: Vec<u64>,
    repositories: Vec<String>,
    keys_max_age: u64,
    keys: Vec<u8>,
}

/// What a server's answer is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByAnswer {
    /// The answer.
    pub answer: Vec<u8>,
    /// Index of the server that gave it.
    pub server: u32,
    /// The server's URL.
    pub url: String,
    /// The runners that it may name; empty for any.
    pub runner_ids: Vec<u64>,
    /// Seconds since the epoch.
    pub now: u64,
    /// As in [`ByTokens`].
    pub account_variable: Option<String>,
    /// As in [`ByTokens`].
    pub builds_variable: Option<String>,
}

/// What lines of a user's file are held against: [`ProjectFacts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    server: String,
    project_path: String,
    git_ref: Option<String>,
    ref_protected: Option<bool>,
    pipeline_source: Option<String>,
}

impl ByTokens {
    /// The question of this policy. `keys` are the contents of the servers' keys files, in their order.
    pub fn of(policy: &Policy, keys: &[Vec<u8>], now: u64) -> Self {
        let name = |algorithm: &Algorithm| match algorithm {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
        };
        let server = |(server, keys): (&GitLabServer, &Vec<u8>)| ServerFacts {
            name: server.name.clone(),
            issuer: server.issuer.clone(),
            audience: server.audience.clone(),
            algorithms: server.algorithms.iter().map(name).collect(),
            runner_ids: server.runner_ids.clone(),
            repositories: server.repositories(),
            keys_max_age: server.keys_max_age,
            keys: keys.clone(),
        };
        ByTokens {
            variables: policy.identity.token_variables.clone(),
            servers: policy.gitlab.iter().zip(keys).map(server).collect(),
            now,
            clock_skew: policy.identity.clock_skew,
            account_variable: account_variable(policy),
            builds_variable: builds_variable(policy),
        }
    }

    /// The rejection of the token that came furthest, or the identity.
    ///
    /// # Errors
    /// As [`nunbird_token::admit`].
    pub fn answer(&self, response: &[u8]) -> Result<Admitted, Rejection> {
        let servers: Vec<Server> = self.servers.iter().map(ServerFacts::known).collect();
        let answer = nunbird_token::admit(&Question {
            response,
            token_variables: &self.variables,
            servers: &servers,
            now: self.now,
            clock_skew: self.clock_skew,
            account_variable: self.account_variable.as_deref(),
            builds_variable: self.builds_variable.as_deref(),
        });
        let no_keys = servers.iter().all(|server| server.keys.is_empty());
        answer.map_err(|rejection| match rejection {
            // Without a token no key would help, and the job token may.
            Rejection::Response | Rejection::NoToken | Rejection::Empty => rejection,
            _ if no_keys => Rejection::Keys,
            _ => rejection,
        })
    }
}

impl ServerFacts {
    /// The server with the keys of its file; one that is not exactly as `nunbird-keys` writes it holds none.
    fn known(&self) -> Server {
        let keys = serde_json::from_slice::<KeysFile>(&self.keys)
            .ok()
            .filter(|f| f.version == KEYS_VERSION && f.server == self.name && f.issuer == self.issuer)
            .map(|f| f.keys)
            .filter(|keys| keys.len() <= MAX_KEYS)
            .unwrap_or_default();
        Server {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            algorithms: self.algorithms.clone(),
            runner_ids: self.runner_ids.clone(),
            repositories: self.repositories.clone(),
            keys_max_age: self.keys_max_age,
            keys,
        }
    }
}

impl ByAnswer {
    /// The question of this policy about a server's answer.
    pub fn of(policy: &Policy, answer: &[u8], server: usize, now: u64) -> Self {
        let known = policy.gitlab.get(server);
        ByAnswer {
            answer: answer.to_vec(),
            server: u32::try_from(server).unwrap_or(u32::MAX),
            url: known.map_or_else(String::new, |server| server.url.clone()),
            runner_ids: known.map_or_else(Vec::new, |server| server.runner_ids.clone()),
            now,
            account_variable: account_variable(policy),
            builds_variable: builds_variable(policy),
        }
    }

    /// The identity by the answer.
    ///
    /// # Errors
    /// As [`nunbird_token::admit_by_job_token`].
    pub fn answer(&self, response: &[u8]) -> Result<Admitted, Rejection> {
        nunbird_token::admit_by_job_token(&JobQuestion {
            response,
            answer: &self.answer,
            server: usize::try_from(self.server).unwrap_or(usize::MAX),
            url: &self.url,
            runner_ids: &self.runner_ids,
            now: self.now,
            account_variable: self.account_variable.as_deref(),
            builds_variable: self.builds_variable.as_deref(),
        })
    }
}

impl Project {
    /// These facts.
    pub fn of(facts: &ProjectFacts<'_>) -> Self {
        Project {
            server: facts.server.to_owned(),
            project_path: facts.project_path.to_owned(),
            git_ref: facts.git_ref.map(str::to_owned),
            ref_protected: facts.ref_protected,
            pipeline_source: facts.pipeline_source.map(str::to_owned),
        }
    }

    fn facts(&self) -> ProjectFacts<'_> {
        ProjectFacts {
            server: &self.server,
            project_path: &self.project_path,
            git_ref: self.git_ref.as_deref(),
            ref_protected: self.ref_protected,
            pipeline_source: self.pipeline_source.as_deref(),
        }
    }
}

/// What a server's answer says about the user of the job.
///
/// # Errors
/// As [`nunbird_token::job_user`].
pub fn job_user(response: &[u8], answer: &[u8], runner_ids: &[u64]) -> Result<JobUser, Rejection> {
    nunbird_token::job_user(&UserQuestion { response, answer, runner_ids })
}

fn account_variable(policy: &Policy) -> Option<String> {
    policy.validation.as_ref()?.user_variable.clone()
}

fn builds_variable(policy: &Policy) -> Option<String> {
    policy.directories.user_builds_dir.then(|| BUILDS_VARIABLE.to_owned())
}

impl Asked {
    /// The answer, as a message: those of the crate `token`, or a [`ProjectsMessage`].
    pub fn answer(&self, response: &[u8]) -> Vec<u8> {
        match self {
            Asked::Tokens(question) => nunbird_token::encode(&question.answer(response)),
            Asked::JobToken(repositories) => {
                nunbird_token::encode_job_token(&nunbird_token::job_token(response, repositories))
            }
            Asked::JobUser(answer, runner_ids) => {
                nunbird_token::encode_job_user(&job_user(response, answer, runner_ids))
            }
            Asked::JobAnswer(question) => nunbird_token::encode(&question.answer(response)),
            Asked::Projects(content, project) => {
                let mut word = projects_answer(content, &project.facts());
                word.faults.truncate(MAX_FAULTS);
                ProjectsMessage(word).to_bytes()
            }
        }
    }
}

/// The answer to [`Asked::Projects`].
#[derive(Debug, PartialEq, Eq)]
pub struct ProjectsMessage(pub ProjectsAnswer);

impl Message for ProjectsMessage {
    fn write(&self, out: &mut Writer) {
        out.optional(self.0.admitted_by, Writer::u32);
        out.list(&self.0.faults, |out, (line, fault)| {
            out.u32(*line);
            let number = LineFault::ALL.iter().position(|known| known == fault);
            out.u8(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX));
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let admitted_by = input.optional(Reader::u32)?;
        let faults = input.list(MAX_FAULTS, |input| {
            let line = input.u32()?;
            let fault = LineFault::ALL.get(usize::from(input.u8()?)).ok_or(Malformed)?;
            Ok((line, *fault))
        })?;
        Ok(ProjectsMessage(ProjectsAnswer { admitted_by, faults }))
    }
}

fn put_texts(out: &mut Writer, texts: &[String]) {
    out.list(texts, |out, text| out.text(text));
}

fn texts(input: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
    input.list(MOST, Reader::text)
}

impl Message for ServerFacts {
    fn write(&self, out: &mut Writer) {
        out.text(&self.name);
        out.text(&self.issuer);
        put_texts(out, &self.audience);
        out.list(&self.algorithms, |out, name| {
            let number = ALGORITHMS.iter().position(|known| known == name);
            out.u8(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX));
        });
        out.list(&self.runner_ids, |out, id| out.u64(*id));
        put_texts(out, &self.repositories);
        out.u64(self.keys_max_age);
        out.bytes(&self.keys);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(ServerFacts {
            name: input.text()?,
            issuer: input.text()?,
            audience: texts(input)?,
            algorithms: input.list(ALGORITHMS.len(), |input| {
                ALGORITHMS.get(usize::from(input.u8()?)).copied().ok_or(Malformed)
            })?,
            runner_ids: input.list(MOST, Reader::u64)?,
            repositories: texts(input)?,
            keys_max_age: input.u64()?,
            keys: input.bytes()?.to_vec(),
        })
    }
}

impl Message for Asked {
    fn write(&self, out: &mut Writer) {
        match self {
            Asked::Tokens(question) => {
                out.u8(1);
                put_texts(out, &question.variables);
                out.list(&question.servers, |out, server| server.write(out));
                out.u64(question.now);
                out.u64(question.clock_skew);
                out.optional(question.account_variable.as_deref(), Writer::text);
                out.optional(question.builds_variable.as_deref(), Writer::text);
            }
            Asked::JobToken(repositories) => {
                out.u8(2);
                out.list(repositories, |out, urls| put_texts(out, urls));
            }
            Asked::JobUser(answer, runner_ids) => {
                out.u8(3);
                out.bytes(answer);
                out.list(runner_ids, |out, id| out.u64(*id));
            }
            Asked::JobAnswer(question) => {
                out.u8(4);
                out.bytes(&question.answer);
                out.u32(question.server);
                out.text(&question.url);
                out.list(&question.runner_ids, |out, id| out.u64(*id));
                out.u64(question.now);
                out.optional(question.account_variable.as_deref(), Writer::text);
                out.optional(question.builds_variable.as_deref(), Writer::text);
            }
            Asked::Projects(content, project) => {
                out.u8(5);
                out.bytes(content);
                out.text(&project.server);
                out.text(&project.project_path);
                out.optional(project.git_ref.as_deref(), Writer::text);
                out.optional(project.ref_protected, Writer::flag);
                out.optional(project.pipeline_source.as_deref(), Writer::text);
            }
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            1 => Asked::Tokens(ByTokens {
                variables: texts(input)?,
                servers: input.list(MOST, Message::read)?,
                now: input.u64()?,
                clock_skew: input.u64()?,
                account_variable: input.optional(Reader::text)?,
                builds_variable: input.optional(Reader::text)?,
            }),
            2 => Asked::JobToken(input.list(MOST, texts)?),
            3 => Asked::JobUser(input.bytes()?.to_vec(), input.list(MOST, Reader::u64)?),
            4 => Asked::JobAnswer(ByAnswer {
                answer: input.bytes()?.to_vec(),
                server: input.u32()?,
                url: input.text()?,
                runner_ids: input.list(MOST, Reader::u64)?,
                now: input.u64()?,
                account_variable: input.optional(Reader::text)?,
                builds_variable: input.optional(Reader::text)?,
            }),
            5 => Asked::Projects(
                input.bytes()?.to_vec(),
                Project {
                    server: input.text()?,
                    project_path: input.text()?,
                    git_ref: input.optional(Reader::text)?,
                    ref_protected: input.optional(Reader::flag)?,
                    pipeline_source: input.optional(Reader::text)?,
                },
            ),
            _ => return Err(Malformed),
        })
    }
}
