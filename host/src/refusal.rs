//! Every way in which the program refuses, and who learns how much.
//!
//! The job log belongs to the CI user: it gets a short sentence, what to do, and the decision's id. The
//! admin gets the whole cause in the audit file under the same id. With `-u` the job log gets it, too.

pub use nunbird_messages::Code;
use nunbird_messages::{ExitCodes, RefusedBy, Untrusted};
use std::borrow::Cow;
use std::fmt::Display;

/// Whose trouble it is, which decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The job may not run here: final, gitlab-runner does not retry.
    Denied,
    /// Something on this host is not as it should be: gitlab-runner tries again.
    System,
}

/// The most lines of a detail; [`Untrusted`] bounds each.
const MAX_LINES: usize = 40;

/// A no.
#[derive(Debug)]
pub struct Refusal {
    /// Whose trouble it is.
    pub class: Class,
    /// A stable code for logs and tests.
    pub code: Code,
    /// For the CI user: no names of accounts or files beyond what the user knows.
    pub message: String,
    /// For the admin: the cause.
    pub detail: String,
    /// What the reader can do: one line or several.
    pub help: Cow<'static, str>,
}

impl Refusal {
    /// A final no.
    pub fn denied(code: Code, message: impl Into<String>, detail: impl Display) -> Self {
        Self::new(Class::Denied, code, message, detail)
    }

    /// A no by trouble on this host.
    pub fn system(code: Code, message: impl Into<String>, detail: impl Display) -> Self {
        Self::new(Class::System, code, message, detail)
    }

    fn new(class: Class, code: Code, message: impl Into<String>, detail: impl Display) -> Self {
        let help = Cow::Borrowed(RefusedBy::HELP);
        Refusal { class, code, message: message.into(), detail: clean(&detail.to_string()), help }
    }

    /// The same with another text of help.
    #[must_use]
    pub fn help(self, help: impl Into<Cow<'static, str>>) -> Self {
        Refusal { help: help.into(), ..self }
    }

    /// The exit code by which gitlab-runner learns of it.
    pub fn exit_code(&self, codes: ExitCodes) -> u8 {
        match self.class {
            Class::Denied => codes.build_failure,
            Class::System => codes.system_failure,
        }
    }

    /// Prints the refusal to standard error, which gitlab-runner puts into the job log.
    pub fn print(&self, decision_id: &str, unobfuscated: bool) {
        print_error(&self.text(decision_id, unobfuscated));
    }

    fn text(&self, decision_id: &str, unobfuscated: bool) -> String {
        let mut text = format!("nunbird: error: {} [{}]\n", Untrusted(&self.message), self.code);
        if unobfuscated {
            for line in self.detail.lines() {
                text.push_str(&format!("  = note: {line}\n"));
            }
        }
        let help = clean(&self.help).replace('\n', "\n          ");
        text.push_str(&format!("  = help: {help}\n  = decision: {decision_id}\n"));
        text
    }
}

/// Bounded and without characters that deceive: the detail goes into the audit file, and some of it was chosen by the
/// caller.
pub fn clean(detail: &str) -> String {
    let lines: Vec<String> = detail.lines().take(MAX_LINES).map(|line| Untrusted(line).to_string()).collect();
    lines.join("\n")
}

/// Writes to standard output. Nobody may be left to read it.
pub fn print(text: &str) {
    use std::io::Write;
    let _unheard = std::io::stdout().write_all(text.as_bytes());
}

/// Writes to standard error. Nobody may be left to read it, which must not stop a refusal.
pub fn print_error(text: &str) {
    use std::io::Write;
    let _unheard = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{Code, MAX_LINES, Refusal};

    #[test]
    fn no_text_of_a_refusal_brings_a_control_character_or_a_line_of_its_own_into_the_job_log() {
        let hostile = "a\u{1b}[31m\u{202e}\rb";
        let refusal =
            Refusal::denied(Code::Account, format!("{hostile}\nmessage"), format!("{hostile}\ndetail"))
                .help(format!("{hostile}\nhelp"));
        assert!(!refusal.detail.contains('\u{1b}') && !refusal.detail.contains('\u{202e}'), "{refusal:?}");
        let text = refusal.text("0123", true);
        let lines: Vec<&str> = text.split('\n').collect();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'), "{text}");
        let begin: Vec<&str> = lines.iter().map(|line| line.get(..10).unwrap_or(line)).collect();
        assert_eq!(
            begin,
            ["nunbird: e", "  = note: ", "  = note: ", "  = help: ", "          ", "  = decisi", ""],
            "{text}"
        );
        assert!(!refusal.text("0123", false).contains("note"), "the cause is the admin's");
        let long = Refusal::system(Code::Process, "m", "line\n".repeat(MAX_LINES + 1));
        assert_eq!(long.detail.lines().count(), MAX_LINES);
    }
}
