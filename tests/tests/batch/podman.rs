//! Containers of Podman with images and services, in an allocation.

use nunbird_handover::{
    CONTAINER_STAGES, CacheBounds, Container, Credential, Credentials, Engine, Image, PullPolicy, Service,
};
use nunbird_tests::containers::{PASSWORD, Registry, USER, samples};
use nunbird_tests::needs;
use nunbird_tests::scheduler::{Job, Slurm};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

struct Bed {
    slurm: Slurm,
    registry: Registry,
}

impl Bed {
    fn new() -> Self {
        let registry = Registry::start();
        registry.push("lattice/tools:1", &samples::busybox());
        registry.push("lattice/web:1", &samples::web_service(8080));
        Bed { slurm: Slurm::start_for_containers(&registry.ca_pem()), registry }
    }

    fn image(&self, name: &str) -> Image {
        Image {
            name: self.registry.name(name),
            entrypoint: None,
            user: None,
            platform: None,
            pull: vec![PullPolicy::IfNotPresent],
            digest_required: false,
        }
    }

    /// A prepared job of the account, in a container with or without a service.
    fn job(&self, services: bool) -> Job<'_> {
        let mut job = self.slurm.job("nbt_ann");
        // Its beginning is part of the names of stages' directories on nodes.
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        job.handover.decision_id = format!("{:08x}{number:024x}", std::process::id()).chars().rev().collect();
        let data_dir = job.handover.workspace.data_dir.clone();
        let service = Service {
            image: self.image("lattice/web:1"),
            aliases: vec!["web".to_owned()],
            command: None,
            variables: BTreeMap::from([("GREETING".to_owned(), "a\nb".to_owned())]),
            ports: Vec::new(),
        };
        job.handover.container = Some(Container {
            name: "plain".to_owned(),
            engine: Engine::Named("podman".to_owned()),
            program: None,
            image: Some(self.image("lattice/tools:1")),
            runner_image: None,
            services: if services { vec![service] } else { Vec::new() },
            stages: CONTAINER_STAGES.map(str::to_owned).to_vec(),
            directory: data_dir.join("containers").join(&job.handover.decision_id),
            store: Some(self.store()),
            cache: data_dir.join("images"),
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
        });
        let [registry, user, password] = [self.registry.host().as_str(), USER, PASSWORD].map(str::to_owned);
        job.handover.credentials = Credentials(vec![Credential { registry, user, password }]);
        job.prepare();
        job.handover.credentials = Credentials::default();
        job
    }

    fn store(&self) -> std::path::PathBuf {
        self.slurm.path("home/nbt_ann/store")
    }

    /// What a job's stages have left in the places for runtime directories and in the store.
    fn left(&self, job: &Job<'_>) -> Vec<String> {
        let name = format!("nb-{}", &job.handover.decision_id[..20]);
        let mut found = Vec::new();
        for place in ["/tmp".into(), "/var/tmp".into(), "/dev/shm".into(), self.store().join("jobs")] {
            let entries = fs::read_dir(&place).into_iter().flatten().flatten();
            let own = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name));
            found.extend(own.map(|entry| entry.path().display().to_string()));
        }
        found
    }
}

#[needs(root)]
fn a_job_with_a_service_runs_in_an_allocation_and_leaves_nothing() {
    let bed = Bed::new();
    let job = bed.job(true);
    let script = "cat /etc/image; id -u; wget -qO- http://web:8080/; echo \"job $SLURM_JOB_ID of $SLURM_JOB_USER\"; env | grep -c ^SLURM_; cat; exit 3";
    let ended = job.run(script);
    ended.failed(3, "ended with exit code 3");
    let id = job.id().expect("an id");
    let text = ended.text();
    let expected = format!("busybox\n41101\nserved\njob {id} of nbt_ann\n");
    let count = text.strip_prefix(&expected).and_then(|rest| rest.trim().parse::<usize>().ok());
    assert!(count.is_some_and(|count| count > 10), "{text}\n{}", ended.err);
    assert!(ended.err.contains("the service web listens after"), "{}", ended.err);
    assert_eq!(job.cleanup().status, Some(0));
    assert_eq!(bed.left(&job), [""; 0]);
}
