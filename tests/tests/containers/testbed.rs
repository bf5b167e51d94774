//! The machines, images and the registry themselves.

use nunbird_tests::containers::{Digest, Fault, Image, Index, Layer, Node, On, Registry, Release, samples};
use nunbird_tests::needs;
use std::path::Path;

/// What `skopeo inspect` says, as ann.
fn inspect(node: &Node, options: &str, name: &str) -> Result<String, String> {
    let script = format!("skopeo inspect --authfile .auth {options} docker://{name}");
    let done = node.person("nbt_ann").shell(&script);
    if done.succeeded() { Ok(done.stdout) } else { Err(done.stderr) }
}

/// A machine that trusts a registry, and ann with its password in `~/.auth`.
fn with_registry() -> (Node, Registry) {
    let (node, registry) = (Node::start(Release::Host), Registry::start());
    node.trust(&registry.ca_pem());
    let ann = node.person("nbt_ann");
    ann.feed(["sh", "-c", "cat >.auth; chmod 600 .auth"], &registry.auth_file()).success();
    (node, registry)
}

#[needs(root)]
fn a_machine_has_accounts_with_and_without_subordinate_ids_and_its_own_processes() {
    let node = Node::start(Release::Host);
    for (name, uid) in [("nbt_ann", 41201), ("nbt_cyn", 41203)] {
        let ids =
            node.person(name).shell("id; pwd; echo $XDG_RUNTIME_DIR; stat -c %a $XDG_RUNTIME_DIR").success();
        let expected = format!(
            "uid={uid}({name}) gid={uid}({name}) groups={uid}({name}),41299(nbt_lattice)\n/home/{name}\n/run/user/{uid}\n700"
        );
        assert_eq!(ids, expected);
    }
    assert!(node.administer("cat /etc/subuid").contains("nbt_ann:412010000:65536"));
    assert!(!node.administer("cat /etc/subuid").contains("nbt_cyn"));
    node.person("nbt_ann").shell("test -w /dev/fuse && test -w /dev/net/tun").success();
    node.person("nbt_ann").shell("sleep 1000 >/dev/null 2>&1 </dev/null & :").success();
    let processes = node.processes();
    assert!(processes.values().eq(["sleep 1000"]), "{processes:?}");
    node.administer("mkdir /tmp/m && mount -t tmpfs none /tmp/m");
    let mounts = node.new_mounts();
    assert!(matches!(&mounts[..], [one] if one.contains("/tmp/m")), "{mounts:?}");
    let (directory, own) = (node.directory().to_path_buf(), std::fs::read("/etc/passwd").expect("a file"));
    drop(node);
    assert!(!directory.exists() && !String::from_utf8_lossy(&own).contains("nbt_ann"));
}

#[needs(root)]
fn privileges_and_user_namespaces_can_be_taken_from_a_person() {
    let node = Node::start(Release::Host);
    let ann = node.person("nbt_ann");
    ann.run(["unshare", "--user", "--map-root-user", "true"]).success();
    let refused = ann.without_user_namespaces().run(["unshare", "--user", "true"]);
    assert!(refused.stderr.contains("Operation not permitted"), "{refused:?}");
    let status = ann.no_new_privileges().run(["grep", "NoNewPrivs", "/proc/self/status"]).success();
    assert_eq!(status, "NoNewPrivs:\t1");
}

#[needs(root)]
fn an_image_is_pushed_under_its_own_digest_and_pulled_by_those_who_know_the_password() {
    let (node, registry) = with_registry();
    let digest = registry.push("group/busybox:1", &samples::busybox());
    for name in [registry.direct("group/busybox:1"), registry.name("group/busybox:1")] {
        let seen = inspect(&node, "--format={{.Digest}}", &name).expect("an image");
        assert_eq!(seen.trim(), digest.as_str());
        let refused = node.person("nbt_bea").run(["skopeo", "inspect", &format!("docker://{name}")]);
        assert!(refused.stderr.contains("authentication required"), "{refused:?}");
    }
    let missing = inspect(&node, "", &registry.name("group/nothing:1")).expect_err("no image");
    assert!(missing.contains("manifest unknown"), "{missing}");
}

