//! One function for each kind of untrusted bytes, with the properties that must hold for any of
//! them.
//!
//! `make test` runs them on the corpora and on a fixed number of generated inputs; `make fuzz` runs
//! each under libFuzzer, which is guided by coverage. An input that breaks one is added to its
//! corpus, and so becomes a test.

#![forbid(unsafe_code)]

#[path = "../../auth/src/arguments.rs"]
mod arguments;
mod call;
#[path = "../../auth/src/inputs.rs"]
#[expect(dead_code, reason = "`Inputs::take`, which takes the process's own environment")]
mod inputs;
mod jwks;

pub use call::{command_line, job_environment, variables};
pub use jwks::jwks;

use nunbird_cgroup::systemd::{Reply, read_reply};
use nunbird_handover::{Handover, JobSpec, Untrusted};
use nunbird_messages::{Claim, Envelope, Record, SessionOrder};
use nunbird_policy::{AccountFacts, Host, HostError, MapFile, Policy, Verdict, check_name, decide};
use nunbird_token::{Admitted, Claims, KeysFile, Question, Response, Server};
use nunbird_wire::Message;
use std::borrow::Cow;
use std::path::Path;

/// A target by name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Each has a directory with its name below `corpus/`.
pub const TARGETS: [Target; 14] = [
    ("token", token),
    ("claims", claims),
    ("message", message),
    ("response", response),
    ("configuration", configuration),
    ("keys", keys),
    ("record", record),
    ("untrusted", untrusted),
    ("command_line", command_line),
    ("variables", variables),
    ("job_environment", job_environment),
    ("jwks", jwks),
    ("job_answer", job_answer),
    ("systemd", systemd),
];

/// A job's id token from any source: without a known key, no identity is ever verified.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let server = Server {
        issuer: "https://gitlab.example.org".to_owned(),
        audience: vec!["https://gitlab.example.org".to_owned()],
        algorithms: vec!["RS256", "ES256", "ES384"],
        runner_ids: Vec::new(),
        repositories: vec!["https://gitlab.example.org".to_owned()],
        keys_max_age: 86400,
        keys: Vec::new(),
    };
    assert!(nunbird_token::verify(text, &[server], 1).is_err());
}

/// The signed payload: what is accepted is plain text and valid ids.
pub fn claims(bytes: &[u8]) {
    let Some(claims) = Claims::parse(bytes) else { return };
    for text in [&claims.user_login, &claims.project_path, &claims.git_ref, &claims.pipeline_source] {
        assert!(!text.is_empty() && !text.chars().any(Untrusted::is_deceptive));
    }
    assert!(claims.job_id.0 != 0 && claims.user_id.0 != 0);
}

/// A server's answer about a job: what is accepted belongs to this job and this server.
pub fn job_answer(bytes: &[u8]) {
    let response = br#"{"id":7,"token":"x","job_info":{"project_id":3},"git_info":{"repo_url":"https://g.example.org/a/b.git"}}"#;
    let question = nunbird_token::JobQuestion {
        response,
        answer: bytes,
        server: 0,
        url: "https://g.example.org",
        runner_ids: &[],
        now: 1,
        account_variable: None,
        builds_variable: Some("CUSTOM_CI_BUILDS_DIR"),
    };
    let of_user = nunbird_token::UserQuestion { response, answer: bytes, runner_ids: &[] };
    if let Ok(user) = nunbird_token::job_user(&of_user) {
        assert!(user.id != 0 && !user.username.is_empty() && user.state.as_deref() != Some(""));
        assert!(!user.username.chars().any(Untrusted::is_deceptive));
        assert_eq!(
            nunbird_token::decode_job_user(&nunbird_token::encode_job_user(&Ok(user.clone()))),
            Ok(Ok(user))
        );
    }
    if let Ok(admitted) = nunbird_token::admit_by_job_token(&question) {
        assert_eq!((admitted.job_id, admitted.project_id, admitted.ref_protected), (7, 3, None));
        assert!(admitted.project_path.contains('/') && !admitted.project_path.contains(".."));
        assert!(!admitted.user_login.is_empty() && !admitted.user_login.chars().any(Untrusted::is_deceptive));
        assert_eq!(nunbird_token::decode(&nunbird_token::encode(&Ok(admitted.clone()))), Ok(Ok(admitted)));
    }
}

/// The worker's answer: what is accepted is encoded again to the same bytes, and its path stays
/// below the builds directory.
pub fn message(bytes: &[u8]) {
    if let Ok(found) = nunbird_token::decode_job_user(bytes) {
        assert_eq!(nunbird_token::decode_job_user(&nunbird_token::encode_job_user(&found)), Ok(found));
    }
    if let Ok(found) = nunbird_token::decode_job_token(bytes) {
        assert_eq!(nunbird_token::decode_job_token(&nunbird_token::encode_job_token(&found)), Ok(found));
    }
    let Ok(answer) = nunbird_token::decode(bytes) else { return };
    assert_eq!(nunbird_token::decode(&nunbird_token::encode(&answer)), Ok(answer.clone()));
    if let Ok(Admitted { user_login, project_dir, job_id, containers, .. }) = answer {
        assert!(!user_login.chars().any(Untrusted::is_deceptive));
        assert!(project_dir.is_relative() && !project_dir.starts_with("..") && job_id != 0);
        for image in containers.asked.iter().flat_map(|asked| &asked.image) {
            assert!(!image.name.is_empty() && !image.name.chars().any(Untrusted::is_deceptive));
        }
    }
}

