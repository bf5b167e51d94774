//! The whole configuration of a pipeline: the file, what it includes, `extends` and `!reference`, in GitLab's order.
//!
//! Everything is bounded, because all of it may be somebody else's file: files included, steps of `extends`, references within
//! references, and, by one budget for the pipeline, the values and bytes that all of them copy.

use crate::budget::{Budget, Size};
use crate::conditions::{self, Facts};
use crate::failure::{Failure, Place, nearest};
use crate::glob::Glob;
use crate::tree::Tree;
use crate::variables::Variables;
use crate::yaml::{self, Entry, Map, Node, Value};
use nunbird_handover::Untrusted;
use std::collections::HashMap;

/// Files of one pipeline: GitLab's own bound.
const MOST_FILES: usize = 150;
/// Steps of `extends`: likewise.
const LONGEST_CHAIN: usize = 10;
/// References within references: likewise.
const DEEPEST_REFERENCE: usize = 10;

/// Keys at the top that are no jobs.
pub const KEYWORDS: [&str; 11] = [
    "after_script",
    "before_script",
    "cache",
    "default",
    "image",
    "include",
    "services",
    "spec",
    "stages",
    "variables",
    "workflow",
];

/// What a pipeline is made from.
#[derive(Debug)]
pub struct Pipeline {
    /// The merged map.
    pub config: Map,
    /// What the user is to know about it.
    pub remarks: Vec<String>,
}

/// How it is read.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The project's files.
    pub tree: &'a Tree,
    /// Variables beside those of the file.
    pub outer: &'a Variables,
    /// Whether an `include:` that cannot be had offline is a remark in place of an error.
    pub ignore_remote: bool,
}

/// Reads the file of this name, from the top of the project.
///
/// # Errors
/// For whatever GitLab would refuse, and for an `include:` that cannot be had offline.
pub fn load(sources: Sources<'_>, file: &str) -> Result<Pipeline, Failure> {
    let mut loader =
        Loader { sources, files: 0, open: Vec::new(), budget: Budget::default(), remarks: Vec::new() };
    let config = loader.file(file, None)?;
    let Loader { mut budget, remarks, .. } = loader;
    let config = all_extended(&config, &mut budget)?;
    let mut resolver = Resolver { config: &config, budget };
    let mut resolved = Map::default();
    for entry in config.entries() {
        let node = resolver.node(&entry.node, 0, 0)?;
        resolved.set(Entry { node, ..entry.clone() });
    }
    Ok(Pipeline { config: resolved, remarks })
}

struct Loader<'a> {
    sources: Sources<'a>,
    files: usize,
    /// The files that are being read, for circles.
    open: Vec<String>,
    budget: Budget,
    remarks: Vec<String>,
}

