//! The launcher, started as `nunbird-auth` starts it, for a CI job with a container on a [`Node`].

use super::node::Node;
use super::person::Person;
use super::whole::plain_container;
use crate::scheduler::stage::{BUILD_FAILURE, Ended, SYSTEM_FAILURE, Stage};
use nunbird_handover::{
    Account, Container, Credential, Credentials, Engine, ExitCodes, Handover, Identity, Image, SUMMARY_SIZE,
    Shell, SiteRules, Task, Workspace,
};
use nunbird_messages::{Envelope, Version};
use nunbird_wire::Message;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

/// One CI job of a person's.
#[derive(Debug)]
pub struct Job<'n> {
    node: &'n Node,
    person: Person<'n>,
    directory: PathBuf,
    /// What the launcher is given; change it before a stage.
    pub handover: Handover,
    starts: Cell<u32>,
}

impl<'n> Job<'n> {
    /// A job whose scripts run in an image with one of the built-in engines.
    ///
    /// # Panics
    /// When its directory cannot be made.
    pub fn new(node: &'n Node, person: Person<'n>, engine: &str, image: Option<&str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = node.directory().join(format!("job-{number}"));
        fs::create_dir(&directory).expect("a directory");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("a mode");
        let handover = handover(&person, number, engine, image);
        Job { node, person, directory, handover, starts: Cell::new(0) }
    }

    /// Its container.
    ///
    /// # Panics
    /// Never: a job of this kind has one.
    pub fn container(&mut self) -> &mut Container {
        self.handover.container.as_mut().expect("a container")
    }

    /// Its image.
    ///
    /// # Panics
    /// When it has none.
    pub fn image(&mut self) -> &mut Image {
        self.container().image.as_mut().expect("an image")
    }

    /// Gives it a password for a registry.
    pub fn knows(&mut self, registry: &str, user: &str, password: &str) {
        let [registry, user, password] = [registry, user, password].map(str::to_owned);
        self.handover.credentials = Credentials(vec![Credential { registry, user, password, site: None }]);
    }

    /// Runs its `prepare` stage.
    pub fn prepare(&self) -> Ended {
        self.start(Task::Prepare, "").finish()
    }

    /// Runs the user's script to its end.
    pub fn run(&self, script: &str) -> Ended {
        self.begin(script).finish()
    }

    /// Starts the user's script.
    pub fn begin(&self, script: &str) -> Stage {
        self.start(Task::Run("build_script".to_owned()), script)
    }

    /// Runs the cleanup stage.
    pub fn cleanup(&self) -> Ended {
        self.start(Task::Cleanup, "").finish()
    }

    /// Starts a stage. A signal to it reaches the launcher.
    ///
    /// # Panics
    /// When the launcher cannot be started.
    pub fn start(&self, task: Task, script: &str) -> Stage {
        self.starts.set(self.starts.get() + 1);
        let at = self.directory.join(self.starts.get().to_string());
        fs::create_dir(&at).expect("a directory");
        let mut handover = Handover { task, ..self.handover.clone() };
        if handover.task != Task::Prepare {
            handover.credentials = Credentials::default();
        }
        let message = handover.message().expect("a handover");
        let envelope = Envelope { version: Version, message, session: None };
        for (name, bytes) in [
            ("handover", envelope.to_bytes()),
            ("script", script.into()),
            ("exit_code", b"1\n".to_vec()),
            ("summary", vec![0; SUMMARY_SIZE]),
        ] {
            fs::write(at.join(name), bytes).expect("a file");
            fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        let line = format!(
            "cd {at} && exec 3<handover 4<script 5<>exit_code 9<>summary && exec {ids} {launcher}",
            at = at.display(),
            ids = self.person.take_ids(),
            launcher = self.node.program("nunbird").display(),
        );
        let mut command = self.node.root();
        command.args(["sh", "-c", &line]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Stage::below(command.spawn().expect("nsenter starts"), at)
    }
}

fn handover(person: &Person<'_>, number: u32, engine: &str, image: Option<&str>) -> Handover {
    let home = PathBuf::from(person.home());
    let data_dir = home.join("ci");
    let builds_dir = data_dir.join("builds/0");
    let directory = data_dir.join(format!("containers/{number}"));
    let container = plain_container(Engine::Named(engine.to_owned()), image, &data_dir, directory);
    Handover {
        version: nunbird_handover::FORMAT_VERSION,
        decision_id: format!("{number:08x}{:024x}", std::process::id()),
        job_id: u64::from(number),
        task: Task::Prepare,
        account: Account {
            name: person.name().to_owned(),
            uid: person.uid(),
            gid: person.uid(),
            home,
            shell: "/bin/bash".into(),
        },
        identity: Identity {
            server: "main".to_owned(),
            user_login: person.name().to_owned(),
            user_id: 42,
            project_path: "group/project".to_owned(),
        },
        workspace: Workspace {
            project_dir: builds_dir.join("group/project"),
            cache_dir: data_dir.join("cache"),
            builds_root: data_dir.clone(),
            data_dir,
            builds_dir,
        },
        shell: Shell { path: "/bin/bash".into(), login: false },
        environment: BTreeMap::new(),
        session_variables: BTreeSet::new(),
        umask: None,
        exit_codes: ExitCodes { build_failure: BUILD_FAILURE, system_failure: SYSTEM_FAILURE },
        exit_code_file: true,
        batch: None,
        container: Some(container),
        credentials: Credentials::default(),
        credential_helpers: Vec::new(),
        site: SiteRules::default(),
        expires_at: u64::MAX,
        timed_out: false,
    }
}
