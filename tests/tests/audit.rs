//! Events of whole jobs, in every privilege mode and with every destination.

use nunbird_tests::records;
use nunbird_tests::runner::Session;
use nunbird_tests::world::enter::{Mount, Spec};
use nunbird_tests::{Daemons, Exit, Privilege, World, needs};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

fn outcomes(audit: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    audit.iter().map(|line| (text(&line["outcome"]), text(&line["stage"]))).collect()
}

/// Changes the destinations of an admitted job's events.
fn redirect(world: &World, audit: &Value) {
    let audit = serde_json::from_value(audit.clone()).expect("places of events");
    records::change_spec(&world.records().pop().expect("a record"), |spec| spec.audit = audit);
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_leaves_its_admission_and_the_start_and_the_end_of_each_stage_in_every_mode(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job().script("exit 7").after_script("true");
    let outcome = job.run();
    let audit = world.audit();
    let (first, stages) = audit.split_first().expect("events");
    let file = std::fs::metadata(world.host_path(&world.paths().audit)).expect("the audit file");
    let mode = std::os::unix::fs::MetadataExt::mode(&file) & 0o7777;
    assert_eq!(mode, 0o640, "{privilege:?}: as logrotate makes the next one");
    assert_eq!((&first["outcome"], &first["ref"]), (&json!("admitted"), &json!("main")));
    assert_eq!(first["identity_source"], "id_token");
    let pairs: Vec<_> = stages.chunks(2).collect();
    let called: Vec<&str> = outcome.names().into_iter().filter(|name| *name != "config").collect();
    assert_eq!(pairs.len(), called.len(), "{privilege:?}: {:?} {called:?}", outcomes(stages));
    for (pair, name) in pairs.iter().zip(called) {
        let [start, end] = pair else { panic!("{privilege:?}: {:?}", outcomes(stages)) };
        assert_eq!(start["outcome"], "stage-started", "{privilege:?} {name}");
        assert_eq!(end["outcome"], "stage-ended", "{privilege:?} {name}");
        for event in [start, end] {
            let shown = if event["stage"] == "run" { &event["script"] } else { &event["stage"] };
            assert_eq!(shown, name, "{privilege:?}");
            for field in
                ["decision_id", "job_id", "pipeline_id", "project_id", "user_id", "policy_digest", "rule"]
            {
                assert_eq!(event[field], first[field], "{privilege:?} {name} {field}");
                assert!(!event[field].is_null(), "{privilege:?} {name} {field}");
            }
            assert_eq!((&event["account"], &event["uid"]), (&json!("alice"), &json!(4101)));
            assert_eq!(event["privilege"], privilege.audit_name());
        }
        let code = if name == "build_script" { 1 } else { 0 };
        assert_eq!(end["exit_code"], code, "{privilege:?} {name}");
        assert!(end["duration_ms"].is_u64() && end["signal"].is_null(), "{end}");
        assert_eq!(start["script_sha256"], end["script_sha256"]);
    }
}

#[needs(root)]
fn the_start_of_a_stage_names_the_bytes_that_are_run() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.prepared();
    // Longer than what is copied at once, and its own file is overwritten while it runs.
    let padding = "#".repeat(200_000);
    let own = session.directory().join("script1000001/script");
    let script = format!("echo first\nwhile [ ! -e ~/enough ]; do sleep 0.05; done\n{padding}\necho last\n");
    let outcome = std::thread::scope(|scope| {
        let stage = scope.spawn(|| session.run_text("build_script", &script));
        while !world.audit().iter().any(|line| line["script"] == "build_script") {
            std::thread::sleep(Duration::from_millis(2));
        }
        fs::write(&own, "echo another\n").expect("a script");
        world.write_file("/home/alice/enough", "", "alice", 0o600);
        stage.join().expect("a stage")
    });
    assert_eq!(outcome.stdout, "first\nlast\n", "{}", outcome.log);
    let expected = sha256sum(&world, &script);
    let audit = world.audit();
    let hashes: Vec<&Value> =
        audit.iter().filter(|line| line["script"] == "build_script").map(|l| &l["script_sha256"]).collect();
    assert_eq!(hashes, [&json!(expected), &json!(expected)]);
}

