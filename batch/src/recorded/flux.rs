//! flux-core 0.88.

use super::{
    CommandResult, End, Order, State, is_unclear, named, output, queries, record, result_of, row, words,
};

const FILE: &str = include_str!("../../tests/fixtures/schedulers/flux.txt");

/// A line in the format of the description, made of values that were recorded in another format.
fn line(status: &str, urgency: &str, exception: &str, note: &str) -> String {
    let severity = if exception.is_empty() { "" } else { "0" };
    format!("fBqbkVD|1002|{status}|{urgency}|0|{severity}|{exception}|n1|300.0|nb7-x|{note}\n")
}

#[test]
fn ids_of_both_spellings_are_accepted_and_failures_distinguished() {
    let flux = named("flux");
    let queries = queries(&flux, "nb7-x");
    let submit = |title: &str| queries.result(Order::Submit, &record(FILE, title));
    assert!(matches!(submit("flux batch success"), CommandResult::Id(id) if id.starts_with('ƒ')));
    assert!(matches!(submit("flux batch ASCII id"), CommandResult::Id(id) if id.starts_with('f')));
    assert!(matches!(submit("bad queue"), CommandResult::Rejected(_)));
    assert!(is_unclear(&submit("outside of an instance (no FLUX_URI)")));
    assert_eq!(flux.submit.size, ["--nslots=1"]);
    assert_eq!(queries.time_limit(5400), ["--time-limit=90m"]);
}

#[test]
fn the_format_reaches_flux_as_it_is_written() {
    let flux = named("flux");
    let command = words(&queries(&flux, "nb7-x"), Order::Query, Some("fBqbkVD"));
    assert!(command.starts_with("flux jobs -n -o {id.f58}|{userid}|{status}|"), "{command}");
    assert!(command.ends_with("|{name}|{exception.note} fBqbkVD"), "{command}");
}

#[test]
fn states_and_exceptions_show_how_a_job_stands_and_ended() {
    let flux = named("flux");
    for (line, expected) in [
        (line("SCHED", "16", "", ""), State::Pending),
        (line("DEPEND", "16", "", ""), State::Pending),
        (line("SCHED", "0", "", ""), State::Held),
        (line("RUN", "16", "", ""), State::Running),
        (line("CLEANUP", "16", "cancel", ""), State::Ending),
        (line("COMPLETED", "16", "", ""), State::Ended(End::Completed)),
        (line("FAILED", "16", "", ""), State::Ended(End::Failed)),
        (line("FAILED", "16", "exec", "shell_init: No such file or directory"), State::Ended(End::Failed)),
        (line("FAILED", "16", "exec", "node failure on fluxhost (rank 2)"), State::Ended(End::NodeFail)),
        (
            line(
                "FAILED",
                "16",
                "alloc",
                "unsatisfiable request: need 1000 exclusive node(s), only 4 eligible",
            ),
            State::Ended(End::Infeasible),
        ),
        (line("FAILED", "16", "dependency", "dependency afterok failed"), State::Ended(End::Infeasible)),
        (line("FAILED", "16", "prolog", "prolog exited with exit code=1"), State::Ended(End::Failed)),
        // By `flux job raise`, whose severities above 0 do not end the job.
        (line("FAILED", "16", "foo", "because I can"), State::Ended(End::Cancelled)),
        (line("FAILED", "16", "foo", "").replace("|0|foo|", "|7|foo|"), State::Ended(End::Failed)),
        (line("CANCELED", "0", "cancel", "ci says stop"), State::Ended(End::Cancelled)),
        (line("TIMEOUT", "16", "timeout", "resource allocation expired"), State::Ended(End::TimedOut)),
        (line("NEW", "16", "", ""), State::Unknown),
    ] {
        let row = row(result_of(&mut queries(&flux, "nb7-x"), Order::Query, &[output(0, &line, "")]));
        assert_eq!(flux.state(&row.state), expected, "{line}");
        // As `flux batch` printed it, and as users write times.
        assert_eq!((row.id.as_str(), row.limit.as_str()), ("fBqbkVD", "0-00:05:00"));
    }
}

#[test]
fn other_peoples_lines_and_names_that_look_like_ours_are_not_ours() {
    let flux = named("flux");
    let other = line("RUN", "16", "", "");
    for other in [
        other.replace("|1002|", "|1003|"),
        other.replace("nb7-x", "nb8-x"),
        other.replace("nb7-x", "x|nb7-x"),
        String::new(),
    ] {
        assert_eq!(
            result_of(&mut queries(&flux, "nb7-x"), Order::Find, &[output(0, &other, "")]),
            CommandResult::Absent,
            "{other}"
        );
    }
    let unknown = record(FILE, "flux jobs unknown id");
    assert_eq!(result_of(&mut queries(&flux, "nb7-x"), Order::Query, &[unknown]), CommandResult::Absent);
}

#[test]
fn a_job_that_is_gone_needs_no_cancel() {
    let flux = named("flux");
    let queries = queries(&flux, "nb7-x");
    for title in ["flux cancel inactive", "flux cancel unknown"] {
        assert_eq!(queries.result(Order::Cancel, &record(FILE, title)), CommandResult::Done, "{title}");
    }
    assert!(is_unclear(
        &queries.result(Order::Cancel, &record(FILE, "outside of an instance (no FLUX_URI)"))
    ));
}
