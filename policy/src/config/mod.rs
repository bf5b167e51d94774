//! The configuration as the rest of the program sees it: complete, with every default filled in.
//!
//! [`Policy::parse`] reads the text in two steps. [`raw`] mirrors the file's keys; unknown and duplicate
//! keys fail there. [`compile`] checks values against each other and fills defaults, collecting every
//! finding before it gives up.

mod compile;
mod model;
mod raw;

use crate::{Diagnostic, suggest};
pub use model::*;
use std::path::Path;

impl Policy {
    /// Reads a configuration.
    ///
    /// # Errors
    /// Every finding, in the order of the file. A text with one finding is no policy: the caller denies.
    pub fn parse(file: &Path, text: &str) -> Result<Policy, Vec<Diagnostic>> {
        let raw = toml::from_str::<raw::File>(text).map_err(|e| vec![syntax_error(file, text, &e)])?;
        compile::policy(file, text, raw)
    }

    /// The server of this name.
    pub fn server(&self, name: &str) -> Option<&GitLabServer> {
        self.gitlab.iter().find(|server| server.name == name)
    }
}

/// The parser's error, with a neighbouring name where a key is unknown.
fn syntax_error(file: &Path, text: &str, error: &toml::de::Error) -> Diagnostic {
    let offset = error.span().map_or(0, |span| span.start);
    let message = error.message().trim_end_matches('.');
    let mut names = message.split('`').skip(1).step_by(2);
    let help = if message.starts_with("unknown field") || message.starts_with("unknown variant") {
        let wrong = names.next().unwrap_or("");
        let known: Vec<&str> = names.collect();
        match suggest::nearest(wrong, known.iter().copied()) {
            Some(name) => Some(format!("write `{name}`")),
            None => Some(format!("known here: {}", known.join(", "))),
        }
    } else {
        None
    };
    let short = message.split(", expected").next().unwrap_or(message);
    let message = if help.is_some() {
        short.replace("field", "key").replace("variant", "value")
    } else {
        message.to_owned()
    };
    Diagnostic::at(file, text, offset, message, help)
}
