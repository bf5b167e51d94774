//! A job with a container, for tests.

use nunbird_handover::{
    Account, Bind, CONTAINER_STAGES, CacheBounds, Container, Credentials, Engine, ExitCodes, FORMAT_VERSION,
    Handover, Identity, Image, PullPolicy, Shell, SiteRules, Task, Workspace,
};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn bind(source: &str, target: &str, writable: bool) -> Bind {
    Bind { source: source.into(), target: target.into(), writable, optional: false }
}

pub(crate) fn container() -> Container {
    Container {
        name: "plain".to_owned(),
        engine: Engine::Named("podman".to_owned()),
        program: None,
        image: Some(Image {
            name: "alpine".to_owned(),
            entrypoint: None,
            user: None,
            platform: None,
            pull: vec![PullPolicy::IfNotPresent],
            digest_required: false,
        }),
        runner_image: None,
        services: Vec::new(),
        stages: CONTAINER_STAGES.map(str::to_owned).to_vec(),
        directory: "/d/containers/1".into(),
        store: None,
        cache: "/d/images".into(),
        shared_cache: None,
        cache_bounds: CacheBounds::default(),
        binds: Vec::new(),
        home: false,
        gpu: None,
        root: false,
        host_network: true,
        options: Vec::new(),
        engine_environment: BTreeMap::new(),
        no_new_privileges: false,
        pull_timeout: 60,
        service_timeout: 30,
        service_required: false,
        service_logs: false,
        credential_helpers: nunbird_handover::CredentialHelpers::default(),
    }
}

pub(crate) fn handover() -> Handover {
    Handover {
        version: FORMAT_VERSION,
        decision_id: "0123456789abcdef".repeat(2),
        job_id: 1,
        task: Task::Prepare,
        account: Account {
            name: "alice".to_owned(),
            uid: 5001,
            gid: 5002,
            home: "/home/a".into(),
            shell: "/bin/sh".into(),
        },
        identity: Identity {
            server: "main".to_owned(),
            user_login: "alice".to_owned(),
            user_id: 7,
            project_path: "a/b".to_owned(),
        },
        workspace: Workspace {
            data_dir: "/d".into(),
            builds_root: "/d".into(),
            builds_dir: "/d/b".into(),
            cache_dir: "/d/c".into(),
            project_dir: "/d/b/p".into(),
        },
        shell: Shell { path: "/bin/bash".into(), login: false },
        environment: BTreeMap::new(),
        session_variables: BTreeSet::new(),
        umask: None,
        exit_codes: ExitCodes::default(),
        exit_code_file: false,
        batch: None,
        container: Some(container()),
        credentials: Credentials::default(),
        credential_helpers: Vec::new(),
        site: SiteRules::default(),
        expires_at: u64::MAX,
        timed_out: false,
    }
}
