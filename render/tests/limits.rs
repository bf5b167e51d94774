//! `[limits.NAME]`: amounts are read strictly, and a finding says where it stands.

use nunbird_handover::UNLIMITED;
use nunbird_policy::{Policy, SourceFile};
use nunbird_render::to_toml;
use std::path::Path;

const BASE: &str = "\
[[gitlab]]
name = \"example\"
url = \"https://gitlab.example.org\"
audience = \"https://gitlab.example.org\"

[[rule]]
name = \"everybody\"
run_as = \"$user_login\"
";

fn findings(tables: &str) -> Vec<String> {
    let text = format!("{BASE}{tables}");
    Policy::parse(Path::new("c.toml"), &text)
        .err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_amount_that_is_none_is_reported_with_its_place() {
    for bad in [
        "memory = \"-1\"",
        "memory = \"1e99\"",
        "memory = \"∞\"",
        "memory = \"99999999999TiB\"",
        "memory = \"1MiB\"",
        "memory = 4",
        "cpus = \"0\"",
        "cpus = \"1.2345\"",
        "cpus = 1.2345",
        "cpus = 0",
        "cpus = -1",
        "cpus = 1e3",
        "cpus = true",
        "pids = 5",
        "pids = -1",
        "swap = \"1GiB\"",
        "io_weight = 1001",
        "on_excess = \"ignore\"",
        "cgroup_driver = \"scopes\"",
        "io_max = [{ device = \"/srv\", read = \"1MiB\" }]\ncgroup_driver = \"systemd\"",
        "above = \"refuse\"\non_excess = \"refuse\"",
        "nofile = 255",
        "memory = \"2GiB\"\nmax_memory = \"1GiB\"",
        "nice = 20",
        "nice = -1",
        "oom_score_adj = 1001",
        "oom_score_adj = -500",
        "stack = \"512KiB\"",
        "stack = \"2GiB\"\nstack_hard = \"1GiB\"",
        "memory = \"unlimited\"",
        "memlock = \"unlimitted\"",
        "memlock = 4096",
        "as = \"256MiB\"",
        "cpu_time = \"5s\"",
        "cpu_time = \"forever\"",
        "rtprio = 5",
        "io_max = [{ read = \"1MiB\" }]",
        "io_max = [{ device = \"/dev/sda\" }]",
        "io_max = [{ device = \"sda\", read = \"1MiB\" }]",
        "io_max = [{ device = \"/dev/sda\", read = \"1KiB\" }]",
        "io_max = [{ device = \"/dev/sda\", read_ops = 4294967295 }]",
        "io_max = [{ device = \"/dev/sda\", read = \"1MiB\", speed = 5 }]",
        "io_max = [{ device = \"/a\", write_ops = 50 }, { device = \"/a\", read_ops = 50 }]",
        "io_max = { device = \"/dev/sda\", read = \"1MiB\" }",
    ] {
        let found = findings(&format!("[limits.small]\n{bad}\n"));
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert!(found[0].contains("c.toml:9:") || found[0].contains("c.toml:10:"), "{bad}: {found:?}");
    }
}

#[test]
fn limits_that_nobody_wrote_cannot_be_named() {
    let found = findings("[limits.small]\n[job]\nlimits = \"smal\"\n");
    assert!(found[0].contains("unknown limits") && found[0].contains("write `small`"), "{found:?}");
}

#[test]
fn a_profile_has_the_limits_of_the_job_others_or_none() {
    let text = format!(
        "{BASE}[limits.small]\nmemory = \"1GiB\"\nswap = \"0KiB\"\ncpus = \"1.5\"\npids = 100\nmax_cpus = \"4\"\nnofile = 512\n\
         nice = 5\noom_score_adj = 300\nstack = \"16MiB\"\nstack_hard = \"unlimited\"\nmemlock = \"unlimited\"\nas = \"8GiB\"\n\
         cpu_time = \"2h\"\nio_max = [{{ device = \"/dev/sda\", read = \"100MiB\", write_ops = 500 }}, {{ device = \"/scratch\", write = \"64KiB\" }}]\n\
         above = \"clamp\"\nrequire = false\nway = \"v1\"\n[limits.big]\n[job]\nlimits = \"small\"\n[profile.same]\n\
         [profile.other]\nlimits = \"big\"\n[profile.free]\nlimits = \"\"\n"
    );
    let policy = Policy::parse(Path::new("c.toml"), &text).expect("a policy");
    let name =
        |profile: &str| policy.profiles[profile].job.limits.as_ref().map(|limits| limits.name.as_str());
    assert_eq!((name("same"), name("other"), name("free")), (Some("small"), Some("big"), None));
    let small = &policy.limits["small"];
    assert_eq!((small.standing.nice, small.standing.oom_score_adj), (Some(5), Some(300)));
    assert_eq!((small.rlimits.stack, small.rlimits.stack_hard), (Some(16 << 20), Some(UNLIMITED)));
    assert_eq!((small.rlimits.address_space, small.rlimits.cpu_time), (Some(8 << 30), Some(7200)));
    let disks: Vec<_> = small.disks.iter().map(|disk| (disk.read, disk.write, disk.write_ops)).collect();
    assert_eq!(disks, [(Some(100 << 20), None, Some(500)), (None, Some(64 << 10), None)]);
    let shown = to_toml(&policy, &|_| None);
    let again =
        Policy::read(&[SourceFile { path: "c.toml".into(), text: shown.clone() }]).expect("readable").policy;
    assert_eq!((again.limits.len(), &again.limits, &again.job), (2, &policy.limits, &policy.job), "{shown}");
}

#[test]
fn a_rules_limits_go_before_its_profiles_and_those_before_the_jobs() {
    let rule = |name: &str, more: &str| {
        format!("[[rule]]\nname = \"{name}\"\nwhen.user = \"{name}\"\nrun_as = \"$user_login\"\n{more}")
    };
    let text = format!(
        "{BASE}[limits.small]\n[limits.big]\n[limits.huge]\n[job]\nlimits = \"small\"\n[profile.big]\nlimits = \"big\"\n{}{}{}{}{}",
        rule("plain", ""),
        rule("by_profile", "profile = \"big\"\n"),
        rule("own", "limits = \"huge\"\nprofile = \"big\"\n"),
        rule("own_alone", "limits = \"big\"\n"),
        rule("free", "profile = \"big\"\nlimits = \"\"\n"),
    );
    let read = |text: &str| Policy::parse(Path::new("c.toml"), text).expect("a policy");
    let names = |policy: &Policy| {
        let named = |name: &&str| {
            let rule = policy.rules.iter().find(|rule| rule.name == **name).expect("a rule");
            policy.limits_of(rule).map(|limits| limits.name.clone())
        };
        ["plain", "by_profile", "own", "own_alone", "free"].iter().map(named).collect::<Vec<_>>()
    };
    let policy = read(&text);
    let expected = [Some("small"), Some("big"), Some("huge"), Some("big"), None];
    assert_eq!(names(&policy), expected.map(|name| name.map(str::to_owned)));
    let own = policy.rules.iter().find(|rule| rule.name == "own").and_then(|rule| rule.limits.as_ref());
    assert_eq!(own.map(|own| own.place.to_string()), Some("c.toml:29:10".to_owned()));
    assert_eq!(names(&read(&to_toml(&policy, &|_| None))), names(&policy), "as it is written again");
}

#[test]
fn a_rules_limits_that_cannot_be_are_reported_with_their_place() {
    let found = findings("limits = \"smal\"\n[limits.small]\n");
    assert!(found[0].contains("c.toml:9:") && found[0].contains("write `small`"), "{found:?}");
    let found = findings("[[rule]]\nname = \"no\"\ndeny = \"no\"\nlimits = \"small\"\n[limits.small]\n");
    assert!(found[0].contains("c.toml:12:") && found[0].contains("denied has no limits"), "{found:?}");
}

/// The written limits of one table, and the former names that reading it found.
fn written(lines: &str) -> (String, Vec<(&'static str, &'static str)>) {
    let text = format!("{BASE}[limits.x]\n{lines}\n");
    let reading = Policy::read(&[SourceFile { path: "c.toml".into(), text }])
        .unwrap_or_else(|found| panic!("{lines}: {}", found[0]));
    let former = reading.former.iter().map(|one| (one.former, one.name)).collect();
    (nunbird_render::limits_to_toml(&reading.policy.limits["x"]), former)
}

#[test]
fn an_amount_and_a_number_of_processors_mean_the_same_in_every_spelling() {
    for lines in ["memory = \"4GiB\"", "memory = \"4G\"", "memory = \"4 GiB\"", "memory = \"4096M\""] {
        assert!(written(lines).0.contains("memory = \"4GiB\"\n"), "{lines}");
    }
    for (lines, shown) in [
        ("cpus = 2", "cpus = 2\n"),
        ("cpus = \"2\"", "cpus = 2\n"),
        ("cpus = 2.0", "cpus = 2\n"),
        ("cpus = 2.5", "cpus = 2.5\n"),
        ("cpu_time = \"1h30m\"", "cpu_time = \"90m\"\n"),
    ] {
        assert!(written(lines).0.contains(shown), "{lines}: {}", written(lines).0);
    }
    let directories = |free: &str| {
        let text = format!("{BASE}[directories]\nmin_free = \"{free}\"\n");
        Policy::parse(Path::new("c.toml"), &text).expect(free).directories.upkeep.min_free
    };
    for free in ["20G", "20GiB", "20 GiB"] {
        assert_eq!(directories(free), Some(20 << 30), "{free}");
    }
}

#[test]
fn keys_and_words_of_earlier_versions_are_read_and_named_with_those_of_today() {
    for (old, new) in [("delegated", "cgroupfs-v2"), ("v1", "cgroupfs-v1"), ("scope", "systemd")] {
        let (text, former) = written(&format!("way = \"{old}\""));
        assert!(text.contains(&format!("cgroup_driver = \"{new}\"\n")), "{text}");
        assert_eq!(former, [("way", "cgroup_driver"), (old, new)]);
    }
    let (text, former) = written("above = \"clamp\"");
    assert!(text.contains("on_excess = \"clamp\"\n"), "{text}");
    assert_eq!(former, [("above", "on_excess")]);
    assert_eq!(written("on_excess = \"clamp\"\ncgroup_driver = \"cgroupfs-v1\"").1, []);
}
