//! The order of a judgement, and what each of its refusals says to whom.

use crate::book::{Book, book};
use crate::policy;
use crate::scene::{HEADER, KEY, claims, response, server, sign};
use nunbird_judge::account::ThisHost;
use nunbird_judge::evidence::{Evidence, JobEvidence};
use nunbird_judge::keys::Keys;
use nunbird_judge::refusal::{Class, Code, Refusal};
use nunbird_judge::validation::{Question, Validated};
use nunbird_judge::{Course, Fetched, Identity, Means, Proof, judge, judgement, subject};
use nunbird_policy::{
    AccountFacts, AuthorizedProjects, GitLabServer, Host, IdentitySource, Policy, ProjectFacts, Validation,
};
use nunbird_token::{Admitted, JobToken, JobUser, Rejection, Source, UserIdentity};
use std::cell::RefCell;
use std::os::unix::ffi::OsStringExt;
use zeroize::Zeroizing;

/// A caller that writes down what it was asked, in this order.
struct Caller {
    host: ThisHost<Book>,
    asked: RefCell<Vec<String>>,
    /// What the site's program answers.
    validated: Validated,
    user: Result<JobUser, Rejection>,
    stops_at: &'static str,
}

fn caller(book: Book) -> Caller {
    Caller {
        host: ThisHost::new(book),
        asked: RefCell::default(),
        validated: Validated::default(),
        user: Ok(JobUser {
            id: 7,
            username: "alice".to_owned(),
            bot: Some(false),
            state: Some("active".to_owned()),
        }),
        stops_at: "",
    }
}

impl Caller {
    fn asked(&self, what: impl Into<String>) -> Result<(), Refusal> {
        let what = what.into();
        self.asked.borrow_mut().push(what.clone());
        let stops = !self.stops_at.is_empty() && what.starts_with(self.stops_at);
        if stops { Err(Refusal::denied(Code::Nologin, "stopped", what)) } else { Ok(()) }
    }
}

impl Means for Caller {
    type Stop = Refusal;

    fn response(&self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        Ok(Zeroizing::default())
    }

    fn now(&self) -> Result<u64, Refusal> {
        Ok(0)
    }

    fn keys(&self) -> Result<Keys, Refusal> {
        Ok(Keys { files: Vec::new(), troubles: Vec::new() })
    }

    fn fetched_keys(&self) -> Result<Fetched, Refusal> {
        Ok(Fetched { keys: self.keys()?, done: true })
    }

    fn by_id_tokens(&self, _: &Evidence<'_>) -> Result<Result<Admitted, Rejection>, Refusal> {
        Ok(Err(Rejection::NoToken))
    }

    fn job_token(&self, _: &[u8], _: &[Vec<String>]) -> Result<Result<JobToken, Rejection>, Refusal> {
        Ok(Ok(JobToken { server: 0, token: "t".to_owned() }))
    }

    fn job_user(&self, _: &[u8], _: &[u8], _: &GitLabServer) -> Result<Result<JobUser, Rejection>, Refusal> {
        self.asked("user")?;
        Ok(self.user.clone())
    }

    fn unanswered(&self, stop: Refusal) -> String {
        stop.detail
    }

    fn ask_about_job(&self, _: &GitLabServer, _: &str) -> Result<Result<Vec<u8>, String>, Refusal> {
        Ok(Ok(Vec::new()))
    }

    fn by_job_answer(&self, _: &JobEvidence<'_>) -> Result<Result<Admitted, Rejection>, Refusal> {
        Ok(Err(Rejection::JobAnswer))
    }

    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn caller(&self) -> u32 {
        4001
    }

    fn validate(&self, program: &Validation, question: &Question<'_>) -> Result<Validated, Refusal> {
        let Question { claims, target } = question;
        self.asked(format!(
            "program {} {:?} {} {} {:?} {:?}",
            program.script.display(),
            target,
            claims.user_login,
            claims.issuer_host,
            claims.identities,
            (claims.user_id, claims.project_id, claims.job_id, claims.pipeline_id, claims.namespace_id)
        ))?;
        let Validated { username, data_dir } = &self.validated;
        Ok(Validated { username: username.clone(), data_dir: data_dir.clone() })
    }