#[needs(root)]
fn the_front_counts_requests_and_fails_on_request() {
    let (node, registry) = with_registry();
    registry.push("a:1", &samples::busybox());
    let front = registry.front();
    let name = registry.name("a:1");
    let pull = || {
        node.person("nbt_ann")
            .shell(&format!("rm -rf d; skopeo copy --authfile .auth --retry-times 0 docker://{name} dir:d"))
    };
    pull().success();
    let blobs = front.blobs();
    assert!(blobs.len() == 2 && blobs.values().all(|times| *times == 1), "{blobs:?}");
    front.fail(On::Manifests, Fault::Status(503));
    assert!(pull().stderr.contains("503"));
    front.fail(On::Blobs, Fault::Cut(5_000));
    let cut = pull();
    assert!(cut.stderr.contains("EOF"), "{cut:?}");
    front.fail_times(1, On::Everything, Fault::Status(503));
    assert!(!pull().succeeded());
    pull().success();
    front.fail(On::Blobs, Fault::Hang);
    let hanging = node
        .person("nbt_ann")
        .shell(&format!("timeout 1 skopeo copy --authfile .auth docker://{name} dir:e"));
    assert_eq!(hanging.exit, nunbird_tests::Exit::Code(124), "{hanging:?}");
    front.heal();
    pull().success();
    front.go_down();
    assert!(pull().stderr.contains("connection refused"));
}

#[needs(root)]
fn a_tag_moves_between_two_requests() {
    let (node, registry) = with_registry();
    let first = registry.push("a:1", &samples::busybox());
    let second = registry.push("a:2", &samples::other("second"));
    registry.front().move_tag("a:1", "2", 1);
    let digest = || inspect(&node, "--format={{.Digest}}", &registry.name("a:1")).expect("an image");
    let seen = [digest(), digest()].map(|text| text.trim().to_owned());
    assert_ne!(first, second);
    assert_eq!(seen, [first.to_string(), second.to_string()]);
}

#[needs(root)]
fn one_name_has_an_image_for_each_architecture() {
    let (node, registry) = with_registry();
    registry.push("both:1", &Index(vec![samples::busybox(), samples::foreign()]));
    for architecture in ["amd64", "s390x"] {
        let options = format!("--override-arch={architecture} --format={{{{.Architecture}}}}");
        let seen = inspect(&node, &options, &registry.name("both:1")).expect("an image");
        assert_eq!(seen.trim(), architecture);
    }
}

#[needs(root)]
fn an_archive_has_what_tar_reads() {
    let node = Node::start(Release::Host);
    let layer = Layer::new()
        .directory("d/", 0o750)
        .file_of(33, "d/f", 0o640, b"text\n")
        .link("d/l", "f")
        .device("null");
    let layout = node.see("/tmp/layout");
    let digest = Image::new([layer]).write(&layout, "one");
    let manifest = layout.join("blobs/sha256").join(digest.as_str().trim_start_matches("sha256:"));
    let manifest = std::fs::read(&manifest).expect("a manifest");
    assert_eq!(Digest::of(&manifest), digest);
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let blob = manifest["layers"][0]["digest"].as_str().expect("a layer").trim_start_matches("sha256:");
    let listing =
        node.administer(&format!("tar -tvzf /tmp/layout/blobs/sha256/{blob} --numeric-owner --utc"));
    let words: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
    let columns: Vec<String> =
        words.iter().map(|w| format!("{} {} {} {}", w[0], w[1], w[2], w[5..].join(" "))).collect();
    assert_eq!(
        columns,
        [
            "drwxr-x--- 0/0 0 d/",
            "-rw-r----- 33/33 5 d/f",
            "lrwxrwxrwx 0/0 0 d/l -> f",
            "crw-rw-rw- 0/0 1,3 null"
        ]
    );
}

#[needs(root)]
fn a_debian_with_python_is_archived_once_and_pushed() {
    let (node, registry) = with_registry();
    registry.push("debian/python:3", &samples::python());
    let ann = node.person("nbt_ann");
    ann.shell(&format!("skopeo copy --authfile .auth docker://{} oci:layout:p && umoci raw unpack --rootless --image layout:p root", registry.name("debian/python:3"))).success();
    assert!(Path::new(&node.see("/home/nbt_ann/root/usr/bin/python3")).exists());
}
