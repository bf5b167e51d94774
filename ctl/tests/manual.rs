//! The files under packaging/ are what the program generates.

use crate::scene::Scene;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| path.is_file());
    let named = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
    };
    entries.map(named).collect()
}

fn packaging(folder: &str) -> BTreeMap<String, String> {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(folder))
}

#[test]
fn the_man_pages_are_current() {
    let scene = Scene::new();
    let made = scene.path("man");
    std::fs::create_dir(&made).unwrap();
    assert_eq!(scene.run_bare(&["man", made.to_str().unwrap()]).code, 0);
    let (made, kept) = (files(&made), packaging("man"));
    assert!(made.len() > 10 && made.contains_key("nunbirdctl-doctor.1"), "{:?}", made.keys());
    assert_eq!(made.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (name, text) in &made {
        assert_eq!(Some(text), kept.get(name), "packaging/man/{name} is not current: `make manual`");
    }
    let commands = made.iter().filter(|(name, _)| name.ends_with(".1") && *name != "nunbirdctl.1");
    for (name, text) in commands {
        assert!(text.contains(".SH \"EXAMPLES\""), "{name} has no examples");
    }
    assert!(made["nunbirdctl.1"].contains(".SH \"EXIT STATUS\""));
}

#[test]
fn the_completions_are_current() {
    let scene = Scene::new();
    let kept = packaging("completions");
    // And three of `nunbird exec` (exec/tests/it/manual.rs).
    assert_eq!(kept.len(), 6);
    for (shell, file) in [("bash", "nunbirdctl.bash"), ("zsh", "_nunbirdctl"), ("fish", "nunbirdctl.fish")] {
        let made = scene.run_bare(&["completions", shell]);
        assert_eq!(made.code, 0);
        assert_eq!(
            Some(&made.out),
            kept.get(file),
            "packaging/completions/{file} is not current: `make manual`"
        );
    }
}

#[test]
fn the_schema_is_current_and_installed() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let read = |file: &str| std::fs::read_to_string(packaging.join(file)).unwrap();
    let made = Scene::new().run_bare(&["schema"]).out;
    assert_eq!(
        made,
        read("nunbird.schema.json"),
        "packaging/nunbird.schema.json is not current: `make manual`"
    );
    assert!(read("install.sh").contains(" nunbird.schema.json "));
    let place = read("config.toml");
    assert!(place.starts_with("#:schema /opt/nunbird/share/nunbird.schema.json\n"), "editors find it");
}

#[test]
fn help_shows_examples_before_options_for_every_command() {
    let scene = Scene::new();
    for command in [
        "check",
        "doctor",
        "explain",
        "test",
        "show",
        "diff",
        "audit",
        "images",
        "keys",
        "migrate",
        "schema",
        "completions",
    ] {
        let help = scene.run_bare(&[command, "--help"]);
        let (example, usage) =
            (help.out.find("example").expect(command), help.out.find("Usage:").expect(command));
        assert!(help.code == 0 && example < usage, "{help:?}");
        assert!(
            help.out.get(example..usage).unwrap().contains(&format!("nunbirdctl {command}")),
            "{}",
            help.out
        );
    }
    assert!(
        scene
            .run_bare(&["--help"])
            .out
            .contains("exit status: 0 success, 1 failure, 2 usage, 3 configuration invalid")
    );
}

/// The codes of findings in the sources: the first literal of each call that creates one.
fn codes_in_sources() -> BTreeSet<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let lint = files(&crates.join("policy/src/lint"));
    let mut codes = BTreeSet::from(["shadowed".to_owned(), "contradiction".to_owned()]);
    for text in files(&crates.join("ctl/src")).values().chain(lint.values()) {
        for call in ["::error(", "remark(", "::unseen(", "say(true,", "say(false,", "trusted(", "add(true,"] {
            for (at, _) in text.match_indices(call) {
                let rest = text.get(at + call.len()..).unwrap();
                let words = rest.split([';', '(', '{', ':']).next().unwrap();
                let literal = words.split('"').nth(1).unwrap_or("");
                let plain = |c: char| c.is_ascii_lowercase() || c == '-';
                if !literal.is_empty() && literal.chars().all(plain) {
                    codes.insert(literal.to_owned());
                }
            }
        }
    }
    codes
}

#[test]
fn every_code_of_a_finding_is_documented() {
    let document = include_str!("../../docs/nunbirdctl.md");
    let findings = document.split("## Findings").nth(1).unwrap().split("## For machines").next().unwrap();
    let rows = findings.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let documented: BTreeSet<String> =
        rows.flat_map(|row| row.split(", ")).map(|code| code.trim_matches('`').to_owned()).collect();
    let codes = codes_in_sources();
    assert!(codes.len() > 30, "{codes:?}");
    let missing: Vec<&String> = codes.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/nunbirdctl.md does not have {missing:?}");
}
