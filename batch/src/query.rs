//! A query of the scheduler, and how its output is parsed: a line for each job, a block of lines
//! for each job, or JSON.
//!
//! Pure: text comes in, fields come out. `query_state.rs` decides which job is ours.

use super::template::{Pattern, Whole, fill_with};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a scheduler reports about one job. docs/schedulers.md lists the fields with a meaning; a
/// description may have more, for `word`.
pub(crate) type Fields = BTreeMap<String, String>;

/// A query command, and how its output is parsed.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Keys")]
pub(crate) struct Query {
    pub(crate) command: Vec<String>,
    form: Form,
    /// What the state's name is composed of; the field `state` if unset.
    word: Option<String>,
    words: Vec<(Whole, String)>,
    /// Matches if the job does not exist.
    pub(crate) absent: Vec<Pattern>,
    /// Matches if this site does not have the service.
    pub(crate) disabled: Vec<Pattern>,
    /// The query to run next if this one does not find the job.
    pub(crate) then: Option<Box<Query>>,
}

#[derive(Debug)]
enum Form {
    /// One line for each job.
    Lines(Pattern),
    /// Several lines for each job, from one that matches to the next. Lines that begin with `fold`
    /// continue the previous one.
    Blocks { begin: Pattern, fold: Option<Pattern>, fields: BTreeMap<String, Pattern> },
    /// The jobs at a path, and paths within each.
    Json { jobs: String, fields: BTreeMap<String, Paths> },
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    command: Vec<String>,
    row: Option<Pattern>,
    begin: Option<Pattern>,
    fold: Option<Pattern>,
    fields: Option<BTreeMap<String, Pattern>>,
    jobs: Option<String>,
    paths: Option<BTreeMap<String, Paths>>,
    word: Option<String>,
    #[serde(default)]
    words: Vec<(Whole, String)>,
    #[serde(default)]
    absent: Vec<Pattern>,
    #[serde(default)]
    disabled: Vec<Pattern>,
    then: Option<Box<Query>>,
}

/// One path, or several of which the first that matches counts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Paths {
    One(String),
    Several(Vec<String>),
}

impl TryFrom<Keys> for Query {
    type Error = &'static str;

    fn try_from(keys: Keys) -> Result<Self, Self::Error> {
        let form = match (keys.row, keys.begin, keys.jobs) {
            (Some(row), None, None)
                if keys.fields.is_none() && keys.paths.is_none() && keys.fold.is_none() =>
            {
                Form::Lines(row)
            }
            (None, Some(begin), None) if keys.paths.is_none() => {
                Form::Blocks { begin, fold: keys.fold, fields: keys.fields.unwrap_or_default() }
            }
            (None, None, Some(jobs)) if keys.fields.is_none() && keys.fold.is_none() => {
                Form::Json { jobs, fields: keys.paths.unwrap_or_default() }
            }
            _ => {
                return Err(
                    "a query has either `row`, or `begin` with `fields` (and `fold`), or `jobs` with `paths`",
                );
            }
        };
        let Keys { command, word, words, absent, disabled, then, .. } = keys;
        Ok(Query { command, form, word, words, absent, disabled, then })
    }
}

impl Query {
    /// The fields of each job in the output. The error is the part that cannot be parsed.
    pub(crate) fn read(&self, out: &str) -> Result<Vec<Fields>, String> {
        let mut jobs = match &self.form {
            Form::Lines(row) => lines(row, out)?,
            Form::Blocks { begin, fold, fields } => blocks(begin, fold.as_ref(), fields, out)?,
            Form::Json { jobs, fields } => json(jobs, fields, out)?,
        };
        for job in &mut jobs {
            self.name_state(job);
        }
        Ok(jobs)
    }

    /// The first line that is not about a job, if each line must be about one.
    pub(crate) fn unread<'o>(&self, out: &'o str) -> Option<&'o str> {
        let Form::Lines(row) = &self.form else { return None };
        out.lines().find(|line| !line.trim().is_empty() && !row.0.is_match(line))
    }

    /// Whether an output has this field for every job that it lists completely.
    pub(crate) fn always_has(&self, field: &str) -> bool {
        match &self.form {
            Form::Lines(_) => false,
            Form::Blocks { fields, .. } => fields.contains_key(field),
            Form::Json { fields, .. } => fields.contains_key(field),
        }
    }

    #[cfg(test)]
    pub(crate) fn state_words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|(_, word)| word.as_str())
    }

    /// Replaces the state by its composed name.
    fn name_state(&self, job: &mut Fields) {
        let look = |name: &str| Some(job.get(name).cloned().unwrap_or_default());
        let word = fill_with(self.word.as_deref().unwrap_or("{state}"), &look);
        let word = word.trim();
        let name =
            self.words.iter().find(|(pattern, _)| pattern.is_match(word)).map(|(_, name)| name.as_str());
        let state = name.unwrap_or(word).to_owned();
        job.insert("state".to_owned(), state);
    }
}

/// Lines that do not match the pattern may be a login banner; see [`Query::unread`].
fn lines(row: &Pattern, out: &str) -> Result<Vec<Fields>, String> {
    let filled = || out.lines().filter(|line| !line.trim().is_empty());
    let jobs: Vec<Fields> = filled()
        .filter_map(|line| {
            let found = row.0.captures(line)?;
            let names = row.0.capture_names().flatten();
            let field = |name: &str| Some((name.to_owned(), found.name(name)?.as_str().trim().to_owned()));
            Some(names.filter_map(field).collect())
        })
        .collect();
    match filled().next() {
        Some(line) if jobs.is_empty() => Err(line.to_owned()),
        _ => Ok(jobs),
    }
}

