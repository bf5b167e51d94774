//! The site's own program that has a say in the account of a job, as Jacamar's RunAs script.
//!
//! Called by `config` with privilege, when the identity is proven and before the policy is asked. The program is called as
//! `SCRIPT LOGIN` or, when the user named an account to become, as `SCRIPT TARGET LOGIN`; it gets the claims in its environment,
//! never a token. It runs as an account of its own, for a bounded time, and nothing of it is left when this returns.
//!
//! Its answer is believed as far as a rule's: the account that it names must pass the invariants like any other.

use crate::refusal::{Code, Refusal};
use crate::rights::Rights;
use aws_lc_rs::digest;
use nunbird_drop::surrender::{self, Failure, Ids};
use nunbird_files::identity::FileIdentity;
use nunbird_files::trusted::open_trusted;
use nunbird_handover::Untrusted;
use nunbird_policy::{Validation, check_name};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::offspring::{self, Adoption, Said};
use nunbird_sys::{answer, exec, process, signals, users};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// The largest program, in bytes.
const MAX_PROGRAM: u64 = 16 << 20;
/// The most that it may say on each of its outputs, in bytes.
const MAX_WORDS: usize = 64 << 10;
/// How long its processes may take to end once they are killed.
const END: Duration = Duration::from_secs(2);
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

/// Everything that the program's start needs, prepared while a refusal can still be told properly.
struct Start {
    program: File,
    argv: Vec<CString>,
    environment: Vec<CString>,
    ids: Ids,
    seconds: u64,
}

/// Asks the site's program.
///
/// # Errors
/// A denial when it says no, or when login or target are no names; a system refusal when it cannot be used or does anything
/// but answer in time.
pub fn ask(settings: &Validation, question: &Question<'_>, rights: Rights) -> Result<Validated, Refusal> {
    let name = named(question)?;
    let start = prepare(settings, question, rights)?;
    let uid = start.ids.uid;
    let said = run(&start, rights, Duration::from_secs(settings.timeout))
        .map_err(|e| unusable(settings, &format!("could not be run: {e}")))?;
    let words = String::from_utf8_lossy(&said.errors).into_owned();
    let said_so = |what: String| unusable(settings, &format!("as uid {uid}: {what}\n{words}"));
    match said.ended {
        Ok(Ended::Exited(0)) => read_answer(&said.output).map_err(said_so),
        Ok(Ended::Exited(code)) => {
            let text = format!("your site does not let you run as `{}`", Untrusted(name));
            let detail = format!("{} ended with exit code {code}\n{words}", settings.script.display());
            Err(Refusal::denied(Code::Validation, text, detail))
        }
        Ok(Ended::Killed(signal)) => Err(said_so(format!("was ended by signal {signal}"))),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => {
            Err(said_so(format!("did not end within {} seconds", settings.timeout)))
        }
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
            Err(said_so(format!("printed more than {MAX_WORDS} bytes")))
        }
        Err(e) => Err(said_so(e.to_string())),
    }
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
        let detail = format!("login `{}` is no name that a program could be given", Untrusted(login));
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

fn prepare(settings: &Validation, question: &Question<'_>, rights: Rights) -> Result<Start, Refusal> {
    let refuse = |e: &dyn Display| unusable(settings, e);
    let program = open(settings, rights).map_err(|e| refuse(&e))?;
    let ids = account(&settings.user, rights).map_err(|e| refuse(&e))?;
    let nul = |e: std::ffi::NulError| refuse(&format!("a claim cannot be passed on: {e}"));
    let mut argv = vec![CString::new(settings.script.as_os_str().as_bytes()).map_err(nul)?];
    for word in question.target.into_iter().chain([question.claims.user_login]) {
        argv.push(CString::new(word).map_err(nul)?);
    }
    let variables = environment(settings, &question.claims).into_iter();
    let environment: Result<_, _> =
        variables.map(|(name, value)| CString::new(format!("{name}={value}"))).collect();
    Ok(Start { program, argv, environment: environment.map_err(nul)?, ids, seconds: settings.timeout })
}

/// The program in a memory file that nobody can change any more: what is hashed is what runs.
///
/// The program itself need not be readable by the account that runs it.
fn open(settings: &Validation, rights: Rights) -> Result<File, String> {
    let keeper = rights.keeper;
    let _identity = FileIdentity::assume(keeper.uid, keeper.gid).map_err(|e| e.to_string())?;
    let file = open_trusted(&settings.script, &rights.trusted_owners()).map_err(|e| e.to_string())?;
    let mut digest = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    let name = c"nunbird-validation";
    let copy = exec::sealed_program(name, &file, MAX_PROGRAM, &mut buffer, |piece| digest.update(piece))
        .map_err(|e| format!("cannot be read: {e}"))?;
    let found: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    match &settings.sha256 {
        Some(wanted) if !wanted.eq_ignore_ascii_case(&found) => {
            Err(format!("its SHA-256 is {found} and validation.sha256 says {wanted}"))
        }
        _ => Ok(copy),
    }
}

