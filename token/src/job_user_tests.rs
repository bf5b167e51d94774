use super::{JobUser, UserQuestion, job_user};
use crate::{Bound, Rejection, decode_job_user, encode_job_user};
use serde_json::{Value, json};

fn judge(answer: &str, runner_ids: &[u64]) -> Result<JobUser, Rejection> {
    let response = json!({
        "id": 7, "token": "glcbt-64_secret",
        "job_info": { "project_id": 3, "user_id": 9, "pipeline_id": 5 },
        "git_info": { "repo_url": "https://gitlab.example.org/hpc/app.git" }, "variables": [],
    });
    job_user(&UserQuestion {
        response: response.to_string().as_bytes(),
        answer: answer.as_bytes(),
        runner_ids,
    })
}

fn answer(user: Value) -> Value {
    json!({
        "id": 7, "status": "running", "ref": "main", "user": user,
        "pipeline": { "id": 5, "project_id": 3 }, "runner": { "id": 12 },
    })
}

fn ada() -> Value {
    json!({ "id": 9, "username": "ada", "state": "active", "bot": false })
}

#[test]
fn kind_and_state_are_what_the_server_says_and_nothing_is_made_up() {
    let user = judge(&answer(ada()).to_string(), &[12]).unwrap();
    let person = JobUser { id: 9, username: "ada".into(), bot: Some(false), state: Some("active".into()) };
    assert_eq!(user, person);
    let robot = answer(json!({ "id": 9, "username": "ada", "state": "blocked", "bot": true }));
    let robot = judge(&robot.to_string(), &[]).unwrap();
    assert_eq!((robot.bot, robot.state.as_deref()), (Some(true), Some("blocked")));
    for silent in [
        json!({ "id": 9, "username": "ada" }),
        json!({ "id": 9, "username": "ada", "bot": null, "state": null }),
    ] {
        let silent = judge(&answer(silent).to_string(), &[]).unwrap();
        assert_eq!((silent.bot, silent.state), (None, None));
    }
    let other = judge(&answer(json!({ "id": 10, "username": "bob" })).to_string(), &[]).unwrap();
    assert_eq!((other.id, other.username.as_str()), (10, "bob"), "the caller compares");
}

#[test]
fn an_answer_of_another_shape_says_nothing_about_anybody() {
    for (field, value) in [
        ("bot", json!("false")),
        ("bot", json!(0)),
        ("state", json!("")),
        ("state", json!("a\u{202e}")),
        ("state", json!(1)),
        ("username", json!("")),
        ("username", json!("a\u{1b}")),
        ("id", json!(0)),
        ("id", json!("9")),
    ] {
        let mut user = ada();
        user[field] = value.clone();
        assert_eq!(judge(&answer(user).to_string(), &[]), Err(Rejection::JobAnswer), "{field} = {value}");
    }
    let twice = answer(ada()).to_string().replace("\"bot\":false", "\"bot\":true,\"bot\":false");
    assert_eq!(judge(&twice, &[]), Err(Rejection::JobAnswer));
    for text in ["", "[]", "null", "<html>", &answer(Value::Null).to_string()] {
        assert_eq!(judge(text, &[]), Err(Rejection::JobAnswer), "{text}");
    }
}

#[test]
fn an_answer_about_another_job_is_none() {
    for (pointer, value, expected) in [
        ("/id", json!(8), Rejection::OtherJob(Bound::Job)),
        ("/pipeline/project_id", json!(4), Rejection::OtherJob(Bound::Project)),
        ("/pipeline/id", json!(6), Rejection::OtherJob(Bound::Pipeline)),
        ("/runner/id", json!(13), Rejection::OtherRunner { server: 0, runner_id: Some(13) }),
        ("/status", json!("success"), Rejection::JobAnswer),
    ] {
        let mut answer = answer(ada());
        *answer.pointer_mut(pointer).unwrap() = value;
        assert_eq!(judge(&answer.to_string(), &[12]), Err(expected), "{pointer}");
    }
}

#[test]
fn the_message_about_a_user_has_one_form_for_each_value() {
    for bot in [None, Some(false), Some(true)] {
        for state in [None, Some("active".to_owned())] {
            let user = Ok(JobUser { id: 9, username: "ada".to_owned(), bot, state });
            let message = encode_job_user(&user);
            assert_eq!(decode_job_user(&message), Ok(user));
            for cut in 0..message.len() {
                assert!(decode_job_user(&message[..cut]).is_err(), "{cut}");
            }
            assert!(decode_job_user(&[message.as_slice(), &[0]].concat()).is_err());
        }
    }
    let mut message =
        encode_job_user(&Ok(JobUser { id: 9, username: "ada".to_owned(), bot: None, state: None }));
    for flags in [2, 8, 0x80] {
        message[5] = flags;
        assert!(decode_job_user(&message).is_err(), "{flags}");
    }
    assert_eq!(decode_job_user(&encode_job_user(&Err(Rejection::JobAnswer))), Ok(Err(Rejection::JobAnswer)));
}
