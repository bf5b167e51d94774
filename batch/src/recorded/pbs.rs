//! OpenPBS 23.06.06.

use super::{Answer, End, Order, Said, State, asking, is_unclear, named, record, row, said, told, words};

const FILE: &str = include_str!("../../tests/fixtures/schedulers/pbs.txt");

/// Records of selected lines lack the two that identify the owner and the job.
fn completed(mut said: Said, name: &str) -> Said {
    let (id, rest) = said.out.split_once('\n').expect("lines");
    said.out = format!("{id}\n    Job_Name = {name}\n    Job_Owner = ann@pbshost\n{rest}");
    said
}

fn gone() -> Said {
    record(FILE, "qstat of finished job with history (no -x)")
}

#[test]
fn a_submission_is_accepted_rejected_or_unclear() {
    let pbs = named("pbs");
    let asking = asking(&pbs, "nb7-x");
    let submit = |title: &str| asking.answer(Order::Submit, &record(FILE, title));
    assert!(matches!(submit("success"), Answer::Id(id) if id.ends_with(".pbshost")));
    for title in ["bad queue", "too long for queue", "name invalid"] {
        assert!(matches!(submit(title), Answer::Rejected(_)), "{title}");
    }
    assert!(is_unclear(&submit("server down: qsub")));
    let command = words(&asking, Order::Submit, None);
    assert!(
        command.starts_with("qsub -q x -f -r n -N nb7-x -j oe") && command.ends_with("-- /bin/sh /s/a b"),
        "{command}"
    );
    assert_eq!(asking.time_limit(5400), ["-l", "walltime=1:30:00"]);
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
        let mut asking = asking(&pbs, name);
        let row = row(told(&mut asking, Order::Query, &[record]));
        assert_eq!(pbs.state(&row.state), state, "{title}");
        assert!(row.id.ends_with(".pbshost"), "{title}");
    }
    let out = "Job Id: 14.pbshost\n    Job_Name = nb7-x\n    Job_Owner = ann@pbshost\n    job_state = Q\n    \
               comment = Can Never Run: Insufficient amount of resource: ncpus (R: 64 A: 2\n\t T: 2)\n";
    let row = row(told(&mut asking(&pbs, "nb7-x"), Order::Query, &[said(0, out, "")]));
    assert_eq!(row.reason, "Can Never Run: Insufficient amount of resource: ncpus (R: 64 A: 2 T: 2)");
    assert!(pbs.reasons.never[0].is_match(&row.reason));
}

#[test]
fn another_users_job_and_another_job_of_that_id_are_not_ours() {
    let pbs = named("pbs");
    let ours = "Job Id: 1.h\n    Job_Name = nb7-x\n    Job_Owner = ann@h\n    job_state = R\n";
    let answer = |out: &str| {
        let steps = [said(0, out, ""), record(FILE, "qstat unknown")];
        told(&mut asking(&pbs, "nb7-x"), Order::Query, &steps)
    };
    assert!(matches!(answer(ours), Answer::Row(_)));
    for other in [
        ours.replace("ann@", "bob@"),
        ours.replace("nb7-x", "nb8-x"),
        ours.replace("    Job_Owner = ann@h\n", ""),
        String::new(),
    ] {
        assert_eq!(answer(&other), Answer::Absent, "{other}");
    }
}

#[test]
fn the_history_tells_how_a_job_ended() {
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
        let row = row(told(&mut asking(&pbs, "nb7-x"), Order::Query, &steps));
        assert_eq!((pbs.state(&row.state), row.exit.as_str()), (State::Ended(expected), exit), "{title}");
    }
    let row = row(told(&mut asking(&pbs, "e7"), Order::Query, &[gone(), record(FILE, "qstat -x -f exit 7")]));
    assert_eq!((row.state.as_str(), row.nodes.as_str()), ("FAILED", "pbshost/1"));
    assert_eq!(row.reason, "Job run at Sat Nov 21 at 03:04 on (pbshost:ncpus=1) and failed");
}

#[test]
fn without_history_a_job_that_the_queue_does_not_have_is_absent() {
    let pbs = named("pbs");
    assert!(pbs.forgets);
    let steps = [record(FILE, "finished job, no history"), record(FILE, "finished job, no history, -x")];
    assert_eq!(told(&mut asking(&pbs, "nb7-x"), Order::Query, &steps), Answer::Absent);
    let mut asking = asking(&pbs, "nb7-x");
    assert!(is_unclear(&told(&mut asking, Order::Query, &[record(FILE, "server down: qstat")])));
    let nothing = said(0, "", "");
    let none = said(15, "", "qselect: PBS is not configured to maintain job history");
    assert_eq!(told(&mut asking, Order::Find, &[nothing, none]), Answer::Absent);
    let found = told(&mut asking, Order::Find, &[said(0, "167.pbshost\n", "")]);
    assert!(matches!(found, Answer::Row(row) if row.id == "167.pbshost" && row.state.is_empty()));
}

#[test]
fn a_job_that_is_gone_needs_no_cancel() {
    let pbs = named("pbs");
    let asking = asking(&pbs, "nb7-x");
    for title in ["qdel unknown", "qdel finished (no history)"] {
        assert_eq!(asking.answer(Order::Cancel, &record(FILE, title)), Answer::Done, "{title}");
    }
    assert!(is_unclear(&asking.answer(Order::Cancel, &record(FILE, "server down: qdel"))));
    assert_eq!(words(&asking, Order::Signal, Some("1.h")), "qsig -s {signal} 1.h");
}

#[test]
fn no_queue_gives_more_time_than_the_one_that_gives_most() {
    let pbs = named("pbs");
    let asking = asking(&pbs, "nb7-x");
    let out = "Queue: short\n    queue_type = Execution\n    resources_max.walltime = 01:00:00\n\nQueue: long\n    resources_max.walltime = 48:00:00\n";
    assert_eq!(asking.longest(None, out), Some(48 * 3600));
    assert_eq!(asking.longest(Some("short"), out), Some(3600));
    assert_eq!(asking.longest(None, &format!("{out}\nQueue: free\n")), None);
}
