//! What `nunbirdctl check` finds on a machine where containers do not work as they should.

use nunbird_tests::containers::{Node, Release};
use nunbird_tests::needs;
use serde_json::Value;

/// The codes of findings about containers.
const CODES: [&str; 6] = ["engine", "user-namespaces", "subordinate-ids", "control-groups", "store", "fuse"];

/// Findings about containers, as `severity code message`, for jobs of an account in a container with these keys.
fn check(node: &Node, account: &str, keys: &str) -> Vec<String> {
    node.write(
        "/etc/nunbird/config.toml",
        &format!(
            "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"https://gitlab.example.org\"\n\
             [job]\ncontainer = \"small\"\n[container.small]\n{keys}\n[[rule]]\nname = \"all\"\nrun_as = \"{account}\"\n"
        ),
    );
    let mut command = node.root();
    command.arg(node.program("nunbirdctl")).args(["check", "--format", "json"]);
    let done = command.output().expect("nunbirdctl");
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("a text").to_owned();
    let about = |finding: &&Value| CODES.iter().any(|code| finding["code"] == **code);
    let findings = answer["findings"].as_array().expect("findings").iter().filter(about);
    findings
        .map(|f| {
            format!(
                "{} {} {} ({})",
                text(f, "severity"),
                text(f, "code"),
                text(f, "message"),
                text(f, "help")
            )
        })
        .collect()
}

#[track_caller]
fn assert_one(found: &[String], begin: &str, words: &[&str]) {
    let fits = |one: &&String| one.starts_with(begin) && words.iter().all(|word| one.contains(word));
    assert_eq!(found.iter().filter(fits).count(), 1, "`{begin}` with {words:?}: {found:#?}");
}

const PODMAN: &str = "engine = \"podman\"";

#[needs(root)]
fn a_machine_where_containers_work_has_no_finding() {
    let node = Node::start(Release::Host);
    for engine in ["podman", "charliecloud", "bwrap"] {
        let found = check(&node, "nbt_ann", &format!("engine = \"{engine}\""));
        assert!(found.is_empty(), "{engine}: {found:#?}");
    }
}

#[needs(root)]
fn an_engine_that_is_missing_or_old_is_found() {
    let node = Node::start(Release::Host);
    let found = check(&node, "nbt_ann", "engine = \"podman\"\nenvironment = { PATH = \"/nowhere:/run\" }");
    assert_one(&found, "error engine", &["no program podman in /nowhere:/run", "install Podman"]);
    let found = check(&node, "nbt_ann", "engine = \"charliecloud\"\nprogram = \"/opt/ch-run\"");
    assert_one(&found, "error engine", &["no program /opt/ch-run"]);
    for (said, words) in [
        ("echo podman version 3.4.4", ["Podman 3.4.4", "4.3 and later"]),
        ("echo what", ["does not say its version: what", "runs at all"]),
        ("id -u; exit 1", ["does not say its version: 65534", "runs at all"]),
    ] {
        node.write("/run/podman", &format!("#!/bin/sh\n{said}\n"));
        node.administer("chmod 755 /run/podman");
        let found = check(&node, "nbt_ann", "engine = \"podman\"\nprogram = \"/run/podman\"");
        assert_one(&found, "remark engine", &words);
    }
}

#[needs(root)]
fn what_is_wrong_with_subordinate_ids_is_found() {
    let node = Node::start(Release::Host);
    let found = check(&node, "nbt_cyn", PODMAN);
    assert_one(
        &found,
        "remark subordinate-ids",
        &["nbt_cyn has none in /etc/subuid", "usermod --add-subuids 432095539-432161074 nbt_cyn"],
    );
    assert_one(&found, "remark subordinate-ids", &["nbt_cyn has none in /etc/subgid", "--add-subgids"]);
    // Where one id is what the site wants, none are missed.
    let one = check(&node, "nbt_cyn", "engine = \"charliecloud\"");
    assert!(one.is_empty(), "{one:#?}");
    node.write("/etc/subuid", "nbt_ann:500000000:65536\nnbt_bea:500065535:65536\n");
    let found = check(&node, "nbt_ann", PODMAN);
    assert_one(&found, "error subordinate-ids", &["nbt_ann and nbt_bea", "500065535 to 500065535"]);
    node.write("/etc/subuid", "nbt_ann:500000000:65535\n41201:500065535:1\nnbt_bea:41200:3\nnbt_cyn\n");
    let found = check(&node, "nbt_ann", PODMAN);
    assert_one(&found, "error subordinate-ids", &["nbt_bea has the id 41201 of the account nbt_ann"]);
    assert_one(&found, "remark subordinate-ids", &["a line that is no range"]);
    assert_eq!(found.len(), 2, "{found:#?}");
    node.write("/etc/subuid", "nbt_ann:500000000:1000\n");
    let found = check(&node, "nbt_ann", PODMAN);
    assert_one(&found, "remark subordinate-ids", &["nbt_ann has 1000 in /etc/subuid"]);
    node.write("/etc/subuid", "");
    let found = check(&node, "$user_login", PODMAN);
    assert_one(&found, "remark subordinate-ids", &["no account has any in /etc/subuid"]);
    node.administer("cp /bin/true /run/newuidmap; mount --bind /run/newuidmap /usr/bin/newuidmap");
    let found = check(&node, "nbt_ann", PODMAN);
    assert_one(
        &found,
        "error subordinate-ids",
        &["newuidmap has neither a setuid bit nor file capabilities"],
    );
}

#[needs(root)]
fn what_the_kernel_does_not_give_is_found() {
    let node = Node::start(Release::Host);
    node.administer(
        "echo 0 >/run/zero; mount --bind /run/zero /proc/sys/user/max_user_namespaces; chmod 600 /dev/fuse; \
         mount -t cgroup2 none /sys/fs/cgroup/unified",
    );
    let found = check(&node, "nbt_ann", PODMAN);
    assert_one(&found, "error user-namespaces", &["max_user_namespaces is 0", "no container of Podman"]);
    assert_one(&found, "remark fuse", &["/dev/fuse has mode 0600"]);
    assert_one(&found, "error control-groups", &["both versions of control groups"]);
    let found = check(&node, "nbt_ann", "engine = \"charliecloud\"");
    assert_one(&found, "error user-namespaces", &["no container of Charliecloud"]);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[needs(root)]
fn a_store_on_a_network_is_found() {
    let node = Node::start(Release::Host);
    // FUSE stands for all of them, as in the launcher's own test.
    node.administer(
        "mkdir /run/empty /run/net; mksquashfs /run/empty /run/image -quiet >/dev/null; squashfuse -o allow_other /run/image /run/net",
    );
    let found = check(&node, "nbt_ann", "engine = \"podman\"\nstore = \"/run/net/$USER\"");
    assert_one(&found, "error store", &["/run/net is on FUSE", "a directory on a local disk"]);
    let found = check(&node, "nbt_ann", "engine = \"podman\"\nstore = \"/run/local/$USER\"");
    assert!(found.is_empty(), "{found:#?}");
}
