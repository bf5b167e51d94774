//! A stage's output on its way to the job log.

use nunbird_tests::needs;
use nunbird_tests::scheduler::Slurm;

#[needs(root)]
fn output_appears_while_the_script_runs() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann");
    let stage =
        job.start("echo first; until [ -e \"$HOME/go\" ]; do sleep 0.1; done; printf 'last without newline'");
    slurm.wait_for("the first line", || stage.out() == b"first\n");
    std::fs::write(job.home().join("go"), "").expect("a file");
    let ended = stage.finish();
    ended.succeeded();
    assert_eq!(ended.text(), "first\nlast without newline");
}

#[needs(root)]
fn a_hundred_megabytes_arrive_whole_and_in_order() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann");
    let ended = job.run("seq 1 13000000; echo done >&2");
    ended.succeeded();
    assert!(ended.err.contains("done\n"), "{}", ended.err);
    let mut expected = Vec::with_capacity(110_000_000);
    for n in 1..=13_000_000 {
        expected.extend_from_slice(n.to_string().as_bytes());
        expected.push(b'\n');
    }
    assert!(ended.out == expected, "{} bytes of {}", ended.out.len(), expected.len());
}

#[needs(root)]
fn every_byte_comes_once_across_a_launcher_that_is_killed() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_cyn");
    let script = "for n in 1 2 3 4 5 6; do seq $n$n$n$n$n 1 $n$n$n$n$n$n; sleep 0.3; done";
    let expected: String =
        (1..=6).flat_map(|n: u32| n * 11111..=n * 111_111).map(|n| format!("{n}\n")).collect();
    let stage = job.start(script);
    slurm.wait_for("some output", || stage.out().len() > 100_000);
    let mut out = stage.kill().out;
    let ended = job.run(script);
    ended.succeeded();
    out.extend_from_slice(&ended.out);
    assert!(out == expected.as_bytes(), "{} bytes of {}", out.len(), expected.len());
}

#[needs(root)]
fn a_stage_directory_that_the_script_removes_is_no_success() {
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_bea");
    let ended = job.run("rm -rf \"$HOME\"/.nunbird/batch/$NUNBIRD_JOB_ID; exit 0");
    ended.system_failed("");
}
