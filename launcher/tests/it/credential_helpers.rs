//! Passwords from programs that speak docker's protocol of credential helpers, for pulls from a real registry.

use crate::container_pulls::{Registry, published};
use crate::container_world::{container, left};
use crate::world::{BUILD_FAILURE, SYSTEM_FAILURE, World, assert_code, err, out};
use nunbird_handover::{Credential, CredentialHelper, CredentialHelpers, Credentials};
use nunbird_skip::needs;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const PASSWORD: &str = "the-right-one";

/// A helper that has its passwords in a file of the account's, and notes how it was called.
const OF_A_FILE: &str = r#"[ "$1" = get ] || exit 9
read -r server || [ -n "$server" ]
{ id -u; echo "$# $*"; cat /proc/self/environ | tr '\0' '\n' | sort; } >"$HOME/called"
while read -r registry user password; do
  [ "$registry" = "$server" ] || continue
  printf '{"ServerURL":"%s","Username":"%s","Secret":"%s"}\n' "$registry" "$user" "$password"
  exit 0
done <"$HOME/passwords"
echo "credentials not found in native keychain"
exit 1
"#;

/// A world whose job names the helper `site` for the registry of its image, which wants a password.
fn site() -> (World, Registry) {
    let output = Command::new("htpasswd").args(["-nbB", "ann", PASSWORD]).output().expect("htpasswd");
    let login = format!("ann:{PASSWORD}");
    let (mut world, registry) = published(Some(&String::from_utf8_lossy(&output.stdout)), &login);
    let directories = ["none", "bin"].map(|name| world.path(name)).to_vec();
    for directory in &directories {
        fs::create_dir(directory).expect("a directory");
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    container(&mut world).credential_helpers = CredentialHelpers { directories, timeout: 10 };
    world.handover.credential_helpers = vec![CredentialHelper {
        registry: registry.address.clone(),
        server: registry.address.clone(),
        name: "site".to_owned(),
    }];
    passwords(&world, &format!("{} ann {PASSWORD}\n", registry.address));
    (world, registry)
}

fn passwords(world: &World, lines: &str) {
    world.write(&world.home().join("passwords"), lines);
}

fn helper(world: &World, text: &str, mode: u32) {
    let path = world.path("bin/docker-credential-site");
    fs::write(&path, format!("#!/bin/sh\n{text}")).expect("a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
}

#[needs(root)]
fn a_helper_gives_the_password_as_the_account_and_nothing_of_it_stays() {
    let (mut world, registry) = site();
    helper(&world, OF_A_FILE, 0o755);
    container(&mut world).engine_environment.insert("SITE_REGION".to_owned(), "north".to_owned());
    let output = world.prepare();
    assert_code(&output, 0);
    assert!(out(&output).contains("pulled it in") && registry.layers_fetched() > 0, "{}", out(&output));
    let called = fs::read_to_string(world.home().join("called")).expect("its note");
    let mut lines = called.lines();
    assert_eq!(lines.next(), Some(world.handover.account.uid.to_string().as_str()));
    assert_eq!(lines.next(), Some("1 get"));
    let names: Vec<&str> = lines.filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let expected = [
        "CONTAINERS_REGISTRIES_CONF",
        "HOME",
        "LOGNAME",
        "NUNBIRD_DECISION_ID",
        "PATH",
        "PWD",
        "SITE_REGION",
        "USER",
    ];
    assert!(names.iter().all(|name| expected.contains(name)) && names.len() >= 7, "{called}");
    let runtime = format!("/tmp/nb-{}", world.handover.decision_id);
    for directory in [runtime.into(), world.path("store"), world.handover.workspace.data_dir.clone()] {
        for text in [PASSWORD, "YW5uOnRoZS1yaWdodC1vbmU"] {
            let found = Command::new("grep").args(["-rlsaF", text]).arg(&directory).output().expect("grep");
            assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{}", directory.display());
        }
    }
    assert_code(&world.cleanup(), 0);
    assert_eq!(left(&world), Vec::<String>::new());
}

#[needs(root)]
fn what_a_helper_does_not_have_is_looked_for_among_the_jobs_own_passwords() {
    let (mut world, registry) = site();
    helper(&world, OF_A_FILE, 0o755);
    passwords(&world, "other.example.org ann wrong\n");
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    let no_password = format!("docker-credential-site has no password for {}", registry.address);
    assert!(out(&output).contains(&no_password), "{}", out(&output));
    assert!(err(&output).contains("the registry wants a user name and password"), "{}", err(&output));
    world.handover.credentials = Credentials(vec![Credential {
        registry: registry.address.clone(),
        user: "ann".to_owned(),
        password: PASSWORD.to_owned(),
        site: None,
    }]);
    assert_code(&world.prepare(), 0);
    // The helper's answer comes first, also where it is wrong.
    passwords(&world, &format!("{} ann wrong\n", registry.address));
    container(&mut world).image.as_mut().expect("an image").pull = vec![nunbird_handover::PullPolicy::Always];
    let output = world.prepare();
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("refuses the job's user name and password"), "{}", err(&output));
    world.handover.credentials = Credentials::default();
    world.handover.credential_helpers.clear();
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn a_helper_that_does_not_answer_as_it_should_is_named_and_shows_no_password() {
    let (mut world, registry) = site();
    container(&mut world).credential_helpers.timeout = 2;
    for (text, code, said) in [
        ("sleep 1000 & wait\n", SYSTEM_FAILURE, "it did not answer within 2 s"),
        ("trap '' TERM; exec cat /dev/zero\n", SYSTEM_FAILURE, "its answer has more than 64 KiB"),
        ("cat /dev/zero >&2\n", SYSTEM_FAILURE, "its answer has more than 64 KiB"),
        ("echo the-right-one\n", SYSTEM_FAILURE, "its answer is not JSON with `Username` and `Secret`"),
        (
            "echo '{\"Username\":\"ann\",\"Secret\":7}'\n",
            SYSTEM_FAILURE,
            "its answer is not JSON with `Username` and `Secret`",
        ),
        (
            "echo '{\"Username\":\"a:b\",\"Secret\":\"the-right-one\"}'\n",
            SYSTEM_FAILURE,
            "its answer is not JSON with `Username` and `Secret`",
        ),
        (
            "printf 'no \\033[31mkey\\n'; exit 1\n",
            SYSTEM_FAILURE,
            "it ended with exit status: 1: no \\u{1b}[31mkey",
        ),
        ("echo '{\"Secret\":\"the-right-one\"}'; kill -9 $$\n", SYSTEM_FAILURE, "signal: 9"),
        ("", BUILD_FAILURE, "this host has none of that name in"),
    ] {
        helper(&world, text, 0o755);
        if text.is_empty() {
            fs::remove_file(world.path("bin/docker-credential-site")).expect("removed");
        }
        let output = world.prepare();
        assert_code(&output, code);
        let all = err(&output) + &out(&output);
        assert!(err(&output).contains(said), "{text}: {all}");
        assert!(all.contains("docker-credential-site") && all.contains(&registry.address), "{text}: {all}");
        assert!(!all.contains(PASSWORD), "{text}: {all}");
        let runtime = format!("/tmp/nb-{}/auth.json", world.handover.decision_id);
        assert!(!std::path::Path::new(&runtime).exists());
        assert_eq!(running(&world), Vec::<String>::new(), "{text}");
    }
    helper(&world, OF_A_FILE, 0o644);
    let output = world.prepare();
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains("Permission denied"), "{}", err(&output));
    for name in ["../bin/docker-credential-site", "a/b", ""] {
        world.handover.credential_helpers[0].name = name.to_owned();
        helper(&world, OF_A_FILE, 0o755);
        let output = world.prepare();
        assert_code(&output, BUILD_FAILURE);
        assert!(err(&output).contains("this host has none of that name in"), "{}", err(&output));
    }
    assert!(!world.home().join("called").exists(), "it has run");
    assert_code(&world.cleanup(), 0);
}

/// The account's processes that a helper has left.
fn running(world: &World) -> Vec<String> {
    left(world).into_iter().filter(|line| line.contains("sleep 1000") || line.contains("/dev/zero")).collect()
}

#[needs(root)]
fn a_helper_is_ended_when_the_job_is_cancelled() {
    let (mut world, _registry) = site();
    helper(&world, "echo ready >\"$HOME/called\"; sleep 1000 & wait\n", 0o755);
    let job = world.start("");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !world.home().join("called").exists() {
        assert!(std::time::Instant::now() < end, "it is not asked");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    job.signal(nix::sys::signal::Signal::SIGTERM);
    let output = job.finish();
    assert_code(&output, BUILD_FAILURE);
    assert!(err(&output).contains("cancelled while the container was prepared"), "{}", err(&output));
    assert_eq!(running(&world), Vec::<String>::new());
    assert_code(&world.cleanup(), 0);
}

#[needs(root)]
fn an_identity_token_of_a_helper_is_exchanged_for_access() {
    let (mut world, registry) = site();
    let front = front(registry.address.clone());
    let image = container(&mut world).image.as_mut().expect("an image");
    image.name = registry.name().replace(&registry.address, &front);
    let configuration = world.path("registries.conf");
    fs::write(&configuration, format!("[[registry]]\nlocation = \"{front}\"\ninsecure = true\n"))
        .expect("a file");
    helper(&world, OF_A_FILE, 0o755);
    world.handover.credential_helpers[0].registry.clone_from(&front);
    world.handover.credential_helpers[0].server.clone_from(&front);
    for (token, code) in [("another-token", BUILD_FAILURE), ("long-lived-token", 0)] {
        passwords(&world, &format!("{front} <token> {token}\n"));
        let output = world.prepare();
        assert_code(&output, code);
        assert!(!(err(&output) + &out(&output)).contains(token), "{}", err(&output));
    }
    assert_code(&world.cleanup(), 0);
}

/// What stands before a registry with passwords, and wants the access token that it gives for one identity token.
fn front(registry: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let own = address.clone();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            drop(answer(stream, &own, &registry));
        }
    });
    address
}

