//! The site's own program that decides on the account of a job, as Jacamar's RunAs script.
//!
//! Called by `config` with privilege, when the identity is proven and before the policy is asked. The program is called as
//! `SCRIPT LOGIN` or, when the user named an account to become, as `SCRIPT TARGET LOGIN`; it gets the claims in its environment,
//! never a token. It runs as an account of its own, for a bounded time, and nothing of it is left when this returns.
//!
//! Its answer is believed as far as a rule's: the account that it names must pass the invariants like any other.

use crate::refusal::{Code, Refusal};
use nunbird_handover::Untrusted;
use nunbird_host::{End, MAX_VALIDATION_OUTPUT, Report, System, Validate};
use nunbird_policy::{Validation, check_name};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Of every program; a site's `environment` cannot replace it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the program is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub claims: Claims<'a>,
    /// The account that the user asks for, from the CI variable that the site names. A stranger's text.
    pub target: Option<&'a str>,
}

/// The verified claims, as far as the source of the identity has them.
#[derive(Debug)]
pub struct Claims<'a> {
    /// GitLab's login of the user.
    pub user_login: &'a str,
    /// The user's address in GitLab.
    pub user_email: Option<&'a str>,
    /// GitLab's id of the user.
    pub user_id: u64,
    /// Id of the project's namespace.
    pub namespace_id: Option<u64>,
    /// Id of the project.
    pub project_id: u64,
    /// Its full path.
    pub project_path: &'a str,
    /// Id of the job.
    pub job_id: u64,
    /// Id of the pipeline.
    pub pipeline_id: u64,
    /// What started it.
    pub pipeline_source: Option<&'a str>,
    /// Whether the sources are another project's.
    pub fork: Option<bool>,
    /// The server's host name.
    pub issuer_host: &'a str,
    /// `user_identities`: provider and the user's name there.
    pub identities: &'a [(String, String)],
}

/// The program's answer to a job that it lets run. The name has an account's form and no more has been checked.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validated {
    /// The account, in place of the login or the target.
    #[serde(default)]
    pub username: Option<String>,
    /// In place of the configured one; absolute.
    #[serde(default)]
    pub data_dir: Option<PathBuf>,
}

/// Asks the site's program.
///
/// # Errors
/// A denial when it says no, or when login or target are no names; a system refusal when it cannot be used or does anything
/// but answer in time.
pub fn ask(
    settings: &Validation,
    question: &Question<'_>,
    system: &impl System,
) -> Result<Validated, Refusal> {
    let name = named(question)?;
    let report = system.validate(&call(settings, question)?).map_err(|e| unusable(settings, &e))?;
    let Report { uid, said } = report;
    let words = String::from_utf8_lossy(&said.errors).into_owned();
    let said_so = |what: String| unusable(settings, &format!("as uid {uid}: {what}\n{words}"));
    match said.end {
        End::Exited(0) => read_answer(&said.output).map_err(said_so),
        End::Exited(code) => {
            let text = format!("your site does not let you run as `{}`", Untrusted(name));
            let detail = format!("{} ended with exit code {code}\n{words}", settings.script.display());
            Err(Refusal::denied(Code::Validation, text, detail))
        }
        End::Killed(signal) => Err(said_so(format!("was ended by signal {signal}"))),
        End::Late => Err(said_so(format!("did not end within {} seconds", settings.timeout))),
        End::TooLong => Err(said_so(format!("printed more than {} bytes", MAX_VALIDATION_OUTPUT))),
        End::Failed(why) => Err(said_so(why)),
    }
}

/// The program as it is to be run.
fn call(settings: &Validation, question: &Question<'_>) -> Result<Validate, Refusal> {
    let nul = |e: std::ffi::NulError| unusable(settings, &format!("a claim cannot be passed on: {e}"));
    let mut argv = vec![CString::new(settings.script.as_os_str().as_bytes()).map_err(nul)?];
    for word in question.target.into_iter().chain([question.claims.user_login]) {
        argv.push(CString::new(word).map_err(nul)?);
    }
    let variables = environment(settings, &question.claims).into_iter();
    let environment = variables.map(|(name, value)| CString::new(format!("{name}={value}")));
    Ok(Validate {
        script: settings.script.clone(),
        sha256: settings.sha256.clone(),
        user: settings.user.clone(),
        argv,
        environment: environment.collect::<Result<_, _>>().map_err(nul)?,
        seconds: settings.timeout,
    })
}

fn unusable(settings: &Validation, detail: &dyn Display) -> Refusal {
    let message = "the program by which your site validates users cannot be used on this host";
    Refusal::system(Code::ValidationProgram, message, format!("{}: {detail}", settings.script.display()))
}

