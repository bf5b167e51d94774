//! CI sees every test that is left out, and there is one way to leave one out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tree")
}

/// Guards that write the test to the list before they say no.
const GUARDS: &[&str] = &["with_groups()"];

/// What `#[needs(…)]` asks, at the one place where that is said of a test.
const NEEDS: &[&str] = &["require_root()", "require_host()"];

fn begins_test(code: &str) -> bool {
    code == "#[test]" || code.starts_with("#[needs(")
}

/// Ways to leave a test out, or a part of one, without the list.
fn ways_out(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    // Indentation of the test function that the line is in.
    let mut test: Option<usize> = None;
    let mut is_test = false;
    for (n, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let lower = code.to_lowercase();
        let prints = ["print!(", "println!("].iter().any(|print| lower.contains(print));
        let words = ["skip", "not run here", "not checked"].iter().any(|word| lower.contains(word));
        let ignores =
            code.starts_with("#[ignore") || (code.starts_with("#[cfg_attr") && code.contains("ignore"));
        let is_cfg = code.starts_with("#[cfg(") || code.starts_with("#![cfg(");
        let conditional = is_cfg && code.contains("test") && code != "#[cfg(test)]";
        is_test |= begins_test(code);
        if code.contains("fn ") && is_test {
            (test, is_test) = (Some(indent), false);
        } else if code == "}" && test == Some(indent) {
            test = None;
        }
        let returns = code == "return;" || code.contains("{ return }") || code.contains("{ return; }");
        let before = n.checked_sub(1).and_then(|n| lines.get(n)).unwrap_or(&"");
        let guarded = GUARDS.iter().any(|guard| [code, *before].iter().any(|line| line.contains(guard)));
        let asks = NEEDS.iter().any(|need| code.contains(need));
        let in_test = test.is_some() && (asks || returns && !guarded);
        if (prints && words) || ignores || conditional || in_test {
            found.push(format!("{}: {code}", n + 1));
        }
    }
    found
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type().expect("a type").is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_test_leaves_itself_out_but_by_the_list() {
    let mut files = Vec::new();
    sources(&tree(), &mut files);
    assert!(files.len() > 400, "{}", files.len());
    let own = [tree().join("tests/tests/gate.rs"), tree().join("skip/src/lib.rs")];
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !own.contains(file)) {
        let text = fs::read_to_string(file).expect("a source");
        found.extend(ways_out(&text).into_iter().map(|way| format!("{}:{way}", file.display())));
    }
    assert!(found.is_empty(), "use skip! (skip/src/lib.rs):\n{}", found.join("\n"));
}

