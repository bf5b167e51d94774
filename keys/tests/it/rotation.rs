//! Keys over time: GitLab changes its key from one moment to the next.

use crate::double::{Certificate, Double};
use crate::scene::{Scene, finish, gitlab, jwk, jwks, ordinary, program};
use std::sync::atomic::{AtomicU64, Ordering};

/// A server that shows another key each time: `k0`, `k1` and so on.
fn rotating() -> Double {
    let turn = AtomicU64::new(0);
    Double::start(Certificate::Good, move |request, out| {
        gitlab(request, out, || jwks(&[jwk(&format!("k{}", turn.fetch_add(1, Ordering::SeqCst)))]))
    })
}

#[test]
fn the_old_key_stays_after_a_rotation_until_its_age_is_up() {
    let (scene, double) = (Scene::new(), rotating());
    scene.refresh(&double).expect_ok();
    scene.forget_attempt();
    scene.refresh(&double).expect_ok();
    assert_eq!(scene.kids(), ["k1", "k0"]);

    let mut file = scene.keys_file();
    for key in file["keys"].as_array_mut().unwrap() {
        key["last_seen"] = (key["last_seen"].as_u64().unwrap() - 3600).into();
    }
    std::fs::write(scene.keys_dir().join("main.json"), file.to_string()).unwrap();
    scene.forget_attempt();
    let mut command = scene.refresh_command(&double.url, Some(&double.ca_pem));
    finish(command.args(["--keys-max-age", "3601000"])).expect_ok();
    assert_eq!(scene.kids(), ["k2", "k1", "k0"]);
    scene.forget_attempt();
    let mut command = scene.refresh_command(&double.url, Some(&double.ca_pem));
    finish(command.args(["--keys-max-age", "3600"])).expect_ok();
    assert_eq!(scene.kids(), ["k3", "k2"]);
}

#[test]
fn a_server_is_asked_once_in_five_seconds_for_a_jobs_sake_whether_or_not_it_answers() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    scene.refresh(&double).expect_ok();
    let asked = double.connections();
    scene.refresh(&double).expect(75, "try again in");
    assert_eq!(double.connections(), asked);
    scene.age_attempt(5);
    scene.refresh(&double).expect_ok();

    let (scene, failing) = (Scene::new(), ordinary(Certificate::Expired));
    scene.refresh(&failing).expect(1, "expired");
    scene.refresh(&failing).expect(75, "try again in");
    scene.age_attempt(5);
    scene.refresh(&failing).expect(1, "expired");
    scene.age_attempt(5);
    scene.refresh(&double).expect_ok();
    assert!(scene.has_keys());
}

#[test]
fn the_timers_refresh_is_not_held_back_but_holds_back_a_jobs() {
    let (scene, double) = (Scene::new(), rotating());
    let configuration = scene.configuration(&double, "");
    for _ in 0..2 {
        finish(program().args(["refresh", "--configuration"]).arg(&configuration)).expect_ok();
    }
    assert_eq!(scene.kids(), ["k1", "k0"]);
    scene.refresh(&double).expect(75, "try again in");
}

#[test]
fn refreshes_at_the_same_time_lose_no_key() {
    let (scene, double) = (Scene::new(), rotating());
    let configuration = scene.configuration(&double, "");
    let running: Vec<_> = (0..6)
        .map(|_| {
            program()
                .args(["refresh", "--configuration"])
                .arg(&configuration)
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    let mut kids = scene.kids();
    kids.sort();
    assert_eq!(kids, ["k0", "k1", "k2", "k3", "k4", "k5"]);
}
