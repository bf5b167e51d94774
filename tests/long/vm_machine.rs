//! A job's machine (`engine = "nspawn"`) on cgroup version 2, below the runner's delegated service, within the job's limits. Without containers in
//! it: emulated, they take longer than a test may.
//!
//! Like `vm_limits.rs`, with jobs of its own, and `vm_machine.sh`.

use super::limits::write_jobs;
use nunbird_tests::host::debian_tree;
use nunbird_tests::host::vm::Vm;
use nunbird_tests::needs;
use std::os::unix::fs::symlink;
use std::process::Command;

const TABLES: &str = "\
[limits.small]
memory = \"256MiB\"
cpus = \"1.5\"
pids = 150

[container.machine]
engine = \"nspawn\"
default_image = \"debian\"
ready_timeout = \"10m\"

[job]
container = \"machine\"
limits = \"small\"
";

/// Calls, the stage that each is, and its script.
const SCRIPTS: [(&str, &str, &str); 3] = [
    ("look", "build_script", "id -un; systemctl is-system-running; cat /proc/self/cgroup; stat -fc 'groups %T' /sys/fs/cgroup; cat /proc/self/uid_map | tr -s ' '\n"),
    (
        "forks",
        "build_script",
        "perl -e 'for (1..300) { $p = fork; if (!defined $p) { print qq(refused: $!\\n); last } if (!$p) { sleep 60; exit } push @p, $p }
         kill 9, @p; print scalar(@p), qq( started\\n)'\n",
    ),
    (
        "hungry",
        "build_script",
        "perl -e '$x = q(x) x (320 << 20)' || echo ended $?\n",
    ),
];

/// What the script must observe.
const FACTS: [&str; 8] = [
    "one prepare exit 0",
    "one look exit 0",
    "read back 268435456 150 150000 100000",
    "one forks exit 0",
    "inside agent yes",
    "one hungry exit 0",
    "one cleanup exit 0",
    "ended processes 0 groups 0 notes 0 mounts 0",
];

#[needs(root)]
fn with_cgroup_2_a_job_runs_in_a_machine_within_its_limits() {
    let scripts = SCRIPTS.map(|(call, stage, text)| (call, stage, text.to_owned()));
    let vm = Vm::new(|world| {
        write_jobs(world, TABLES, &[("one", "alice")], &scripts);
        world.write_file("/etc/nunbird/machine-ids", "ids 1879048192 65536 1\n", "root", 0o644);
        let version = world.host_path("/var/lib/nunbird/machines/debian/1");
        std::fs::create_dir_all(&version).expect("directories");
        // Links: the disk is made of them, and has room for one copy.
        let copied = Command::new("cp").arg("-al").arg(debian_tree()).arg(version.join("tree")).status();
        assert!(copied.expect("cp(1)").success());
        std::fs::write(version.join("lock"), "").expect("a lock");
        symlink("1", version.with_file_name("current")).expect("a link");
    });
    let output = vm.boot(include_str!("vm_machine.sh")).success();
    println!("{output}");
    for line in [
        "one look: alice",
        "one look: 0::/system.slice/nunbird-job.service",
        "one look: groups cgroup2fs",
        "one look:  0 1879048192 65536",
        "one forks: refused: Resource temporarily unavailable",
        "one hungry: ended 137",
    ] {
        assert!(output.lines().any(|known| known == line), "{line}: {output}");
    }
    assert!(output.contains("one hungry: nunbird: out of memory: the kernel killed"), "{output}");
    for fact in FACTS {
        assert!(output.lines().any(|line| line == format!("fact {fact}")), "{fact}: {output}");
    }
}