#[test]
fn the_lint_finds_every_way_out_that_it_knows() {
    let test = |body: &str| format!("#[test]\nfn a_test() {{\n{body}\n}}\n");
    for way in [
        test("    eprintln!(\"skipped: no disk\");"),
        test("    println!(\"NOT RUN HERE: no disk\");"),
        test("    if !there {\n        return;\n    }"),
        test("    if require_root() {\n        try_it();\n    }"),
        "#[needs(root, in_each = MODES)]\nfn a_test(mode: Mode) {\n    if odd(mode) { return; }\n}\n"
            .to_owned(),
        test("    let Some(disk) = disk() else { return };"),
        format!("#[ignore]\n{}", test("")),
        format!("#[ignore = \"slow\"]\n{}", test("")),
        format!("#[cfg_attr(not(root), ignore)]\n{}", test("")),
        format!("#[cfg(all(test, feature = \"root\"))]\nmod tests {{\n{}}}", test("")),
    ] {
        assert_eq!(ways_out(&way).len(), 1, "{way}");
    }
    for fine in [
        test("    let Some(slurm) = Slurm::with_groups() else { return };"),
        format!("{}fn helper() {{\n    return;\n}}\n", test("    skip!(\"no disk\");")),
    ] {
        assert_eq!(ways_out(&fine), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn every_test_program_runs_with_the_workspace() {
    let mut left_out = Vec::new();
    for entry in fs::read_dir(tree()).expect("the tree").flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
        for part in text.split("\n[[test]]").skip(1) {
            let part = part.split("\n[").next().unwrap_or_default();
            let name = part.lines().find_map(|line| line.strip_prefix("name = ")).expect("a name");
            if part.contains("test = false") || part.contains("required-features") {
                left_out.push(name.to_owned());
            }
        }
    }
    left_out.sort();
    assert_eq!(left_out, ["\"host_long\"", "\"host_vm\""], "`make test-host` runs these and no others");
}

/// `.ci/run` with a make(1) that prints and writes what is given, and ends with this code.
fn ci(printed: &str, skips: &str, code: i32) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let make = directory.path().join("make");
    let script = format!(
        "#!/bin/bash\nskips=${{2#NUNBIRD_SKIPS=}}\n[ \"$1\" = test ] && [ -n \"$skips\" ] || exit 99\n\
         printf '%b' '{skips}' >>\"$skips\"\nprintf '%b' '{printed}'\nexit {code}\n"
    );
    fs::write(&make, script).expect("written");
    fs::set_permissions(&make, fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!(
        "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        directory.path().display()
    );
    Command::new(tree().join(".ci/run")).env("PATH", path).output().expect("bash")
}

#[test]
fn ci_counts_what_is_left_out_and_fails_for_all_but_the_known() {
    let passed = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\\n\
                  test result: ok. 2 passed; 0 failed\\n7 passed, 0 failed\\n";
    let failed =
        "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\\n";
    let ignored =
        "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1s\\n";
    let known = "advisories\\tMakefile\\tout of reach\\n";
    let skip = "limits\\ttests/tests/limits.rs:50\\tno control groups\\n";
    let both = format!("{known}{skip}");
    for (printed, skips, code, expected, counts) in [
        (passed, "", 0, 0, "7 passed, 0 failed, 0 skipped"),
        (passed, known, 0, 0, "7 passed, 0 failed, 1 skipped"),
        (passed, skip, 0, 1, "7 passed, 0 failed, 1 skipped"),
        (passed, both.as_str(), 0, 1, "7 passed, 0 failed, 2 skipped"),
        (passed, "", 2, 2, "7 passed, 0 failed, 0 skipped"),
        (failed, "", 2, 2, "5 passed, 2 failed, 0 skipped"),
        (failed, "", 0, 1, "5 passed, 2 failed, 0 skipped"),
        (ignored, "", 0, 1, "5 passed, 0 failed, 1 skipped"),
        ("", "", 0, 1, "0 passed, 0 failed, 0 skipped"),
    ] {
        let output = ci(printed, skips, code);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(expected), "{printed}{skips}\n{said}");
        assert_eq!(said.lines().last(), Some(counts), "{said}");
    }
    let said = String::from_utf8(ci(passed, &both, 0).stdout).expect("text");
    assert!(said.contains("SKIPPED limits, tests/tests/limits.rs:50: no control groups\n"), "{said}");
    assert!(said.contains("SKIPPED (known) advisories, Makefile: out of reach\n"), "{said}");
}

/// What is left out is on the list even though the harness hides what a passing test prints.
#[test]
fn a_test_that_is_left_out_is_on_the_list_with_place_and_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("skipped");
    let own = std::env::current_exe().expect("own path");
    let mut command = Command::new(own);
    command.args(["--exact", "leaves_itself_out_where_the_test_above_asks"]);
    let output =
        command.env("NUNBIRD_SKIPS", &list).env("NBT_LEAVE_OUT", "1").output().expect("this program");
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(list).expect("a list");
    let fields: Vec<&str> = text.trim_end().split('\t').collect();
    assert_eq!((text.lines().count(), fields.len()), (1, 3), "{text}");
    assert_eq!(fields.first(), Some(&"leaves_itself_out_where_the_test_above_asks"));
    assert!(fields.get(1).is_some_and(|place| place.starts_with("tests/tests/gate.rs:")), "{text}");
    assert_eq!(fields.get(2), Some(&"asked to, twice"));
}

#[test]
fn leaves_itself_out_where_the_test_above_asks() {
    if std::env::var_os("NBT_LEAVE_OUT").is_some() {
        nunbird_tests::skip!("asked to,\t{}", "twice");
    }
}

#[test]
fn the_documentation_says_how_much_code_has_privilege() {
    let text = fs::read_to_string(tree().join("docs/operation.md")).expect("the documentation");
    let number = |before: &str| -> usize {
        let number = text.split(before).next().and_then(|text| text.rsplit(' ').next()).expect("a number");
        number.replace(',', "").parse().unwrap_or_else(|e| panic!("{number}{before}: {e}"))
    };
    let crates = include_str!("../../auth/dependencies.txt").lines().count();
    assert_eq!(number(" crates with its own"), crates);
    let counted = privileged_lines(".ci/privileged-ceiling");
    assert!(counted.status.success(), "{counted:?}");
    let text = String::from_utf8(counted.stdout).expect("text");
    let lines = text.lines().find_map(|line| line.strip_prefix("nunbird-auth: ")?.split(' ').next());
    let lines: usize = lines.expect("the program").parse().expect("a number");
    assert!(number(" lines without tests").abs_diff(lines) * 100 < lines * 5, "{lines}");
    assert!(text.contains(" ctl/src/sweep/mod.rs") && !text.contains("tests.rs"), "{text}");
}

#[test]
fn a_privileged_program_that_grows_above_its_ceiling_fails_the_check() {
    let ceilings = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&ceilings, "nunbird-auth 100\nnunbird-session 90000\nnunbirdctl-sweep 90000\n")
        .expect("written");
    let counted = privileged_lines(ceilings.path().to_str().expect("a path"));
    assert!(!counted.status.success());
    let errors = String::from_utf8(counted.stderr).expect("text");
    assert!(errors.starts_with("nunbird-auth: more lines than ") && errors.lines().count() == 1, "{errors}");
}

fn privileged_lines(ceilings: &str) -> std::process::Output {
    let mut script = Command::new(tree().join(".ci/privileged-lines"));
    script.args(["--files", "--ceiling", ceilings]).output().expect("the script")
}
