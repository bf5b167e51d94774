//! Devices of graphics processors by `gpu`: harmless devices have their names.

use crate::cases::{Bed, Setup, out, succeeded};
use crate::{EACH, WITH_PODMAN};
use nunbird_handover::Gpu;
use nunbird_tests::containers::{Release, samples};
use nunbird_tests::needs;

/// Of /dev/zero, and of /dev/full.
const ZERO: &str = "1 5";
const FULL: &str = "1 7";
/// What NVIDIA's own program writes, with these devices.
const SPEC: &str = r#"{"cdiVersion": "0.3.0", "kind": "nvidia.com/gpu", "devices": [{"name": "all", "containerEdits":
  {"deviceNodes": [{"path": "/dev/nvidia0"}, {"path": "/dev/nvidiactl"}], "env": ["NBT_EDITED=yes"]}}],
  "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"]}}"#;

fn with_devices(setup: Setup) -> Bed {
    let bed = Bed::new(setup, &samples::busybox());
    bed.node.devices(&[
        ("/dev/nvidia0", ZERO),
        ("/dev/nvidiactl", FULL),
        ("/dev/nvidia-uvm", FULL),
        ("/dev/kfd", FULL),
        ("/dev/dri/renderD128", ZERO),
    ]);
    bed.node.write("/etc/cdi/nvidia.json", SPEC);
    bed
}

/// Reads what /dev/zero has, and writes what /dev/full refuses.
fn script(zero: &str, full: &str) -> String {
    format!(
        "head -c 3 {zero} | wc -c; (echo >{full}) 2>/dev/null || echo refused; ls /dev | grep -c -e nvidia -e kfd; true"
    )
}

fn each(setup: Setup) {
    let bed = with_devices(setup);
    for (gpu, zero, full) in
        [(Gpu::Nvidia, "/dev/nvidia0", "/dev/nvidiactl"), (Gpu::Amd, "/dev/dri/renderD128", "/dev/kfd")]
    {
        let mut job = bed.job();
        job.container().gpu = Some(gpu);
        succeeded(&job.prepare());
        let ended = job.run(&script(zero, full));
        if setup.engine == "charliecloud" && setup.release == Release::Host && gpu == Gpu::Nvidia {
            assert!(ended.err.contains("unrecognized option '--cdi"), "0.31 has no such: {}", ended.err);
            succeeded(&job.cleanup());
            continue;
        }
        let said = succeeded(&ended);
        assert!(said.starts_with("3\nrefused\n"), "{setup:?} {gpu:?}: {said}\n{}", ended.err);
        succeeded(&job.cleanup());
    }
    // Charliecloud has all devices of the host always.
    if setup.engine != "charliecloud" {
        let job = bed.prepared();
        assert_eq!(
            succeeded(&job.run("ls /dev | grep -c -e nvidia -e kfd -e dri || true")),
            "0\n",
            "{setup:?}"
        );
        succeeded(&job.cleanup());
    }
}

#[needs(root, in_each = EACH)]
fn the_devices_that_gpu_names_are_in_the_container_and_no_others(setup: Setup) {
    each(setup);
}

#[needs(root, in_each = WITH_PODMAN)]
fn podman_has_them_by_a_specification_of_cdi_as_well(setup: Setup) {
    if setup.engine == "podman" {
        each(setup);
        let bed = with_devices(setup);
        let mut job = bed.job();
        job.container().gpu = Some(Gpu::Nvidia);
        succeeded(&job.prepare());
        assert_eq!(
            succeeded(&job.run("echo $NBT_EDITED $NVIDIA_VISIBLE_DEVICES")),
            "\n",
            "edits are the container's"
        );
        succeeded(&job.cleanup());
    }
}

#[needs(root, in_each = WITH_PODMAN)]
fn a_host_without_such_devices_is_told_as_the_sites_fault(setup: Setup) {
    if setup.engine == "podman" {
        let bed = Bed::new(setup, &samples::busybox());
        for (gpu, words) in [(Gpu::Nvidia, "nvidia.com/gpu"), (Gpu::Amd, "/dev/kfd")] {
            let mut job = bed.job();
            job.container().gpu = Some(gpu);
            let ended = job.prepare();
            assert_eq!(ended.status, Some(120), "{}\n{}", out(&ended), ended.err);
            assert!(ended.err.contains(words), "{}", ended.err);
            succeeded(&job.cleanup());
        }
    }
}
