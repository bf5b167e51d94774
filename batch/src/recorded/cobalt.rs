//! Cobalt, by its manual pages.

use super::{CommandResult, End, Order, State, is_unclear, named, output, queries, result_of, row, words};

const QUEUED: &str = "JobID: 6\n    JobName   : nb7-x\n    User      : ann\n    WallTime  : 00:10:00\n    State     : queued\n    Location  : None\n";

#[test]
fn a_job_in_the_queue_is_read() {
    let cobalt = named("cobalt");
    let mut queries = queries(&cobalt, "nb7-x");
    assert_eq!(queries.result(Order::Submit, &output(0, "6\n", "")), CommandResult::Id("6".to_owned()));
    let row = row(result_of(&mut queries, Order::Query, &[output(0, QUEUED, "")]));
    assert_eq!(
        (row.id.as_str(), cobalt.state(&row.state), row.limit.as_str()),
        ("6", State::Pending, "00:10:00")
    );
    for other in [QUEUED.replace("ann", "bob"), QUEUED.replace("nb7-x", "nb8-x"), String::new()] {
        assert_eq!(
            result_of(&mut queries, Order::Query, &[output(0, &other, "")]),
            CommandResult::Absent,
            "{other}"
        );
    }
}

#[test]
fn a_tables_head_is_no_job_and_a_banner_says_nothing() {
    let cobalt = named("cobalt");
    let mut queries = queries(&cobalt, "nb7-x");
    for (order, out, absent) in [
        (Order::Query, "JobID  JobName  User\n=====================\n", true),
        (Order::Find, "\n", true),
        (Order::Query, "maintenance on Monday\n", false),
        (Order::Find, "JobID of yours are lost\nmaintenance on Monday\n", false),
    ] {
        let result = result_of(&mut queries, order, &[output(0, out, "")]);
        assert_eq!(result == CommandResult::Absent, absent, "{out}: {result:?}");
        assert!(absent || is_unclear(&result), "{out}");
    }
}

#[test]
fn its_own_log_shows_how_a_job_ended() {
    let cobalt = named("cobalt");
    assert!(cobalt.forgets);
    let mut queries = queries(&cobalt, "nb7-x");
    assert_eq!(words(&queries, Order::Accounting, Some("6")), "/bin/cat /s/cobaltlog");
    for (code, end) in [("0", End::Completed), ("7", End::Failed)] {
        let log = format!(
            "Mon submitted\nTue ann/6: task completed normally with an exit code of {code}; initiating job cleanup and removal\n"
        );
        let row = row(result_of(&mut queries, Order::Accounting, &[output(0, &log, "")]));
        assert_eq!((cobalt.state(&row.state), row.exit.as_str()), (State::Ended(end), code));
    }
    assert_eq!(
        result_of(&mut queries, Order::Accounting, &[output(0, "Mon submitted\n", "")]),
        CommandResult::Absent
    );
    let missing = output(1, "", "cat: /s/cobaltlog: No such file or directory");
    assert_eq!(result_of(&mut queries, Order::Accounting, &[missing]), CommandResult::Disabled);
}
