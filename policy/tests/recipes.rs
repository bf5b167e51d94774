//! The recipes do what they say: each is read out of its document and judges jobs, the denied ones above all.

use nunbird_policy::{
    AccountFacts, Host, HostError, IdentitySource, MapFile, Policy, ServerUser, Subject, Verdict, decide,
};
use std::borrow::Cow;
use std::path::Path;

const RECIPES: &str = include_str!("../../docs/recipes.md");
const RUNNER: u32 = 5900;

/// The first block below a heading.
fn recipe(document: &str, heading: &str) -> Policy {
    let chapter = document.split(&format!("## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let block = chapter.split("```toml\n").nth(1).expect("a block").split("```").next().expect("its end");
    Policy::parse(Path::new("recipe.toml"), block).unwrap_or_else(|findings| panic!("{findings:?}"))
}

/// The ids of those users of whom the server says that they are bots.
const BOTS: std::ops::Range<u64> = 90..100;

/// Every account is there; `ada`, `grace` and `ci-hpc` are in every group.
struct Site;

impl Host for Site {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError> {
        let uid = if name == "ci-hpc" { RUNNER } else { 5001 };
        let groups = if matches!(name, "ada" | "grace") { vec![uid, 4242] } else { vec![uid] };
        Ok(Some(AccountFacts {
            name: name.to_owned(),
            uid,
            gid: uid,
            groups,
            home: "/home/x".into(),
            shell: "/bin/bash".into(),
            name_of_uid: Some(name.to_owned()),
        }))
    }

    fn group(&self, _: &str) -> Result<Option<u32>, HostError> {
        Ok(Some(4242))
    }

    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError> {
        Ok(self.group(group)?.map(|gid| account.is_in(gid)))
    }

    fn map(&self, _: &MapFile) -> Result<Cow<'_, str>, HostError> {
        Ok(Cow::Borrowed(""))
    }

    fn pinned(&self, _: Option<&Path>, _: &str, _: &str) -> Result<Option<u64>, HostError> {
        Ok(None)
    }

    fn server_user(&self, subject: &Subject) -> Result<ServerUser, HostError> {
        let bot = Some(BOTS.contains(&subject.user_id));
        Ok(ServerUser { bot, ..ServerUser::person(subject) })
    }
}

/// Ada's push to the protected `main` of a project, as an id token has it.
fn job(project: &str) -> Subject {
    Subject {
        server: "example".to_owned(),
        user_login: "ada".to_owned(),
        user_id: 17,
        project_path: project.to_owned(),
        project_id: 4711,
        namespace_path: project.rsplit_once('/').expect("a path").0.to_owned(),
        git_ref: "main".to_owned(),
        ref_type: Some("branch".to_owned()),
        ref_protected: Some(true),
        pipeline_source: Some("push".to_owned()),
        fork: Some(false),
        access_level: Some("developer".to_owned()),
        ..Subject::default()
    }
}

fn with(project: &str, change: impl FnOnce(&mut Subject)) -> Subject {
    let mut subject = job(project);
    change(&mut subject);
    subject
}

/// As the answer to a job token has it.
fn by_job_token(subject: Subject) -> Subject {
    Subject {
        source: IdentitySource::JobToken,
        ref_protected: None,
        access_level: None,
        identities: Vec::new(),
        groups: None,
        fork: None,
        ..subject
    }
}

fn merge_request(subject: &mut Subject) {
    subject.pipeline_source = Some("merge_request_event".to_owned());
}

fn account(policy: &Policy, subject: &Subject) -> Option<String> {
    match decide(policy, subject, &Site, RUNNER).verdict {
        Verdict::Admitted { account, .. } => Some(account.name),
        Verdict::Failed(trouble) => panic!("{trouble}"),
        _ => None,
    }
}

#[track_caller]
fn admitted(policy: &Policy, name: &str, subject: &Subject) {
    assert_eq!(account(policy, subject).as_deref(), Some(name), "{subject:?}");
}

#[track_caller]
fn denied(policy: &Policy, subject: &Subject) {
    assert_eq!(account(policy, subject), None, "{subject:?}");
}

fn forked(project: &str) -> Subject {
    with(project, |s| {
        merge_request(s);
        (s.fork, s.access_level) = (Some(true), None);
    })
}

#[test]
fn the_recipe_against_forks_denies_them_and_what_nobody_knows() {
    let policy = recipe(RECIPES, "No forks");
    admitted(&policy, "ada", &job("hpc/app"));
    admitted(&policy, "ada", &with("hpc/app", merge_request));
    denied(&policy, &forked("hpc/app"));
    denied(&policy, &with("hpc/app", |s| (s.pipeline_source, s.fork) = (None, None)));
    denied(&policy, &by_job_token(with("hpc/app", merge_request)));
    denied(&policy, &job("eve/app"));
}

#[test]
fn the_rule_of_the_admin_guide_against_forks_denies_them() {
    let policy = recipe(include_str!("../../docs/admin-guide.md"), "Configure");
    admitted(&policy, "ada", &job("hpc/app"));
    admitted(&policy, "ada", &with("hpc/app", merge_request));
    for source in ["merge_request_event", "parent_pipeline", "external_pull_request_event"] {
        let mut fork = forked("hpc/app");
        fork.pipeline_source = Some(source.to_owned());
        denied(&policy, &fork);
    }
    denied(&policy, &with("hpc/app", |s| s.ref_protected = Some(false)));
}

#[test]
fn the_recipe_for_protected_refs_admits_no_other() {
    let policy = recipe(RECIPES, "Protected branches and tags only");
    admitted(&policy, "ada", &job("hpc/app"));
    denied(&policy, &with("hpc/app", |s| s.ref_protected = Some(false)));
    denied(&policy, &with("hpc/app", |s| s.ref_protected = None));
    denied(&policy, &with("hpc/app", merge_request));
    denied(&policy, &forked("hpc/app"));
    denied(&policy, &with("hpc/app", |s| s.pipeline_source = Some("parent_pipeline".to_owned())));
    denied(&policy, &with("hpc/app", |s| s.pipeline_source = None));
    denied(&policy, &by_job_token(job("hpc/app")));
}

#[test]
fn the_recipe_for_a_group_admits_its_projects_and_none_beside_them() {
    let policy = recipe(RECIPES, "A group's projects");
    for project in ["climate/model", "climate/ocean/model", "climate/a/b/c"] {
        admitted(&policy, "ada", &job(project));
    }
    for project in
        ["climate/archive", "climate/playground/x", "climate-fans/model", "eve/climate", "a/climate/model"]
    {
        denied(&policy, &job(project));
    }
    denied(&policy, &with("climate/model", |s| s.access_level = Some("reporter".to_owned())));
    denied(&policy, &with("climate/model", |s| s.access_level = None));
    denied(&policy, &forked("climate/model"));
    denied(&policy, &with("climate/model", |s| s.user_login = "eve".to_owned()));
    denied(&policy, &by_job_token(job("climate/model")));
}

#[test]
fn the_recipe_for_one_projects_account_gives_it_to_two_people_on_one_branch() {
    let policy = recipe(RECIPES, "A local account for one project");
    let benchmark = "hpc/benchmarks";
    admitted(&policy, "bench", &job(benchmark));
    admitted(&policy, "bench", &with(benchmark, |s| (s.user_id, s.user_login) = (23, "renamed".to_owned())));
    denied(&policy, &with(benchmark, |s| s.user_id = 666));
    denied(&policy, &with(benchmark, |s| s.git_ref = "mine".to_owned()));
    denied(&policy, &with(benchmark, |s| s.ref_protected = Some(false)));
    denied(&policy, &forked(benchmark));
    denied(&policy, &by_job_token(job(benchmark)));
    denied(&policy, &with("hpc/renamed", |_| {}));
    admitted(&policy, "ada", &with("hpc/other", |s| s.project_id = 9));
    admitted(&policy, "ada", &with(benchmark, |s| s.project_id = 9));
    denied(&policy, &with("eve/benchmarks", |s| s.project_id = 9));
}

#[test]
fn the_recipe_for_a_service_account_admits_that_one_in_its_project_alone() {
    let policy = recipe(RECIPES, "A service account for one project");
    let robot = |project: &str, id: u64| with(project, |s| (s.user_id, s.project_id) = (90, id));
    admitted(&policy, "bench", &robot("hpc/benchmarks", 4711));
    admitted(&policy, "bench", &with("hpc/renamed", |s| s.user_id = 90));
    denied(&policy, &robot("hpc/app", 4712));
    denied(&policy, &with("hpc/benchmarks", |s| s.user_id = 91));
    denied(&policy, &with("hpc/benchmarks", |s| (s.user_id, s.ref_protected) = (90, Some(false))));
    admitted(&policy, "ada", &job("hpc/benchmarks"));
}

#[test]
fn the_recipe_for_each_runner_gives_the_operators_runner_to_operators_alone() {
    let policy = recipe(RECIPES, "Rules for each runner");
    let on = |runner: Option<u64>, login: &str| {
        with("ops/tools", |s| (s.runner_id, s.user_login) = (runner, login.to_owned()))
    };
    admitted(&policy, "ada", &on(Some(13), "ada"));
    admitted(&policy, "grace", &on(Some(13), "grace"));
    admitted(&policy, "eve", &on(Some(12), "eve"));
    denied(&policy, &on(Some(13), "eve"));
    denied(&policy, &on(Some(14), "ada"));
    denied(&policy, &on(None, "ada"));
    let rule = &policy.rules[0];
    assert_eq!(policy.job_of(rule).0.environment.get("SITE_CI").map(String::as_str), Some("large"));
}

#[test]
fn the_recipe_for_the_directory_admits_nobody_without_an_identity_of_it() {
    let policy = recipe(RECIPES, "Users of the site's directory only");
    let has =
        |provider: &str| with("hpc/app", |s| s.identities = vec![(provider.to_owned(), "u".to_owned())]);
    admitted(&policy, "ada", &has("ldapmain"));
    denied(&policy, &has("github"));
    denied(&policy, &has("ldapmain2"));
    denied(&policy, &job("hpc/app"));
    denied(&policy, &by_job_token(has("ldapmain")));
}

#[test]
fn the_recipe_for_a_shared_account_gives_it_to_the_named_projects_alone() {
    let policy = recipe(RECIPES, "Everybody's jobs as one account");
    admitted(&policy, "ci-hpc", &job("hpc/app"));
    admitted(&policy, "ci-hpc", &with("hpc/app", |s| s.user_login = "eve".to_owned()));
    denied(&policy, &job("eve/app"));
    denied(&policy, &forked("hpc/app"));
    denied(&policy, &by_job_token(with("hpc/app", merge_request)));
}

#[test]
fn every_recipe_has_jobs_here() {
    let headings: Vec<&str> = RECIPES.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let source = include_str!("recipes.rs");
    for heading in &headings {
        assert!(source.contains(&format!("recipe(RECIPES, \"{heading}\")")), "{heading}");
    }
    assert!(headings.len() >= 8, "{headings:?}");
}
