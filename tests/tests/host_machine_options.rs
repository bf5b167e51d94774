//! What a site can turn on for booted machines of jobs: containers in them, by a real Podman, and writing without waiting; and trees on btrfs.

use super::host_machine::{FIRST, begun, has, host_from, nothing_left};
use nunbird_tests::host::{debian_tree, nested_tree};
use nunbird_tests::{Host, Status, needs};
use std::process::Command;

/// The ids of a machine with containers in it.
const SIZE: u32 = 131_072;

/// Builds an image of nothing but busybox, with a file of the last id that a container has, and makes an archive of it.
const BUILD: &str = r#"
rm -rf image one.tar; mkdir image && cp /bin/busybox image/ && cat >image/Containerfile <<'END'
FROM scratch
COPY busybox /bin/sh
COPY busybox /bin/busybox
RUN ["/bin/sh", "-c", "busybox mkdir /made /gone && echo built >/made/file && busybox chown -R 65535:65535 /made && echo x >/gone/x"]
RUN ["/bin/sh", "-c", "busybox rm -r /gone && busybox mkdir /gone"]
END
podman build --quiet --tag one image && podman save --quiet --output one.tar one && podman rmi --all --force >/dev/null && ls -s one.tar
"#;

/// Loads the archive and runs it.
const RUN: &str = r#"
podman load --quiet --input one.tar
podman run --rm one /bin/sh -c 'busybox cat /made/file; busybox stat -c "owner %u:%g" /made/file; busybox ls /gone; while read -r line; do echo ids $line; done </proc/self/uid_map; busybox ip -o link | busybox wc -l; busybox touch /t; for id in 65536 65537; do busybox chown $id /t && echo owner $id; done'
podman run --detach --name service --user 65535 one /bin/busybox sleep 303 >/dev/null && podman exec service /bin/busybox ps | grep -c 'sleep 30[3]'
podman info --format '{{.Store.GraphDriverName}} on {{.Store.GraphRoot}}'
"#;

/// Tries to get ids of the host that are not the machine's, or of the machine's that are not the account's.
const REACH: &str = r#"
unshare --user sleep 30 & sleep 1
for map in '0 0 1' '0 131072 1' '0 65535 2' '0 131071 2' '1 4102 1'; do ! newuidmap $! $map 2>/dev/null || echo mapped $map; done
newuidmap $! 0 65536 65536 && echo mapped own
kill $!
cat /etc/subuid /etc/subgid
"#;

/// The processes of the host with this id, and the control groups of one.
fn of_id(host: &Host, uid: u32) -> String {
    host.root(&format!("p=$(pgrep -u {uid} -o) && ps -o args= -p $p && cat /proc/$p/cgroup")).success()
}

fn memory_group(text: &str) -> Option<&str> {
    text.lines().find(|line| line.contains(":memory:"))
}

#[needs(host)]
fn a_job_builds_and_runs_containers_in_its_machine_within_its_limits_and_its_ids() {
    let limits = "memory = \"512MiB\"\ncgroup_driver = \"v1\"\n";
    let host = host_from(&nested_tree(), SIZE, "nested = true\n", limits);
    for home in [true, false] {
        if !home {
            host.world().reconfigure("home = true\n", "home = false\n");
        }
        let job = host.world().job();
        let mut session = begun(&job);
        let built = session.run_text("build_script", BUILD);
        assert!(built.succeeded() && built.stdout.contains("one.tar"), "{}", built.log);
        let ran = session.run_text("build_script", RUN);
        for line in
            ["built", "owner 65535:65535", "ids 0 4101 1", "ids 1 65536 65536", "2", "owner 65536", "1"]
        {
            has(&ran, line);
        }
        has(&ran, "overlay on /var/lib/nunbird-job/storage");
        assert!(!ran.stdout.contains("owner 65537"), "{}", ran.log);

        // On the host it is the 65,535th of the last 65,536 ids, in the group of its job's memory.
        let container = of_id(&host, FIRST + 65_535 + 65_535);
        let agent = of_id(&host, FIRST + 4101);
        assert!(container.contains("sleep 303"), "{container}");
        assert!(memory_group(&agent).is_some_and(|group| group.contains("/nunbird-")), "{agent}");
        assert_eq!(memory_group(&container), memory_group(&agent));
        assert!(host.processes().iter().all(|process| process.uid < FIRST + SIZE));

        let reached = session.run_text("build_script", REACH);
        has(&reached, "mapped own");
        assert_eq!(reached.stdout.matches("mapped").count(), 1, "{}", reached.log);
        assert_eq!(reached.stdout.matches("alice:65536:65536\n").count(), 2, "{}", reached.log);

        // What one stage starts lives on.
        let after = session.run_text("after_script", "podman exec service /bin/busybox id -u");
        has(&after, "65535");
        let hungry = session.run_text(
            "build_script",
            "podman run --rm one /bin/busybox dd if=/dev/zero of=/dev/null bs=700M count=1; echo ended $?",
        );
        assert!(hungry.log.contains("out of memory") && hungry.log.contains("ended 137"), "{}", hungry.log);
        assert!(session.cleanup().succeeded());
        nothing_left(&host);
        assert_eq!(host.root("find /home/alice -user +1000000000 | head -n 3").success(), "");
    }
}

