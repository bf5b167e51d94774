//! The names of a pipeline's jobs: one for each job, several for one with `parallel:`.

use crate::failure::{Failure, nearest};
use crate::pipeline::{KEYWORDS, Pipeline, expected};
use crate::variables::{Variable, Variables};
use crate::yaml::{Entry, Node};
use nunbird_handover::Untrusted;

/// Jobs of one `parallel:`: GitLab's own bound.
const MOST_PARALLEL: usize = 200;
/// The longest name of a job, in bytes: likewise.
const LONGEST_NAME: usize = 255;
/// Jobs of a pipeline.
const MOST_JOBS: usize = 50_000;

/// A name that can be run, before anything else of the job is read.
#[derive(Debug, Clone)]
pub struct Instance<'p> {
    /// The name.
    pub name: String,
    /// The job's key in the file.
    pub entry: &'p Entry,
    /// Variables of `parallel`.
    pub(crate) variables: Variables,
}

/// All names that can be run, in the order of the file.
///
/// # Errors
/// For what is no job, and for `parallel` that GitLab would refuse.
pub fn instances<'p>(pipeline: &'p Pipeline) -> Result<Vec<Instance<'p>>, Failure> {
    let mut all = Vec::new();
    for entry in pipeline.config.entries() {
        if KEYWORDS.contains(&entry.key.as_str()) || entry.key.starts_with('.') {
            continue;
        }
        let Some(map) = entry.node.map() else {
            let known = KEYWORDS.into_iter();
            let failure = Failure::new(format!(
                "`{}` is {}, and a job is a map",
                Untrusted(&entry.key),
                entry.node.kind()
            ));
            return Err(match nearest(&entry.key, known) {
                Some(near) => {
                    failure.at(&entry.place).help(format!("write `{near}` if you mean that keyword"))
                }
                None => failure.at(&entry.place).help("begin its name with `.` if it is no job"),
            });
        };
        if all.len() > MOST_JOBS {
            return Err(Failure::new(format!(
                "the pipeline has more than {MOST_JOBS} jobs, with those of `parallel:`"
            ))
            .at(&entry.place)
            .help("make fewer jobs"));
        }
        let one = |name: String, variables| Instance { name, entry, variables };
        match map.get("parallel").filter(|node| !node.is_null()) {
            None => all.push(one(entry.key.clone(), Variables::default())),
            Some(parallel) => {
                all.extend(
                    combinations(parallel)?
                        .into_iter()
                        .map(|(end, variables)| one(format!("{}{end}", entry.key), variables)),
                );
            }
        }
    }
    Ok(all)
}

/// The ends of names and the variables of `parallel:`.
fn combinations(parallel: &Node) -> Result<Vec<(String, Variables)>, Failure> {
    let refused = |what: String| {
        Failure::new(what).at(&parallel.place).help("write `parallel: 2`, or `parallel:` with `matrix:`")
    };
    let numbered = |all: Vec<(String, Variables)>| {
        let total = all.len();
        let number = |(index, (end, mut variables)): (usize, (String, Variables))| {
            variables.set("CI_NODE_INDEX", (index + 1).to_string());
            variables.set("CI_NODE_TOTAL", total.to_string());
            (end, variables)
        };
        all.into_iter().enumerate().map(number).collect()
    };
    let Some(map) = parallel.map() else {
        let number = parallel.text().and_then(|text| text.parse::<usize>().ok());
        let number = number.filter(|number| (1..=MOST_PARALLEL).contains(number));
        let number =
            number.ok_or_else(|| refused(format!("`parallel:` takes a number from 1 to {MOST_PARALLEL}")))?;
        let all = (1..=number).map(|one| (format!(" {one}/{number}"), Variables::default())).collect();
        return Ok(numbered(all));
    };
    let matrix = map.get("matrix").ok_or_else(|| refused("`parallel:` has no `matrix:`".to_owned()))?;
    let mut all: Vec<(String, Variables)> = Vec::new();
    for row in matrix.one_or_more() {
        let row = row.map().ok_or_else(|| expected(row, "a row of `matrix:` is a map of variables"))?;
        let mut rows: Vec<(Vec<String>, Variables)> = vec![(Vec::new(), Variables::default())];
        for entry in row.entries() {
            let mut next = Vec::new();
            for (words, variables) in &rows {
                for value in entry.node.one_or_more() {
                    let text =
                        value.text().ok_or_else(|| expected(value, "a value of `matrix:` is a text"))?;
                    if text.len() > LONGEST_NAME || text.contains('\0') {
                        let what =
                            format!("a value of `matrix:` has a NUL byte or more than {LONGEST_NAME} bytes");
                        return Err(Failure::new(what)
                            .at(&value.place)
                            .help("it is a part of the job's name: write a shorter one"));
                    }
                    let (mut words, mut variables) = (words.clone(), variables.clone());
                    // The name has it as written; its value may have other variables in it.
                    let place = Some(entry.place.clone());
                    variables.insert(&entry.key, Variable { value: text.clone(), expand: true, place });
                    words.push(text);
                    next.push((words, variables));
                }
            }
            if next.len() > MOST_PARALLEL {
                return Err(refused(format!("`matrix:` makes more than {MOST_PARALLEL} jobs")));
            }
            rows = next;
        }
        all.extend(
            rows.into_iter().map(|(words, variables)| (format!(": [{}]", words.join(", ")), variables)),
        );
    }
    if all.len() > MOST_PARALLEL {
        return Err(refused(format!("`matrix:` makes more than {MOST_PARALLEL} jobs")));
    }
    Ok(numbered(all))
}

/// The one that a user names.
///
/// # Errors
/// With the nearest name, and the list of all, for an unknown one.
pub fn choose<'i, 'p>(
    instances: &'i [Instance<'p>],
    pipeline: &Pipeline,
    name: &str,
) -> Result<&'i Instance<'p>, Failure> {
    if let Some(found) = instances.iter().find(|one| one.name == name) {
        return Ok(found);
    }
    let list = |of: &mut dyn Iterator<Item = &Instance<'_>>| {
        let names: Vec<String> = of.map(|one| format!("`{}`", Untrusted(&one.name))).collect();
        names.join(", ")
    };
    let shown = Untrusted(name);
    if let Some(entry) = pipeline.config.entry(name) {
        let failure = match () {
            () if name.starts_with('.') => {
                Failure::new(format!("`{shown}` is a hidden job, which only other jobs use"))
            }
            () if KEYWORDS.contains(&name) => {
                Failure::new(format!("`{shown}` is a keyword of GitLab and no job"))
            }
            () => {
                let own = list(&mut instances.iter().filter(|one| one.entry.key == name));
                return Err(Failure::new(format!("`{shown}` is several jobs, by `parallel:`"))
                    .at(&entry.place)
                    .help(format!("name one of them: {own}")));
            }
        };
        return Err(failure.at(&entry.place).help(format!("the jobs are {}", list(&mut instances.iter()))));
    }
    let failure = Failure::new(format!("there is no job `{shown}`"));
    let failure = match nearest(name, instances.iter().map(|one| one.name.as_str())) {
        Some(near) => failure.help(format!("the nearest name is `{}`", Untrusted(near))),
        None => failure,
    };
    Err(failure.help(format!("the jobs are {}", list(&mut instances.iter()))))
}
