//! Whether a pipeline has a job.

use crate::project::{Project, of};
use nunbird_exec::conditions::Verdict;

#[test]
fn the_first_rule_that_matches_decides() {
    let project = Project::new(&[
        (
            ".gitlab-ci.yml",
            "\
.shared: {rules: [{if: $NONE, when: never}, {exists: ['src/*.c']}]}
yes: {rules: [!reference [.shared, rules]], script: [x]}
never: {rules: [{if: $CI_COMMIT_BRANCH == \"main\", when: never}, {when: always}], script: [x]}
manual: {rules: [{if: $CI, when: manual, allow_failure: true}], script: [x]}
inherited: {when: delayed, rules: [{if: $CI}], script: [x]}
unmatched: {rules: [{exists: [none]}, {if: $NONE}], script: [x]}
level: {rules: [{exists: ['docs/**']}], script: [x]}
plain: {script: [x]}
tags: {only: [tags], script: [x]}
main: {only: [main], except: [schedules], script: [x]}
pattern: {only: {refs: [/^MA/i], variables: [$CI]}, script: [x]}
excepted: {except: {variables: [$NONE, $CI]}, script: [x]}
",
        ),
        ("src/a.c", ""),
        ("docs/a/b.md", ""),
    ]);
    let not = |name| matches!(project.good(name).verdict, Verdict::Not(_));
    for name in ["yes", "plain", "main", "pattern"] {
        assert_eq!(project.good(name).verdict, Verdict::Runs, "{name}");
    }
    for name in ["never", "unmatched", "level", "tags", "excepted"] {
        assert!(not(name), "{name}");
    }
    assert_eq!(project.good("manual").verdict, Verdict::When("manual".to_owned()));
    assert_eq!(project.good("inherited").verdict, Verdict::When("delayed".to_owned()));
    let Verdict::Not(why) = project.good("never").verdict else { panic!("it runs") };
    assert!(why.contains("`when: never` of the rule at .gitlab-ci.yml:3:"), "{why}");
}

/// As GitLab: what is behind `@` is the path of a project, in a pattern, too.
#[test]
fn a_ref_may_have_a_project_and_a_pattern_is_not_cut() {
    let mut project = of("\
own: {only: [main@group/project], script: [x]}
pattern: {only: [/^ma/@group/project], script: [x]}
other: {only: [main@group/fork], script: [x]}
cut: {only: ['/^ma@in$/'], script: [x]}
hex: {only: ['/^ma\\x40?in$/'], script: [x]}
open: {only: ['/^ma'], script: [x]}
");
    for known in [false, true] {
        if known {
            project.predefined.set("CI_PROJECT_PATH", "group/project");
        }
        let runs = |name| project.good(name).verdict == Verdict::Runs;
        assert!(runs("own") && runs("pattern") && runs("hex"));
        assert!(!runs("cut") && !runs("open"));
    }
    assert!(!matches!(project.good("other").verdict, Verdict::Runs));
    let (_, remarks) = project.job("cut").unwrap_or_else(|failure| panic!("{failure}"));
    assert!(remarks[0].starts_with(".gitlab-ci.yml:4:14: ") && remarks[0].contains("\\x40"), "{remarks:?}");
}

#[test]
fn changes_are_those_since_the_branch_left_and_in_the_work_tree() {
    let text = "\
docs: {rules: [{changes: {paths: ['docs/**/*'], compare_to: main}}], script: [x]}
code: {rules: [{changes: {paths: ['src/*'], compare_to: main}}], script: [x]}
new: {rules: [{changes: {paths: [new], compare_to: main}}], script: [x]}
unknown: {rules: [{changes: [src/*]}], script: [x]}
";
    let project = Project::new(&[(".gitlab-ci.yml", text), ("src/a.c", "a"), ("docs/a/b.md", "b")]);
    project.git("add -A");
    project.git("commit -qm first");
    project.git("checkout -qb branch");
    project.write("docs/a/b.md", b"changed");
    project.git("commit -qam second");
    project.write("new", b"");
    let verdict = |name| project.good(name).verdict;
    assert_eq!((verdict("docs"), verdict("new")), (Verdict::Runs, Verdict::Runs));
    assert!(matches!(verdict("code"), Verdict::Not(_)));
    let (job, remarks) = project.job("unknown").unwrap_or_else(|failure| panic!("{failure}"));
    assert!(job.verdict == Verdict::Runs && remarks[0].contains("taken as true"), "{remarks:?}");
}

#[test]
fn rules_of_the_workflow_make_the_pipeline() {
    let project = of("workflow: {rules: [{if: $CI_COMMIT_TAG}]}\njob: {script: [x]}\n");
    let Verdict::Not(why) = project.good("job").verdict else { panic!("it runs") };
    assert!(why.contains("workflow:rules"), "{why}");
}
