//! What every command prints and how every command ends.

use clap::ValueEnum;
use nunbird_handover::Untrusted;
use nunbird_policy::Diagnostic;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Exit codes.
pub(crate) const OK: u8 = 0;
pub(crate) const FAILURE: u8 = 1;
pub(crate) const INVALID: u8 = 3;
pub(crate) const DENIED: u8 = 4;
pub(crate) const TESTS_FAILED: u8 = 5;
pub(crate) const UNDECIDED: u8 = 6;
pub(crate) const FAILED: u8 = 7;

/// The audience of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Humans.
    Text,
    /// Programs.
    Json,
}

/// The meaning of a colour on a terminal. It never adds information to the word itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colour {
    Green,
    Red,
    Yellow,
}

/// Colours a fixed word, on a terminal unless `NO_COLOR` is set (no-color.org).
pub(crate) fn paint(colour: Colour, word: &str) -> Cow<'_, str> {
    paint_on(&io::stdout(), colour, word)
}

fn paint_on<'w>(stream: &impl IsTerminal, colour: Colour, word: &'w str) -> Cow<'w, str> {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if !stream.is_terminal() || set("NO_COLOR") || dumb {
        return Cow::Borrowed(word);
    }
    let code = match colour {
        Colour::Green => 32,
        Colour::Red => 31,
        Colour::Yellow => 33,
    };
    Cow::Owned(format!("\u{1b}[{code}m{word}\u{1b}[0m"))
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum CtlError {
    /// A file cannot be read, or a similar failure.
    Failure(String),
    /// The configuration has these findings.
    Invalid(Vec<Diagnostic>, Format),
}

impl CtlError {
    pub(crate) fn new(text: impl std::fmt::Display) -> Self {
        CtlError::Failure(text.to_string())
    }

    /// Prints it, and returns the exit code.
    pub(crate) fn report(self) -> u8 {
        match self {
            CtlError::Failure(text) => {
                let lines: Vec<String> = text.lines().map(|line| Untrusted(line).to_string()).collect();
                let error = paint_on(&io::stderr(), Colour::Red, "error");
                write_stderr(&format!("nunbirdctl: {error}: {}\n", lines.join("\n  ")));
                FAILURE
            }
            CtlError::Invalid(findings, Format::Json) => {
                let all: Vec<Value> = findings.iter().map(finding).collect();
                let _unheard = print(&format!("{:#}\n", json!({ "valid": false, "findings": all })));
                INVALID
            }
            CtlError::Invalid(findings, Format::Text) => {
                for finding in &findings {
                    let text = finding.to_string();
                    let rest = text.strip_prefix("error").unwrap_or(&text);
                    write_stderr(&format!("{}{rest}\n\n", paint_on(&io::stderr(), Colour::Red, "error")));
                }
                let count = findings.len();
                let errors = if count == 1 { "1 error" } else { &format!("{count} errors") };
                write_stderr(&format!("{errors}; every job is denied until they are corrected\n"));
                INVALID
            }
        }
    }
}

/// A finding for programs.
pub(crate) fn finding(finding: &Diagnostic) -> Value {
    json!({
        "message": finding.message,
        "file": finding.place.file,
        "line": finding.place.line,
        "column": finding.place.column,
        "other": finding.other.as_ref().map(|other| json!({
            "file": other.file, "line": other.line, "column": other.column,
        })),
        "help": finding.help,
    })
}

/// Prints to standard output. A closed reader is not a failure.
pub(crate) fn print(text: &str) -> Result<(), CtlError> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(CtlError::new(format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Prints a value for programs.
pub(crate) fn print_json(value: &Value) -> Result<(), CtlError> {
    print(&format!("{value:#}\n"))
}

fn write_stderr(text: &str) {
    let _unheard = io::stderr().write_all(text.as_bytes());
}
