//! What a job is made of.

use crate::project::{Project, of};
use nunbird_exec::job::AllowFailure;

#[test]
fn extends_merges_maps_and_replaces_lists_and_the_later_base_wins() {
    let project = of("\
.one: {variables: {A: 1, B: 1}, script: [one], tags: [x]}
.two: {variables: {B: 2}, image: two}
.three: {extends: .one, variables: {C: 3}}
job:
  extends: [.three, .two]
  variables: {D: $A$B$C}
");
    let job = project.good("job");
    assert_eq!(job.values.get("D"), Some("123"));
    assert_eq!((job.script, job.image.expect("an image").name), (vec!["one".to_owned()], "two".to_owned()));
}

#[test]
fn defaults_are_taken_where_the_job_has_none_and_inherit_allows_it() {
    let text = "\
image: old
before_script: [old]
default:
  before_script: [default]
  after_script: [after]
variables: {A: global, B: global}
plain: {script: [own]}
own: {before_script: [mine], script: [own]}
none: {inherit: {default: false, variables: [A]}, script: [own]}
some: {inherit: {default: [after_script], variables: false}, script: [own]}
";
    let project = of(text);
    let plain = project.good("plain");
    assert_eq!(
        (plain.script, plain.after_script),
        (vec!["default".to_owned(), "own".to_owned()], vec!["after".to_owned()])
    );
    assert_eq!(plain.image.expect("an image").name, "old");
    assert_eq!(project.good("own").script, ["mine", "own"]);
    let none = project.good("none");
    assert_eq!((none.script.len(), none.after_script.len(), none.image), (1, 0, None));
    assert_eq!((none.values.get("A"), none.values.get("B")), (Some("global"), None));
    let some = project.good("some");
    assert_eq!((some.script.len(), some.after_script.len(), some.values.get("A")), (1, 1, None));
}

#[test]
fn references_and_anchors_are_resolved_and_scripts_flattened() {
    let project = of("\
.setup: {script: [one, !reference [.deep, script]], variables: {A: a, B: b}}
.deep: {script: [two]}
.anchor: &anchor [three, [four]]
.map: &map {image: alpine}
job:
  <<: *map
  variables: {B: !reference [.setup, variables, A]}
  script:
    - !reference [.setup, script]
    - *anchor
    - |
      five
      six
");
    let job = project.good("job");
    assert_eq!(job.script, ["one", "two", "three", "four", "five\nsix\n"]);
    assert_eq!((job.values.get("B"), job.image.expect("an image").name.as_str()), (Some("a"), "alpine"));
}

#[test]
fn the_stronger_variable_wins() {
    let mut project = of("\
variables: {A: global, B: global, C: {value: global, description: x, options: [global]}, D: $A, RAW: {value: $A, expand: false}}
workflow: {rules: [{variables: {B: workflow}}]}
job:
  variables: {C: job, CI: job}
  rules: [{if: $CI_COMMIT_BRANCH == \"main\", variables: {E: rule, C: rule}}]
  script: [x]
");
    project.given.set("A", "given$$");
    let job = project.good("job");
    let value = |name| job.values.get(name).unwrap_or("none");
    assert_eq!(
        ["A", "B", "C", "D", "E", "RAW", "CI"].map(value),
        ["given$$", "workflow", "rule", "given$$", "rule", "$A", "job"]
    );
}

#[test]
fn images_and_services_have_all_their_keys() {
    let project = of("\
variables: {TAG: '12'}
job:
  image: {name: \"debian:$TAG\", entrypoint: [''], pull_policy: [always, if-not-present], docker: {user: '1', platform: linux/arm64}}
  services:
    - redis:7
    - {name: postgres, alias: 'db, base', command: [postgres, -N5], variables: {P: $TAG}}
  script: [x]
");
    let job = project.good("job");
    let image = job.image.expect("an image");
    assert_eq!((image.name.as_str(), image.entrypoint), ("debian:12", Some(vec![String::new()])));
    assert_eq!(
        (image.pull.len(), image.user.as_deref(), image.platform.as_deref()),
        (2, Some("1"), Some("linux/arm64"))
    );
    assert_eq!(
        (job.services[0].image.name.as_str(), job.services[1].aliases.join("|")),
        ("redis:7", "db|base".to_owned())
    );
    let own = job.services[1].variables.iter();
    let own: Vec<_> = own.map(|(name, variable)| (name, job.values.expand(&variable.value))).collect();
    assert_eq!(own, [("P", "12".to_owned())]);
}

#[test]
fn a_matrix_is_a_job_for_each_combination() {
    let project = of("\
build:
  parallel: {matrix: [{CC: [gcc, clang], MPI: openmpi}, {CC: icc}]}
  script: [x]
split: {parallel: 2, script: [x]}
");
    let names: Vec<String> = project.list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["build: [gcc, openmpi]", "build: [clang, openmpi]", "build: [icc]", "split 1/2", "split 2/2"]
    );
    let job = project.good("build: [clang, openmpi]");
    let value = |name| job.values.get(name).unwrap_or("none");
    assert_eq!(["CC", "MPI", "CI_NODE_INDEX", "CI_NODE_TOTAL"].map(value), ["clang", "openmpi", "2", "3"]);
    let bare = project.bad("build");
    assert!(bare.contains("several jobs") && bare.contains("`build: [icc]`"), "{bare}");
}

#[test]
fn variables_in_values_of_a_matrix_and_in_an_environment_are_expanded() {
    let mut project = of("\
variables: {REG: r.example.org}
build:
  parallel: {matrix: [{IMG: [\"$REG/gcc\"]}]}
  image: $IMG
  environment: review/$CI_COMMIT_REF_NAME
  variables: {WHERE: 'at-$CI_ENVIRONMENT_SLUG'}
  script: [x]
");
    project.predefined.set("CI_COMMIT_REF_NAME", "Feature_1");
    let job = project.good("build: [$REG/gcc]");
    assert_eq!(job.image.map(|image| image.name).as_deref(), Some("r.example.org/gcc"));
    let value = |name| job.values.get(name).unwrap_or("none");
    assert_eq!(
        ["IMG", "CI_ENVIRONMENT_NAME", "CI_ENVIRONMENT_SLUG", "WHERE"].map(value),
        ["r.example.org/gcc", "review/Feature_1", "review-feature-1", "at-review-feature-1"]
    );
}

#[test]
fn includes_are_merged_under_the_file_and_may_have_wildcards_and_rules() {
    let files = [
        (
            ".gitlab-ci.yml",
            "include: [/ci/*.yml, {local: more.yaml, rules: [{if: $CI_COMMIT_BRANCH == \"main\"}]}, {local: not.yml, rules: [{if: $NONE}]}]\njob: {variables: {A: own}}\n",
        ),
        ("ci/a.yml", "job: {script: [a], variables: {A: a, B: a}}\n"),
        ("ci/b.yml", "include: ci/deep/c.yml\njob: {script: [b]}\n"),
        ("ci/deep/c.yml", "other: {script: [c]}\n"),
        ("more.yaml", "more: {script: [d]}\n"),
    ];
    let project = Project::new(&files);
    let job = project.good("job");
    assert_eq!(
        (job.script, job.values.get("A"), job.values.get("B")),
        (vec!["b".to_owned()], Some("own"), Some("a"))
    );
    assert_eq!(
        (project.good("other").script, project.good("more").script),
        (vec!["c".to_owned()], vec!["d".to_owned()])
    );
}

#[test]
fn two_asterisks_of_an_include_are_below_a_directory() {
    let text = "include: ci/**/*.yml\njob: {script: [x]}\n";
    let mut files = vec![(".gitlab-ci.yml", text), ("ci/a.yml", "a: {script: [x]}\n")];
    assert!(Project::new(&files).bad("job").contains("no file matches"));
    files.push(("ci/deep/b.yml", "b: {script: [x]}\n"));
    let names: Vec<String> = Project::new(&files).list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b", "job"]);
}

#[test]
fn an_include_that_cannot_be_had_offline_is_an_error_or_a_remark() {
    for include in [
        "https://example.org/x.yml",
        "{remote: 'https://example.org/x.yml'}",
        "{project: a/b, file: x.yml}",
        "{template: C.yml}",
        "{component: a/b@1}",
    ] {
        let mut project = of(&format!("include: {include}\njob: {{script: [x]}}\n"));
        let failure = project.bad("job");
        assert!(
            failure.contains("cannot be had offline") && failure.contains(".gitlab-ci.yml:1:10"),
            "{failure}"
        );
        project.ignore_remote = true;
        let remarks = project.pipeline().expect("a pipeline").remarks;
        assert!(remarks.len() == 1 && remarks[0].contains("it is left out"), "{remarks:?}");
        assert_eq!(project.good("job").script, ["x"]);
    }
}

#[test]
fn what_is_not_done_is_said_and_what_may_fail_is_known() {
    let project = of("\
job: {needs: [a], cache: {paths: [x]}, id_tokens: {T: {aud: x}}, secrets: {S: {vault: x}}, allow_failure: {exit_codes: [3, 4]}, script: [x]}
free: {needs: [], allow_failure: true, script: [x]}
down: {trigger: other/project}
steps: {run: [{name: a, script: b}]}
");
    let job = project.good("job");
    let notes = job.notes.join("\n");
    assert!(
        ["needs", "cache", "id_tokens", "secrets"].iter().all(|word| notes.contains(&format!("`{word}:`"))),
        "{notes}"
    );
    assert_eq!(
        (job.allow_failure, project.good("free").allow_failure),
        (AllowFailure::Codes(vec![3, 4]), AllowFailure::Yes)
    );
    assert!(project.good("free").notes.is_empty());
    assert!(project.bad("down").contains("triggers another pipeline"));
    assert!(project.bad("steps").contains("steps (`run:`)"));
}

#[test]
fn errors_name_the_place_and_the_way_out() {
    for (text, job, words) in [
        ("job: {scirpt: [x]}\n", "job", [":1:7", "write `script`"]),
        ("job: {script: [x], stage: biuld}\n", "job", [":1:27", "write `build`"]),
        ("stages: [b]\njob: {script: [x]}\n", "job", [":2:1", "the stages are .pre, b, .post"]),
        ("job: {script: [x], stage: other}\n", "job", [":1:27", "are .pre, build, test, deploy, .post"]),
        ("job: {script: [x], when: manaul}\n", "job", [":1:26", "write `manual`"]),
        ("job: {script: [x], rules: [{when: later}]}\n", "job", [":1:35", "known: on_success"]),
        ("job: {script: [x], rules: [{if: '$A =~ /\\p{L}/'}]}\n", "job", [":1:33", "nunbird exec cannot do"]),
        ("job: {script: [x], only: ['/\\p{L}/']}\n", "job", [":1:27", "nunbird exec cannot do"]),
        ("job:\n  script:\n    - echo a: b\n", "job", [":3:7", "quotes around a command"]),
        (".base: {script: [x]}\njob: {extends: .bsae}\n", "job", [":2:16", "write `.base`"]),
        (
            ".base: {script: [x]}\njob: {script: [!reference [.base, scrip]]}\n",
            "job",
            [":2:16", "write `script`"],
        ),
        ("job: {script: [x], variables: [a]}\n", "job", [":1:31", "takes a map"]),
        ("job: {script: [x], variables: {1A: b}}\n", "job", [":1:32", "no name of a variable"]),
        ("job: {script: [x], rules: [{if: $A = 1}]}\n", "job", [":1:33", "write such as"]),
        ("job: {script: [x], rules: [{fi: $A}]}\n", "job", [":1:29", "known: if"]),
        ("job: text\n", "job", [":1:1", "a job is a map"]),
        ("job: {stage: test}\n", "job", [":1:1", "no `script:`"]),
        (".hidden: {script: [x]}\njob: {script: [x]}\n", ".hidden", [":1:1", "the jobs are `job`"]),
        ("include: none.yml\njob: {script: [x]}\n", "job", [":1:10", "cannot read `none.yml`"]),
        ("include: a.txt\njob: {script: [x]}\n", "job", [":1:10", "rename it"]),
        ("include: ../a.yml\njob: {script: [x]}\n", "job", [":1:10", "leads out of the project"]),
        ("default: {scipt: [x]}\njob: {script: [x]}\n", "job", [":1:11", "known: after_script"]),
        ("job: {script: [x], artifacts: {paths: [x], when: never}}\n", "job", [":1:31", "on_success"]),
        ("job: {script: [!other x]}\n", "job", [":1:16", "no tag `!other`"]),
        ("job:\n  script: [x\n", "job", [":3:1", "not YAML"]),
        ("spec: {inputs: {}}\n---\njob: {script: [x]}\n", "job", [":2:1", "more than one document"]),
    ] {
        let failure = of(text).bad(job);
        for word in words {
            assert!(failure.contains(word), "{text}\n{word}\n{failure}");
        }
    }
}
