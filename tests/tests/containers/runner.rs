//! The runner's own stages in an image of the site's (`runner_image`).

use crate::WITH_PODMAN;
use crate::cases::{NAME, Setup, out, succeeded};
use nunbird_handover::Task;
use nunbird_tests::containers::{Image, Job, Node, PASSWORD, Registry, USER, samples};
use nunbird_tests::needs;
use nunbird_tests::scheduler::Ended;

const RUNNER: &str = "site/runner:1";

struct Bed {
    node: Node,
    registry: Registry,
    setup: Setup,
}

impl Bed {
    fn new(setup: Setup, runner: &Image) -> Self {
        let (node, registry) = (Node::start(setup.release), Registry::start());
        node.trust(&registry.ca_pem());
        registry.push(NAME, &samples::busybox());
        registry.push(RUNNER, runner);
        Bed { node, registry, setup }
    }

    fn job(&self, account: &str) -> Job<'_> {
        let person = self.node.person(account);
        let person = if self.setup.no_new_privileges { person.no_new_privileges() } else { person };
        let mut job = Job::new(&self.node, person, self.setup.engine, Some(&self.registry.name(NAME)));
        job.knows(&self.registry.host(), USER, PASSWORD);
        let mut image = job.image().clone();
        image.name = self.registry.name(RUNNER);
        image.entrypoint = Some(Vec::new());
        job.container().runner_image = Some(image);
        job
    }
}

fn stage(job: &Job<'_>, name: &str, script: &str) -> Ended {
    job.start(Task::Run(name.to_owned()), script).finish()
}

#[needs(root, in_each = WITH_PODMAN)]
fn sources_and_artifacts_are_handled_in_the_sites_image_and_scripts_in_the_jobs(setup: Setup) {
    // What the entrypoint of such an image does is for other executors.
    let bed = Bed::new(setup, &samples::other("runner").set("Entrypoint", serde_json::json!(["/bin/false"])));
    let mut job = bed.job("nbt_cyn");
    // Sources come over a network, and the job's own has none in some engines.
    job.container().host_network = setup.engine == "charliecloud";
    let said = succeeded(&job.prepare());
    assert!(
        said.contains(&format!("sources, caches and artifacts: image {}", bed.registry.name(RUNNER))),
        "{said}"
    );
    let script = "cat /etc/image; id -u; echo fetched >source; ls -A /home/nbt_cyn | grep -v '^ci$'; ls /sys/class/net | grep -c .; true";
    let said = succeeded(&stage(&job, "get_sources", script));
    let networks = std::fs::read_dir("/sys/class/net").expect("networks").count();
    assert_eq!(said, format!("runner\n41203\n{networks}\n"));
    assert_eq!(succeeded(&job.run("cat /etc/image source; echo made >result")), "busybox\nfetched\n");
    let said =
        succeeded(&stage(&job, "upload_artifacts_on_success", "cat /etc/image result; stat -c %u result"));
    assert_eq!(said, "runner\nmade\n41203\n");
    let failed = stage(&job, "archive_cache", "exit 31");
    assert_eq!((failed.status, failed.exit_code.trim()), (Some(110), "31"), "{}", failed.err);
    succeeded(&job.cleanup());
    let left = bed.node.administer("ls -d /tmp/nb-* /var/tmp/nb-* /var/tmp/nunbird-*/jobs/* /home/nbt_cyn/ci/containers/* 2>/dev/null || :");
    assert_eq!(left, "");
    bed.node.assert_idle("after the cleanup");
}

#[needs(root, in_each = WITH_PODMAN)]
fn an_image_for_the_runners_stages_that_is_missing_is_the_sites_fault(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let mut job = bed.job("nbt_cyn");
    let name = bed.registry.name("site/nothing:1");
    job.container().runner_image.as_mut().expect("an image").name = name;
    let ended = job.prepare();
    assert_eq!(ended.status, Some(120), "{}\n{}", out(&ended), ended.err);
    assert!(ended.err.contains("cannot use `runner_image` of [container.plain]"), "{}", ended.err);
    succeeded(&job.cleanup());
}

#[needs(root)]
fn git_of_the_sites_image_clones_with_the_jobs_hooks_and_keeps_away_from_the_accounts_files() {
    let bed = Bed::new(WITH_PODMAN[0], &samples::git());
    let job = bed.job("nbt_cyn");
    bed.node.administer("echo secret >/home/nbt_cyn/private");
    succeeded(&job.prepare());
    let hook = "test ! -e /home/nbt_cyn/private && echo the hook ran\n";
    let clone = "git init -q -b main origin && cd origin && echo '4 4 4 8' >lattice.txt && git add . && \
        git -c user.name=n -c user.email=n@example.org commit -q -m one && cd .. && git clone -q origin project && git -C project log --format=%s";
    let ended = stage(&job, "get_sources", &format!("{hook}{clone}"));
    assert_eq!(succeeded(&ended), "the hook ran\none\n");
    let said = succeeded(&job.run("cat project/lattice.txt; command -v git || echo no git"));
    assert_eq!(said, "4 4 4 8\nno git\n");
    succeeded(&job.cleanup());
}
