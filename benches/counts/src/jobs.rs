//! Work with tokens, records, messages and events of one job.

use crate::Work;
use nunbird_audit::{Circumstances, Event, Outcome, encode};
use nunbird_handover::{
    Account, Audit, Credentials, ExitCodes, FORMAT_VERSION, Handover, Identity, JobSpec, RuleRef, Shell,
    SiteRules, Task, Workspace,
};
use nunbird_judge::evidence::{Evidence, by_id_tokens};
use nunbird_judge::questions::{Asked, ByTokens};
use nunbird_messages::{AccountIds, Isolation, JobDirectory, ProcessLimits, Record, Version};
use nunbird_policy::Policy;
use nunbird_token::{KEYS_VERSION, KeyMaterial, KeysFile, StoredKey};
use nunbird_wire::Message;
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::path::Path;

/// When the token counts. Its key was thrown away.
const NOW: u64 = 1_790_000_000;
const URL: &str = "https://gitlab.example.org";

#[derive(Deserialize)]
struct Signed {
    n: String,
    e: String,
    token: String,
}

/// Verifies an RS256 token of a job with so many variables, through the messages between decider and verifier.
pub(crate) fn verify(variables: usize) -> Work {
    let Signed { n, e, token } = serde_json::from_str(include_str!("../token.json")).expect("a token");
    let text = format!(
        "[[gitlab]]\nname = \"site\"\nurl = \"{URL}\"\naudience = \"{URL}\"\n[[rule]]\nname = \"r\"\nrun_as = \"$user_login\"\n"
    );
    let policy =
        Policy::parse(Path::new("config.toml"), &text).unwrap_or_else(|findings| panic!("{findings:?}"));
    let key = StoredKey {
        kid: "one".to_owned(),
        material: KeyMaterial::Rs256 { n, e },
        last_seen: NOW,
        pinned: false,
    };
    let keys = KeysFile {
        version: KEYS_VERSION,
        server: "site".to_owned(),
        issuer: URL.to_owned(),
        fetched_at: NOW,
        keys: vec![key],
    };
    let keys = vec![serde_json::to_vec(&keys).expect("keys")];
    let mut all: Vec<_> = (1..variables)
        .map(|n| json!({"key": format!("VARIABLE_{n}"), "value": format!("value {n}"), "public": true, "masked": false}))
        .collect();
    let name = policy.identity.token_variables.first().expect("a variable");
    all.push(json!({"key": name, "value": token, "masked": true}));
    let response = json!({
        "id": 500, "token": "glcbt-secret", "variables": all,
        "job_info": {"name": "build", "project_id": 3, "user_id": 7, "pipeline_id": 50},
        "git_info": {"repo_url": "https://gitlab-ci-token:x@gitlab.example.org/hpc/app.git"},
    });
    let response = response.to_string().into_bytes();
    let sound = by_id_tokens(&Evidence { response: &response, keys: &keys, now: NOW }, &policy);
    assert_eq!(sound.map(|admitted| admitted.user_login), Ok("alice".to_owned()));
    Box::new(move || {
        let question = Asked::Tokens(ByTokens::of(&policy, &keys, NOW)).to_bytes();
        let answer =
            Asked::from_bytes(black_box(&question)).expect("a question").answer(black_box(&response));
        assert!(matches!(nunbird_token::decode(&answer), Ok(Ok(_))));
    })
}

fn environment(variables: usize) -> BTreeMap<String, String> {
    (0..variables).map(|n| (format!("SITE_VARIABLE_{n}"), format!("/opt/site/{n}"))).collect()
}

fn account() -> Account {
    Account {
        name: "alice".to_owned(),
        uid: 4101,
        gid: 4101,
        home: "/home/alice".into(),
        shell: "/bin/bash".into(),
    }
}

fn identity() -> Identity {
    Identity {
        server: "site".to_owned(),
        user_login: "alice".to_owned(),
        user_id: 7,
        project_path: "hpc/app".to_owned(),
    }
}

fn workspace() -> Workspace {
    Workspace {
        data_dir: "/home/alice/ci".into(),
        builds_root: "/home/alice/ci".into(),
        builds_dir: "/home/alice/ci/builds/host/0".into(),
        cache_dir: "/home/alice/ci/cache".into(),
        project_dir: "/home/alice/ci/builds/host/0/hpc/app".into(),
    }
}