fn sha256sum(world: &World, text: &str) -> String {
    world.write_file("/tmp/text", text, "root", 0o644);
    let finished = world.shell("root", "sha256sum < /tmp/text");
    finished.success().split(' ').next().expect("a digest").to_owned()
}

#[needs(root, in_each = Privilege::ALL)]
fn a_launcher_that_is_killed_has_an_end_with_its_signal(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.prepared();
    let outcome = session.run_text("build_script", "kill -KILL $PPID; sleep 60");
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    let end = world.audit().pop().expect("an event");
    assert_eq!((&end["outcome"], &end["signal"]), (&json!("stage-ended"), &json!(9)), "{privilege:?}");
    assert!(end["exit_code"].is_null(), "{end}");
}

fn received(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let n = socket.recv(&mut buffer).expect("a datagram");
    buffer.truncate(n);
    buffer
}

/// A field of journald's native protocol in its form with a length.
fn field(datagram: &[u8], name: &str) -> String {
    let start = [b"\n", name.as_bytes(), b"\n"].concat();
    let at = datagram.windows(start.len()).position(|window| window == start).expect("a field");
    let rest = &datagram[at + start.len()..];
    let length = u64::from_le_bytes(rest[..8].try_into().expect("a length"));
    String::from_utf8_lossy(&rest[8..8 + usize::try_from(length).expect("a length")]).into_owned()
}

fn spec_of(session: &Session<'_>, stage: &str) -> Spec {
    let mut spec = session.spec_of_config();
    spec.arguments = vec![stage.into()];
    spec
}

#[needs(root, in_each = Privilege::ALL)]
fn journald_and_the_local_syslog_daemon_get_start_and_end_in_every_mode(privilege: Privilege) {
    let world = ready(privilege);
    let daemons = Daemons::start(&world);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    redirect(&world, &json!({ "file": null, "journald": true, "syslog": "local", "required": true }));
    for stage in ["prepare", "cleanup"] {
        let spec = spec_of(&session, stage);
        let outcome = daemons.call("prepare", &mut session, spec);
        assert!(outcome.succeeded(), "{privilege:?}: {}", outcome.log);
        for expected in ["stage-started", "stage-ended"] {
            let datagram = received(&daemons.journal);
            assert_eq!(field(&datagram, "NUNBIRD_OUTCOME"), expected, "{privilege:?}");
            assert_eq!(field(&datagram, "NUNBIRD_STAGE"), stage);
            assert_eq!(field(&datagram, "SYSLOG_IDENTIFIER"), "nunbird-auth");
            assert_eq!(field(&datagram, "NUNBIRD_DECISION_ID").len(), 32);
            let line = String::from_utf8(received(&daemons.log)).expect("text");
            assert!(line.starts_with("<86>nunbird-auth["), "{line}");
            let body = line.split_once("@cee: ").expect("a mark").1;
            let value: Value = serde_json::from_str(body).expect("JSON");
            assert_eq!((&value["outcome"], &value["stage"]), (&json!(expected), &json!(stage)));
        }
    }
}

