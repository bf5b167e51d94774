use crate::{
    Account, Circumstances, Claim, Claims, Container, End, Event, Given, Job, Outcome, ProviderIdentity,
    Script, Used, destinations, encode,
};
use nunbird_files::directory::Directory;
use nunbird_files::identity::Caller;
use nunbird_handover::{Audit, BatchEnd, RuleRef, Summary, Syslog};
use nunbird_host::unverified::{Turn, turn};
use nunbird_host::{Places, Rights, Sockets};
use nunbird_sys::kernel::{Kernel, Linux};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a hostile project, login and rule look like: every way to end a line or a field.
const HOSTILE: &str = "a/b\nNUNBIRD_UID=0\r\n<0>1 - \u{0}\u{1b}[2J\u{202e}\u{9b}\u{2028}\"}\\";

/// A provider whose name is a whole field for journald; its value's length is then a line feed, which ends the entry.
const PROVIDER: &str = "x=1";

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new("/var/tmp").join(format!("nbt_audit_{}_{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn socket(&self, name: &str) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.0.join(name)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn open(&self, audit: &Audit) -> Sinks {
        let (journal, log) = (self.path("journal"), self.path("log"));
        let sockets = Sockets { journal: Path::new(&journal), log: Path::new(&log) };
        let places = Places::open_at(&destinations(audit), rights(), sockets);
        Sinks { sinks: crate::Sinks::new(audit, places.closed()), places }
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.0.join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn rights() -> Rights {
    let ([uid, ..], [gid, ..]) = (Linux.uids().unwrap(), Linux.gids().unwrap());
    let caller = Caller { uid, gid };
    Rights { privileged: false, can_change_user: false, keeper: caller, caller, reads_shadow: false }
}

/// The places of events, open, as `nunbird-auth` has them for the decider.
struct Sinks {
    sinks: crate::Sinks,
    places: Places,
}

impl Sinks {
    fn write(&self, event: &Event<'_>, durably: bool) -> Result<(), String> {
        self.sinks.write(event, durably, |place, bytes, durably| self.places.send(place, bytes, durably))
    }
}

/// An event with nothing but what every one has.
fn event<'a>(script: &'a Script) -> Event<'a> {
    let call = Circumstances {
        decision_id: "0123456789abcdef0123456789abcdef",
        stage: "run",
        script: Some(script),
        usage: None,
        runner_uid: 4001,
        privilege: "setuid",
    };
    Event::of(&call, None, Outcome::Denied)
}

fn script() -> Script {
    Script { name: "build_script".to_owned(), digest: "e3b0".to_owned() }
}

const GROUPS: &[String] = &[String::new()];

/// An event with every field there is, and its texts chosen by somebody hostile.
fn full<'a>(script: &'a Script, rule: &'a RuleRef) -> Event<'a> {
    Event {
        end: Some(End { exit_code: Some(1), signal: Some(9), duration_ms: 1234, batch: Some(batch()) }),
        usage: Some(Used {
            cpu_time: Some(1),
            memory_peak: Some(2),
            pids_peak: Some(3),
            read: Some(4),
            written: Some(5),
            oom_kills: Some(6),
            throttled: Some(7),
            forks_refused: Some(8),
        }),
        queued_s: Some(9),
        job_s: Some(10),
        given: Some(Given { limits: HOSTILE, memory: Some(11), cpu: Some(12), pids: Some(13) }),
        code: Some("no-rule"),
        detail: Some("first\nsecond"),
        job: Some(Job {
            server: "main",
            job_id: 7001,
            pipeline_id: 501,
            project_id: 31,
            project_path: HOSTILE,
            user_login: HOSTILE,
            user_id: 210,
            identity_source: "id_token",
            claims: Some(Claims(vec![
                ("ref", Claim::Text(HOSTILE)),
                ("namespace_path", Claim::Text(HOSTILE)),
                ("ref_type", Claim::Text("branch")),
                ("ref_protected", Claim::Flag(true)),
                ("pipeline_source", Claim::Text("push")),
                ("fork", Claim::Flag(true)),
                ("environment", Claim::Text(HOSTILE)),
                ("environment_protected", Claim::Flag(false)),
                ("runner_id", Claim::Number(12)),
                ("user_email", Claim::Text(HOSTILE)),
                ("user_access_level", Claim::Text("developer")),
                ("groups_direct", Claim::Texts(GROUPS)),
                (
                    "user_identities",
                    Claim::Identities(vec![
                        ProviderIdentity { provider: "ldap", extern_uid: HOSTILE },
                        ProviderIdentity { provider: PROVIDER, extern_uid: "ten bytes!" },
                    ]),
                ),
                ("validated", Claim::Text(HOSTILE)),
            ])),
        }),
        account: Some(Account { name: "alice", uid: 4101 }),
        executor: Some("slurm"),
        container: Some(Container { name: "images", engine: "podman", image: Some("docker.io/library/a:1") }),
        image_rule: Some("default_image"),
        rule: Some(rule),
        policy_digest: Some("abcd"),
        left_out: Some(412),
        claims_left_out: true,
        not_written: Some("tcp://192.0.2.1:601: connection refused".to_owned()),
        ..event(script)
    }
}

