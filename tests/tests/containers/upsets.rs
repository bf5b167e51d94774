//! What goes wrong around an image while a job needs it: a registry that drips, a tag that moves, a configuration that is cut off, a launcher
//! that is killed in any stage; and what `docker:` of the job means.

use crate::cases::{Bed, NAME, Setup, out, succeeded};
use crate::{EACH_AND_PODMAN, WITH_PODMAN};
use nix::sys::signal::Signal;
use nunbird_handover::{PullPolicy, Task};
use nunbird_tests::containers::whole::STAGES;
use nunbird_tests::containers::{Fault, Index, Job, On, PASSWORD, Person, USER, samples};
use nunbird_tests::needs;
use nunbird_tests::scheduler::Stage;
use std::time::{Duration, Instant};

impl Bed {
    /// What a job could leave on the host, but its image.
    #[track_caller]
    fn nothing_is_left(&self, when: &str) {
        self.node.assert_idle(when);
        assert!(self.node.new_mounts().is_empty(), "{when}: {:?}", self.node.new_mounts());
        let parts = "find /home/nbt_cyn/ci/images /var/tmp/nunbird-41203/images-* -maxdepth 1 -name '.new-*' 2>/dev/null || :";
        let script = format!(
            "ls -A /tmp /var/tmp /dev/shm | grep nb- || :; \
             ls -A /home/nbt_cyn/ci/containers /var/tmp/nunbird-41203/jobs 2>/dev/null | grep -v : || :; {parts}"
        );
        let left = self.node.administer(&script);
        let all = "find /tmp/nb-* /var/tmp/nb-* /home/nbt_cyn/ci/containers /var/tmp/nunbird-41203/jobs 2>/dev/null || :";
        assert_eq!(left.trim(), "", "{when}: {}", self.node.administer(all));
    }

