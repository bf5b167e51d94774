//! Containers of Podman with images and services, in an allocation.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_handover::{Credential, Credentials, Engine, Image, PullPolicy, Service};
use nunbird_tests::containers::whole::plain_container;
use nunbird_tests::containers::{PASSWORD, Registry, USER, samples};
use nunbird_tests::needs;
use nunbird_tests::scheduler::{Job, Slurm};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Each bed's jobs have names of their own.
static BEDS: AtomicU32 = AtomicU32::new(1);

struct Bed {
    number: u32,
    /// One of its own: stages of an account remove what others of the account have left.
    user: &'static str,
    slurm: Slurm,
    registry: Registry,
}

impl Bed {
    fn new(user: &'static str) -> Self {
        let registry = Registry::start();
        registry.push("lattice/tools:1", &samples::busybox());
        registry.push("lattice/web:1", &samples::web_service(8080));
        Bed {
            number: BEDS.fetch_add(1, Ordering::Relaxed),
            user,
            slurm: Slurm::start_for_containers(&registry.ca_pem()),
            registry,
        }
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
        let mut job = self.slurm.job(self.user);
        // Its beginning is part of the names of stages' directories on nodes.
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        job.handover.decision_id =
            format!("{:08x}{:04x}{number:08x}{:012x}", std::process::id(), self.number, 0);
        let data_dir = job.handover.workspace.data_dir.clone();
        let service = Service {
            image: self.image("lattice/web:1"),
            aliases: vec!["web".to_owned()],
            command: None,
            variables: BTreeMap::from([("GREETING".to_owned(), "a\nb".to_owned())]),
            ports: Vec::new(),
        };
        let directory = data_dir.join("containers").join(&job.handover.decision_id);
        let image = self.registry.name("lattice/tools:1");
        let mut container =
            plain_container(Engine::Named("podman".to_owned()), Some(&image), &data_dir, directory);
        container.services = if services { vec![service] } else { Vec::new() };
        container.store = Some(self.store());
        job.handover.container = Some(container);
        let [registry, user, password] = [self.registry.host().as_str(), USER, PASSWORD].map(str::to_owned);
        job.handover.credentials = Credentials(vec![Credential { registry, user, password, site: None }]);
        job.prepare();
        job.handover.credentials = Credentials::default();
        job
    }