#[needs(root)]
fn a_syslog_daemon_on_another_host_gets_start_and_end_by_datagram_and_by_stream() {
    let world = ready(Privilege::FileCaps);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    udp.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let (by_datagram, by_stream) = (udp.local_addr().expect("a port"), tcp.local_addr().expect("a port"));
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let place =
        |syslog: Value| json!({ "file": null, "journald": false, "syslog": syslog, "required": true });
    redirect(&world, &place(json!({ "udp": by_datagram })));
    assert!(session.prepare().succeeded());
    let mut buffer = vec![0; 65536];
    for expected in ["stage-started", "stage-ended"] {
        let n = udp.recv(&mut buffer).expect("a datagram");
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        assert!(text.starts_with("<86>1 ") && text.contains(&format!(" {expected} - @cee: ")), "{text}");
    }
    redirect(&world, &place(json!({ "tcp": by_stream })));
    let outcome = session.run_text("build_script", "true");
    assert!(outcome.succeeded(), "{}", outcome.log);
    for expected in ["stage-started", "stage-ended"] {
        let mut text = String::new();
        tcp.accept().expect("a connection").0.read_to_string(&mut text).expect("text");
        let (count, message) = text.split_once(' ').expect("a count");
        assert_eq!(count, message.len().to_string());
        assert!(message.contains(&format!(" {expected} - @cee: ")), "{message}");
    }
}

#[needs(root, in_each = Privilege::ALL)]
fn a_stage_whose_start_cannot_be_written_does_not_run_but_cleanup_does(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.prepared();
    let file = world.paths().audit.clone();
    redirect(&world, &json!({ "file": file, "journald": true, "syslog": null, "required": true }));
    let nothing = world.root().join("nothing");
    fs::create_dir(&nothing).expect("a directory");
    let without_journal = |mut spec: Spec| {
        let mount = Mount::Bind { source: nothing.clone(), target: "/run".into() };
        spec.mounts.as_mut().expect("a namespace").push(mount);
        spec
    };
    let script = session.directory().join("script");
    session.write(&script, b"echo run''ning", 0o700);
    let spec = without_journal(session.spec_of_run(&script, "build_script"));
    let outcome = session.call_spec("build_script", &spec);
    assert_eq!(outcome.exit, Exit::Code(2), "{privilege:?}: {}", outcome.log);
    assert!(outcome.stderr.contains("[audit]") && !outcome.log.contains("running"), "{}", outcome.log);
    assert!(
        !outcome.log.contains("/run/systemd"),
        "the site's places are not the CI user's: {}",
        outcome.log
    );
    let denied = world.audit().pop().expect("the file has it");
    assert_eq!(denied["code"], "audit");
    assert!(denied["not_written"].as_str().expect("a place").contains("/run/systemd/journal/socket"));
    let spec = without_journal(spec_of(&session, "cleanup"));
    let outcome = session.call_spec("cleanup", &spec);
    assert!(outcome.succeeded() && outcome.stderr.contains("warning"), "{privilege:?}: {}", outcome.log);
    assert!(world.records().is_empty());
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn the_end_of_a_stage_that_cannot_be_written_is_reported(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.prepared();
    let audit = world.host_path(&world.paths().audit);
    let outcome = std::thread::scope(|scope| {
        let stage =
            scope.spawn(|| session.run_text("build_script", "while [ ! -e ~/enough ]; do sleep 0.05; done"));
        while world.audit().last().expect("an event")["script"] != "build_script" {
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::remove_file(&audit).expect("removed");
        world.write_file("/home/alice/enough", "", "alice", 0o600);
        stage.join().expect("a stage")
    });
    assert!(outcome.succeeded(), "what was done is done: {}", outcome.log);
    assert!(outcome.stderr.contains("could not be written down"), "{}", outcome.stderr);
    let id = session_decision(&world);
    assert!(outcome.stderr.contains(&id), "{}", outcome.stderr);
}

fn session_decision(world: &World) -> String {
    records::read(&world.records().pop().expect("a record")).decision_id
}

#[needs(root)]
fn no_token_and_no_variables_value_is_in_any_event_of_a_job() {
    let world = ready(Privilege::Setuid);
    let job =
        world.job().variable("PASSPHRASE", "nbt-swordfish").script("echo $PASSPHRASE").after_script("false");
    let outcome = job.run();
    assert!(outcome.log().contains("nbt-swordfish"));
    let text = fs::read_to_string(world.host_path(&world.paths().audit)).expect("the audit file");
    for secret in ["nbt-swordfish", "eyJ", "glcbt-", "PASSPHRASE", "SITE_ID_TOKEN"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}
