//! What every engine must do: whole jobs by the launcher, in an image from a registry, as an account without subordinate ids.

use crate::{EACH, WITH_PODMAN};
use nix::sys::signal::Signal;
use nunbird_handover::{Bind, PullPolicy, Task};
use nunbird_tests::containers::whole::run_whole_job;
use nunbird_tests::containers::{Fault, Image, Job, Node, On, PASSWORD, Registry, Release, USER, samples};
use nunbird_tests::needs;
use nunbird_tests::scheduler::Ended;

/// An engine and who uses it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) release: Release,
    pub(crate) engine: &'static str,
    /// Whether setuid programs have no effect for the job.
    pub(crate) no_new_privileges: bool,
}

impl Setup {
    pub(crate) fn has_images(self) -> bool {
        self.engine != "bwrap"
    }
}

pub(crate) struct Bed {
    pub(crate) node: Node,
    pub(crate) registry: Registry,
    pub(crate) setup: Setup,
}

pub(crate) const NAME: &str = "lattice/tools:1";

impl Bed {
    pub(crate) fn new(setup: Setup, image: &Image) -> Self {
        let (node, registry) = (Node::start(setup.release), Registry::start());
        node.trust(&registry.ca_pem());
        if setup.has_images() {
            registry.push(NAME, image);
        }
        Bed { node, registry, setup }
    }

    /// A job that is not prepared.
    pub(crate) fn job(&self) -> Job<'_> {
        let cyn = self.node.person("nbt_cyn");
        let person = if self.setup.no_new_privileges { cyn.no_new_privileges() } else { cyn };
        let name = self.registry.name(NAME);
        let image = self.setup.has_images().then_some(name.as_str());
        let mut job = Job::new(&self.node, person, self.setup.engine, image);
        job.knows(&self.registry.host(), USER, PASSWORD);
        job
    }

    pub(crate) fn prepared(&self) -> Job<'_> {
        let job = self.job();
        let done = job.prepare();
        assert_eq!(done.status, Some(0), "{}\n{}", out(&done), done.err);
        job
    }
}

pub(crate) fn out(ended: &Ended) -> String {
    String::from_utf8_lossy(&ended.out).into_owned()
}

#[track_caller]
pub(crate) fn succeeded(ended: &Ended) -> String {
    assert_eq!(ended.status, Some(0), "{}\n{}", out(ended), ended.err);
    out(ended)
}

#[needs(root, in_each = EACH)]
fn a_script_runs_as_the_account_in_its_directory_and_its_files_are_the_accounts(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let job = bed.prepared();
    let script = "id -u; id -g; pwd; echo $HOME $USER $NUNBIRD_STAGE; umask; cat; touch made; test -e /etc/image && cat /etc/image; true";
    let said = succeeded(&job.run(script));
    let image = if setup.has_images() { "busybox\n" } else { "" };
    let expected = "41203\n41203\n/home/nbt_cyn/ci/builds/0\n/home/nbt_cyn nbt_cyn build_script\n0022\n";
    assert_eq!(said, format!("{expected}{image}"));
    let owner = bed.node.administer("stat -c %u:%g /home/nbt_cyn/ci/builds/0/made");
    assert_eq!(owner.trim(), "41203:41203");
    succeeded(&job.cleanup());
}

/// The same job runs in allocations of each scheduler (`tests/src/compliance/wraps.rs`).
fn whole(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    bed.node.write("/home/nbt_cyn/mine", "");
    let job = bed.prepared();
    let stage = |name: &str, script: &str| job.start(Task::Run(name.to_owned()), script).finish();
    run_whole_job(41203, setup.engine, &stage);
    assert_eq!(bed.node.administer("wc -l </home/nbt_cyn/ci/builds/0/trail").trim(), "10");
    succeeded(&job.cleanup());
    bed.node.assert_idle("after the cleanup");
    assert_eq!(bed.node.administer("ls -A /tmp /var/tmp | grep nb- || :"), "");
}