    fn wait_for_a_pull(&self, stage: &Stage) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.registry.front().blobs().is_empty() {
            assert!(Instant::now() < end, "no pull begins: {}", stage.err());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn job_for<'n>(&'n self, person: Person<'n>) -> Job<'n> {
        let name = self.registry.name(NAME);
        let image = self.setup.has_images().then_some(name.as_str());
        let mut job = Job::new(&self.node, person, self.setup.engine, image);
        job.knows(&self.registry.host(), USER, PASSWORD);
        job
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_registry_that_drips_is_reported_when_the_time_for_a_pull_is_over(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    for on in [On::Manifests, On::Blobs] {
        bed.registry.front().fail(on, Fault::Trickle(300));
        let mut job = bed.job();
        job.container().pull_timeout = 6;
        let begin = Instant::now();
        let ended = job.prepare();
        assert_eq!(ended.status, Some(120), "{on:?}: {}\n{}", out(&ended), ended.err);
        assert!(ended.err.contains("it took more than 6 s (`pull_timeout`)"), "{on:?}: {}", ended.err);
        assert!(begin.elapsed() < Duration::from_secs(120), "{on:?}: {:?}", begin.elapsed());
        succeeded(&job.cleanup());
        bed.nothing_is_left(&format!("{on:?}"));
    }
    bed.registry.front().heal();
    let job = bed.prepared();
    assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n");
    succeeded(&job.cleanup());
}

#[needs(root, in_each = WITH_PODMAN)]
fn all_stages_run_the_image_whose_digest_the_log_names_wherever_its_tag_moves(setup: Setup) {
    // From this request for the tag on, it is another image.
    for after in 0..3 {
        let bed = Bed::new(setup, &samples::busybox());
        let first = bed.registry.push(NAME, &samples::busybox());
        let second = bed.registry.push("lattice/tools:second", &samples::other("second"));
        bed.registry.front().move_tag(NAME, "second", after);
        let mut job = bed.job();
        job.image().pull = vec![PullPolicy::Always];
        let said = succeeded(&job.prepare());
        let expected = match (said.contains(first.as_str()), said.contains(second.as_str())) {
            (true, false) => "busybox\n",
            (false, true) => "second\n",
            _ => panic!("after {after}: one digest is expected in {said}"),
        };
        assert_eq!(succeeded(&job.run("cat /etc/image")), expected, "after {after}: {said}");
        // And once more, for jobs of the account as well, between two stages of this one.
        bed.registry.push("lattice/tools:second", &samples::other("third"));
        bed.registry.front().move_tag(NAME, "second", 0);
        let mut other = bed.job();
        other.image().pull = vec![PullPolicy::Always];
        succeeded(&other.prepare());
        assert_eq!(succeeded(&other.run("cat /etc/image")), "third\n");
        for stage in ["step_release", "after_script"] {
            let ended = job.start(Task::Run(stage.to_owned()), "cat /etc/image").finish();
            assert_eq!(succeeded(&ended), expected, "after {after}, {stage}");
        }
        succeeded(&job.cleanup());
        succeeded(&other.cleanup());
        bed.nothing_is_left(&format!("after {after}"));
    }
}

#[needs(root, in_each = EACH_AND_PODMAN)]
fn a_launcher_that_is_killed_in_any_of_the_twelve_stages_leaves_nothing_to_its_job(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let job = || {
        let mut job = bed.job();
        job.container().host_network = setup.engine == "charliecloud";
        job
    };
    if setup.has_images() {
        bed.registry.front().fail(On::Blobs, Fault::Hang);
        let killed = job();
        let stage = killed.start(Task::Prepare, "");
        bed.wait_for_a_pull(&stage);
        stage.kill();
        bed.registry.front().heal();
        succeeded(&killed.cleanup());
        bed.nothing_is_left("prepare");
    }
    for (name, _) in STAGES {
        let killed = job();
        succeeded(&killed.prepare());
        let script = "echo began >&2; setsid sleep 1051 & sleep 1052 & wait";
        let stage = killed.start(Task::Run(name.to_owned()), script);
        stage.wait_for_word("began");
        stage.signal(Signal::SIGKILL);
        drop(stage.finish());
        succeeded(&killed.cleanup());
        bed.nothing_is_left(name);
    }
    // At some points of the last one, which is called again.
    for pause in [0, 20, 100, 300] {
        let killed = job();
        succeeded(&killed.prepare());
        let stage = killed.start(Task::Cleanup, "");
        std::thread::sleep(Duration::from_millis(pause));
        drop(stage.kill());
        succeeded(&killed.cleanup());
        bed.nothing_is_left(&format!("cleanup, after {pause} ms"));
    }
    if setup.has_images() {
        let job = bed.prepared();
        assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n", "the next job has a whole image");
        succeeded(&job.cleanup());
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_cleanup_leaves_what_another_job_is_pulling(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    bed.registry.front().fail(On::Blobs, Fault::Hang);
    let pulling = bed.job();
    let stage = pulling.start(Task::Prepare, "");
    bed.wait_for_a_pull(&stage);
    let other = bed.job();
    succeeded(&other.cleanup());
    let mut never = bed.job();
    never.image().pull = vec![PullPolicy::Never];
    assert!(never.prepare().err.contains("no copy of it is on this host"));
    succeeded(&never.cleanup());
    let parts = "find /home/nbt_cyn/ci/images /var/tmp/nunbird-41203/images-* -maxdepth 1 -type d -name '.new-*' 2>/dev/null | wc -l";
    assert_eq!(bed.node.administer(parts).trim(), "1");
    drop(stage.kill());
    bed.registry.front().heal();
    succeeded(&pulling.cleanup());
    bed.nothing_is_left("the pull has ended");
}

#[needs(root, in_each = EACH_AND_PODMAN)]
fn a_filter_of_system_calls_is_the_cause_also_where_the_image_has_no_shell(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::without_shell());
        let person = bed.node.person("nbt_cyn").refused_by_a_filter();
        let job = bed.job_for(if setup.no_new_privileges { person.no_new_privileges() } else { person });
        let ended = job.prepare();
        assert_eq!(ended.status, Some(120), "{}\n{}", out(&ended), ended.err);
        assert!(ended.err.contains("needs user namespaces"), "{}", ended.err);
        assert!(!ended.err.contains("/bin/sh"), "{}", ended.err);
        succeeded(&job.cleanup());
        bed.nothing_is_left("refused");
    }
}

/// That of this host, and that of [`samples::foreign`].
pub(crate) fn platforms() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "x86_64" => ("linux/amd64", "linux/s390x"),
        "aarch64" => ("linux/arm64", "linux/s390x"),
        "powerpc64" => ("linux/ppc64le", "linux/s390x"),
        other => (other, "linux/arm64"),
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_user_of_the_jobs_is_not_used_and_an_image_of_another_platform_is_refused(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    bed.registry.push("lattice/both:1", &Index(vec![samples::busybox(), samples::foreign()]));
    let (own, foreign) = platforms();
    let mut job = bed.job();
    job.image().user = Some("guest".to_owned());
    job.image().name = bed.registry.name("lattice/both:1");
    job.image().platform = Some(own.to_owned());
    let said = succeeded(&job.prepare());
    let warning = "warning: `docker: user: guest` is not used: the script runs as your account";
    assert!(said.contains(warning), "{said}");
    assert_eq!(succeeded(&job.run("id -u; cat /etc/image")), "41203\nbusybox\n");
    succeeded(&job.cleanup());
    // A tag that is no list, and a list with and without the platform.
    for (name, platform) in
        [(NAME, foreign), ("lattice/both:1", foreign), ("lattice/both:1", "linux/nothing")]
    {
        let mut job = bed.job();
        job.image().name = bed.registry.name(name);
        job.image().platform = Some(platform.to_owned());
        let ended = job.prepare();
        // Apptainer says of no image which platform it is for: only a list is chosen from.
        if setup.engine == "apptainer" && name == NAME {
            succeeded(&ended);
            succeeded(&job.cleanup());
            continue;
        }
        assert_eq!(ended.status, Some(110), "{name} for {platform}: {}\n{}", out(&ended), ended.err);
        println!("{}: {name} for {platform}: {}", setup.engine, ended.err);
        assert!(ended.err.contains(platform), "{name} for {platform}: {}", ended.err);
        // What the list has for that machine came, and does not run here.
        let came = name != NAME && platform == foreign;
        assert!(!came || ended.err.contains("cannot use the image"), "{name} for {platform}: {}", ended.err);
        succeeded(&job.cleanup());
    }
    bed.nothing_is_left("platforms");
}
