//! Responses that are late, endless, or lead elsewhere.

use crate::double::{Certificate, Double, answer, trap};
use crate::scene::{Scene, finish, gitlab, jwk, jwks, ordinary};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DISCOVERY: &str = "/.well-known/openid-configuration";

#[test]
fn a_redirect_is_not_followed_and_its_body_is_no_answer() {
    let double = Double::start(Certificate::Good, |request, out| match request.path {
        DISCOVERY => {
            let location = format!("Location: {}/elsewhere\r\n", request.url);
            let body = json!({"issuer": request.url, "jwks_uri": format!("{}/k", request.url)});
            answer(out, "302 Found", &location, &body.to_string())
        }
        _ => answer(out, "200 OK", "", &jwks(&[jwk("a")])),
    });
    let scene = Scene::new();
    scene.refresh(&double).expect(1, "redirects are not followed");
    assert_eq!(double.connections(), 1);
    assert!(!scene.has_keys());
}

#[test]
fn a_key_set_by_way_of_a_redirect_is_none() {
    let double = Double::start(Certificate::Good, |request, out| match request.path {
        "/oauth/discovery/keys" => answer(out, "301 Moved", "Location: /k\r\n", &jwks(&[jwk("a")])),
        _ => gitlab(request, out, String::new),
    });
    let scene = Scene::new();
    scene.refresh(&double).expect(1, "redirects are not followed");
    assert!(!scene.has_keys());
}

#[test]
fn an_answer_of_fifty_megabytes_is_cut_off() {
    const MEBIBYTE: usize = 1 << 20;
    for announced in [true, false] {
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let double = Double::start(Certificate::Good, move |_, out| {
            if announced {
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 50 * MEBIBYTE)?;
            } else {
                write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            }
            for _ in 0..50 {
                out.write_all(&vec![b' '; MEBIBYTE])?;
                counter.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        });
        let scene = Scene::new();
        scene.refresh(&double).expect(1, "not a GitLab server's response");
        assert!(sent.load(Ordering::SeqCst) < 40, "announced: {announced}");
        assert!(!scene.has_keys());
    }
}

#[test]
fn a_server_that_never_answers_holds_up_a_job_for_less_than_five_seconds() {
    let double = Double::start(Certificate::Good, |_, _| {
        std::thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    too_slow(&double);
}

#[test]
fn a_server_that_drips_its_answer_holds_up_a_job_for_less_than_five_seconds() {
    let double = Double::start(Certificate::Good, |_, out| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        loop {
            out.write_all(b" ")?;
            out.flush()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    too_slow(&double);
}

#[track_caller]
fn too_slow(double: &Double) {
    let (scene, began) = (Scene::new(), Instant::now());
    scene.refresh(double).expect(1, "timeout");
    let took = began.elapsed();
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_failing_server_leaves_the_known_keys_as_they_were() {
    let scene = Scene::new();
    let answers = AtomicU64::new(0);
    let double = Double::start(Certificate::Good, move |request, out| {
        if answers.fetch_add(1, Ordering::SeqCst) < 2 {
            return gitlab(request, out, || jwks(&[jwk("a")]));
        }
        answer(out, "500 Internal Server Error", "", "oops")
    });
    scene.refresh(&double).expect_ok();
    let before = scene.keys_file();
    scene.forget_attempt();
    scene.refresh(&double).expect(1, "500");
    assert_eq!(scene.keys_file(), before);
}

/// A server with this discovery document, in which `$URL` becomes the server's own URL.
fn discovering(document: &'static str) -> Double {
    Double::start(Certificate::Good, move |request, out| match request.path {
        DISCOVERY => answer(out, "200 OK", "", &document.replace("$URL", request.url)),
        _ => answer(out, "200 OK", "", &jwks(&[jwk("a")])),
    })
}

#[test]
fn discovery_must_name_the_configured_issuer_exactly() {
    for issuer in ["https://evil.test", "$URL/", "$URL.evil.test", "", "$URL\\u001b[2J\\nx"] {
        let document = format!("{{\"issuer\": \"{issuer}\", \"jwks_uri\": \"$URL/k\"}}");
        let (scene, double) = (Scene::new(), discovering(document.leak()));
        let finished = scene.refresh(&double);
        finished.expect(1, "the server's issuer is");
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        assert!(!finished.stderr.contains('\u{1b}') && !scene.has_keys());
    }
}

#[test]
fn the_key_set_must_lie_on_the_server_that_was_asked() {
    let other = trap();
    let foreign = other.url.replace("http:", "https:");
    for uri in [
        format!("{foreign}/k"),
        format!("{}/k", other.url),
        "https://evil.test/k".to_owned(),
        "$URL@evil.test/k".to_owned(),
        "$URL.evil.test/k".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/k".to_owned(),
        String::new(),
    ] {
        let document = format!("{{\"issuer\": \"$URL\", \"jwks_uri\": \"{uri}\"}}");
        let (scene, double) = (Scene::new(), discovering(document.leak()));
        scene.refresh(&double).expect(1, "which is another server");
        assert!(!scene.has_keys(), "{uri}");
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn what_is_no_discovery_document_is_reported() {
    for document in ["", "<html>", "[]", "{\"issuer\": \"$URL\"}"] {
        Scene::new().refresh(&discovering(document)).expect(1, "not an OIDC discovery document");
    }
}

#[test]
fn plain_http_is_for_loopback_alone() {
    let scene = Scene::new();
    for url in
        ["http://gitlab.example.org", "http://10.0.0.1", "http://127.0.0.1.evil.test", "ftp://127.0.0.1"]
    {
        finish(&mut scene.refresh_command(url, None)).expect(2, "use `https://`");
        assert!(!scene.keys_dir().join("main.attempt").exists(), "{url}");
    }
    let local = ordinary(Certificate::None);
    finish(&mut scene.refresh_command(&local.url, None)).expect_ok();
    assert_eq!(scene.kids(), ["a"]);
}

#[test]
fn a_key_set_that_shows_a_private_key_is_refused_loudly() {
    let scene = Scene::new();
    let double = Double::start(Certificate::Good, |request, out| {
        let mut lost = jwk("b");
        lost["d"] = "AQAB".into();
        gitlab(request, out, || jwks(&[jwk("a"), lost]))
    });
    scene.refresh(&double).expect(1, "contains the private part of a key");
    assert!(!scene.has_keys());
}

#[test]
fn a_refused_connection_is_reported_with_the_url() {
    let url = trap().url.replace("http:", "https:").replace("127.0.0.1", "127.0.0.3");
    let scene = Scene::new();
    finish(&mut scene.refresh_command(&url, Some(&ordinary(Certificate::Good).ca_pem))).expect(1, &url);
}
