//! Output to terminals: control characters are escaped, and a closed reader is not a failure.
//!
//! Text from servers reaches these functions, and their output reaches terminals and the journal.
//! `println!` is not used because it panics when the reader has closed.

use nunbird_handover::Untrusted;
use std::fmt::Write as _;
use std::io::Write as _;

/// Prints one or more lines to standard output.
pub(crate) fn print(text: &str) {
    let _nobody_reads = std::io::stdout().write_all(plain(text, "").as_bytes());
}

/// Prints one or more lines to standard error, each prefixed by the program's name.
pub(crate) fn print_error(text: &str) {
    let _nobody_reads = std::io::stderr().write_all(plain(text, "nunbird-keys: ").as_bytes());
}

fn plain(text: &str, prefix: &str) -> String {
    let mut shown = String::new();
    for line in text.lines() {
        shown.push_str(prefix);
        for c in line.chars() {
            if Untrusted::is_deceptive(c) {
                // Writing to a String cannot fail.
                let _infallible = write!(shown, "\\u{{{:x}}}", u32::from(c));
            } else {
                shown.push(c);
            }
        }
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn every_line_has_the_prefix_and_no_control_character() {
        assert_eq!(plain("a\u{1b}[m\nb\u{202e}", "x: "), "x: a\\u{1b}[m\nx: b\\u{202e}\n");
    }

    #[test]
    fn a_long_line_keeps_its_end_where_the_help_stands() {
        let long = format!("{}help", "x".repeat(1000));
        assert_eq!(plain(&long, "").trim_end(), long);
    }
}
