//! Checks the built-in descriptions against recorded output of schedulers
//! (`tests/fixtures/schedulers`).

use super::command::CommandOutput;
use super::description::{Description, named};
use super::messages::{CommandResult, Order, Row};
use super::options;
use super::query_state::QueryState;
use super::state::{End, State};
use nunbird_handover::{Account, Batch, Rules, Scheduler, UserText};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

mod cobalt;
mod flux;
mod gridengine;
mod htcondor;
mod lsf;
mod pbs;

/// The commands of a job of user ann with this tag.
fn queries<'d>(description: &'d Description, tag: &str) -> QueryState<'d> {
    let values = [
        ("tag", tag),
        ("user", "ann"),
        ("uid", "1002"),
        ("stage", "/s"),
        ("agent", "/s/a b"),
        ("log", "/s/log"),
    ];
    let values = BTreeMap::from(values.map(|(name, value)| (name, value.to_owned())));
    QueryState::new(description, values, vec!["-q".to_owned(), "x".to_owned()], 1002, tag.to_owned())
}

/// The record with that title.
fn record(file: &str, title: &str) -> CommandOutput {
    let mut records = file.split("### ").filter_map(|record| record.split_once('\n'));
    let (_, text) = records.find(|(found, _)| *found == title).expect(title);
    let between = |from: &str, to: &str| {
        let after = text.split_once(from).expect(from).1;
        after.split_once(to).expect(to).0.to_owned()
    };
    let code: i32 = text.rsplit_once("--- exit ").expect("exit").1.trim().parse().expect("a number");
    output(code, &between("--- stdout\n", "--- stderr\n"), &between("--- stderr\n", "--- exit "))
}

fn output(code: i32, out: &str, err: &str) -> CommandOutput {
    CommandOutput { status: Some(ExitStatus::from_raw(code << 8)), out: out.to_owned(), err: err.to_owned() }
}

/// The result of a query that takes several commands.
fn result_of(queries: &mut QueryState<'_>, order: Order, steps: &[CommandOutput]) -> CommandResult {
    for output in steps {
        let result = queries.result(order, output);
        if let Some(result) = queries.finish_query(order, result) {
            return result;
        }
    }
    panic!("{order:?} asks for more than {} commands", steps.len());
}

fn row(result: CommandResult) -> Row {
    match result {
        CommandResult::Row(row) => row,
        other => panic!("no row: {other:?}"),
    }
}

fn is_unclear(result: &CommandResult) -> bool {
    matches!(result, CommandResult::Unclear(_))
}

fn words(queries: &QueryState<'_>, order: Order, id: Option<&str>) -> String {
    queries.command(order, id).map_or_else(|| "none".to_owned(), |call| call.words.join(" "))
}

#[test]
fn no_command_goes_by_an_id_that_nobody_knows() {
    for name in ["pbs", "flux", "cobalt"] {
        let description = named(name);
        let queries = queries(&description, "nb7-x");
        assert!(queries.command(Order::Cancel, None).is_none(), "{name}");
        assert!(queries.command(Order::Cancel, Some("9")).is_some(), "{name}");
    }
    for name in ["slurm", "lsf", "gridengine", "htcondor"] {
        let description = named(name);
        let queries = queries(&description, "nb7-x");
        assert!(words(&queries, Order::Cancel, None).contains("nb7-x"), "{name} cancels by name");
    }
}

#[test]
fn the_users_arguments_stand_before_those_of_nunbird() {
    for name in ["slurm", "pbs", "lsf", "flux", "cobalt", "gridengine", "htcondor"] {
        let description = named(name);
        let command = words(&queries(&description, "nb7-x"), Order::Submit, None);
        let (user, tag) = (command.find(" -q x").expect("user"), command.find("nb7-x"));
        assert!(tag.is_none_or(|tag| user < tag), "{command}");
        if name == "htcondor" {
            assert!(command.ends_with(" -q x -"), "{command}");
        }
    }
}

#[test]
fn every_word_that_a_description_makes_of_a_state_has_a_meaning() {
    for name in ["pbs", "lsf", "flux", "cobalt", "gridengine", "htcondor"] {
        let description = named(name);
        let queries = [Some(&description.query), Some(description.find()), description.accounting.as_ref()];
        for query in queries.into_iter().flatten() {
            let mut query = Some(query);
            while let Some(one) = query {
                for word in one.state_words() {
                    assert_ne!(description.state(word), State::Unknown, "{name}: {word}");
                }
                query = one.then.as_deref();
            }
        }
    }
}

/// The text between the fences of this kind, after this heading of docs/schedulers.md.
fn documented(heading: &str, kind: &str) -> String {
    let text = include_str!("../../docs/schedulers.md").split_once(heading).expect(heading).1;
    let text = text.split_once(&format!("\n```{kind}\n")).expect(kind).1;
    text.split_once("\n```\n").expect("the end").0.to_owned()
}

