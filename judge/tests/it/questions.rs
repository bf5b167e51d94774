//! The questions about strangers' bytes: as messages, and their answers.

use crate::policy;
use crate::scene::{HEADER, KEY, NOW, claims, response, server, sign};
use nunbird_judge::questions::{Asked, ByAnswer, ByTokens, Project, ProjectsMessage, job_user};
use nunbird_policy::{LineFault, Policy, ProjectFacts, ProjectsAnswer};
use nunbird_token::{KEYS_VERSION, KeysFile, MAX_KEYS, Rejection, StoredKey};
use nunbird_wire::Message;
use serde_json::{Value, json};

const RULE: &str = "[[rule]]\nname = \"login\"\nrun_as = \"$user_login\"\n";
const FACTS: ProjectFacts<'_> = ProjectFacts {
    server: "main",
    project_path: "hpc/app",
    git_ref: Some("main"),
    ref_protected: Some(true),
    pipeline_source: Some("push"),
};

/// A policy of two servers, which asks for an account and a directory.
fn wide() -> Policy {
    policy(&format!(
        "repository_urls = [\"https://git.example.org\"]\nrunner_ids = [12, 13]\n\
         [[gitlab]]\nname = \"other\"\nurl = \"https://other.example.org\"\naudience = [\"a\", \"b\"]\n\
         algorithms = [\"RS256\", \"ES256\", \"ES384\"]\n\
         [validation]\nscript = \"/v\"\nuser = \"nunbird\"\nuser_variable = \"SVC\"\n\
         [directories]\nuser_builds_dir = true\n{RULE}"
    ))
}

fn keys_file(change: impl FnOnce(&mut KeysFile)) -> Vec<u8> {
    let mut file = KeysFile {
        version: KEYS_VERSION,
        server: "main".to_owned(),
        issuer: "https://gitlab.example.org".to_owned(),
        fetched_at: NOW,
        keys: server(&KEY).keys,
    };
    change(&mut file);
    serde_json::to_vec(&file).expect("JSON")
}

fn all() -> Vec<Asked> {
    let policy = wide();
    let bare =
        Project::of(&ProjectFacts { git_ref: None, ref_protected: None, pipeline_source: None, ..FACTS });
    vec![
        Asked::Tokens(ByTokens::of(&policy, &[b"one".to_vec(), Vec::new()], 5)),
        Asked::Tokens(ByTokens::of(&crate::policy(RULE), &[], u64::MAX)),
        Asked::JobToken(vec![vec!["https://a".to_owned(), "ssh://b".to_owned()], Vec::new()]),
        Asked::JobUser(b"{}".to_vec(), vec![12, u64::MAX]),
        Asked::JobAnswer(ByAnswer::of(&policy, b"answer", 1, 7)),
        Asked::JobAnswer(ByAnswer::of(&crate::policy(RULE), b"", 0, 7)),
        Asked::Projects(b"hpc/app\n".to_vec(), Project::of(&FACTS)),
        Asked::Projects(Vec::new(), bare),
    ]
}

#[test]
fn a_question_is_read_as_it_was_written_and_nothing_else_is_one() {
    for question in all() {
        let bytes = question.to_bytes();
        assert_eq!(Asked::from_bytes(&bytes).as_ref(), Ok(&question));
        for end in 0..bytes.len() {
            assert!(Asked::from_bytes(&bytes[..end]).is_err(), "{question:?} cut at {end}");
        }
        assert!(Asked::from_bytes(&[bytes.as_slice(), b"x"].concat()).is_err(), "{question:?} and more");
        assert!(Asked::from_bytes(&[&[0xee], &bytes[1..]].concat()).is_err(), "{question:?} of another kind");
    }
}

