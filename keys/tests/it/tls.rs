//! Which certificates are trusted, and where the list of certificate authorities comes from.

use crate::double::{Certificate, Double, trap};
use crate::scene::{Scene, finish, in_own_mounts, ordinary};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;

#[test]
fn keys_come_over_https_from_a_server_that_the_ca_file_vouches_for() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    let finished = scene.refresh(&double);
    finished.expect_ok();
    assert_eq!(finished.stdout, format!("main: 1 key fetched from {}\n", double.url));
    let file = scene.keys_file();
    assert_eq!(
        (&file["version"], &file["server"], &file["issuer"]),
        (&1.into(), &"main".into(), &double.url.as_str().into())
    );
    assert_eq!(file["keys"][0]["material"]["alg"], "RS256");
    assert_eq!(file["keys"][0]["pinned"], false);
    let mode = std::fs::metadata(scene.keys_dir().join("main.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
}

/// The certificate is refused: no request is sent and no file written.
#[track_caller]
fn refused(scene: &Scene, double: &Double, ca_pem: Option<&str>, word: &str) {
    finish(&mut scene.refresh_command(&double.url, ca_pem)).expect(1, word);
    assert!(!scene.has_keys());
}

#[test]
fn a_certificate_of_an_authority_that_nobody_named_is_refused() {
    let (double, other) = (ordinary(Certificate::Good), ordinary(Certificate::Good));
    refused(&Scene::new(), &double, Some(&other.ca_pem), "set `ca_file`");
    refused(&Scene::new(), &double, None, "UnknownIssuer");
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let double = ordinary(Certificate::WrongName);
    refused(&Scene::new(), &double, Some(&double.ca_pem), "not valid for name");
}

#[test]
fn an_expired_certificate_is_refused() {
    let double = ordinary(Certificate::Expired);
    refused(&Scene::new(), &double, Some(&double.ca_pem), "expired");
}

#[test]
fn a_ca_file_without_a_certificate_is_reported() {
    let double = ordinary(Certificate::Good);
    refused(&Scene::new(), &double, Some("no PEM"), "contains no certificate");
    assert_eq!(double.connections(), 0);
}

#[test]
fn authorities_and_proxies_in_the_environment_are_not_used() {
    let (scene, double, proxy) = (Scene::new(), ordinary(Certificate::Good), trap());
    let authorities = scene.file("environment.pem", &double.ca_pem);
    let directory = authorities.parent().unwrap();
    let names = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let proxies: Vec<(&str, &str)> = names.iter().map(|name| (*name, proxy.url.as_str())).collect();

    let mut by_file = scene.refresh_command(&double.url, Some(&double.ca_pem));
    finish(by_file.envs(proxies.clone())).expect_ok();
    scene.forget_attempt();
    let mut by_environment = scene.refresh_command(&double.url, None);
    by_environment.envs(proxies).env("SSL_CERT_FILE", &authorities).env("SSL_CERT_DIR", directory);
    finish(&mut by_environment).expect(1, "UnknownIssuer");
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn without_a_ca_file_the_systems_authorities_decide() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    let command = scene.refresh_command(&double.url, None);
    let bundle = scene.file("bundle.crt", &double.ca_pem);
    let mut words: Vec<OsString> = vec![bundle.into(), command.get_program().to_owned()];
    words.extend(command.get_args().map(ToOwned::to_owned));
    let script = "mount --bind \"$1\" /etc/ssl/certs/ca-certificates.crt; shift; exec \"$@\"";
    in_own_mounts(script, &words).expect_ok();
    assert_eq!(scene.kids(), ["a"]);
}
