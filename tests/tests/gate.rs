//! Rules for this repository: CI sees every skipped test, there is one way to skip one, and
//! documents match the sources.

mod ci;
mod documents;

use nunbird_tests::needs;
use nunbird_tests::world::copy_executable;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tree")
}

/// Guards that record the test in the list before they return false.
const GUARDS: &[&str] = &["with_groups()"];

/// What `#[needs(…)]` calls, at the one place where a test declares it.
const NEEDS: &[&str] = &["require_root()", "require_host()"];

fn begins_test(code: &str) -> bool {
    code == "#[test]" || code.starts_with("#[needs(")
}

/// Ways to skip a test, or a part of one, without the list.
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
    let named = ["\"containers_newer\"", "\"host_long\"", "\"host_vm\"", "\"platforms\""];
    assert_eq!(
        left_out, named,
        "`make test-containers`, `test-host` and `test-platforms` run these and no others"
    );
}

/// The value of a key of a part of a manifest.
fn value<'t>(part: &'t str, key: &str) -> Option<&'t str> {
    let line = part.split("\n[").next()?.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.map(|value| value.trim_matches('"'))
}

/// Adds the files of the modules that a file declares, and of theirs.
fn follow(file: PathBuf, is_root: bool, found: &mut BTreeSet<PathBuf>) {
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let beside = file.parent().expect("a directory");
    let below = if is_root { beside.to_owned() } else { file.with_extension("") };
    let mut path = None;
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("#[path = \"") {
            path = line.strip_suffix("\"]");
        }
        let Some(name) =
            line.split_once("mod ").filter(|(before, _)| ["", "pub ", "pub(crate) "].contains(before))
        else {
            continue;
        };
        let Some(name) = name.1.strip_suffix(';') else { continue };
        let (own, folder) = (below.join(name).with_extension("rs"), below.join(name).join("mod.rs"));
        match path.take() {
            Some(path) => follow(beside.join(path), true, found),
            None if own.exists() => follow(own, false, found),
            None => follow(folder, true, found),
        }
    }
    found.insert(file.canonicalize().expect("a file"));
}

/// The directories at the top, and those in them: packages that belong to one beside them.
fn folders() -> Vec<PathBuf> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let top = below(&tree());
    top.iter().flat_map(|folder| below(folder)).chain(top.clone()).collect()
}

/// A file with tests that no test program includes is never compiled.
#[test]
fn every_file_with_tests_is_a_part_of_a_program_that_runs_them() {
    let (mut with_tests, mut run) = (BTreeSet::new(), BTreeSet::new());
    for package in folders() {
        let Ok(manifest) = fs::read_to_string(package.join("Cargo.toml")) else { continue };
        if !manifest.contains("[package]") {
            continue;
        }
        let mut files = Vec::new();
        sources(&package, &mut files);
        let has_tests = |text: &str| text.lines().any(|line| begins_test(line.trim_start()));
        with_tests.extend(files.into_iter().filter(|f| has_tests(&fs::read_to_string(f).expect("a source"))));
        let mut roots = Vec::new();
        for (kind, place) in [("lib", "src/lib.rs"), ("bin", "src/main.rs")] {
            let part = manifest.split(&format!("[{kind}]\n")).nth(1);
            let part = part.or_else(|| manifest.split(&format!("[[{kind}]]\n")).nth(1)).unwrap_or("");
            if value(part, "test") != Some("false") {
                roots.push(package.join(place));
            }
        }
        for part in manifest.split("[[test]]\n").skip(1) {
            roots.push(package.join(value(part, "path").expect("a path")));
        }
        if value(&manifest, "autotests").is_none() {
            let programs = fs::read_dir(package.join("tests")).into_iter().flatten().flatten();
            roots.extend(programs.map(|program| match program.path() {
                folder if folder.is_dir() => folder.join("main.rs"),
                file => file,
            }));
        }
        for root in roots.into_iter().filter(|root| root.exists()) {
            follow(root, true, &mut run);
        }
    }
    assert!(with_tests.len() > 150, "{}", with_tests.len());
    let lost: Vec<&PathBuf> = with_tests.iter().filter(|file| !run.contains(*file)).collect();
    assert!(lost.is_empty(), "no test program has these files as modules: {lost:#?}");
}

