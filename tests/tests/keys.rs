//! A job that needs keys to be fetched: `nunbird-auth` and the installed `nunbird-keys` together.
//!
//! `keys/tests` tests `nunbird-keys` with each hostile response; here it is which server a job
//! makes it trust, and what the job and the admin learn.

use nunbird_tests::issuer::{DISCOVERY, Reply};
use nunbird_tests::runner::StageOutcome;
use nunbird_tests::{Exit, Issuer, Privilege, World, needs};
use serde_json::json;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

const KEYS: &str = "/var/lib/nunbird/keys/site.json";

/// Asserts that a job was refused for lack of keys, with `word` for the admin, and no cause for the
/// user.
#[track_caller]
fn assert_no_keys(world: &World, outcome: &StageOutcome, word: &str) {
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[no-keys]") && !outcome.log.contains(word), "{}", outcome.log);
    assert!(!world.host_path(KEYS).exists(), "keys were taken");
    let audit = world.audit();
    let line = audit.last().expect("an audit line").to_string();
    assert!(line.contains(word), "`{word}` is not in: {line}");
}

#[needs(root)]
fn a_server_with_a_certificate_of_somebody_else_or_out_of_its_time_gives_no_keys() {
    let wrong_name = Issuer::start_for(&["gitlab.example.org"]);
    let (expired, foreign) = (Issuer::start_expired(), Issuer::start());
    for privilege in Privilege::PRIVILEGED {
        for (server, believed, word) in [
            (&wrong_name, &wrong_name, "not valid for name"),
            (&expired, &expired, "expired"),
            (&foreign, &expired, "invalid peer certificate"),
        ] {
            let world = World::new(privilege);
            world.reconfigure(&world.issuer().url(), &server.url());
            world.write_file("/etc/nunbird/ca.pem", believed.ca_pem(), "root", 0o644);
            assert_no_keys(&world, &world.job().config(), word);
            assert_eq!(server.requests(DISCOVERY), 0, "nothing is asked of a server that is not proven");
        }
    }
    let world = World::new(Privilege::Setuid);
    assert!(world.job().config().succeeded(), "the same with the certificate that it should have");
}

#[needs(root)]
fn without_its_ca_file_the_admin_reads_what_to_set() {
    let world = World::new(Privilege::Setuid);
    world.reconfigure("ca_file = \"/etc/nunbird/ca.pem\"\n", "");
    assert_no_keys(&world, &world.job().config(), "set `ca_file`");
}

#[needs(root)]
fn a_job_that_needs_the_keys_of_a_silent_server_ends_as_a_system_failure_in_time() {
    let world = World::new(Privilege::Setuid);
    world.issuer().replace(DISCOVERY, Reply::new(200, "text/plain", "").after(Duration::from_secs(60)));
    let outcome = world.job().config();
    assert_no_keys(&world, &outcome, "timeout");
    assert_eq!(world.issuer().requests(DISCOVERY), 1, "the server was asked");
    assert!(outcome.elapsed < Duration::from_secs(20), "{:?}", outcome.elapsed);
}

#[needs(root)]
fn proxies_and_authorities_of_the_runners_environment_are_not_the_fetchers() {
    let trap = TcpListener::bind("127.0.0.1:0").expect("a port");
    trap.set_nonblocking(true).expect("a listener that does not wait");
    let proxy = format!("http://{}", trap.local_addr().expect("an address"));
    for privilege in Privilege::PRIVILEGED {
        let world = World::new(privilege);
        world.write_file("/etc/nunbird/environment-ca.pem", world.issuer().ca_pem(), "root", 0o644);
        let mut job = world.job();
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            job = job.environment(name, &proxy);
        }
        job = job.environment("SSL_CERT_FILE", "/etc/nunbird/environment-ca.pem");
        let given = world.configuration();
        world.reconfigure("ca_file = \"/etc/nunbird/ca.pem\"\n", "");
        assert_no_keys(&world, &job.config(), "set `ca_file`");
        world.configure(&given);
        world.allow_refresh();
        let outcome = job.config();
        assert!(outcome.succeeded(), "{privilege:?}: {}", outcome.log);
    }
    assert_eq!(trap.accept().expect_err("nobody asked the proxy").kind(), ErrorKind::WouldBlock);
}

#[needs(root)]
fn a_server_that_does_not_answer_keeps_no_other_server_from_being_asked_for_its_keys() {
    // They accept connections, and do not respond.
    let silent = [2, 3, 4].map(|n| TcpListener::bind(format!("127.0.0.{n}:0")).expect("a port"));
    let world = World::new(Privilege::Setuid);
    let mut servers = String::new();
    for (n, listener) in silent.iter().enumerate() {
        let address = listener.local_addr().expect("an address");
        servers.push_str(&format!(
            "[[gitlab]]\nname = \"silent{n}\"\nurl = \"https://{address}\"\naudience = \"x\"\n\n"
        ));
    }
    let own = "[[gitlab]]\nname = \"site\"";
    world.reconfigure(own, &format!("{servers}{own}"));
    assert!(!world.host_path(KEYS).exists());
    let outcome = world.job().config();
    assert!(outcome.succeeded(), "{}", outcome.log);
    assert!(world.host_path("/var/lib/nunbird/keys/silent2.attempt").exists(), "they were asked first");
}

#[needs(root)]
fn a_pinned_key_verifies_a_job_while_the_server_is_down() {
    let mut world = World::new(Privilege::Setuid);
    world.reconfigure("audience =", "user_check = \"off\"\naudience =");
    let set = json!({ "keys": [world.issuer().key().jwk()] }).to_string();
    world.write_file("/tmp/keys.json", set, "root", 0o644);
    world.issuer_mut().go_down();
    let program = world.paths().bin.join("nunbird-keys");
    let words = ["pin", "/tmp/keys.json", "--server", "site"];
    world.run(&world.program("nunbird", program, &words)).success();
    let outcome = world.job().config();
    assert!(outcome.succeeded(), "{}", outcome.log);
}
