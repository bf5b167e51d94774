//! Jobs in a virtual machine with cgroup version 2: `make test-host`.

#[path = "vm_limits.rs"]
mod limits;
#[path = "vm_login.rs"]
mod login;
#[path = "vm_machine.rs"]
mod machine;
#[path = "vm_scope.rs"]
mod scope;

use nunbird_tests::host::vm::Vm;
use nunbird_tests::needs;
use std::fs;

#[needs(root)]
fn with_cgroup_2_a_job_runs_below_a_delegated_service_and_reports_a_real_reboot() {
    let vm = Vm::new(|world| {
        world.write_keys();
        let job = world.job();
        let session = job.begin();
        let script = session.directory().join("script");
        session.write(
            &script,
            b"id -un; cat /proc/self/cgroup; cat /proc/sys/kernel/random/boot_id\n",
            0o700,
        );
        let calls = [
            ("config", session.spec_of_config()),
            ("prepare", session.spec_of_prepare()),
            ("run", session.spec_of_run(&script, "build_script")),
            ("cleanup", session.spec_of_cleanup()),
        ];
        let place = world.host_path("/calls");
        fs::create_dir(&place).expect("a directory");
        for (name, call) in calls {
            fs::write(place.join(name), serde_json::to_vec(&call).expect("JSON")).expect("a call");
        }
        let copy = world.host_path("/job");
        // The session removes its directory.
        let copied = std::process::Command::new("cp").arg("-a").arg(session.directory()).arg(&copy).status();
        assert!(copied.expect("cp").success());
        fs::write(place.join("directory"), session.directory().display().to_string()).expect("a name");
    });
    let first = vm
        .boot(
            "set -e; [ \"$(stat -fc %T /sys/fs/cgroup)\" = cgroup2fs ]; systemctl is-system-running || systemctl --failed\n\
             cp -a /job \"$(cat /calls/directory)\"\n\
             for call in config prepare; do nbt-enter </calls/$call; done\n\
             service=/sys/fs/cgroup/system.slice/nbt-runner.service\n\
             echo \"controllers: $(cat $service/cgroup.controllers)\"; stat -c 'owner: %U' $service/cgroup.subtree_control\n\
             ls /var/lib/nunbird/jobs; cat /proc/sys/kernel/random/boot_id >/calls/boot\n",
        )
        .success();
    println!("{first}");
    for controller in ["memory", "pids", "cpu"] {
        assert!(first.lines().any(|l| l.starts_with("controllers:") && l.contains(controller)), "{first}");
    }
    assert!(first.contains("owner: nbt_runner") && first.contains(".json"), "{first}");
    let second = vm
        .boot(
            "set -e; ! grep -qf /calls/boot /proc/sys/kernel/random/boot_id; nbt-enter </calls/run && exit 1\n\
             nbt-enter </calls/cleanup; [ -z \"$(ls /var/lib/nunbird/jobs)\" ]; ! pgrep -u alice\n",
        )
        .success();
    println!("{second}");
    assert!(second.contains("[host-restarted]"), "{second}");
}
