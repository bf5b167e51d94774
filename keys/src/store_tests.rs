use super::{merge, merged, record_attempt};
use crate::error::KeysError;
use crate::jwks::Key;
use crate::server::{ALL_ALGORITHMS, Server, Way};
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
        way: Way::default(),
        keys_max_age: 3600,
        algorithms: ALL_ALGORITHMS.to_vec(),
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
    let all = merged(old, vec![key("new")], false, 10_000, 3600).unwrap();
    assert_eq!(names(&all), ["new", "pinned", "young"]);
    assert_eq!(all[0].last_seen, 10_000);
}

#[test]
fn a_key_that_is_shown_again_is_seen_now_and_stays_pinned() {
    let all = merged(vec![stored("a", 5, true)], vec![key("a")], false, 10_000, 3600).unwrap();
    assert_eq!(all, [stored("a", 10_000, true)]);
}

#[test]
fn of_too_many_keys_the_oldest_go() {
    let old: Vec<StoredKey> = (0..30).map(|n| stored(&n.to_string(), 9000 + n, false)).collect();
    let all = merged(old, vec![key("new")], false, 10_000, 3600).unwrap();
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
    assert!(trouble.to_string().contains("the keys are unchanged"), "{trouble}");
    assert_eq!(names(&read(scratch.path()).keys), ["a"]);
}

#[test]
fn the_server_is_not_asked_twice_within_five_seconds_for_a_jobs_sake() {
    let scratch = tempfile::tempdir().unwrap();
    record_attempt(scratch.path(), "main", true).unwrap();
    let again = record_attempt(scratch.path(), "main", true).unwrap_err();
    assert!(matches!(again, KeysError::TryLater(_)), "{again}");
    assert_eq!(again.exit_code(), 75);
    record_attempt(scratch.path(), "other", true).unwrap();
    record_attempt(scratch.path(), "main", false).unwrap();
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

#[test]
fn pinned_keys_are_not_pushed_out_by_those_that_the_server_shows() {
    let old: Vec<StoredKey> = (0..3).map(|n| stored(&format!("p{n}"), 1, true)).collect();
    let shown = |n: usize| (0..n).map(|n| key(&n.to_string())).collect::<Vec<_>>();
    let all = merged(old.clone(), shown(MAX_KEYS - 3), false, 10_000, 3600).unwrap();
    assert!(["p0", "p1", "p2"].iter().all(|p| names(&all).contains(p)));
    let too_many = merged(old, shown(MAX_KEYS - 2), false, 10_000, 3600).unwrap_err();
    assert!(too_many.contains("17 keys together with the pinned ones"), "{too_many}");
}

#[test]
fn a_clock_that_was_ahead_does_not_keep_a_key_for_ever() {
    let all = merged(vec![stored("a", 1_000_000, false)], vec![key("new")], false, 10_000, 3600).unwrap();
    assert_eq!(all[1], stored("a", 10_000, false));
}

#[test]
fn keys_of_another_issuer_are_dropped_pinned_or_not() {
    let scratch = tempfile::tempdir().unwrap();
    merge(scratch.path(), &server(), vec![key("a")], true).unwrap();
    let moved = Server { issuer: "https://other.example.org".to_owned(), ..server() };
    merge(scratch.path(), &moved, vec![key("b")], false).unwrap();
    assert_eq!(names(&read(scratch.path()).keys), ["b"]);
}

#[test]
fn an_old_file_that_cannot_be_read_is_not_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    // A directory in its place fails with EISDIR, for root as well.
    std::fs::create_dir(scratch.path().join("main.json")).unwrap();
    let trouble = merge(scratch.path(), &server(), vec![key("a")], false).unwrap_err();
    assert!(trouble.to_string().contains("the keys are unchanged"), "{trouble}");
    assert!(scratch.path().join("main.json").is_dir());
}
