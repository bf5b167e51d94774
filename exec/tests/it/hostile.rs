//! Files that are meant to exhaust memory, the stack or patience: each is an error with a place, within seconds.

use crate::project::{Project, of};
use std::fmt::Write;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

#[track_caller]
fn refused(text: &str, word: &str) -> String {
    let start = Instant::now();
    let failure = of(text).bad("job");
    assert!(failure.contains(word), "{word}\n{}", failure.chars().take(500).collect::<String>());
    assert!(failure.len() < 5000, "{} bytes", failure.len());
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    failure
}

#[test]
fn aliases_that_stand_for_billions_are_counted_and_not_copied() {
    let mut text = ".a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let alias = format!("*a{}", n - 1);
        writeln!(text, ".a{n}: &a{n} [{}]", vec![alias; 10].join(", ")).expect("text");
    }
    refused(&(text + "job: {script: [x]}\n"), "values, with the copies that aliases");
}

#[test]
fn references_that_stand_for_billions_are_counted() {
    let mut text = ".r0: {script: [x, x, x, x, x, x, x, x, x, x]}\n".to_owned();
    for n in 1..9 {
        let reference = format!("!reference [.r{}, script]", n - 1);
        writeln!(text, ".r{n}: {{script: [{}]}}", vec![reference; 10].join(", ")).expect("text");
    }
    refused(&(text + "job: {script: [x]}\n"), "values, with the copies that aliases");
}

/// As the two above, with long texts in place of many values.
#[test]
fn bytes_are_counted_and_not_only_values() {
    let long = "x".repeat(900_000);
    let aliases = vec!["*a"; 100_000].join(",");
    let failure =
        refused(&format!(".x: &a {long}\n.y: [{aliases}]\njob: {{script: [x]}}\n"), "bytes of text");
    // The file, the copy that the anchor keeps, and 35 more are too much.
    assert!(failure.contains("--> .gitlab-ci.yml:2:111\n"), "{failure}");
    let references = vec!["!reference [.x]"; 60_000].join(",");
    let failure = refused(&format!(".x: {long}\njob: {{script: [{references}]}}\n"), "bytes of text");
    assert!(failure.contains("--> .gitlab-ci.yml:2:"), "{failure}");
}

#[test]
fn copies_that_extends_makes_are_counted() {
    let variables: String = (0..40_000).map(|n| format!("    V{n}: x\n")).collect();
    let jobs: String = (0..25_000).map(|n| format!("j{n}: {{extends: .big, script: [x]}}\n")).collect();
    let failure =
        refused(&format!(".big:\n  variables:\n{variables}job: {{script: [x]}}\n{jobs}"), "400000 values");
    assert!(failure.contains("--> .gitlab-ci.yml:4000"), "{failure}");
    // One job with many bases.
    let bases = vec![".big"; 60_000].join(",");
    refused(
        &format!(".big:\n  variables:\n{variables}job: {{extends: [{bases}], script: [x]}}\n"),
        "400000 values",
    );
    // A pipeline of an ordinary size is far below: 1,000 jobs of 50 variables.
    let variables: String = (0..50).map(|n| format!("    V{n}: x\n")).collect();
    let jobs: String = (0..1000).map(|n| format!("j{n}: {{extends: .base, script: [x]}}\n")).collect();
    assert_eq!(of(&format!(".base:\n  variables:\n{variables}{jobs}")).good("j999").script, ["x"]);
}

#[test]
fn anchors_within_each_other_are_counted() {
    let open: String = (0..90).map(|n| format!("&a{n} [")).collect();
    let values = "x,".repeat(100_000);
    refused(&format!(".y: {open}{values}{}\njob: {{script: [x]}}\n", "]".repeat(90)), "400000 values");
}

#[test]
fn circles_are_found() {
    refused(
        ".a: {extends: .b}\n.b: {extends: .a}\njob: {extends: .a, script: [x]}\n",
        "leads in a circle: .a, .b",
    );
    refused("job: {extends: job, script: [x]}\n", "leads in a circle: job");
    refused(
        ".a: {s: !reference [.b, s]}\n.b: {s: !reference [.a, s]}\njob: {script: [x]}\n",
        "or in a circle",
    );
    refused("job: &job {script: [x], variables: *job}\n", "alias");
    refused("variables: {A: $B, B: $A}\njob: {script: [x]}\n", "circle: A, B");
    let files = [
        (".gitlab-ci.yml", "include: a.yml\njob: {script: [x]}\n"),
        ("a.yml", "include: b.yml\n"),
        ("b.yml", "include: a.yml\n"),
    ];
    let failure = Project::new(&files).bad("job");
    assert!(failure.contains("`a.yml` includes itself, by .gitlab-ci.yml, a.yml, b.yml"), "{failure}");
}

