//! `nunbird-compliance`, as an ordinary user of a Slurm or a Grid Engine who has only the program
//! and the launcher.

use nunbird_tests::needs;
use nunbird_tests::scheduler::{Cluster, GridEngine, Slurm};
use nunbird_tests::world::{copy_executable, write_executable};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const USER: &str = "nbt_cyn";

/// The program and the launcher beside each other, as a package installs them, and a scheduler.
struct Login<C> {
    cluster: C,
    programs: PathBuf,
    /// Prints the user's jobs.
    queue: &'static str,
}

impl Login<Slurm> {
    fn new(test: &str) -> Self {
        // A private one: the tests inspect all that the account has.
        Self::before(Slurm::start(), test, "squeue -h -u $(id -u) -o '%A %j'")
    }
}

impl<C: Cluster> Login<C> {
    fn before(cluster: C, test: &str, queue: &'static str) -> Self {
        let programs = cluster.bed().path(test);
        fs::create_dir(&programs).expect("a directory");
        fs::set_permissions(&programs, fs::Permissions::from_mode(0o755)).expect("a mode");
        let built = PathBuf::from(env!("CARGO_BIN_EXE_nunbird-compliance"));
        copy_executable(&built, &programs.join("nunbird-compliance"));
        copy_executable(cluster.bed().launcher().as_ref(), &programs.join("nunbird"));
        Login { cluster, programs, queue }
    }

    /// What a script of the user prints. `$program` is nunbird-compliance.
    fn script(&self, text: &str) -> String {
        let file = self.programs.join("script");
        let program = self.programs.join("nunbird-compliance");
        let bed = self.cluster.bed();
        let leads = self.cluster.environment();
        let leads: String = leads.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        let head = format!(
            "{leads}export HOME={}\nprogram={}\ncd\n",
            bed.path("home").join(USER).display(),
            program.display()
        );
        fs::write(&file, head + text + "\nexit 0\n").expect("a script");
        bed.admin(&bed.as_user(USER, &format!("sh {} 2>&1", file.display())))
    }

    /// The user's jobs, what is left in the home directory, and running launchers.
    fn left(&self) -> String {
        let launcher = self.programs.join("nunbird");
        self.script(&format!(
            "{}; ls $HOME | grep nbt_compliance; pgrep -a -u $(id -u) -fx {}",
            self.queue,
            launcher.display()
        ))
    }

    /// A command that shadows the scheduler's own in the user's `PATH`.
    fn command(&self, name: &str, text: &str) -> String {
        let file = self.programs.join(name);
        write_executable(&file, format!("#!/bin/sh\n{text}").as_bytes());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a mode");
        format!("PATH={}:$PATH", self.programs.display())
    }
}

#[needs(root)]
fn nunbird_compliance_passes_before_a_slurm_and_leaves_nothing() {
    let login = Login::new("passes");
    let said = login.script(
        "$program slurm --at-once 4 --patience 120 --case exit --case queue --case held --case cancelled; echo status $?",
    );
    assert!(said.contains("status 0"), "{said}");
    assert!(said.contains(&format!("4 at once, as {USER}.")), "{said}");
    assert!(said.contains("passed"), "{said}");
    assert_eq!(login.left(), "");
}

#[needs(root)]
fn nunbird_compliance_passes_before_a_grid_engine_and_leaves_nothing() {
    let login = Login::before(GridEngine::start(), "grid_passes", "qstat -u $(id -un)");
    let said = login.script(
        "$program gridengine --at-once 4 --patience 120 --case exit --case queue --case held --case cancelled; echo status $?",
    );
    assert!(said.contains("status 0"), "{said}");
    assert!(said.contains(&format!("4 at once, as {USER}.")), "{said}");
    assert!(said.contains("passed"), "{said}");
    assert_eq!(login.left(), "");
}

#[needs(root)]
fn nunbird_compliance_that_is_interrupted_cancels_its_jobs() {
    let login = Login::new("interrupted");
    for signal in ["INT", "TERM"] {
        let said = login.script(&format!(
            "$program slurm --arguments=--hold --at-once 3 --patience 600 & pid=$!\n\
             while kill -0 $pid && [ $(squeue -h -u $(id -u) -o %A | wc -l) -lt 3 ]; do sleep 0.2; done\n\
             echo queued $(squeue -h -u $(id -u) -o %A | wc -l)\n\
             kill -{signal} $pid; wait $pid; echo status $?",
        ));
        assert!(said.contains("queued 3"), "{signal}: {said}");
        assert!(said.contains("interrupted; ending the jobs"), "{signal}: {said}");
        assert!(said.contains("status 1") && !said.contains("left behind"), "{signal}: {said}");
        assert_eq!(login.left(), "", "{signal}");
    }
}

#[needs(root)]
fn a_case_of_nunbird_compliance_that_fails_leaves_nothing() {
    let login = Login::new("fails");
    let said = login.script(
        "$program slurm --arguments=--hold --patience 3 --case 'while the script runs' --case 'waiting job that is cancelled'; echo status $?",
    );
    assert!(said.contains("waited in vain for the first line"), "{said}");
    assert!(said.contains("1 passed; 1 failed") && said.contains("status 1"), "{said}");
    assert!(!said.contains("left behind"), "{said}");
    assert_eq!(login.left(), "");
}

