//! Globs over paths and names, linear in the length of the text.
//!
//! `*` matches within one path component, `**` across components, `?` one character that is not `/`.
//! Nothing else is special, and a pattern always covers the whole text: there is no unanchored match.

use std::fmt;

/// A glob, compiled to a sequence of pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Literal(char),
    OneCharacter,
    WithinComponent,
    AcrossComponents,
}

impl Pattern {
    /// Reads a glob.
    ///
    /// # Errors
    /// When it is empty, or has `***` or a character class: the words say which.
    pub fn new(source: &str) -> Result<Self, &'static str> {
        if source.is_empty() {
            return Err("an empty pattern matches nothing");
        }
        if source.contains("***") {
            return Err("`***` is not a pattern; `*` stays within a path component, `**` crosses them");
        }
        if source.contains(['[', ']', '{', '}', '\\']) {
            return Err("only `*`, `**` and `?` are special in a pattern; list alternatives in an array");
        }
        let mut pieces = Vec::new();
        let mut chars = source.chars().peekable();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' if chars.peek() == Some(&'*') => {
                    chars.next();
                    Piece::AcrossComponents
                }
                '*' => Piece::WithinComponent,
                '?' => Piece::OneCharacter,
                other => Piece::Literal(other),
            });
        }
        Ok(Pattern { source: source.to_owned(), pieces })
    }

    /// Whether the pattern covers the whole text.
    ///
    /// Simulates the pattern as a set of positions, so that no text and no pattern takes more than
    /// length × length steps.
    pub fn matches(&self, text: &str) -> bool {
        let mut live = vec![false; self.pieces.len() + 1];
        if let Some(first) = live.first_mut() {
            *first = true;
        }
        self.skip_stars(&mut live);
        for c in text.chars() {
            let mut next = vec![false; live.len()];
            for (i, piece) in self.pieces.iter().enumerate() {
                if live.get(i) != Some(&true) {
                    continue;
                }
                let (to, hit) = match piece {
                    Piece::Literal(l) => (i + 1, *l == c),
                    Piece::OneCharacter => (i + 1, c != '/'),
                    Piece::WithinComponent => (i, c != '/'),
                    Piece::AcrossComponents => (i, true),
                };
                if hit && let Some(slot) = next.get_mut(to) {
                    *slot = true;
                }
            }
            self.skip_stars(&mut next);
            live = next;
        }
        live.last() == Some(&true)
    }

    /// A star may match nothing: where one is live, so is what follows it.
    fn skip_stars(&self, live: &mut [bool]) {
        for (i, piece) in self.pieces.iter().enumerate() {
            let star = matches!(piece, Piece::WithinComponent | Piece::AcrossComponents);
            if star
                && live.get(i) == Some(&true)
                && let Some(slot) = live.get_mut(i + 1)
            {
                *slot = true;
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).expect("a valid pattern").matches(text)
    }

    #[test]
    fn a_star_stays_in_its_component_and_two_stars_cross() {
        assert!(matches("hpc/*", "hpc/app"));
        assert!(!matches("hpc/*", "hpc/app/sub"));
        assert!(!matches("hpc/*", "evil-hpc/app"));
        assert!(matches("hpc/**", "hpc/app/sub"));
        assert!(!matches("hpc/**", "hpc"));
        assert!(matches("release-?.*", "release-1.10"));
        assert!(!matches("release-?.*", "release-/.1"));
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for bad in ["", "a***", "[ab]", "{a,b}", "a\\*"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_specials_matches_itself_alone(text in "[a-z/.-]{1,20}", other in "[a-z/.-]{1,20}") {
            prop_assert!(matches(&text, &text));
            prop_assert_eq!(matches(&text, &other), text == other);
        }

        #[test]
        fn many_stars_against_long_text_end(text in "[ab/]{0,200}") {
            let _ = matches("*a*a*a*a*a*a*a*a*a*a*b**c", &text);
        }
    }
}