#[needs(root, in_each = EACH)]
fn a_whole_job_has_its_scripts_inside_and_all_else_outside(setup: Setup) {
    whole(setup);
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_whole_job_of_podman_has_its_scripts_inside_and_all_else_outside(setup: Setup) {
    if setup.engine == "podman" {
        whole(setup);
    }
}

#[needs(root, in_each = EACH)]
fn what_a_stage_leaves_in_tmp_and_in_the_build_directory_is_there_in_the_next(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let job = bed.prepared();
    succeeded(&job.run("echo one >/tmp/kept; echo two >kept"));
    assert_eq!(succeeded(&job.run("cat /tmp/kept kept; ls -A /home/nbt_cyn")), "one\ntwo\nci\n");
    bed.node.administer("! test -e /tmp/kept");
    succeeded(&job.cleanup());
}

#[needs(root, in_each = EACH)]
fn exit_codes_are_the_scripts_and_standard_input_is_empty(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let job = bed.prepared();
    for code in [1, 31, 49, 125, 126, 127, 137, 255] {
        let ended = job.run(&format!("cat; exit {code}"));
        assert_eq!(
            (ended.status, ended.exit_code.trim()),
            (Some(110), code.to_string().as_str()),
            "{}",
            ended.err
        );
    }
    let ended = job.run("kill -9 $$");
    assert_eq!((ended.status, ended.exit_code.trim()), (Some(110), "137"), "{}", ended.err);
}

#[needs(root, in_each = EACH)]
fn a_script_of_a_megabyte_arrives_whole_and_in_no_argument(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let job = bed.prepared();
    let secret = "not-for-others";
    let lines = ": a line that fills the script with words\n".repeat(25_000);
    let stage =
        job.begin(&format!("secret={secret}\n{lines}echo began >&2; sleep 3; echo '$x' \"$((1 + 1))\" ü"));
    stage.wait_for_word("began");
    let commands = bed.node.processes();
    assert!(commands.len() > 1 && commands.values().all(|words| !words.contains(secret)), "{commands:?}");
    assert_eq!(succeeded(&stage.finish()), "$x 2 ü\n");
}

#[needs(root, in_each = EACH)]
fn nothing_is_left_after_the_job_but_the_image(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let job = bed.prepared();
    succeeded(&job.run("mkdir -p /tmp/a/b; touch /tmp/a/b/c; sleep 1000 >/dev/null 2>&1 & echo"));
    succeeded(&job.cleanup());
    bed.node.assert_idle("after the cleanup");
    assert!(bed.node.new_mounts().is_empty(), "{:?}", bed.node.new_mounts());
    assert_eq!(bed.node.administer("ls -A /tmp /var/tmp | grep nb- || :"), "");
    assert_eq!(
        bed.node.administer("ls -A /home/nbt_cyn /home/nbt_cyn/ci/containers").matches("ci").count(),
        2
    );
}

#[needs(root, in_each = EACH)]
fn a_cancel_reaches_the_script_and_what_it_has_started(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let job = bed.prepared();
    let stage =
        job.begin("trap 'echo asked; exit 3' TERM; sleep 1001 & setsid sleep 1002 & echo began >&2; while :; do wait; sleep 0.1; done");
    stage.wait_for_word("began");
    stage.signal(Signal::SIGTERM);
    let ended = stage.finish();
    assert_eq!(ended.status, Some(110), "{}", ended.err);
    assert_eq!(out(&ended), "asked\n", "{}", ended.err);
    let left = bed.node.processes();
    assert!(left.values().all(|words| !words.contains("sleep")), "{left:?}");
    succeeded(&job.cleanup());
    bed.node.assert_idle("after the cleanup");
}

#[needs(root, in_each = EACH)]
fn a_killed_launcher_leaves_nothing_that_the_cleanup_does_not_end(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let job = bed.prepared();
    let stage = job.begin("echo began >&2; sleep 1000 & wait");
    stage.wait_for_word("began");
    stage.signal(Signal::SIGKILL);
    succeeded(&job.cleanup());
    bed.node.assert_idle("after the cleanup");
    assert_eq!(bed.node.administer("ls -A /tmp"), "");
}

#[needs(root, in_each = EACH)]
fn binds_are_read_only_where_the_policy_says_so_or_the_engine_refuses_them(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    bed.node.administer("mkdir -p /run/nbt; echo data >/run/nbt/file; chmod 777 /run/nbt");
    let mut job = bed.job();
    let bind =
        |writable| Bind { source: "/run/nbt".into(), target: "/opt/nbt".into(), writable, optional: false };
    if setup.engine == "bwrap" {
        bed.node.administer("mount -t tmpfs -o mode=755 tmpfs /opt; mkdir /opt/nbt");
    }
    job.container().binds = vec![bind(false)];
    if setup.engine == "charliecloud" {
        let ended = job.prepare();
        assert!(ended.status == Some(120) && ended.err.contains("no read-only binds"), "{}", ended.err);
    } else {
        succeeded(&job.prepare());
        assert_eq!(succeeded(&job.run("cat /opt/nbt/file; echo >/opt/nbt/new || echo no")), "data\nno\n");
    }
    job.container().binds = vec![bind(true)];
    succeeded(&job.prepare());
    assert_eq!(succeeded(&job.run("cat /opt/nbt/file; echo >/opt/nbt/new && echo yes")), "data\nyes\n");
}

#[needs(root, in_each = EACH)]
fn a_network_of_its_own_has_no_way_out_or_the_engine_refuses_it(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let mut job = bed.job();
    job.container().host_network = false;
    let ended = job.prepare();
    if setup.engine == "charliecloud" {
        assert!(
            ended.status == Some(120) && ended.err.contains("no network but the host's"),
            "{}",
            ended.err
        );
    } else {
        succeeded(&ended);
        assert_eq!(succeeded(&job.run("tail -n +3 /proc/net/dev | cut -d: -f1")).trim(), "lo");
    }
}

#[needs(root, in_each = EACH)]
fn an_image_that_wants_to_be_more_than_files_is_files(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::hostile());
        let mut job = bed.job();
        job.image().entrypoint = Some(Vec::new());
        succeeded(&job.prepare());
        let said =
            succeeded(&job.run("/bin/id -u; pwd; echo $HOME $CI_JOB_ID; ls /tmp; /bin/touch x; exit 0"));
        assert_eq!(said, "41203\n/home/nbt_cyn/ci/builds/0\n/home/nbt_cyn image\n");
        bed.node.administer("! test -e /tmp/entrypoint-ran");
    }
}

