//! What a host lacks: user namespaces, programs for subordinate ids, space.

use crate::cases::{Bed, NAME, Setup, out, succeeded};
use crate::{EACH, EACH_AND_PODMAN, WITH_PODMAN};
use nunbird_handover::PullPolicy;
use nunbird_tests::containers::{Image, Job, Layer, PASSWORD, USER, samples};
use nunbird_tests::{needs, skip};
use std::path::PathBuf;

impl Bed {
    /// A job of another account than the usual one, or of one that lacks something.
    fn job_by<'n>(&'n self, person: nunbird_tests::containers::Person<'n>) -> Job<'n> {
        let name = self.registry.name(NAME);
        let image = self.setup.has_images().then_some(name.as_str());
        let mut job = Job::new(&self.node, person, self.setup.engine, image);
        job.knows(&self.registry.host(), USER, PASSWORD);
        job
    }
}

fn without_namespaces(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    for name in ["nbt_ann", "nbt_cyn"] {
        let person = bed.node.person(name).with_user_namespaces_off();
        let person = if setup.no_new_privileges { person.no_new_privileges() } else { person };
        let job = bed.job_by(person);
        let mut ended = job.prepare();
        // Apptainer needs them for nothing but the stage itself.
        if ended.status == Some(0) && setup.engine == "apptainer" {
            ended = job.run("echo ran");
        }
        assert_eq!(ended.status, Some(120), "{name}: {}\n{}", out(&ended), ended.err);
        assert!(ended.err.contains("user namespace"), "{}", ended.err);
        assert!(ended.err.contains("nunbirdctl check"), "{}", ended.err);
        if setup.engine != "apptainer" {
            let way = "user.max_user_namespaces is 0: ask the administrators to change that (sysctl user.max_user_namespaces=15000)";
            assert!(ended.err.contains(way), "{}", ended.err);
        }
        assert!(!ended.err.contains("disk"), "{}", ended.err);
        succeeded(&job.cleanup());
        bed.node.administer("! ls -d /tmp/nb-* 2>/dev/null");
    }
    // As root, whose processes are in such a namespace as well, for a moment.
    let title = match setup.engine {
        "bwrap" => "Bubblewrap",
        "podman" => "Podman",
        "charliecloud" => "Charliecloud",
        _ => "Apptainer",
    };
    let engine = setup.engine;
    bed.node.write(
        "/etc/nunbird/config.toml",
        &format!(
            "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"https://gitlab.example.org\"\n\
             [job]\ncontainer = \"small\"\n[container.small]\nengine = \"{engine}\"\n[[rule]]\nname = \"all\"\nrun_as = \"nbt_ann\"\n"
        ),
    );
    let program = bed.node.program("nunbirdctl");
    let off = bed.node.person("nbt_ann").with_user_namespaces_off();
    let found = off.run([program.as_os_str(), "check".as_ref()]);
    assert!(found.stdout.contains("user.max_user_namespaces is 0"), "{found:?}");
    assert!(
        found.stdout.contains(title) && found.stdout.contains("sysctl user.max_user_namespaces=15000"),
        "{found:?}"
    );
}

#[needs(root, in_each = EACH)]
fn a_host_without_user_namespaces_is_a_clear_failure_and_check_has_the_way_out(setup: Setup) {
    without_namespaces(setup);
}

