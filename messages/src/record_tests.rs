use super::{AccountIds, JobDirectory, Now, Record};
use crate::{
    Claim, Envelope, FORMAT_VERSION, FormatError, Group, Isolation, Keep, MachineOrder, Pam, ProcessLimits,
    Runner, RunnerProcess, SessionSpan,
};
use nunbird_wire::Message;
use nunbird_wire::Version;
use std::path::Path;

const BOOT: &str = "5d1f0e2c-7f0e-4a9d-8f4e-0123456789ab";
const DECISION: &str = "0123456789abcdef0123456789abcdef";

fn record() -> Record {
    Record {
        version: Version,
        closed: false,
        decision_id: DECISION.to_owned(),
        job_id: 7001,
        server: "main".to_owned(),
        runner_uid: 4001,
        runner: Some(Runner { pid_namespace: 1, processes: vec![RunnerProcess { pid: 2, start: 3 }] }),
        job_directory: JobDirectory { path: "/tmp/custom-executor1".into(), device: 0x1f, inode: 0xabc },
        boot_id: BOOT.to_owned(),
        expires_at: 10_000,
        expires_at_boottime: 5_000,
        slot: 7,
        account: AccountIds { name: "alice".to_owned(), uid: 4101, gid: 4101 },
        policy_path: "/etc/nunbird/config.toml".into(),
        launcher: "/opt/nunbird/bin/nunbird".into(),
        builds_dir: "/b".into(),
        own_directory: None,
        isolation: Isolation { limit_setuid: true, ..Isolation::default() },
        pam: Some(Pam {
            service: "nunbird".to_owned(),
            timeout: 1,
            environment: Vec::new(),
            session: SessionSpan::Job,
        }),
        processes: ProcessLimits { nice: Some(1), ..ProcessLimits::default() },
        group: Some(Group {
            limits: "l".to_owned(),
            is_runners: true,
            owner: 4001,
            job_id: 7001,
            decision: 1,
            bytes: vec![1],
        }),
        machine: Some(MachineOrder { ready: 30, bytes: vec![2] }),
        scheduler: true,
        body: b"{}".to_vec(),
    }
}

fn at(epoch: u64, boottime: u64) -> Now {
    Now { epoch, boottime, boot_id: BOOT.to_owned() }
}

#[test]
fn a_record_is_read_as_it_was_written_and_no_other_version_is() {
    let bytes = record().to_bytes();
    assert_eq!(Record::parse(&bytes), Ok(record()));
    for end in 0..bytes.len() {
        assert_eq!(Record::parse(&bytes[..end]), Err(FormatError::Malformed), "cut at {end}");
    }
    let other = [&(FORMAT_VERSION + 1).to_le_bytes(), &bytes[4..]].concat();
    assert_eq!(Record::parse(&other), Err(FormatError::Version));
    assert_eq!(bytes[..4], FORMAT_VERSION.to_le_bytes());
}

#[test]
fn a_stage_runs_in_time_on_both_clocks_in_the_same_boot_and_before_clean_up() {
    let record = record();
    assert!(record.is_live(&at(9_999, 4_999)));
    for late in [at(10_000, 4_999), at(10_001, 4_999), at(9_999, 5_000), at(9_999, 5_001), at(10_000, 5_000)]
    {
        assert!(!record.is_live(&late), "{late:?}");
    }
    let other = Now { boot_id: "another".to_owned(), ..at(0, 0) };
    assert!(!record.is_live(&other));
    assert!(!Record { closed: true, ..record }.is_live(&at(0, 0)));
}

#[test]
fn a_job_is_over_an_hour_after_its_time_on_either_clock_or_after_a_restart() {
    let record = record();
    assert!(!record.is_over(&at(13_599, 8_599)));
    for over in [at(13_600, 0), at(0, 8_600), at(20_000, 20_000)] {
        assert!(record.is_over(&over), "{over:?}");
    }
    let other = Now { boot_id: "another".to_owned(), ..at(0, 0) };
    assert!(record.is_over(&other) && !record.holds_slot(&other) && !record.is_of_boot(&other));
    assert!(record.holds_slot(&at(20_000, 20_000)), "its processes may run");
    let forever = Record { expires_at: u64::MAX, expires_at_boottime: u64::MAX, ..record };
    assert!(!forever.is_over(&at(u64::MAX - 1, 0)));
}

#[test]
fn a_record_is_abandoned_when_it_was_set_aside_and_its_clean_up_has_begun() {
    let aside = Record::set_aside(DECISION);
    assert_eq!(aside, "orphan-0123456789abcdef0123456789abcdef.record");
    let closed = Record { closed: true, ..record() };
    assert!(closed.is_abandoned(&aside));
    assert!(!closed.is_abandoned("4001-1f-abc.record"));
    assert!(!record().is_abandoned(&aside));
}

#[test]
fn names_of_files_are_made_of_numbers_alone() {
    assert_eq!(Record::name(4001, &record().job_directory), "4001-1f-abc.record");
    assert_eq!(Record::lock(4001), ".lock-4001");
    assert_eq!(Claim::name_for(&record()), format!("{BOOT}-4101-007.slot"));
    assert_eq!(Claim::name(BOOT, 4101, 1000), format!("{BOOT}-4101-1000.slot"));
    let socket = Keep::socket(Path::new("/var/lib/nunbird/jobs"), DECISION);
    assert_eq!(socket, Path::new("/var/lib/nunbird/jobs/0123456789abcdef0123456789abcdef.session"));
}

#[test]
fn the_largest_record_and_claim_are_those_that_the_documentation_names() {
    assert_eq!((Record::MOST, Claim::MOST), (65_536, 4096));
}

#[test]
fn a_claim_is_read_as_it_was_written() {
    let claim = Claim {
        version: Version,
        decision_id: DECISION.to_owned(),
        runner_uid: 4001,
        server: "main".to_owned(),
        job_id: 7001,
    };
    let bytes = claim.to_bytes();
    assert_eq!(Claim::parse(&bytes), Ok(claim));
    assert_eq!(Claim::parse(&bytes[1..]), Err(FormatError::Version));
    assert_eq!(Claim::parse(b"x"), Err(FormatError::Malformed));
}

#[test]
fn a_message_without_additions_is_an_envelope_with_the_message_alone() {
    let bytes = Envelope::plain(b"{}".to_vec());
    let read = FormatError::read::<Envelope>(&bytes).expect("an envelope");
    assert_eq!((read.message.as_slice(), read.session), (b"{}".as_slice(), None));
}