/// A skipped test is on the list even though the harness hides what a passing test prints.
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

#[needs(root)]
fn what_needs_root_runs_in_each_mode_and_without_root_is_on_the_list() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("a mode");
    let own = directory.path().join("gate");
    // Where anybody may run it.
    copy_executable(&std::env::current_exe().expect("own path"), &own);
    let list = directory.path().join("skipped");
    fs::write(&list, "").expect("a list");
    fs::set_permissions(&list, fs::Permissions::from_mode(0o666)).expect("a mode");
    for (id, runs) in [(0, true), (65534, false)] {
        let mut command = Command::new(&own);
        command.args(["--exact", "runs_in_two_modes", "--nocapture"]).uid(id).gid(id);
        command.env("NUNBIRD_SKIPS", &list).env("NUNBIRD_TESTS_ALLOW_SKIP", "1");
        let output = command.output().expect("this program");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(printed.contains("in \"one\"\nin \"two\"\n"), runs, "{printed}");
        let left_out = fs::read_to_string(&list).expect("a list");
        assert_eq!(left_out.starts_with("runs_in_two_modes\ttests/tests/gate.rs:"), !runs, "{left_out}");
    }
}

#[needs(root, in_each = ["one", "two"])]
fn runs_in_two_modes(mode: &str) {
    assert!(["one", "two"].contains(&mode));
}

