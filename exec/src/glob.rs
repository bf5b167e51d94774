//! Patterns of paths: `*`, `**`, `?`, `[a-z]`, `{a,b}`. GitLab has three readers of them, which differ in `**`: that of
//! gitlab-runner for `artifacts:paths`, Ruby's `fnmatch` for `rules:exists` and `rules:changes`, and one of its own for
//! `include:local`, which has nothing but `*` and `**`.

use regex_lite::Regex;

/// The longest pattern, in bytes.
const LONGEST: usize = 4096;

/// A pattern of paths with `/` between their parts.
#[derive(Debug)]
pub struct Glob(Regex);

impl Glob {
    /// One of `artifacts`: `**` is any part of a path. None for one that is too long or not complete.
    pub fn new(pattern: &str) -> Option<Glob> {
        Self::with(pattern, &expression(pattern, ".*"), "")
    }

    /// One of `rules:exists` or `rules:changes`: `**/` is any directories, and `**` elsewhere is `*`.
    pub fn of_rule(pattern: &str) -> Option<Glob> {
        Self::with(pattern, &expression(pattern, "[^/]*"), "")
    }

    /// One of `include:local`: `**` is any part of a path, so that `ci/**/*.yml` is below directories of `ci` alone.
    pub fn of_include(pattern: &str) -> Option<Glob> {
        let parts = pattern.split("**").map(|part| {
            let parts: Vec<String> = part.split('*').map(regex_lite::escape).collect();
            parts.join("[^/]*")
        });
        Self::with(pattern, &parts.collect::<Vec<_>>().join(".*"), "")
    }

    /// The same, which also takes everything below a directory that matches: `artifacts:paths`.
    pub fn of_tree(pattern: &str) -> Option<Glob> {
        Self::with(pattern, &expression(pattern, ".*"), "(?:/.*)?")
    }

    fn with(pattern: &str, expression: &str, end: &str) -> Option<Glob> {
        if pattern.len() > LONGEST {
            return None;
        }
        Regex::new(&format!("(?s)^(?:{expression}){end}$")).ok().map(Glob)
    }

    /// Whether a path matches as a whole.
    pub fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

/// `deep` is what `**` stands for where no `/` follows.
fn expression(pattern: &str, deep: &str) -> String {
    let characters: Vec<char> = pattern.chars().collect();
    let (mut text, mut braces, mut at) = (String::new(), 0, 0);
    while let Some(character) = characters.get(at) {
        at += 1;
        match character {
            '*' if characters.get(at) == Some(&'*') => {
                at += 1;
                match characters.get(at) {
                    Some('/') => {
                        at += 1;
                        text.push_str("(?:.*/)?");
                    }
                    _ => text.push_str(deep),
                }
            }
            '*' => text.push_str("[^/]*"),
            '?' => text.push_str("[^/]"),
            '[' => match characters[at..].iter().position(|c| *c == ']').filter(|length| *length > 0) {
                Some(length) => {
                    let set: String = characters[at..at + length].iter().collect();
                    let (not, set) = match set.strip_prefix(['!', '^']) {
                        Some(rest) => ("^", rest.to_owned()),
                        None => ("", set),
                    };
                    let set =
                        set.replace('\\', "\\\\").replace('[', "\\[").replace('^', "\\^").replace('&', "\\&");
                    text.push_str(&format!("[{not}{set}]"));
                    at += length + 1;
                }
                None => text.push_str("\\["),
            },
            '{' if characters[at..].contains(&'}') => {
                braces += 1;
                text.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                text.push(')');
            }
            ',' if braces > 0 => text.push('|'),
            '\\' => {
                let next = characters.get(at).copied().unwrap_or('\\');
                at += 1;
                text.push_str(&regex_lite::escape(&next.to_string()));
            }
            other => text.push_str(&regex_lite::escape(&other.to_string())),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn patterns_match_as_each_of_gitlabs_readers_has_them() {
        for (pattern, path, expected) in [
            ("*.c", "a.c", true),
            ("*.c", "d/a.c", false),
            ("**/*.c", "a.c", true),
            ("**/*.c", "d/e/a.c", true),
            ("d/**", "d/e/a.c", true),
            ("d/*", "d/e/a.c", false),
            ("?.c", "/.c", false),
            ("[a-c].c", "b.c", true),
            ("[!a-c].c", "b.c", false),
            ("{a,b}/*.{c,h}", "b/x.h", true),
            ("{a,b}/*.{c,h}", "b/x.o", false),
            ("a+b.c", "a+b.c", true),
            ("a.c", "abc", false),
            ("[", "[", true),
            ("\\*", "*", true),
        ] {
            assert_eq!(Glob::new(pattern).expect("a pattern").matches(path), expected, "{pattern} {path}");
        }
        for (pattern, path, rule, include) in [
            ("d/**", "d/a", true, true),
            ("d/**", "d/e/a", false, true),
            ("d/**/*", "d/e/a", true, true),
            ("d/**/*.yml", "d/a.yml", true, false),
            ("d/**.yml", "d/e/a.yml", false, true),
            ("d/*.yml", "d/e/a.yml", false, false),
            ("d/[ab].yml", "d/a.yml", true, false),
        ] {
            let of_rule = Glob::of_rule(pattern).expect("a pattern").matches(path);
            let of_include = Glob::of_include(pattern).expect("a pattern").matches(path);
            assert_eq!((of_rule, of_include), (rule, include), "{pattern} {path}");
        }
        let tree = Glob::of_tree("out").expect("a pattern");
        assert!(tree.matches("out") && tree.matches("out/a/b") && !tree.matches("outer"));
    }
}