impl Loader<'_> {
    fn file(&mut self, name: &str, from: Option<&Place>) -> Result<Map, Failure> {
        let at = |failure: Failure| match from {
            Some(place) => failure.at(place),
            None => failure,
        };
        let shown = Untrusted(name);
        self.files += 1;
        if self.files > MOST_FILES {
            return Err(at(Failure::new(format!("more than {MOST_FILES} files are included")))
                .help("include fewer files"));
        }
        if self.open.iter().any(|open| open == name) {
            let circle: Vec<String> = self.open.iter().map(|one| Untrusted(one).to_string()).collect();
            return Err(at(Failure::new(format!("`{shown}` includes itself, by {}", circle.join(", "))))
                .help("remove one of these `include:`"));
        }
        let bytes = self.sources.tree.read(name, yaml::LONGEST_FILE + 1).map_err(|e| {
            let help = match from {
                Some(_) => "paths of `include:local` begin at the top of the project",
                None => "run the command in the project, or name the file by --file",
            };
            at(Failure::new(format!("cannot read `{shown}`: {e}"))).help(help)
        })?;
        let node = yaml::read_within(name, &bytes, &mut self.budget, &mut self.remarks)?;
        let own = match &node.value {
            Value::Map(map) => map.clone(),
            _ if node.is_null() => {
                return Err(at(Failure::new(format!("`{shown}` is empty"))).help("write a job"));
            }
            _ => {
                return Err(Failure::new(format!(
                    "the file is {}, and a map of jobs is expected",
                    node.kind()
                ))
                .at(&node.place)
                .help("begin with the name of a job and a colon"));
            }
        };
        let Some(include) = own.get("include") else { return Ok(own) };
        self.open.push(name.to_owned());
        let mut merged = Map::default();
        let globals = conditions::global_variables(&own)?;
        for one in include.one_or_more() {
            for file in self.included(one, &globals)? {
                merged.overlay(&self.file(&file, Some(&one.place))?);
            }
        }
        self.open.pop();
        merged.overlay(&own.without("include"));
        Ok(merged)
    }

    /// The files that one `include:` stands for.
    fn included(&mut self, one: &Node, globals: &Variables) -> Result<Vec<String>, Failure> {
        let map = match &one.value {
            Value::Scalar(text, _) if text.starts_with("http://") || text.starts_with("https://") => {
                return self.remote(one, "remote", text);
            }
            Value::Scalar(text, _) => return self.local(text, &one.place, globals),
            Value::Map(map) => map,
            _ => {
                return Err(Failure::new(format!("`include:` takes files, and this is {}", one.kind()))
                    .at(&one.place)
                    .help("write `include: /path/of/the/file.yml`"));
            }
        };
        if let Some(rules) = map.get("rules") {
            let mut variables = globals.clone();
            variables.add(self.sources.outer);
            let facts = Facts { values: &variables.expanded()?, tree: self.sources.tree };
            if !conditions::include(rules, &facts, &mut self.remarks)? {
                return Ok(Vec::new());
            }
        }
        if let Some(local) = map.get("local") {
            let text =
                local.text().ok_or_else(|| expected(local, "`include:local` takes the path of a file"))?;
            return self.local(&text, &local.place, globals);
        }
        for kind in ["remote", "project", "template", "component", "artifact"] {
            if let Some(node) = map.get(kind) {
                return self.remote(one, kind, &node.text().unwrap_or_default());
            }
        }
        let found: Vec<&str> = map.entries().iter().map(|entry| entry.key.as_str()).collect();
        Err(Failure::new(format!("`include:` does not name a file: {}", Untrusted(&found.join(", "))))
            .at(&one.place)
            .help("write `local: /path/of/the/file.yml`"))
    }

    fn remote(&mut self, one: &Node, kind: &str, name: &str) -> Result<Vec<String>, Failure> {
        let what = format!("`include:{kind}` of `{}` cannot be had offline", Untrusted(name));
        if self.sources.ignore_remote {
            self.remarks.push(format!("{}: {what}: it is left out", one.place));
            return Ok(Vec::new());
        }
        Err(Failure::new(what)
            .at(&one.place)
            .help("--ignore-remote-includes runs the job without it")
            .help("or save the file in the project and include it by `local:`"))
    }

    fn local(&self, text: &str, place: &Place, globals: &Variables) -> Result<Vec<String>, Failure> {
        let mut variables = globals.clone();
        variables.add(self.sources.outer);
        let text = variables.expanded()?.expand(text);
        let name = text.trim_start_matches('/');
        if name.split('/').any(|part| part == "..") {
            return Err(Failure::new(format!("`{}` leads out of the project", Untrusted(&text)))
                .at(place)
                .help("paths of `include:local` begin at the top of the project"));
        }
        if ![".yml", ".yaml"].iter().any(|end| name.ends_with(end)) {
            return Err(Failure::new(format!("`{}` does not end in .yml or .yaml", Untrusted(&text)))
                .at(place)
                .help("GitLab includes no other files: rename it"));
        }
        if !name.contains('*') {
            return Ok(vec![name.to_owned()]);
        }
        let glob = Glob::of_include(name).ok_or_else(|| {
            Failure::new(format!("`{}` is no pattern of paths", Untrusted(name)))
                .at(place)
                .help("write `ci/*.yml`")
        })?;
        let mut found: Vec<String> =
            self.sources.tree.files()?.iter().filter(|file| glob.matches(file)).cloned().collect();
        found.sort();
        if found.is_empty() {
            return Err(Failure::new(format!("no file matches `{}`", Untrusted(&text)))
                .at(place)
                .help("paths of `include:local` begin at the top of the project"));
        }
        Ok(found)
    }
}

/// An error about a value of the wrong kind.
pub fn expected(node: &Node, what: &str) -> Failure {
    Failure::new(format!("{what}, and this is {}", node.kind())).at(&node.place).help("correct the value")
}

fn all_extended(config: &Map, budget: &mut Budget) -> Result<Map, Failure> {
    let mut extender = Extender { config, done: HashMap::new(), budget };
    let mut all = Map::default();
    for entry in config.entries() {
        let node = match &entry.node.value {
            Value::Map(_) if !KEYWORDS.contains(&entry.key.as_str()) => {
                let map = extender.job(entry, None, &mut Vec::new())?;
                Node { place: entry.node.place.clone(), value: Value::Map(map) }
            }
            _ => entry.node.clone(),
        };
        all.set(Entry { node, ..entry.clone() });
    }
    Ok(all)
}

struct Extender<'m> {
    config: &'m Map,
    done: HashMap<String, (Map, Size)>,
    budget: &'m mut Budget,
}

