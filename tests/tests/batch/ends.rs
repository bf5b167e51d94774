//! How a stage ends when nobody interferes.

use nunbird_tests::require_root;
use nunbird_tests::scheduler::Slurm;

#[test]
fn a_script_runs_in_the_allocation_as_its_user_with_its_output_and_success() {
    if !require_root() {
        return;
    }
    let slurm = Slurm::shared();
    let job = slurm.job("nbt_ann");
    let ended =
        job.run("id -un; echo $SLURM_JOB_ID; pwd; echo error >&2; echo \"leak:$LEAKED\"; umask; printf end");
    ended.succeeded();
    let id = job.id().expect("an id");
    let builds = job.handover.workspace.builds_dir.display().to_string();
    assert_eq!(ended.text(), format!("nbt_ann\n{id}\n{builds}\nleak:\n0022\nend"));
    assert!(ended.err.contains("error\n"), "{}", ended.err);
    assert!(ended.err.contains(&format!("Slurm job {id}: waited ")), "{}", ended.err);
    eprintln!("{}\n{:#?}", ended.err, job.calls());
    assert!(!job.stage_directory().join("script").exists(), "the script holds secrets");
}