/// The runner's job response: without keys no job is admitted, and a project's directory never
/// leaves the builds directory.
pub fn response(bytes: &[u8]) {
    if let Some(response) = Response::parse(bytes)
        && let Some(directory) = response.project_dir()
    {
        assert!(directory.components().all(|c| matches!(c, std::path::Component::Normal(_))));
    }
    let names = ["SITE_ID_TOKEN".to_owned()];
    let question = Question {
        response: bytes,
        token_variables: &names,
        servers: &[],
        now: 1,
        clock_skew: 60,
        account_variable: None,
        builds_variable: Some("CUSTOM_CI_BUILDS_DIR"),
    };
    assert!(nunbird_token::admit(&question).is_err());
}

/// The configuration: a policy, or findings with a place in the text; and no policy admits root.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Policy::parse(Path::new("/etc/nunbird/config.toml"), text) {
        Err(findings) => {
            assert!(!findings.is_empty());
            for finding in findings {
                let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
                assert!(finding.place.line >= 1 && finding.place.line <= lines.max(1) + 1);
                let shown = finding.to_string();
                assert!(!shown.chars().any(|c| c != '\n' && Untrusted::is_deceptive(c)));
            }
        }
        Ok(policy) => {
            assert!(policy.accounts.min_uid >= 100 && !policy.gitlab.is_empty());
            let subject = nunbird_policy::Subject {
                server: policy.gitlab.first().map(|s| s.name.clone()).unwrap_or_default(),
                user_login: "root".to_owned(),
                project_path: "a/b".to_owned(),
                ..nunbird_policy::Subject::default()
            };
            if let Verdict::Admitted { account, .. } = decide(&policy, &subject, &Everybody, 990).verdict {
                assert!(check_name(&account.name).is_ok() && account.uid >= policy.accounts.min_uid);
            }
        }
    }
}

/// A host where every name exists.
struct Everybody;

impl Host for Everybody {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        Ok(Some(AccountFacts {
            name: name.to_owned(),
            uid: 5000,
            gid: 5000,
            groups: vec![5000],
            home: "/home/x".into(),
            shell: "/bin/sh".into(),
            name_of_uid: Some(name.to_owned()),
        }))
    }

    fn group(&self, _: &str) -> Result<Option<u32>, HostError> {
        Ok(None)
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        Ok(self.group(group)?.map(|gid| account.is_in(gid)))
    }

    fn map(&self, _: &MapFile) -> Result<Cow<'_, str>, HostError> {
        Ok(Cow::Borrowed("root root\n"))
    }

    fn pinned(&self, _: Option<&std::path::Path>, _: &str, _: &str) -> Result<Option<u64>, HostError> {
        Ok(None)
    }

    fn server_user(&self, job: &nunbird_policy::Subject) -> Result<nunbird_policy::ServerUser, HostError> {
        Ok(nunbird_policy::ServerUser::person(job))
    }
}

/// A keys file: what is parsed is encoded again as the same value.
pub fn keys(bytes: &[u8]) {
    let Ok(file) = serde_json::from_slice::<KeysFile>(bytes) else { return };
    let again = serde_json::to_vec(&file).expect("a keys file is JSON");
    assert_eq!(serde_json::from_slice::<KeysFile>(&again).expect("the same"), file);
}

/// A job record, a claim, an order for a session, and what the decider writes: what is read is written again as the same value, and the
/// messages of fixed layout as the same bytes.
pub fn record(bytes: &[u8]) {
    fn exact<M: Message>(bytes: &[u8]) {
        if let Ok(message) = M::from_bytes(bytes) {
            assert_eq!(message.to_bytes(), bytes);
        }
    }
    exact::<Record>(bytes);
    exact::<Claim>(bytes);
    exact::<SessionOrder>(bytes);
    exact::<Envelope>(bytes);
    if let Ok(spec) = JobSpec::from_bytes(bytes) {
        let again = spec.to_bytes().expect("what the decider keeps is JSON");
        assert_eq!(JobSpec::from_bytes(&again).expect("the same"), spec);
    }
    if let Ok(handover) = Handover::from_message(bytes) {
        let again = handover.message().expect("a message is JSON");
        assert_eq!(Handover::from_message(&again).expect("the same"), handover);
    }
}

/// What systemd sends: a reply is found, or the error is reported, with no more of the text than
/// fits in a log line.
pub fn systemd(bytes: &[u8]) {
    for serial in [1, 2] {
        if let Ok(Reply::Error(name, words)) = read_reply(bytes, serial) {
            // A truncated or invalid character becomes a replacement of three bytes.
            assert!(name.len() <= 1500 && words.len() <= 1500);
        }
    }
}

/// Printed text: no deceptive character is left in it.
pub fn untrusted(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(!Untrusted(&text).to_string().chars().any(Untrusted::is_deceptive));
}
