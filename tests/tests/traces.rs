//! Refusals without an event, and how many of those that any caller can cause are written.

use nunbird_tests::world::enter::{Mount, Spec};
use nunbird_tests::{Daemons, Exit, Privilege, Session, StageOutcome, World, needs};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The largest line of the audit file (docs/audit.md).
const MOST_BYTES: usize = 32 << 10;

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

/// The decision id in the job log.
fn decision(outcome: &StageOutcome) -> String {
    let id = outcome.stderr.lines().find_map(|line| line.split_once("decision: "));
    id.unwrap_or_else(|| panic!("no decision: {}", outcome.log)).1.trim().to_owned()
}

fn traced(daemons: &Daemons) -> String {
    let mut buffer = vec![0; 65536];
    let n = daemons.log.recv(&mut buffer).expect("a line of syslog");
    String::from_utf8(buffer[..n].to_vec()).expect("text")
}

/// The line that the syslog daemon got names code and decision of the refusal.
fn assert_traced(daemons: &Daemons, outcome: &StageOutcome, code: &str) {
    assert!(outcome.stderr.contains(&format!("[{code}]")), "{}", outcome.log);
    let (line, id) = (traced(daemons), decision(outcome));
    assert_eq!(id.len(), 32, "{id}");
    assert!(line.starts_with("<84>nunbird-auth["), "{line}");
    assert!(line.contains(&format!(": [{code}] ")) && line.ends_with(&format!(" [{id}]")), "{line}");
    assert!(line.len() <= 2048 && !line.contains(char::is_control), "{line}");
}

fn without_new_privileges(mut spec: Spec) -> Spec {
    spec.no_new_privileges = true;
    spec
}

#[needs(root)]
fn a_refusal_without_privilege_leaves_its_decision_in_syslog() {
    for privilege in Privilege::OF_FILE {
        let world = ready(privilege);
        let daemons = Daemons::start(&world);
        let job = world.job();
        let mut session = job.begin();
        let spec = without_new_privileges(session.spec_of_config());
        let outcome = daemons.call("config", &mut session, spec);
        assert_traced(&daemons, &outcome, "privilege");
        assert!(world.audit().is_empty(), "without privilege nothing is written to root's file");
    }
    // Before the privilege is known.
    let world = ready(Privilege::RootRunner);
    let daemons = Daemons::start(&world);
    let job = world.job();
    let mut session = job.begin();
    let mut spec = session.spec_of_config();
    let program = std::mem::replace(&mut spec.program, "setpriv".into());
    let words = ["--securebits", "+noroot"].map(OsString::from);
    spec.arguments.splice(0..0, words.into_iter().chain([program]));
    let outcome = daemons.call("config", &mut session, spec);
    assert_traced(&daemons, &outcome, "privilege");
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_refusal_that_the_audit_file_cannot_take_leaves_its_decision_in_syslog(privilege: Privilege) {
    let world = ready(privilege);
    let daemons = Daemons::start(&world);
    let full = |mut spec: Spec| {
        let mount = Mount::Full { target: "/var/log/nunbird".into() };
        spec.mounts.as_mut().expect("a namespace").push(mount);
        spec
    };
    let job = world.job();
    let mut session = job.begin();
    let spec = full(session.spec_of_config());
    let outcome = daemons.call("config", &mut session, spec);
    assert_traced(&daemons, &outcome, "audit");
    // Without a token, where counting is impossible too.
    let job = world.job().without_token();
    let mut session = job.begin();
    let spec = full(session.spec_of_config());
    let outcome = daemons.call("config", &mut session, spec);
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    let (line, id) = (traced(&daemons), decision(&outcome));
    assert!(line.ends_with(&format!(" [{id}]")), "{line}");
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_later_stage_of_no_job_leaves_its_decision_in_syslog_once_a_second_at_most(privilege: Privilege) {
    let world = ready(privilege);
    let daemons = Daemons::start(&world);
    let job = world.job();
    let mut session = job.begin();
    let spec = session.spec_of_prepare();
    let outcome = daemons.call("prepare", &mut session, spec);
    assert_traced(&daemons, &outcome, "no-record");
    assert!(world.audit().is_empty(), "{:?}", world.audit());
    count_ahead(&world, 55);
    daemons.log.set_nonblocking(true).expect("a socket");
    let mut lines = 0;
    for _ in 0..CALLS {
        let spec = session.spec_of_prepare();
        assert_eq!(daemons.call("prepare", &mut session, spec).exit, Exit::Code(1));
        lines += u64::from(daemons.log.recv(&mut [0; 4096]).is_ok());
    }
    assert!(FIVE_A_MINUTE.contains(&lines), "{privilege:?}: {lines}");
    assert_eq!(lines + left_out(&world), CALLS, "{privilege:?}");
}

/// Refusals of the runner that are counted and not reported yet.
fn left_out(world: &World) -> u64 {
    let entries = fs::read_dir(world.host_path("/var/log/nunbird")).expect("a directory").flatten();
    let counters = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".unverified-"));
    let sizes = counters.map(|entry| {
        let meta = entry.metadata().expect("a file");
        assert_eq!((meta.uid(), meta.mode() & 0o777), (0, 0o600));
        meta.len().saturating_sub(60)
    });
    sizes.sum()
}