#[needs(root, in_each = WITH_PODMAN)]
fn podman_on_a_host_without_user_namespaces_says_so_as_well(setup: Setup) {
    if setup.engine == "podman" {
        without_namespaces(setup);
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_host_without_newuidmap_has_containers_with_one_id(setup: Setup) {
    if setup.engine == "podman" && !setup.no_new_privileges {
        let bed = Bed::new(setup, &samples::busybox());
        bed.node.write("/run/nothing", "");
        bed.node.administer("mount --bind /run/nothing /usr/bin/newuidmap");
        let job = bed.job_by(bed.node.person("nbt_ann"));
        let said = succeeded(&job.prepare());
        assert!(
            said.contains("one user id, because newuidmap and newgidmap are not installed on this host"),
            "{said}"
        );
        assert_eq!(succeeded(&job.run("id -u; cat /etc/image")), "41201\nbusybox\n");
        succeeded(&job.cleanup());
    }
}

/// Four megabytes that nothing makes smaller, and a thousand files.
fn large() -> Image {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let noise: Vec<u8> = noise.take(4 << 17).flatten().collect();
    let layer = Layer::new().directory("files/", 0o755).file("noise", 0o644, &noise);
    let layer = (0..1000).fold(layer, |layer, n| layer.file(&format!("files/{n}"), 0o644, b"x\n"));
    samples::busybox().layer(layer)
}

/// A job whose images and container lie in a directory of this kind.
fn in_a_small_place<'n>(bed: &'n Bed, make: &dyn Fn(&str)) -> Job<'n> {
    let mut job = bed.job();
    let place = format!("/run/small-{}", job.handover.job_id);
    make(&place);
    job.container().cache = PathBuf::from(&place).join("images");
    job.container().store = Some(PathBuf::from(&place).join("store"));
    job
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_disk_that_is_full_during_a_pull_is_told_and_nothing_of_the_image_is_left(setup: Setup) {
    let bed = Bed::new(setup, &large());
    let cyn = bed.node.person("nbt_cyn");
    // Of bytes, and of files.
    let kinds: [&dyn Fn(&str); 2] =
        [&|place| bed.node.small_disk(place, 3 << 20, &cyn), &|place| bed.node.few_files(place, 300, &cyn)];
    let room = |job: &Job<'_>| {
        let id = job.handover.job_id;
        bed.node.administer(&format!("mount -o remount,size=200M,nr_inodes=100k /run/small-{id}"));
    };
    // Apptainer makes one file of an image, without a directory of its files.
    let number = if setup.engine == "apptainer" { 1 } else { 2 };
    for make in kinds.into_iter().take(number) {
        let job = in_a_small_place(&bed, make);
        let ended = job.prepare();
        assert_eq!(ended.status, Some(120), "{}\n{}", out(&ended), ended.err);
        assert!(ended.err.contains("the disk for images is full"), "{}", ended.err);
        succeeded(&job.cleanup());
        let mut never = bed.job();
        never.container().cache = job.handover.container.as_ref().expect("a container").cache.clone();
        never.container().store = job.handover.container.as_ref().expect("a container").store.clone();
        never.image().pull = vec![PullPolicy::Never];
        room(&job);
        let ended = never.prepare();
        assert_eq!(ended.status, Some(110), "{}\n{}", out(&ended), ended.err);
        assert!(ended.err.contains("no copy of it is on this host"), "a part is no image: {}", ended.err);
        drop(never.cleanup());
    }
}

fn full_disk(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let cyn = bed.node.person("nbt_cyn");
    bed.node.small_disk("/run/full", 3 << 20, &cyn);
    let mut job = bed.job();
    let data = PathBuf::from("/run/full/ci");
    job.handover.workspace.data_dir.clone_from(&data);
    job.handover.workspace.builds_root.clone_from(&data);
    job.handover.workspace.builds_dir = data.join("builds/0");
    job.handover.workspace.cache_dir = data.join("cache");
    job.handover.workspace.project_dir = data.join("builds/0/group/project");
    job.container().directory = data.join("containers/1");
    succeeded(&job.prepare());
    let ended = job.run("dd if=/dev/zero of=fill bs=1000 2>/dev/null; echo >more || exit 41; exit 0");
    assert_eq!((ended.status, ended.exit_code.trim()), (Some(110), "41"), "{}", ended.err);
    // Before a stage, there is no room for its files.
    let ended = job.run("true");
    assert_eq!(ended.status, Some(120), "{}", ended.err);
    assert!(ended.err.contains("No space left") && ended.err.contains("space and quota"), "{}", ended.err);
    succeeded(&job.cleanup());
    bed.node.assert_idle("after the cleanup");
}

