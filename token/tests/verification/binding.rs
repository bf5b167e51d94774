//! The contents of a genuine token: its issuer, audience and time, the types of its claims, and the
//! job that it belongs to.

use super::scene::{HEADER, KEY, NOW, ask_claims, ask_with, claims, response, server, sign, with};
use nunbird_token::{Bound, Rejection, Server};
use serde_json::{Value, json};

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
        ("job_id", json!(500.0)),
        ("job_id", json!(0)),
        ("job_id", json!(-500)),
        ("job_id", json!(1_000_000_000_000_000_000_u64)),
        ("job_id", json!(true)),
        ("job_id", json!([500])),
        ("exp", json!("1790003600")),
        ("nbf", json!("1")),
        ("iat", json!(1.5)),
        ("iat", json!(-1)),
        ("exp", json!(null)),
        ("runner_id", json!("012")),
        ("runner_id", json!(0)),
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

/// GitLab sends ids as strings but for the runner's; its documentation has both.
#[test]
fn an_id_is_the_same_as_a_string_and_as_an_integer() {
    let strings = claims();
    let by_strings = ask_claims(&strings.to_string()).expect("admitted");
    let mut integers = strings.clone();
    for name in ["job_id", "project_id", "namespace_id", "user_id", "pipeline_id"] {
        let id: u64 = integers[name].as_str().expect(name).parse().expect(name);
        integers[name] = json!(id);
    }
    integers["runner_id"] = json!(integers["runner_id"].to_string());
    assert_eq!(ask_claims(&integers.to_string()), Ok(by_strings));
    // And another job's belongs to another job.
    integers["job_id"] = json!(501);
    assert!(matches!(ask_claims(&integers.to_string()), Err(Rejection::OtherJob(_))));
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
    let refused = |runner_id| Err(Rejection::OtherRunner { server: 0, runner_id });
    assert_eq!(ask_with(&entries, &[pinned(&[11])]), refused(Some(12)));
    let no_runner = sign(&KEY, HEADER, &with(&[("runner_id", json!("<absent>"))]));
    let entries = response(&[("SITE_ID_TOKEN", &no_runner)]);
    assert_eq!(ask_with(&entries, &[pinned(&[12])]), refused(None));
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
    assert_eq!(admitted.fork, Some(true));
    assert_eq!(ask_claims(&with(&fork[..3])), Err(Rejection::OtherJob(Bound::Project)));
}

#[test]
fn a_server_that_names_one_project_does_not_say_whose_sources_a_merge_request_has() {
    for (source, fork) in [
        ("push", Some(false)),
        ("schedule", Some(false)),
        ("merge_request_event", None),
        ("parent_pipeline", None),
        ("something_new", None),
    ] {
        let admitted = ask_claims(&with(&[("pipeline_source", json!(source))])).unwrap();
        assert_eq!(admitted.fork, fork, "{source}");
    }
    let own = [
        ("pipeline_source", json!("merge_request_event")),
        ("job_project_id", json!("3")),
        ("job_project_path", json!("hpc/app")),
        ("job_namespace_path", json!("hpc")),
    ];
    assert_eq!(ask_claims(&with(&own)).unwrap().fork, Some(false));
}

/// A server chooses the ids of its own jobs, so those alone do not bind a token of another server's.
#[test]
fn a_token_counts_for_jobs_of_the_server_that_signed_it() {
    let other = |repositories: &[&str]| Server {
        issuer: "https://other.example.org".to_owned(),
        repositories: repositories.iter().map(|url| (*url).to_owned()).collect(),
        keys: Vec::new(),
        ..server(&KEY)
    };
    let token = sign(&KEY, HEADER, &claims().to_string());
    let job_at = |url: &str| {
        let mut job = response(&[("SITE_ID_TOKEN", &token)]);
        job["git_info"]["repo_url"] = json!(url);
        job
    };
    let two = [server(&KEY), other(&["https://other.example.org"])];
    assert!(ask_with(&job_at("https://gitlab-ci-token:x@gitlab.example.org/hpc/app.git"), &two).is_ok());
    for url in [
        "https://gitlab-ci-token:x@other.example.org/hpc/app.git",
        "https://git.example.org/hpc/app.git",
        "",
        "/srv/app.git",
    ] {
        assert_eq!(ask_with(&job_at(url), &two), Err(Rejection::OtherServer), "{url}");
        assert!(ask_with(&job_at(url), &two[..1]).is_ok(), "there is no other server: {url}");
    }
    let mut none = job_at("");
    none.as_object_mut().unwrap().remove("git_info");
    assert_eq!(ask_with(&none, &two), Err(Rejection::OtherServer));
    // Its repositories are elsewhere, and the site configures it.
    let urls = ["https://gitlab.example.org", "https://git.example.org"].map(str::to_owned).to_vec();
    let shown = [Server { repositories: urls, ..server(&KEY) }, other(&["https://other.example.org"])];
    assert!(ask_with(&job_at("https://git.example.org/hpc/app.git"), &shown).is_ok());
    // One server twice, as for two audiences.
    assert!(
        ask_with(
            &job_at("https://gitlab.example.org/hpc/app.git"),
            &[server(&KEY), other(&["https://gitlab.example.org"])]
        )
        .is_ok()
    );
}

#[test]
fn no_token_holds_longer_than_the_longest_job() {
    let longest = 32 * 24 * 3600;
    let expiry = |changes: &[(&str, Value)]| ask_claims(&with(changes)).map(|admitted| admitted.expires_at);
    assert_eq!(expiry(&[("exp", json!(u64::MAX))]), Ok(NOW + longest));
    assert_eq!(expiry(&[("exp", json!(NOW + longest + 1))]), Ok(NOW + longest));
    assert_eq!(expiry(&[("exp", json!(NOW + longest))]), Ok(NOW + longest));
    let day = 24 * 3600;
    assert_eq!(expiry(&[("exp", json!(u64::MAX)), ("iat", json!(NOW - 31 * day))]), Ok(NOW + day));
    assert_eq!(expiry(&[("exp", json!(u64::MAX)), ("iat", json!(NOW - 33 * day))]), Err(Rejection::Expired));
    assert_eq!(expiry(&[("exp", json!(u64::MAX)), ("iat", json!(0))]), Err(Rejection::Expired));
    assert_eq!(expiry(&[("exp", json!(u64::MAX)), ("iat", json!(NOW + 60))]), Ok(NOW + longest));
}

#[test]
fn a_token_has_sixty_four_audiences_at_most_and_names_the_running_project_whole_or_not_at_all() {
    let audiences = |n: usize| {
        let mut all = vec!["https://other.example.org".to_owned(); n - 1];
        all.push("https://gitlab.example.org".to_owned());
        ask_claims(&with(&[("aud", json!(all))])).map(drop)
    };
    assert_eq!((audiences(64), audiences(65)), (Ok(()), Err(Rejection::Claims)));
    for (path, namespace) in [("", "lab"), ("lab/app", ""), ("", "")] {
        let named = with(&[
            ("job_project_id", json!("3")),
            ("job_project_path", json!(path)),
            ("job_namespace_path", json!(namespace)),
        ]);
        assert_eq!(ask_claims(&named).map(drop), Err(Rejection::Claims), "{path} {namespace}");
    }
}