const CALLS: u64 = 20;

/// What is left of a minute after [`count_ahead`] of 55, for calls that take two minutes at most.
const FIVE_A_MINUTE: std::ops::RangeInclusive<u64> = 5..=10;

/// Sets the counter of the runner's refusals to this in each minute of this test.
fn count_ahead(world: &World, refusals: usize) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let minute = now.as_secs() / 60;
    for minute in minute..minute + 5 {
        let name = format!("/var/log/nunbird/.unverified-{}-{minute}", world.runner().uid);
        world.write_file(&name, vec![b'.'; refusals], "root", 0o600);
    }
}

/// A response file whose path is 60 lines of 256 characters that are escaped in twelve bytes each.
fn longest(session: &Session<'_>) -> Spec {
    let mut spec = session.spec_of_config();
    let line = "\u{e0001}".repeat(60);
    let path = format!("/{}", vec![line; 60].join("\n"));
    for (name, value) in &mut spec.environment {
        if name == "JOB_RESPONSE_FILE" {
            *value = format!("{path}/x").into();
        }
    }
    spec
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn without_a_token_a_flood_of_refusals_writes_a_line_a_second_and_the_next_counts_the_others(
    privilege: Privilege,
) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.begin();
    count_ahead(&world, 55);
    for _ in 0..CALLS {
        let spec = longest(&session);
        assert_eq!(session.call_spec("config", &spec).exit, Exit::Code(2));
    }
    let audit = world.audit();
    let lines = u64::try_from(audit.len()).expect("a number");
    assert!(FIVE_A_MINUTE.contains(&lines), "{privilege:?}: {lines}");
    assert_eq!(lines + left_out(&world), CALLS, "{privilege:?}");
    let text = fs::read_to_string(world.host_path(&world.paths().audit)).expect("the audit file");
    let longest = text.lines().map(str::len).max();
    assert!(longest.is_some_and(|bytes| bytes > 4096 && bytes < MOST_BYTES), "{longest:?}");
    // A minute that is over, as the file of an earlier one.
    let name = format!("/var/log/nunbird/.unverified-{}-7", world.runner().uid);
    world.write_file(&name, [b'.'; 472], "root", 0o600);
    for entry in fs::read_dir(world.host_path("/var/log/nunbird")).expect("a directory").flatten() {
        let own = entry.file_name().to_string_lossy().ends_with("-7");
        if !own && entry.file_name().to_string_lossy().starts_with('.') {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
    let outcome = world.job().without_token().config();
    assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
    let last = world.audit().pop().expect("an event");
    assert_eq!((&last["left_out"], last["decision_id"].as_str()), (&412.into(), Some(&*decision(&outcome))));
    assert!(!world.host_path(&name).exists());
}

#[needs(root)]
fn a_flood_keeps_no_decision_about_a_proven_identity_out_of_the_audit_file() {
    let world = ready(Privilege::Setuid);
    count_ahead(&world, 60);
    assert_eq!(world.job().without_token().config().exit, Exit::Code(1));
    assert!(world.audit().is_empty());
    let outcome = world.job().user("nobody-here").config();
    assert!(outcome.exit != Exit::Code(0));
    assert_eq!(world.audit().len(), 1, "{}", outcome.log);
    let outcome = world.job().config();
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert_eq!(world.audit().pop().expect("an event")["outcome"], "admitted");
}
