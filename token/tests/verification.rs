//! What makes a token count, and every way in which one does not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use nunbird_token::{
    Admitted, Bound, KeyMaterial, MAX_TOKEN, Question, Rejection, Server, Source, StoredKey, admit, decode,
    encode,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

const NOW: u64 = 1_790_000_000;
const HEADER: &str = r#"{"alg":"RS256","typ":"JWT","kid":"one"}"#;
static KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static OTHER_KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

fn sign(key: &RsaKeyPair, header: &str, payload: &str) -> String {
    let input = format!("{}.{}", B64.encode(header), B64.encode(payload));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
    format!("{input}.{}", B64.encode(signature))
}

fn server(key: &RsaKeyPair) -> Server {
    let public = key.public_key();
    let part = |bytes: &[u8]| B64.encode(bytes);
    let material = KeyMaterial::Rs256 {
        n: part(public.modulus().big_endian_without_leading_zero()),
        e: part(public.exponent().big_endian_without_leading_zero()),
    };
    Server {
        issuer: "https://gitlab.example.org".to_owned(),
        audience: vec!["https://gitlab.example.org".to_owned()],
        algorithms: vec!["RS256"],
        runner_ids: Vec::new(),
        keys_max_age: 86400,
        keys: vec![StoredKey { kid: "one".to_owned(), material, last_seen: NOW, pinned: false }],
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://gitlab.example.org", "aud": "https://gitlab.example.org",
        "sub": "project_path:hpc/app:ref_type:branch:ref:main",
        "exp": NOW + 3600, "nbf": NOW - 5, "iat": NOW, "jti": "0d3c",
        "project_id": "3", "project_path": "hpc/app", "namespace_id": "2", "namespace_path": "hpc",
        "user_id": "7", "user_login": "alice", "user_email": null, "pipeline_id": "50",
        "pipeline_source": "push", "job_id": "500", "ref": "main", "ref_type": "branch",
        "ref_protected": "true", "runner_id": 12, "runner_environment": "self-hosted",
        "a_claim_of_tomorrow": {"deep": [1, 2]},
    })
}

fn with(changes: &[(&str, Value)]) -> String {
    let mut all = claims();
    for (name, value) in changes {
        match value {
            Value::String(text) if text == "<absent>" => drop(all.as_object_mut().unwrap().remove(*name)),
            value => all[*name] = value.clone(),
        }
    }
    all.to_string()
}

fn response(tokens: &[(&str, &str)]) -> Value {
    let variables: Vec<Value> =
        tokens.iter().map(|(k, v)| json!({"key": k, "value": v, "masked": true})).collect();
    json!({
        "id": 500, "token": "glcbt-secret", "variables": variables,
        "job_info": {"name": "build", "project_id": 3, "user_id": 7, "pipeline_id": 50},
        "git_info": {"repo_url": "https://gitlab-ci-token:x@gitlab.example.org/hpc/app.git"},
    })
}

fn ask_with(response: &Value, servers: &[Server]) -> Result<Admitted, Rejection> {
    let names = ["SITE_ID_TOKEN".to_owned(), "CI_JOB_JWT".to_owned()];
    let bytes = response.to_string();
    let question = Question {
        response: bytes.as_bytes(),
        token_variables: &names,
        servers,
        now: NOW,
        clock_skew: 60,
        account_variable: Some("SVC"),
        builds_variable: Some("DIR"),
    };
    admit(&question)
}

fn ask(token: &str) -> Result<Admitted, Rejection> {
    ask_with(&response(&[("SITE_ID_TOKEN", token)]), &[server(&KEY)])
}

