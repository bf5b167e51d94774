//! A keys directory that cannot or should not be written.

use crate::double::{Certificate, Double};
use crate::scene::{Scene, finish, gitlab, in_own_mounts, jwk, jwks, ordinary};
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

fn words(command: &Command) -> Vec<OsString> {
    let mut words = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(ToOwned::to_owned));
    words
}

#[test]
fn a_directory_that_is_missing_is_reported() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    std::fs::remove_dir(scene.keys_dir()).unwrap();
    scene.refresh(&double).expect(1, "create it and make the user");
    assert_eq!(double.connections(), 0);
}

#[test]
fn a_read_only_directory_is_reported_before_the_server_is_asked() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    let command = scene.refresh_command(&double.url, Some(&double.ca_pem));
    let mut all: Vec<OsString> = vec![scene.keys_dir().into()];
    all.extend(words(&command));
    let script = "mount -t tmpfs -o ro,mode=0755 none \"$1\"; shift; exec \"$@\"";
    in_own_mounts(script, &all).expect(1, "Read-only file system");
    assert_eq!(double.connections(), 0);
}

#[test]
fn only_the_owner_of_the_directory_writes_keys() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    let directory = if nix::unistd::geteuid().is_root() {
        chown(scene.keys_dir(), Some(64_123), None).unwrap();
        scene.keys_dir()
    } else {
        Path::new("/").to_owned()
    };
    let text = jwks(&[jwk("a")]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_nunbird-keys"));
    command.arg("pin").arg(scene.file("k.json", &text)).args([
        "--server",
        "main",
        "--issuer",
        "x",
        "--keys-dir",
    ]);
    finish(command.arg(&directory)).expect(1, "only its owner writes keys");
    if directory == scene.keys_dir() {
        scene.refresh(&double).expect(1, "setpriv --reuid 64123 --clear-groups -- /");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    }
    assert_eq!(double.connections(), 0);
}

#[test]
fn a_directory_that_others_can_write_is_not_used() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    for mode in [0o777, 0o1777, 0o775] {
        std::fs::set_permissions(scene.keys_dir(), std::fs::Permissions::from_mode(mode)).unwrap();
        scene.refresh(&double).expect(1, "chmod go-w");
    }
    assert_eq!(double.connections(), 0);
}

#[test]
fn a_full_disk_leaves_the_old_keys_and_nothing_half_written() {
    let scene = Scene::new();
    let turn = std::sync::atomic::AtomicU64::new(0);
    let double = Double::start(Certificate::None, move |request, out| {
        let first = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        // More than the page that the first fetch left free could hold.
        let keys: Vec<_> =
            if first { vec![jwk("a")] } else { (0..12).map(|n| jwk(&format!("b{n}"))).collect() };
        gitlab(request, out, || jwks(&keys))
    });
    let command = scene.refresh_command(&double.url, None);
    let mut all: Vec<OsString> = vec![scene.keys_dir().into()];
    all.extend(words(&command));
    // The script's own words are the keys directory and the program with its arguments.
    let script = "D=$1; shift; mount -t tmpfs -o size=8k,mode=0755 none \"$D\"; \"$@\"; cp \"$D/main.json\" \"$D.first\"; \
        rm \"$D/main.attempt\"; \"$@\" && exit 99; echo \"ended with $?\"; cmp \"$D/main.json\" \"$D.first\"; ls -A \"$D\"";
    let finished = in_own_mounts(script, &all);
    finished.expect(0, "No space left on device");
    assert!(
        finished.stdout.ends_with("ended with 1\n.lock\nmain.attempt\nmain.json\n"),
        "{}",
        finished.stdout
    );
}

#[test]
fn what_a_killed_process_left_does_not_disturb_and_is_gone_afterwards() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    scene.refresh(&double).expect_ok();
    let stale = scene.keys_dir().join("main.json.new");
    std::fs::write(&stale, "{\"version\": 1, \"ser").unwrap();
    scene.forget_attempt();
    scene.refresh(&double).expect_ok();
    assert_eq!(scene.kids(), ["a"]);
    assert!(!stale.exists());
}

#[test]
fn a_link_in_the_place_of_the_new_file_is_removed_and_not_followed() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    let elsewhere = scene.file("elsewhere", "precious");
    std::os::unix::fs::symlink(&elsewhere, scene.keys_dir().join("main.json.new")).unwrap();
    scene.refresh(&double).expect_ok();
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    assert_eq!(scene.kids(), ["a"]);
}

#[test]
fn an_old_file_that_is_none_is_replaced_loudly() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    std::fs::write(scene.keys_dir().join("main.json"), "{\"version\": 1").unwrap();
    let finished = scene.refresh(&double);
    finished.expect(0, "not a keys file");
    assert_eq!(scene.kids(), ["a"]);
    let meta = std::fs::symlink_metadata(scene.keys_dir().join("main.json")).unwrap();
    assert!(meta.is_file() && meta.mode() & 0o777 == 0o644);
}

#[test]
fn a_process_that_was_stopped_with_the_lock_in_its_hands_holds_up_no_other() {
    let (scene, double) = (Scene::new(), ordinary(Certificate::Good));
    let lock = std::fs::File::create(scene.keys_dir().join(".lock")).unwrap();
    lock.lock().unwrap();
    let began = std::time::Instant::now();
    scene.refresh(&double).expect(1, "locked by another nunbird-keys");
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    drop(lock);
    scene.refresh(&double).expect_ok();
}