    fn nologin(&self) -> Result<(), Refusal> {
        self.asked("nologin")
    }

    fn authorized_projects(
        &self,
        mode: AuthorizedProjects,
        account: &AccountFacts,
        facts: &ProjectFacts<'_>,
    ) -> Result<(), Refusal> {
        self.asked(format!("projects {mode:?} {} {facts:?}", account.name))
    }

    fn expiry(&self, account: &str) -> Result<(), Refusal> {
        self.asked(format!("expiry {account}"))
    }
}

fn admitted() -> Admitted {
    let token = sign(&KEY, HEADER, &claims().to_string());
    crate::scene::ask_with(&response(&[("SITE_ID_TOKEN", &token)]), &[server(&KEY)]).expect("an identity")
}

/// What the caller says of this job.
fn judged(
    caller: &Caller,
    policy: &Policy,
    admitted: Admitted,
) -> Result<(String, String, Option<String>, Option<u64>), Refusal> {
    let subject = subject(&admitted, policy)?;
    let identity = Identity { admitted, answer: None };
    let proof = Proof { response: b"{}", identity: &identity };
    let mut course = Course { subject, decision: None };
    let judged = judge(caller, policy, &proof, &mut course)?;
    assert!(course.decision.is_some());
    let first = judged.first.map(|person| {
        assert_eq!((person.account.as_str(), person.server.as_str()), (judged.account.name.as_str(), "main"));
        person.user_id
    });
    Ok((judged.rule.name.clone(), judged.account.name, judged.data_dir, first))
}

const LOGIN: &str = "[[rule]]\nname = \"login\"\nrun_as = \"$user_login\"\n";
const PROGRAM: &str = "[validation]\nscript = \"/opt/site/validate\"\nuser = \"nunbird\"\n";

#[test]
fn a_job_of_a_person_gets_the_account_of_its_login_and_is_the_first_of_it() {
    let caller = caller(book());
    let judged = judged(&caller, &policy(LOGIN), admitted()).map_err(|e| e.detail);
    assert_eq!(judged, Ok(("login".to_owned(), "alice".to_owned(), None, Some(7))));
    let asked = caller.asked.into_inner();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!((asked[0].as_str(), asked[2].as_str()), ("user", "expiry alice"));
    for part in [
        "projects Off alice ",
        "\"main\"",
        "\"hpc/app\"",
        "git_ref: Some(\"main\")",
        "ref_protected: Some(true)",
        "Some(\"push\")",
    ] {
        assert!(asked[1].contains(part), "{part}: {asked:?}");
    }
}

#[test]
fn each_step_that_refuses_ends_the_judgement_there() {
    let policy =
        policy(&format!("{PROGRAM}[accounts]\nnologin = true\nauthorized_projects = \"required\"\n{LOGIN}"));
    let steps = ["program", "user", "nologin", "projects Required", "expiry"];
    for (index, step) in steps.into_iter().enumerate() {
        let caller = Caller { stops_at: step, ..caller(book()) };
        let refusal = judged(&caller, &policy, admitted()).expect_err(step);
        let asked = caller.asked.into_inner();
        assert_eq!(asked.len(), index + 1, "{step}: {asked:?}");
        let code = if step == "user" { Code::UserCheck } else { Code::Nologin };
        assert_eq!(refusal.code, code, "{step}: {refusal:?}");
    }
    assert!(judged(&caller(book()), &policy, admitted()).is_ok());
}