fn batch() -> Summary {
    let scheduler_id = Some("7.server".to_owned());
    Summary {
        end: BatchEnd::TimedOut,
        queued_s: Some(3),
        ran_s: None,
        scheduler_id,
        cpu_ms: Some(2500),
        memory_peak: None,
    }
}

fn rule() -> RuleRef {
    RuleRef { name: HOSTILE.to_owned(), file: "/etc/nunbird/config.toml".into(), line: 12 }
}

fn write(sinks: &Sinks) -> Result<(), String> {
    sinks.write(&full(&script(), &rule()), true)
}

/// Reads journald's native protocol as its specification has it, both forms.
fn parse_journal(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|b| *b == b'\n').expect("a line feed");
        let (line, rest) = (std::str::from_utf8(&bytes[..end]).unwrap(), &bytes[end + 1..]);
        let (name, value, rest) = match line.split_once('=') {
            Some((name, value)) => (name, value.to_owned(), rest),
            None => {
                let length = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
                assert_eq!(rest[8 + length], b'\n');
                let value = std::str::from_utf8(&rest[8..8 + length]).unwrap().to_owned();
                (line, value, &rest[9 + length..])
            }
        };
        assert!(fields.insert(name.to_owned(), value).is_none(), "{name} twice");
        bytes = rest;
    }
    fields
}

fn assert_harmless(text: &str) {
    let bad: Vec<char> = text.chars().filter(|c| nunbird_handover::Untrusted::is_deceptive(*c)).collect();
    assert!(bad.is_empty(), "{bad:?} in {text}");
}

fn received(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let n = socket.recv(&mut buffer).unwrap();
    buffer.truncate(n);
    buffer
}

