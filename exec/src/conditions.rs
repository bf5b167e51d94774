//! Whether a job runs: `rules`, `only` and `except`, `workflow:rules`, and the rules of an `include:`.
//!
//! What cannot be known offline is taken as true, and said.

use crate::expression::{self, Wrong};
use crate::failure::{Failure, nearest};
use crate::glob::Glob;
use crate::pipeline::expected;
use crate::tree::Tree;
use crate::variables::{Values, Variable, Variables};
use crate::yaml::{Map, Node, Value};
use nunbird_handover::Untrusted;
use regex_lite::Regex;

/// Lists within lists of rules, by references.
const DEEPEST: usize = 10;

/// What conditions are judged by.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The variables.
    pub values: &'a Values,
    /// The project's files.
    pub tree: &'a Tree,
}

/// Whether a pipeline has the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, by itself.
    Runs,
    /// Yes, when somebody presses the button, or later.
    When(String),
    /// No, and why.
    Not(String),
}

/// What its rules say about a job.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Whether it runs.
    pub verdict: Verdict,
    /// Variables of the rule that matched.
    pub variables: Variables,
    /// `allow_failure` of that rule.
    pub allow_failure: Option<Node>,
}

/// `variables:` at the top of a file.
///
/// # Errors
/// For what are no variables.
pub fn global_variables(config: &Map) -> Result<Variables, Failure> {
    config.get("variables").map_or_else(|| Ok(Variables::default()), variables)
}

/// A map of variables: each a text, or a map with `value` and `expand`.
///
/// # Errors
/// For what are no variables.
pub fn variables(node: &Node) -> Result<Variables, Failure> {
    let mut all = Variables::default();
    if node.is_null() {
        return Ok(all);
    }
    let map = node.map().ok_or_else(|| expected(node, "`variables:` takes a map"))?;
    for entry in map.entries() {
        let is_name = !entry.key.is_empty()
            && !entry.key.starts_with(|c: char| c.is_ascii_digit())
            && entry.key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            return Err(Failure::new(format!("`{}` is no name of a variable", Untrusted(&entry.key)))
                .at(&entry.place)
                .help("a shell takes letters, digits and `_`, and no digit at the beginning"));
        }
        let (value, expand) = match &entry.node.value {
            Value::Map(map) => {
                for key in map.entries() {
                    if !["value", "description", "options", "expand"].contains(&key.key.as_str()) {
                        return Err(Failure::new(format!("a variable has no key `{}`", Untrusted(&key.key)))
                            .at(&key.place)
                            .help("known: value, description, options, expand"));
                    }
                }
                let expand = map.get("expand").and_then(Node::boolean).unwrap_or(true);
                let value = match map.get("value") {
                    Some(value) => value.text().ok_or_else(|| expected(value, "`value:` takes a text"))?,
                    None => String::new(),
                };
                (value, expand)
            }
            _ => (entry.node.text().ok_or_else(|| expected(&entry.node, "a variable takes a text"))?, true),
        };
        if value.contains('\0') {
            return Err(Failure::new("a variable holds a NUL byte").at(&entry.place).help("remove `\\0`"));
        }
        all.insert(&entry.key, Variable { value, expand, place: Some(entry.place.clone()) });
    }
    Ok(all)
}

/// Whether an `include:` with rules is included.
///
/// # Errors
/// For rules that cannot be read.
pub fn include(rules: &Node, facts: &Facts<'_>, remarks: &mut Vec<String>) -> Result<bool, Failure> {
    for rule in flat(rules)? {
        let map = rule.map().ok_or_else(|| expected(rule, "a rule is a map"))?;
        if clause(map, facts, remarks)? {
            return Ok(map.get("when").and_then(Node::raw) != Some("never"));
        }
    }
    Ok(false)
}

/// What `workflow:rules` says: whether there is a pipeline, and its variables.
///
/// # Errors
/// For rules that cannot be read.
pub fn workflow(config: &Map, facts: &Facts<'_>, remarks: &mut Vec<String>) -> Result<Judged, Failure> {
    let rules = config.get("workflow").and_then(Node::map).and_then(|map| map.get("rules"));
    match rules {
        Some(rules) => by_rules(rules, &Verdict::Runs, facts, remarks),
        None => Ok(Judged { verdict: Verdict::Runs, variables: Variables::default(), allow_failure: None }),
    }
}

