//! A CI job that fails in an allocation, and whose files are kept: entered from here, and in another allocation.

use nix::sys::signal::Signal;
use nunbird_handover::Workspace;
use nunbird_tests::needs;
use nunbird_tests::scheduler::{Job, Slurm};
use std::fs;
use std::path::PathBuf;

/// Calls a command that is printed for a prompt in an allocation, in a terminal, as its user does, and types into the prompt. Gives what the
/// prompt's commands have said: the status, a file of the job's, the project, the allocation, and that of a step in it.
pub(crate) fn entered_in_an_allocation(slurm: &Slurm, user: &str, command: &str) -> String {
    assert!(command.starts_with("salloc ") && !command.contains('\''), "{command}");
    let home = slurm.path("home").join(user);
    let script = format!(
        "export SLURM_CONF={conf} PATH={programs}:$PATH HOME={home} TERM=xterm\ncd {home}\nrm -f keys said typescript\nmkfifo keys\n\
         script -qefc '{command}' typescript <keys >/dev/null 2>&1 & pid=$!\nexec 7>keys\n\
         n=0; until grep -qsF '[job] $' typescript; do sleep 0.2; n=$((n+1)); [ $n -lt 300 ] || {{ cat typescript; kill $pid; exit 0; }}; done\n\
         echo 'echo $CI_JOB_STATUS $(cat made) of $CI_PROJECT_NAME in $SLURM_JOB_ID step of $(srun --overlap printenv SLURM_JOB_ID) >$HOME/said; exit' >&7\n\
         exec 7>&-\nwait $pid; cat said typescript; rm -f keys said typescript\n",
        conf = slurm.path("etc/slurm.conf").display(),
        programs = slurm.launcher().parent().expect("a directory").display(),
        home = home.display(),
    );
    fs::write(home.join("allocation.sh"), script).expect("a file");
    let said = slurm.as_user(user, &format!("bash {}/allocation.sh 2>&1", home.display()));
    let words: Vec<&str> = said.lines().next().unwrap_or_default().split(' ').collect();
    let place = |word: &str| words.iter().position(|known| *known == word).and_then(|at| words.get(at + 1));
    let (of_prompt, of_step) = (place("in"), words.last());
    let is_number = of_prompt.is_some_and(|id| id.parse::<u32>().is_ok());
    assert!(is_number && of_prompt == of_step, "the prompt and its steps are in one allocation: {said}");
    said
}

/// A prepared job of the account that asks for its files to be kept for twenty minutes.
fn kept_job<'s>(slurm: &'s Slurm, user: &str) -> Job<'s> {
    let mut job = slurm.job(user);
    let data_dir = job.handover.workspace.data_dir.clone();
    let host = nunbird_unprivileged::process::short_host_name();
    let builds_dir = data_dir.join("builds").join(host).join(format!("site-{}", job.handover.job_id));
    job.handover.workspace = Workspace {
        project_dir: builds_dir.join("group/project"),
        builds_dir,
        ..job.handover.workspace.clone()
    };
    job.handover.site.keep = Some(1200);
    job.prepare();
    job
}

/// A script that leaves a file in the project's directory.
fn leaving(job: &Job<'_>, rest: &str) -> String {
    let project = job.handover.workspace.project_dir.display();
    format!("mkdir -p {project} && cd {project} && echo made >made; {rest}")
}

fn notes(job: &Job<'_>) -> Vec<PathBuf> {
    let workspace = &job.handover.workspace;
    let name = workspace.builds_dir.file_name().expect("a name").to_string_lossy();
    let of_job = [format!(".{name}.kept"), name.into_owned()];
    of_job.iter().map(|name| workspace.builds_dir.with_file_name(name)).filter(|path| path.exists()).collect()
}

#[needs(root)]
fn a_job_that_fails_in_an_allocation_is_entered_on_this_host_and_in_another_allocation() {
    let slurm = Slurm::shared();
    let job = kept_job(&slurm, "nbt_bea").arguments("--ntasks=1 --time=5");
    let ended = job.run(&leaving(&job, "exit 3"));
    ended.failed(3, "the files of this job stay for 20 min, until ");
    let command = ended.err.lines().find_map(|line| line.split_once(", as nbt_bea: ")).expect("a command").1;
    assert_eq!(job.cleanup().status, Some(0));
    assert_eq!(notes(&job).len(), 2);
    let home = job.home().display();
    let script = format!("HOME={home} {command} 2>&1 <{home}/keys");
    fs::write(job.home().join("keys"), "echo \"[$CI_JOB_STATUS] [$(cat made)] [${SLURM_JOB_ID:-none}]\"\n")
        .expect("a file");
    let said = slurm.as_user("nbt_bea", &script);
    assert!(
        said.contains("[failed] [made] [none]\n") && said.contains("this prompt is on this host\n"),
        "{said}"
    );
    let other = said
        .lines()
        .find_map(|line| line.split_once("SCHEDULER_PARAMETERS as OPTIONS: "))
        .expect("a command")
        .1;
    assert!(said.contains("the job's allocation has ended; after `exit`, for another one, "), "{said}");
    let said =
        entered_in_an_allocation(&slurm, "nbt_bea", &other.replace(" OPTIONS ", " --ntasks=1 --time=5 "));
    assert!(said.starts_with("failed made of project in "), "{said}");
    slurm.as_user("nbt_bea", &format!("HOME={home} {} 2>&1", command.replace(" enter ", " enter --remove ")));
    assert!(notes(&job).is_empty(), "{:?}", notes(&job));
}

#[needs(root)]
fn a_cancelled_job_of_an_allocation_is_kept_only_if_its_time_was_over() {
    let slurm = Slurm::shared();
    for timed_out in [false, true] {
        let mut job = kept_job(&slurm, "nbt_bea");
        let stage = job.start(&leaving(&job, "echo up >&2; sleep 3225"));
        stage.wait_for_word("up");
        stage.signal(Signal::SIGTERM);
        let ended = stage.finish();
        assert!(
            ended.err.contains("if the job's time was over, its files stay for 20 min; on "),
            "{}",
            ended.err
        );
        assert!(!ended.err.contains("the files of this job stay"), "{}", ended.err);
        job.handover.timed_out = timed_out;
        assert_eq!(job.cleanup().status, Some(0));
        assert_eq!(notes(&job).len(), if timed_out { 2 } else { 0 }, "{timed_out}");
        drop(fs::remove_dir_all(&job.handover.workspace.builds_dir));
    }
}