#[test]
fn a_question_has_what_the_policy_says() {
    let question = ByTokens::of(&wide(), &[keys_file(|_| {}), Vec::new()], NOW);
    assert_eq!((question.servers.len(), question.now), (2, NOW));
    assert_eq!(
        (question.account_variable.as_deref(), question.builds_variable.as_deref()),
        (Some("SVC"), Some("CUSTOM_CI_BUILDS_DIR"))
    );
    assert_eq!(question.variables, wide().identity.token_variables);
    assert_eq!(question.clock_skew, wide().identity.clock_skew);
    let text = format!("{question:?}");
    for part in [
        "\"RS256\", \"ES256\", \"ES384\"",
        "runner_ids: [12, 13]",
        "https://git.example.org",
        "name: \"other\"",
        "[\"a\", \"b\"]",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let plain = ByTokens::of(&policy(RULE), &[Vec::new()], NOW);
    assert_eq!((plain.account_variable, plain.builds_variable), (None, None));
    let answer = ByAnswer::of(&wide(), b"answer", 1, NOW);
    assert_eq!((answer.server, answer.url.as_str()), (1, "https://other.example.org"));
    assert_eq!((answer.answer.as_slice(), answer.now), (b"answer".as_slice(), NOW));
    assert_eq!(
        (answer.account_variable.as_deref(), answer.builds_variable.as_deref()),
        (Some("SVC"), Some("CUSTOM_CI_BUILDS_DIR"))
    );
    assert_eq!(ByAnswer::of(&wide(), b"", 0, NOW).runner_ids, [12, 13]);
    let none = ByAnswer::of(&wide(), b"", 5, NOW);
    assert_eq!((none.url.as_str(), none.runner_ids.as_slice()), ("", [].as_slice()));
}

fn token_response() -> Vec<u8> {
    let token = sign(&KEY, HEADER, &claims().to_string());
    let name = policy(RULE).identity.token_variables[0].clone();
    response(&[(&name, &token)]).to_string().into_bytes()
}

#[test]
fn keys_count_for_the_server_whose_file_they_are_in_and_as_they_were_written() {
    let answer = |file: Vec<u8>| ByTokens::of(&policy(RULE), &[file], NOW).answer(&token_response());
    let admitted = answer(keys_file(|_| {})).expect("an identity");
    assert_eq!((admitted.user_login.as_str(), admitted.job_id), ("alice", 500));
    let refused = |file: Vec<u8>| answer(file).expect_err("no identity");
    assert_eq!(refused(keys_file(|file| file.version += 1)), Rejection::Keys);
    assert_eq!(refused(keys_file(|file| file.server = "other".to_owned())), Rejection::Keys);
    assert_eq!(
        refused(keys_file(|file| file.issuer = "https://other.example.org".to_owned())),
        Rejection::Keys
    );
    assert_eq!(refused(b"no JSON".to_vec()), Rejection::Keys);
    let many = |count: usize| keys_file(|file| file.keys = vec![file.keys[0].clone(); count]);
    assert!(answer(many(MAX_KEYS)).is_ok());
    assert_eq!(refused(many(MAX_KEYS + 1)), Rejection::Keys);
    let old = keys_file(|file| file.keys = vec![StoredKey { last_seen: 0, ..file.keys[0].clone() }]);
    assert_eq!(refused(old), Rejection::UnknownKey, "there are keys, and none fits");
}

#[test]
fn without_keys_a_job_without_a_token_is_still_one_without_a_token() {
    let answer = |response: &[u8], keys: Vec<u8>| {
        ByTokens::of(&policy(RULE), &[keys], NOW).answer(response).expect_err("no identity")
    };
    let name = policy(RULE).identity.token_variables[0].clone();
    let empty = response(&[(&name, "")]).to_string().into_bytes();
    let none = response(&[]).to_string().into_bytes();
    for keys in [Vec::new(), keys_file(|_| {})] {
        assert_eq!(answer(b"x", keys.clone()), Rejection::Response);
        assert_eq!(answer(&none, keys.clone()), Rejection::NoToken);
        assert_eq!(answer(&empty, keys), Rejection::Empty);
    }
    assert_eq!(answer(&token_response(), Vec::new()), Rejection::Keys);
}

#[test]
fn each_question_is_answered_by_a_message_of_its_kind() {
    let response = token_response();
    let question = ByTokens::of(&policy(RULE), &[keys_file(|_| {})], NOW);
    let expected = question.answer(&response);
    assert_eq!(nunbird_token::decode(&Asked::Tokens(question).answer(&response)), Ok(expected));
    let repositories = policy(RULE).gitlab.iter().map(nunbird_policy::GitLabServer::repositories).collect();
    let found = nunbird_token::decode_job_token(&Asked::JobToken(repositories).answer(&response));
    assert_eq!(
        found.expect("a message").map(|token| (token.server, token.token)),
        Ok((0, "glcbt-secret".to_owned()))
    );
    let user = json!({
        "id": 500, "status": "running", "ref": "main", "tag": false, "name": "build", "stage": "test",
        "web_url": "https://gitlab.example.org/hpc/app/-/jobs/500",
        "user": { "id": 7, "username": "alice", "state": "active", "bot": false },
        "pipeline": { "id": 50, "project_id": 3, "ref": "main", "source": "push" }, "runner": { "id": 12 },
    });
    let bytes = user.to_string().into_bytes();
    let known = job_user(&response, &bytes, &[12]).expect("a user");
    assert_eq!((known.id, known.username.as_str(), known.bot), (7, "alice", Some(false)));
    let asked = Asked::JobUser(bytes.clone(), vec![12]).answer(&response);
    assert_eq!(nunbird_token::decode_job_user(&asked), Ok(Ok(known)));
    assert!(job_user(&response, &bytes, &[13]).is_err(), "another runner's");
    let timed: Value = {
        let mut response: Value = serde_json::from_slice(&response).expect("JSON");
        response["runner_info"] = json!({ "timeout": 3600 });
        response
    };
    let timed = timed.to_string().into_bytes();
    let question = ByAnswer::of(&policy(RULE), &bytes, 0, NOW);
    let admitted = question.answer(&timed);
    assert_eq!(admitted.as_ref().map(|admitted| admitted.user_login.as_str()), Ok("alice"));
    assert_eq!(nunbird_token::decode(&Asked::JobAnswer(question).answer(&timed)), Ok(admitted));
}

#[test]
fn a_users_file_is_answered_by_its_line_and_at_most_eight_faulty_ones() {
    let answer = |text: &str, facts: &ProjectFacts<'_>| {
        let bytes = Asked::Projects(text.as_bytes().to_vec(), Project::of(facts)).answer(b"");
        ProjectsMessage::from_bytes(&bytes).expect("a message").0
    };
    let admitted = |text: &str, facts: &ProjectFacts<'_>| answer(text, facts).admitted_by;
    assert_eq!(admitted("# mine\nhpc/app main protected\n", &FACTS), Some(2));
    for facts in [
        ProjectFacts { project_path: "evil/app", ..FACTS },
        ProjectFacts { git_ref: Some("other"), ..FACTS },
        ProjectFacts { git_ref: None, ..FACTS },
        ProjectFacts { ref_protected: Some(false), ..FACTS },
        ProjectFacts { ref_protected: None, ..FACTS },
    ] {
        assert_eq!(admitted("hpc/app main protected\n", &facts), None, "{facts:?}");
    }
    let faults = answer(&"a b c\n".repeat(20), &FACTS).faults;
    assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<u32>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn an_answer_about_lines_is_read_as_it_was_written() {
    let faults: Vec<(u32, LineFault)> =
        LineFault::ALL.iter().zip(1..).map(|(fault, line)| (line, *fault)).collect();
    for admitted_by in [None, Some(3)] {
        let message = ProjectsMessage(ProjectsAnswer { admitted_by, faults: faults.clone() });
        let bytes = message.to_bytes();
        assert_eq!(ProjectsMessage::from_bytes(&bytes), Ok(message));
        for end in 0..bytes.len() {
            assert!(ProjectsMessage::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
