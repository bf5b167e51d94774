//! Rules for the documents: the contents list every page, no link between pages is dead, and the page of environment
//! variables has those of the source. Needs no mdbook.

use super::{quoted_words, sources, tree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every page of the repository, by its path in it.
fn pages() -> BTreeMap<PathBuf, String> {
    fn walk(directory: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type().expect("a type").is_dir() {
                if name != "target" && name != "vendor" && !name.to_string_lossy().starts_with('.') {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|ext| ext == "md") {
                let text = fs::read_to_string(&path).expect("a page");
                found.insert(path.strip_prefix(tree()).expect("below the tree").to_owned(), text);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&tree(), &mut found);
    found
}

/// Lines of prose: without fenced blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut fenced = false;
    text.lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
        .collect()
}

/// Link targets of a page. What stands in backticks is no link.
fn links(text: &str) -> Vec<String> {
    let lines: Vec<String> =
        prose(text).iter().map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join("`")).collect();
    let text = lines.join("\n");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets.map(str::to_owned).collect()
}

/// The names by which a link reaches a heading, as forges and mdbook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        let Some(title) = title.strip_prefix(' ').filter(|_| line.starts_with('#')) else { continue };
        // Of a link only the text counts.
        let title: String = title
            .split("](")
            .enumerate()
            .map(|(n, part)| if n == 0 { part } else { part.split_once(')').map_or("", |(_, rest)| rest) })
            .collect();
        let name: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                '-' | '_' => Some(c),
                c => c.is_alphanumeric().then_some(c),
            })
            .collect();
        let count = seen.entry(name.clone()).or_default();
        found.insert(if *count == 0 { name } else { format!("{name}-{count}") });
        *count += 1;
    }
    found
}

/// The path without `.` and `..`; none above the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => normal.pop().then_some(())?,
            std::path::Component::Normal(part) => normal.push(part),
            _ => {}
        }
    }
    Some(normal)
}