#[needs(root, in_each = EACH)]
fn the_images_entrypoint_gets_the_shell(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::with_entrypoint());
        let job = bed.prepared();
        assert_eq!(succeeded(&job.run("echo $FROM_ENTRYPOINT")), "entrypoint: 3\nyes\n");
        let mut job = bed.job();
        job.image().entrypoint = Some(vec![String::new()]);
        succeeded(&job.prepare());
        assert_eq!(succeeded(&job.run("echo $FROM_ENTRYPOINT")), "\n");
    }
}

#[needs(root, in_each = EACH)]
fn an_image_without_a_shell_or_of_another_machine_is_reported(setup: Setup) {
    if setup.has_images() {
        for (image, words) in [(samples::without_shell(), "/bin/sh"), (samples::foreign(), "kind of machine")]
        {
            let bed = Bed::new(setup, &image);
            let mut job = bed.job();
            job.image().entrypoint = Some(Vec::new());
            let mut ended = job.prepare();
            if ended.status == Some(0) {
                ended = job.run("true");
            }
            assert!(matches!(ended.status, Some(110 | 120)), "{ended:?}");
            assert!(ended.err.contains(words), "{}", ended.err);
        }
    }
}

#[needs(root, in_each = EACH)]
fn files_of_other_accounts_and_without_permissions_are_no_hindrance(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::with_odd_files());
        let mut job = bed.job();
        job.image().pull = vec![PullPolicy::Always];
        // With the second pull nothing uses the image of the first.
        succeeded(&job.prepare());
        succeeded(&job.prepare());
        assert_eq!(succeeded(&job.run("cat /odd/of-33; cat /odd/hard")), "www-data\n#!/bin/sh\n");
        let images = "ls -A /home/nbt_cyn/ci/images | grep -vx -e locks -e jobs -e copies; ls -A /home/nbt_cyn/ci/images/copies";
        let left = bed.node.administer(images);
        assert_eq!(left.lines().count(), 2, "{left}");
    }
}