impl Extender<'_> {
    /// `extended_by` is the place of the `extends:` that asks for it as a base.
    fn job(
        &mut self,
        entry: &Entry,
        extended_by: Option<&Place>,
        open: &mut Vec<String>,
    ) -> Result<Map, Failure> {
        let done = self.done.get(&entry.key);
        let own = entry.node.map();
        let extends = own.and_then(|own| own.get("extends"));
        // Each job is asked for itself once; every other copy is a base.
        let asked = extended_by.unwrap_or(&entry.node.place);
        match (done, own, extends) {
            (Some((done, size)), ..) => {
                self.budget.spend(*size, asked)?;
                return Ok(done.clone());
            }
            (None, Some(own), None) => {
                if extended_by.is_some() {
                    self.budget.spend(own.size(), asked)?;
                }
                return Ok(own.clone());
            }
            _ => {}
        }
        let (Some(own), Some(extends)) = (own, extends) else { return Ok(Map::default()) };
        if open.contains(&entry.key) {
            let circle: Vec<String> = open.iter().map(|one| Untrusted(one).to_string()).collect();
            return Err(Failure::new(format!("`extends:` leads in a circle: {}", circle.join(", ")))
                .at(&extends.place)
                .help("remove one of these `extends:`"));
        }
        if open.len() >= LONGEST_CHAIN {
            return Err(Failure::new(format!("`extends:` leads over more than {LONGEST_CHAIN} jobs"))
                .at(&extends.place)
                .help("GitLab refuses this, too: shorten the chain"));
        }
        open.push(entry.key.clone());
        let mut merged = Map::default();
        for one in extends.one_or_more() {
            let name = one.raw().ok_or_else(|| expected(one, "`extends:` takes names of jobs"))?;
            let base = self.config.entry(name).filter(|base| base.node.map().is_some()).ok_or_else(|| {
                let known = self.config.entries().iter().map(|entry| entry.key.as_str());
                let failure =
                    Failure::new(format!("`extends:` names `{}`, and there is no such job", Untrusted(name)));
                match nearest(name, known) {
                    Some(near) => failure.at(&one.place).help(format!("write `{}`", Untrusted(near))),
                    None => failure.at(&one.place).help("it may be in an include that is missing"),
                }
            })?;
            merged.overlay(&self.job(base, Some(&one.place), open)?);
        }
        open.pop();
        merged.overlay(own);
        let merged = merged.without("extends");
        // What is kept for the next one is a copy, too.
        let size = merged.size();
        self.budget.spend(size, &extends.place)?;
        self.done.insert(entry.key.clone(), (merged.clone(), size));
        Ok(merged)
    }
}

struct Resolver<'m> {
    config: &'m Map,
    budget: Budget,
}

impl Resolver<'_> {
    /// `within` counts the references, `depth` lists and maps.
    fn node(&mut self, node: &Node, within: usize, depth: usize) -> Result<Node, Failure> {
        let value = match &node.value {
            Value::Reference(words) => return self.reference(node, words, within, depth),
            Value::Scalar(..) => node.value.clone(),
            Value::List(items) => Value::List(
                items.iter().map(|item| self.node(item, within, depth + 1)).collect::<Result<_, _>>()?,
            ),
            Value::Map(map) => {
                let mut resolved = Map::default();
                for entry in map.entries() {
                    let node = self.node(&entry.node, within, depth + 1)?;
                    resolved.set(Entry { node, ..entry.clone() });
                }
                Value::Map(resolved)
            }
        };
        Ok(Node { place: node.place.clone(), value })
    }

    fn reference(
        &mut self,
        node: &Node,
        words: &[String],
        within: usize,
        depth: usize,
    ) -> Result<Node, Failure> {
        let shown = Untrusted(&words.join(", ")).to_string();
        if within >= DEEPEST_REFERENCE || depth > 2 * yaml::DEEPEST {
            let what = format!(
                "`!reference [{shown}]` leads over more than {DEEPEST_REFERENCE} references, or in a circle"
            );
            return Err(Failure::new(what)
                .at(&node.place)
                .help("GitLab refuses this, too: name the last one directly"));
        }
        let missing = |word: &str, map: &Map| {
            let what = format!("`!reference [{shown}]`: there is no `{}`", Untrusted(word));
            let failure = Failure::new(what).at(&node.place);
            match nearest(word, map.entries().iter().map(|entry| entry.key.as_str())) {
                Some(near) => failure.help(format!("write `{}`", Untrusted(near))),
                None => failure.help("it may be in an include that is missing"),
            }
        };
        let mut map = self.config;
        let mut found = None;
        for (number, word) in words.iter().enumerate() {
            let next = map.get(word).ok_or_else(|| missing(word, map))?;
            found = Some(next);
            if number + 1 < words.len() {
                map = next.map().ok_or_else(|| {
                    Failure::new(format!("`!reference [{shown}]`: `{}` is {}", Untrusted(word), next.kind()))
                        .at(&node.place)
                        .help("name a key of a map")
                })?;
            }
        }
        match found {
            Some(found) => {
                self.budget.spend(found.size(), &node.place)?;
                self.node(found, within + 1, depth + 1)
            }
            None => Err(missing("", map)),
        }
    }
}