#[needs(root)]
fn a_question_of_nunbird_compliance_that_fails_fails_its_case() {
    let login = Login::new("question");
    let path = login.command(
        "squeue",
        "case \"$*\" in *' -j '*) echo the controller is away >&2; exit 1 ;; esac\nexec /usr/bin/squeue \"$@\"\n",
    );
    let said = login
        .script(&format!("{path} $program slurm --case 'running job that is cancelled'; echo status $?"));
    assert!(said.contains("failed (Code(1)): the controller is away"), "{said}");
    assert!(said.contains("0 passed; 1 failed") && said.contains("status 1"), "{said}");
    assert_eq!(login.left(), "");
}

#[needs(root)]
fn nunbird_compliance_ends_only_jobs_of_its_own() {
    let login = Login::new("others");
    // A launcher that removes nothing: the suite itself finds what it left.
    let launcher = login.programs.join("careless");
    let text = format!(
        "#!/bin/sh\ncase $(head -c 4096 <&3 | tr -d ' ') in *'\"task\":\"cleanup\"'*) exit 0 ;; esac\n\
         exec {} 3</proc/self/fd/3\n",
        login.programs.join("nunbird").display()
    );
    write_executable(&launcher, text.as_bytes());
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755)).expect("a mode");
    let said = login.script(&format!(
        "$program slurm --launcher {} --arguments=--hold --patience 3 --case 'while the script runs' & pid=$!\n\
         sbatch --hold --parsable -J nb${{pid}}0001-0123456789 -o /dev/null --wrap true; wait $pid; echo status $?",
        launcher.display()
    ));
    assert!(said.contains("was in the queue: cancelled") && said.contains("status 1"), "{said}");
    let left = login.left();
    assert!(left.lines().count() == 1 && left.contains("0001-0123456789"), "{left}");
}

#[needs(root)]
fn nunbird_compliance_takes_a_site_s_own_description() {
    let login = Login::new("described");
    let description = concat!(env!("CARGO_MANIFEST_DIR"), "/../batch/src/schedulers/slurm.toml");
    let text = fs::read_to_string(description).expect("the built-in description");
    let file = login.programs.join("our-slurm.toml");
    fs::write(&file, text).expect("a description");
    let said = login.script(&format!(
        "$program slurm --description {} --patience 120 --case exit; echo status $?",
        file.display()
    ));
    assert!(said.contains("status 0") && said.contains("our-slurm.toml"), "{said}");
    assert_eq!(login.left(), "");
    // Without the name of a scheduler whose commands the suite knows.
    let said = login.script(&format!(
        "$program --description {} --patience 120 --case 'exit codes 1' --case 'running job that is cancelled'; echo status $?",
        file.display()
    ));
    assert!(said.contains("2 passed") && said.contains("status 0"), "{said}");
    assert!(said.contains("is what the launcher reports"), "{said}");
    assert_eq!(login.left(), "");
}

#[needs(root)]
fn nobody_else_enters_the_directory_of_nunbird_compliance() {
    let login = Login::new("open");
    let home = login.cluster.path("home").join(USER);
    let launcher = login.programs.join("looking");
    let text = format!(
        "#!/bin/sh\nfind {0}/nbt_compliance_* -maxdepth 0 -printf '%m\\n' >>{0}/modes\nexit 1\n",
        home.display()
    );
    write_executable(&launcher, text.as_bytes());
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755)).expect("a mode");
    let said =
        login.script(&format!("umask 000; $program slurm --launcher {} --case exit", launcher.display()));
    let modes = fs::read_to_string(home.join("modes")).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert!(!modes.is_empty() && modes.lines().all(|mode| mode == "700"), "{modes}{said}");
}

#[needs(root)]
fn nunbird_compliance_submits_nothing_where_the_scheduler_does_not_answer() {
    let login = Login::new("silent");
    let path = login.command("squeue", "echo the controller is away >&2\nexit 1\n");
    let said = login.script(&format!("{path} $program slurm; echo status $?"));
    assert!(said.contains("the scheduler does not answer: `squeue"), "{said}");
    assert!(said.contains("the controller is away") && said.contains("status 2"), "{said}");
    assert_eq!(login.left(), "");
}

#[needs(root)]
fn nunbird_compliance_says_what_is_wrong_with_its_arguments() {
    let login = Login::new("arguments");
    login.script("mkdir 'a b'");
    for (arguments, message) in [
        ("sbatch", "`sbatch` is a command of slurm; write `slurm`"),
        ("loadleveler", "there is no built-in scheduler `loadleveler`"),
        ("slurm --launcher /nonexistent", "/nonexistent: no such launcher; name it with --launcher"),
        ("slurm --case exit --case nonesuch", "no case has this in its name"),
        ("slurm --environment NBT_NONE", "your environment has no such variable"),
        ("slurm --directory 'a b'", "for its spaces or characters of the shell"),
        ("slurm --directory /nonexistent", "name a directory of yours that the nodes share with --directory"),
    ] {
        let said = login.script(&format!("$program {arguments}; echo status $?"));
        assert!(said.contains(message) && said.contains("status 2"), "{arguments}: {said}");
    }
    let said = login.script("$program slurm --arguments '-p ci' --dry-run; echo status $?");
    assert!(said.contains("`-p ci`") && said.contains("status 0"), "{said}");
    assert_eq!(login.left(), "");
    let root = login
        .cluster
        .bed()
        .admin(&format!("{} slurm 2>&1 || true", login.programs.join("nunbird-compliance").display()));
    assert!(root.contains("run this as an ordinary user"), "{root}");
}
