//! Son of Grid Engine 8.1.9.

use super::{
    CommandOutput, CommandResult, End, Order, State, is_unclear, named, output, queries, record, result_of,
    row, words,
};

const FILE: &str = include_str!("../../tests/fixtures/schedulers/gridengine.txt");
const EMPTY: &str = "<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"x\">\n  <queue_info>\n  </queue_info>\n  <job_info>\n  </job_info>\n</job_info>\n";

fn empty() -> CommandOutput {
    output(0, EMPTY, "")
}

#[test]
fn a_submission_is_accepted_rejected_or_unclear() {
    let sge = named("gridengine");
    let queries = queries(&sge, "nb7-x");
    let submit = |title: &str| queries.result(Order::Submit, &record(FILE, title));
    assert_eq!(submit("success -terse"), CommandResult::Id("2".to_owned()));
    assert!(matches!(submit("bad queue"), CommandResult::Rejected(_)));
    assert!(matches!(submit("unsatisfiable resource with -w e"), CommandResult::Rejected(_)));
    assert!(is_unclear(&submit("qmaster down: qsub")));
    assert_eq!(queries.time_limit(5400), ["-l", "h_rt=5400"]);
}

#[test]
fn the_letters_of_a_state_are_read() {
    let sge = named("gridengine");
    let job = |state: &str| {
        EMPTY.replacen("  <queue_info>\n", &format!(
            "  <queue_info>\n    <job_list state=\"x\">\n<JB_job_number>9</JB_job_number>\n<JB_name>nb7-x</JB_name>\n<JB_owner>ann</JB_owner>\n<state>{state}</state>\n<queue_name>all.q@n1</queue_name>\n"
        ), 1)
    };
    for (letters, expected) in [
        ("qw", State::Pending),
        ("Rq", State::Pending),
        ("hqw", State::Held),
        ("hRwq", State::Held),
        ("Eqw", State::Held),
        ("Ehqw", State::Held),
        ("r", State::Running),
        ("t", State::Running),
        ("Rr", State::Running),
        ("s", State::Suspended),
        ("S", State::Suspended),
        ("tS", State::Suspended),
        ("Rs", State::Suspended),
        ("dr", State::Ending),
        ("dRr", State::Ending),
        ("ds", State::Ending),
        ("z", State::Unknown),
    ] {
        let row = row(result_of(&mut queries(&sge, "nb7-x"), Order::Query, &[output(0, &job(letters), "")]));
        assert_eq!(sge.state(&row.state), expected, "{letters}");
        assert_eq!(row.nodes, "n1");
        let is_broken = sge.reasons.broken.iter().any(|reason| reason.is_match(&row.reason));
        assert_eq!(is_broken, letters.contains('E'), "{letters}");
    }
}

#[test]
fn a_job_is_found_among_all_of_the_account() {
    let sge = named("gridengine");
    let ask = |tag: &str, title: &str| {
        result_of(
            &mut queries(&sge, tag),
            Order::Query,
            &[record(FILE, title), record(FILE, "qacct unknown")],
        )
    };
    let row = row(ask("toobig", "qstat -xml mixed"));
    assert_eq!((row.id.as_str(), row.state.as_str()), ("9", "QUEUED"));
    let row = super::row(ask("long", "qstat -xml running"));
    assert_eq!((row.id.as_str(), row.state.as_str(), row.nodes.as_str()), ("26", "RUNNING", "sgehost"));
    let row = super::row(ask("baddir", "qstat -xml after drain"));
    assert_eq!((row.state.as_str(), row.reason.as_str()), ("ERROR", "Eqw"));
    assert_eq!(ask("nb7-x", "qstat -xml"), CommandResult::Absent);
    assert!(is_unclear(&result_of(
        &mut queries(&sge, "nb7-x"),
        Order::Query,
        &[record(FILE, "qmaster down: qstat -xml")]
    )));
}

#[test]
fn the_accounting_shows_how_a_job_ended() {
    let sge = named("gridengine");
    for (tag, title, state, nodes) in [
        ("okjob", "qacct of finished ok job", State::Ended(End::Completed), "sgehost"),
        ("fromstdin", "qacct of stdin job exit 3", State::Ended(End::Failed), "sgehost"),
        ("baddir", "qacct of Eqw job", State::Ended(End::Failed), "sgehost"),
        ("long", "qacct of the two deleted jobs", State::Ended(End::Failed), "sgehost"),
    ] {
        let row = row(result_of(&mut queries(&sge, tag), Order::Query, &[empty(), record(FILE, title)]));
        assert_eq!((sge.state(&row.state), row.nodes.as_str()), (state, nodes), "{title}");
    }
    let row = row(result_of(
        &mut queries(&sge, "baddir"),
        Order::Query,
        &[empty(), record(FILE, "qacct of Eqw job")],
    ));
    assert_eq!((row.state.as_str(), row.reason.as_str()), ("NOT STARTED", "opening input/output file"));
    let mut over = record(FILE, "qacct of finished ok job");
    over.out = over
        .out
        .replace("failed       0", "failed       37  : qmaster enforced h_rt, h_cpu, or h_vmem limit");
    let row = super::row(result_of(&mut queries(&sge, "okjob"), Order::Query, &[empty(), over]));
    assert_eq!(sge.state(&row.state), State::Ended(End::TimedOut));
}

#[test]
fn a_command_that_this_host_does_not_have_is_no_reason_to_wait_for_ever() {
    let sge = named("gridengine");
    let mut queries = queries(&sge, "nb7-x");
    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    let queue = queries.result(Order::Query, &empty());
    assert_eq!(queries.finish_query(Order::Query, queue), None);
    let accounting = queries.not_started(Order::Query, &["qacct".to_owned()], &missing);
    assert_eq!(queries.finish_query(Order::Query, accounting), Some(CommandResult::Absent));
    let queue = queries.not_started(Order::Query, &["qstat".to_owned()], &missing);
    assert!(is_unclear(&queries.finish_query(Order::Query, queue).expect("an answer")));
}

#[test]
fn a_job_that_is_gone_needs_no_cancel() {
    let sge = named("gridengine");
    let queries = queries(&sge, "nb7-x");
    for title in ["qdel unknown", "second qdel while dr", "qdel running (no -notify: SIGKILL at once)"] {
        assert_eq!(queries.result(Order::Cancel, &record(FILE, title)), CommandResult::Done, "{title}");
    }
    assert_eq!(words(&queries, Order::Cancel, None), "qdel nb7-x");
    assert!(queries.command(Order::Signal, Some("9")).is_none());
}