fn ask_claims(payload: &str) -> Result<Admitted, Rejection> {
    ask(&sign(&KEY, HEADER, payload))
}

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
fn a_job_without_a_token_is_told_from_one_with_an_empty_token() {
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
fn issuer_audience_and_time_are_exact() {
    for (change, rejection) in [
        (("iss", json!("https://gitlab.example.org/")), Rejection::Issuer),
        (("iss", json!("gitlab.example.org")), Rejection::Issuer),
        (("aud", json!("https://other.example.org")), Rejection::Audience),
        (("aud", json!([])), Rejection::Audience),
        (("aud", json!(["https://gitlab.example.org.evil"])), Rejection::Audience),
        (("exp", json!(NOW - 60)), Rejection::Expired),
        (("exp", json!(0)), Rejection::Expired),
        (("nbf", json!(NOW + 61)), Rejection::NotYetValid),
        (("iat", json!(NOW + 61)), Rejection::NotYetValid),
    ] {
        assert_eq!(ask_claims(&with(std::slice::from_ref(&change))), Err(rejection), "{change:?}");
    }
    for change in [
        ("aud", json!(["a", "https://gitlab.example.org"])),
        ("exp", json!(NOW - 59)),
        ("nbf", json!(NOW + 60)),
        ("iat", json!(NOW + 60)),
        ("exp", json!(u64::MAX)),
    ] {
        assert!(ask_claims(&with(std::slice::from_ref(&change))).is_ok(), "{change:?}");
    }
}

#[test]
fn a_claim_of_another_type_or_missing_is_refused() {
    for (name, value) in [
        ("job_id", json!(500)),
        ("project_id", json!(3)),
        ("namespace_id", json!(2)),
        ("user_id", json!(7)),
        ("pipeline_id", json!(50)),
        ("exp", json!("1790003600")),
        ("nbf", json!("1")),
        ("iat", json!(1.5)),
        ("iat", json!(-1)),
        ("exp", json!(null)),
        ("runner_id", json!("12")),
        ("ref_protected", json!(true)),
        ("ref_protected", json!("yes")),
        ("user_login", json!(null)),
        ("user_login", json!(["alice"])),
        ("user_login", json!(7)),
        ("user_login", json!("")),
        ("job_id", json!("")),
        ("job_id", json!("0")),
        ("job_id", json!("0500")),
        ("job_id", json!("+500")),
        ("job_id", json!(" 500")),
        ("job_id", json!("99999999999999999999")),
        ("aud", json!(7)),
        ("aud", json!({"a": 1})),
        ("aud", json!(null)),
        ("job_project_id", json!("3")),
        ("environment", json!(7)),
        ("iss", json!("<absent>")),
        ("aud", json!("<absent>")),
        ("exp", json!("<absent>")),
        ("nbf", json!("<absent>")),
        ("job_id", json!("<absent>")),
        ("user_id", json!("<absent>")),
        ("ref_protected", json!("<absent>")),
    ] {
        assert_eq!(ask_claims(&with(&[(name, value.clone())])), Err(Rejection::Claims), "{name} {value}");
    }
}

#[test]
fn claims_that_stand_twice_are_refused_and_an_array_is_no_object() {
    let payload = claims().to_string();
    for twice in [r#"{"user_login":"root","#, r#"{"job_id":"500","#, r#"{"exp":9999999999,"#] {
        assert_eq!(ask_claims(&payload.replacen('{', twice, 1)), Err(Rejection::Claims), "{twice}");
    }
    let values: Vec<Value> = claims().as_object().unwrap().values().cloned().collect();
    assert_eq!(ask_claims(&Value::from(values).to_string()), Err(Rejection::Claims));
    for other in ["null", "7", "\"x\"", "{}", "{} {}", &format!("{payload}x")] {
        assert_eq!(ask_claims(other), Err(Rejection::Claims), "{other}");
    }
}

#[test]
fn characters_that_deceive_a_reader_are_refused_in_every_text() {
    for claim in [
        "user_login",
        "project_path",
        "namespace_path",
        "ref",
        "pipeline_source",
        "environment",
        "aud",
        "iss",
    ] {
        for bad in
            ["a\0b", "a\nb", "a\rb", "a\u{1b}[31mb", "a\u{202e}b", "a\u{2066}b", "a\u{200b}b", "a\u{85}b"]
        {
            assert_eq!(ask_claims(&with(&[(claim, json!(bad))])), Err(Rejection::Claims), "{claim} {bad:?}");
        }
        assert_eq!(ask_claims(&with(&[(claim, json!("x".repeat(2000)))])), Err(Rejection::Claims), "{claim}");
    }
    assert!(ask_claims(&with(&[("ref", json!("feature/größe-ブランチ"))])).is_ok());
}

#[test]
fn a_token_of_another_job_project_pipeline_user_or_runner_is_a_replay() {
    for (claim, value, bound) in [
        ("job_id", json!("501"), Bound::Job),
        ("project_id", json!("4"), Bound::Project),
        ("pipeline_id", json!("51"), Bound::Pipeline),
        ("user_id", json!("8"), Bound::User),
    ] {
        assert_eq!(ask_claims(&with(&[(claim, value)])), Err(Rejection::OtherJob(bound)), "{claim}");
    }
    let token = sign(&KEY, HEADER, &claims().to_string());
    let pinned = |ids: &[u64]| Server { runner_ids: ids.to_vec(), ..server(&KEY) };
    let entries = response(&[("SITE_ID_TOKEN", &token)]);
    assert!(ask_with(&entries, &[pinned(&[11, 12])]).is_ok());
    assert_eq!(ask_with(&entries, &[pinned(&[11])]), Err(Rejection::OtherJob(Bound::Runner)));
    let no_runner = sign(&KEY, HEADER, &with(&[("runner_id", json!("<absent>"))]));
    let entries = response(&[("SITE_ID_TOKEN", &no_runner)]);
    assert_eq!(ask_with(&entries, &[pinned(&[12])]), Err(Rejection::OtherJob(Bound::Runner)));
}

#[test]
fn older_runners_bind_by_job_and_project_alone() {
    let token = sign(&KEY, HEADER, &claims().to_string());
    for info in [json!({"project_id": 3}), json!({"project_id": 3, "user_id": 0, "pipeline_id": 0})] {
        let mut older = response(&[("SITE_ID_TOKEN", &token)]);
        older["job_info"] = info;
        assert!(ask_with(&older, &[server(&KEY)]).is_ok());
    }
}

#[test]
fn a_merge_request_from_a_fork_counts_for_the_project_that_runs_it() {
    let fork = [
        ("project_id", json!("9")),
        ("project_path", json!("mallory/app")),
        ("namespace_path", json!("mallory")),
        ("job_project_id", json!("3")),
        ("job_project_path", json!("hpc/app")),
        ("job_namespace_path", json!("hpc")),
        ("job_namespace_id", json!("4")),
        ("user_access_level", json!("owner")),
    ];
    let admitted = ask_claims(&with(&fork)).unwrap();
    assert_eq!((admitted.project_id, admitted.project_path.as_str()), (3, "hpc/app"));
    assert_eq!((admitted.namespace_path.as_str(), admitted.namespace_id), ("hpc", Some(4)));
    assert_eq!(admitted.access_level, None, "everybody owns a fork of their own");
    assert_eq!(ask_claims(&with(&fork[..3])), Err(Rejection::OtherJob(Bound::Project)));
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
fn the_key_decides_which_server_a_token_is_judged_by() {
    let second = Server { issuer: "https://second.example.org".to_owned(), ..server(&OTHER_KEY) };
    let servers = [server(&KEY), second];
    let claims_of_first = sign(&OTHER_KEY, HEADER, &claims().to_string());
    assert_eq!(ask_with(&response(&[("SITE_ID_TOKEN", &claims_of_first)]), &servers), Err(Rejection::Issuer));
    let own = sign(&OTHER_KEY, HEADER, &with(&[("iss", json!("https://second.example.org"))]));
    assert_eq!(ask_with(&response(&[("SITE_ID_TOKEN", &own)]), &servers).unwrap().server, 1);
}

#[test]
fn a_response_that_is_not_the_runners_is_refused() {
    for bad in [
        json!([]),
        json!({}),
        json!({"id": "500", "job_info": {"project_id": 3}}),
        json!({"id": 500}),
        json!(null),
    ] {
        assert_eq!(ask_with(&bad, &[server(&KEY)]), Err(Rejection::Response), "{bad}");
    }
}

#[test]
fn facts_of_user_and_environment_are_read_where_the_server_sends_them() {
    let told = with(&[
        ("user_email", json!("alice@example.org")),
        ("user_access_level", json!("maintainer")),
        ("ref_type", json!("branch")),
        ("environment", json!("production")),
        ("environment_protected", json!("true")),
        ("groups_direct", json!(["lab", "hpc/core"])),
        ("user_identities", json!([{"provider": "ldapmain", "extern_uid": "uid=a,ou=x", "extra": 1}])),
    ]);
    let admitted = ask_claims(&told).unwrap();
    assert_eq!(admitted.user_email.as_deref(), Some("alice@example.org"));
    assert_eq!(admitted.access_level.as_deref(), Some("maintainer"));
    assert_eq!(admitted.groups, Some(vec!["lab".to_owned(), "hpc/core".to_owned()]));
    assert_eq!(admitted.environment_protected, Some(true));
    assert_eq!(admitted.identities[0].extern_uid, "uid=a,ou=x");
    for (name, bad) in [
        ("groups_direct", json!("lab")),
        ("groups_direct", json!(["a\u{1b}"])),
        ("groups_direct", json!([""])),
        ("groups_direct", json!(vec!["a"; 201])),
        ("user_identities", json!([{"provider": "ldapmain"}])),
        ("user_identities", json!([{"provider": "x", "extern_uid": "a\nb"}])),
        ("environment_protected", json!(true)),
        ("user_email", json!(7)),
    ] {
        assert_eq!(ask_claims(&with(&[(name, bad.clone())])), Err(Rejection::Claims), "{name} {bad}");
    }
}

#[test]
fn two_hundred_groups_with_long_paths_fit_into_token_and_message() {
    let groups: Vec<String> = (0..200).map(|n| format!("{n:03}/{}", "g".repeat(251))).collect();
    let admitted = ask_claims(&with(&[("groups_direct", json!(groups))])).unwrap();
    assert_eq!(admitted.groups.as_ref(), Some(&groups));
    assert_eq!(decode(&encode(&Ok(admitted.clone()))), Ok(Ok(admitted)));
}

#[test]
fn an_identity_without_a_name_is_left_out_and_keeps_nobody_away() {
    let nameless = json!([
        {"provider": "saml", "extern_uid": ""},
        {"provider": "", "extern_uid": "x"},
        {"provider": "ldapmain", "extern_uid": "uid=a"},
    ]);
    let admitted = ask_claims(&with(&[("user_identities", nameless)])).unwrap();
    let names: Vec<_> = admitted.identities.iter().map(|one| one.extern_uid.as_str()).collect();
    assert_eq!(names, ["uid=a"]);
}

#[test]
fn the_account_that_a_user_asks_for_is_the_last_one_named() {
    let token = sign(&KEY, HEADER, &claims().to_string());
    let asked = |values: &[&str]| {
        let mut variables = vec![("SITE_ID_TOKEN", token.as_str())];
        variables.extend(values.iter().map(|value| ("SVC", *value)));
        ask_with(&response(&variables), &[server(&KEY)]).unwrap().requested_account
    };
    assert_eq!(asked(&[]), None);
    assert_eq!(asked(&["", ""]), None);
    assert_eq!(asked(&["", "one", "two"]).as_deref(), Some("two"));
    assert_eq!(asked(&["one", "two", ""]), None, "the job's scripts see an empty variable");
    assert_eq!(asked(&["a\u{1b}[31m"]).as_deref(), Some("?"));
    assert_eq!(asked(&["x".repeat(300).as_str()]).as_deref(), Some("?"));
}

#[test]
fn the_directory_that_a_user_asks_for_is_the_last_one_named() {
    let token = sign(&KEY, HEADER, &claims().to_string());
    let asked = |values: &[&str]| {
        let mut variables = vec![("SITE_ID_TOKEN", token.as_str())];
        variables.extend(values.iter().map(|value| ("DIR", *value)));
        let admitted = ask_with(&response(&variables), &[server(&KEY)]).unwrap();
        assert_eq!(decode(&encode(&Ok(admitted.clone()))), Ok(Ok(admitted.clone())));
        assert_eq!(admitted.requested_account, None);
        admitted.requested_builds_dir
    };
    assert_eq!(asked(&[""]), None);
    assert_eq!(asked(&["/a", "$HOME/b"]).as_deref(), Some("$HOME/b"));
    assert_eq!(asked(&["/a\u{202e}b"]).as_deref(), Some("?"));
    assert_eq!(asked(&["/x".repeat(600).as_str()]).as_deref(), Some("?"));
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
