//! Descriptions and defaults for the schema, of what is no key of a table of the policy: the tables themselves, and facts.

use nunbird_policy::{FACTS, Local};

/// A description, and the default in words.
pub(crate) type Words = (String, &'static str);

/// By the path as [`nunbird_policy::every_key`] has it.
#[rustfmt::skip]
const WORDS: &[(&str, &str, &str)] = &[
    ("gitlab", "the GitLab servers whose jobs may run, one table each", "none, which is an error"),
    ("identity", "what proves the identity of a job", "the defaults of its keys"),
    ("accounts", "which accounts of this host may have jobs, whatever the rules say", "the defaults of its keys"),
    ("directories", "where jobs keep their files", "the defaults of its keys"),
    ("job", "how scripts of jobs run", "the defaults of its keys"),
    ("batch", "what jobs may ask of a batch scheduler", "the defaults of its keys"),
    ("scheduler", "batch schedulers that the site describes itself, by name", "none"),
    ("container", "container engines, and what jobs may run in them, by name", "none"),
    ("credential", "passwords of the site's for registries of images, and the projects that pull with them, by name", "none"),
    ("limits", "sets of limits on memory, processors, processes and disks, by name", "none"),
    ("profile", "other values of `[job]`, `[batch]` and `data_dir` for the jobs of some rules, by name", "none"),
    ("profile[].batch", "as `[batch]`, for the jobs of this profile", "the values of `[batch]`"),
    ("audit", "where decisions are written", "the defaults of its keys"),
    ("validation", "the site's own program that is asked about each job", "none is asked"),
    ("pam", "a PAM session around each stage or job", "no session"),
    ("map", "files that give accounts, by name", "none"),
    ("rule", "who may run as whom: the first rule that matches decides, and without one the job is denied", "none, which is an error"),
    ("test", "what the site expects of the rules; `nunbirdctl test` and `check` run them", "none"),
];

/// What is known of a key, if it is one of these.
pub(crate) fn of(path: &[String]) -> Option<Words> {
    let joined = path.join(".").replace(".[]", "[]");
    if let Some((_, description, default)) = WORDS.iter().find(|(key, ..)| *key == joined) {
        return Some(((*description).to_owned(), default));
    }
    let [.., table, name] = path else { return None };
    let note =
        |doc: &str, note: &str| if note.is_empty() { doc.to_owned() } else { format!("{doc}. {note}") };
    match table.as_str() {
        "claims" => {
            let fact = FACTS.iter().find(|fact| fact.claim == name)?;
            Some((note(fact.doc, fact.note), "not known"))
        }
        "when" | "unless" => {
            let fact = FACTS.iter().find(|fact| fact.key == Some(name)).map(|fact| note(fact.doc, fact.note));
            let local =
                || Local::KEYS.iter().find(|(key, ..)| key == name).map(|(_, _, doc)| (*doc).to_owned());
            Some((fact.or_else(local)?, "not asked for"))
        }
        _ => None,
    }
}