/// What a job's rules say.
///
/// # Errors
/// For rules that cannot be read.
pub fn job(job: &Map, facts: &Facts<'_>, remarks: &mut Vec<String>) -> Result<Judged, Failure> {
    let verdict = job.get("when").map_or(Ok(Verdict::Runs), by_when)?;
    if let Some(rules) = job.get("rules") {
        return by_rules(rules, &verdict, facts, remarks);
    }
    let none = || Judged { verdict: verdict.clone(), variables: Variables::default(), allow_failure: None };
    // GitLab's default where neither is there: `only: [branches, tags]`.
    if let Some(only) = job.get("only")
        && !selects(only, facts, true, remarks)?
    {
        return Ok(Judged {
            verdict: Verdict::Not(format!("`only:` at {} does not match", only.place)),
            ..none()
        });
    }
    if let Some(except) = job.get("except")
        && selects(except, facts, false, remarks)?
    {
        return Ok(Judged {
            verdict: Verdict::Not(format!("`except:` at {} matches", except.place)),
            ..none()
        });
    }
    Ok(none())
}

fn by_when(node: &Node) -> Result<Verdict, Failure> {
    const KNOWN: [&str; 6] = ["on_success", "on_failure", "always", "manual", "delayed", "never"];
    let when = node.raw().ok_or_else(|| expected(node, "`when:` takes a word"))?;
    match when {
        "on_success" | "always" => Ok(Verdict::Runs),
        "never" => Ok(Verdict::Not("`when: never`".to_owned())),
        "on_failure" | "manual" | "delayed" => Ok(Verdict::When(when.to_owned())),
        other => {
            let failure = Failure::new(format!("`when:` has no word `{}`", Untrusted(other))).at(&node.place);
            Err(match nearest(other, KNOWN) {
                Some(near) => failure.help(format!("write `{near}`")),
                None => failure.help(format!("known: {}", KNOWN.join(", "))),
            })
        }
    }
}

fn by_rules(
    rules: &Node,
    of_job: &Verdict,
    facts: &Facts<'_>,
    remarks: &mut Vec<String>,
) -> Result<Judged, Failure> {
    for rule in flat(rules)? {
        let map = rule.map().ok_or_else(|| expected(rule, "a rule is a map"))?;
        if !clause(map, facts, remarks)? {
            continue;
        }
        let verdict = match map.get("when").map_or(Ok(of_job.clone()), by_when)? {
            Verdict::Not(why) => Verdict::Not(format!("{why} of the rule at {}", rule.place)),
            other => other,
        };
        let variables = map.get("variables").map_or_else(|| Ok(Variables::default()), variables)?;
        return Ok(Judged { verdict, variables, allow_failure: map.get("allow_failure").cloned() });
    }
    let verdict = Verdict::Not(format!("no rule at {} matches", rules.place));
    Ok(Judged { verdict, variables: Variables::default(), allow_failure: None })
}

/// Rules of a list, and of the lists that references put into it.
fn flat(rules: &Node) -> Result<Vec<&Node>, Failure> {
    let mut all = Vec::new();
    collect(rules, 0, &mut all)?;
    Ok(all)
}

fn collect<'n>(node: &'n Node, depth: usize, all: &mut Vec<&'n Node>) -> Result<(), Failure> {
    match node.list() {
        Some(_) if depth > DEEPEST => {
            Err(Failure::new(format!("lists of rules are more than {DEEPEST} deep"))
                .at(&node.place)
                .help("make them flatter"))
        }
        Some(items) => items.iter().try_for_each(|item| collect(item, depth + 1, all)),
        None if node.is_null() => Ok(()),
        None => {
            all.push(node);
            Ok(())
        }
    }
}