#[test]
fn hostile_texts_end_no_line_and_no_field_in_any_sink() {
    let scratch = Scratch::new("hostile");
    let (journal, log) = (scratch.socket("journal"), scratch.socket("log"));
    let audit = Audit {
        file: Some(scratch.path("audit.jsonl").into()),
        journald: true,
        syslog: Some(Syslog::Local),
        required: true,
    };
    write(&scratch.open(&audit)).unwrap();

    let text = fs::read_to_string(scratch.0.join("audit.jsonl")).unwrap();
    let line = text.strip_suffix('\n').expect("a whole line");
    assert_harmless(line);
    let value: Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["project_path"], HOSTILE, "the file has the exact text");
    assert_eq!(value["rule"]["name"], HOSTILE);

    let fields = parse_journal(&received(&journal));
    assert_eq!(fields["NUNBIRD_UID"], "4101");
    assert_eq!(fields["NUNBIRD_DECISION_ID"], "0123456789abcdef0123456789abcdef");
    assert_eq!(fields["NUNBIRD_RULE_LINE"], "12");
    assert_eq!((&*fields["NUNBIRD_BATCH_END"], &*fields["NUNBIRD_BATCH_QUEUED_S"]), ("timed_out", "3"));
    assert_eq!(fields["NUNBIRD_DETAIL"], "first\nsecond");
    assert_eq!((fields["PRIORITY"].as_str(), fields["SYSLOG_IDENTIFIER"].as_str()), ("4", "nunbird-auth"));
    let identities: Value = serde_json::from_str(&fields["NUNBIRD_USER_IDENTITIES"]).unwrap();
    assert_eq!(identities[1], serde_json::json!({ "provider": PROVIDER, "extern_uid": "ten bytes!" }));
    for (name, value) in &fields {
        assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert_harmless(&value.replace('\n', ""));
        assert!(!value.contains('\n') || name == "NUNBIRD_DETAIL", "{name}: {value}");
    }
    assert!(fields["MESSAGE"].contains("denied in run: [no-rule] first"), "{}", fields["MESSAGE"]);

    let datagram = String::from_utf8(received(&log)).unwrap();
    assert_harmless(&datagram);
    let head = format!("<84>nunbird-auth[{}]: @cee: {{\"message\":\"job 7001 of ", std::process::id());
    assert!(datagram.starts_with(&head), "{datagram}");
    let value: Value = serde_json::from_str(datagram.split_once("@cee: ").unwrap().1).unwrap();
    assert_eq!((&value["uid"], &value["user_login"]), (&4101.into(), &HOSTILE.into()));
}

