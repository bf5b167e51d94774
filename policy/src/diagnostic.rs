//! Findings in a configuration file, with the place, the line and the way out.

use nunbird_handover::Untrusted;
use std::fmt;
use std::path::PathBuf;

/// A place in a file, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.to_string_lossy();
        write!(f, "{}:{}:{}", Untrusted(&file), self.line, self.column)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong: a lower-case phrase without a full stop.
    pub message: String,
    /// Where.
    pub place: Location,
    /// The line, as the file has it.
    pub source_line: String,
    /// The other of two places that contradict each other.
    pub other: Option<Location>,
    /// How to mend it.
    pub help: Option<String>,
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
        if let Some(other) = &self.other {
            write!(f, "\n{margin} = note: the other is at {other}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = help: {}", Untrusted(help))?;
        }
        Ok(())
    }
}