fn dead_links(pages: &BTreeMap<PathBuf, String>, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut dead = Vec::new();
    for (page, text) in pages {
        for link in links(text).iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(p, a)| (p, Some(a)));
            let folder = page.parent().expect("a directory");
            let target = if path.is_empty() { Some(page.clone()) } else { normal(&folder.join(path)) };
            let found = target.filter(|target| exists(target));
            let there = found.is_some_and(|target| {
                anchor.is_none_or(|anchor| {
                    pages.get(&target).is_some_and(|text| anchors(text).contains(anchor))
                })
            });
            if !there {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    dead
}

#[test]
fn the_contents_list_every_page_once() {
    let pages = pages();
    let summary = pages.get(Path::new("docs/SUMMARY.md")).expect("the contents");
    let mut listed: Vec<PathBuf> = links(summary)
        .iter()
        .map(|link| normal(&Path::new("docs").join(link)).expect("in the repository"))
        .collect();
    listed.sort();
    let is_part = |page: &Path| page.starts_with("docs") || page.components().count() == 1;
    let wanted: Vec<PathBuf> = pages
        .keys()
        .filter(|page| is_part(page) && page.as_path() != Path::new("docs/SUMMARY.md"))
        .cloned()
        .collect();
    assert!(wanted.len() > 50, "{}", wanted.len());
    assert_eq!(listed, wanted, "docs/SUMMARY.md does not list each page of docs/ and of the top once");
}

#[test]
fn no_link_between_pages_is_dead() {
    let dead = dead_links(&pages(), |path| tree().join(path).exists());
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn every_kind_of_dead_link_is_found() {
    let page = |text: &str| {
        let there = "# The `top` of it\n## Same\n## Same\n## [A link](b.md), and `a_b.c`\n```\n# none\n```\n";
        let pages = [("docs/a.md", text), ("docs/b.md", there)];
        pages.map(|(path, text)| (PathBuf::from(path), text.to_owned())).into_iter().collect()
    };
    let exists = |path: &Path| ["docs/a.md", "docs/b.md", "README.md"].iter().any(|p| path == Path::new(p));
    for link in ["c.md", "b.md#none", "b.md#same-2", "#top", "../../README.md", "../b.md"] {
        assert_eq!(dead_links(&page(&format!("[x]({link})")), exists), [format!("docs/a.md: {link}")]);
    }
    for link in
        ["b.md#the-top-of-it", "b.md#same-1", "b.md#a-link-and-a_bc", "../README.md", "https://x.org/y"]
    {
        assert_eq!(dead_links(&page(&format!("[x]({link})")), exists), Vec::<String>::new());
    }
    let code = "```\n[x](none.md)\n```\n`[x](none.md)`";
    assert_eq!(dead_links(&page(code), exists), Vec::<String>::new());
}

/// What names of environment variables begin with that Nunbird reads or sets. Others are of the system, or of programs that it starts.
const VARIABLES: &[&str] = &[
    "BUILD_EXIT_",
    "BUILD_FAILURE_",
    "CI_",
    "COPY_",
    "CUSTOM_",
    "DOCKER_",
    "HEALTHCHECK_",
    "JOB_RESPONSE_",
    "JWT_",
    "NO_COLOR",
    "NUNBIRD_",
    "SCHEDULER_",
    "SITE_ID_",
    "SYSTEM_FAILURE_",
];

/// Beginnings of names that end with what another puts there.
const PREFIXES: &[&str] = &["CUSTOM_ENV_", "JWT_IDENTITY_"];

fn is_variable(word: &str) -> bool {
    let is_name = word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let whole = !word.ends_with('_') || PREFIXES.contains(&word);
    is_name && whole && VARIABLES.iter().any(|beginning| word.starts_with(beginning))
}

/// Sources of the programs that a package has, without their tests.
fn shipped_sources() -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(tree()).expect("the tree").flatten() {
        let name = entry.file_name();
        // What the audit crate names so are fields of the journal: docs/audit.md has them. docs/exec.md has GitLab's, which a job by
        // hand gets.
        let others = ["audit", "benches", "exec", "fuzz", "skip", "tests"].iter().any(|other| name == *other);
        if !others && entry.path().join("src").is_dir() {
            sources(&entry.path().join("src"), &mut files);
        }
    }
    let is_test =
        |path: &Path| path.to_string_lossy().ends_with("tests.rs") || path.iter().any(|part| part == "tests");
    let texts = files.iter().filter(|path| !is_test(path.strip_prefix(tree()).expect("below the tree")));
    texts
        .map(|path| {
            let text = fs::read_to_string(path).expect("a source");
            text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
        })
        .collect()
}

#[test]
fn the_page_of_a_job_by_hand_has_every_variable_that_it_gets() {
    let page = fs::read_to_string(tree().join("docs/exec.md")).expect("the page");
    let shown: BTreeSet<&str> = quoted_words(&page).into_iter().collect();
    let source = fs::read_to_string(tree().join("exec/src/predefined.rs")).expect("the source");
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let named: BTreeSet<&str> =
        source.split('"').skip(1).step_by(2).filter(|word| is_variable(word)).collect();
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<&&str> = named.difference(&shown).collect();
    assert!(missing.is_empty(), "docs/exec.md does not have {missing:?}");
}

#[test]
fn the_page_of_variables_has_every_one_that_a_program_reads_or_sets_and_no_other() {
    let page = fs::read_to_string(tree().join("docs/variables.md")).expect("the page");
    let (page, _) = page.split_once("## For contributors").expect("the variables of tests at its end");
    let shown: BTreeSet<&str> = quoted_words(page)
        .into_iter()
        .map(|word| word.trim_end_matches('…'))
        .filter(|w| is_variable(w))
        .collect();
    let sources = shipped_sources();
    assert!(sources.len() > 200, "{}", sources.len());
    let mut named = BTreeSet::new();
    for text in &sources {
        named.extend(text.split('"').skip(1).step_by(2).filter(|word| is_variable(word)));
    }
    // From the shell script around a container.
    named.insert("NUNBIRD_CONTAINER");
    let missing: Vec<&&str> = named.difference(&shown).collect();
    assert!(missing.is_empty(), "docs/variables.md does not have {missing:?}");
    let unknown: Vec<&&str> = shown.difference(&named).collect();
    assert!(unknown.is_empty(), "no program has {unknown:?} of docs/variables.md");
    assert!(
        fs::read_to_string(tree().join("container/src/outer.sh"))
            .expect("the shell")
            .contains("export NUNBIRD_CONTAINER")
    );
}
