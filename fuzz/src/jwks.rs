//! What a GitLab server, or an attacker in its place, sends to `nunbird-keys`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nunbird_handover::Untrusted;
use nunbird_policy::Algorithm;
use nunbird_token::{KeyMaterial, MAX_KEYS};
use serde_json::Value;
use std::collections::BTreeSet;

/// A key set: the resulting keys have unique names, the required length, and an algorithm that the
/// site accepts; a set that contains a secret is refused.
pub fn jwks(bytes: &[u8]) {
    let both = [Algorithm::Rs256, Algorithm::Es384];
    for accepted in [&both[..], &[Algorithm::Es256], &[]] {
        match nunbird_keys::parse_key_set(bytes, accepted) {
            Err(why) => assert!(!why.is_empty() && !why.chars().any(Untrusted::is_deceptive)),
            Ok(judged) => {
                assert!(std::str::from_utf8(bytes).is_ok());
                assert!((1..=MAX_KEYS).contains(&judged.keys.len()));
                assert!(!judged.skipped.iter().any(|why| why.chars().any(Untrusted::is_deceptive)));
                assert!(!shows_a_secret(bytes), "a secret key was shown");
                let mut names = BTreeSet::new();
                for key in judged.keys {
                    assert!(!key.kid.is_empty() && !key.kid.chars().any(Untrusted::is_deceptive));
                    assert!(names.insert(key.kid), "two keys of one name");
                    assert!(accepted.contains(&strong(&key.material)));
                }
            }
        }
    }
}

/// The algorithm of a key, after a check of its numbers.
fn strong(material: &KeyMaterial) -> Algorithm {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url without padding");
    match material {
        KeyMaterial::Rs256 { n, e } => {
            let (n, e) = (bytes(n), bytes(e));
            // No leading zero, so 256 bytes with the highest bit set, or more, are 2048 bits or more.
            assert!((256..=1024).contains(&n.len()) && n[0] != 0 && (n.len() > 256 || n[0] >= 0x80));
            assert!(e.len() <= 5 && e[0] != 0 && e.last().is_some_and(|b| b % 2 == 1) && e != [1]);
            Algorithm::Rs256
        }
        KeyMaterial::Es256 { x, y } => {
            assert_eq!((bytes(x).len(), bytes(y).len()), (32, 32));
            Algorithm::Es256
        }
        KeyMaterial::Es384 { x, y } => {
            assert_eq!((bytes(x).len(), bytes(y).len()), (48, 48));
            Algorithm::Es384
        }
    }
}

/// Parsed with another reader than the one under test. It refuses numbers outside of the range of
/// f64 (`1e999`) in irrelevant members, and then has no result.
fn shows_a_secret(bytes: &[u8]) -> bool {
    let Ok(set) = serde_json::from_slice::<Value>(bytes) else { return false };
    let keys = set["keys"].as_array().expect("a set that was accepted has keys");
    keys.iter()
        .any(|key| ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].into_iter().any(|part| !key[part].is_null()))
}
