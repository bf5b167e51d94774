//! Which image a job has run in: the digest in the job log, and what it is good for.

use crate::EACH;
use crate::cases::{Bed, NAME, Setup, out, succeeded};
use nunbird_handover::PullPolicy;
use nunbird_tests::containers::{Index, samples};
use nunbird_tests::needs;

#[needs(root, in_each = EACH)]
fn the_job_log_names_the_digest_that_the_registry_has(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::busybox());
        let first = bed.registry.push(NAME, &samples::busybox());
        let named = |digest: &str| format!("image {} ({digest})", bed.registry.name(NAME));
        for _ in 0..2 {
            let said = succeeded(&bed.job().prepare());
            assert!(said.contains(&named(first.as_str())), "{said}");
        }
        let second = bed.registry.push(NAME, &Index(vec![samples::other("second"), samples::foreign()]));
        let mut job = bed.job();
        job.image().pull = vec![PullPolicy::Always];
        let said = succeeded(&job.prepare());
        assert!(said.contains(&named(second.as_str())), "{said}");
        assert_eq!(succeeded(&job.run("cat /etc/image")), "second\n");
        // By its digest, which is known without asking.
        job.image().name = bed.registry.name(&format!("lattice/tools@{first}"));
        let said = succeeded(&job.prepare());
        assert!(said.contains(&format!("({first})")), "{said}");
        assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n");
    }
}

#[needs(root, in_each = EACH)]
fn a_site_that_requires_digests_says_which_one_the_name_has(setup: Setup) {
    if setup.has_images() {
        let bed = Bed::new(setup, &samples::busybox());
        let digest = bed.registry.push(NAME, &samples::busybox());
        let mut job = bed.job();
        job.image().digest_required = true;
        let ended = job.prepare();
        let name = bed.registry.name(&format!("lattice/tools@{digest}"));
        assert_eq!(ended.status, Some(110), "{}", ended.err);
        assert!(ended.err.contains(&format!("at the moment it is {name}")), "{}", ended.err);
        job.image().name = name;
        succeeded(&job.prepare());
    }
}

#[needs(root, in_each = EACH)]
fn a_digest_that_cannot_be_had_is_one_line_in_the_log(setup: Setup) {
    if setup.has_images() && setup.engine != "charliecloud" {
        let bed = Bed::new(setup, &samples::busybox());
        let program = if setup.engine == "apptainer" { "skopeo" } else { "sha256sum" };
        bed.node.administer(&format!("mount --bind /dev/null /usr/bin/{program}"));
        for _ in 0..2 {
            let said = succeeded(&bed.job().prepare());
            let line = format!("the digest of the image {} is not known: ", bed.registry.name(NAME));
            assert_eq!(said.matches(&line).count(), 1, "{said}");
            assert!(said.contains(program), "{said}");
        }
        let mut job = bed.job();
        job.image().digest_required = true;
        assert!(job.prepare().err.contains("takes only names with a digest"));
    }
}

/// Charliecloud compares nothing of an image with a digest by itself, so that nothing would.
#[needs(root, in_each = EACH)]
fn charliecloud_takes_no_image_where_nothing_compares_digests(setup: Setup) {
    if setup.engine == "charliecloud" {
        let bed = Bed::new(setup, &samples::busybox());
        bed.node.administer("mount --bind /dev/null /usr/bin/sha256sum");
        let ended = bed.job().prepare();
        assert_ne!(ended.status, Some(0), "{}", ended.err);
        assert!(ended.err.contains("sha256sum(1) is missing"), "{}", ended.err);
        assert!(!ended.err.contains("push the image again"), "{}", ended.err);
    }
}

#[needs(root, in_each = EACH)]
fn an_engine_that_asks_first_pulls_nothing_that_is_here(setup: Setup) {
    if setup.engine == "apptainer" {
        let bed = Bed::new(setup, &samples::busybox());
        let mut job = bed.job();
        job.image().pull = vec![PullPolicy::Always];
        succeeded(&job.prepare());
        bed.registry.front().forget();
        let said = succeeded(&job.prepare());
        assert!(said.contains("the copy that is here is what the registry has"), "{said}");
        assert!(bed.registry.front().blobs().is_empty() && bed.registry.front().manifests() > 0);
        bed.registry.push(NAME, &samples::other("second"));
        let ended = job.prepare();
        assert!(!bed.registry.front().blobs().is_empty(), "{}", out(&ended));
        assert_eq!(succeeded(&job.run("cat /etc/image")), "second\n");
    }
}
