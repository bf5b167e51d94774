//! What is read from the response and from an accepted token.

use super::scene::{HEADER, KEY, ask_claims, ask_with, claims, response, server, sign, with};
use nunbird_token::{Rejection, decode, encode};
use serde_json::json;

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
    let shown = with(&[
        ("user_email", json!("alice@example.org")),
        ("user_access_level", json!("maintainer")),
        ("ref_type", json!("branch")),
        ("environment", json!("production")),
        ("environment_protected", json!("true")),
        ("groups_direct", json!(["lab", "hpc/core"])),
        ("user_identities", json!([{"provider": "ldapmain", "extern_uid": "uid=a,ou=x", "extra": 1}])),
    ]);
    let admitted = ask_claims(&shown).unwrap();
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