fn spec(variables: usize) -> JobSpec {
    JobSpec {
        decision_id: "0123456789abcdef".repeat(2),
        job_id: 500,
        pipeline_id: 50,
        project_id: 3,
        identity: identity(),
        fork: None,
        rule: RuleRef { name: "people".to_owned(), file: "/etc/nunbird/config.toml".into(), line: 7 },
        policy_digest: "0".repeat(64),
        account: account(),
        admitted_at: NOW,
        expires_at: NOW + 3600,
        workspace: workspace(),
        shell: Shell { path: "/bin/bash".into(), login: true },
        environment: environment(variables),
        batch: None,
        container: None,
        queued_s: Some(3),
        limits: None,
        site: SiteRules::default(),
        identity_source: "id_token".to_owned(),
        audit: Audit {
            file: Some("/var/log/nunbird/audit.jsonl".into()),
            required: true,
            ..Audit::default()
        },
    }
}

/// Writes the record of a job whose site sets so many variables, and reads it again.
pub(crate) fn record(variables: usize) -> Work {
    let spec = spec(variables);
    Box::new(move || {
        let record = Record {
            version: Version,
            closed: false,
            decision_id: spec.decision_id.clone(),
            job_id: spec.job_id,
            server: spec.identity.server.clone(),
            runner_uid: 4001,
            runner: None,
            job_directory: JobDirectory { path: "/runner/custom-executor1".into(), device: 1, inode: 2 },
            boot_id: "5f1c6d5e-2b0a-4b0e-9d6a-0f4c8a3b7e21".to_owned(),
            expires_at: spec.expires_at,
            expires_at_boottime: 9_000,
            slot: 0,
            account: AccountIds { name: spec.account.name.clone(), uid: 4101, gid: 4101 },
            policy_path: "/etc/nunbird/config.toml".into(),
            launcher: "/opt/nunbird/bin/nunbird".into(),
            builds_dir: spec.workspace.builds_dir.clone(),
            own_directory: None,
            isolation: Isolation::default(),
            pam: None,
            processes: ProcessLimits::default(),
            group: None,
            machine: None,
            scheduler: false,
            body: black_box(&spec).to_bytes().expect("a body"),
        };
        let read = Record::from_bytes(black_box(&record.to_bytes())).expect("the record");
        assert_eq!(JobSpec::from_bytes(&read.body).expect("the body").job_id, 500);
    })
}

/// Writes the message for a launcher with so many variables of the site, makes its environment, and reads the message.
pub(crate) fn handover(variables: usize) -> Work {
    let spec = spec(variables);
    Box::new(move || {
        let handover = Handover {
            version: FORMAT_VERSION,
            decision_id: spec.decision_id.clone(),
            job_id: spec.job_id,
            task: Task::Run("build_script".to_owned()),
            account: spec.account.clone(),
            identity: spec.identity.clone(),
            workspace: spec.workspace.clone(),
            shell: spec.shell.clone(),
            environment: spec.environment.clone(),
            session_variables: BTreeSet::new(),
            umask: None,
            exit_codes: ExitCodes::default(),
            exit_code_file: true,
            batch: None,
            container: None,
            credentials: Credentials::default(),
            credential_helpers: Vec::new(),
            site: spec.site.clone(),
            expires_at: spec.expires_at,
            timed_out: false,
        };
        assert!(black_box(&handover).launch_environment().is_ok());
        let bytes = handover.to_bytes().expect("a message");
        assert!(Handover::from_bytes(black_box(&bytes)).is_ok());
    })
}

/// Encodes the event of a stage's start.
pub(crate) fn event(_: usize) -> Work {
    let spec = spec(20);
    Box::new(move || {
        let circumstances = Circumstances {
            decision_id: &spec.decision_id,
            stage: "run",
            script: None,
            usage: None,
            runner_uid: 4001,
            privilege: "setuid",
        };
        let event = Event::of(&circumstances, Some(&spec), Outcome::StageStarted);
        assert!(black_box(encode::json_line(black_box(&event))).is_ok());
    })
}
