//! Copies of images in an account's cache: a tag that moves while jobs run, pulls that die, and bounds.

use crate::EACH;
use crate::cases::{Bed, NAME, Setup, succeeded};
use nix::sys::signal::Signal;
use nunbird_handover::{PullPolicy, Task};
use nunbird_tests::containers::{Fault, Job, On, samples};
use nunbird_tests::needs;
use std::time::{Duration, Instant};

const CACHE: &str = "/home/nbt_cyn/ci/images";

impl Bed {
    /// How many copies are there, current or not.
    fn copies(&self) -> usize {
        self.node.administer(&format!("ls -A {CACHE}/copies")).lines().count()
    }

    /// What lies in the cache beside images, notes and locks.
    fn leftovers(&self) -> String {
        self.node.administer(&format!("ls -A {CACHE} | grep '^[.]' || :"))
    }

    /// A job that asks the registry, prepared.
    fn pulling(&self) -> Job<'_> {
        let mut job = self.job();
        job.image().pull = vec![PullPolicy::Always];
        succeeded(&job.prepare());
        job
    }
}

#[needs(root, in_each = EACH)]
fn a_second_pull_leaves_the_image_of_a_running_job_as_it_is(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::busybox());
        let first = bed.prepared();
        let stage =
            first.begin("echo began >&2; until test -e go; do sleep 0.1; done; cat /etc/image; /bin/id -u");
        stage.wait_for_word("began");
        bed.registry.push(NAME, &samples::other("second"));
        let second = bed.pulling();
        assert_eq!(succeeded(&second.run("cat /etc/image; touch go")), "second\n");
        assert_eq!(succeeded(&stage.finish()), "busybox\n41203\n");
        assert_eq!(succeeded(&first.run("cat /etc/image")), "busybox\n", "a later stage of the first job");
        assert_eq!(bed.copies(), 2);
        succeeded(&first.cleanup());
        assert_eq!(bed.copies(), 1, "the old copy goes with its last job");
        assert_eq!(succeeded(&second.run("cat /etc/image")), "second\n");
        succeeded(&second.cleanup());
        assert_eq!((bed.copies(), bed.leftovers()), (1, String::new()));
        let third = bed.prepared();
        assert_eq!(succeeded(&third.run("cat /etc/image")), "second\n", "the current copy stays");
    }
}

#[needs(root, in_each = EACH)]
fn a_pull_that_is_killed_leaves_no_image_and_its_files_go_with_the_next_job(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::busybox());
        bed.registry.front().fail(On::Blobs, Fault::Hang);
        let job = bed.job();
        let stage = job.start(Task::Prepare, "");
        let end = Instant::now() + Duration::from_secs(60);
        while bed.registry.front().blobs().is_empty() {
            assert!(Instant::now() < end, "no layer is asked for");
            std::thread::sleep(Duration::from_millis(20));
        }
        stage.signal(Signal::SIGKILL);
        stage.finish();
        assert!(bed.leftovers().contains(".new-"), "{}", bed.leftovers());
        succeeded(&job.cleanup());
        bed.registry.front().heal();
        let mut never = bed.job();
        never.image().pull = vec![PullPolicy::Never];
        assert!(never.prepare().err.contains("no copy of it is on this host"));
        let next = bed.prepared();
        assert_eq!(succeeded(&next.run("cat /etc/image")), "busybox\n");
        assert_eq!((bed.copies(), bed.leftovers()), (1, String::new()));
    }
}

#[needs(root, in_each = EACH)]
fn bounds_count_all_copies_and_spare_those_of_jobs(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::busybox());
        let bounded = |name: &str| {
            let mut job = bed.job();
            job.image().name = bed.registry.name(name);
            job.image().pull = vec![PullPolicy::Always];
            job.container().cache_bounds.max_count = Some(2);
            let said = succeeded(&job.prepare());
            (job, said)
        };
        let (first, _) = bounded(NAME);
        bed.registry.push(NAME, &samples::other("second"));
        let (second, _) = bounded(NAME);
        bed.registry.push("lattice/third:1", &samples::other("third"));
        let (third, said) = bounded("lattice/third:1");
        assert!(!said.contains("removed the image"), "{said}");
        assert_eq!(bed.copies(), 3, "all are in use");
        assert_eq!(succeeded(&first.run("cat /etc/image")), "busybox\n");
        succeeded(&second.cleanup());
        let (third_again, said) = bounded("lattice/third:1");
        assert!(said.contains("removed the image") && said.contains(NAME), "{said}");
        assert_eq!(succeeded(&first.run("cat /etc/image")), "busybox\n");
        for job in [first, third, third_again] {
            succeeded(&job.cleanup());
        }
        assert_eq!((bed.copies(), bed.leftovers()), (1, String::new()));
    }
}