#[test]
fn an_account_is_the_first_users_only_where_the_rule_pins_it_and_nobody_is_known() {
    let first =
        |book: Book, text: &str| judged(&caller(book), &policy(text), admitted()).map(|(.., first)| first);
    let known = |line: &str| {
        let book = book();
        book.people.borrow_mut().insert("main:alice".to_owned(), line.as_bytes().to_vec());
        book
    };
    assert_eq!(first(book(), LOGIN).map_err(|e| e.code), Ok(Some(7)));
    assert_eq!(first(known("alice main 7\n"), LOGIN).map_err(|e| e.code), Ok(None));
    assert_eq!(
        first(
            book(),
            "[accounts]\npinning = \"off\"\n[[rule]]\nname = \"login\"\nrun_as = \"$user_login\"\n"
        )
        .map_err(|e| e.code),
        Ok(None)
    );
    let refusal = first(known("alice main 8\n"), LOGIN).expect_err("another user's");
    assert_eq!((refusal.class, refusal.code), (Class::Denied, Code::PinMismatch));
    assert!(refusal.detail.starts_with("rule `login` at config.toml:"), "{}", refusal.detail);
    assert!(refusal.detail.contains("belongs to GitLab user id 8"), "{}", refusal.detail);
    let refusal =
        first(book(), &format!("[accounts]\npinning = \"known\"\n{LOGIN}")).expect_err("nobody known");
    assert_eq!((refusal.class, refusal.code), (Class::Denied, Code::PinUnknown));
    assert!(refusal.detail.starts_with("rule `login` at config.toml:"), "{}", refusal.detail);
    assert_eq!(first(known(""), LOGIN).map_err(|e| e.code), Err(Code::PinStore));
}

#[test]
fn the_sites_program_names_the_account_and_the_directory() {
    let text = format!("{PROGRAM}[[rule]]\nname = \"theirs\"\nrun_as = \"$validated\"\n");
    let answers = |username: Option<&str>, data_dir: Option<&[u8]>, requested: Option<&str>| {
        let validated = Validated {
            username: username.map(str::to_owned),
            data_dir: data_dir.map(|path| std::ffi::OsString::from_vec(path.to_vec()).into()),
        };
        let caller = Caller { validated, ..caller(book()) };
        let mut admitted = admitted();
        admitted.requested_account = requested.map(str::to_owned);
        admitted.identities = vec![UserIdentity { provider: "ldap".to_owned(), extern_uid: "al".to_owned() }];
        let judged = judged(&caller, &policy(&text), admitted);
        (
            judged.map(|(_, account, directory, _)| (account, directory)).map_err(|e| e.code),
            caller.asked.into_inner(),
        )
    };
    let (judged, asked) = answers(None, None, None);
    assert_eq!(judged, Ok(("alice".to_owned(), None)), "the login, where the program has no word of its own");
    assert_eq!(
        asked[0],
        "program /opt/site/validate None alice gitlab.example.org [(\"ldap\", \"al\")] (7, 3, 500, 50, Some(2))"
    );
    assert_eq!(
        answers(Some("bob"), Some(b"/data/bob"), None).0,
        Ok(("bob".to_owned(), Some("/data/bob".to_owned())))
    );
    let (judged, asked) = answers(None, None, Some("bob"));
    assert_eq!(judged, Ok(("bob".to_owned(), None)), "the account that was asked for");
    assert!(asked[0].contains("Some(\"bob\") alice"), "{asked:?}");
    assert_eq!(answers(Some("alice"), None, Some("bob")).0, Ok(("alice".to_owned(), None)));
    assert_eq!(answers(None, Some(b"/data/\xff"), None).0, Err(Code::ValidationProgram));
    assert_eq!(answers(Some("small"), None, None).0, Err(Code::Account), "believed no further than a rule");
}

#[test]
fn rules_come_before_the_program_where_rules_first_is_set() {
    let rules = |login: &str| {
        format!("[[rule]]\nname = \"one\"\nwhen = {{ user = \"{login}\" }}\nrun_as = \"$validated\"\n")
    };
    for (first, login, expected) in [(true, "alice", Ok(1)), (true, "bob", Err(0)), (false, "bob", Err(1))] {
        let caller = caller(book());
        let judged = judged(
            &caller,
            &policy(&format!("{PROGRAM}rules_first = {first}\n{}", rules(login))),
            admitted(),
        );
        let asked = caller.asked.into_inner().iter().filter(|what| what.starts_with("program")).count();
        let met = judged.map(|_| asked).map_err(|refusal| {
            assert_eq!(refusal.code, Code::NoRule, "{refusal:?}");
            asked
        });
        assert_eq!(met, expected, "{first} {login}");
    }
}