/// The account that the program runs as.
fn account(name: &str, rights: Rights) -> Result<Ids, String> {
    let entry =
        users::by_name(name).map_err(|e| format!("validation.user `{name}` cannot be looked up: {e}"))?;
    let entry = entry.ok_or_else(|| format!("validation.user `{name}` is not in the user database"))?;
    let runners = entry.uid == rights.caller.uid && entry.uid != 0;
    if rights.privileged && runners {
        return Err(format!(
            "validation.user `{name}` runs gitlab-runner, which could put words into its mouth"
        ));
    }
    if !rights.privileged && !runners {
        return Err(format!(
            "validation.user `{name}` must be the account itself where downscope is \"none\""
        ));
    }
    Ok(Ids { uid: entry.uid, gid: entry.gid, groups: entry.groups })
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

/// Runs the program to its end, and the end of everything that it started.
fn run(start: &Start, rights: Rights, patience: Duration) -> io::Result<Said> {
    let (output, output_end) = io::pipe()?;
    let (errors, errors_end) = io::pipe()?;
    // Closed by execve(2): what comes through it was said before the program began.
    let (trouble, trouble_end) = io::pipe()?;
    let trouble_end = exec::out_of_the_way(&File::from(OwnedFd::from(trouble_end)))?;
    let adoption = Adoption::begin()?;
    let parent = process::id();
    let child = fork_into(|| {
        let Err(error) = become_program(start, rights, parent, (&output_end, &errors_end));
        i32::from((&trouble_end).write_all(error.to_string().as_bytes()).is_err())
    })?;
    drop((output_end, errors_end, trouble_end));
    let said = offspring::listen(&child, [output, errors], MAX_WORDS, patience);
    adoption
        .end_all(start.ids.uid, END)
        .map_err(|e| io::Error::new(e.kind(), format!("its processes could not be ended: {e}")))?;
    let trouble = answer::read_to_end(trouble, MAX_WORDS, END)?;
    if trouble.is_empty() {
        Ok(said)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&trouble).into_owned()))
    }
}

/// In the child: the program's ids for good, no descriptors but its own, its environment.
fn become_program(
    start: &Start,
    rights: Rights,
    parent: i32,
    (output, errors): (&io::PipeWriter, &io::PipeWriter),
) -> Result<Infallible, Failure> {
    let step = |step: &'static str| move |error: io::Error| Failure { step, error };
    exec::outputs_to(output, errors).map_err(step("dup2"))?;
    process::null_stdin().map_err(step("stdin"))?;
    process::new_session().map_err(step("setsid"))?;
    process::set_umask(0o077);
    std::env::set_current_dir("/").map_err(step("chdir"))?;
    // For where the dying parent may not signal the program.
    process::end_after(u32::try_from(start.seconds).unwrap_or(u32::MAX).saturating_add(1));
    process::bound_resources(start.seconds).map_err(step("setrlimit"))?;
    become_account(&start.ids, rights)?;
    process::die_with_parent(signals::KILL, parent).map_err(step("prctl(PR_SET_PDEATHSIG)"))?;
    if start.ids.uid != 0 {
        process::no_new_privileges().map_err(step("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    }
    process::default_signals().map_err(step("signals"))?;
    exec::execute_script(&start.program, &start.argv, &start.environment).map_err(step("execveat"))
}

fn become_account(ids: &Ids, rights: Rights) -> Result<(), Failure> {
    match ids.uid {
        _ if !rights.can_change_user => surrender::stay_user(&mut Linux, ids.uid, ids.gid),
        // The site says so. There is nothing to give up but what the runner left behind.
        0 => {
            let become_root = || {
                Linux.set_groups(&[0])?;
                Linux.set_gids(0, 0, 0)?;
                Linux.set_uids(0, 0, 0)?;
                Linux.new_session_keyring().or_else(|e| match e.kind() {
                    io::ErrorKind::Unsupported => Ok(()),
                    _ => Err(e),
                })
            };
            become_root().map_err(|error| Failure { step: "becoming root", error })
        }
        _ => surrender::become_user(&mut Linux, ids),
    }
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
                "it answers with data_dir `{}`, which is no plain absolute path",
                Untrusted(&path.to_string_lossy())
            ));
        }
    }
    Ok(answer)
}
