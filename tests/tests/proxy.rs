//! A GitLab server that this host reaches by a forward proxy only: keys, the question about a job's user, and `nunbirdctl`.
//!
//! `keys/tests/it/proxy.rs` has what `nunbird-keys` sends and makes of each answer; here a real proxy stands between.

use nunbird_tests::issuer::DISCOVERY;
use nunbird_tests::proxy::{Proxy, Rules};
use nunbird_tests::{Issuer, Privilege, World, needs};

const NAME: &str = "gitlab.nbt.test";
const AUTH: &str = "/etc/nunbird/proxy-auth";

/// A world whose server only the proxy can find.
fn world(privilege: Privilege) -> World {
    let mut world = World::new(privilege);
    let before = world.issuer().url();
    *world.issuer_mut() = Issuer::start_at(NAME);
    world.reconfigure(&before, &world.issuer().url());
    world.write_file("/etc/nunbird/ca.pem", world.issuer().ca_pem(), "root", 0o644);
    world
}

fn port(world: &World) -> u16 {
    world.issuer().url().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
}

fn by(world: &World, keys: &str) {
    world.reconfigure("audience =", &format!("{keys}\naudience ="));
}

/// The admin's part of a job that got no keys; neither it nor the job log has the password.
#[track_caller]
fn refused(world: &World) -> String {
    let outcome = world.job().config();
    assert!(outcome.stderr.contains("[no-keys]"), "{}", outcome.log);
    let detail = world.audit().last().expect("an audit line").to_string();
    assert!(!detail.contains("hunter2") && !outcome.log.contains("hunter2"), "{detail}");
    detail
}

#[needs(root)]
fn a_whole_job_of_a_server_behind_a_proxy_runs_and_without_the_proxy_none_does() {
    for privilege in Privilege::PRIVILEGED {
        let world = world(privilege);
        let detail = refused(&world);
        assert!(detail.contains(NAME), "its name is unknown here: {detail}");
        assert_eq!(world.issuer().requests(DISCOVERY), 0);

        let proxy = Proxy::start(NAME, Rules { port: Some(port(&world)), ..Rules::default() });
        by(&world, &format!("proxy = \"{}\"", proxy.url()));
        world.allow_refresh();
        world.job().script("id -un").run().expect_success();
        assert_eq!(world.issuer().requests(DISCOVERY), 1, "the keys came by the proxy");
        assert_eq!(world.issuer().requests("/api/v4/job"), 1, "and the question about the user");
        let log = proxy.log();
        assert!(log.contains(&format!("CONNECT {NAME}:{}", port(&world))), "{log}");
        assert!(!log.contains("JOB-TOKEN") && !log.contains("/api/v4"), "only TLS: {log}");
    }
}

#[needs(root)]
fn a_proxy_that_asks_for_a_password_gets_it_from_a_file_and_nothing_prints_it() {
    let world = world(Privilege::Setuid);
    let auth = Some(("nunbird", "hunter2-of-the-proxy"));
    let proxy = Proxy::start(NAME, Rules { auth, ..Rules::default() });
    let url = proxy.url();
    by(&world, &format!("proxy = \"{url}\""));
    let detail = refused(&world);
    assert!(
        detail.contains(&format!("the proxy {url} refused with 407")) && detail.contains("`proxy_auth_file`"),
        "{detail}"
    );

    by(&world, &format!("proxy_auth_file = \"{AUTH}\""));
    for (content, owner, mode, word) in [
        ("nunbird:hunter2-wrong\n", "nunbird", 0o600, "check user and password in /etc/nunbird/proxy-auth"),
        ("nunbird:hunter2-of-the-proxy\n", "nunbird", 0o644, "others can read the password"),
        ("nunbird:hunter2-of-the-proxy\n", "root", 0o600, "Permission denied"),
        ("hunter2\n", "nunbird", 0o600, "not one line `USER:PASSWORD`"),
        ("a:hunter2\nb:hunter2\n", "nunbird", 0o600, "not one line `USER:PASSWORD`"),
    ] {
        world.write_file(AUTH, content, owner, mode);
        world.allow_refresh();
        let detail = refused(&world);
        assert!(detail.contains(word), "`{word}`: {detail}");
    }
    world.write_file(AUTH, "nunbird:hunter2-of-the-proxy\n", "nunbird", 0o400);
    world.allow_refresh();
    let outcome = world.job().config();
    assert!(outcome.succeeded(), "{}", outcome.log);
    assert!(!world.audit().iter().any(|event| event.to_string().contains("hunter2")));
}

#[needs(root)]
fn the_detail_says_which_proxy_refused_and_whether_it_could_be_reached() {
    let world = world(Privilege::Setuid);
    let proxy = Proxy::start(NAME, Rules { port: Some(1), ..Rules::default() });
    let url = proxy.url();
    by(&world, &format!("proxy = \"{url}\""));
    let detail = refused(&world);
    assert!(
        detail.contains(&format!("the proxy {url} refused with 403")) && detail.contains("allow CONNECT"),
        "{detail}"
    );
    drop(proxy);
    world.allow_refresh();
    let detail = refused(&world);
    assert!(detail.contains(&format!("the connection to the proxy {url} failed")), "{detail}");

    let stranger = Proxy::start("somebody.nbt.test", Rules::default());
    world.reconfigure(&url, &stranger.url());
    world.allow_refresh();
    let detail = refused(&world);
    assert!(
        detail.contains(&format!("the proxy {} refused with 5", stranger.url()))
            && detail.contains("cannot reach"),
        "{detail}"
    );
    assert_eq!(world.issuer().requests(DISCOVERY), 0);
}
