//! Globs over paths and names, linear in the length of the text, and regular expressions where a site asks for them.
//!
//! `*` matches within one path component, `**` across components, `?` one character that is not `/`.
//! Nothing else is special. Glob or regular expression, a pattern always covers the whole text: there is no
//! unanchored match.

use regex_lite::Regex;
use std::fmt;

/// A glob, compiled to a sequence of pieces, or a regular expression.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    matcher: Compiled,
}

#[derive(Debug, Clone)]
enum Compiled {
    /// The source itself, the commonest by far.
    Exact,
    Glob(Vec<Piece>),
    Regex(Regex),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Literal(char),
    OneCharacter,
    WithinComponent,
    AcrossComponents,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        let kind = |p: &Pattern| std::mem::discriminant(&p.matcher);
        self.source == other.source && kind(self) == kind(other)
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Reads a glob.
    ///
    /// # Errors
    /// When it is empty, or has `***` or a character class: the words say which.
    pub fn new(source: &str) -> Result<Self, &'static str> {
        if source.is_empty() {
            return Err("an empty pattern matches nothing");
        }
        // Bytes will do: all of these are ASCII, and a policy has ten thousand patterns.
        let has = |special: &[u8]| source.bytes().any(|byte| special.contains(&byte));
        let is_glob = has(b"*?");
        if is_glob && source.contains("***") {
            return Err("`***` is not a pattern; `*` stays within a path component, `**` crosses them");
        }
        if has(b"[]{}\\") {
            return Err("only `*`, `**` and `?` are special in a pattern; list alternatives in an array");
        }
        let matcher = if is_glob { Compiled::Glob(pieces(source)) } else { Compiled::Exact };
        Ok(Pattern { source: source.to_owned(), matcher })
    }

    /// A pattern that matches this text alone, whatever characters it has.
    pub fn exact(text: &str) -> Self {
        Pattern { source: text.to_owned(), matcher: Compiled::Exact }
    }

    /// Reads a regular expression, which is to cover the whole text whether it has anchors or not.
    ///
    /// # Errors
    /// When it is empty or none, or takes more memory than a rule may.
    pub fn regex(source: &str) -> Result<Self, String> {
        if source.is_empty() {
            return Err("an empty pattern matches nothing".to_owned());
        }
        // On its own first: `a)|(b` is none, but would be one inside the group.
        Regex::new(source).map_err(|e| format!("no regular expression: {e}"))?;
        let anchored = regex_lite::RegexBuilder::new(&format!("^(?:{source})$"))
            .size_limit(REGEX_SIZE)
            .build()
            .map_err(|e| format!("no regular expression: {e}"))?;
        Ok(Pattern { source: source.to_owned(), matcher: Compiled::Regex(anchored) })
    }

    /// Whether the pattern covers the whole text.
    ///
    /// Simulates a glob as a set of positions, so that no text and no pattern takes more than
    /// length × length steps.
    pub fn matches(&self, text: &str) -> bool {
        match &self.matcher {
            Compiled::Exact => self.source == text,
            Compiled::Glob(pieces) => glob(pieces, text.chars().map(Piece::Literal)),
            // `$` alone would let a trailing line break pass in some dialects; this one has none, and claims have no
            // line breaks.
            Compiled::Regex(regex) => regex.is_match(text),
        }
    }

    /// Whether this pattern matches every text that `other` matches. `false` also where that is not known.
    pub fn covers(&self, other: &Pattern) -> bool {
        match (&self.matcher, &other.matcher) {
            _ if self == other => true,
            (_, Compiled::Exact) => self.matches(&other.source),
            (Compiled::Glob(own), Compiled::Glob(pieces)) => {
                // Policies have thousands of rules, and each is held against each: most differ early.
                prefix(&other.source).starts_with(prefix(&self.source)) && glob(own, pieces.iter().copied())
            }
            _ => false,
        }
    }

    /// Whether the pattern is a regular expression.
    pub fn is_regex(&self) -> bool {
        matches!(self.matcher, Compiled::Regex(_))
    }
}

