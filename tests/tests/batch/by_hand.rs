//! `nunbird exec --executor`: a job by hand whose script runs in an allocation of a real Slurm.

use crate::kept::entered_in_an_allocation;
use nunbird_tests::needs;
use nunbird_tests::scheduler::Slurm;
use std::fs;
use std::os::unix::fs::chown;

const FILE: &str = "\
variables: {SCHEDULER_PARAMETERS: '--ntasks=1 --time=5'}
solve:
  script:
    - echo \"in ${SLURM_JOB_ID:-none} of $CI_PROJECT_NAME\"
    - cat new; echo made >made
    - exit 9
  after_script:
    - echo \"after in ${SLURM_JOB_ID:-none} $CI_JOB_STATUS\"
  artifacts: {paths: [made], when: on_failure}
wrong: {variables: {SCHEDULER_PARAMETERS: --no-such-option}, script: [echo never]}
";

#[needs(root)]
fn a_job_by_hand_runs_its_script_in_slurm_and_keeps_its_exit_code() {
    let slurm = Slurm::shared();
    let home = slurm.path("home/nbt_ann");
    let work = home.join("by-hand");
    fs::create_dir(&work).expect("a directory");
    for (name, text) in [(".gitlab-ci.yml", FILE), ("new", "not committed\n")] {
        fs::write(work.join(name), text).expect("a file");
        chown(work.join(name), Some(Slurm::uid("nbt_ann")), None).expect("an owner");
    }
    chown(&work, Some(Slurm::uid("nbt_ann")), Some(Slurm::uid("nbt_ann"))).expect("an owner");
    let script = format!(
        "exec 2>&1\nexport SLURM_CONF={conf} PATH={bin}:$PATH HOME={home}\ncd {work}\n\
         git init -q . && git add .gitlab-ci.yml && git -c user.name=a -c user.email=a@b.example commit -qm a\n\
         for words in \"solve --artifacts kept --keep\" wrong; do\n\
         {launcher} exec $words --executor slurm 2>&1 || echo \"ended with $?\"\ndone\n\
         echo 'echo \"prompt in ${{SLURM_JOB_ID:-none}} $CI_JOB_STATUS $(cat made)\"' | {launcher} exec enter solve 2>&1\n\
         cat kept/made || :\n",
        conf = slurm.path("etc/slurm.conf").display(),
        bin = slurm.path("bin").display(),
        home = home.display(),
        work = work.display(),
        launcher = slurm.launcher().display(),
    );
    fs::write(home.join("by-hand.sh"), script).expect("a file");
    let out = slurm.as_user("nbt_ann", &format!("sh {}/by-hand.sh", home.display()));
    for line in [
        "nunbird: Slurm job ",
        "of by-hand\n",
        "not committed\n",
        "after in none failed\n",
        "job `solve` failed with exit code 9\n",
        "ended with 9\n",
        "--no-such-option",
        "ended with 1",
        // There is no prompt in an allocation that has ended: how to get another one.
        "the job's allocation has ended; after `exit`, for one of the same size: salloc --ntasks=1 --time=5 srun --pty --overlap --nodes=1 --ntasks=1 nunbird exec enter /",
        "prompt in none failed made\n",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert!(!out.contains("in none of") && !out.contains("\nnever\n") && out.ends_with("made\n"), "{out}");
    let line =
        out.lines().find_map(|line| line.split_once("for one of the same size: ")).expect("a command").1;
    let said = entered_in_an_allocation(&slurm, "nbt_ann", line);
    assert!(said.contains("failed made of by-hand"), "{said}");
    let remove = format!("HOME={} {} exec enter --remove solve", home.display(), slurm.launcher().display());
    slurm.as_user("nbt_ann", &remove);
    let left = fs::read_dir(home.join(".nunbird/exec")).into_iter().flatten().flatten();
    let kept = |host: fs::DirEntry| fs::read_dir(host.path()).into_iter().flatten().flatten();
    assert!(left.flat_map(kept).all(|entry| entry.path().is_file()), "the kept directory was removed");
    let left = fs::read_dir(home.join(".nunbird/batch")).into_iter().flatten().flatten();
    let left: Vec<String> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // The cluster is shared: other tests' jobs of this account have numbers, those by hand the ids of their decisions.
    assert!(left.iter().all(|name| name.len() != 32), "{left:?}");
    fs::remove_dir_all(work).expect("removed");
}
