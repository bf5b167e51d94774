//! The policy reference is true: every example is a policy, and every key stands in it.

use nunbird_policy::Policy;
use std::path::Path;

const REFERENCE: &str = include_str!("../../docs/policy-reference.md");

#[test]
fn every_example_of_the_reference_and_of_the_admin_guide_is_a_policy() {
    let mut seen = 0;
    for document in [REFERENCE, include_str!("../../docs/admin-guide.md")] {
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
    let keys = include_str!("../src/config/raw.rs").lines().filter_map(|line| {
        let field = line.trim().strip_prefix("pub(super) ")?;
        let name = field.split(':').next()?;
        name.chars().all(|c| c.is_ascii_lowercase() || c == '_').then_some(name)
    });
    let mut seen = 0;
    for key in keys {
        seen += 1;
        let name = if key == "git_ref" { "ref" } else { key };
        let shown = REFERENCE.contains(&format!("`{name}`")) || REFERENCE.contains(&format!("[{name}]"));
        assert!(shown, "docs/policy-reference.md does not have `{name}`");
    }
    assert!(seen > 35, "{seen}");
}