#[needs(root, in_each = EACH)]
fn a_script_that_fills_the_disk_ends_with_its_own_exit_code(setup: Setup) {
    full_disk(setup);
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_script_in_podman_that_fills_the_disk_ends_with_its_own_exit_code(setup: Setup) {
    if setup.engine == "podman" {
        full_disk(setup);
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_quota_that_a_pull_uses_up_is_told_from_a_full_disk_and_nothing_of_the_image_is_left(setup: Setup) {
    let bed = Bed::new(setup, &large());
    let cyn = bed.node.person("nbt_cyn");
    if !bed.node.quota("/run/quota", 3 << 20, &cyn) {
        skip!("the kernel has no btrfs, whose quotas stand for all");
    }
    let mut job = bed.job();
    job.container().cache = PathBuf::from("/run/quota/own/images");
    job.container().store = Some(PathBuf::from("/run/quota/own/store"));
    let ended = job.prepare();
    assert_eq!(ended.status, Some(120), "{}\n{}", out(&ended), ended.err);
    let said = "the account's quota on the disk for images is used up";
    assert!(ended.err.contains(said) && ended.err.contains("larger quota"), "{}", ended.err);
    assert!(!ended.err.contains("disk for images is full"), "{}", ended.err);
    succeeded(&job.cleanup());
    let mut never = bed.job();
    never.container().cache = PathBuf::from("/run/quota/own/images");
    never.container().store = Some(PathBuf::from("/run/quota/own/store"));
    never.image().pull = vec![PullPolicy::Never];
    bed.node.administer("btrfs qgroup limit none /run/quota/own");
    let ended = never.prepare();
    assert_eq!(ended.status, Some(110), "{}\n{}", out(&ended), ended.err);
    assert!(ended.err.contains("no copy of it is on this host"), "a part is no image: {}", ended.err);
    drop(never.cleanup());
    let left = bed.node.administer("find /run/quota/own -name '.new-*'");
    assert_eq!(left, "", "what a pull has left");
}

fn full_quota(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let cyn = bed.node.person("nbt_cyn");
    if !bed.node.quota("/run/quota", 3 << 20, &cyn) {
        skip!("the kernel has no btrfs, whose quotas stand for all");
    }
    let mut job = bed.job();
    let data = PathBuf::from("/run/quota/own/ci");
    job.handover.workspace.data_dir.clone_from(&data);
    job.handover.workspace.builds_root.clone_from(&data);
    job.handover.workspace.builds_dir = data.join("builds/0");
    job.handover.workspace.cache_dir = data.join("cache");
    job.handover.workspace.project_dir = data.join("builds/0/group/project");
    job.container().directory = data.join("containers/1");
    succeeded(&job.prepare());
    let script = "dd if=/dev/zero of=fill bs=1000 2>said; i=0; while mkdir d$i 2>>said; do i=$((i + 1)); done; grep -c 'isk quota exceeded' said >&2; exit 41";
    let ended = job.run(script);
    // Copying on write, there may be no room even for what was written before.
    let is_noted = (ended.status, ended.exit_code.trim()) == (Some(110), "41");
    let is_said = ended.status == Some(120) && ended.err.contains("the account's quota on it is used up");
    assert!(is_noted || is_said, "{}", ended.err);
    // Before a stage, there is no room for its files.
    let ended = job.run("true");
    assert_eq!(ended.status, Some(120), "{}", ended.err);
    assert!(ended.err.contains("quota exceeded") && ended.err.contains("space and quota"), "{}", ended.err);
    assert!(!ended.err.contains("No space left"), "{}", ended.err);
    succeeded(&job.cleanup());
    bed.node.assert_idle("after the cleanup");
}

#[needs(root, in_each = EACH)]
fn a_script_that_uses_up_the_quota_and_the_stage_after_it_say_so(setup: Setup) {
    full_quota(setup);
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_script_in_podman_that_uses_up_the_quota_and_the_stage_after_it_say_so(setup: Setup) {
    if setup.engine == "podman" {
        full_quota(setup);
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_newuidmap_without_privilege_is_as_none_and_the_log_says_so(setup: Setup) {
    if setup.engine == "podman" && !setup.no_new_privileges {
        let bed = Bed::new(setup, &samples::busybox());
        bed.node.administer("cp /usr/bin/newuidmap /run/newuidmap; chmod 755 /run/newuidmap; mount --bind /run/newuidmap /usr/bin/newuidmap");
        let job = bed.job_by(bed.node.person("nbt_ann"));
        let said = succeeded(&job.prepare());
        let why = "one user id, because newuidmap or newgidmap has neither a setuid bit nor file capabilities on this host";
        assert!(said.contains(why), "{said}");
        assert_eq!(succeeded(&job.run("id -u; cat /etc/image")), "41201\nbusybox\n");
        succeeded(&job.cleanup());
    }
}

/// As in a container around the runner that hides parts of /proc: the kernel lets no user namespace have a whole one then.
#[needs(root, in_each = EACH_AND_PODMAN)]
fn a_hidden_part_of_proc_is_said_with_the_way_out_after_the_engine_has_failed(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    bed.node.administer("mount -t tmpfs tmpfs /proc/fs");
    let job = bed.job();
    let mut ended = job.prepare();
    if ended.status == Some(0) {
        ended = job.run("echo ran");
    }
    // Charliecloud mounts no /proc of its own.
    if setup.engine == "charliecloud" {
        assert_eq!(succeeded(&ended), "ran\n");
    } else {
        assert_eq!(ended.status, Some(120), "{}\n{}", out(&ended), ended.err);
        assert!(ended.err.contains("no /proc can be mounted in a user namespace"), "{}", ended.err);
        assert!(ended.err.contains("podman --security-opt unmask=ALL"), "{}", ended.err);
    }
    succeeded(&job.cleanup());
    bed.node.assert_idle("after the cleanup");
}

#[needs(root, in_each = EACH_AND_PODMAN)]
fn a_filter_of_system_calls_that_forbids_user_namespaces_is_said_with_the_way_out(setup: Setup) {
    let bed = Bed::new(setup, &samples::busybox());
    let person = bed.node.person("nbt_cyn").refused_by_a_filter();
    let job = bed.job_by(if setup.no_new_privileges { person.no_new_privileges() } else { person });
    let ended = job.prepare();
    assert_eq!(ended.status, Some(120), "{}\n{}", out(&ended), ended.err);
    assert!(ended.err.contains("needs user namespaces"), "{}", ended.err);
    assert!(ended.err.contains("a filter of system calls (seccomp) may forbid them"), "{}", ended.err);
    assert!(ended.err.contains("RestrictNamespaces="), "{}", ended.err);
    succeeded(&job.cleanup());
    bed.node.administer("! ls -d /tmp/nb-* 2>/dev/null");
}
