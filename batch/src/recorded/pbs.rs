//! OpenPBS 23.06.06.

use super::{
    CommandOutput, CommandResult, End, Order, State, is_unclear, named, output, queries, record, result_of,
    row, words,
};

const FILE: &str = include_str!("../../tests/fixtures/schedulers/pbs.txt");

/// Records of selected lines lack the two that identify the owner and the job.
fn completed(mut output: CommandOutput, name: &str) -> CommandOutput {
    let (id, rest) = output.out.split_once('\n').expect("lines");
    output.out = format!("{id}\n    Job_Name = {name}\n    Job_Owner = ann@pbshost\n{rest}");
    output
}

fn gone() -> CommandOutput {
    record(FILE, "qstat of finished job with history (no -x)")
}

#[test]
fn a_submission_is_accepted_rejected_or_unclear() {
    let pbs = named("pbs");
    let queries = queries(&pbs, "nb7-x");
    let submit = |title: &str| queries.result(Order::Submit, &record(FILE, title));
    assert!(matches!(submit("success"), CommandResult::Id(id) if id.ends_with(".pbshost")));
    for title in ["bad queue", "too long for queue", "name invalid"] {
        assert!(matches!(submit(title), CommandResult::Rejected(_)), "{title}");
    }
    assert!(is_unclear(&submit("server down: qsub")));
    let command = words(&queries, Order::Submit, None);
    assert!(
        command.starts_with("qsub -q x -f -r n -N nb7-x -j oe") && command.ends_with("-- /bin/sh /s/a b"),
        "{command}"
    );
    assert_eq!(queries.time_limit(5400), ["-l", "walltime=1:30:00"]);
}

#[test]
fn a_job_in_the_queue_is_read_with_its_folded_lines() {
    let pbs = named("pbs");
    for (title, state) in [
        ("qstat -f state R", State::Running),
        ("qstat -f state Q", State::Pending),
        ("qstat -f state H", State::Held),
    ] {
        let record = record(FILE, title);
        let name =
            record.out.split_once("Job_Name = ").and_then(|(_, rest)| rest.split_once('\n')).expect("name").0;
        let mut queries = queries(&pbs, name);
        let row = row(result_of(&mut queries, Order::Query, &[record]));
        assert_eq!(pbs.state(&row.state), state, "{title}");
        assert!(row.id.ends_with(".pbshost"), "{title}");
    }
    let out = "Job Id: 14.pbshost\n    Job_Name = nb7-x\n    Job_Owner = ann@pbshost\n    job_state = Q\n    \
               comment = Can Never Run: Insufficient amount of resource: ncpus (R: 64 A: 2\n\t T: 2)\n";
    let row = row(result_of(&mut queries(&pbs, "nb7-x"), Order::Query, &[output(0, out, "")]));
    assert_eq!(row.reason, "Can Never Run: Insufficient amount of resource: ncpus (R: 64 A: 2 T: 2)");
    assert!(pbs.reasons.never[0].is_match(&row.reason));
}

#[test]
fn another_users_job_and_another_job_of_that_id_are_not_ours() {
    let pbs = named("pbs");
    let ours = "Job Id: 1.h\n    Job_Name = nb7-x\n    Job_Owner = ann@h\n    job_state = R\n";
    let result = |out: &str| {
        let steps = [output(0, out, ""), record(FILE, "qstat unknown")];
        result_of(&mut queries(&pbs, "nb7-x"), Order::Query, &steps)
    };
    assert!(matches!(result(ours), CommandResult::Row(_)));
    for other in [
        ours.replace("ann@", "bob@"),
        ours.replace("nb7-x", "nb8-x"),
        ours.replace("    Job_Owner = ann@h\n", ""),
        String::new(),
    ] {
        assert_eq!(result(&other), CommandResult::Absent, "{other}");
    }
}

#[test]
fn the_history_shows_how_a_job_ended() {
    let pbs = named("pbs");
    for (title, expected, exit) in [
        ("qstat -x -f e0 (selected)", End::Completed, "0"),
        ("qstat -x -f walltime (selected)", End::TimedOut, "-29"),
        ("qstat -x -f qdel-running (selected)", End::Cancelled, "271"),
        ("qstat -x -f qdel-held (selected)", End::Cancelled, ""),
        // PBS lost the output and reports success: the job's own record is the other witness.
        ("qstat -x -f bad-output-dir (selected)", End::Completed, "0"),
    ] {
        let steps = [gone(), completed(record(FILE, title), "nb7-x")];
        let row = row(result_of(&mut queries(&pbs, "nb7-x"), Order::Query, &steps));
        assert_eq!((pbs.state(&row.state), row.exit.as_str()), (State::Ended(expected), exit), "{title}");
    }
    let row =
        row(result_of(&mut queries(&pbs, "e7"), Order::Query, &[gone(), record(FILE, "qstat -x -f exit 7")]));
    assert_eq!((row.state.as_str(), row.nodes.as_str()), ("FAILED", "pbshost/1"));
    assert_eq!(row.reason, "Job run at Sat Nov 21 at 03:04 on (pbshost:ncpus=1) and failed");
}

#[test]
fn without_history_a_job_that_the_queue_does_not_have_is_absent() {
    let pbs = named("pbs");
    assert!(pbs.forgets);
    let steps = [record(FILE, "finished job, no history"), record(FILE, "finished job, no history, -x")];
    assert_eq!(result_of(&mut queries(&pbs, "nb7-x"), Order::Query, &steps), CommandResult::Absent);
    let mut queries = queries(&pbs, "nb7-x");
    assert!(is_unclear(&result_of(&mut queries, Order::Query, &[record(FILE, "server down: qstat")])));
    let nothing = output(0, "", "");
    let none = output(15, "", "qselect: PBS is not configured to maintain job history");
    assert_eq!(result_of(&mut queries, Order::Find, &[nothing, none]), CommandResult::Absent);
    let found = result_of(&mut queries, Order::Find, &[output(0, "167.pbshost\n", "")]);
    assert!(matches!(found, CommandResult::Row(row) if row.id == "167.pbshost" && row.state.is_empty()));
}

#[test]
fn a_job_that_is_gone_needs_no_cancel() {
    let pbs = named("pbs");
    let queries = queries(&pbs, "nb7-x");
    for title in ["qdel unknown", "qdel finished (no history)"] {
        assert_eq!(queries.result(Order::Cancel, &record(FILE, title)), CommandResult::Done, "{title}");
    }
    assert!(is_unclear(&queries.result(Order::Cancel, &record(FILE, "server down: qdel"))));
    assert_eq!(words(&queries, Order::Signal, Some("1.h")), "qsig -s {signal} 1.h");
}

#[test]
fn no_queue_gives_more_time_than_the_one_that_gives_most() {
    let pbs = named("pbs");
    let queries = queries(&pbs, "nb7-x");
    let out = "Queue: short\n    queue_type = Execution\n    resources_max.walltime = 01:00:00\n\nQueue: long\n    resources_max.walltime = 48:00:00\n";
    assert_eq!(queries.longest(None, out), Some(48 * 3600));
    assert_eq!(queries.longest(Some("short"), out), Some(3600));
    assert_eq!(queries.longest(None, &format!("{out}\nQueue: free\n")), None);
}
