//! The forms of the command line.

use crate::double::{Certificate, Double};
use crate::scene::{Scene, finish, gitlab, jwk, jwks, ordinary, program};
use serde_json::json;
use std::path::Path;

#[test]
fn pinned_keys_are_listed_and_stay_when_the_server_shows_others() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    let configuration = scene.configuration(&double, "");
    let file = scene.file("keys.json", &jwks(&[jwk("by-hand")]));
    let pin = |file: &Path| {
        finish(
            program().arg("pin").arg(file).args(["--server", "main", "--configuration"]).arg(&configuration),
        )
    };
    let finished = pin(&file);
    finished.expect_ok();
    assert!(finished.stdout.starts_with("main: 1 key pinned from "), "{}", finished.stdout);
    assert_eq!(double.connections(), 0);
    finish(program().args(["refresh", "--configuration"]).arg(&configuration)).expect_ok();
    assert_eq!(scene.kids(), ["a", "by-hand"]);

    let by_configuration = finish(program().args(["list", "--configuration"]).arg(&configuration));
    by_configuration.expect_ok();
    let by_directory = finish(program().args(["list", "--keys-dir"]).arg(scene.keys_dir()));
    // A second may have passed in between.
    let ages = |text: &str| {
        let words = text.split_whitespace().map(|word| if word.parse::<u32>().is_ok() { "N" } else { word });
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ages(&by_configuration.stdout), ages(&by_directory.stdout));
    let rows: Vec<Vec<&str>> =
        by_directory.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["SERVER", "KID", "ALG", "BITS", "LAST", "SEEN", "PINNED"]);
    assert_eq!([&rows[1][..4], &rows[1][5..]].concat(), ["main", "a", "RS256", "2048", "s", "ago", "no"]);
    assert_eq!(
        [&rows[2][..4], &rows[2][5..]].concat(),
        ["main", "by-hand", "RS256", "2048", "s", "ago", "yes"]
    );

    let lost = scene.file(
        "lost.json",
        &jwks(&[{
            let mut key = jwk("c");
            key["p"] = "AQAB".into();
            key
        }]),
    );
    pin(&lost).expect(1, "contains the private part");
    pin(Path::new("/nonexistent")).expect(1, "/nonexistent: No such file");
    assert_eq!(scene.kids(), ["a", "by-hand"]);
}

#[test]
fn keys_are_pinned_without_a_configuration() {
    let scene = Scene::new();
    let file = scene.file("keys.json", &jwks(&[jwk("a")]));
    let mut command = program();
    command.arg("pin").arg(file).args([
        "--server",
        "main",
        "--issuer",
        "https://gitlab.example.org",
        "--keys-dir",
    ]);
    finish(command.arg(scene.keys_dir())).expect_ok();
    let file = scene.keys_file();
    assert_eq!(file["issuer"], "https://gitlab.example.org");
    assert_eq!(file["keys"][0]["pinned"], true);
}

#[test]
fn a_broken_keys_file_does_not_hide_the_others_from_the_list() {
    let scene = Scene::new();
    let evil = json!({"version": 1, "server": "evil\u{1b}[2J", "issuer": "x", "fetched_at": 0, "keys": [
        {"kid": "k\u{202e}\n\u{1b}]0;x", "material": {"alg": "ES256", "x": "", "y": ""}, "last_seen": 0, "pinned": false}]});
    std::fs::write(scene.keys_dir().join("b.json"), evil.to_string()).unwrap();
    std::fs::write(scene.keys_dir().join("a.json"), "[]").unwrap();
    let finished = finish(program().args(["list", "--keys-dir"]).arg(scene.keys_dir()));
    finished.expect(1, "a.json: not a keys file");
    assert_eq!(finished.stdout.lines().count(), 2, "{}", finished.stdout);
    assert!(finished.stdout.contains("evil\\u{1b}[2J") && finished.stdout.contains("k\\u{202e}\\u{a}"));
    assert!(!finished.stdout.contains('\u{1b}'));
}

#[test]
fn one_server_that_is_down_does_not_keep_the_others_keys_from_being_fetched() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    let down = "[[gitlab]]\nname = \"down\"\nurl = \"https://127.0.0.3:1\"\naudience = \"x\"\n";
    let configuration = scene.configuration(&double, down);
    finish(program().args(["refresh", "--configuration"]).arg(&configuration)).expect(1, "error: down: ");
    assert_eq!(scene.kids(), ["a"]);
    let mut only = program();
    finish(only.args(["refresh", "--server", "main", "--configuration"]).arg(&configuration)).expect_ok();
    let mut unknown = program();
    finish(unknown.args(["refresh", "--server", "x", "--configuration"]).arg(&configuration))
        .expect(2, "has no server of this name");
}