#[needs(host)]
fn containers_take_machines_with_ids_for_them_and_without_the_setting_there_are_none() {
    let host = host_from(&nested_tree(), 65_536, "nested = true\n", "");
    let outcome = host.world().job().script("true").run();
    assert_ne!(outcome.status, Status::Success, "{}", outcome.log());
    let audit = host.root("grep '\"code\":\"machine\"' /var/log/nunbird/audit.jsonl | tail -n 1").success();
    assert!(audit.contains("SIZE less 65536, for containers in a machine"), "{audit}");
    nothing_left(&host);

    host.world().reconfigure("nested = true\n", "");
    let without = "cat /etc/subuid; ls -d /var/lib/nunbird-job || :; unshare --user sleep 5 & sleep 1; newuidmap $! 0 1 1 || echo no ids";
    let outcome = host.world().job().script(without).run().expect_success();
    assert!(outcome.log().contains("no ids") && !outcome.log().contains("alice:"), "{}", outcome.log());
    assert!(outcome.log().contains("cannot access '/var/lib/nunbird-job'"), "{}", outcome.log());
    nothing_left(&host);
}

/// Says whether fsync(2) looks at what it gets, and what a thousand of them cost.
const SYNC: &str = r#"
python3 - <<'END'
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
print('of no file', libc.fsync(999), libc.fdatasync(999), libc.syncfs(999))
try:
    os.close(os.open('synced', os.O_CREAT | os.O_WRONLY | os.O_SYNC))
    print('opened')
except OSError as error:
    print('refused', error.errno)
file = os.open('file', os.O_CREAT | os.O_WRONLY)
began = time.monotonic()
for _ in range(1000):
    os.write(file, b'x')
    os.fsync(file)
print('took %.0f ms' % ((time.monotonic() - began) * 1000))
END
stat -fc 'on %T' file
"#;

#[needs(host)]
fn with_suppress_sync_nothing_in_a_machine_waits_for_a_disk() {
    let host = host_from(&debian_tree(), 65_536, "suppress_sync = true\n", "");
    let outcome = host.world().job().script(SYNC).run().expect_success();
    let log = outcome.log();
    assert!(log.contains("of no file 0 0 0") && log.contains("refused 22"), "{log}");
    let took = |log: &str| log.lines().find(|line| line.starts_with("took")).map(str::to_owned);
    println!("with: {:?}", took(&log));
    host.world().reconfigure("suppress_sync = true\n", "");
    let outcome = host.world().job().script(SYNC).run().expect_success();
    let log = outcome.log();
    assert!(log.contains("of no file -1 -1 -1") && log.contains("opened"), "{log}");
    println!("without: {:?}, {:?}", took(&log), log.lines().find(|line| line.starts_with("on ")));
    nothing_left(&host);
}

#[needs(host)]
fn a_tree_on_btrfs_is_a_tree_like_any_other_and_stays_as_it_is() {
    let host = host_from(&debian_tree(), 65_536, "root = true\n", "");
    let disk = host.world().host_path("/root/disk");
    let made = Command::new("sh")
        .arg("-c")
        .arg("truncate --size=2G \"$1\" && PATH=/usr/sbin:/sbin:$PATH mkfs.btrfs --quiet \"$1\"")
        .arg("sh")
        .arg(&disk)
        .status();
    assert!(made.expect("mkfs.btrfs(8)").success());
    // The host of the test has no udev, which would make these.
    host.root(
        "for n in $(seq 0 7); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done; [ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237; \
         cd /var/lib/nunbird && mkdir plain && mv machines/* plain/ && mount -o loop /root/disk machines && chmod 755 machines && cp -a plain/* machines/ && stat -fc %T machines",
    )
    .success();
    assert_eq!(host.root("stat -fc %T /var/lib/nunbird/machines").success().trim(), "btrfs");
    let all = "cd /var/lib/nunbird/machines && find . -printf '%p %i %u %m %s %C@\\n' | sort | sha256sum; btrfs subvolume list . 2>/dev/null | wc -l";
    let before = host.root(all).success();
    let outcome = host
        .world()
        .job()
        .script("stat -fc %T /; id -un; rm -r /usr/share/doc; echo x >/made; chmod 700 /made; rm /etc/hostname; sed -i s/a/b/ /etc/debian_version; ls /made")
        .run();
    let outcome = outcome.expect_success();
    assert!(outcome.log().contains("overlayfs\nroot\n"), "{}", outcome.log());
    nothing_left(&host);
    assert_eq!(host.root(all).success(), before);
    host.root("umount /var/lib/nunbird/machines && ! losetup --list | grep /root/disk").success();
}
