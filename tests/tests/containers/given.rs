//! Images that a job names by a path, and artifacts of OCI registries that are images (`oras://`).

use crate::EACH;
use crate::cases::{Bed, NAME, Setup, out, succeeded};
use nunbird_handover::PullPolicy;
use nunbird_tests::containers::{Example, Job, Layer, PASSWORD, Release, USER, samples};
use nunbird_tests::needs;
use std::fs;
use std::os::unix::fs::symlink;

/// Where the site has images.
const PLACE: &str = "/run/images";

impl Bed {
    /// The same with images of the site's, each named by what it is: files that the engine takes, and directories.
    fn with_files(setup: Setup) -> (Self, Vec<&'static str>) {
        let program = Layer::new().file("bin/lattice", 0o755, b"#!/bin/sh\necho \"$2 sites\"\n");
        let bed = Bed::new(setup, &samples::busybox().layer(program));
        let tree = bed.node.see(&format!("{PLACE}/tree"));
        for part in ["bin", "etc", "proc", "sys", "dev", "tmp", "home", "run", "var/tmp"] {
            fs::create_dir_all(tree.join(part)).expect("a directory");
        }
        fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox-static");
        for name in ["sh", "cat", "id", "sleep", "touch", "ls", "test", "true"] {
            symlink("busybox", tree.join("bin").join(name)).expect("a link");
        }
        fs::write(tree.join("etc/image"), "busybox\n").expect("a file");
        // What Charliecloud puts files of the host over.
        for name in ["passwd", "group", "hosts", "resolv.conf"] {
            fs::write(tree.join("etc").join(name), "").expect("a file");
        }
        bed.node.administer(&format!("chmod -R go+rX,go-w {PLACE}"));
        let mut names = vec!["/run/images/tree"];
        if needs_places(setup) {
            bed.node.administer(&format!("chown -R 41203:41203 {PLACE}/tree"));
        } else if setup.engine == "apptainer" || takes_squashfs(&bed) {
            bed.node.administer(&format!(
                "mksquashfs {PLACE}/tree {PLACE}/tool.sqfs -quiet -all-root >/dev/null"
            ));
            names.push("/run/images/tool.sqfs");
        }
        if setup.engine == "apptainer" {
            let job = bed.prepared();
            bed.node.administer(&format!("cp -L /home/nbt_cyn/ci/images/*.sif {PLACE}/tool.sif"));
            succeeded(&job.cleanup());
            names.push("/run/images/tool.sif");
        }
        bed.node.administer(&format!("chmod 644 {PLACE}/tool.* 2>/dev/null || :"));
        (bed, names)
    }

    fn job_of(&self, name: &str) -> Job<'_> {
        let mut job = self.job();
        name.clone_into(&mut job.image().name);
        job
    }

    #[track_caller]
    fn refuses(&self, name: &str, words: &[&str]) {
        let ended = self.job_of(name).prepare();
        assert_eq!(ended.status, Some(110), "{name}: {}\n{}", out(&ended), ended.err);
        for word in words {
            assert!(ended.err.contains(word), "`{word}` in: {}", ended.err);
        }
    }

    fn digest(&self, path: &str) -> String {
        let said = self.node.administer(&format!("sha256sum {path}"));
        format!("sha256:{}", said.split(' ').next().expect("a digest"))
    }
}

/// Charliecloud is built with and without.
fn takes_squashfs(bed: &Bed) -> bool {
    bed.setup.engine == "charliecloud"
        && bed.node.person("nbt_cyn").run(["ch-run", "--feature=squash"]).succeeded()
}

/// Charliecloud before 0.37 makes no place for a bind: the account must be able to make it in the image, or the image has it.
fn needs_places(setup: Setup) -> bool {
    setup.engine == "charliecloud" && setup.release == Release::Host
}

fn is_file(name: &str) -> bool {
    !name.ends_with("tree")
}

