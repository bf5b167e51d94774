use super::{JobQuestion, admit_by_job_token, job_token};
use crate::{Admitted, Bound, Rejection, Source};
use serde_json::{Value, json};

const URL: &str = "https://gitlab.example.org/git";

fn response() -> Value {
    json!({
        "id": 7, "token": "glcbt-64_secret",
        "job_info": { "project_id": 3, "user_id": 9, "pipeline_id": 5 },
        "git_info": { "repo_url": "https://gitlab-ci-token:x@gitlab.example.org/git/hpc/sub/app.git" },
        "runner_info": { "timeout": 7200 },
        "variables": [{ "key": "SVC", "value": "" }, { "key": "SVC", "value": "deploy" }],
    })
}

fn answer() -> Value {
    json!({
        "id": 7, "status": "running", "ref": "main", "tag": false, "name": "build", "stage": "test",
        "web_url": format!("{URL}/hpc/sub/app/-/jobs/7"),
        "user": { "id": 9, "username": "ada", "name": "Ada", "state": "active" },
        "pipeline": { "id": 5, "project_id": 3, "ref": "main", "sha": "0", "status": "running", "source": "push" },
        "runner": { "id": 12 }, "project": { "ci_job_token_scope_enabled": false },
    })
}

fn judge(response: &Value, answer: &str, runner_ids: &[u64]) -> Result<Admitted, Rejection> {
    admit_by_job_token(&JobQuestion {
        response: response.to_string().as_bytes(),
        answer: answer.as_bytes(),
        server: 0,
        url: URL,
        runner_ids,
        now: 1000,
        account_variable: Some("SVC"),
        builds_variable: Some("SVC"),
    })
}

#[test]
fn a_running_job_of_this_server_is_described_as_far_as_the_answer_goes() {
    let admitted = judge(&response(), &answer().to_string(), &[12]).unwrap();
    assert_eq!((admitted.source, admitted.expires_at), (Source::JobToken, 8200));
    assert_eq!(
        (admitted.project_path.as_str(), admitted.namespace_path.as_str()),
        ("hpc/sub/app", "hpc/sub")
    );
    assert_eq!((admitted.user_login.as_str(), admitted.user_id, admitted.runner_id), ("ada", 9, Some(12)));
    assert_eq!(admitted.ref_protected, None);
    assert_eq!(admitted.pipeline_source.as_deref(), Some("push"));
    assert_eq!(admitted.requested_account.as_deref(), Some("deploy"));
    assert_eq!(admitted.fork, Some(false), "a push is to the project itself");
}

#[test]
fn what_the_answer_does_not_say_about_a_fork_is_unknown() {
    for (source, git_ref, fork) in [
        (json!("schedule"), "main", Some(false)),
        (json!("merge_request_event"), "refs/merge-requests/4/head", None),
        (json!("merge_request_event"), "main", None),
        (json!("push"), "refs/merge-requests/4/head", None),
        (json!("parent_pipeline"), "main", None),
        (json!("external_pull_request_event"), "main", None),
        (json!("something_new"), "main", None),
        (Value::Null, "main", None),
    ] {
        let mut answer = answer();
        answer["pipeline"]["source"] = source.clone();
        answer["ref"] = json!(git_ref);
        let admitted = judge(&response(), &answer.to_string(), &[]).unwrap();
        assert_eq!(admitted.fork, fork, "{source} {git_ref}");
    }
}

#[test]
fn an_identity_holds_as_long_as_the_runner_lets_the_job_run() {
    let life = |info: Value| {
        let mut response = response();
        response["runner_info"] = info;
        judge(&response, &answer().to_string(), &[]).map(|admitted| admitted.expires_at - 1000)
    };
    assert_eq!(life(json!({ "timeout": 5400 })), Ok(5400));
    assert_eq!(life(json!({ "timeout": 0 })), Ok(7200), "what gitlab-runner does without a timeout");
    assert_eq!(life(json!({})), Ok(7200));
    assert_eq!(life(json!({ "timeout": 1 })), Ok(600));
    assert_eq!(life(json!({ "timeout": u64::MAX })), Ok(30 * 24 * 3600));
    assert_eq!(life(json!({ "timeout": "5400" })), Err(Rejection::Response));
}

#[test]
fn a_member_that_stands_twice_is_no_answer() {
    let text = answer().to_string();
    for twice in [r#"{"id":7,"#, r#"{"user":{"id":9,"username":"bob"},"#, r#"{"status":"running","#] {
        assert_eq!(
            judge(&response(), &text.replacen('{', twice, 1), &[]),
            Err(Rejection::JobAnswer),
            "{twice}"
        );
    }
}