#[test]
fn depth_is_bounded_everywhere() {
    refused(&format!("job: {}x{}\n", "[".repeat(50_000), "]".repeat(50_000)), "recursion limit");
    refused(&format!("job: {}x{}\n", "{a: ".repeat(50_000), "}".repeat(50_000)), "deep");
    refused(&format!("job: {}x{}\n", "[".repeat(150), "]".repeat(150)), "more than 100 deep");
    let block: String = (0..2000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    refused(&block, "deep");
    refused(
        &format!("job: {{script: {}x{}}}\n", "[".repeat(50), "]".repeat(50)),
        "lists in `script:` are more than 10 deep",
    );
    let mut chain = ".b0: {script: [x]}\n".to_owned();
    for n in 1..200 {
        writeln!(chain, ".b{n}: {{extends: .b{}}}", n - 1).expect("text");
    }
    // In the order of the file each is done before the next; in the other order none is.
    let turned: String = chain.lines().rev().map(|line| format!("{line}\n")).collect();
    refused(&format!("job: {{extends: .b199}}\n{turned}"), "over more than 10 jobs");
    let condition = format!("job: {{script: [x], rules: [{{if: '{}$A'}}]}}\n", "(".repeat(5000));
    refused(&condition, "parentheses");
}

#[test]
fn size_is_bounded_everywhere() {
    refused(&format!("job: {{script: [\"{}\"]}}\n", "x".repeat(3 << 20)), "GitLab reads at most");
    let list = "- x\n".repeat(500_000);
    refused(&format!("job:\n{list}"), "values");
    refused("job: {parallel: 100000, script: [x]}\n", "a number from 1 to 200");
    let values = vec!["x"; 100].join(", ");
    refused(
        &format!(
            "job: {{parallel: {{matrix: [{{A: [{values}], B: [{values}], C: [{values}]}}]}}, script: [x]}}\n"
        ),
        "more than 200 jobs",
    );
    let mut bomb = "variables:\n  V00: xxxxxxxxxxxxxxxx\n".to_owned();
    for n in 1..40 {
        writeln!(bomb, "  V{n:02}: $V{0:02}$V{0:02}", n - 1).expect("text");
    }
    refused(&(bomb + "job: {script: [x]}\n"), "too long once other variables are put into it");
    let many: Vec<(String, String)> =
        (0..200).map(|n| (format!("f{n}.yml"), format!("include: f{}.yml\n.a: 1\n", n + 1))).collect();
    let mut files: Vec<(&str, &str)> =
        many.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    files.push((".gitlab-ci.yml", "include: f0.yml\njob: {script: [x]}\n"));
    let failure = Project::new(&files).bad("job");
    assert!(failure.contains("more than 150 files"), "{failure}");
}

#[test]
fn bytes_that_are_no_text_have_a_place_too() {
    let project = of("");
    project.write(".gitlab-ci.yml", b"job:\n  script: [\xff]\n");
    assert!(project.bad("job").contains("not UTF-8\n  --> .gitlab-ci.yml:2:12"), "{}", project.bad("job"));
    project.write(".gitlab-ci.yml", "\u{feff}job: {script: [x]}\n".as_bytes());
    assert_eq!(project.good("job").script, ["x"]);
    for text in ["", "# nothing\n", "~\n"] {
        project.write(".gitlab-ci.yml", text.as_bytes());
        assert!(project.bad("job").contains("is empty"), "{text}");
    }
    project.write(".gitlab-ci.yml", b"job: {script: [\"a\\0b\"]}\n");
    assert!(project.bad("job").contains("NUL"));
    // A terminal's control sequences in names and values.
    project.write(".gitlab-ci.yml", b"job: {\"scr\\e[2Jipt\": [x]}\n");
    assert!(!project.bad("job").contains('\u{1b}'));
}

#[test]
fn a_link_does_not_lead_out_of_the_project_and_a_pipe_does_not_block() {
    let project = of("include: link.yml\njob: {script: [x]}\n");
    let outside = tempfile::NamedTempFile::with_suffix(".yml").expect("a file");
    symlink(outside.path(), project.path().join("link.yml")).expect("a link");
    assert!(project.bad("job").contains("not in the project"));
    std::fs::remove_file(project.path().join("link.yml")).expect("removed");
    nix::unistd::mkfifo(&project.path().join("link.yml"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert!(project.bad("job").contains("is no file"));
}

/// Every beginning of a file that has everything, and the file with one byte replaced, is read or refused; nothing panics.
#[test]
fn no_broken_file_makes_it_panic() {
    let text = "\
spec: &a {b: *a}
include: {local: x.yml, rules: [{if: '$A =~ /x/i && ($B || null)'}]}
.h: &h {script: [!reference [.h, script], 'é'], image: {name: \"a:${T}\"}}
job: {<<: [*h], parallel: {matrix: [{A: [1, 2.50, 0x1f]}]}, rules: [{changes: [\"{a,b\", '[x']}], variables: {V: {value: |-
      text, expand: false}}}
";
    let project = of("");
    let mut number = 0_u32;
    for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
        for with in ["", ":", "]", "\u{0}", "*h", "!x ", "\n"] {
            number += 1;
            if !number.is_multiple_of(3) && !with.is_empty() {
                continue;
            }
            let broken = format!("{}{with}{}", &text[..at], if with.is_empty() { "" } else { &text[at..] });
            let mut remarks = Vec::new();
            drop(nunbird_exec::yaml::read("f", broken.as_bytes(), &mut remarks));
            if number.is_multiple_of(16) {
                project.write(".gitlab-ci.yml", broken.as_bytes());
                drop(project.job("job"));
            }
        }
    }
}
