//! Examples of the user's guide, as jobs: what a test runs is what the document shows.
//!
//! The reader knows the part of YAML that the examples have, and fails at everything else.

use nunbird_handover::{PullPolicy, Service};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A job of a `.gitlab-ci.yml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Example {
    /// `image:`.
    pub image: String,
    /// `services:`.
    pub services: Vec<ExampleService>,
    /// `variables:`.
    pub variables: BTreeMap<String, String>,
    /// `script:`, a command each.
    pub script: Vec<String>,
}

/// A service of such a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExampleService {
    /// `name:`.
    pub name: String,
    /// `alias:`.
    pub alias: String,
    /// `variables:`.
    pub variables: BTreeMap<String, String>,
}

impl Example {
    /// The job of this name in docs/user-guide.md.
    ///
    /// # Panics
    /// When the document has none, or one that this reader does not know.
    pub fn of_the_guide(job: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/user-guide.md");
        let text = fs::read_to_string(path).expect("the user's guide");
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let mut found = blocks.filter(|block| block.starts_with(&format!("{job}:\n")));
        let block = found.next().unwrap_or_else(|| panic!("docs/user-guide.md has no job `{job}`"));
        assert!(found.next().is_none(), "docs/user-guide.md has two jobs `{job}`");
        Self::read(block)
    }

    fn read(block: &str) -> Self {
        let mut example = Example::default();
        let mut key = String::new();
        for line in block.lines().skip(1).map(without_comment).filter(|line| !line.trim().is_empty()) {
            let depth = line.len() - line.trim_start().len();
            let text = line.trim();
            if depth == 2 {
                let (name, value) = pair(text);
                match (name.as_str(), value.is_empty()) {
                    ("image", false) => example.image = value,
                    ("tags", false) | ("services" | "variables" | "script", true) => {}
                    _ => panic!("`{line}` is not known"),
                }
                key = name;
                continue;
            }
            let variable = |variables: &mut BTreeMap<String, String>| {
                let (name, value) = pair(text);
                variables.insert(name, value);
            };
            match (key.as_str(), depth, text.strip_prefix("- ")) {
                ("script", 4, Some(command)) => example.script.push(plain(command)),
                ("variables", 4, None) => variable(&mut example.variables),
                ("services", 4, Some(name)) => {
                    let (word, value) = pair(name);
                    assert_eq!(word, "name", "`{line}`");
                    example.services.push(ExampleService { name: value, ..ExampleService::default() });
                }
                ("services", _, None) => {
                    let service = example.services.last_mut().expect("a service");
                    match (depth, pair(text)) {
                        (6, (name, value)) if name == "alias" => service.alias = value,
                        (6, (name, value)) if name == "variables" && value.is_empty() => {}
                        (8, _) => variable(&mut service.variables),
                        _ => panic!("`{line}` is not known"),
                    }
                }
                _ => panic!("`{line}` is not known"),
            }
        }
        assert!(!example.image.is_empty() && !example.script.is_empty(), "{example:?}");
        example
    }

    /// Its services, as a job's container has them.
    pub fn services(&self, like: &nunbird_handover::Image) -> Vec<Service> {
        let one = |service: &ExampleService| Service {
            image: nunbird_handover::Image {
                name: service.name.clone(),
                pull: vec![PullPolicy::IfNotPresent],
                ..like.clone()
            },
            aliases: vec![service.alias.clone()],
            command: None,
            variables: service.variables.clone(),
            ports: Vec::new(),
        };
        self.services.iter().map(one).collect()
    }

    /// Its script, as gitlab-runner passes it on, in a directory and with further variables.
    pub fn script(&self, directory: &str, more: &[(&str, &str)]) -> String {
        let own = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let variables: Vec<String> = more
            .iter()
            .copied()
            .chain(own)
            .map(|(name, value)| format!("export {name}=\"{value}\"\n"))
            .collect();
        format!("set -e\n{}cd {directory}\n{}\n", variables.concat(), self.script.join("\n"))
    }
}

/// A comment begins with `#` behind a space, as in the examples.
fn without_comment(line: &str) -> &str {
    line.split_once(" #").map_or(line, |(line, _)| line).trim_end()
}

/// `name: value`, or `name:`.
fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once(':').unwrap_or_else(|| panic!("`{text}` has no colon"));
    (name.to_owned(), plain(value.trim()))
}

/// A value without its quotes.
fn plain(text: &str) -> String {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    match (inner('\''), inner('"')) {
        (Some(text), _) => text.replace("''", "'"),
        (_, Some(text)) => text.replace("\\\"", "\""),
        // YAML would read these otherwise than this reader.
        _ => {
            let odd =
                text.starts_with(['{', '[', '&', '*', '|', '>', '%', '@', '`', '!']) || text.contains(": ");
            assert!(!odd || text.starts_with('['), "`{text}` needs quotes");
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Example;

    #[test]
    fn an_example_is_read_as_yaml_means_it() {
        let block = "test:\n  tags: [cluster]   # why\n  image: postgres:16\n  services:\n    - name: redis:7\n      alias: db\n      variables:\n        A: b\n  \
                     variables:\n    C: \"d e\"\n  script:\n    - 'echo \"a: b\"'\n    - make -j2\n";
        let example = Example::read(block);
        assert_eq!((example.image.as_str(), example.services[0].name.as_str()), ("postgres:16", "redis:7"));
        assert_eq!(
            (example.services[0].alias.as_str(), example.services[0].variables["A"].as_str()),
            ("db", "b")
        );
        assert_eq!((example.variables["C"].as_str(), example.script.len()), ("d e", 2));
        assert_eq!(
            example.script("/b", &[("X", "y")]),
            "set -e\nexport X=\"y\"\nexport C=\"d e\"\ncd /b\necho \"a: b\"\nmake -j2\n"
        );
    }

    #[test]
    #[should_panic(expected = "is not known")]
    fn what_it_does_not_know_is_an_error() {
        Example::read("test:\n  image: a\n  cache: b\n  script:\n    - true\n");
    }
}
