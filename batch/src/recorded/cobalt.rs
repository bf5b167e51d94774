//! Cobalt, by its manual pages.

use super::{Answer, End, Order, State, asking, is_unclear, named, row, said, told, words};

const QUEUED: &str = "JobID: 6\n    JobName   : nb7-x\n    User      : ann\n    WallTime  : 00:10:00\n    State     : queued\n    Location  : None\n";

#[test]
fn a_job_in_the_queue_is_read() {
    let cobalt = named("cobalt");
    let mut asking = asking(&cobalt, "nb7-x");
    assert_eq!(asking.answer(Order::Submit, &said(0, "6\n", "")), Answer::Id("6".to_owned()));
    let row = row(told(&mut asking, Order::Query, &[said(0, QUEUED, "")]));
    assert_eq!(
        (row.id.as_str(), cobalt.state(&row.state), row.limit.as_str()),
        ("6", State::Pending, "00:10:00")
    );
    for other in [QUEUED.replace("ann", "bob"), QUEUED.replace("nb7-x", "nb8-x"), String::new()] {
        assert_eq!(told(&mut asking, Order::Query, &[said(0, &other, "")]), Answer::Absent, "{other}");
    }
}

#[test]
fn a_tables_head_is_no_job_and_a_banner_says_nothing() {
    let cobalt = named("cobalt");
    let mut asking = asking(&cobalt, "nb7-x");
    for (order, out, absent) in [
        (Order::Query, "JobID  JobName  User\n=====================\n", true),
        (Order::Find, "\n", true),
        (Order::Query, "maintenance on Monday\n", false),
        (Order::Find, "JobID of yours are lost\nmaintenance on Monday\n", false),
    ] {
        let answer = told(&mut asking, order, &[said(0, out, "")]);
        assert_eq!(answer == Answer::Absent, absent, "{out}: {answer:?}");
        assert!(absent || is_unclear(&answer), "{out}");
    }
}

#[test]
fn its_own_log_tells_how_a_job_ended() {
    let cobalt = named("cobalt");
    assert!(cobalt.forgets);
    let mut asking = asking(&cobalt, "nb7-x");
    assert_eq!(words(&asking, Order::Accounting, Some("6")), "/bin/cat /s/cobaltlog");
    for (code, end) in [("0", End::Completed), ("7", End::Failed)] {
        let log = format!(
            "Mon submitted\nTue ann/6: task completed normally with an exit code of {code}; initiating job cleanup and removal\n"
        );
        let row = row(told(&mut asking, Order::Accounting, &[said(0, &log, "")]));
        assert_eq!((cobalt.state(&row.state), row.exit.as_str()), (State::Ended(end), code));
    }
    assert_eq!(told(&mut asking, Order::Accounting, &[said(0, "Mon submitted\n", "")]), Answer::Absent);
    let missing = said(1, "", "cat: /s/cobaltlog: No such file or directory");
    assert_eq!(told(&mut asking, Order::Accounting, &[missing]), Answer::Disabled);
}