#[test]
fn every_field_is_in_the_documentation_and_nothing_else_is() {
    let documented: BTreeSet<&str> = include_str!("../../docs/audit.md")
        .lines()
        .skip_while(|line| *line != "| field | type | in | meaning |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('`').nth(1).unwrap())
        .collect();
    let written = encode::json_line(&full(&script(), &rule())).unwrap();
    let value: Value = serde_json::from_slice(&written).unwrap();
    let written: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(written, documented);
}

#[test]
fn a_remote_daemon_gets_rfc_5424_by_datagram_and_counted_octets_by_stream() {
    let scratch = Scratch::new("remote");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let to = |syslog| Audit { syslog: Some(syslog), required: true, ..Audit::default() };
    write(&scratch.open(&to(Syslog::Udp(udp.local_addr().unwrap())))).unwrap();
    let stream_sinks = scratch.open(&to(Syslog::Tcp(tcp.local_addr().unwrap())));
    write(&stream_sinks).unwrap();

    let mut buffer = vec![0; 65536];
    let n = udp.recv(&mut buffer).unwrap();
    let datagram = String::from_utf8(buffer[..n].to_vec()).unwrap();
    let mut received = String::new();
    tcp.accept().unwrap().0.read_to_string(&mut received).unwrap();
    let (count, streamed) = received.split_once(' ').unwrap();
    assert_eq!(count.parse::<usize>().unwrap(), streamed.len());
    for message in [datagram.as_str(), streamed] {
        assert_harmless(message);
        let words: Vec<&str> = message.splitn(8, ' ').collect();
        let [priority, time, host, program, pid, kind, data, body] = words[..] else { panic!("{message}") };
        assert_eq!((priority, program, kind, data), ("<84>1", "nunbird-auth", "denied", "-"));
        assert!(time.len() == 20 && time.ends_with('Z') && !host.is_empty(), "{message}");
        assert_eq!(pid, std::process::id().to_string());
        let value: Value = serde_json::from_str(body.strip_prefix("@cee: ").unwrap()).unwrap();
        assert_eq!(value["job_id"], 7001);
    }
}

#[test]
fn a_place_that_does_not_have_an_event_is_named_and_the_others_say_so() {
    let scratch = Scratch::new("down");
    let free = |kind: &str| match kind {
        "udp" => UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        _ => TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
    };
    let file = Some(scratch.path("audit.jsonl").into());
    let all = [
        (Audit { journald: true, ..Audit::default() }, "journal: No such file"),
        (Audit { syslog: Some(Syslog::Local), ..Audit::default() }, "log: No such file"),
        (Audit { syslog: Some(Syslog::Udp(free("udp"))), ..Audit::default() }, "udp://127.0.0.1"),
        (Audit { syslog: Some(Syslog::Tcp(free("tcp"))), ..Audit::default() }, "tcp://127.0.0.1"),
    ];
    for (audit, why) in all {
        let audit = Audit { file: file.clone(), required: true, ..audit };
        let refused = write(&scratch.open(&audit)).unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
        let line = scratch.lines().pop().expect("the file has it");
        assert!(line["not_written"].as_str().unwrap().contains(why), "{line}");
    }
}

#[test]
fn a_daemon_that_starts_anew_gets_the_next_event_and_one_that_hangs_is_not_waited_for() {
    let scratch = Scratch::new("anew");
    let audit = Audit { journald: true, ..Audit::default() };
    let first = scratch.socket("journal");
    let sinks = scratch.open(&audit);
    write(&sinks).unwrap();
    received(&first);
    drop(first);
    fs::remove_file(scratch.0.join("journal")).unwrap();
    assert!(write(&sinks).unwrap_err().contains("journal: "));
    let second = scratch.socket("journal");
    write(&sinks).unwrap();
    assert!(parse_journal(&received(&second)).contains_key("MESSAGE"));
    // Nobody reads: the queue of a datagram socket is short (net.unix.max_dgram_qlen).
    let refused = (0..10_000).find_map(|_| write(&sinks).err()).expect("a full queue");
    assert!(refused.contains("journal: "), "{refused}");
}

#[test]
fn a_file_that_was_removed_while_it_was_open_is_not_written_in_silence() {
    let scratch = Scratch::new("removed");
    let audit = Audit { file: Some(scratch.path("audit.jsonl").into()), ..Audit::default() };
    let sinks = scratch.open(&audit);
    write(&sinks).unwrap();
    fs::rename(scratch.0.join("audit.jsonl"), scratch.0.join("audit.jsonl-1")).unwrap();
    write(&sinks).unwrap();
    fs::rename(scratch.0.join("audit.jsonl-1"), scratch.0.join("audit.jsonl")).unwrap();
    assert_eq!(scratch.lines().len(), 2, "a file that is rotated away has the lines that were begun with it");
    fs::remove_file(scratch.0.join("audit.jsonl")).unwrap();
    assert!(write(&sinks).is_err());
}

/// Texts of any characters, most of them such that their escaped form is the longest.
fn text() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        Just('\u{e0001}'),
        Just('\u{0}'),
        Just('\u{7f}'),
        Just('\n'),
        Just('"'),
        Just('\\'),
        Just('\u{202e}'),
        Just('x'),
        Just('é'),
        any::<char>()
    ];
    (one, 0_usize..3000, any::<String>()).prop_map(|(c, n, any)| c.to_string().repeat(n) + &any)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn an_event_is_bounded_in_every_form_whatever_is_in_it(
        texts in vec(text(), 4),
        groups in vec(text(), 0..4),
        many in 0_usize..1500,
    ) {
        let groups = [groups, vec![texts[0].chars().take(9).collect(); many]].concat();
        let rule = RuleRef { name: texts[1].clone(), file: texts[2].clone().into(), line: u32::MAX };
        {
            let script = script();
            let event = full(&script, &rule);
            let [a, b, c, d] = [0, 1, 2, 3].map(|n| texts[n].as_str());
            let identities = groups.iter().map(|g| ProviderIdentity { provider: a, extern_uid: g }).collect();
            let claims = Claims(vec![
                ("ref", Claim::Text(a)), ("namespace_path", Claim::Text(b)), ("ref_type", Claim::Text(c)),
                ("pipeline_source", Claim::Text(d)), ("environment", Claim::Text(a)), ("user_email", Claim::Text(b)),
                ("user_access_level", Claim::Text(c)), ("groups_direct", Claim::Texts(&groups)),
                ("validated", Claim::Text(d)), ("user_identities", Claim::Identities(identities)),
            ]);
            let job = Job { server: a, project_path: b, user_login: c, identity_source: d, claims: Some(claims), ..event.job.clone().unwrap() };
            let event = Event {
                detail: Some(a), code: Some(b), job: Some(job), account: Some(Account { name: d, uid: u32::MAX }), executor: Some(a), container: Some(Container { name: a, engine: b, image: Some(c) }), image_rule: Some(d),
                policy_digest: Some(b), not_written: Some(c.to_owned()), claims_left_out: false, ..event
            };
            let line = encode::json_line(&event).unwrap();
            for form in [&line, &encode::journal(&event).unwrap(), &encode::syslog_local(&event).unwrap(), &encode::syslog_5424(&event).unwrap()] {
                assert!(form.len() <= encode::MAX_EVENT, "{}", form.len());
            }
            let value: Value = serde_json::from_slice(&line).unwrap();
            let text = std::str::from_utf8(&line).unwrap();
            assert_harmless(text.strip_suffix('\n').unwrap());
            for (field, exact) in [("detail", a), ("project_path", b), ("user_login", c), ("account", d)] {
                let (written, cut) = (value[field].as_str().unwrap(), value[field].as_str().unwrap().strip_suffix("[...]"));
                assert!(written == exact || cut.is_some_and(|begin| exact.starts_with(begin)), "{field}");
            }
            assert_eq!(value["claims_left_out"] == true, value["ref"].is_null());
        }
    }
}

