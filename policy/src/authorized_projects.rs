//! A user's own list of projects that may run as them: `~/.config/nunbird/authorized_projects`.
//!
//! Written for the user, as `~/.ssh/authorized_keys` is: one line for each project, and a line that cannot be read admits nothing
//! and spoils no other line.
//!
//! ```text
//! # project        ref        options
//! hpc/app          main
//! hpc/**           **         protected server=main source=push,schedule
//! ```

use crate::Pattern;
use std::fmt;

/// The largest file that is read, in bytes.
pub const MAX_AUTHORIZED_PROJECTS: u64 = 64 << 10;

/// What a line may ask about a job. A fact that the job's identity does not have fits no line that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectFacts<'a> {
    /// The configured name of the GitLab server.
    pub server: &'a str,
    /// Full path of the project that runs the job.
    pub project_path: &'a str,
    /// Branch or tag.
    pub git_ref: Option<&'a str>,
    /// Whether it is protected in GitLab.
    pub ref_protected: Option<bool>,
    /// What started the pipeline.
    pub pipeline_source: Option<&'a str>,
}

/// Why a line cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFault {
    /// Not UTF-8.
    Encoding,
    /// The project or the ref is not a pattern.
    Pattern,
    /// An unknown option, one without a value, or a repeated one.
    Option,
    /// A third word that is not an option.
    Words,
}

impl LineFault {
    /// All of them, in the order of their numbers on the way between two processes.
    pub const ALL: [LineFault; 4] =
        [LineFault::Encoding, LineFault::Pattern, LineFault::Option, LineFault::Words];
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LineFault::Encoding => "it is not UTF-8",
            LineFault::Pattern => "only `*`, `**` and `?` are special in a project or a ref",
            LineFault::Option => "options are `protected`, `ref=`, `server=` and `source=`, each once",
            LineFault::Words => "a line is a project, then at most one ref, then options",
        })
    }
}

/// What a file says about a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectsAnswer {
    /// The first line that admits it, from 1.
    pub admitted_by: Option<u32>,
    /// Lines that cannot be read, and why.
    pub faults: Vec<(u32, LineFault)>,
}

/// Holds a job against a file's content. Total: any bytes have an answer.
pub fn projects_answer(content: &[u8], facts: &ProjectFacts<'_>) -> ProjectsAnswer {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut word = ProjectsAnswer { admitted_by: None, faults: Vec::new() };
    for (number, line) in (1..).zip(content.split(|byte| *byte == b'\n')) {
        match Line::parse(line) {
            Ok(Some(line)) if word.admitted_by.is_none() && line.admits(facts) => {
                word.admitted_by = Some(number);
            }
            Ok(_) => {}
            Err(fault) => word.faults.push((number, fault)),
        }
    }
    word
}

/// One line that admits jobs.
struct Line<'a> {
    project: Pattern,
    git_ref: Option<Pattern>,
    protected: bool,
    server: Option<&'a str>,
    sources: Option<Vec<&'a str>>,
}

impl<'a> Line<'a> {
    /// None for an empty line and a comment.
    fn parse(line: &'a [u8]) -> Result<Option<Self>, LineFault> {
        let line = std::str::from_utf8(line).map_err(|_| LineFault::Encoding)?;
        let mut words = line.split_ascii_whitespace();
        let Some(project) = words.next().filter(|word| !word.starts_with('#')) else { return Ok(None) };
        let pattern = |word: &str| Pattern::new(word).map_err(|_| LineFault::Pattern);
        let mut parsed =
            Line { project: pattern(project)?, git_ref: None, protected: false, server: None, sources: None };
        let mut options = false;
        for word in words {
            if word.starts_with('#') {
                break;
            }
            match word.split_once('=') {
                None if word == "protected" && !parsed.protected => parsed.protected = true,
                None if word == "protected" => return Err(LineFault::Option),
                None if options || parsed.git_ref.is_some() => return Err(LineFault::Words),
                None => {
                    parsed.git_ref = Some(pattern(word)?);
                    continue;
                }
                Some((_, "")) => return Err(LineFault::Option),
                Some(("ref", value)) if parsed.git_ref.is_none() => parsed.git_ref = Some(pattern(value)?),
                Some(("server", value)) if parsed.server.is_none() => parsed.server = Some(value),
                Some(("source", value)) if parsed.sources.is_none() => {
                    parsed.sources = Some(value.split(',').collect());
                }
                Some(_) => return Err(LineFault::Option),
            }
            options = true;
        }
        Ok(Some(parsed))
    }

