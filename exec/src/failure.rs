//! What stops a job before its script: each failure names its place in the file, the cause, and what helps.

use nunbird_handover::Untrusted;
use std::fmt;
use std::rc::Rc;

/// A place in a file, both numbers from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as the user names it.
    pub file: Rc<str>,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", Untrusted(&self.file), self.line, self.column)
    }
}

/// Why nothing was run.
#[derive(Debug)]
pub struct Failure {
    what: String,
    place: Option<Place>,
    help: Vec<String>,
}

impl Failure {
    /// `what` is a sentence without its period; text of the file in it has gone through [`Untrusted`].
    pub fn new(what: impl Into<String>) -> Self {
        Failure { what: what.into(), place: None, help: Vec::new() }
    }

    /// With the place in the file.
    #[must_use]
    pub fn at(self, place: &Place) -> Self {
        Failure { place: Some(place.clone()), ..self }
    }

    /// With advice; several pieces are several lines.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if let Some(place) = &self.place {
            write!(f, "\n  --> {place}")?;
        }
        for help in &self.help {
            write!(f, "\n  = help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// The name of `known` that is nearest to a mistyped one. Names of more than 100 bytes are not compared.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 100;
    let mut known = known.into_iter().filter(|one| one.len() <= LONGEST).take(10_000).peekable();
    (name.len() <= LONGEST && known.peek().is_some()).then(|| nunbird_policy::nearest(name, known))?
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn only_a_slip_of_the_fingers_is_near_and_long_names_are_not_compared() {
        assert_eq!(nearest("biuld", ["test", "build"]), Some("build"));
        assert_eq!(nearest("Build", ["test", "build"]), Some("build"));
        assert_eq!(nearest("deploy", ["test", "build"]), None);
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, [long.as_str()]), None);
    }
}
