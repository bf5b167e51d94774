//! Which server signed a token, with which key and algorithm, and what is not a token at all.

use super::scene::{
    HEADER, KEY, NOW, OTHER_KEY, ask, ask_claims, ask_with, claims, response, server, sign, with,
};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use nunbird_token::{KeyMaterial, MAX_TOKEN, Rejection, Server, Source, StoredKey};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn a_genuine_token_of_this_job_proves_its_user() {
    let admitted = ask_claims(&claims().to_string()).unwrap();
    assert_eq!((admitted.user_login.as_str(), admitted.user_id), ("alice", 7));
    assert_eq!((admitted.job_id, admitted.project_id, admitted.pipeline_id), (500, 3, 50));
    assert_eq!(admitted.project_dir, std::path::Path::new("hpc/app"));
    assert_eq!((admitted.source, admitted.ref_protected), (Source::IdToken, Some(true)));
    assert_eq!((admitted.groups, admitted.user_email, admitted.requested_account), (None, None, None));
    assert_eq!(admitted.runner_id, Some(12));
}

#[test]
fn a_job_without_a_token_is_distinguished_from_one_with_an_empty_token() {
    assert_eq!(ask_with(&response(&[]), &[server(&KEY)]), Err(Rejection::NoToken));
    assert_eq!(ask_with(&response(&[("OTHER", "x")]), &[server(&KEY)]), Err(Rejection::NoToken));
    assert_eq!(ask(""), Err(Rejection::Empty));
}

#[test]
fn of_three_token_entries_the_one_that_fits_counts_wherever_it_stands() {
    let good = sign(&KEY, HEADER, &claims().to_string());
    let others = sign(&KEY, HEADER, &with(&[("job_id", json!("501")), ("user_login", json!("bob"))]));
    for order in [["x", &others, &good], [&good, "x", &others], [&others, &good, "x"]] {
        let entries: Vec<(&str, &str)> = order.iter().map(|t| ("SITE_ID_TOKEN", *t)).collect();
        assert_eq!(ask_with(&response(&entries), &[server(&KEY)]).unwrap().user_login, "alice");
    }
    let second_name = response(&[("SITE_ID_TOKEN", "x"), ("CI_JOB_JWT", &good)]);
    assert!(ask_with(&second_name, &[server(&KEY)]).is_ok());
}

#[test]
fn the_token_that_came_furthest_is_the_one_reported() {
    let late = sign(&KEY, HEADER, &with(&[("exp", json!(NOW - 100))]));
    let entries = response(&[("SITE_ID_TOKEN", "x"), ("SITE_ID_TOKEN", &late), ("SITE_ID_TOKEN", "")]);
    assert_eq!(ask_with(&entries, &[server(&KEY)]), Err(Rejection::Expired));
}

#[test]
fn a_token_signed_by_anybody_else_is_refused() {
    assert_eq!(ask(&sign(&OTHER_KEY, HEADER, &claims().to_string())), Err(Rejection::UnknownKey));
    let good = sign(&KEY, HEADER, &claims().to_string());
    let (input, signature) = good.rsplit_once('.').unwrap();
    let forged = format!(
        "{}.{}.{signature}",
        input.split_once('.').unwrap().0,
        B64.encode(with(&[("user_login", json!("bob"))]))
    );
    assert_eq!(ask(&forged), Err(Rejection::UnknownKey));
}

