//! OpenLava 2.2, and IBM's LSF 10.1 by its documentation.

use super::{
    CommandOutput, CommandResult, End, Order, State, is_unclear, named, output, queries, record, result_of,
    row, words,
};

const FILE: &str = include_str!("../../tests/fixtures/schedulers/lsf.txt");

/// bjobs without `-o` and `-json`.
fn old() -> CommandOutput {
    output(255, "", &record(FILE, "bjobs -o / -json / -noheader (IBM LSF >= 9.1.3/10.1 only)").err)
}

fn json(records: &str) -> CommandOutput {
    output(0, &format!("{{\"COMMAND\":\"bjobs\",\"JOBS\":1,\"RECORDS\":[{records}]}}"), "")
}

fn job(state: &str, exit_reason: &str, pend_reason: &str) -> CommandOutput {
    json(&format!(
        r#"{{"JOBID":"9","USER":"ann","STAT":"{state}","EXIT_CODE":"","EXIT_REASON":"{exit_reason}","PEND_REASON":"{pend_reason}","EXEC_HOST":"n1","JOB_NAME":"nb7-x"}}"#
    ))
}

#[test]
fn a_submission_is_accepted_rejected_or_unclear() {
    let lsf = named("lsf");
    let queries = queries(&lsf, "nb7-x");
    let submit = |output: &CommandOutput| queries.result(Order::Submit, output);
    let accepted = record(FILE, "success: script on stdin (#BSUB lines are read only from stdin)");
    assert_eq!(submit(&accepted), CommandResult::Id("1".to_owned()));
    assert!(matches!(submit(&record(FILE, "bad queue")), CommandResult::Rejected(_)));
    assert!(matches!(submit(&record(FILE, "too long for the queue")), CommandResult::Rejected(_)));
    assert!(is_unclear(&submit(&output(255, "", "LSF is down. Please wait ..."))));
    let call = queries.command(Order::Submit, None).expect("a command");
    assert_eq!(call.words.join(" "), "bsub -q x -J nb7-x -rn -oo /s/log");
    assert_eq!(call.input.as_deref(), Some("#!/bin/sh\nexec /bin/sh '/s/a b'\n"));
    assert_eq!(queries.time_limit(5400), ["-W", "90"]);
}

#[test]
fn a_bsub_without_rn_gets_the_command_without_it_once() {
    let lsf = named("lsf");
    let mut queries = queries(&lsf, "nb7-x");
    let refused = record(FILE, "bsub -rn (IBM LSF >= 10.1 only)");
    let mut submit = |output: &CommandOutput| {
        let result = queries.result(Order::Submit, output);
        (queries.finish_query(Order::Submit, result), words(&queries, Order::Submit, None))
    };
    assert_eq!(submit(&refused), (None, "bsub -q x -J nb7-x -o /s/log".to_owned()));
    // Refused in this form as well: the user reads why.
    let (result, next) = submit(&refused);
    assert!(
        matches!(result, Some(CommandResult::Rejected(text)) if text.contains("option cannot have an argument"))
    );
    assert_eq!(next, "bsub -q x -J nb7-x -rn -oo /s/log");
}

#[test]
fn json_shows_the_state_and_why_a_job_ended() {
    let lsf = named("lsf");
    for (state, why, expected) in [
        ("PEND", "", State::Pending),
        ("PSUSP", "", State::Held),
        ("RUN", "", State::Running),
        ("SSUSP", "-", State::Suspended),
        ("DONE", "", State::Ended(End::Completed)),
        ("EXIT", "", State::Ended(End::Failed)),
        ("EXIT", "TERM_RUNLIMIT: job killed after reaching LSF run time limit", State::Ended(End::TimedOut)),
        (
            "EXIT",
            "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit",
            State::Ended(End::OutOfMemory),
        ),
        ("EXIT", "TERM_OWNER: job killed by owner", State::Ended(End::Cancelled)),
        ("EXIT", "TERM_FORCE_ADMIN: job killed by root", State::Ended(End::Cancelled)),
        ("EXIT", "TERM_UNKNOWN: unknown reason", State::Ended(End::Failed)),
        ("UNKWN", "", State::Unknown),
        ("ZOMBI", "", State::Unknown),
    ] {
        let row = row(result_of(&mut queries(&lsf, "nb7-x"), Order::Query, &[job(state, why, "")]));
        assert_eq!(lsf.state(&row.state), expected, "{state} {why}");
    }
    let row = row(result_of(
        &mut queries(&lsf, "nb7-x"),
        Order::Query,
        &[job("PEND", "", "Job slot limit reached;")],
    ));
    assert_eq!((row.id.as_str(), row.reason.as_str()), ("9", "Job slot limit reached;"));
}

#[test]
fn another_users_job_and_an_unknown_one_are_not_ours() {
    let lsf = named("lsf");
    for records in [
        r#"{"JOBID":"9","ERROR":"Job <9> is not found"}"#,
        r#"{"JOBID":"9","USER":"bob","STAT":"RUN","JOB_NAME":"nb7-x"}"#,
        r#"{"JOBID":"9","USER":"ann","STAT":"RUN","JOB_NAME":"nb8-x"}"#,
        "",
    ] {
        let steps = [json(records), record(FILE, "bjobs unknown")];
        assert_eq!(
            result_of(&mut queries(&lsf, "nb7-x"), Order::Query, &steps),
            CommandResult::Absent,
            "{records}"
        );
    }
}

#[test]
fn where_there_is_no_json_the_table_is_read() {
    let lsf = named("lsf");
    let row = row(result_of(&mut queries(&lsf, "lg"), Order::Query, &[old(), record(FILE, "bjobs -w")]));
    assert_eq!((row.id.as_str(), row.state.as_str(), row.nodes.as_str()), ("23", "RUN", "lavahost"));
    for (name, state) in [("./ec.sh 7", End::Failed), ("badout", End::Completed), ("held", End::Cancelled)] {
        let row = super::row(result_of(
            &mut queries(&lsf, name),
            Order::Query,
            &[old(), record(FILE, "bjobs -d finished")],
        ));
        assert_eq!(lsf.state(&row.state), State::Ended(state), "{name}");
    }
    assert_eq!(
        result_of(&mut queries(&lsf, "lg"), Order::Query, &[old(), record(FILE, "bjobs unknown")]),
        CommandResult::Absent
    );
}

#[test]
fn the_event_log_knows_what_the_queue_forgot() {
    let lsf = named("lsf");
    let mut record = record(FILE, "bhist -l");
    // The recorded job has no name.
    record.out = record.out.replace("Job <4>, User", "Job <4>, Job Name <nb7-x>, User");
    let row = row(result_of(&mut queries(&lsf, "nb7-x"), Order::Accounting, &[record]));
    assert_eq!((row.id.as_str(), row.state.as_str(), row.exit.as_str()), ("4", "EXIT", "3"));
    let unknown = super::record(FILE, "bhist unknown");
    assert_eq!(result_of(&mut queries(&lsf, "nb7-x"), Order::Accounting, &[unknown]), CommandResult::Absent);
}

#[test]
fn a_job_that_is_gone_needs_no_cancel() {
    let lsf = named("lsf");
    let queries = queries(&lsf, "nb7-x");
    let finished = record(FILE, "bkill finished / unknown / bad").err;
    assert_eq!(queries.result(Order::Cancel, &output(255, "", &finished)), CommandResult::Done);
    assert_eq!(words(&queries, Order::Cancel, None), "bkill -J nb7-x 0");
}
