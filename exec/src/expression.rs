//! The language of `rules:if`: variables, texts, patterns, `null`, `==`, `!=`, `=~`, `!~`, `&&`, `||` and parentheses.

use crate::variables::Values;
use regex_lite::RegexBuilder;

/// The longest expression, in bytes.
const LONGEST: usize = 16 << 10;
/// Parentheses within each other.
const DEEPEST: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Variable(String),
    Text(String),
    Pattern { text: String, flags: String },
    Null,
    Equal,
    Unequal,
    Matches,
    Mismatches,
    And,
    Or,
    Open,
    Close,
}

/// What helps where a pattern is beyond [`regex_lite`], which has neither tables of Unicode nor sets within sets.
pub const WITHIN_LIMITS: &str = "write the characters themselves, such as `[A-Za-zÀ-ÿ]` for `\\p{L}`";

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// It is no condition, in words.
    Condition(String),
    /// It has a pattern that GitLab may know and this program does not.
    Limit(String),
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Wrong::Condition(why)
    }
}

impl From<&str> for Wrong {
    fn from(why: &str) -> Self {
        Wrong::Condition(why.to_owned())
    }
}

/// Whether a pattern is refused for what this program does not have. Look-around and references to groups are not GitLab's either.
pub fn is_limit(error: &regex_lite::Error) -> bool {
    let why = error.to_string();
    why.contains("supported") && !why.contains("look-around") && !why.contains("backreferences")
}

/// Whether the condition holds.
///
/// # Errors
/// For what is no condition, and for patterns beyond this program.
pub fn holds(text: &str, values: &Values) -> Result<bool, Wrong> {
    if text.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes").into());
    }
    let tokens = tokens(text)?;
    let mut reader = Reader { tokens: &tokens, at: 0, values, depth: 0 };
    let verdict = reader.any()?;
    match reader.peek() {
        None => Ok(verdict),
        Some(token) => Err(format!("{} is not expected there", word(token)).into()),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '$' => {
                let name: String =
                    rest[1..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if name.is_empty() {
                    return Err("a variable is `$NAME`".to_owned());
                }
                let length = name.len() + 1;
                tokens.push(Token::Variable(name));
                length
            }
            quote @ ('"' | '\'') => {
                let end = rest[1..].find(quote).ok_or("a quote is not closed")?;
                tokens.push(Token::Text(rest[1..=end].to_owned()));
                end + 2
            }
            '/' => {
                let end = end_of_pattern(rest).ok_or("a pattern has no `/` at its end")?;
                let flags: String = rest[end + 1..].chars().take_while(char::is_ascii_alphabetic).collect();
                let length = end + 1 + flags.len();
                tokens.push(Token::Pattern { text: rest[1..end].to_owned(), flags });
                length
            }
            '(' | ')' => {
                tokens.push(if first == '(' { Token::Open } else { Token::Close });
                1
            }
            _ if rest.starts_with("null") => {
                tokens.push(Token::Null);
                4
            }
            _ => {
                let two = [
                    ("==", Token::Equal),
                    ("!=", Token::Unequal),
                    ("=~", Token::Matches),
                    ("!~", Token::Mismatches),
                    ("&&", Token::And),
                    ("||", Token::Or),
                ];
                let known = two.into_iter().find(|(word, _)| rest.starts_with(word));
                let (_, token) = known.ok_or_else(|| {
                    format!("`{}` is not a part of a condition; texts are in quotes", first.escape_debug())
                })?;
                tokens.push(token);
                2
            }
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn end_of_pattern(rest: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'/' => return Some(at),
            _ => {}
        }
    }
    None
}

fn word(token: &Token) -> &'static str {
    match token {
        Token::Variable(_) => "a variable",
        Token::Text(_) => "a text",
        Token::Pattern { .. } => "a pattern",
        Token::Null => "`null`",
        Token::Equal => "`==`",
        Token::Unequal => "`!=`",
        Token::Matches => "`=~`",
        Token::Mismatches => "`!~`",
        Token::And => "`&&`",
        Token::Or => "`||`",
        Token::Open => "`(`",
        Token::Close => "`)`",
    }
}