#[test]
fn a_token_cannot_choose_its_algorithm() {
    let payload = claims().to_string();
    let none = format!("{}.{}.", B64.encode(r#"{"alg":"none"}"#), B64.encode(&payload));
    assert_eq!(ask(&none), Err(Rejection::Malformed));
    let none_signed = format!("{}.{}.AAAA", B64.encode(r#"{"alg":"none"}"#), B64.encode(&payload));
    assert_eq!(ask(&none_signed), Err(Rejection::UnknownKey));
    // HS256 with the public modulus as the secret: the classic confusion (RFC 8725 §2.1).
    let input = format!("{}.{}", B64.encode(r#"{"alg":"HS256","typ":"JWT"}"#), B64.encode(&payload));
    let secret = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA256,
        KEY.public_key().modulus().big_endian_without_leading_zero(),
    );
    let tag = aws_lc_rs::hmac::sign(&secret, input.as_bytes());
    assert_eq!(ask(&format!("{input}.{}", B64.encode(tag.as_ref()))), Err(Rejection::UnknownKey));
    for alg in ["none", "HS256", "RS512", "PS256", "ES256", "rs256", ""] {
        let header = json!({"alg": alg, "typ": "JWT"}).to_string();
        assert_eq!(ask(&sign(&KEY, &header, &payload)), Err(Rejection::Header), "{alg}");
    }
}

#[test]
fn a_header_with_more_than_gitlab_sends_is_refused_though_its_signature_is_good() {
    for extra in [
        r#""jwk":{"kty":"RSA"}"#,
        r#""jku":"https://evil.example"#,
        r#""x5u":"https://evil.example""#,
        r#""x5c":[]"#,
        r#""crit":["b64"]"#,
        r#""b64":false"#,
        r#""cty":"JWT""#,
        r#""alg":"RS256""#,
    ] {
        let header = format!(r#"{{"alg":"RS256","typ":"JWT",{extra}}}"#);
        assert_eq!(ask(&sign(&KEY, &header, &claims().to_string())), Err(Rejection::Header), "{extra}");
    }
    for header in [r#"["RS256"]"#, "", "x", r#"{"typ":"JWT"}"#, r#"{"alg":"RS256","typ":"JOSE"}"#] {
        assert!(ask(&sign(&KEY, header, &claims().to_string())).is_err(), "{header}");
    }
}

#[test]
fn what_is_no_token_is_refused_whatever_its_size() {
    for bad in ["x", "a.b", "a.b.c.d", "..", "a..c", ".b.c", "a.b.", "a b.c.d", "a.b.c\n", "é.b.c", "a=.b.c"]
    {
        assert_eq!(ask(bad), Err(Rejection::Malformed), "{bad}");
    }
    let huge = format!("{}.b.c", "a".repeat(1 << 20));
    assert_eq!(ask(&huge), Err(Rejection::Malformed));
    let long = sign(&KEY, HEADER, &with(&[("sub", json!("x".repeat(MAX_TOKEN)))]));
    assert_eq!(ask(&long), Err(Rejection::Malformed));
}

#[test]
fn a_token_may_have_ninety_six_kibibytes() {
    // A base64url text has no length of 1 more than a multiple of 4: the header makes up for it.
    let of_length = |wanted: usize| {
        (0..4).find_map(|spaces| {
            let header = format!("{HEADER}{}", " ".repeat(spaces));
            let length = |sub: usize| sign(&KEY, &header, &with(&[("sub", json!("x".repeat(sub)))])).len();
            let about = (wanted - length(0)) * 3 / 4;
            let sub = (about.saturating_sub(3)..about + 3).find(|sub| length(*sub) == wanted)?;
            Some(sign(&KEY, &header, &with(&[("sub", json!("x".repeat(sub)))])))
        })
    };
    assert_eq!(MAX_TOKEN, 98_304);
    assert!(ask(&of_length(MAX_TOKEN).expect("a token of this length")).is_ok());
    assert_eq!(ask(&of_length(MAX_TOKEN + 1).expect("a token of this length")), Err(Rejection::Malformed));
}

#[test]
fn a_key_that_the_server_no_longer_shows_works_until_its_age_is_up_and_a_pinned_one_for_ever() {
    let token = sign(&KEY, HEADER, &claims().to_string());
    let entries = response(&[("SITE_ID_TOKEN", &token)]);
    let aged = |last_seen: u64, pinned: bool| {
        let mut server = server(&KEY);
        server.keys[0].last_seen = last_seen;
        server.keys[0].pinned = pinned;
        ask_with(&entries, &[server]).is_ok()
    };
    assert!(aged(NOW - 86399, false));
    assert!(!aged(NOW - 86400, false));
    assert!(aged(0, true));
}

#[test]
fn an_algorithm_that_is_not_configured_is_not_used() {
    let token = sign(&KEY, HEADER, &claims().to_string());
    let only_es = Server { algorithms: vec!["ES256"], ..server(&KEY) };
    assert_eq!(ask_with(&response(&[("SITE_ID_TOKEN", &token)]), &[only_es]), Err(Rejection::UnknownKey));
}

#[test]
fn tokens_are_signed_with_elliptic_curves_as_well_and_each_key_has_its_algorithm_alone() {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING};
    for (algorithm, signing, is_small) in [
        ("ES256", &ECDSA_P256_SHA256_FIXED_SIGNING, true),
        ("ES384", &ECDSA_P384_SHA384_FIXED_SIGNING, false),
    ] {
        let key = EcdsaKeyPair::generate(signing).unwrap();
        // SEC 1 section 2.3.3: 4, x, y.
        let (x, y) = key.public_key().as_ref()[1..].split_at(if is_small { 32 } else { 48 });
        let (x, y) = (B64.encode(x), B64.encode(y));
        let material = if is_small { KeyMaterial::Es256 { x, y } } else { KeyMaterial::Es384 { x, y } };
        let keys = vec![StoredKey { material, ..server(&KEY).keys[0].clone() }];
        let answered = |named: &str, allowed: &'static str| {
            let header = json!({"alg": named, "typ": "JWT"}).to_string();
            let input = format!("{}.{}", B64.encode(header), B64.encode(claims().to_string()));
            let signature = key.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
            let token = format!("{input}.{}", B64.encode(signature));
            let server = Server { keys: keys.clone(), algorithms: vec![allowed], ..server(&KEY) };
            ask_with(&response(&[("SITE_ID_TOKEN", &token)]), &[server]).map(|admitted| admitted.user_login)
        };
        assert_eq!(answered(algorithm, algorithm).as_deref(), Ok("alice"), "{algorithm}");
        for other in ["RS256", "ES256", "ES384", ""].into_iter().filter(|other| *other != algorithm) {
            assert_eq!(answered(other, algorithm), Err(Rejection::Header), "{algorithm} as {other}");
            assert_eq!(answered(algorithm, other), Err(Rejection::UnknownKey), "{other} alone");
        }
    }
}

#[test]
fn a_server_that_shows_another_servers_key_does_not_take_its_tokens() {
    let thief = Server {
        issuer: "https://thief.example.org".to_owned(),
        repositories: vec!["https://thief.example.org".to_owned()],
        ..server(&KEY)
    };
    let job = response(&[("SITE_ID_TOKEN", &sign(&KEY, HEADER, &claims().to_string()))]);
    for (servers, own) in [([thief.clone(), server(&KEY)], 1), ([server(&KEY), thief.clone()], 0)] {
        assert_eq!(ask_with(&job, &servers).map(|admitted| admitted.server), Ok(own));
    }
    let servers = [thief, server(&OTHER_KEY)];
    assert_eq!(
        ask_with(&job, &servers),
        Err(Rejection::Issuer),
        "it proves nothing for a server without the key"
    );
}

#[test]
fn the_key_decides_which_server_a_token_is_judged_by() {
    let second = Server { issuer: "https://second.example.org".to_owned(), ..server(&OTHER_KEY) };
    let servers = [server(&KEY), second];
    let claims_of_first = sign(&OTHER_KEY, HEADER, &claims().to_string());
    assert_eq!(ask_with(&response(&[("SITE_ID_TOKEN", &claims_of_first)]), &servers), Err(Rejection::Issuer));
    let own = sign(&OTHER_KEY, HEADER, &with(&[("iss", json!("https://second.example.org"))]));
    assert_eq!(ask_with(&response(&[("SITE_ID_TOKEN", &own)]), &servers).unwrap().server, 1);
}

proptest! {
    #[test]
    fn any_text_as_a_token_is_refused(token in "[A-Za-z0-9_.-]{0,200}") {
        prop_assert!(ask(&token).is_err());
    }

    #[test]
    fn any_signed_payload_is_read_or_refused(payload in ".{0,200}") {
        prop_assert!(ask_claims(&payload).is_err());
    }
}
