use super::{bits, parse_key_set};
use crate::server::ALL_ALGORITHMS;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nunbird_policy::Algorithm;
use nunbird_token::KeyMaterial;
use serde_json::{Value, json};

fn modulus(bits: usize) -> String {
    let mut bytes = vec![0xff; bits / 8];
    bytes[0] = 0x80;
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa() -> Value {
    json!({"kty": "RSA", "kid": "a", "use": "sig", "alg": "RS256", "n": modulus(2048), "e": "AQAB"})
}

fn with(name: &str, value: Value) -> Value {
    let mut key = rsa();
    key[name] = value;
    key
}

fn set(keys: &[Value]) -> Result<super::UsableKeys, String> {
    parse_key_set(json!({ "keys": keys }).to_string().as_bytes(), &ALL_ALGORITHMS)
}

#[test]
fn keys_as_gitlab_shows_them_are_used() {
    let second = with("kid", json!("b"));
    let judged = set(&[rsa(), second]).unwrap();
    assert_eq!(judged.keys.len(), 2);
    assert_eq!(bits(&judged.keys[0].material), 2048);
    let point = URL_SAFE_NO_PAD.encode([7; 32]);
    let ec = json!({"kty": "EC", "kid": "c", "crv": "P-256", "x": point, "y": point});
    assert_eq!(bits(&set(&[ec]).unwrap().keys[0].material), 256);
}

#[test]
fn keys_that_are_weak_or_for_something_else_are_skipped_and_reported() {
    for (name, value, why) in [
        ("n", json!(modulus(1024)), "1024 bits"),
        ("n", json!(modulus(16384)), "16384 bits"),
        ("n", json!("***"), "base64url"),
        ("e", json!("AQ"), "exponent"),
        ("e", json!("Ag"), "exponent"),
        ("e", json!("AAAA"), "exponent"),
        ("e", json!(""), "exponent"),
        // 2^32 + 3: just above the largest.
        ("e", json!("AQAAAAM"), "exponent"),
        ("e", json!(modulus(2048)), "exponent"),
        ("use", json!("enc"), "signatures"),
        ("alg", json!("RS512"), "algorithm"),
        ("alg", json!("none"), "algorithm"),
        ("alg", json!("HS256"), "algorithm"),
        ("kty", json!("oct"), "key type"),
        ("kid", json!(""), "kid"),
        ("kid", json!("a\u{1b}[m"), "not plain text"),
    ] {
        let good = with("kid", json!("good"));
        let judged = set(&[with(name, value.clone()), good]).unwrap();
        assert_eq!(judged.keys.len(), 1, "{name} {value}");
        assert!(judged.skipped[0].contains(why), "{}", judged.skipped[0]);
        assert!(!judged.skipped[0].contains('\u{1b}'));
    }
}

#[test]
fn a_set_that_shows_a_secret_or_names_a_key_twice_or_is_too_large_is_refused_whole() {
    for secret in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert!(set(&[rsa(), with(secret, json!("AQAB"))]).unwrap_err().contains("private"), "{secret}");
    }
    assert!(set(&[rsa(), rsa()]).unwrap_err().contains("two keys"));
    let many: Vec<Value> = (0..17).map(|n| with("kid", json!(n.to_string()))).collect();
    assert!(set(&many).unwrap_err().contains("17 keys"));
    assert!(set(&[]).unwrap_err().contains("empty"));
    for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[{\"kty\":\"RSA\",\"kty\":\"RSA\"}]}", "<html>"]
    {
        assert!(parse_key_set(text.as_bytes(), &ALL_ALGORITHMS).is_err(), "{text}");
    }
}

#[test]
fn a_private_part_is_noticed_in_a_key_that_would_be_skipped() {
    let skipped = json!({"kty": "oct", "kid": "s", "k": "AQAB"});
    assert!(set(&[rsa(), skipped]).unwrap_err().contains("private"));
}

#[test]
fn exponents_from_three_to_two_to_the_32nd_plus_one_are_used() {
    for e in ["Aw", "AQAB", "AAEAAQ", "AQAAAAE"] {
        assert_eq!(set(&[with("e", json!(e))]).unwrap().keys.len(), 1, "{e}");
    }
}

#[test]
fn numbers_are_kept_without_leading_zeros() {
    let mut bytes = vec![0; 2];
    bytes.extend(URL_SAFE_NO_PAD.decode(modulus(2048)).unwrap());
    let mut key = with("n", json!(URL_SAFE_NO_PAD.encode(bytes)));
    key["e"] = json!("AAEAAQ");
    let kept = KeyMaterial::Rs256 { n: modulus(2048), e: "AQAB".to_owned() };
    assert_eq!(set(&[key]).unwrap().keys[0].material, kept);
}

#[test]
fn a_key_for_an_algorithm_that_is_not_asked_for_is_skipped_and_reported() {
    let text = json!({ "keys": [rsa()] }).to_string();
    let none = parse_key_set(text.as_bytes(), &[Algorithm::Es256]).unwrap_err();
    assert!(none.contains("RS256, which `algorithms` does not list"), "{none}");
    assert_eq!(parse_key_set(text.as_bytes(), &[Algorithm::Rs256]).unwrap().keys.len(), 1);
}

#[test]
fn points_of_the_two_curves_are_used_and_others_skipped() {
    let ec = |crv: &str, length: usize| {
        let part = URL_SAFE_NO_PAD.encode(vec![7; length]);
        json!({"kty": "EC", "kid": crv, "crv": crv, "x": part, "y": part})
    };
    assert_eq!(set(&[ec("P-256", 32), ec("P-384", 48)]).unwrap().keys.len(), 2);
    for (crv, length, why) in
        [("P-256", 31, "31 bytes"), ("P-521", 66, "key type"), ("secp256k1", 32, "key type")]
    {
        let error = set(&[ec(crv, length)]).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