    fn store(&self) -> std::path::PathBuf {
        self.slurm.path(&format!("home/{}/store", self.user))
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

/// A failed test leaves nothing running, and nothing in the places that it shares with others: a container is in namespaces of its own,
/// so the end of Slurm does not end it.
impl Drop for Bed {
    fn drop(&mut self) {
        let name = format!("nb-{:08x}{:04x}", std::process::id(), self.number);
        let mark = format!("NUNBIRD_CONTAINER={name}");
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|pid| pid.parse().ok());
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if let Some(pid) = pid
                && environment.split(|byte| *byte == 0).any(|one| one.starts_with(mark.as_bytes()))
            {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for place in ["/tmp", "/var/tmp", "/dev/shm"] {
            for entry in fs::read_dir(place).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&name) {
                    drop(fs::remove_dir_all(entry.path()));
                }
            }
        }
    }
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[needs(root)]
fn a_job_with_a_service_runs_in_an_allocation_and_leaves_nothing() {
    let bed = Bed::new("nbt_bea");
    let job = bed.job(true);
    let script = "cat /etc/image; id -u; wget -qO- http://web:8080/; echo \"job $SLURM_JOB_ID of $SLURM_JOB_USER\"; env | grep -c ^SLURM_; cat; exit 3";
    let ended = job.run(script);
    ended.failed(3, "ended with exit code 3");
    let id = job.id().expect("an id");
    let text = ended.text();
    let expected = format!("busybox\n41102\nserved\njob {id} of nbt_bea\n");
    let count = text.strip_prefix(&expected).and_then(|rest| rest.trim().parse::<usize>().ok());
    assert!(count.is_some_and(|count| count > 10), "{text}\n{}", ended.err);
    assert!(ended.err.contains("the service web listens after"), "{}", ended.err);
    assert_eq!(job.cleanup().status, Some(0));
    assert_eq!(bed.left(&job), [""; 0]);
}

#[needs(root)]
fn what_a_stage_leaves_that_the_scheduler_kills_at_once_goes_with_the_next_job_and_a_live_stage_stays() {
    let bed = Bed::new("nbt_cyn");
    let (lost, live) = (bed.job(false), bed.job(false));
    let mut running = live.start("echo up >&2; while ! test -e go; do sleep 0.2; done; cat /etc/image");
    running.wait_for_word("up");
    let killed = lost.start("echo up >&2; sleep 600");
    killed.wait_for_word("up");
    // Processes of the engine and of the container alike.
    let of_lost = format!("nb-{}-", &lost.handover.decision_id[..20]);
    let script = format!(
        "for one in /proc/[0-9]*; do if tr '\\0' '\\n' <$one/environ | grep -q '^NUNBIRD_CONTAINER={of_lost}'; then echo ${{one#/proc/}}; fi; done 2>/dev/null"
    );
    assert!(bed.slurm.admin(&script).lines().count() > 2);
    // The scheduler's own processes of the job, as where it tracks process groups; the container is in others.
    let group = format!(
        "for one in /proc/[0-9]*; do if tr '\\0' ' ' <$one/cmdline | grep -qxF '/bin/sh {}/container once '; then ps -o pgid= -p ${{one#/proc/}}; fi; done 2>/dev/null | sort -u",
        lost.stage_directory().display()
    );
    let group = bed.slurm.admin(&group);
    assert!(group.trim().parse::<u32>().is_ok(), "one group: {group:?}");
    bed.slurm.admin(&format!("kill -9 -{}", group.trim()));
    assert_ne!(killed.finish().status, Some(0));
    // What is on the runner's own host is for the cleanup of the job.
    assert_eq!(lost.cleanup().status, Some(0));
    let left = bed.left(&lost);
    assert!(left.len() == 2 && left.iter().any(|path| path.contains("/store/jobs/")), "{left:?}");
    // The engine's own processes of the killed stage write at that path when they like; stopped, they leave what is there to be judged. One
    // that was started meanwhile is found by the next turn, and those that are stopped start none.
    bed.slurm.admin(&format!(
        "for turn in 1 2 3 4 5; do for pid in $({script}); do kill -STOP $pid; done 2>/dev/null; sleep 0.1; done"
    ));
    // Another account has seen the name, and has a directory in its place, in which a link leads to a file of this account's.
    let runtime = left.iter().find(|path| !path.contains("/store/jobs/")).expect("a runtime directory");
    let aside = Path::new(runtime).with_file_name(format!("nbt_aside_{}", std::process::id()));
    fs::rename(runtime, &aside).expect("renamed");
    fs::create_dir(runtime).expect("a directory");
    fs::set_permissions(runtime, Permissions::from_mode(0o777)).expect("a mode");
    let own = bed.slurm.path("home/nbt_cyn/profile");
    fs::write(&own, "mine\n").expect("a file");
    let account = fs::metadata(bed.store()).expect("a store").uid();
    chown(&own, Some(account), None).expect("an owner");
    symlink(&own, format!("{runtime}/containers.conf")).expect("a link");
    chown(runtime, Some(65534), Some(65534)).expect("an owner");
    let before = bed.job(false);
    before.run("cat /etc/image").succeeded();
    assert_eq!(fs::read_to_string(&own).expect("a file"), "mine\n");
    assert_eq!(names(runtime), ["containers.conf"]);
    assert_eq!(bed.left(&lost), left, "nothing is removed with such a directory in its place");
    fs::remove_dir_all(runtime).expect("removed");
    fs::rename(&aside, runtime).expect("renamed");
    let next = bed.job(false);
    next.run("cat /etc/image").succeeded();
    assert_eq!(bed.left(&lost), [""; 0]);
    assert_eq!(bed.slurm.admin(&script), "", "processes");
    assert!(!running.has_ended(), "{}", running.err());
    fs::write(live.handover.workspace.builds_dir.join("go"), "").expect("a file");
    let ended = running.finish();
    assert_eq!(ended.succeeded().text(), "busybox\n");
    for job in [live, before, next] {
        assert_eq!(job.cleanup().status, Some(0));
        assert_eq!(bed.left(&job), [""; 0]);
    }
}
