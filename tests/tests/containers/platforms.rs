//! One name of an image for several platforms, in one account's store: each job gets the image that it asks for, whatever the others pull.

use crate::WITH_PODMAN;
use crate::cases::{Bed, Setup, out, succeeded};
use nunbird_handover::{PullPolicy, Task};
use nunbird_tests::containers::{Index, Job, samples};
use nunbird_tests::needs;
use std::time::{Duration, Instant};

const BOTH: &str = "lattice/both:1";

impl Bed {
    /// A job in the image that its list has for a platform: this host's, or the other.
    fn job_on(&self, platform: Option<&str>, pull: PullPolicy) -> Job<'_> {
        let mut job = self.job();
        job.image().name = self.registry.name(BOTH);
        job.image().platform = platform.map(str::to_owned);
        job.image().pull = vec![pull];
        job
    }

    fn runs(&self, job: &Job<'_>, what: &str) {
        let ended = job.prepare();
        assert_eq!(ended.status, Some(0), "{what}: {}\n{}", out(&ended), ended.err);
        assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n", "{what}");
        succeeded(&job.cleanup());
    }

    /// The image comes, and this host does not run it.
    fn does_not_run(&self, job: &Job<'_>) {
        let ended = job.prepare();
        assert_eq!(ended.status, Some(110), "{}\n{}", out(&ended), ended.err);
        assert!(ended.err.contains("s390x") && ended.err.contains("cannot use the image"), "{}", ended.err);
        succeeded(&job.cleanup());
    }
}

fn own() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        _ => "linux/ppc64le",
    }
}

const FOREIGN: &str = "linux/s390x";

#[needs(root, in_each = WITH_PODMAN)]
fn a_job_gets_the_image_of_its_platform_though_the_last_pull_of_the_name_was_for_another(setup: Setup) {
    if setup.engine != "apptainer" {
        pulled_for_each_in_turn(setup);
    }
}

fn pulled_for_each_in_turn(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    bed.registry.push(BOTH, &Index(vec![samples::busybox(), samples::foreign()]));
    for platform in [Some(own()), None] {
        bed.does_not_run(&bed.job_on(Some(FOREIGN), PullPolicy::Always));
        bed.runs(&bed.job_on(platform, PullPolicy::IfNotPresent), "after a pull for another platform");
        bed.does_not_run(&bed.job_on(Some(FOREIGN), PullPolicy::Always));
        bed.registry.front().forget();
        bed.runs(&bed.job_on(platform, PullPolicy::Never), "the copy of before");
        bed.runs(&bed.job_on(platform, PullPolicy::IfNotPresent), "the copy of before");
        let front = bed.registry.front();
        assert!(front.blobs().is_empty() && front.manifests() == 0, "it is here already");
    }
    // The bounds remove each by itself: none is left under the other's name.
    let other = |platform| {
        let mut job = bed.job_on(platform, PullPolicy::IfNotPresent);
        job.container().cache_bounds.max_count = Some(1);
        job
    };
    bed.does_not_run(&bed.job_on(Some(FOREIGN), PullPolicy::Always));
    bed.registry.push("lattice/last:1", &samples::other("last"));
    let mut last = other(None);
    last.image().name = bed.registry.name("lattice/last:1");
    let said = succeeded(&last.prepare());
    assert!(!said.contains("cannot remove"), "{said}");
    succeeded(&last.cleanup());
    for platform in [Some(own()), None, Some(FOREIGN)] {
        let never = bed.job_on(platform, PullPolicy::Never);
        let ended = never.prepare();
        assert!(ended.err.contains("no copy of it is on this host"), "{platform:?}: {}", ended.err);
        succeeded(&never.cleanup());
    }
    if setup.engine == "podman" {
        let images =
            bed.node.administer("find /var/tmp/nunbird-41203/images-* -name images.json -exec cat '{}' +");
        let images: Vec<serde_json::Value> = serde_json::from_str(&images).expect("JSON");
        assert_eq!(images.len(), 1, "{images:?}");
    }
}

/// Between the end of a pull and the question what has come, another job's pull ends.
#[needs(root, in_each = WITH_PODMAN)]
fn two_pulls_of_one_name_at_once_for_two_platforms_do_not_see_each_others_image(setup: Setup) {
    if setup.engine == "podman" {
        let bed = Bed::new(setup, &samples::busybox());
        bed.registry.push(BOTH, &Index(vec![samples::busybox(), samples::foreign()]));
        // It waits behind the pull.
        let slow = "#!/bin/sh\npodman \"$@\"\ncode=$?\ncase \" $* \" in *' pull '*) : >/tmp/pulled; until [ -e /tmp/go ]; do sleep 0.1; done ;; esac\nexit $code\n";
        bed.node.write("/run/site/podman", slow);
        bed.node.administer("chmod 755 /run/site/podman");
        for platform in [Some(own()), None] {
            bed.node.administer("rm -f /tmp/pulled /tmp/go");
            let mut first = bed.job_on(platform, PullPolicy::Always);
            first.container().program = Some("/run/site/podman".into());
            let stage = first.start(Task::Prepare, "");
            let end = Instant::now() + Duration::from_secs(60);
            while !bed.node.see("/tmp/pulled").exists() {
                assert!(Instant::now() < end, "no pull ends: {}", stage.err());
                std::thread::sleep(Duration::from_millis(20));
            }
            bed.does_not_run(&bed.job_on(Some(FOREIGN), PullPolicy::Always));
            bed.node.administer(": >/tmp/go");
            let ended = stage.finish();
            assert_eq!(ended.status, Some(0), "{platform:?}: {}\n{}", out(&ended), ended.err);
            assert_eq!(succeeded(&first.run("cat /etc/image")), "busybox\n");
            succeeded(&first.cleanup());
        }
    }
}