#[needs(root, in_each = EACH)]
fn a_file_or_directory_of_the_sites_is_an_image_and_the_log_has_the_digest_of_a_file(setup: Setup) {
    if setup.has_images() {
        let (bed, names) = Bed::with_files(setup);
        for name in names {
            let job = bed.job_of(name);
            let said = succeeded(&job.prepare());
            if is_file(name) {
                assert!(said.contains(&format!("image {name} ({})", bed.digest(name))), "{said}");
            } else {
                assert!(said.contains("is a directory, which has no digest"), "{said}");
            }
            assert!(!said.contains("who can change it"), "{said}");
            assert_eq!(succeeded(&job.run("cat /etc/image; /bin/id -u")), "busybox\n41203\n", "{name}");
            succeeded(&job.cleanup());
            bed.node.assert_idle("after the cleanup");
        }
        // Nothing was copied, but for the registry's own image.
        let copies = bed.node.administer("ls -A /home/nbt_cyn/ci/images/copies 2>/dev/null | wc -l");
        assert!(copies.trim().parse::<u32>().expect("a number") <= 1, "{copies}");
    }
}

#[needs(root, in_each = EACH)]
fn the_digest_of_a_file_is_kept_until_the_file_changes(setup: Setup) {
    if setup.engine == "apptainer" {
        let (bed, _) = Bed::with_files(setup);
        let name = "/run/images/tool.sqfs";
        succeeded(&bed.job_of(name).prepare());
        // Without the program, what is known counts; and a file that has changed is another one.
        bed.node.administer("mount --bind /dev/null /usr/bin/sha256sum");
        let said = succeeded(&bed.job_of(name).prepare());
        bed.node.administer(&format!("umount /usr/bin/sha256sum; touch {name}"));
        assert!(said.contains(&bed.digest(name)), "{said}");
        bed.node.administer("mount --bind /dev/null /usr/bin/sha256sum");
        let said = succeeded(&bed.job_of(name).prepare());
        assert!(said.contains(&format!("the digest of the image {name} is not known: ")), "{said}");
    }
}

#[needs(root, in_each = EACH)]
fn links_that_lead_elsewhere_others_directories_and_what_is_no_image_are_refused(setup: Setup) {
    if setup.has_images() {
        let (bed, _) = Bed::with_files(setup);
        bed.node.administer(
            "mkdir -m 755 /run/shared; cd /run/shared; ln -s /run/images/tree out; ln -s tree latest; cp -r /run/images/tree tree; \
             cp -r tree open; chmod 777 open; cp -r tree of-bea; cp -r tree closed; mkdir -m 755 empty; mkfifo pipe.sqfs; \
             head -c 100000 /dev/zero >broken.sqfs; head -c 100000 /dev/zero >broken.sif; : >text.txt; chown -hR 41202:41202 /run/shared; chmod 700 closed",
        );
        bed.refuses("/run/shared/out", &["is a symbolic link of uid 41202 that leads elsewhere"]);
        bed.refuses("/run/shared/open", &["every account of this host can change it (mode 0777)"]);
        bed.refuses("/run/shared/none", &["/run/shared/none", "No such file"]);
        bed.refuses("/run/shared/text.txt", &["a file that does not end in"]);
        bed.refuses("/run/shared/pipe.sqfs", &["neither a file nor a directory"]);
        bed.refuses("/run/shared/empty", &["cannot use the image /run/shared/empty", "without /bin/sh"]);
        bed.refuses("/run/shared/closed", &["cannot use the image /run/shared/closed"]);
        if setup.engine == "apptainer" {
            bed.refuses(
                "/run/shared/broken.sif",
                &["cannot use the image /run/shared/broken.sif: it is broken"],
            );
            bed.refuses(
                "/run/shared/broken.sqfs",
                &["cannot use the image /run/shared/broken.sqfs: it is broken"],
            );
        } else {
            bed.refuses("/run/shared/broken.sif", &["does not end in .sqfs"]);
            bed.refuses(
                "/run/shared/broken.sqfs",
                &["cannot use the image /run/shared/broken.sqfs: it is broken"],
            );
            bed.refuses("oras://r.example.org/a:1", &["takes no names with `oras://`"]);
        }
        if !needs_places(setup) {
            // A link beside its target, and another account's directory that this one can read: the log says whose it is.
            let job = bed.job_of("/run/shared/latest");
            let said = succeeded(&job.prepare());
            assert!(said.contains("the image /run/shared/latest is /run/shared/tree"), "{said}");
            assert!(said.contains("belongs to uid 41202, who can change it"), "{said}");
            assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n");
            // What the link leads to meanwhile is another job's affair.
            bed.node.administer("ln -sfn open /run/shared/latest");
            assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n");
            succeeded(&job.cleanup());
        }
    }
}