fn answer(mut down: TcpStream, own: &str, registry: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(down.try_clone()?);
    let (mut head, mut length) = (String::new(), 0_usize);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        let low = line.to_ascii_lowercase();
        if !low.starts_with("connection:") && !low.starts_with("authorization:") {
            head.push_str(&line);
        } else if line.contains("Bearer of-one-pull") {
            // ann:the-right-one
            head.push_str("Authorization: Basic YW5uOnRoZS1yaWdodC1vbmU=\r\n");
        }
    }
    if head.starts_with("POST ") {
        // Podman sends a form in one chunk, with its size before it.
        let mut line = String::new();
        reader.read_line(&mut line)?;
        length = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let reply = |status: &str, more: &str, text: &str| {
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{text}",
            text.len()
        )
    };
    if head.starts_with("POST /token ") {
        let body = String::from_utf8_lossy(&body);
        let good =
            body.contains("grant_type=refresh_token") && body.contains("refresh_token=long-lived-token");
        let text = match good {
            true => reply("200 OK", "", r#"{"access_token":"of-one-pull","expires_in":300}"#),
            false => reply("401 Unauthorized", "", r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#),
        };
        return down.write_all(text.as_bytes());
    }
    if !head.contains("Authorization: Basic") {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"nbt\"\r\n");
        let text = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        return down.write_all(reply("401 Unauthorized", &challenge, text).as_bytes());
    }
    let mut up = TcpStream::connect(registry)?;
    up.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    std::io::copy(&mut up, &mut down).map(drop)
}
