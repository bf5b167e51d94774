//! Findings in a configuration file, with the place, the line and the way out.

use nunbird_handover::Untrusted;
use std::fmt;
use std::path::PathBuf;

/// A place in a file, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

impl Place {
    /// The place of a byte offset in `text`.
    pub(crate) fn of(file: &std::path::Path, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place { file: file.to_path_buf(), line: small(line), column: small(column) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong: a lower-case phrase without a full stop.
    pub message: String,
    /// Where.
    pub place: Place,
    /// The line it stands on, as the file has it.
    pub source_line: String,
    /// How to mend it.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn at(
        file: &std::path::Path,
        text: &str,
        offset: usize,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        let place = Place::of(file, text, offset);
        let index = usize::try_from(place.line).unwrap_or(1).saturating_sub(1);
        let source_line = text.lines().nth(index).unwrap_or("").to_owned();
        Diagnostic { message: message.into(), place, source_line, help }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.place.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "error: {}", Untrusted(&self.message))?;
        writeln!(f, "{margin}--> {}", self.place)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", Untrusted(&self.source_line))?;
        let indent = " ".repeat(usize::try_from(self.place.column).unwrap_or(1).saturating_sub(1));
        write!(f, "{margin} | {indent}^")?;
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = help: {}", Untrusted(help))?;
        }
        Ok(())
    }
}