#[needs(root, in_each = EACH)]
fn an_image_that_changes_while_the_job_runs_ends_it(setup: Setup) {
    if setup.has_images() {
        let (bed, names) = Bed::with_files(setup);
        for name in names {
            let job = bed.job_of(name);
            succeeded(&job.prepare());
            succeeded(&job.run("cat /etc/image"));
            bed.node.administer(&format!(
                "mv {name} /run/images/old; cp -a /run/images/old {name}; touch {name}"
            ));
            let ended = job.run("cat /etc/image");
            assert_eq!((ended.status, out(&ended).as_str()), (Some(120), ""), "{name}: {}", ended.err);
            assert!(ended.err.contains("changed or replaced since the job's prepare stage"), "{}", ended.err);
            bed.node.administer("rm -r /run/images/old");
            succeeded(&job.cleanup());
        }
    }
}

#[needs(root, in_each = EACH)]
fn an_image_that_was_pushed_by_oras_is_pulled_once_into_the_cache(setup: Setup) {
    if setup.engine == "apptainer" {
        let (bed, _) = Bed::with_files(setup);
        let direct = bed.registry.direct("lattice/sif:1");
        let push =
            format!("cat >auth; apptainer push --authfile auth /run/images/tool.sif oras://{direct} 2>&1");
        let cyn = bed.node.person("nbt_cyn");
        cyn.feed(["sh", "-c", &push], &bed.registry.auth_file()).success();
        bed.registry.front().forget();
        let name = format!("oras://{}", bed.registry.name("lattice/sif:1"));
        let mut job = bed.job_of(&name);
        let said = succeeded(&job.prepare());
        assert!(said.contains(&format!("image {name} (sha256:")), "{said}");
        assert_eq!(succeeded(&job.run("cat /etc/image")), "busybox\n");
        let blobs = bed.registry.front().blobs();
        assert!(!blobs.is_empty() && blobs.values().all(|times| *times == 1), "{blobs:?}");
        job.image().pull = vec![PullPolicy::Always];
        let said = succeeded(&job.prepare());
        assert!(said.contains("the copy that is here is what the registry has"), "{said}");
        assert_eq!(bed.registry.front().blobs(), blobs);
        job.knows(&bed.registry.host(), USER, "wrong");
        let ended = job.prepare();
        assert_eq!(ended.status, Some(110), "{}", ended.err);
        assert!(ended.err.contains("password"), "{}", ended.err);
        job.knows(&bed.registry.host(), USER, PASSWORD);
        job.image().name = format!("oras://{}", bed.registry.name("lattice/nothing:1"));
        assert!(job.prepare().err.contains("no such image"));
        // What is there as an ordinary image is none of this kind.
        job.image().name = format!("oras://{}", bed.registry.name(NAME));
        let ended = job.prepare();
        assert!(
            ended.status != Some(0) && ended.err.contains("cannot pull the image oras://"),
            "{}",
            ended.err
        );
        succeeded(&job.cleanup());
    }
}

#[needs(root, in_each = EACH)]
fn the_example_of_the_users_guide_with_a_file_as_image_runs(setup: Setup) {
    if setup.engine == "apptainer" {
        let example = Example::of_the_guide("simulate");
        let (bed, _) = Bed::with_files(setup);
        let path = example.image.replace("/apps/images/lattice-4", "/run/images/tool");
        let job = bed.job_of(&path);
        let project = job.handover.workspace.project_dir.display().to_string();
        bed.node.administer(&format!("mkdir -p {project}; chown -R 41203:41203 /home/nbt_cyn/ci"));
        succeeded(&job.prepare());
        assert_eq!(succeeded(&job.run(&example.script(&project, &[]))), "8 sites\n");
        succeeded(&job.cleanup());
    }
}
