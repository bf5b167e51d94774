//! HTCondor 23.9.6.

use super::{
    CommandOutput, CommandResult, End, Order, State, is_unclear, named, output, queries, record, result_of,
    row, words,
};

const FILE: &str = include_str!("../../tests/fixtures/schedulers/htcondor.txt");

/// The job of this cluster, from a record without owner and name, with both added.
fn of(title: &str, cluster: u32) -> CommandOutput {
    let mut output = record(FILE, title);
    let id = format!("\"ClusterId\": {cluster},");
    assert!(output.out.contains(&id), "{title}: {cluster}");
    output.out = output.out.replace(&id, &format!("{id} \"Owner\": \"ann\", \"JobBatchName\": \"nb7-x\","));
    output
}

#[test]
fn a_submission_is_accepted_rejected_or_unclear() {
    let condor = named("htcondor");
    let queries = queries(&condor, "nb7-x");
    let submit = |output: &CommandOutput| queries.result(Order::Submit, output);
    assert_eq!(submit(&record(FILE, "success -terse")), CommandResult::Id("2".to_owned()));
    assert!(matches!(submit(&record(FILE, "missing executable")), CommandResult::Rejected(_)));
    assert!(matches!(submit(&record(FILE, "bad request_memory")), CommandResult::Rejected(_)));
    let down = record(FILE, "schedd SIGKILLed (master restarts it after ~10 s)");
    assert!(is_unclear(&submit(&output(1, "", &down.err))));
    let input = queries.command(Order::Submit, None).expect("a command").input.expect("a description");
    for line in ["batch_name = nb7-x", "initialdir = /s", "output = /s/log", "max_retries = 0", "queue 1"] {
        assert!(input.lines().any(|found| found == line), "{line}: {input}");
    }
    assert_eq!(queries.time_limit(5400), ["allowed_execute_duration=5400"]);
}

#[test]
fn the_queue_shows_states_and_why_a_job_is_held() {
    let condor = named("htcondor");
    for (cluster, expected) in [
        (11, State::Pending),
        // Held by the user.
        (12, State::Held),
        // Held by HTCondor; the submission asks for removal in that case.
        (13, State::Ending),
        (5, State::Ending),
    ] {
        let row = row(result_of(
            &mut queries(&condor, "nb7-x"),
            Order::Query,
            &[of("condor_q -json -attributes", cluster)],
        ));
        assert_eq!((condor.state(&row.state), row.id), (expected, cluster.to_string()), "{cluster}");
    }
}

#[test]
fn the_history_shows_how_a_job_ended() {
    let condor = named("htcondor");
    // An empty result is empty output.
    let gone = || output(0, "", "");
    for (cluster, expected) in [
        (30, End::Completed),
        (31, End::Failed),
        // By a signal.
        (32, End::Failed),
        // By its own `periodic_remove`, which removes a job of ours that was put back into the
        // queue.
        (35, End::Preempted),
    ] {
        let steps = [gone(), of("condor_history: JSON of all", cluster)];
        let row = row(result_of(&mut queries(&condor, "nb7-x"), Order::Query, &steps));
        assert_eq!(condor.state(&row.state), State::Ended(expected), "{cluster}");
    }
    let memory = "Error from slot1_4@localhost: memory usage exceeded request_memory";
    for (hold, reason, starts, expected, word) in [
        (47, "", 1, End::TimedOut, "OVER TIME"),
        (3, "", 1, End::TimedOut, "OVER TIME"),
        (34, "", 1, End::OutOfMemory, "OVER MEMORY"),
        // The site's policies, by metaknob and by SYSTEM_PERIODIC_HOLD.
        (21, memory, 1, End::OutOfMemory, "OVER MEMORY"),
        (26, "Memory of the job is above 4 GB", 1, End::OutOfMemory, "OVER MEMORY"),
        (21, "disk usage exceeded request_disk", 1, End::Failed, "HELD AND REMOVED"),
        (6, "Error: No such file or directory", 1, End::Failed, "HELD AND REMOVED"),
        (6, "Error: No such file or directory", 0, End::Failed, "NOT STARTED"),
        (1, "", 1, End::Cancelled, "REMOVED"),
    ] {
        let mut steps = [gone(), of("condor_history: JSON of all", 35)];
        let ad = format!(
            "\"LastHoldReasonCode\": {hold}, \"LastHoldReason\": \"{reason}\", \"NumJobStarts\": {starts}, \
             \"AllowedExecuteDuration\": 90, \"Owner\""
        );
        steps[1].out = steps[1].out.replacen("\"Owner\"", &ad, 1);
        let row = row(result_of(&mut queries(&condor, "nb7-x"), Order::Query, &steps));
        assert_eq!(condor.state(&row.state), State::Ended(expected), "{hold} {reason}");
        assert_eq!((row.state.as_str(), row.limit.as_str()), (word, "0-00:01:30"), "{hold} {reason}");
    }
    assert_eq!(
        result_of(&mut queries(&condor, "nb7-x"), Order::Query, &[gone(), output(0, "[\n]\n", "")]),
        CommandResult::Absent
    );
}

#[test]
fn jobs_without_our_owner_and_name_are_not_ours() {
    let condor = named("htcondor");
    let queue = record(FILE, "condor_q -json -attributes");
    assert_eq!(
        result_of(&mut queries(&condor, "nb7-x"), Order::Query, &[queue, output(0, "[\n]\n", "")]),
        CommandResult::Absent
    );
}

#[test]
fn a_cancel_that_may_not_have_been_heard_is_repeated() {
    let condor = named("htcondor");
    let queries = queries(&condor, "nb7-x");
    // The same words are printed if the queue is unreachable: only the queue shows that the job is
    // gone.
    let refused = output(1, "", "Couldn't find/remove all jobs in cluster 99");
    assert!(is_unclear(&queries.result(Order::Cancel, &refused)));
    assert_eq!(words(&queries, Order::Cancel, None), "condor_rm -constraint JobBatchName == \"nb7-x\"");
}