/// Bytes of a compiled regular expression.
const REGEX_SIZE: usize = 64 << 10;

/// The text before the first wildcard.
fn prefix(source: &str) -> &str {
    source.split(['*', '?']).next().unwrap_or("")
}

fn pieces(source: &str) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(source.len());
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
    pieces
}

/// Runs a glob over a text, or over another glob, whose wildcards only wildcards at least as wide can take.
fn glob(pieces: &[Piece], text: impl Iterator<Item = Piece>) -> bool {
    let mut live = vec![false; pieces.len() + 1];
    let mut next = live.clone();
    if let Some(first) = live.first_mut() {
        *first = true;
    }
    skip_stars(pieces, &mut live);
    for symbol in text {
        next.fill(false);
        let mut any = false;
        for (i, piece) in pieces.iter().enumerate() {
            if live.get(i) != Some(&true) {
                continue;
            }
            let (to, hit) = match piece {
                Piece::Literal(_) => (i + 1, *piece == symbol),
                Piece::OneCharacter => {
                    (i + 1, matches!(symbol, Piece::Literal(c) if c != '/') || symbol == Piece::OneCharacter)
                }
                Piece::WithinComponent => {
                    (i, symbol != Piece::Literal('/') && symbol != Piece::AcrossComponents)
                }
                Piece::AcrossComponents => (i, true),
            };
            if hit && let Some(slot) = next.get_mut(to) {
                *slot = true;
                any = true;
            }
        }
        if !any {
            return false;
        }
        skip_stars(pieces, &mut next);
        std::mem::swap(&mut live, &mut next);
    }
    live.last() == Some(&true)
}

/// A star may match nothing: where one is live, so is what follows it.
fn skip_stars(pieces: &[Piece], live: &mut [bool]) {
    for (i, piece) in pieces.iter().enumerate() {
        let star = matches!(piece, Piece::WithinComponent | Piece::AcrossComponents);
        if star
            && live.get(i) == Some(&true)
            && let Some(slot) = live.get_mut(i + 1)
        {
            *slot = true;
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

    #[test]
    fn a_regular_expression_covers_the_whole_text_or_nothing() {
        let matches = |pattern: &str, text: &str| Pattern::regex(pattern).expect("a regex").matches(text);
        assert!(matches("hpc/(app|lib)-[0-9]+", "hpc/app-12"));
        assert!(!matches("hpc/(app|lib)", "evil/hpc/app"));
        assert!(!matches("app|hpc/lib", "app2"));
        assert!(!matches("a|b", "ab"));
        assert!(!matches("hpc/app", "hpc/app\n"));
        for bad in ["", "a)|(b", "(", "a{1000000}", "(?P<x"] {
            assert!(Pattern::regex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let covers = |wide: &str, narrow: &str| {
            Pattern::new(wide).expect("a pattern").covers(&Pattern::new(narrow).expect("a pattern"))
        };
        assert!(covers("**", "hpc/*"));
        assert!(covers("hpc/**", "hpc/*/x"));
        assert!(covers("hpc/*", "hpc/a?"));
        assert!(!covers("hpc/*", "hpc/**"));
        assert!(!covers("hpc/a*", "hpc/*"));
        assert!(!covers("*", "a/b"));
    }

    proptest! {
        #[test]
        fn what_a_covered_pattern_matches_its_cover_matches(
            wide in "[ab/*?]{1,6}", narrow in "[ab/*?]{1,6}", text in "[ab/]{0,8}"
        ) {
            if let (Ok(wide), Ok(narrow)) = (Pattern::new(&wide), Pattern::new(&narrow))
                && wide.covers(&narrow) && narrow.matches(&text)
            {
                prop_assert!(wide.matches(&text), "{wide} covers {narrow}, which matches {text}");
            }
        }

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
