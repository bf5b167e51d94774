//! What the agent writes: that the stage has begun, and how it ended.
//!
//! Both files consist of lines `key value` and end with `end NONCE`, so that a truncated file does
//! not count. The nonce belongs to the submission: a record of another job, or one that a user
//! made, is not accepted by accident.

use std::collections::BTreeMap;

/// The stage has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Began {
    /// The scheduler's id of the job that the agent runs in; empty if it sets none.
    pub(crate) id: String,
    /// The nodes by the scheduler's names, or the node's own name if the scheduler does not report
    /// any.
    pub(crate) host: String,
    /// Seconds since the epoch by the node's clock.
    pub(crate) time: u64,
}

/// The stage has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// As a shell counts: 128 plus the signal number for a shell that a signal ended.
    pub(crate) code: i32,
    /// Whether the stage's script began at all, after the user's login profile.
    pub(crate) begun: bool,
    /// Whether it is known how the script ended; the container that it ran in may not have reported it.
    pub(crate) result: bool,
    /// Seconds since the epoch by the node's clock.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) host: String,
    /// The allocation's hosts, in the scheduler's notation.
    pub(crate) hosts: String,
    /// Bytes of standard output and standard error.
    pub(crate) bytes: [u64; 2],
    /// CPU time of all processes that ended, in milliseconds.
    pub(crate) cpu: Option<u64>,
    /// Peak memory of the job's control group, in bytes.
    pub(crate) memory: Option<u64>,
}

/// The agent found the marks of another one and ran nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) id: String,
    pub(crate) host: String,
}

fn fields<'a>(text: &'a str, nonce: &str) -> Option<BTreeMap<&'a str, &'a str>> {
    let (body, last) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    if last != format!("end {nonce}") {
        return None;
    }
    body.lines().map(|line| line.split_once(' ')).collect()
}

impl Began {
    /// `None` for anything but a whole file of this submission.
    pub(crate) fn parse(text: &str, nonce: &str) -> Option<Self> {
        let fields = fields(text, nonce)?;
        let get = |name| fields.get(name).copied();
        Some(Began {
            id: get("job")?.to_owned(),
            host: get("hosts").filter(|hosts| !hosts.is_empty()).or(get("host"))?.to_owned(),
            time: get("start")?.parse().ok()?,
        })
    }
}

impl Refused {
    /// `None` for anything but a whole file of this submission.
    pub(crate) fn parse(text: &str, nonce: &str) -> Option<Self> {
        let fields = fields(text, nonce)?;
        let get = |name| fields.get(name).copied();
        Some(Refused { id: get("job")?.to_owned(), host: get("host")?.to_owned() })
    }
}

impl Record {
    /// `None` for anything but a whole file of this submission.
    pub(crate) fn parse(text: &str, nonce: &str) -> Option<Self> {
        let fields = fields(text, nonce)?;
        let get = |name| fields.get(name).copied();
        Some(Record {
            code: get("code")?.parse().ok().filter(|code| (0..=255).contains(code))?,
            begun: get("begun")? == "yes",
            result: get("result")? == "yes",
            start: get("start")?.parse().ok()?,
            end: get("finish")?.parse().ok()?,
            host: get("host")?.to_owned(),
            hosts: get("hosts")?.to_owned(),
            bytes: [get("stdout")?.parse().ok()?, get("stderr")?.parse().ok()?],
            cpu: get("cpu").and_then(cpu),
            memory: get("memory").and_then(|bytes| bytes.parse().ok()),
        })
    }
}

/// User and system time as times(1p) prints them: `0m0.01s 1m2.5s`, here in milliseconds.
fn cpu(text: &str) -> Option<u64> {
    let one = |text: &str| -> Option<u64> {
        let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
        let (whole, fraction) = seconds.split_once(['.', ',']).unwrap_or((seconds, ""));
        let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
        Some(
            minutes.parse::<u64>().ok()? * 60_000
                + whole.parse::<u64>().ok()? * 1000
                + thousandths.parse::<u64>().ok()?,
        )
    };
    let (user, system) = text.split_once(' ')?;
    Some(one(user)? + one(system)?)
}

#[cfg(test)]
mod tests {
    use super::{Began, Record, cpu};

    const WHOLE: &str = "code 3\nbegun yes\nresult yes\nstart 10\nfinish 12\nhost n1\nhosts n[1-2]\nstdout 5\nstderr 0\n\
        cpu 0m1.5s 1m0.25s\nmemory \nend abc\n";

    #[test]
    fn a_whole_record_of_this_submission_is_read() {
        let record = Record::parse(WHOLE, "abc").expect("a record");
        assert_eq!((record.code, record.bytes, record.cpu, record.memory), (3, [5, 0], Some(61_750), None));
        assert!(record.begun);
    }

    #[test]
    fn a_part_of_a_record_and_one_of_another_submission_are_none() {
        for length in 0..WHOLE.len() {
            assert_eq!(Record::parse(&WHOLE[..length], "abc"), None, "{length}");
        }
        assert_eq!(Record::parse(WHOLE, "abd"), None);
        assert_eq!(Record::parse(&WHOLE.replace("code 3", "code 256"), "abc"), None);
        assert_eq!(Record::parse(&WHOLE.replace("code 3", "code -1"), "abc"), None);
    }

    #[test]
    fn a_job_runs_where_the_scheduler_says() {
        let began = |text: &str| Began::parse(text, "abc").map(|began| began.host);
        let expected = Some("n[1-2]".to_owned());
        assert_eq!(began("job 7\nhost vm\nhosts n[1-2]\nstart 10\nend abc\n"), expected);
        assert_eq!(began("job 7\nhost vm\nhosts \nstart 10\nend abc\n"), Some("vm".to_owned()));
    }

    #[test]
    fn times_of_all_shells_are_read() {
        assert_eq!(cpu("0m0.000000s 0m0.010000s"), Some(10));
        assert_eq!(cpu("2m3.4s 0m0,05s"), Some(123_450));
        assert_eq!(cpu("0:00"), None);
    }
}