#[test]
fn a_text_is_cut_where_it_would_be_too_long_when_it_is_escaped() {
    let written = |detail: &str| {
        let line = encode::json_line(&Event { detail: Some(detail), ..event(&script()) }).unwrap();
        let value: Value = serde_json::from_slice(&line).unwrap();
        value["detail"].as_str().unwrap().to_owned()
    };
    let fits = "\u{e0001}".repeat((encode::MAX_LONG_TEXT - 5) / 12);
    assert_eq!(written(&fits), fits);
    assert_eq!(written(&(fits.clone() + "\u{e0001}")), fits.clone() + "[...]");
    assert_eq!(written(&(fits.clone() + "\u{e0001}\nx")), fits + "[...]", "nothing follows what was cut");
}

#[test]
fn a_minute_has_sixty_refusals_of_a_runner_and_a_later_one_counts_the_others() {
    let scratch = Scratch::new("turns");
    let directory = Directory::new(fs::File::open(&scratch.0).unwrap().into());
    let turns = |runner, now, n: usize| -> Vec<Turn> {
        (0..n).map(|_| turn(&directory, runner, now).unwrap()).collect()
    };
    let written = |turns: &[Turn]| turns.iter().filter(|turn| **turn != Turn::LeaveOut).count();
    assert_eq!(written(&turns(7, 6000, 100)), 60);
    assert_eq!(turns(7, 6059, 1), [Turn::LeaveOut]);
    assert_eq!(turns(8, 6059, 1), [Turn::Write(0)], "another runner account");
    // Several at once are each counted once.
    let at_once: usize = std::thread::scope(|threads| {
        let each: Vec<_> = (0..8).map(|_| threads.spawn(|| written(&turns(9, 6000, 50)))).collect();
        each.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(at_once, 60);
    assert_eq!(turns(9, 6060, 2), [Turn::Write(340), Turn::Write(0)]);
    assert_eq!(turns(7, 9999, 2), [Turn::Write(41), Turn::Write(0)]);
    let mut left: Vec<String> = directory.text_names().unwrap();
    left.retain(|name| name.starts_with('.'));
    left.sort();
    assert_eq!(left, [".unverified-7-166", ".unverified-8-100", ".unverified-9-101"]);
}
