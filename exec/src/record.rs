//! What is written down of a run while it lives, and of one that is kept: enough to end what it has left running, and to open a prompt in
//! what it has left.
//!
//! The file lies beside the build directory, where no container has it. Values of `--variables` and of file variables are not in it: only
//! where they come from. They are read again for a prompt.

use crate::secrets::Given;
use crate::surroundings::service_variables;
use crate::variables::{Values, Variables};
use nunbird_handover::Handover;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Changes with the layout.
const VERSION: u32 = 1;

/// A run, or the last prompt in what it has left.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    /// The job's name.
    pub(crate) job: String,
    /// Seconds since the epoch.
    pub(crate) begun: u64,
    /// How the run ended; none while it lives, and of one that was killed.
    pub(crate) ended: Option<Ended>,
    /// Whether there may be processes, a container or an allocation of this decision.
    pub(crate) live: bool,
    /// What the launcher was started with. Services have no variables here.
    pub(crate) handover: Handover,
    /// The digest of the image, where that is known.
    pub(crate) digest: Option<String>,
    /// The job's variables before expansion, without the user's own.
    layers: Variables,
    /// Those of the command line, which other accounts have seen.
    given: Given,
    /// The file of `--variables`.
    pub(crate) variables_file: Option<PathBuf>,
    /// Names of variables that services get as well.
    public: Vec<String>,
    /// The services' own variables, in their order.
    services: Vec<Variables>,
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ended {
    /// Its exit status.
    pub(crate) status: u8,
    /// Seconds since the epoch.
    pub(crate) at: u64,
}

/// Where the variables of a run come from.
#[derive(Debug)]
pub(crate) struct Origins<'a> {
    pub(crate) layers: &'a Variables,
    pub(crate) of_command_line: &'a Given,
    pub(crate) variables_file: Option<&'a Path>,
    pub(crate) public: &'a [String],
    pub(crate) services: Vec<Variables>,
}

impl Record {
    /// A run that begins.
    pub(crate) fn new(job: &str, begun: u64, handover: &Handover, from: Origins<'_>) -> Record {
        let mut handover = handover.clone();
        if let Some(container) = &mut handover.container {
            container.services.iter_mut().for_each(|service| service.variables = BTreeMap::new());
        }
        Record {
            version: VERSION,
            job: job.to_owned(),
            begun,
            ended: None,
            live: true,
            handover,
            digest: None,
            layers: from.layers.clone(),
            given: from.of_command_line.clone(),
            variables_file: from.variables_file.map(Path::to_owned),
            public: from.public.to_vec(),
            services: from.services,
        }
    }

    /// The same while a prompt is open that was started with this message.
    pub(crate) fn open(&self, prompt: Handover) -> Record {
        Record { handover: prompt, live: true, ..self.clone() }
    }

    /// The same once nothing is left of the run or the prompt.
    pub(crate) fn closed(&self) -> Record {
        Record { live: false, ..self.clone() }
    }

    /// Reads one.
    ///
    /// # Errors
    /// For the text of another version.
    pub(crate) fn parse(text: &[u8]) -> Result<Record, String> {
        let record: Record = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        match (record.version, record.handover.version) {
            (VERSION, nunbird_handover::FORMAT_VERSION) => Ok(record),
            _ => Err("it is of another version of Nunbird".to_owned()),
        }
    }

    /// Its text.
    ///
    /// # Errors
    /// For a path that is not UTF-8.
    pub(crate) fn text(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|e| e.to_string())
    }

    /// What the user gave, with the content of the file as it is now.
    pub(crate) fn given(&self, of_file: &Given) -> Given {
        let mut given = of_file.clone();
        given.add(&self.given);
        given
    }

    /// The job's variables as its script saw them, with what the user gives.
    ///
    /// # Errors
    /// As expansion.
    pub(crate) fn values(&self, given: &Given) -> Result<Values, crate::failure::Failure> {
        let mut all = self.layers.clone();
        all.add(&given.variables);
        all.expanded()
    }

    /// Gives the services of a message their variables.
    pub(crate) fn fill_services(&self, handover: &mut Handover, values: &Values) {
        let services = handover.container.iter_mut().flat_map(|container| &mut container.services);
        for (service, own) in services.zip(&self.services) {
            service.variables = service_variables(&self.public, own, values);
        }
    }
}

#[cfg(test)]
impl Record {
    /// Of a run that lives in this workspace.
    pub(crate) fn example(workspace: &nunbird_handover::Workspace) -> Record {
        let path = |text: &str| PathBuf::from(text);
        let handover = Handover {
            version: nunbird_handover::FORMAT_VERSION,
            decision_id: "0".repeat(32),
            job_id: 0,
            task: nunbird_handover::Task::Prepare,
            account: nunbird_handover::Account {
                name: "ada".to_owned(),
                uid: 1000,
                gid: 1000,
                home: path("/home/ada"),
                shell: path("/bin/sh"),
            },
            identity: nunbird_handover::Identity {
                server: String::new(),
                user_login: "ada".to_owned(),
                user_id: 0,
                project_path: "a/b".to_owned(),
            },
            workspace: workspace.clone(),
            shell: nunbird_handover::Shell { path: path("/bin/sh"), login: false },
            environment: BTreeMap::new(),
            session_variables: std::collections::BTreeSet::new(),
            umask: None,
            exit_codes: nunbird_handover::ExitCodes::default(),
            exit_code_file: true,
            batch: None,
            container: None,
            credentials: nunbird_handover::Credentials::default(),
            credential_helpers: Vec::new(),
            site: nunbird_handover::SiteRules::default(),
            expires_at: 9,
            timed_out: false,
        };
        let from = Origins {
            layers: &Variables::default(),
            of_command_line: &Given::default(),
            variables_file: None,
            public: &[],
            services: Vec::new(),
        };
        Record::new("job", 1, &handover, from)
    }
}
