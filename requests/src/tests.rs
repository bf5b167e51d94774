use crate::{
    Confine, Counted, Launch, MAX_REPLY, MAX_REQUEST, Privileges, RefusedBy, Reply, Request, Slot, Stage,
    StageEnd, StageKind, Start, Status, Task, Tidying,
};
use nunbird_accounts::shadow::Expiry;
use nunbird_accounts::users::{GroupEntry, UserEntry};
use nunbird_host::{Destination, End, Fetch, OwnFile, PersonFile, Report, Said, Turn, Unfetched, Validate};
use nunbird_messages::{
    ExitCodes, Group, Isolation, JobDirectory, ProcessLimits, Runner, RunnerProcess, Version,
};
use nunbird_wire::Message;
use std::fmt::Debug;
use std::time::Duration;

fn words() -> Vec<std::ffi::CString> {
    vec![c"a".to_owned(), c"".to_owned()]
}

fn refused() -> RefusedBy {
    RefusedBy {
        denied: true,
        code: "rule".to_owned(),
        message: "no".to_owned(),
        detail: "Ä".to_owned(),
        help: String::new(),
    }
}

fn group() -> Group {
    Group { limits: "l".to_owned(), is_runners: true, owner: 0, job_id: 1, decision: 2, bytes: vec![1] }
}

fn launch() -> Launch {
    Launch { message: b"{}".to_vec(), environment: words(), submits: true }
}

fn ends() -> [StageEnd; 2] {
    let end = StageEnd {
        end: Status::Exited(-1),
        duration_ms: 5,
        summary: None,
        counted: Some(Counted {
            described: b"d".to_vec(),
            before: Vec::new(),
            now: vec![b"c".to_vec(), Vec::new()],
        }),
    };
    [StageEnd { end: Status::Killed(9), summary: Some(vec![0; 256]), counted: None, ..end.clone() }, end]
}

fn requests() -> Vec<Request> {
    let fetch = Fetch {
        directory: "/k".into(),
        writes: true,
        program: "/p".into(),
        argv: words(),
        input: Some(vec![0, 255]),
        limit: 7,
        patience: Duration::from_millis(1500),
    };
    let validate = Validate {
        script: "/s".into(),
        sha256: Some("ab".to_owned()),
        user: "u".to_owned(),
        argv: words(),
        environment: words(),
        seconds: 3,
    };
    let places = vec![
        Destination::File("/a.jsonl".into()),
        Destination::Tcp("[::1]:5".parse().expect("an address")),
        Destination::Udp("127.0.0.1:6".parse().expect("an address")),
    ];
    vec![
        Request::Account("a".to_owned()),
        Request::Group("g".to_owned()),
        Request::File("/f".into()),
        Request::KeysFile("/k".into(), "s.json".to_owned()),
        Request::Fetch(fetch.clone()),
        Request::Fetch(Fetch { input: None, ..fetch }),
        Request::Validate(validate),
        Request::Expiry("a".to_owned()),
        Request::Person("s:a".to_owned()),
        Request::RememberPerson("s:a".to_owned(), b"line\n".to_vec()),
        Request::OwnFile("a".to_owned(), ".x".into(), 9),
        Request::Nologin,
        Request::Variable("V".to_owned()),
        Request::Places(places),
        Request::Places(vec![Destination::Journal, Destination::Syslog]),
        Request::Event(2, true, b"{}\n".to_vec()),
        Request::Turn("/a".into()),
        Request::Trace(b"line".to_vec()),
        Request::Slot(Slot { server: "s".to_owned(), job_id: u64::MAX, account: "a".to_owned() }),
        Request::Confine(Confine {
            name: "l".to_owned(),
            processes: ProcessLimits { nice: Some(3), ..ProcessLimits::default() },
            order: b"order".to_vec(),
            job_id: 1,
            runner_id: 2,
            account: "a".to_owned(),
        }),
        Request::Admit(b"{}".to_vec()),
        Request::Launch(launch()),
        Request::Finish,
        Request::Tidy(Tidying {
            account: "a".to_owned(),
            launcher: "/l".into(),
            isolation: Isolation { limit_setuid: true, ..Isolation::default() },
            launch: launch(),
        }),
        Request::Tidied,
        Request::Refuse(false),
        Request::Deny(refused()),
    ]
}

