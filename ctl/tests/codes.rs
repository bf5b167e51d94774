//! Every refusal code has an entry, and every entry belongs to a code.

use crate::scene::Scene;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The crates whose code refuses jobs.
const REFUSING: [&str; 7] =
    ["auth/src", "judge/src", "policy/src", "token/src", "decide/src", "host/src", "session/src"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(directory: &Path, all: &mut String) {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            sources(&path, all);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            all.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// `token-audience` as spelled in the source: `TokenAudience`.
fn variant(code: &str) -> String {
    code.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// The variants of `Code` in a text.
fn variants(text: &str) -> BTreeSet<&str> {
    let parts = text.split("Code::").skip(1);
    parts.map(|part| part.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap()).collect()
}

/// The variants that are the first argument of a call.
fn first_arguments<'a>(text: &'a str, call: &str) -> BTreeSet<&'a str> {
    let parts = text.split(call).skip(1).map(str::trim_start);
    parts
        .filter(|part| part.starts_with("Code::"))
        .flat_map(|part| variants(part.split(',').next().unwrap_or(part)))
        .collect()
}

#[test]
fn every_code_is_in_the_list_and_every_entry_is_of_a_refusal_of_its_kind() {
    let mut text = String::new();
    REFUSING.iter().for_each(|directory| sources(&root().join(directory), &mut text));
    let used = variants(&text);
    // As a call, and in the table of `session/src/trouble.rs`.
    let of = |call, row| &first_arguments(&text, call) | &first_arguments(&text, row);
    let denied = of("Refusal::denied(", "(true, ");
    let system = of("Refusal::system(", "(false, ");
    assert!(denied.contains("PamUser") && system.contains("PamTimeout"));
    assert!(denied.len() > 10 && system.len() > 20, "{denied:?} {system:?}");

    let listed = Scene::new().run_bare(&["explain", "--codes", "--format", "json"]).json();
    let entries: BTreeMap<String, &serde_json::Value> = listed["codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["code"].as_str().unwrap().to_owned(), entry))
        .collect();
    for (code, entry) in &entries {
        let name = variant(code);
        let is_used = used.contains(name.as_str());
        assert!(is_used, "no program refuses a job with `{code}`");
        let class = entry["class"].as_str().unwrap();
        if denied.contains(name.as_str()) {
            assert!(class.contains("denial"), "`{code}` is a denial, and its entry says {class}");
        }
        if system.contains(name.as_str()) {
            assert!(
                class.contains("system failure"),
                "`{code}` is a system failure, and its entry says {class}"
            );
        }
    }
}

#[test]
fn a_code_is_explained_with_and_without_brackets_and_a_misspelt_one_finds_its_neighbour() {
    let scene = Scene::new();
    let plain = scene.run_bare(&["explain", "token-audience"]);
    let bracketed = scene.run_bare(&["explain", "[token-audience]"]);
    assert_eq!((plain.code, &plain.out), (0, &bracketed.out));
    for part in ["denial (exit status 1)", "for the CI user:\n", "for the admin:\n", "`aud:`"] {
        assert!(plain.out.contains(part), "{part}: {}", plain.out);
    }
    let misspelt = scene.run_bare(&["explain", "token-audiense"]);
    assert_eq!(misspelt.code, 1);
    assert!(misspelt.err.contains("did you mean `token-audience`?"), "{}", misspelt.err);
    let strange = scene.run_bare(&["explain", "xyzzy"]);
    assert!(strange.err.contains("explain --codes"), "{}", strange.err);
    let listed = scene.run_bare(&["explain", "--codes"]);
    assert!(listed.out.lines().any(|line| line.starts_with("no-token  ")), "{}", listed.out);
    assert_eq!(scene.run_bare(&["explain", "--codes", "no-token"]).code, 2);
}

#[test]
fn the_guides_name_no_code_that_is_not_in_the_list() {
    let listed = Scene::new().run_bare(&["explain", "--codes", "--format", "json"]).json();
    let codes: BTreeSet<&str> =
        listed["codes"].as_array().unwrap().iter().map(|entry| entry["code"].as_str().unwrap()).collect();
    let mut found = 0;
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // A refusal as in a job log: a sentence, and the code in brackets at the end of its line.
        for line in text.lines().filter(|line| line.starts_with("nunbird: error: ")) {
            let code = line.strip_suffix(']').and_then(|line| line.rsplit_once('[')).expect("a code").1;
            assert!(codes.contains(code), "{}: {line}", path.display());
            found += 1;
        }
    }
    assert!(found > 1, "{found}");
}
