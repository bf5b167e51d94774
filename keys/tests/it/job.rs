//! `nunbird-keys job`: a token goes to one server, in one header, and the response is passed on
//! unchanged.

use crate::double::{Certificate, Double, answer, trap};
use crate::scene::{Finished, Scene, program};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TOKEN: &str = "glcbt-64_eyJ.x-y_z.9";
const BODY: &str = "{\"id\":7,\"name\":\"größer\u{1b}\"}";

fn command(url: &str, scene: &Scene, ca_pem: &str) -> Command {
    let mut command = program();
    command.args(["job", "--url", url, "--ca-file"]).arg(scene.file("ca.pem", ca_pem));
    command
}

/// Runs it with these bytes on standard input.
fn with_input(command: &mut Command, input: &[u8]) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    // A program that has read enough closes its end.
    let _read_or_not = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("an end").into()
}

fn ask(double: &Double) -> Finished {
    with_input(&mut command(&double.url, &Scene::new(), &double.ca_pem), TOKEN.as_bytes())
}

#[test]
fn the_token_goes_into_one_header_and_the_answer_comes_out_byte_for_byte() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    let double = Double::start(Certificate::Good, move |request, out| {
        requests.lock().expect("requests").push((request.path.to_owned(), request.head.to_owned()));
        answer(out, "200 OK", "Content-Type: application/json\r\n", BODY)
    });
    let finished = ask(&double);
    finished.expect_ok();
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), (BODY, ""));
    let seen = seen.lock().expect("requests");
    let [(path, head)] = seen.as_slice() else { panic!("one request: {seen:?}") };
    assert_eq!(path, "/api/v4/job", "no query that a log would keep");
    let with_token: Vec<_> = head.lines().filter(|line| line.contains(TOKEN)).collect();
    assert_eq!(with_token.len(), 1, "{head}");
    assert!(with_token[0].to_ascii_lowercase().starts_with("job-token: "), "{head}");
}

#[test]
fn a_redirect_takes_the_token_nowhere() {
    let elsewhere = trap();
    let target = elsewhere.url.clone();
    let double = Double::start(Certificate::Good, move |_, out| {
        answer(out, "302 Found", &format!("Location: {target}/api/v4/job\r\n"), BODY)
    });
    let finished = ask(&double);
    finished.expect(1, "redirects are not followed");
    assert_eq!((finished.stdout.as_str(), elsewhere.connections()), ("", 0));
}

#[test]
fn a_server_with_somebody_elses_certificate_never_sees_the_token() {
    for certificate in [Certificate::WrongName, Certificate::Expired] {
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        let double = Double::start(certificate, move |_, out| {
            seen.store(true, Ordering::SeqCst);
            answer(out, "200 OK", "", BODY)
        });
        ask(&double).expect(1, "");
        assert!(double.connections() > 0 && !asked.load(Ordering::SeqCst));
    }
    let double = Double::start(Certificate::Good, |_, out| answer(out, "200 OK", "", BODY));
    let other = Double::start(Certificate::Good, |_, out| answer(out, "200 OK", "", BODY));
    let finished = with_input(&mut command(&double.url, &Scene::new(), &other.ca_pem), TOKEN.as_bytes());
    finished.expect(1, "ca_file");
}

#[test]
fn no_proxy_of_the_environment_gets_the_token() {
    let proxy = trap();
    let double = Double::start(Certificate::Good, |_, out| answer(out, "200 OK", "", BODY));
    let scene = Scene::new();
    let mut command = command(&double.url, &scene, &double.ca_pem);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"] {
        command.env(name, &proxy.url);
    }
    with_input(&mut command, TOKEN.as_bytes()).expect_ok();
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn refusals_and_failures_of_the_server_print_no_answer_and_no_token() {
    for status in [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "429 Too Many Requests",
        "500 Oops",
        "204 Empty",
    ] {
        let double = Double::start(Certificate::Good, move |_, out| {
            answer(out, status, "", &format!("{{\"echo\":\"{TOKEN}\"}}"))
        });
        let finished = ask(&double);
        finished.expect(1, &status[..3]);
        assert_eq!(finished.stdout, "", "{status}");
        assert!(!finished.stderr.contains(TOKEN), "{status}: {}", finished.stderr);
    }
}

#[test]
fn an_answer_without_an_end_is_cut_off_in_size_and_in_time() {
    let huge = Double::start(Certificate::Good, |_, out| {
        write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        (0..50).try_for_each(|_| out.write_all(&vec![b' '; 1 << 20]))
    });
    let finished = ask(&huge);
    finished.expect(1, "not a GitLab server's response");
    assert_eq!(finished.stdout, "");
    let drip = Double::start(Certificate::Good, |_, out| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        loop {
            out.write_all(b" ")?;
            out.flush()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let begun = Instant::now();
    ask(&drip).expect(1, "");
    assert!(begun.elapsed() < Duration::from_secs(60), "100000 bytes, ten a second");
}

#[test]
fn what_is_no_token_is_not_sent() {
    let double = trap();
    for bad in [&b""[..], b"two words", b"line\r\nX-Other: y", b"caf\xc3\xa9", b"\xff", &[b'x'; 8193]] {
        let finished = with_input(&mut command(&double.url, &Scene::new(), "-----"), bad);
        assert!(matches!(finished.code, Some(1 | 2)), "{:?}: {}", finished.code, finished.stderr);
    }
    let far = with_input(program().args(["job", "--url", "http://gitlab.example.org"]), TOKEN.as_bytes());
    far.expect(2, "https://");
    assert_eq!(double.connections(), 0);
}
