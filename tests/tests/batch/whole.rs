//! End to end: gitlab-runner's calls, the privileged program, the site's configuration, and a real
//! Slurm.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nunbird_tests::scheduler::Slurm;
use nunbird_tests::world::Account;
use nunbird_tests::{Cancel, Privilege, Reason, Status, World, needs};
use std::path::Path;
use std::time::Duration;

/// A private system whose jobs of `nbt_ann` go to this Slurm. `more` is added to its `[batch]`.
fn machine(slurm: &Slurm, privilege: Privilege, more: &str) -> World {
    let mut world = World::new(privilege);
    let home = slurm.path("home/nbt_ann").display().to_string();
    world.add_account(Account { home, has_home: false, ..Account::new("nbt_ann", Slurm::uid("nbt_ann")) });
    let (bin, configuration) = (slurm.path("bin"), slurm.path("etc/slurm.conf"));
    world.reconfigure(
        "[job]\n",
        &format!(
            "[directories]\ndata_dir = \"$HOME/{}\"\n[batch]\nscheduler_bin = \"{}\"\nenvironment = {{ SLURM_CONF = \"{}\" }}\nnfs_timeout = \"5s\"\n\
             grace = \"3s\"\npoll_interval = \"5s\"\n{more}\n[job]\nexecutor = \"slurm\"\n",
            data_dir(&world),
            bin.display(),
            configuration.display()
        ),
    );
    world
}

/// One for each private system: two of them would use the same directories for two jobs of one
/// account.
fn data_dir(world: &World) -> String {
    world.root().file_name().expect("a name").to_string_lossy().into_owned()
}

/// The running launchers in a private system.
fn launchers(machine: &Path) -> Vec<Pid> {
    let mark = machine.display().to_string();
    let is_one = |pid: &i32| {
        let of = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        of("cmdline") == b"nunbird\0" && String::from_utf8_lossy(&of("mountinfo")).contains(&mark)
    };
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(is_one).map(Pid::from_raw).collect()
}

/// The account's jobs that have not ended.
fn jobs_of_ann(slurm: &Slurm) -> String {
    let mut answer = String::new();
    // A command that fails is no evidence.
    slurm.wait_for("an answer", || {
        answer =
            slurm.admin("squeue -h -u nbt_ann -t PENDING,RUNNING,COMPLETING,SUSPENDED -o %j && echo end");
        answer.ends_with("end\n")
    });
    answer.trim_end_matches("end\n").to_owned()
}

#[needs(root)]
fn a_job_of_gitlabs_runs_its_script_in_slurm_and_all_else_on_the_runners_host() {
    let slurm = Slurm::shared();
    for privilege in Privilege::PRIVILEGED {
        let world = machine(&slurm, privilege, "");
        let outcome = world
            .job()
            .user("nbt_ann")
            .script(
                "echo \"in $SLURM_JOB_ID as $(id -un) at $(pwd)\"; cat data/lattice.txt; echo to stderr >&2",
            )
            .after_script("echo \"after in ${SLURM_JOB_ID:-none}\"")
            .run()
            .expect_success();
        let script = outcome.stage("build_script");
        assert!(script.stdout.contains(" as nbt_ann at /var/tmp/"), "{privilege:?}: {}", outcome.log());
        assert!(!script.stdout.contains("in  as") && script.stdout.contains("4 4 4 8"), "{}", script.stdout);
        assert!(script.stderr.contains("to stderr\n"), "{}", script.stderr);
        assert!(
            script.log.contains("nunbird: Slurm job ") && script.log.contains("exit code 0"),
            "{}",
            script.log
        );
        let log = &script.log;
        assert!(
            log.contains("nunbird:   queue      1 s in GitLab, ") && log.contains(" in the scheduler\n"),
            "{log}"
        );
        assert!(log.contains(" s for the script, ") && log.contains(" processors on average\n"), "{log}");
        assert!(outcome.stage("after_script").stdout.contains("after in none"), "{}", outcome.log());
        let admitted = &world.audit()[0];
        assert_eq!((&admitted["outcome"], &admitted["executor"]), (&"admitted".into(), &"slurm".into()));
        let audit = world.audit();
        let ended = |script: &str| {
            let is_it =
                |event: &&serde_json::Value| event["outcome"] == "stage-ended" && event["script"] == script;
            audit.iter().find(is_it).expect("an event of the end")["batch"].clone()
        };
        let batch = ended("build_script");
        assert_eq!(batch["end"], "success", "{batch}");
        assert!(batch["queued_s"].is_u64() && batch["ran_s"].is_u64(), "{batch}");
        assert!(batch["used_cpu_ms"].is_u64(), "{batch}");
        assert!(batch["scheduler_id"].as_str().is_some_and(|id| id.parse::<u64>().is_ok()), "{batch}");
        assert!(ended("after_script").is_null() && ended("get_sources").is_null());
        let left = slurm.path("home/nbt_ann").join(data_dir(&world)).join("batch");
        let left: Vec<_> =
            std::fs::read_dir(left).into_iter().flatten().flatten().map(|e| e.path()).collect();
        let id = admitted["decision_id"].as_str().expect("an id");
        assert!(!left.iter().any(|path| path.ends_with(id)), "{left:?}");
        assert!(world.records().is_empty());
    }
}

