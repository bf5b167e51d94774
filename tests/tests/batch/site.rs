//! `nunbird-compliance`, as an ordinary user of a Slurm who has nothing but the program and the launcher.

use nunbird_tests::require_root;
use nunbird_tests::scheduler::Slurm;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const USER: &str = "nbt_cyn";

/// The program and the launcher beside each other, as a package installs them, and a Slurm.
struct Login {
    slurm: Slurm,
    programs: PathBuf,
}

impl Login {
    fn new(test: &str) -> Login {
        // Its own: the tests look at all that the account has.
        let slurm = Slurm::start();
        let programs = slurm.path(test);
        fs::create_dir(&programs).expect("a directory");
        fs::set_permissions(&programs, fs::Permissions::from_mode(0o755)).expect("a mode");
        let built = PathBuf::from(env!("CARGO_BIN_EXE_nunbird-compliance"));
        fs::copy(built, programs.join("nunbird-compliance")).expect("the program");
        fs::copy(slurm.launcher(), programs.join("nunbird")).expect("the launcher");
        Login { slurm, programs }
    }

    /// What a script of the user prints. `$program` is nunbird-compliance.
    fn script(&self, text: &str) -> String {
        let file = self.programs.join("script");
        let conf = self.slurm.path("etc/slurm.conf");
        let program = self.programs.join("nunbird-compliance");
        let home = self.slurm.path("home").join(USER);
        let head = format!(
            "export SLURM_CONF={} HOME={}\nprogram={}\ncd\n",
            conf.display(),
            home.display(),
            program.display()
        );
        fs::write(&file, head + text + "\nexit 0\n").expect("a script");
        self.slurm.as_user(USER, &format!("sh {} 2>&1", file.display()))
    }

    /// The user's jobs, and what is left in the home directory.
    fn left(&self) -> String {
        self.script("squeue -h -u $(id -u) -o '%A %j'; ls $HOME | grep nbt_compliance")
    }
}

#[test]
fn nunbird_compliance_passes_before_a_slurm_and_leaves_nothing() {
    if !require_root() {
        return;
    }
    let login = Login::new("passes");
    let said = login.script(
        "$program slurm --at-once 4 --patience 120 --case exit --case queue --case held --case cancelled; echo status $?",
    );
    assert!(said.contains("status 0"), "{said}");
    assert!(said.contains(&format!("4 at once, as {USER}.")), "{said}");
    assert!(said.contains("passed"), "{said}");
    assert_eq!(login.left(), "");
}

#[test]
fn nunbird_compliance_that_is_interrupted_cancels_its_jobs() {
    if !require_root() {
        return;
    }
    let login = Login::new("interrupted");
    let said = login.script(
        "$program slurm --arguments=--hold --at-once 3 --patience 600 & pid=$!\n\
         while kill -0 $pid && [ $(squeue -h -u $(id -u) -o %A | wc -l) -lt 3 ]; do sleep 0.2; done\n\
         echo queued $(squeue -h -u $(id -u) -o %A | wc -l)\n\
         kill -TERM $pid; wait $pid; echo status $?",
    );
    assert!(said.contains("queued 3"), "{said}");
    assert!(said.contains("interrupted; ending the jobs"), "{said}");
    assert!(said.contains("status 1"), "{said}");
    assert_eq!(login.left(), "");
}

#[test]
fn nunbird_compliance_takes_a_site_s_own_description() {
    if !require_root() {
        return;
    }
    let login = Login::new("described");
    let description = concat!(env!("CARGO_MANIFEST_DIR"), "/../launcher/src/batch/schedulers/slurm.toml");
    let text = fs::read_to_string(description).expect("the built-in description");
    let file = login.programs.join("our-slurm.toml");
    fs::write(&file, text).expect("a description");
    let said = login.script(&format!(
        "$program slurm --description {} --patience 120 --case exit; echo status $?",
        file.display()
    ));
    assert!(said.contains("status 0") && said.contains("our-slurm.toml"), "{said}");
    assert_eq!(login.left(), "");
}

#[test]
fn nunbird_compliance_submits_nothing_where_the_scheduler_does_not_answer() {
    if !require_root() {
        return;
    }
    let login = Login::new("silent");
    let squeue = login.programs.join("squeue");
    fs::write(&squeue, "#!/bin/sh\necho the controller is away >&2\nexit 1\n").expect("a script");
    fs::set_permissions(&squeue, fs::Permissions::from_mode(0o755)).expect("a mode");
    let said =
        login.script(&format!("PATH={}:$PATH $program slurm; echo status $?", login.programs.display()));
    assert!(said.contains("the scheduler does not answer: `squeue"), "{said}");
    assert!(said.contains("the controller is away") && said.contains("status 2"), "{said}");
    assert_eq!(login.left(), "");
}

#[test]
fn nunbird_compliance_says_what_is_wrong_with_its_arguments() {
    if !require_root() {
        return;
    }
    let login = Login::new("arguments");
    for (arguments, message) in [
        ("sbatch", "`sbatch` is a command of slurm; write `slurm`"),
        ("loadleveler", "there is no built-in scheduler `loadleveler`"),
        ("slurm --launcher /nonexistent", "/nonexistent: no such launcher; name it with --launcher"),
        ("slurm --directory /nonexistent", "name a directory of yours that the nodes share with --directory"),
    ] {
        let said = login.script(&format!("$program {arguments}; echo status $?"));
        assert!(said.contains(message) && said.contains("status 2"), "{arguments}: {said}");
    }
    let said = login.script("$program slurm --arguments '-p ci' --dry-run; echo status $?");
    assert!(said.contains("`-p ci`") && said.contains("status 0"), "{said}");
    assert_eq!(login.left(), "");
    let root = login
        .slurm
        .admin(&format!("{} slurm 2>&1 || true", login.programs.join("nunbird-compliance").display()));
    assert!(root.contains("run this as an ordinary user"), "{root}");
}