fn blocks(
    begin: &Pattern,
    fold: Option<&Pattern>,
    fields: &BTreeMap<String, Pattern>,
    out: &str,
) -> Result<Vec<Fields>, String> {
    let mut blocks: Vec<Vec<String>> = Vec::new();
    for line in out.lines() {
        let folded = fold.and_then(|fold| fold.0.find(line)).filter(|found| found.start() == 0);
        if let (Some(folded), Some(last)) = (folded, blocks.last_mut().and_then(|block| block.last_mut())) {
            last.push_str(&line[folded.end()..]);
        } else if begin.0.is_match(line) {
            blocks.push(vec![line.to_owned()]);
        } else if let Some(block) = blocks.last_mut() {
            block.push(line.to_owned());
        }
    }
    if let (true, Some(line)) = (blocks.is_empty(), out.lines().find(|line| !line.trim().is_empty())) {
        return Err(line.to_owned());
    }
    let read = |block: &Vec<String>| {
        let field = |(name, pattern): (&String, &Pattern)| {
            // The first match: text that users can write comes after what the scheduler writes.
            let found = block.iter().find_map(|line| pattern.0.captures(line))?;
            let text = found.get(1).or(found.get(0))?.as_str().trim();
            Some((name.clone(), text.to_owned()))
        };
        fields.iter().filter_map(field).collect()
    };
    Ok(blocks.iter().map(read).collect())
}

fn json(jobs: &str, fields: &BTreeMap<String, Paths>, out: &str) -> Result<Vec<Fields>, String> {
    if out.trim().is_empty() {
        return Ok(Vec::new());
    }
    let result: Value = serde_json::from_str(out).map_err(|e| e.to_string())?;
    let jobs = at(vec![(String::new(), &result)], jobs);
    let read = |(key, job): &(String, &Value)| {
        let value = |path: &String| match path.as_str() {
            "@" => Some(key.clone()),
            path => at(vec![(String::new(), *job)], path).into_iter().find_map(|(_, value)| scalar(value)),
        };
        let field = |(name, paths): (&String, &Paths)| {
            let found = match paths {
                Paths::One(path) => value(path),
                Paths::Several(paths) => paths.iter().filter_map(value).find(|value| !value.is_empty()),
            };
            Some((name.clone(), found?))
        };
        fields.iter().filter_map(field).collect()
    };
    Ok(jobs.iter().map(read).collect())
}

/// The values at a path, each with its key. `*` matches every member of an array or object.
fn at<'a>(mut here: Vec<(String, &'a Value)>, path: &str) -> Vec<(String, &'a Value)> {
    for step in path.split('.') {
        let mut next = Vec::new();
        for (_, value) in here {
            match (step, value) {
                ("*", Value::Array(members)) => next.extend(members.iter().map(|one| (String::new(), one))),
                ("*", Value::Object(members)) => {
                    next.extend(members.iter().map(|(key, one)| (key.clone(), one)));
                }
                (name, Value::Object(members)) => {
                    next.extend(members.get(name).map(|one| (name.to_owned(), one)));
                }
                _ => {}
            }
        }
        here = next;
    }
    here
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Query;

    fn query(text: &str) -> Query {
        toml::from_str(&format!("command = [\"q\"]\n{text}")).expect("a question")
    }

    #[test]
    fn a_question_has_exactly_one_form() {
        for text in [
            "",
            "row = 'x'\nbegin = 'x'",
            "row = 'x'\n[fields]\nid = 'x'",
            "jobs = '*'\nfold = 'x'",
            "begin = 'x'\n[paths]\nid = 'x'",
        ] {
            let text = format!("command = [\"q\"]\n{text}");
            assert!(toml::from_str::<Query>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn folded_lines_are_joined_and_the_first_line_that_has_a_field_counts() {
        let query = query(
            "begin = '^Job: '\nfold = '^\\t'\n[fields]\nid = '^Job: (.*)$'\nlist = '^ list = (.*)$'\nmore = '^ more = (.*)$'",
        );
        let jobs = query.read("a banner\nJob: 1\n list = a,\n\tb\n list = c\nJob: 2\n").expect("jobs");
        assert_eq!(jobs.len(), 2);
        assert_eq!((jobs[0]["id"].as_str(), jobs[0]["list"].as_str()), ("1", "a,b"));
        assert!(!jobs[1].contains_key("list") && !jobs[0].contains_key("more"));
        assert!(query.read("no such thing\n").is_err());
        assert!(query.read("\n").expect("nothing").is_empty());
    }

    #[test]
    fn paths_lead_through_arrays_and_objects_and_what_is_not_json_says_nothing() {
        let query = query(
            "jobs = 'Jobs.*'\nword = '{state} {code}'\nwords = [['F 0', 'well'], ['F.*', 'badly']]\n\
             [paths]\nid = '@'\nstate = 's'\ncode = ['x.a', 'x.b']",
        );
        let text = r#"{"Jobs":{"1.a":{"s":"F","x":{"a":null,"b":0}},"2.a":{"s":"F"},"3.a":{"s":"R","x":7}}}"#;
        let jobs = query.read(text).expect("jobs");
        let states: Vec<(&str, &str)> =
            jobs.iter().map(|job| (job["id"].as_str(), job["state"].as_str())).collect();
        assert_eq!(states, [("1.a", "well"), ("2.a", "badly"), ("3.a", "R")]);
        assert!(query.read("{\"Jobs\":{\"1\":{\"a\":nan}}}").is_err());
        assert!(query.read("").expect("nothing").is_empty() && query.read("{}").expect("nothing").is_empty());
    }
}
