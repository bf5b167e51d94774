//! The admin guide is correct: its tested policy passes, and its commands print the output shown.

use crate::scene::Scene;

const GUIDE: &str = include_str!("../../docs/admin-guide.md");

/// The block that begins with these words, without its fences.
fn block(beginning: &str) -> &'static str {
    let at = GUIDE.find(beginning).unwrap_or_else(|| panic!("the guide has no {beginning}"));
    GUIDE[at..].split("```").next().expect("a block")
}

#[test]
fn the_tested_policy_of_the_guide_passes_as_it_says() {
    let scene = Scene::new();
    let policy =
        GUIDE.split("```toml\n").skip(1).find(|block| block.contains("[[test]]")).expect("a tested policy");
    let policy = policy.split("```").next().expect("a block");
    let file = scene.file("new.toml", policy);
    let output = scene.run_bare(&["test", "--configuration", &file]);
    let said = block("$ nunbirdctl test --configuration new.toml\n").split_once('\n').expect("output").1;
    assert_eq!(output.out, said);

    let claims =
        r#"{"user_login":"ada","project_path":"hpc/app","ref_protected":false,"pipeline_source":"push"}"#;
    let output = scene.run_bare(&["explain", "--configuration", &file, "--claims", &scene.claims(claims)]);
    let said = block("$ nunbirdctl explain --configuration new.toml").split_once('\n').expect("output").1;
    let shown = output.out.replace(scene.path("").to_str().expect("UTF-8"), "");
    assert_eq!(shown, said);
}

#[test]
fn the_story_of_a_denied_job_reads_as_the_guide_says() {
    let scene = Scene::new();
    let event = "{\"time\":1795255200,\"outcome\":\"denied\",\"decision_id\":\"7f3a9c52…\",\"stage\":\"config\",\"job_id\":4711,\
                 \"project_path\":\"hpc/app\",\"user_login\":\"alice\",\"code\":\"account\",\"detail\":\"rule `hpc-projects` at \
                 /etc/nunbird/config.toml:14:1: account `alice`: not in the user database\"}\n";
    let log = scene.file("audit.jsonl", event);
    let output = scene.run_bare(&["audit", "--file", &log, "--decision", "7f3a9c"]);
    let said = block("$ nunbirdctl audit --decision 7f3a9c\n").split_once('\n').expect("output").1;
    assert_eq!(output.out, said);
}

#[test]
fn every_recipe_passes_its_own_tests_which_deny_something_and_check_finds_no_error_in_it() {
    let recipes = include_str!("../../docs/recipes.md");
    let mut seen = 0;
    for block in recipes.split("```toml\n").skip(1) {
        let policy = block.split("```").next().expect("a block");
        let scene = Scene::new();
        let file = scene.file("recipe.toml", policy);
        assert!(policy.contains("expect = \"deny"), "{policy}");
        let tested = scene.run_bare(&["test", "--configuration", &file]);
        assert!(tested.code == 0 && tested.out.ends_with(" 0 failed\n"), "{tested:?}");
        let checked = scene.run_bare(&["check", "--no-host", "--configuration", &file]);
        assert_eq!(checked.code, 0, "{checked:?}");
        seen += 1;
    }
    assert!(seen >= 7, "{seen}");
}
