use super::{attempt, merge, united};
use crate::commands::Server;
use crate::jwks::Key;
use crate::trouble::Trouble;
use nunbird_token::{KeyMaterial, KeysFile, MAX_KEYS, StoredKey};
use std::path::Path;

fn material(n: &str) -> KeyMaterial {
    KeyMaterial::Rs256 { n: n.to_owned(), e: "AQAB".to_owned() }
}

fn key(kid: &str) -> Key {
    Key { kid: kid.to_owned(), material: material(kid) }
}

fn stored(kid: &str, last_seen: u64, pinned: bool) -> StoredKey {
    StoredKey { kid: kid.to_owned(), material: material(kid), last_seen, pinned }
}

fn server() -> Server {
    Server {
        name: "main".to_owned(),
        url: "https://gitlab.example.org".to_owned(),
        issuer: "https://gitlab.example.org".to_owned(),
        ca_file: None,
        keys_max_age: 3600,
    }
}

fn read(directory: &Path) -> KeysFile {
    serde_json::from_slice(&std::fs::read(directory.join("main.json")).unwrap()).unwrap()
}

fn names(keys: &[StoredKey]) -> Vec<&str> {
    keys.iter().map(|key| key.kid.as_str()).collect()
}

#[test]
fn a_key_that_the_server_no_longer_shows_stays_until_its_age_is_up_and_a_pinned_one_for_ever() {
    let old = vec![stored("young", 9000, false), stored("aged", 6400, false), stored("pinned", 1, true)];
    let all = united(old, vec![key("new")], false, 10_000, 3600);
    assert_eq!(names(&all), ["new", "pinned", "young"]);
    assert_eq!(all[0].last_seen, 10_000);
}

#[test]
fn a_key_that_is_shown_again_is_seen_now_and_stays_pinned() {
    let all = united(vec![stored("a", 5, true)], vec![key("a")], false, 10_000, 3600);
    assert_eq!(all, [stored("a", 10_000, true)]);
}

#[test]
fn of_too_many_keys_the_oldest_go() {
    let old: Vec<StoredKey> = (0..30).map(|n| stored(&n.to_string(), 9000 + n, false)).collect();
    let all = united(old, vec![key("new")], false, 10_000, 3600);
    assert_eq!(all.len(), MAX_KEYS);
    assert!(names(&all).contains(&"29") && !names(&all).contains(&"0"));
}

#[test]
fn the_file_is_replaced_whole_whatever_a_killed_process_left() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("main.json.new"), "half a fi").unwrap();
    std::fs::write(scratch.path().join("main.json"), "not JSON").unwrap();
    merge(scratch.path(), &server(), vec![key("a")], false).unwrap();
    merge(scratch.path(), &server(), vec![key("b")], true).unwrap();
    assert_eq!(names(&read(scratch.path()).keys), ["b", "a"]);
    assert!(!scratch.path().join("main.json.new").exists());
}

#[test]
fn a_directory_that_cannot_be_written_leaves_the_old_keys() {
    let scratch = tempfile::tempdir().unwrap();
    merge(scratch.path(), &server(), vec![key("a")], false).unwrap();
    std::fs::create_dir(scratch.path().join("main.json.new")).unwrap();
    std::fs::write(scratch.path().join("main.json.new/x"), "").unwrap();
    let trouble = merge(scratch.path(), &server(), vec![key("b")], false).unwrap_err();
    assert!(trouble.to_string().contains("as they were"), "{trouble}");
    assert_eq!(names(&read(scratch.path()).keys), ["a"]);
}

#[test]
fn the_server_is_not_asked_twice_within_a_minute_for_a_jobs_sake() {
    let scratch = tempfile::tempdir().unwrap();
    attempt(scratch.path(), "main", true).unwrap();
    let again = attempt(scratch.path(), "main", true).unwrap_err();
    assert!(matches!(again, Trouble::TryLater(_)), "{again}");
    assert_eq!(again.exit_code(), 75);
    attempt(scratch.path(), "other", true).unwrap();
    attempt(scratch.path(), "main", false).unwrap();
}

#[test]
fn two_at_once_lose_no_key() {
    let scratch = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let path = scratch.path();
            scope.spawn(move || merge(path, &server(), vec![key(&n.to_string())], false).unwrap());
        }
    });
    assert_eq!(read(scratch.path()).keys.len(), 8);
}
