//! The copy of an image for compute nodes, in the account's cache: what lies there runs as the account, and is removed by it.

use crate::WITH_PODMAN;
use crate::cases::{Bed, Setup, out, succeeded};
use nunbird_handover::{Batch, Scheduler};
use nunbird_tests::containers::{Job, samples};
use nunbird_tests::needs;

const CACHE: &str = "/home/nbt_cyn/ci/images";
/// As what a pull has left that died.
const LEFT: &str = ".new-0123456789abcdef";

impl Bed {
    /// A job whose scripts run in an allocation.
    fn submitting(&self) -> Job<'_> {
        let mut job = self.job();
        job.handover.batch =
            Some(Batch::new(Scheduler::Named("slurm".to_owned()), "/home/nbt_cyn/ci/batch/1".into()));
        job
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn an_image_for_compute_nodes_is_written_into_a_directory_of_the_accounts_own_or_not_at_all(setup: Setup) {
    if setup.engine == "podman" {
        let bed = Bed::new(setup, &samples::busybox());
        bed.node.administer(
            "install -d -o nbt_bea -m 777 /home/nbt_cyn/of-bea; install -d -o nbt_cyn /home/nbt_cyn/ci",
        );
        let set = |script: &str| {
            bed.node.administer(&format!("rm -rf {CACHE}; install -d -o nbt_cyn -m 700 {CACHE}; {script}"))
        };
        for (script, why) in [
            (format!("ln -s /home/nbt_cyn/of-bea {CACHE}/saved"), "it is a symbolic link"),
            (format!("install -d -o nbt_bea -m 777 {CACHE}/saved"), "it belongs to uid 41202"),
            (format!("install -d -o nbt_cyn -m 777 {CACHE}/saved"), "others can write it (mode 0777)"),
        ] {
            set(&script);
            let job = bed.submitting();
            let ended = job.prepare();
            assert_eq!(ended.status, Some(120), "{why}: {}\n{}", out(&ended), ended.err);
            assert!(
                ended.err.contains(why) && ended.err.contains("will not use images in"),
                "{why}: {}",
                ended.err
            );
            succeeded(&job.cleanup());
            assert_eq!(bed.node.administer(&format!("ls -A {CACHE}/saved/")), "", "{why}");
        }
        set(":");
        let job = bed.submitting();
        let said = succeeded(&job.prepare());
        assert!(said.contains("writing the image into a file for compute nodes"), "{said}");
        assert_eq!(bed.node.administer(&format!("ls {CACHE}/saved | grep -c oci.tar")).trim(), "1");
        succeeded(&job.cleanup());
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn only_in_a_directory_of_the_accounts_own_a_job_removes_what_dead_pulls_have_left(setup: Setup) {
    if setup.engine == "podman" {
        let bed = Bed::new(setup, &samples::busybox());
        let owned = "install -d -o nbt_cyn -m 700";
        let elsewhere = "/home/nbt_cyn/elsewhere";
        bed.node.administer(&format!(
            "{owned} /home/nbt_cyn/ci {CACHE} {elsewhere} {elsewhere}/{LEFT}; ln -s {elsewhere} {CACHE}/saved"
        ));
        let left = || bed.node.administer(&format!("ls -A {CACHE}/saved/"));
        succeeded(&bed.prepared().cleanup());
        assert_eq!(left(), format!("{LEFT}\n"));
        bed.node.administer(&format!("rm {CACHE}/saved; mv {elsewhere} {CACHE}/saved"));
        succeeded(&bed.prepared().cleanup());
        assert_eq!(left(), "");
    }
}