#[test]
fn a_denial_by_a_rule_has_the_sites_words_and_its_place_for_the_admin() {
    let refusal = |text: &str, book: Book| judged(&caller(book), &policy(text), admitted()).expect_err(text);
    let by_rule = refusal("[[rule]]\nname = \"no\"\ndeny = \"come back tomorrow\"\n", book());
    assert_eq!((by_rule.class, by_rule.code), (Class::Denied, Code::Rule));
    assert_eq!(by_rule.message, "this job may not run here: come back tomorrow");
    assert!(by_rule.detail.starts_with("rule `no` at config.toml:"), "{}", by_rule.detail);
    let none =
        refusal("[[rule]]\nname = \"no\"\nwhen = { user = \"bob\" }\nrun_as = \"$user_login\"\n", book());
    assert_eq!(
        (none.class, none.code, none.detail.as_str()),
        (Class::Denied, Code::NoRule, "none of 1 rules fits")
    );
    let account = refusal("[[rule]]\nname = \"fixed\"\nrun_as = \"small\"\n", book());
    assert_eq!((account.class, account.code), (Class::Denied, Code::Account));
    assert!(
        account.detail.contains("rule `fixed` at config.toml:") && account.detail.contains("account `small`"),
        "{}",
        account.detail
    );
    let away = refusal(LOGIN, Book { silent: true, ..book() });
    assert_eq!((away.class, away.code), (Class::System, Code::UserDatabase));
}

#[test]
fn each_fault_of_the_jobs_user_has_words_of_its_own() {
    let user =
        JobUser { id: 7, username: "alice".to_owned(), bot: Some(false), state: Some("active".to_owned()) };
    for (user, code, words) in [
        (JobUser { bot: Some(true), ..user.clone() }, Code::Bot, "started by a bot"),
        (JobUser { bot: None, ..user.clone() }, Code::UserKind, "does not say whether a person"),
        (JobUser { id: 8, ..user.clone() }, Code::UserMismatch, "names another user"),
        (JobUser { username: "eve".to_owned(), ..user.clone() }, Code::UserMismatch, "names another user"),
        (JobUser { state: Some("blocked".to_owned()), ..user }, Code::UserInactive, "is not active"),
    ] {
        let caller = Caller { user: Ok(user), ..caller(book()) };
        let refusal = judged(&caller, &policy(LOGIN), admitted()).expect_err(words);
        assert_eq!((refusal.class, refusal.code), (Class::Denied, code), "{refusal:?}");
        assert!(refusal.message.contains(words), "{refusal:?}");
        assert!(refusal.detail.starts_with("rule `login` at config.toml:"), "{refusal:?}");
        assert!(refusal.detail.contains("server main, user `alice` (id 7)"), "{refusal:?}");
    }
}

#[test]
fn a_subject_has_what_the_identity_has_and_a_server_that_is_configured() {
    let policy = policy(LOGIN);
    let mut identity = admitted();
    identity.identities = vec![UserIdentity { provider: "ldap".to_owned(), extern_uid: "al".to_owned() }];
    let known = subject(&identity, &policy).map_err(|e| e.code).expect("a subject");
    assert_eq!((known.server.as_str(), known.source), ("main", IdentitySource::IdToken));
    assert_eq!((known.user_login.as_str(), known.user_id, known.project_id), ("alice", 7, 3));
    assert_eq!(known.identities, [("ldap".to_owned(), "al".to_owned())]);
    assert_eq!((known.ref_protected, known.runner_id, known.validated), (Some(true), Some(12), None));
    let by_job = Admitted { source: Source::JobToken, ..identity.clone() };
    assert_eq!(judgement::source(&by_job), IdentitySource::JobToken);
    let other = subject(&Admitted { server: 1, ..identity }, &policy).expect_err("no such server");
    assert_eq!((other.class, other.code), (Class::System, Code::Worker));
}
