//! Text from outside, made safe to print.
//!
//! Job logs, terminals and log files all interpret bytes: escape sequences move the cursor, carriage
//! returns overwrite a line, bidirectional controls reorder it, and gitlab-runner folds on
//! `section_start:` markers behind `\r`. The author of a branch name must not control what an admin
//! reads (CVE-2023-28486 in sudo, CVE-2021-42574 "Trojan Source").

use std::fmt;

/// Shows text with every control, bidirectional and invisible character escaped, cut after 256 characters.
pub struct Untrusted<'a>(pub &'a str);

const MAX_CHARS: usize = 256;

impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, c) in self.0.chars().enumerate() {
            if n == MAX_CHARS {
                return f.write_str("[...]");
            }
            if Self::is_deceptive(c) {
                write!(f, "\\u{{{:x}}}", u32::from(c))?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl Untrusted<'_> {
    /// Whether a character can change how the text around it is shown.
    pub fn is_deceptive(c: char) -> bool {
        c.is_control()
            || matches!(u32::from(c),
                0x00AD            // soft hyphen
                | 0x034F          // combining grapheme joiner
                | 0x115F..=0x1160 // Hangul fillers
                | 0x17B4..=0x17B5 // Khmer inherent vowels
                | 0x061C          // Arabic letter mark
                | 0x180B..=0x180F // Mongolian variation selectors and vowel separator
                | 0x200B..=0x200F // zero width, directional marks
                | 0x2028..=0x202E // line and paragraph separators, embeddings, overrides
                | 0x2060..=0x206F // word joiner, isolates, deprecated format characters
                | 0x2800          // blank braille pattern
                | 0x3164          // Hangul filler
                | 0xFE00..=0xFE0F // variation selectors
                | 0xFEFF          // byte order mark
                | 0xFFA0          // half-width Hangul filler
                | 0xFFF9..=0xFFFB // interlinear annotation
                | 0x1D173..=0x1D17A // musical format characters
                | 0xE0000..=0xE0FFF) // tags and more variation selectors
    }
}

#[cfg(test)]
mod tests {
    use super::Untrusted;

    #[test]
    fn controls_and_bidi_are_escaped_and_long_text_is_cut() {
        assert_eq!(Untrusted("a\u{1b}[31m\r\n\u{202e}é").to_string(), "a\\u{1b}[31m\\u{d}\\u{a}\\u{202e}é");
        assert_eq!(Untrusted(&"x".repeat(300)).to_string().len(), 256 + 5);
    }

    #[test]
    fn ordinary_text_of_any_language_is_left_alone() {
        for text in ["feature/größe", "ブランチ", "a b-c_d.e"] {
            assert_eq!(Untrusted(text).to_string(), text);
        }
    }
}