#[test]
fn the_documented_example_of_a_sites_own_scheduler_works() {
    let heading = "### Fujitsu's PJM";
    let pjm = Description::parse(&documented(heading, "toml")).expect("a description");
    let directory = tempfile::tempdir().expect("a directory");
    let put = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("mode");
        path
    };
    let script = put("nunbird-pjm", &documented(heading, "sh"));
    put("id", "#!/bin/sh\n[ \"$1\" = -un ] && echo ann || echo 1002\n");
    let ask = |pjstat: &str| {
        put("pjstat", &format!("#!/bin/sh\n{pjstat}"));
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let output =
            std::process::Command::new(&script).args(["jid", "9"]).env("PATH", path).output().expect("run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let output = CommandOutput {
            status: Some(output.status),
            out: text(&output.stdout),
            err: text(&output.stderr),
        };
        result_of(&mut queries(&pjm, "nb7-x"), Order::Query, &[output])
    };
    let state = |line: &str, old: bool| {
        let when = if old { "case \"$*\" in *' -H '*) ;; *) exit 0 ;; esac\n" } else { "" };
        let row = row(ask(&format!("{when}echo JOB_ID USER ST PC EC ELAPSE_LIM JOB_NAME\necho '{line}'\n")));
        pjm.state(&row.state)
    };
    assert_eq!(state("9 ann QUE - - 0001:00:00 nb7-x", false), State::Pending);
    assert_eq!(state("9 ann EXT 0 0 0001:00:00 nb7-x", true), State::Ended(End::Completed));
    assert_eq!(state("9 ann EXT 0 7 0001:00:00 nb7-x", true), State::Ended(End::Failed));
    assert_eq!(state("9 ann EXT 11 143 0001:00:00 nb7-x", true), State::Ended(End::TimedOut));
    assert_eq!(ask("echo 9 bob RUN 0 0 1:00 nb7-x\n"), CommandResult::Absent);
    assert_eq!(ask("echo 9 ann RUN 0 0 1:00 nb8-x\n"), CommandResult::Absent);
    assert!(is_unclear(&ask("echo down >&2; exit 1\n")));

    // What pipelines on Fugaku write, and attempts to avoid a site's limits.
    let mut batch = Batch::new(Scheduler::Named("slurm".to_owned()), "/d".into());
    batch.rules = Rules {
        most_nodes: Some(4),
        most_memory: Some(32 << 10),
        accounts: Some(vec!["hp120000".to_owned()]),
        ..Rules::default()
    };
    let account =
        Account { name: "ann".to_owned(), uid: 1, gid: 1, home: "/home/ann".into(), shell: "/bin/sh".into() };
    let mut judged = |text: &str| {
        batch.arguments =
            Some(UserText { variable: "SCHEDULER_PARAMETERS".to_owned(), text: text.to_owned() });
        options::arguments(&batch, &account, &pjm.options)
    };
    for good in [
        "-L rscgrp=small,node=4,elapse=1:00:00 -g hp120000 --mpi max-proc-per-node=4 -x PJM_LLIO_GFSCACHE=/vol0004",
        "--no-check-directory --gname hp120000 -L node-mem=28Gi",
        "-L vnode=4 -S",
    ] {
        assert!(judged(good).is_ok(), "{good}: {:?}", judged(good));
    }
    for bad in [
        "-g hp999999",
        "--gname hp999999",
        "--gname=hp999999",
        "-L vnode=12",
        "--rsc-list vnode=12",
        "-L node=2x3x2",
        "-L node-mem=64Gi",
        "-X",
        "--name x",
    ] {
        assert!(judged(bad).is_err(), "{bad}");
    }
}

/// From slurm.conf(5) and sbatch's messages, OpenPBS's pbs_messages.c, Grid Engine's msg_qmaster.h, HTCondor's schedd, flux-accounting.
#[test]
fn refusals_that_pass_by_themselves_and_faults_of_the_scheduler_are_no_refusals_of_the_job() {
    let policy = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)";
    let submit = |name: &str, err: &str| {
        let description = named(name);
        queries(&description, "nb7-x").result(Order::Submit, &output(1, "", err))
    };
    for (name, text) in [
        ("slurm", "sbatch: error: AssocMaxSubmitJobLimit"),
        ("slurm", "sbatch: error: AssocGrpSubmitJobsLimit"),
        ("slurm", "sbatch: error: QOSMaxSubmitJobPerUserLimit"),
        ("slurm", "sbatch: error: QOSGrpSubmitJobsLimit"),
        ("slurm", "sbatch: error: MaxSubmitJobsPerAccount"),
        ("pbs", "qsub: Maximum number of jobs for user ann already in queue workq"),
        ("pbs", "qsub: would exceed complex's per-user limit of jobs in 'Q' state"),
        ("pbs", "qsub: would exceed queue workq's per-group limit"),
        (
            "gridengine",
            "Unable to run job: job rejected: Only 2 jobs are allowed per user (current job count: 2).",
        ),
        ("htcondor", "ERROR: Number of submitted jobs would exceed MAX_JOBS_PER_OWNER"),
        ("flux", "flux-batch: ERROR: [Errno 22] user has max active jobs"),
    ] {
        let err = if name == "slurm" { format!("{text}\n{policy}") } else { text.to_owned() };
        assert!(matches!(submit(name, &err), CommandResult::Later(_)), "{text}");
    }
    for (name, text) in [
        ("slurm", "sbatch: error: Batch job submission failed: I/O error writing script/environment to file"),
        (
            "slurm",
            "sbatch: error: Invalid user for SlurmUser slurm, ignored\nsbatch: fatal: Unable to process configuration file",
        ),
        ("slurm", "sbatch: fatal: Could not establish a configuration source"),
        ("slurm", "sbatch: error: Batch job submission failed: Invalid user id"),
        ("pbs", "qsub: Failed to save job/resv, refer server logs for details"),
    ] {
        assert!(matches!(submit(name, text), CommandResult::Faulty(_)), "{text}");
    }
    for (name, text) in [
        ("slurm", policy),
        ("slurm", "sbatch: error: QOSMaxWallDurationPerJobLimit"),
        ("pbs", "qsub: would exceed per-user limit on resource ncpus in complex"),
        ("htcondor", "ERROR: Number of submitted jobs would exceed MAX_JOBS_PER_SUBMISSION"),
    ] {
        assert!(matches!(submit(name, text), CommandResult::Rejected(_)), "{text}");
    }
}