#[needs(root)]
fn a_failed_script_has_its_own_exit_code_and_the_users_arguments_reach_the_scheduler() {
    let slurm = Slurm::shared();
    let world =
        machine(&slurm, Privilege::Setuid, "arguments_variables = [\"SITE_ARGS\", \"SCHEDULER_PARAMETERS\"]");
    let job = || world.job().user("nbt_ann");
    job()
        .variable("SCHEDULER_PARAMETERS", "--partition=nonesuch")
        .variable("SITE_ARGS", "--partition=hour -t 5")
        .variable("SCHEDULER_JOB_PREFIX", "mine")
        .variable("COPY_SCHEDULER_LOGS", "$$HOME/copies")
        .script("echo \"in $SLURM_JOB_PARTITION\"; case $SLURM_JOB_NAME in mine*) exit 77;; esac")
        .run()
        .expect(&Status::script_failure(77));
    let copies: Vec<_> =
        std::fs::read_dir(slurm.path("home/nbt_ann/copies")).expect("copies").flatten().collect();
    let named = |end: &str| {
        copies.iter().any(|copy| {
            copy.file_name().to_string_lossy().starts_with("mine-nb")
                && copy.file_name().to_string_lossy().ends_with(end)
        })
    };
    assert!(copies.len() == 3 && named(".out") && named(".err") && named(".log"), "{copies:?}");
    let refused = job().variable("SITE_ARGS", "--output=/home/nbt_bea/x").script("true").run();
    assert_eq!(refused.status, Status::script_failure(1), "{}", refused.log());
    assert!(
        refused.log().contains("SITE_ARGS must not have `--output=/home/nbt_bea/x`"),
        "{}",
        refused.log()
    );
    let unknown = job().variable("SITE_ARGS", "--partition=nonesuch").script("true").run();
    assert_eq!(unknown.status, Status::script_failure(1), "{}", unknown.log());
    assert!(unknown.log().contains("invalid partition"), "{}", unknown.log());
}

#[needs(root)]
fn a_cancelled_job_is_gone_from_the_queue_before_the_runner_hears_of_it() {
    let slurm = Slurm::start();
    let world = machine(&slurm, Privilege::Setuid, "");
    let outcome = world
        .job()
        .user("nbt_ann")
        .script("echo go''ing; sleep 300")
        .kill_timeouts(Duration::from_secs(60), Duration::from_secs(5))
        .cancel_when("build_script", "going", Cancel::Gracefully)
        .run();
    assert_eq!(outcome.status, Status::failed(Reason::Canceled), "{}", outcome.log());
    assert_eq!(jobs_of_ann(&slurm), "", "{}", outcome.log());
}