    fn admits(&self, facts: &ProjectFacts<'_>) -> bool {
        self.project.matches(facts.project_path)
            && self.git_ref.as_ref().is_none_or(|pattern| facts.git_ref.is_some_and(|r| pattern.matches(r)))
            && (!self.protected || facts.ref_protected == Some(true))
            && self.server.is_none_or(|name| name == facts.server)
            && self
                .sources
                .as_ref()
                .is_none_or(|sources| facts.pipeline_source.is_some_and(|source| sources.contains(&source)))
    }
}

#[cfg(test)]
mod tests {
    use super::{LineFault, ProjectFacts, ProjectsAnswer, projects_answer};
    use proptest::prelude::*;

    const FACTS: ProjectFacts<'_> = ProjectFacts {
        server: "main",
        project_path: "hpc/app",
        git_ref: Some("feature/x"),
        ref_protected: Some(false),
        pipeline_source: Some("push"),
    };

    fn word(text: &str) -> ProjectsAnswer {
        projects_answer(text.as_bytes(), &FACTS)
    }

    #[test]
    fn a_line_admits_when_all_that_it_says_holds() {
        for line in [
            "hpc/app",
            "hpc/* **",
            "  hpc/app\tfeature/*  \r",
            "** ref=feature/x",
            "hpc/app feature/x server=main source=web,push # the app",
            "hpc/app source=push",
        ] {
            assert_eq!(word(line).admitted_by, Some(1), "{line}");
        }
        for line in [
            "",
            "#hpc/app",
            "hpc",
            "hpc/ap",
            "hpc/* *",
            "hpc/app main",
            "hpc/app protected",
            "hpc/app server=other",
            "hpc/app source=web",
            "hpc/app source=pus",
            "HPC/app",
        ] {
            assert_eq!(word(line), ProjectsAnswer { admitted_by: None, faults: Vec::new() }, "{line}");
        }
    }

    #[test]
    fn a_fact_that_is_not_known_fits_no_line_that_asks_for_it() {
        let facts = ProjectFacts { git_ref: None, ref_protected: None, pipeline_source: None, ..FACTS };
        for line in ["hpc/app **", "hpc/app protected", "hpc/app source=push"] {
            assert_eq!(projects_answer(line.as_bytes(), &facts).admitted_by, None, "{line}");
        }
        assert_eq!(projects_answer(b"hpc/app", &facts).admitted_by, Some(1));
    }

    #[test]
    fn a_line_that_cannot_be_read_admits_nothing_and_is_reported_and_others_count() {
        for (line, fault) in [
            ("hpc/app main extra", LineFault::Words),
            ("hpc/app server=main main", LineFault::Words),
            ("hpc/[a]* **", LineFault::Pattern),
            ("hpc/app ***", LineFault::Pattern),
            ("hpc/app ref=", LineFault::Option),
            ("hpc/app ** ref=**", LineFault::Option),
            ("hpc/app protected=no", LineFault::Option),
            ("hpc/app protected protected", LineFault::Option),
            ("hpc/app source=push source=web", LineFault::Option),
            ("hpc/app colour=red", LineFault::Option),
        ] {
            assert_eq!(word(line), ProjectsAnswer { admitted_by: None, faults: vec![(1, fault)] }, "{line}");
            let text = format!("# mine\n{line}\nhpc/app");
            assert_eq!(
                word(&text),
                ProjectsAnswer { admitted_by: Some(3), faults: vec![(2, fault)] },
                "{line}"
            );
        }
        let bytes = b"\xef\xbb\xbfhpc/other\n\xff\nhpc/app\n";
        let expected = ProjectsAnswer { admitted_by: Some(3), faults: vec![(2, LineFault::Encoding)] };
        assert_eq!(projects_answer(bytes, &FACTS), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer_and_none_admits_a_project_that_it_does_not_name(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let plain = !bytes.contains(&b'*') && !bytes.contains(&b'?');
            let word = projects_answer(&bytes, &FACTS);
            if plain && !bytes.windows(7).any(|w| w == b"hpc/app") {
                prop_assert_eq!(word.admitted_by, None);
            }
        }
    }
}
