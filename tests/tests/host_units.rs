//! The package's units under a real systemd: they are valid, sandboxed, and the timer fetches keys.

use nunbird_tests::{Host, needs};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The most that `systemd-analyze security` may find, in tenths of a point of ten ("exposure", less is better).
const EXPOSURE: u32 = 20;
/// The sweep becomes the jobs' users and calls their scheduler's commands, some of which are setuid: its unit says why it
/// cannot be narrowed. So does that of the machines, which makes whole systems with the owners of all their files.
const EXPOSURE_OF_ROOTS: u32 = 82;

#[needs(host)]
fn every_unit_of_the_package_is_sound_and_little_exposed() {
    let host = Host::boot();
    let units = host.root("rpm -ql nunbird | grep '^/usr/lib/systemd/system/.*[.]'").success();
    assert!(units.contains("nunbird-keys.service") && units.contains("nunbird-keys.timer"), "{units}");
    for unit in units.lines() {
        let verified = host.root(&format!("systemd-analyze verify --recursive-errors=no {unit}"));
        assert!(verified.succeeded() && verified.stderr.is_empty(), "{unit}: {}", verified.stderr);
    }
    for service in units.lines().filter(|unit| unit.ends_with(".service")) {
        let name = service.rsplit('/').next().expect("a name");
        let report = host.root(&format!("systemd-analyze security --no-pager {name}")).success();
        let summary = report.lines().find(|line| line.contains("Overall exposure level")).expect("a summary");
        println!("{summary}");
        let digits: String = summary.chars().filter(char::is_ascii_digit).collect();
        let is_roots = ["nunbird-sweep.service", "nunbird-machines.service"].contains(&name);
        let most = if is_roots { EXPOSURE_OF_ROOTS } else { EXPOSURE };
        assert!(digits.parse::<u32>().expect("a number") <= most, "{report}");
    }
}

#[needs(host)]
fn the_timer_fetches_the_keys_as_the_keepers_account_inside_its_sandbox() {
    let host = Host::boot();
    let keys = host.world().host_path("/var/lib/nunbird/keys/site.json");
    assert!(!keys.exists());
    assert_eq!(host.root("systemctl is-enabled nunbird-keys.timer").success(), "enabled");
    // At once instead of at the next full hour.
    let soon = "[Timer]\nOnCalendar=\nOnActiveSec=1ms\nAccuracySec=1ms\nRandomizedDelaySec=0\n";
    let place = "/etc/systemd/system/nunbird-keys.timer.d";
    host.root(&format!("mkdir {place} && printf '{}' >{place}/soon.conf", soon.replace('\n', "\\n")))
        .success();
    host.root("systemctl daemon-reload && systemctl restart nunbird-keys.timer").success();
    let said = |host: &Host| {
        host.root("journalctl -b --no-pager -u nunbird-keys.service -u nunbird-keys.timer").stdout
    };
    assert!(host.wait_until(|_| keys.exists()), "{}", said(&host));
    let keeper = fs::metadata(host.world().host_path("/var/lib/nunbird/keys")).expect("a directory").uid();
    assert_ne!(keeper, 0);
    let file = fs::metadata(&keys).expect("a keys file");
    assert_eq!((file.uid(), file.mode() & 0o7777), (keeper, 0o644));
    let ended =
        |host: &Host| host.root("systemctl show -P Result -P ActiveState nunbird-keys.service").stdout;
    assert!(
        host.wait_until(|host| ended(host) == "success\ninactive\n"),
        "{}\n{}",
        ended(&host),
        said(&host)
    );
    // With keys of its own, a job does not have them fetched.
    host.world().job().run().expect_success();
}

/// In the sandbox of its unit, which lets it write nowhere but where trees are.
#[needs(host)]
fn the_timers_service_builds_a_tree_with_its_hook_and_removes_old_versions() {
    let host = Host::boot();
    let enabled = host.root("systemctl is-enabled nunbird-machines.timer").stdout;
    assert_eq!(enabled, "disabled\n");
    let prepare = "set -e; mkdir -p /etc/nunbird/machines /srv/new/usr/lib /srv/new/sbin
        echo 'PRETTY_NAME=\"A test\"' >/srv/new/usr/lib/os-release
        touch /srv/new/sbin/init
        tar -C /srv/new -cf /srv/small.tar .
        printf '#!/bin/sh\\nset -e\\nid -u >\"$1/hook\"\\nif touch /usr/nbt; then exit 3; fi\\nmount -t tmpfs nbt \"$1/sbin\"\\numount \"$1/sbin\"\\n' >/srv/hook
        chmod 755 /srv/hook
        printf 'keep = 1\\nhook = \"/srv/hook\"\\n[source]\\ntarball = \"/srv/small.tar\"\\n' >/etc/nunbird/machines/small.toml";
    host.root(prepare).success();
    let log = "journalctl -b --no-pager -u nunbird-machines.service";
    let start = host.root("systemctl start nunbird-machines.service");
    assert!(start.succeeded(), "{}", host.root(log).stdout);
    let current = "/var/lib/nunbird/machines/small/current";
    let first = host.root(&format!("readlink {current}; cat {current}/tree/hook")).success();
    assert_eq!(first.lines().nth(1), Some("0"), "{first}");
    host.root("touch /srv/new/more; tar -C /srv/new -cf /srv/small.tar .").success();
    let start = host.root("systemctl start nunbird-machines.service");
    assert!(start.succeeded(), "{}", host.root(log).stdout);
    host.root(&format!("test -e {current}/tree/more")).success();
    let versions = host.root("ls /var/lib/nunbird/machines/small").success();
    assert_eq!(versions.lines().count(), 2, "{versions}");
    host.root("nunbirdctl machines verify").success();
}