/// Whether `if`, `exists` and `changes` of one rule all hold.
fn clause(rule: &Map, facts: &Facts<'_>, remarks: &mut Vec<String>) -> Result<bool, Failure> {
    const KNOWN: [&str; 9] = [
        "if",
        "changes",
        "exists",
        "when",
        "start_in",
        "allow_failure",
        "variables",
        "needs",
        "interruptible",
    ];
    for entry in rule.entries() {
        if !KNOWN.contains(&entry.key.as_str()) && entry.key != "auto_cancel" {
            return Err(Failure::new(format!("a rule has no key `{}`", Untrusted(&entry.key)))
                .at(&entry.place)
                .help(format!("known: {}", KNOWN.join(", "))));
        }
    }
    if let Some(condition) = rule.get("if")
        && !holds(condition, facts)?
    {
        return Ok(false);
    }
    if let Some(exists) = rule.get("exists") {
        let (paths, _) = paths(exists, facts)?;
        let globs = globs(&paths, exists)?;
        if !facts.tree.files()?.iter().any(|file| globs.iter().any(|glob| glob.matches(file))) {
            return Ok(false);
        }
    }
    match rule.get("changes") {
        Some(changes) => changed(changes, facts, remarks),
        None => Ok(true),
    }
}

fn holds(condition: &Node, facts: &Facts<'_>) -> Result<bool, Failure> {
    let text = condition.text().ok_or_else(|| expected(condition, "`if:` takes a text"))?;
    expression::holds(&text, facts.values).map_err(|wrong| match wrong {
        Wrong::Condition(why) => Failure::new(format!("`if: {}` is no condition: {why}", Untrusted(&text)))
            .at(&condition.place)
            .help("write such as `$CI_COMMIT_BRANCH == \"main\"` or `$CI_COMMIT_TAG =~ /^v/`"),
        Wrong::Limit(why) => {
            let what =
                format!("`if: {}` has what nunbird exec cannot do, and GitLab may: {why}", Untrusted(&text));
            Failure::new(what).at(&condition.place).help(expression::WITHIN_LIMITS)
        }
    })
}

/// Paths of `exists` or `changes`, and `compare_to`.
fn paths(node: &Node, facts: &Facts<'_>) -> Result<(Vec<String>, Option<String>), Failure> {
    let (list, compare) = match node.map() {
        Some(map) => (map.get("paths"), map.get("compare_to").and_then(Node::text)),
        None => (Some(node), None),
    };
    let list =
        list.ok_or_else(|| Failure::new("`paths:` is missing").at(&node.place).help("add `paths:`"))?;
    let mut paths = Vec::new();
    for one in flat(list)? {
        let text = one.text().ok_or_else(|| expected(one, "a path is a text"))?;
        paths.push(facts.values.expand(&text));
    }
    Ok((paths, compare.map(|text| facts.values.expand(&text))))
}

fn globs(paths: &[String], node: &Node) -> Result<Vec<Glob>, Failure> {
    let one = |path: &String| {
        Glob::of_rule(path.trim_start_matches('/')).ok_or_else(|| {
            Failure::new(format!("`{}` is no pattern of paths", Untrusted(path)))
                .at(&node.place)
                .help("write `src/**/*.c`")
        })
    };
    paths.iter().map(one).collect()
}

/// Whether files have changed since the branch left the default branch, or since `compare_to`.
fn changed(node: &Node, facts: &Facts<'_>, remarks: &mut Vec<String>) -> Result<bool, Failure> {
    let (paths, compare) = paths(node, facts)?;
    let globs = globs(&paths, node)?;
    let bases = match &compare {
        Some(name) => vec![format!("origin/{name}"), name.trim_start_matches("refs/heads/").to_owned()],
        None => vec!["@{upstream}".to_owned(), "origin/HEAD".to_owned()],
    };
    let Some(changed) = bases.iter().find_map(|base| facts.tree.changed_since(base)) else {
        remarks.push(format!(
            "{}: `changes:` is taken as true: git has no commit to compare with ({})",
            node.place,
            Untrusted(&bases.join(", "))
        ));
        return Ok(true);
    };
    Ok(changed.iter().any(|path| globs.iter().any(|glob| glob.matches(path))))
}