#[test]
fn an_answer_about_another_job_is_a_replay() {
    let mut other = answer();
    other["id"] = json!(8);
    other["web_url"] = json!(format!("{URL}/hpc/sub/app/-/jobs/8"));
    assert_eq!(judge(&response(), &other.to_string(), &[]), Err(Rejection::OtherJob(Bound::Job)));
    for (pointer, value, bound) in [
        ("/pipeline/project_id", json!(4), Bound::Project),
        ("/pipeline/id", json!(6), Bound::Pipeline),
        ("/user/id", json!(10), Bound::User),
    ] {
        let mut other = answer();
        *other.pointer_mut(pointer).unwrap() = value;
        assert_eq!(judge(&response(), &other.to_string(), &[]), Err(Rejection::OtherJob(bound)), "{pointer}");
    }
    assert_eq!(
        judge(&response(), &answer().to_string(), &[13]),
        Err(Rejection::OtherRunner { server: 0, runner_id: Some(12) })
    );
}

#[test]
fn anything_but_the_entity_of_a_running_job_here_is_no_answer() {
    for (pointer, value) in [
        ("/status", json!("success")),
        ("/status", json!("canceled")),
        ("/web_url", json!("https://evil.example.org/git/hpc/sub/app/-/jobs/7")),
        ("/web_url", json!("https://gitlab.example.org/gitx/hpc/sub/app/-/jobs/7")),
        ("/web_url", json!(format!("{URL}/hpc/../root/-/jobs/7"))),
        ("/web_url", json!(format!("{URL}/app/-/jobs/7"))),
        ("/web_url", json!(format!("{URL}/hpc/x/-/jobs/8/-/jobs/7"))),
        ("/web_url", json!(format!("{URL}/hpc/app/-/jobs/77"))),
        ("/user/username", json!("a\u{202e}b")),
        ("/user/username", json!("")),
        ("/user/id", json!(0)),
        ("/user/id", json!("9")),
        ("/user", Value::Null),
        ("/ref", json!(7)),
    ] {
        let mut bad = answer();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert_eq!(judge(&response(), &bad.to_string(), &[]), Err(Rejection::JobAnswer), "{bad}");
    }
    let twice = answer().to_string().replacen("{", "{\"id\":7,", 1);
    for bad in ["", "[]", "null", "<html>", "{}", twice.as_str()] {
        assert_eq!(judge(&response(), bad, &[]), Err(Rejection::JobAnswer), "{bad}");
    }
    assert_eq!(judge(&json!([]), &answer().to_string(), &[]), Err(Rejection::Response));
}

#[test]
fn a_job_token_goes_to_the_server_of_its_repository_or_to_the_only_one() {
    let find = |response: &Value, urls: &[&str]| {
        let servers: Vec<Vec<String>> = urls.iter().map(|&url| vec![url.to_owned()]).collect();
        job_token(response.to_string().as_bytes(), &servers).map(|found| found.server)
    };
    assert_eq!(find(&response(), &["https://other.example.org", URL]), Ok(1));
    assert_eq!(find(&response(), &["https://other.example.org", "https://GitLab.example.org"]), Ok(1));
    assert_eq!(find(&response(), &["https://other.example.org"]), Ok(0));
    assert_eq!(find(&response(), &["https://a.org", "https://b.org"]), Err(Rejection::NoToken));
    assert_eq!(find(&response(), &[URL, "https://gitlab.example.org:8443"]), Ok(0));
    assert_eq!(
        find(&response(), &[URL, URL]),
        Err(Rejection::NoToken),
        "two servers that cannot be told apart"
    );
    for token in ["", "two words", "line\nbreak", "caf\u{e9}", &"x".repeat(9000)] {
        let mut bad = response();
        bad["token"] = json!(token);
        assert_eq!(find(&bad, &[URL]), Err(Rejection::NoToken), "{token}");
    }
    let shown = format!("{:?}", job_token(response().to_string().as_bytes(), &[vec![URL.to_owned()]]));
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn a_job_token_of_eight_kibibytes_is_one_and_a_longer_one_is_none() {
    let servers = [vec![URL.to_owned()]];
    let with = |length: usize| {
        let mut response = response();
        response["token"] = json!("x".repeat(length));
        job_token(response.to_string().as_bytes(), &servers).map(|found| found.token.len())
    };
    assert_eq!((with(8192), with(8193)), (Ok(8192), Err(Rejection::NoToken)));
}