/// The name that the user would run as. Neither word may look like an option or a path to the program.
///
/// # Errors
/// A denial when login or target are no names.
pub fn named<'a>(question: &Question<'a>) -> Result<&'a str, Refusal> {
    let login = question.claims.user_login;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if login.is_empty() || login.len() > 255 || login.starts_with(['-', '.']) || !login.bytes().all(plain) {
        let detail = format!("login `{}` is not a name that can be passed to a program", Untrusted(login));
        return Err(Refusal::denied(
            Code::Validation,
            "your GitLab login cannot be validated on this host",
            detail,
        ));
    }
    let Some(target) = question.target else { return Ok(login) };
    check_name(target).map_err(|violation| {
        let text = format!("you cannot run as `{}`", Untrusted(target));
        let detail = format!("the user asks for account `{}`: {violation}", Untrusted(target));
        Refusal::denied(Code::Validation, text, detail)
            .help("name a service account of your site in the CI variable, or none")
    })?;
    Ok(target)
}

/// The claims over the site's own variables.
fn environment(settings: &Validation, claims: &Claims<'_>) -> BTreeMap<String, String> {
    let mut all = settings.environment.clone();
    let mut set = |name: &str, value: Option<String>| {
        // A claim that there is none of must not be made up by the site's variables either.
        all.remove(name);
        if let Some(value) = value {
            all.insert(name.to_owned(), value);
        }
    };
    set("PATH", Some(PATH.to_owned()));
    set("NUNBIRD_VALIDATION_SCRIPT", settings.script.to_str().map(str::to_owned));
    set("JWT_USER_LOGIN", Some(claims.user_login.to_owned()));
    set("JWT_USER_EMAIL", claims.user_email.map(str::to_owned));
    set("JWT_USER_ID", Some(claims.user_id.to_string()));
    set("JWT_NAMESPACE_ID", claims.namespace_id.map(|id| id.to_string()));
    set("JWT_PROJECT_ID", Some(claims.project_id.to_string()));
    set("JWT_PROJECT_PATH", Some(claims.project_path.to_owned()));
    set("JWT_JOB_ID", Some(claims.job_id.to_string()));
    set("JWT_PIPELINE_ID", Some(claims.pipeline_id.to_string()));
    set("JWT_PIPELINE_SOURCE", claims.pipeline_source.map(str::to_owned));
    set("NUNBIRD_FORK", claims.fork.map(|fork| fork.to_string()));
    set("JWT_ISS", Some(claims.issuer_host.to_owned()));
    all.retain(|name, _| !name.starts_with("JWT_IDENTITY_"));
    for (name, value) in identities(claims.identities) {
        all.insert(name, value);
    }
    all
}

/// `JWT_IDENTITY_<PROVIDER>`, letters in capitals and every other character but digits as `_`. Two providers that end up with
/// one name have none: the program must not take one for the other.
fn identities(identities: &[(String, String)]) -> BTreeMap<String, String> {
    let name = |provider: &str| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        format!("JWT_IDENTITY_{}", provider.chars().map(plain).collect::<String>())
    };
    let mut named: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for (provider, uid) in identities {
        named.entry(name(provider)).or_default().push(uid);
    }
    named
        .into_iter()
        .filter_map(|(name, uids)| match uids[..] {
            [uid] => Some((name, uid.clone())),
            _ => None,
        })
        .collect()
}

/// Nothing, or one JSON object and nothing else.
fn read_answer(output: &[u8]) -> Result<Validated, String> {
    let text = output.trim_ascii();
    if text.is_empty() {
        return Ok(Validated::default());
    }
    // A struct would be read from an array as well.
    let object = text.starts_with(b"{");
    let parsed =
        if object { serde_json::from_slice(text) } else { Err(serde::de::Error::custom("no object")) };
    let answer: Validated =
        parsed.map_err(|e| format!("its output is not {{\"username\":…,\"data_dir\":…}}: {e}"))?;
    if let Some(name) = &answer.username {
        check_name(name).map_err(|e| format!("it answers with account `{}`: {e}", Untrusted(name)))?;
    }
    if let Some(path) = &answer.data_dir {
        let plain = path.to_str().is_some_and(|text| !text.chars().any(Untrusted::is_deceptive));
        let dots = path.components().any(|part| matches!(part, std::path::Component::ParentDir));
        if !path.is_absolute() || !plain || dots {
            return Err(format!(
                "it answers with data_dir `{}`, which is not a plain absolute path",
                Untrusted(&path.to_string_lossy())
            ));
        }
    }
    Ok(answer)
}