/// Whether `only` or `except` selects this pipeline. All parts of `only` must, one part of `except` is enough.
fn selects(node: &Node, facts: &Facts<'_>, all: bool, remarks: &mut Vec<String>) -> Result<bool, Failure> {
    let Some(map) = node.map() else { return refs(node, facts, remarks) };
    let mut parts = Vec::new();
    for entry in map.entries() {
        parts.push(match entry.key.as_str() {
            "refs" => refs(&entry.node, facts, remarks)?,
            "variables" => {
                let conditions = flat(&entry.node)?;
                conditions
                    .into_iter()
                    .map(|one| holds(one, facts))
                    .collect::<Result<Vec<_>, _>>()?
                    .contains(&true)
            }
            "changes" => changed(&entry.node, facts, remarks)?,
            "kubernetes" => {
                remarks.push(format!(
                    "{}: `kubernetes:` cannot be known offline and is taken as true",
                    entry.place
                ));
                all
            }
            other => {
                return Err(Failure::new(format!(
                    "`only:` and `except:` have no key `{}`",
                    Untrusted(other)
                ))
                .at(&entry.place)
                .help("known: refs, variables, changes, kubernetes"));
            }
        });
    }
    Ok(if all { !parts.contains(&false) } else { parts.contains(&true) })
}

fn refs(node: &Node, facts: &Facts<'_>, remarks: &mut Vec<String>) -> Result<bool, Failure> {
    for one in flat(node)? {
        if is_ref(one, facts.values, remarks)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A branch, a tag, a pattern or a kind of pipeline. What is behind the first `@` is the path of a project, in a pattern, too.
fn is_ref(node: &Node, values: &Values, remarks: &mut Vec<String>) -> Result<bool, Failure> {
    let whole = node.text().ok_or_else(|| expected(node, "a branch, tag or pattern is a text"))?;
    let (branch, tag) = (values.get("CI_COMMIT_BRANCH"), values.get("CI_COMMIT_TAG"));
    let source = values.get("CI_PIPELINE_SOURCE").unwrap_or_default();
    let (text, project) = match whole.split_once('@') {
        Some((text, project)) => (text, Some(project)),
        None => (&*whole, None),
    };
    if text.starts_with('/') && project.is_some_and(|project| project.ends_with('/')) {
        remarks.push(format!(
            "{}: `{}` never matches: for GitLab `@` ends the pattern: write `\\x40` for it",
            node.place,
            Untrusted(&whole)
        ));
        return Ok(false);
    }
    if let (Some(project), Some(own)) = (project, values.get("CI_PROJECT_PATH"))
        && project != own
    {
        return Ok(false);
    }
    let of_source = [
        ("api", "api"),
        ("external", "external"),
        ("merge_requests", "merge_request_event"),
        ("pipelines", "pipeline"),
        ("pushes", "push"),
        ("schedules", "schedule"),
        ("triggers", "trigger"),
        ("web", "web"),
    ];
    if let Some((_, known)) = of_source.iter().find(|(word, _)| *word == text) {
        return Ok(source == *known);
    }
    match text {
        "branches" => return Ok(branch.is_some()),
        "tags" => return Ok(tag.is_some()),
        _ => {}
    }
    let name = values.get("CI_COMMIT_REF_NAME").unwrap_or_default();
    let Some(rest) = text.strip_prefix('/') else { return Ok(text == name) };
    // Without its end it is a name, and no name begins with `/`.
    let Some((pattern, flags)) = rest.rsplit_once('/') else { return Ok(false) };
    let flags = if flags.contains('i') { "(?i)" } else { "" };
    let pattern = Regex::new(&format!("{flags}{}", pattern.replace("\\/", "/"))).map_err(|e| {
        let shown = Untrusted(text);
        match expression::is_limit(&e) {
            true => Failure::new(format!("`{shown}` has what nunbird exec cannot do, and GitLab may: {e}"))
                .at(&node.place)
                .help(expression::WITHIN_LIMITS),
            false => Failure::new(format!("`{shown}` is no pattern: {e}"))
                .at(&node.place)
                .help("write such as `/^v[0-9]+$/`"),
        }
    })?;
    Ok(pattern.is_match(name))
}
