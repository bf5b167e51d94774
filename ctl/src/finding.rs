//! The findings of `check` and `doctor`, each with a stable code. docs/nunbirdctl.md has a row for
//! every one.

use crate::output::{Colour, paint};
use nunbird_handover::Untrusted;
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;

/// One finding about a policy or the host.
#[derive(Debug)]
pub(crate) struct Finding {
    error: bool,
    code: &'static str,
    message: String,
    place: Option<String>,
    /// The subject of the message, for grouping.
    items: Vec<String>,
    help: String,
}

impl Finding {
    /// Jobs will fail, or run differently than the configuration states.
    pub(crate) fn error(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Finding {
            error: true,
            code,
            message: message.into(),
            place: None,
            items: Vec::new(),
            help: help.into(),
        }
    }

    /// Worth a look.
    pub(crate) fn remark(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Finding {
            error: false,
            code,
            message: message.into(),
            place: None,
            items: Vec::new(),
            help: help.into(),
        }
    }

    /// A file that could not be inspected. Without root this is no finding about the file.
    pub(crate) fn unseen(code: &'static str, path: &Path, error: &std::io::Error, help: &str) -> Self {
        let message = format!("{}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                Finding::remark("unseen", message, "run this as root to have it inspected")
            }
            _ => Finding::error(code, message, help),
        }
    }

    pub(crate) fn at(self, place: String) -> Self {
        Finding { place: Some(place), ..self }
    }

    pub(crate) fn listing(self, items: Vec<String>) -> Self {
        Finding { items, ..self }
    }

    /// The same, where it is no reason to stop.
    pub(crate) fn into_remark(self) -> Self {
        Finding { error: false, ..self }
    }

    /// The same, where it is the question that was asked.
    pub(crate) fn into_error(self) -> Self {
        Finding { error: true, ..self }
    }

    /// The same, with a word on who can do what helps.
    pub(crate) fn for_whom(self, who: &str) -> Self {
        Finding { help: format!("{who}: {}", self.help), ..self }
    }

    /// Whether its message says what one account has too little of.
    pub(crate) fn concerns(&self, account: &str) -> bool {
        self.message.starts_with(&format!("the account {account} has "))
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn is_error(&self) -> bool {
        self.error
    }

    pub(crate) fn machine(&self) -> Value {
        json!({
            "severity": if self.error { "error" } else { "remark" },
            "code": self.code,
            "message": self.message,
            "place": self.place,
            "items": self.items,
            "help": self.help,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, colour) = if self.error { ("error", Colour::Red) } else { ("remark", Colour::Yellow) };
        let head = format!("{kind}[{}]", self.code);
        write!(f, "{}: {}", paint(colour, &head), Untrusted(&self.message))?;
        if let Some(place) = &self.place {
            write!(f, "\n --> {}", Untrusted(place))?;
        }
        for item in &self.items {
            write!(f, "\n  - {}", Untrusted(item))?;
        }
        write!(f, "\n  = help: {}", Untrusted(&self.help))
    }
}
