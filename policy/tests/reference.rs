//! The policy reference is true: every example is a policy, and every key stands in it.

use nunbird_policy::{Policy, every_key};
use std::path::Path;

const REFERENCE: &str = include_str!("../../docs/policy-reference.md");

#[test]
fn every_example_of_the_reference_the_admin_guide_and_the_recipes_is_a_policy() {
    let mut seen = 0;
    let others = [include_str!("../../docs/admin-guide.md"), include_str!("../../docs/recipes.md")];
    for document in [REFERENCE].into_iter().chain(others) {
        for block in document.split("```toml\n").skip(1) {
            let text = block.split("```").next().unwrap_or("");
            if text.contains("[[runners]]") {
                continue;
            }
            seen += 1;
            if let Err(findings) = Policy::parse(Path::new("example.toml"), text) {
                panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
            }
        }
    }
    assert!(seen >= 4, "{seen}");
}

#[test]
fn every_key_of_the_configuration_stands_in_the_reference() {
    let keys = every_key();
    for path in keys.keys() {
        let name = path.trim_end_matches("[]").rsplit('.').next().unwrap_or("");
        let shown = REFERENCE.contains(&format!("`{name}`"))
            || REFERENCE.contains(&format!("] {name}`"))
            || REFERENCE.contains(&format!(".{name}`"))
            || REFERENCE.contains(&format!("[{name}]"))
            || REFERENCE.contains(&format!("[{name}.NAME]"));
        assert!(shown, "docs/policy-reference.md does not have `{path}`");
    }
    assert!(keys.len() > 80, "{}", keys.len());
}
