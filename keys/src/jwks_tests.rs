use super::{bits, judge};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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

fn set(keys: &[Value]) -> Result<super::Judged, String> {
    judge(json!({ "keys": keys }).to_string().as_bytes())
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
fn keys_that_are_weak_or_for_something_else_are_skipped_and_told() {
    for (name, value, why) in [
        ("n", json!(modulus(1024)), "1024 bits"),
        ("n", json!(modulus(16384)), "16384 bits"),
        ("n", json!("***"), "base64url"),
        ("e", json!("AQ"), "exponent"),
        ("e", json!("Ag"), "exponent"),
        ("e", json!("AAAA"), "exponent"),
        ("e", json!("AQAAAAAB"), "exponent"),
        ("use", json!("enc"), "signatures"),
        ("alg", json!("RS512"), "algorithm"),
        ("kty", json!("oct"), "kind"),
        ("kid", json!(""), "kid"),
        ("kid", json!("a\u{1b}[m"), "plain"),
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
    for secret in ["d", "p", "q", "k"] {
        assert!(set(&[rsa(), with(secret, json!("AQAB"))]).unwrap_err().contains("private"), "{secret}");
    }
    assert!(set(&[rsa(), rsa()]).unwrap_err().contains("two keys"));
    let many: Vec<Value> = (0..17).map(|n| with("kid", json!(n.to_string()))).collect();
    assert!(set(&many).unwrap_err().contains("17 keys"));
    assert!(set(&[]).unwrap_err().contains("empty"));
    for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[{\"kty\":\"RSA\",\"kty\":\"RSA\"}]}", "<html>"]
    {
        assert!(judge(text.as_bytes()).is_err(), "{text}");
    }
}