#[test]
fn the_documentation_has_the_numbers_of_privileged_code() {
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

/// The numbers in comments such as `// Steps 3, 4, 5a.`, in the order of the file.
fn steps_in(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a source");
    let comments = text.lines().filter_map(|line| {
        let comment = line.trim_start().strip_prefix("// Step")?;
        comment.strip_prefix("s ").or(comment.strip_prefix(' '))?.strip_suffix('.')
    });
    comments.flat_map(|numbers| numbers.split(", ").map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_step_of_the_documentation_is_marked_where_it_is_done_and_the_sequence_has_its_order() {
    let text = fs::read_to_string(tree().join("docs/operation.md")).expect("the documentation");
    let first = |line: &str| line.strip_prefix("**")?.split_once(".** ").map(|(number, _)| number.to_owned());
    let is_number = |number: &String| number.starts_with(|c: char| c.is_ascii_digit());
    let documented: Vec<String> = text.lines().filter_map(first).filter(is_number).collect();
    let mut files = Vec::new();
    for directory in ["auth/src", "decide/src", "drop/src"] {
        sources(&tree().join(directory), &mut files);
    }
    let marked: BTreeSet<String> = files.iter().flat_map(|file| steps_in(file)).collect();
    assert_eq!(marked, documented.iter().cloned().collect(), "the numbers of docs/operation.md");
    // The first file is read to its end before the second is called, but for the decision's id.
    let place = |step: &String| documented.iter().position(|known| known == step).expect("a step");
    let main = steps_in(&tree().join("auth/src/main.rs"));
    assert_eq!(main, ["1", "2", "8", "3", "4", "5", "5a", "6", "7"]);
    let sequence: Vec<usize> = steps_in(&tree().join("auth/src/stages.rs")).iter().map(place).collect();
    let config = sequence.iter().take_while(|at| **at < place(&"23".to_owned())).count();
    let in_config = &sequence[..config];
    assert!(in_config.len() >= 7, "{in_config:?}");
    let stage = ["23", "24", "24a", "25", "26", "25a", "28d", "27", "28a", "29", "25b", "28"];
    let steps = steps_in(&tree().join("auth/src/stages.rs"));
    assert_eq!(
        steps[config..][..stage.len()],
        stage,
        "launching (25a to 29) happens in the conversation (25b, 28)"
    );
}

#[test]
fn a_privileged_program_that_grows_above_its_ceiling_fails_the_check() {
    let ceilings = tempfile::NamedTempFile::new().expect("a file");
    fs::write(
        &ceilings,
        "nunbird-auth 100\nnunbird-limits 90000\nnunbird-machine 90000\nnunbird-session 90000\nnunbird-validate 90000\nnunbirdctl-sweep 90000\n",
    )
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

/// The tests install the program with a mode of their own; this is the packages'.
#[test]
fn every_package_gives_the_privileged_program_to_the_runners_group_alone() {
    let text = |name: &str| fs::read_to_string(tree().join(name)).expect("a file");
    let spec = text("rpm/nunbird.spec");
    let rows: Vec<&str> =
        spec.lines().filter(|line| line.starts_with('%') && line.ends_with("/bin/nunbird-auth")).collect();
    assert_eq!(
        rows,
        [
            "%attr(4750,root,%{runner_group}) %{home}/bin/nunbird-auth",
            "%attr(0750,root,%{runner_group}) %caps(cap_setuid,cap_setgid=p) %{home}/bin/nunbird-auth",
        ]
    );
    let modes: Vec<String> = text("packaging/install.sh")
        .lines()
        .filter(|line| line.ends_with(" nunbird-auth"))
        .map(str::to_owned)
        .collect();
    assert_eq!(modes, ["0750 nunbird-auth"], "nothing has privilege before its group is known");
    let privilege = text("packaging/privilege.sh");
    let steps = [
        "chown \"root:$group\" \"$auth\"",
        "chmod 4750 \"$auth\"",
        "chmod 0750 \"$auth\" && setcap cap_setuid,cap_setgid=p",
    ];
    for step in steps {
        assert!(privilege.contains(step), "{step}: {privilege}");
    }
    assert!(text("packaging/deb/preinst").contains("--add root \"$group\" 4750 "));
}

/// Words between backticks in prose: fenced blocks are left out.
fn quoted_words(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// The repository's directories and files at its top.
fn top() -> BTreeSet<String> {
    let entries = fs::read_dir(tree()).expect("the tree").flatten();
    entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn every_file_that_the_guides_for_developers_name_exists() {
    let mut documents = vec![tree().join("docs/house.md")];
    let guides = fs::read_dir(tree().join("docs/howto")).expect("the guides").flatten();
    documents.extend(guides.map(|guide| guide.path()));
    assert!(documents.len() > 2);
    let top = top();
    for document in documents {
        let text = fs::read_to_string(&document).expect("a document");
        let is_path = |word: &&str| {
            word.contains(['/', '.']) && !word.contains(['*', '<', ' ', '=']) && !word.starts_with('/')
        };
        let named = quoted_words(&text).into_iter().filter(is_path);
        let named: Vec<&str> =
            named.filter(|word| top.contains(word.split('/').next().unwrap_or(""))).collect();
        let links = text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap_or(""));
        let links: Vec<&str> = links.collect();
        assert!(named.len() + links.len() > 5, "{}", document.display());
        for word in named {
            assert!(tree().join(word).exists(), "{} names {word}, which does not exist", document.display());
        }
        for link in links {
            let target = document.parent().expect("a directory").join(link);
            assert!(target.exists(), "{} links to {link}", document.display());
        }
    }
}

#[test]
fn the_picture_of_the_crates_has_each_crate_above_all_that_it_uses() {
    let text = fs::read_to_string(tree().join("docs/house.md")).expect("the picture");
    let picture = text.split("```").nth(1).expect("a picture");
    let mut levels = std::collections::BTreeMap::new();
    let mut level = None;
    for line in picture.lines() {
        let mut words = line.split_whitespace().peekable();
        if let Some(number) = words.peek().and_then(|word| word.parse::<u32>().ok()) {
            level = Some(number);
            words.next();
        }
        levels.extend(words.filter_map(|word| Some((word.strip_suffix('/')?.to_owned(), level?))));
    }
    let workspace = fs::read_to_string(tree().join("Cargo.toml")).expect("the workspace");
    let members = workspace.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    for member in members.expect("members").split(',').map(|name| name.trim().trim_matches('"')) {
        assert!(text.contains(&format!("`{member}/`")), "docs/house.md has no row for {member}/");
        let Some(own) = levels.get(member) else {
            assert!(
                ["tests", "fuzz", "benches", "benches/counts", "filter/proof", "skip/macros"]
                    .contains(&member),
                "{member} is not in the picture"
            );
            continue;
        };
        let manifest = fs::read_to_string(tree().join(member).join("Cargo.toml")).expect("a manifest");
        let used =
            manifest.split("\n[dependencies]\n").nth(1).unwrap_or("").split("\n[").next().unwrap_or("");
        for line in used.lines() {
            let Some(name) =
                line.split(['.', ' ', '=']).next().and_then(|name| name.strip_prefix("nunbird-"))
            else {
                continue;
            };
            // A crate in another one's directory has a name of its own alone.
            let known = levels.iter().find(|(known, _)| known.rsplit('/').next() == Some(name));
            let Some((_, other)) = known else { continue };
            assert!(other < own, "{member}/ uses {name}/, which is not on a lower level of the picture");
        }
    }
}

/// The crates that may have `unsafe`. In any other it is an error of the compiler's, as long as the crate says so.
const UNSAFE: [&str; 6] = [
    "pam/src/",
    "sys/src/",
    "sys/accounts/src/",
    "sys/mounts/src/",
    "sys/started/src/",
    "sys/unprivileged/src/",
];

#[test]
fn every_crate_but_those_of_system_calls_and_of_libpam_forbids_unsafe_code() {
    let mut files = Vec::new();
    sources(&tree(), &mut files);
    let tops = files.iter().filter(|file| file.ends_with("src/lib.rs") || file.ends_with("src/main.rs"));
    let mut seen = 0;
    for file in tops {
        let name = file.strip_prefix(tree()).expect("a file of the tree").to_str().expect("a name");
        let text = fs::read_to_string(file).expect("a source");
        let forbids = text.lines().any(|line| line == "#![forbid(unsafe_code)]");
        assert_eq!(forbids, !UNSAFE.iter().any(|allowed| name.starts_with(allowed)), "{name}");
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}

/// A panic with privilege ends a stage in the middle of a step. `clippy.toml` allows them in tests.
#[test]
fn every_crate_that_a_program_with_privilege_links_denies_what_can_panic() {
    let counted = String::from_utf8(privileged_lines(".ci/privileged-ceiling").stdout).expect("text");
    let linked: BTreeSet<&str> =
        counted.lines().filter_map(|line| line.trim_start().split(' ').nth(1)).collect();
    let tops: Vec<_> =
        linked.iter().filter(|file| file.ends_with("src/lib.rs") || file.ends_with("src/main.rs")).collect();
    let deny = "#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]";
    for file in &tops {
        let text = fs::read_to_string(tree().join(file)).expect("a source");
        assert!(text.lines().any(|line| line == deny), "{file} does not say `{deny}`");
    }
    assert!(tops.len() > 25, "{tops:?}");
}

/// The number is a hint that a file may hold more than one idea, not a limit.
#[test]
fn a_file_of_more_than_600_lines_says_why_it_is_not_split() {
    let mut files = Vec::new();
    sources(&tree(), &mut files);
    assert!(files.len() > 100);
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let says_why = head.iter().any(|line| line.contains("600 lines"));
        assert!(
            text.lines().count() <= 600 || says_why,
            "{} does not say why it is not split",
            file.display()
        );
    }
}