#[needs(root)]
fn the_cleanup_of_a_job_whose_launcher_was_killed_takes_it_out_of_the_queue() {
    let slurm = Slurm::start();
    let world = machine(&slurm, Privilege::Setuid, "");
    let job = world.job().user("nbt_ann").script("sleep 300").with_repository();
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    assert!(session.stage("prepare_script").succeeded() && session.stage("get_sources").succeeded());
    std::thread::scope(|scope| {
        let (slurm, root) = (&slurm, world.root());
        scope.spawn(move || {
            slurm.wait_for("a running job", || {
                !slurm.admin("squeue -h -u nbt_ann -t RUNNING -o %j").is_empty()
            });
            for launcher in launchers(root) {
                kill(launcher, Signal::SIGKILL).expect("a signal");
            }
        });
        let stage = session.stage("build_script");
        assert!(!stage.succeeded(), "{}", stage.log);
    });
    let all = || slurm.admin("squeue -h -a -t all -o '%j %T %r %u'");
    assert_ne!(jobs_of_ann(&slurm), "", "nobody cancelled it yet: {}", all());
    let cleanup = session.cleanup();
    assert!(cleanup.succeeded(), "{}", cleanup.log);
    assert_eq!(jobs_of_ann(&slurm), "", "{}", cleanup.log);
}

#[needs(root)]
fn a_scheduler_that_the_site_describes_is_used_by_its_name() {
    let slurm = Slurm::shared();
    let world =
        machine(&slurm, Privilege::Setuid, "[scheduler.ours]\ndescription = \"/etc/nunbird/ours.toml\"");
    world.reconfigure("executor = \"slurm\"", "executor = \"ours\"");
    let description =
        include_str!("../../../batch/src/schedulers/slurm.toml").replace("\"Slurm\"", "\"Our queue\"");
    world.write_file("/etc/nunbird/ours.toml", &description, "root", 0o644);
    let job = || world.job().user("nbt_ann").script("echo \"in $SLURM_JOB_ID\"");
    let outcome = job().run().expect_success();
    assert!(outcome.log().contains("nunbird: Our queue job "), "{}", outcome.log());
    world.write_file("/etc/nunbird/ours.toml", &description, "nbt_runner", 0o644);
    let refused = job().run();
    assert_eq!(refused.status, Status::failed(Reason::SystemFailure), "{}", refused.log());
    assert!(refused.log().contains("owned by root and not writable by anybody else"), "{}", refused.log());
}

#[needs(root)]
fn a_sweep_cancels_the_job_in_slurm_of_a_runner_that_crashed() {
    let slurm = Slurm::shared();
    let world = machine(&slurm, Privilege::Setuid, "");
    world.write_keys();
    let job = world.job().user("nbt_ann").variable("SCHEDULER_JOB_PREFIX", "swept");
    let mut session = job.begin();
    assert!(session.config().succeeded() && session.prepare().succeeded());
    let file = session.directory().join("long");
    session.write(&file, b"sleep 300\n", 0o700);
    let run = session.spec_of_run(&file, "build_script");
    std::thread::scope(|scope| {
        let running = scope.spawn(|| world.run(&run));
        slurm.wait_for("a job in the queue", || jobs_of_ann(&slurm).contains("swept"));
        // As a crash of the runner's host would; the scheduler does not notice.
        for launcher in launchers(world.root()) {
            kill(launcher, Signal::SIGKILL).expect("kill");
        }
        assert!(!running.join().expect("a stage").succeeded());
    });
    assert!(jobs_of_ann(&slurm).contains("swept"), "the job lives on without its runner");
    let record = world.records().pop().expect("a record");
    nunbird_tests::records::change(&record, |record| record.boot_id = "another boot".to_owned());
    let program = world.paths().bin.join("nunbirdctl");
    let swept = world.run(&world.program("root", program, &["sweep", "--runner-user", "nbt_runner"]));
    assert!(swept.succeeded() && swept.stdout.contains("is over"), "{}{}", swept.stdout, swept.stderr);
    assert!(world.records().is_empty());
    assert!(!jobs_of_ann(&slurm).contains("swept"), "{}", swept.stdout);
}
