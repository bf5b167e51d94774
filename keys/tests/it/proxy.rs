//! A server that is reached by a forward proxy: what the proxy is sent, and what comes of each of its answers.

use crate::double::{Certificate, Double, answer};
use crate::scene::{Finished, Scene, finish, jwk, jwks, program};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The name in the certificate of [`Certificate::WrongName`]; only the proxy knows where it is.
const NAME: &str = "gitlab.other.test";

#[derive(Clone, Copy)]
enum Answer {
    /// Connects to the port on this machine, whatever the name.
    Tunnel,
    /// Refuses with these words.
    Say(&'static str),
    /// Never says anything.
    Silence,
    /// Sends a byte of a header now and then, without end.
    Drip,
}

/// A proxy, and the requests that it got.
struct Proxy {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(reply: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                // A client that goes away is what some tests are about.
                std::thread::spawn(move || drop(serve(stream, reply, &kept)));
            }
        });
        Proxy { url, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("requests").clone()
    }
}

fn serve(mut client: TcpStream, reply: Answer, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let port = head.split([':', ' ']).nth(2).and_then(|port| port.parse().ok()).unwrap_or(0);
    heads.lock().expect("requests").push(head);
    match reply {
        Answer::Silence => std::thread::sleep(Duration::from_secs(60)),
        Answer::Drip => {
            client.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
            loop {
                client.write_all(b"x")?;
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        Answer::Say(words) => client.write_all(words.as_bytes())?,
        Answer::Tunnel => {
            let server = TcpStream::connect(("127.0.0.1", port))?;
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            let (mut up, mut down) = (client.try_clone()?, server.try_clone()?);
            std::thread::spawn(move || std::io::copy(&mut up, &mut down));
            std::io::copy(&mut &server, &mut client)?;
        }
    }
    Ok(())
}

/// A server under [`NAME`], with one key, which answers questions about jobs with `{}`.
fn server() -> (Double, String) {
    let double = Double::start(Certificate::WrongName, |request, out| {
        let url = request.url.replace("127.0.0.1", NAME);
        match request.path {
            "/.well-known/openid-configuration" => {
                let body = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
                answer(out, "200 OK", "", &body)
            }
            "/keys" => answer(out, "200 OK", "", &jwks(&[jwk("a")])),
            _ => answer(out, "200 OK", "", "{}"),
        }
    });
    let url = double.url.replace("127.0.0.1", NAME);
    (double, url)
}

fn refresh(scene: &Scene, proxy: &str, more: &[&str]) -> (Finished, Double) {
    let (double, url) = server();
    let mut command = scene.refresh_command(&url, Some(&double.ca_pem));
    (finish(command.args(["--proxy", proxy]).args(more)), double)
}

#[test]
fn keys_come_by_the_proxy_from_a_server_whose_name_is_unknown_here() {
    let (scene, proxy) = (Scene::new(), Proxy::start(Answer::Tunnel));
    let (double, url) = server();
    finish(&mut scene.refresh_command(&url, Some(&double.ca_pem))).expect(1, NAME);
    assert_eq!(double.connections(), 0, "directly it cannot be found");
    scene.forget_attempt();
    let (finished, _) = refresh(&scene, &proxy.url, &[]);
    finished.expect_ok();
    assert_eq!(scene.kids(), ["a"]);
    let head = proxy.heads().concat();
    assert!(head.starts_with(&format!("CONNECT {NAME}:")), "{head}");
    assert!(!head.to_ascii_lowercase().contains("authorization"), "{head}");
}

#[test]
fn the_proxy_of_the_configuration_is_used_and_shown() {
    let (scene, proxy) = (Scene::new(), Proxy::start(Answer::Tunnel));
    let (double, url) = server();
    let auth = secret(&scene, "me:it:is\n");
    let keys = format!("proxy = \"{}/\"\nproxy_auth_file = {auth:?}", proxy.url);
    let file = scene.configuration(&double, &keys);
    let text = std::fs::read_to_string(&file).unwrap().replace(&double.url, &url);
    std::fs::write(&file, text).unwrap();
    finish(program().args(["refresh", "--configuration"]).arg(&file)).expect_ok();
    assert_eq!(scene.kids(), ["a"]);
    // RFC 7617: base64 of `me:it:is`.
    assert!(proxy.heads().concat().contains("Proxy-Authorization: Basic bWU6aXQ6aXM=\r\n"));
}

#[test]
fn a_job_token_goes_through_the_proxy_unseen() {
    let (scene, proxy) = (Scene::new(), Proxy::start(Answer::Tunnel));
    let (double, url) = server();
    let mut command = program();
    command.args(["job", "--url", &url, "--proxy", &proxy.url, "--ca-file"]);
    let finished = with_token(command.arg(scene.file("ca.pem", &double.ca_pem)));
    finished.expect_ok();
    assert_eq!(finished.stdout, "{}");
    let head = proxy.heads().concat();
    assert!(!head.contains("secret-token") && !head.contains("/api"), "{head}");
}

fn with_token(command: &mut Command) -> Finished {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    child.stdin.take().expect("a pipe").write_all(b"secret-token").expect("it reads");
    child.wait_with_output().expect("an end").into()
}

#[test]
fn a_refusal_names_the_proxy_the_status_and_the_way_out() {
    for (words, shown) in [
        (
            "HTTP/1.1 407 x\r\n\r\n",
            "407 Proxy Authentication Required; name a file with `USER:PASSWORD` in `proxy_auth_file`",
        ),
        (
            "HTTP/1.1 403 Filtered\r\n\r\n",
            "403 Forbidden; its rules must allow CONNECT to this server and port",
        ),
        (
            "HTTP/1.1 503 x\r\nContent-Length: 3\r\n\r\nabc",
            "503 Service Unavailable; it cannot reach the server, or does not know its name",
        ),
        ("HTTP/1.1 302 Found\r\nLocation: https://evil.test/\r\n\r\n", "302 Found"),
    ] {
        let (scene, proxy) = (Scene::new(), Proxy::start(Answer::Say(words)));
        let (finished, double) = refresh(&scene, &proxy.url, &[]);
        finished.expect(1, &format!(": the proxy {} refused with {shown}\n", proxy.url));
        assert_eq!(
            (double.connections(), proxy.heads().len()),
            (0, 1),
            "nothing goes past the proxy, and nothing elsewhere"
        );
    }
    for words in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 ", ""] {
        let (scene, proxy) = (Scene::new(), Proxy::start(Answer::Say(words)));
        let (finished, double) = refresh(&scene, &proxy.url, &[]);
        finished.expect(1, &format!("the proxy {}", proxy.url));
        assert_eq!(double.connections(), 0);
    }
}

#[test]
fn a_proxy_that_is_down_or_silent_is_named_in_time() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (finished, double) = refresh(&Scene::new(), &format!("http://{closed}"), &[]);
    finished.expect(1, &format!("the connection to the proxy http://{closed} failed: "));
    assert_eq!(double.connections(), 0);
    let (begun, proxy) = (Instant::now(), Proxy::start(Answer::Silence));
    let (finished, _) = refresh(&Scene::new(), &proxy.url, &[]);
    finished.expect(1, &format!("by the proxy {}: timeout", proxy.url));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[test]
fn a_proxy_that_sends_a_byte_now_and_then_is_given_up_in_time() {
    let (begun, proxy) = (Instant::now(), Proxy::start(Answer::Drip));
    let (finished, _) = refresh(&Scene::new(), &proxy.url, &[]);
    finished.expect(1, &format!("by the proxy {}: timeout: no complete response within 4.", proxy.url));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[test]
fn the_certificate_is_the_servers_also_behind_a_proxy() {
    let (scene, proxy) = (Scene::new(), Proxy::start(Answer::Tunnel));
    let (_double, url) = server();
    let other = server().0;
    let mut command = scene.refresh_command(&url, Some(&other.ca_pem));
    finish(command.args(["--proxy", &proxy.url])).expect(1, "set `ca_file`");
    assert!(!scene.has_keys());
}

#[test]
fn a_password_is_in_a_file_of_its_own_or_nowhere() {
    let scene = Scene::new();
    let (finished, double) = refresh(&scene, "http://me:hunter2@127.0.0.1:1", &[]);
    finished.expect(2, "`proxy_auth_file`");
    assert!(!finished.stderr.contains("hunter2") && double.connections() == 0, "{}", finished.stderr);
    for wrong in ["socks5://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1"] {
        refresh(&scene, wrong, &[]).0.expect(2, "--proxy: write `http://`");
    }
    let proxy = Proxy::start(Answer::Say("HTTP/1.1 407 x\r\n\r\n"));
    let auth = secret(&scene, "me:hunter2");
    let (finished, _) = refresh(&scene, &proxy.url, &["--proxy-auth-file", &auth]);
    finished.expect(1, &format!("; check user and password in {auth}\n"));
    assert!(!finished.stderr.contains("hunter2"));
    for bad in ["hunter2\n", ":hunter2\n", "", "me:hunter2\r\n", "me:hunter2\nx:y\n"] {
        scene.forget_attempt();
        let auth = secret(&scene, bad);
        let (finished, _) = refresh(&scene, &proxy.url, &["--proxy-auth-file", &auth]);
        finished.expect(1, "not one line `USER:PASSWORD`");
        assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
    }
    assert_eq!(proxy.heads().len(), 1);
}

fn secret(scene: &Scene, content: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = scene.file("proxy-auth", content);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    path.to_str().expect("UTF-8").to_owned()
}