#[test]
fn servers_of_conf_d_are_served_as_nunbird_auth_reads_them() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    let configuration = scene.configuration(&double, "");
    let text = std::fs::read_to_string(&configuration).unwrap();
    let (server, rest) = text.split_at(text.find("\n[[rule]]").unwrap());
    std::fs::write(&configuration, rest).unwrap();
    let conf_d = configuration.with_file_name("conf.d");
    std::fs::create_dir(&conf_d).unwrap();
    let refresh = || finish(program().args(["refresh", "--configuration"]).arg(&configuration));
    refresh().expect(1, "no GitLab server is configured");
    std::fs::write(conf_d.join("server.toml"), server).unwrap();
    std::fs::write(conf_d.join("server.toml.rpmsave"), "not TOML").unwrap();
    refresh().expect_ok();
    assert_eq!(scene.kids(), ["a"]);
    std::fs::write(conf_d.join("more.toml"), "keys_dri = 1\n").unwrap();
    refresh().expect(1, "more.toml:1:1");
}

#[test]
fn keys_are_taken_for_the_configured_algorithms_alone() {
    let double = Double::start(Certificate::Good, |request, out| {
        let point = "A".repeat(43);
        let curve = json!({"kty": "EC", "crv": "P-256", "kid": "e", "x": point, "y": point});
        gitlab(request, out, || jwks(&[jwk("a"), curve]))
    });
    let all = Scene::new();
    all.refresh(&double).expect_ok();
    assert_eq!(all.kids(), ["a", "e"]);

    let one = Scene::new();
    let mut command = one.refresh_command(&double.url, Some(&double.ca_pem));
    finish(command.args(["--algorithms", "ES256,ES384"])).expect(0, "key a is not used");
    assert_eq!(one.kids(), ["e"]);

    let configured = Scene::new();
    let configuration = configured.configuration(&double, "");
    finish(program().args(["refresh", "--configuration"]).arg(configuration)).expect(0, "key e is not used");
    assert_eq!(configured.kids(), ["a"]);
}

#[test]
fn a_configuration_that_is_broken_or_too_large_is_reported() {
    let scene = Scene::new();
    let refresh = |path: &Path| finish(program().args(["refresh", "--configuration"]).arg(path));
    refresh(&scene.file("bad.toml", "keys_dri = \"/x\"\n")).expect(1, "write `keys_dir`");
    refresh(&scene.file("large.toml", &"#\n".repeat(2_100_000))).expect(1, "larger than 4194304 bytes");
    refresh(Path::new("/nonexistent")).expect(1, "No such file");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let scene = Scene::new();
    let keys_dir = scene.keys_dir();
    let keys_dir = keys_dir.to_str().unwrap();
    let all =
        ["--server-name", "main", "--url", "https://h", "--issuer", "https://h", "--keys-dir", keys_dir];
    let with = |more: &[&str]| finish(program().arg("refresh").args(all).args(more));
    for (finished, word) in [
        (finish(&mut program()), "Usage"),
        (finish(program().args(["refresh", "--url", "https://h"])), "--server-name"),
        (finish(program().args(["refresh", "--server-name", "main"])), "--issuer"),
        (with(&["--server", "main"]), "cannot be used with"),
        (with(&["--configuration", "/x"]), "cannot be used with"),
        (with(&["--algorithms", "HS256"]), "not one of RS256"),
        (with(&["--keys-max-age", "1 hour"]), "--keys-max-age"),
        (
            finish(program().args(["list", "--keys-dir", "/x", "--configuration", "/x"])),
            "cannot be used with",
        ),
        (finish(program().args(["pin", "/x", "--server", "main", "--keys-dir", "/x"])), "--issuer"),
        (
            finish(program().args(["pin", "/x", "--server", "../x", "--keys-dir", "/x", "--issuer", "x"])),
            "letters",
        ),
    ] {
        finished.expect(2, word);
    }
    let mut outside = program();
    outside.args(["refresh", "--server-name", "../../x"]).args(&all[2..]);
    finish(&mut outside).expect(2, "use 1 to 64 lower-case letters");
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let scene = Scene::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status =
        program().args(["list", "--keys-dir"]).arg(scene.keys_dir()).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}