struct Reader<'t> {
    tokens: &'t [Token],
    at: usize,
    values: &'t Values,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'t Token> {
        self.at += 1;
        self.tokens.get(self.at - 1)
    }

    fn skip(&mut self, token: &Token) -> bool {
        let is_it = self.peek() == Some(token);
        self.at += usize::from(is_it);
        is_it
    }

    /// Both sides are read whatever the first one is, so that an error in the second is found.
    fn any(&mut self) -> Result<bool, Wrong> {
        let mut verdict = self.all()?;
        while self.skip(&Token::Or) {
            verdict |= self.all()?;
        }
        Ok(verdict)
    }

    fn all(&mut self) -> Result<bool, Wrong> {
        let mut verdict = self.comparison()?;
        while self.skip(&Token::And) {
            verdict &= self.comparison()?;
        }
        Ok(verdict)
    }

    fn comparison(&mut self) -> Result<bool, Wrong> {
        if self.skip(&Token::Open) {
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err(format!("more than {DEEPEST} parentheses are open").into());
            }
            let verdict = self.any()?;
            self.depth -= 1;
            return if self.skip(&Token::Close) { Ok(verdict) } else { Err("a `)` is missing".into()) };
        }
        let left = self.value()?;
        let Some(operator @ (Token::Equal | Token::Unequal | Token::Matches | Token::Mismatches)) =
            self.peek()
        else {
            return Ok(left.is_some_and(|text| !text.is_empty()));
        };
        self.at += 1;
        match operator {
            Token::Equal => Ok(left == self.value()?),
            Token::Unequal => Ok(left != self.value()?),
            Token::Matches => self.pattern(left.as_deref()),
            _ => Ok(!self.pattern(left.as_deref())?),
        }
    }

    fn value(&mut self) -> Result<Option<String>, String> {
        match self.next() {
            Some(Token::Variable(name)) => Ok(self.values.get(name).map(str::to_owned)),
            Some(Token::Text(text)) => Ok(Some(text.clone())),
            Some(Token::Null) => Ok(None),
            Some(token) => Err(format!("{} is there in place of a variable or a text", word(token))),
            None => Err("a variable or a text is missing at its end".to_owned()),
        }
    }

    fn pattern(&mut self, left: Option<&str>) -> Result<bool, Wrong> {
        let (text, flags) = match self.next() {
            Some(Token::Pattern { text, flags }) => (text.clone(), flags.clone()),
            // A variable may have a pattern, with its slashes.
            Some(Token::Variable(name)) => {
                let value = self.values.get(name).unwrap_or_default();
                match end_of_pattern(value).filter(|_| value.starts_with('/')) {
                    Some(end) => (value[1..end].to_owned(), value[end + 1..].to_owned()),
                    None => return Ok(false),
                }
            }
            Some(token) => return Err(format!("{} is there in place of a pattern `/…/`", word(token)).into()),
            None => return Err("a pattern `/…/` is missing at its end".into()),
        };
        if let Some(flag) = flags.chars().find(|flag| !"imsU".contains(*flag)) {
            return Err(format!("a pattern has no flag `{flag}`").into());
        }
        let pattern = RegexBuilder::new(&text.replace("\\/", "/"))
            .case_insensitive(flags.contains('i'))
            .multi_line(flags.contains('m'))
            .dot_matches_new_line(flags.contains('s'))
            .swap_greed(flags.contains('U'))
            .build()
            .map_err(|e| match is_limit(&e) {
                true => Wrong::Limit(e.to_string()),
                false => Wrong::Condition(format!("a pattern cannot be used: {e}")),
            })?;
        Ok(left.is_some_and(|text| pattern.is_match(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Wrong, holds};
    use crate::variables::Values;

    #[test]
    fn conditions_have_gitlabs_meaning() {
        let mut values = Values::default();
        for (name, value) in [("A", "main"), ("EMPTY", ""), ("P", "/^ma/"), ("N", "ma"), ("PATH_", "a/b")] {
            values.set(name, value);
        }
        for (condition, expected) in [
            ("$A", true),
            ("$EMPTY", false),
            ("$NONE", false),
            ("$A == \"main\"", true),
            ("$A == 'other'", false),
            ("$A != \"main\"", false),
            ("\"main\" == $A", true),
            ("$NONE == null", true),
            ("$EMPTY == null", false),
            ("$EMPTY == \"\"", true),
            ("$NONE != null", false),
            ("$A =~ /^MA/i", true),
            ("$A =~ /^MA/", false),
            ("$A !~ /x/", true),
            ("$NONE =~ /x?/", false),
            ("$NONE !~ /x?/", true),
            ("$A =~ $P", true),
            ("$A =~ $N", false),
            ("$PATH_ =~ /a\\/b/", true),
            ("$NONE || $A", true),
            ("$NONE && $A", false),
            ("$A || $A && $NONE", true),
            ("($A || $A) && $NONE", false),
            ("$A == \"x\" || ($A =~ /^m/ && $EMPTY == \"\")", true),
            ("\"text\"", true),
            ("null", false),
        ] {
            assert_eq!(holds(condition, &values), Ok(expected), "{condition}");
        }
    }

    #[test]
    fn a_pattern_beyond_this_program_is_not_called_wrong() {
        for pattern in ["\\p{L}", "[a[bc]]"] {
            let answer = holds(&format!("$A =~ /{pattern}/"), &Values::default());
            assert!(matches!(answer, Err(Wrong::Limit(_))), "{pattern} {answer:?}");
        }
        for pattern in ["(", "(?=a)", "(a)\\1"] {
            let answer = holds(&format!("$A =~ /{pattern}/"), &Values::default());
            assert!(matches!(answer, Err(Wrong::Condition(_))), "{pattern} {answer:?}");
        }
    }

    #[test]
    fn what_is_no_condition_is_an_error() {
        let deep = "(".repeat(100_000);
        for condition in [
            "",
            "$",
            "$A ==",
            "$A = 'x'",
            "$A == main",
            "$A =~ 'x'",
            "'open",
            "$A =~ /x",
            "($A",
            "$A)",
            "$A $A",
            "$A =~ /(/",
            "$A =~ /a/z",
            "&&",
            &deep,
        ] {
            assert!(holds(condition, &Values::default()).is_err(), "{condition}");
        }
    }
}