fn replies() -> Vec<Reply> {
    let account = UserEntry {
        name: "a".to_owned(),
        uid: 1,
        gid: 2,
        groups: vec![2, 3],
        home: "/h".into(),
        shell: "/s".into(),
        name_of_uid: None,
    };
    let report = |end| Reply::Report(Report { uid: 1, said: Said { output: vec![1], errors: vec![2], end } });
    let own = |file| Reply::OwnFile(file);
    vec![
        Reply::Trouble("why".to_owned()),
        Reply::Refused(refused()),
        Reply::Done,
        Reply::Truth(true),
        Reply::Number(9),
        Reply::Bytes(vec![0]),
        Reply::Text(None),
        Reply::Text(Some("t".to_owned())),
        Reply::Texts(vec![None, Some("t".to_owned())]),
        Reply::Account(None),
        Reply::Account(Some(account)),
        Reply::Group(Some(GroupEntry { gid: 5, members: vec!["m".to_owned()] })),
        Reply::Fetched(Ok(vec![1])),
        Reply::Fetched(Err(Unfetched { possible: true, why: "w".to_owned() })),
        report(End::Exited(-1)),
        report(End::Killed(9)),
        report(End::Late),
        report(End::TooLong),
        report(End::Failed("f".to_owned())),
        Reply::Expiry(Expiry::Unknown),
        Reply::Person(Some(PersonFile { path: "/p".into(), bytes: vec![1] })),
        own(OwnFile::Missing),
        own(OwnFile::Doubted(nunbird_host::Doubt::Size)),
        own(OwnFile::Content(vec![3])),
        Reply::Turn(Turn::Write(4)),
        Reply::Turn(Turn::LeaveOut),
        Reply::Confined(Ok(group())),
        Reply::Confined(Err("why".to_owned())),
    ]
    .into_iter()
    .chain(ends().map(|end| Reply::Ended(Box::new(end))))
    .collect()
}

fn starts() -> Vec<Start> {
    let start = Start {
        version: Version,
        task: Task::Config,
        refused: None,
        privileges: Privileges::FileCapabilities,
        inert: true,
        caller: 4001,
        decision_id: "d".to_owned(),
        unobfuscated: true,
        files: vec!["/c".into(), "/d".into()],
        boot_id: "b".to_owned(),
        now: (1, 2),
        job_directory: Some(JobDirectory { path: "/j".into(), device: 3, inode: 4 }),
        runner: Some(Runner { pid_namespace: 5, processes: vec![RunnerProcess { pid: 6, start: 7 }] }),
    };
    let other =
        Start { task: Task::Tidy("a".to_owned()), job_directory: None, runner: None, ..start.clone() };
    let stage = |kind| Stage {
        kind,
        body: b"{}".to_vec(),
        exit_codes: ExitCodes::default(),
        exit_code_file: true,
        script: true,
        used: Some(Counted { described: vec![1], before: vec![vec![2]], now: vec![Vec::new()] }),
    };
    let kinds = [
        StageKind::Prepare,
        StageKind::Run("build_script".to_owned()),
        StageKind::Cleanup,
        StageKind::CleanupOfSucceeded,
    ];
    let of_stage =
        |kind| Start { task: Task::Stage(Box::new(stage(kind))), refused: Some(refused()), ..other.clone() };
    kinds.map(of_stage).into_iter().chain([start, other.clone()]).collect()
}

/// Read as it was written, and nothing else is: neither a part, nor more, nor another first byte.
fn exact<M: Message + PartialEq + Debug>(messages: &[M]) {
    for message in messages {
        let bytes = message.to_bytes();
        assert!(bytes.len() < MAX_REPLY);
        assert_eq!(M::from_bytes(&bytes).as_ref(), Ok(message));
        for end in 0..bytes.len() {
            assert!(M::from_bytes(&bytes[..end]).is_err(), "{message:?} cut at {end}");
        }
        assert!(M::from_bytes(&[bytes.as_slice(), b"x"].concat()).is_err(), "{message:?} and more");
        assert!(M::from_bytes(&[&[0xee], &bytes[1..]].concat()).is_err(), "{message:?} of another kind");
    }
}

#[test]
fn every_message_is_read_as_it_was_written_and_nothing_else_is_one() {
    exact(&requests());
    exact(&replies());
    exact(&starts());
}

#[test]
fn each_kind_has_a_number_of_its_own() {
    let first = |bytes: Vec<u8>| bytes[0];
    let mut kinds: Vec<u8> = requests().iter().map(|request| first(request.to_bytes())).collect();
    kinds.dedup();
    kinds.sort_unstable();
    assert_eq!(kinds, (1..=25).collect::<Vec<u8>>());
}

#[test]
fn a_keys_file_and_a_servers_answer_fit_into_a_reply_and_a_record_into_a_request() {
    // Of host/src/keys.rs, decide and handover.
    let [keys, answer, record] = [1 << 20, 2 << 20, 64 << 10];
    assert!(Reply::Bytes(vec![0; keys]).to_bytes().len() < MAX_REPLY);
    assert!(Reply::Fetched(Ok(vec![0; answer])).to_bytes().len() < MAX_REPLY);
    assert!(Request::Admit(vec![0; record]).to_bytes().len() < MAX_REQUEST);
}

#[test]
fn each_source_of_privilege_allows_what_it_can_do() {
    let [root, setuid, capabilities, none] =
        [Privileges::Root, Privileges::Setuid, Privileges::FileCapabilities, Privileges::None];
    let names = [root, setuid, capabilities, none].map(Privileges::name);
    assert_eq!(names, ["root", "setuid", "file-capabilities", "none"]);
    assert_eq!([root, setuid, capabilities, none].map(Privileges::is_privileged), [true, true, true, false]);
    let opens_sessions = [root, setuid, capabilities, none].map(|source| source.check_pam().is_ok());
    assert_eq!(opens_sessions, [true, true, false, false]);
    assert!(capabilities.check_pam().is_err_and(|why| why.contains("from: ")));
}