#[needs(root, in_each = EACH)]
fn why_a_pull_fails_is_reported_and_no_part_of_an_image_is_left(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::busybox());
        let front = bed.registry.front();
        let shown = |job: &Job<'_>, words: &str| {
            let ended = job.prepare();
            assert_ne!(ended.status, Some(0), "{words}");
            assert!(ended.err.contains(words), "`{words}` in: {}", ended.err);
            let left = bed.node.administer("ls -A /home/nbt_cyn/ci/images | grep -v locks || :");
            assert_eq!(left, "", "{words}");
        };
        let mut job = bed.job();
        job.knows(&bed.registry.host(), USER, "wrong");
        shown(&job, "password");
        let mut job = bed.job();
        job.image().name = bed.registry.name("lattice/nothing:1");
        shown(&job, "no such image");
        let job = bed.job();
        front.fail(On::Everything, Fault::Status(429));
        let mut short = bed.job();
        // Some engines try again for half a minute.
        short.container().pull_timeout = 120;
        shown(&short, "refuses further requests");
        front.fail(On::Blobs, Fault::Cut(3000));
        assert_ne!(short.prepare().status, Some(0));
        front.fail(On::Blobs, Fault::Hang);
        short.container().pull_timeout = 3;
        shown(&short, "pull_timeout");
        front.heal();
        succeeded(&job.prepare());
    }
}

#[needs(root, in_each = EACH)]
fn jobs_at_once_pull_an_image_once(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::busybox());
        let jobs: Vec<Job<'_>> = (0..5).map(|_| bed.job()).collect();
        let stages: Vec<_> = jobs.iter().map(|job| job.start(Task::Prepare, "")).collect();
        for stage in stages {
            succeeded(&stage.finish());
        }
        let blobs = bed.registry.front().blobs();
        assert!(blobs.len() == 2 && blobs.values().all(|times| *times == 1), "{blobs:?}");
    }
}

/// Docker takes no more. Some that vendors publish have above 60.
#[needs(root)]
fn podman_makes_a_container_of_an_image_with_127_layers() {
    let bed = Bed::new(WITH_PODMAN[0], &samples::with_layers(127));
    let job = bed.prepared();
    assert_eq!(succeeded(&job.run("cat /many/1 /many/126; ls /many | wc -l")), "1\n126\n126\n");
    succeeded(&job.cleanup());
    assert_eq!(bed.node.administer("ls -A /tmp /var/tmp | grep nb- || :"), "");
}

/// What the site binds for `run:` is found by the words that gitlab-runner writes for such a job. A double stands for GitLab's program.
#[needs(root, in_each = WITH_PODMAN)]
fn step_runner_of_the_site_gets_the_steps_of_a_job(setup: Setup) {
    // Charliecloud 0.31 can put a file only over one that the image has.
    if setup.engine != "charliecloud" {
        let bed = Bed::new(setup, &samples::busybox());
        bed.node.write("/run/site/step-runner", "#!/bin/sh\necho \"$1: $STEPS\"\n");
        bed.node.administer("chmod 755 /run/site/step-runner");
        let mut job = bed.job();
        job.container().binds = vec![Bind {
            source: "/run/site/step-runner".into(),
            target: "/usr/bin/step-runner".into(),
            writable: false,
            optional: false,
        }];
        succeeded(&job.prepare());
        let said =
            succeeded(&job.run("export STEPS='[{\"name\":\"a\",\"script\":\"true\"}]'\nstep-runner ci\n"));
        assert_eq!(said, "ci: [{\"name\":\"a\",\"script\":\"true\"}]\n");
        succeeded(&job.cleanup());
    }
}
