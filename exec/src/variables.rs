//! Variables of a job: layers by precedence, and what `$NAME` in their values stands for.
//!
//! The rules are gitlab-runner's: `$NAME` and `${NAME}` are the value of another variable of the job or nothing, `$$` is `$`, and all
//! else stays. Variables of the shell, such as `$HOME`, are not known here: a script sees them, a value does not.

use crate::failure::{Failure, Place};
use nunbird_handover::Untrusted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest value, in bytes, after expansion.
const LONGEST: usize = 1 << 20;
/// Bytes of all values together.
const MOST: usize = 16 << 20;
/// Variables within each other's values.
const DEEPEST: usize = 100;

/// A value before expansion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// As it was given.
    pub value: String,
    /// Whether `$` in it has a meaning; `expand: false` takes it away.
    pub expand: bool,
    /// Where it is set, if that is in a file.
    #[serde(skip)]
    pub place: Option<Place>,
}

/// One layer, or all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Variables(BTreeMap<String, Variable>);

impl Variables {
    /// Sets a value of our own, which is not expanded.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.insert(name, Variable { value: value.into(), expand: false, place: None });
    }

    /// Sets a value.
    pub fn insert(&mut self, name: &str, variable: Variable) {
        self.0.insert(name.to_owned(), variable);
    }

    /// All of another layer, which wins.
    pub fn add(&mut self, over: &Variables) {
        self.0.extend(over.0.iter().map(|(name, variable)| (name.clone(), variable.clone())));
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.0.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    /// Only those that `keep` names.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Variables {
        Variables(self.0.iter().filter(|(name, _)| keep(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All values, expanded.
    ///
    /// # Errors
    /// For variables that stand for each other in a circle, and for values that grow beyond the bounds.
    pub fn expanded(&self) -> Result<Values, Failure> {
        let mut expander = Expander { variables: self, done: BTreeMap::new(), bytes: 0 };
        for name in self.0.keys() {
            expander.value(name, &mut Vec::new())?;
        }
        Ok(Values(expander.done))
    }
}

/// Expanded values.
#[derive(Debug, Clone, Default)]
pub struct Values(BTreeMap<String, String>);

impl Values {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// A text with variables in it, such as the name of an image.
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        for part in parts(text) {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(name) => out.push_str(self.get(name).unwrap_or_default()),
            }
        }
        out
    }
}

struct Expander<'v> {
    variables: &'v Variables,
    done: BTreeMap<String, String>,
    bytes: usize,
}

impl Expander<'_> {
    /// `open` are the variables whose values are being put together.
    fn value(&mut self, name: &str, open: &mut Vec<String>) -> Result<String, Failure> {
        if let Some(value) = self.done.get(name) {
            return Ok(value.clone());
        }
        let Some(variable) = self.variables.0.get(name) else { return Ok(String::new()) };
        let place = |failure: Failure| match &variable.place {
            Some(place) => failure.at(place),
            None => failure,
        };
        if let Some(first) = open.iter().position(|known| known == name) {
            // As in GitLab: a variable in its own value is that value as it was given.
            if first + 1 == open.len() {
                return Ok(variable.value.clone());
            }
            let circle: Vec<String> = open[first..].iter().map(|one| Untrusted(one).to_string()).collect();
            let what = format!("variables stand for each other in a circle: {}", circle.join(", "));
            return Err(place(Failure::new(what)).help("write `$$` for a `$` that is for the shell"));
        }
        if open.len() >= DEEPEST {
            let what = format!("variables stand for each other more than {DEEPEST} deep");
            return Err(place(Failure::new(what)).help("write the value without so many steps"));
        }
        let mut value = String::new();
        if variable.expand {
            open.push(name.to_owned());
            for part in parts(&variable.value) {
                match part {
                    Part::Text(text) => value.push_str(text),
                    Part::Name(other) => value.push_str(&self.value(other, open)?),
                }
                if value.len() > LONGEST {
                    break;
                }
            }
            open.pop();
        } else {
            value.clone_from(&variable.value);
        }
        self.bytes += value.len();
        if value.len() > LONGEST || self.bytes > MOST {
            let what = format!(
                "the value of `{}` is too long once other variables are put into it",
                Untrusted(name)
            );
            return Err(place(Failure::new(what)).help("write such a text to a file in the script"));
        }
        self.done.insert(name.to_owned(), value.clone());
        Ok(value)
    }
}

enum Part<'t> {
    Text(&'t str),
    Name(&'t str),
}

/// As Go's `os.Expand`, which gitlab-runner uses.
fn parts(text: &str) -> Vec<Part<'_>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        parts.push(Part::Text(&rest[..at]));
        let after = &rest[at + 1..];
        let length = after.find(|c| !is_name(c)).unwrap_or(after.len());
        match after.as_bytes().first() {
            Some(b'$') => {
                parts.push(Part::Text("$"));
                rest = &after[1..];
            }
            Some(b'{') if after.contains('}') => {
                let end = after.find('}').unwrap_or(0);
                let name = &after[1..end];
                if !name.is_empty() && name.chars().all(is_name) {
                    parts.push(Part::Name(name));
                }
                rest = &after[end + 1..];
            }
            // Parameters of a shell, of which there are none.
            Some(b'*' | b'#' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9') => rest = &after[1..],
            Some(_) if length > 0 => {
                parts.push(Part::Name(&after[..length]));
                rest = &after[length..];
            }
            _ => {
                parts.push(Part::Text("$"));
                rest = after;
            }
        }
    }
    parts.push(Part::Text(rest));
    parts
}

#[cfg(test)]
mod tests {
    use super::{Variable, Variables};

    fn of(pairs: &[(&str, &str)]) -> Variables {
        let mut all = Variables::default();
        for (name, value) in pairs {
            all.insert(name, Variable { value: (*value).to_owned(), expand: true, place: None });
        }
        all
    }

    #[test]
    fn names_in_a_value_are_expanded_as_the_runner_does_it() {
        let mut all =
            of(&[("A", "a"), ("B", "${A}b"), ("C", "$B-$$A-$UNKNOWN-$(x)-$1-100%-$"), ("SELF", "x:$SELF")]);
        all.insert("RAW", Variable { value: "$A".to_owned(), expand: false, place: None });
        let values = all.expanded().expect("values");
        assert_eq!(values.get("C"), Some("ab-$A--$(x)--100%-$"));
        assert_eq!(values.get("SELF"), Some("x:x:$SELF"));
        assert_eq!((values.get("RAW"), values.get("NONE")), (Some("$A"), None));
        assert_eq!(values.expand("r/$A:${B}"), "r/a:ab");
    }

    #[test]
    fn circles_and_bombs_are_errors() {
        let circle = of(&[("A", "$B"), ("B", "$C"), ("C", "$A")]).expanded().expect_err("a circle");
        assert!(circle.to_string().contains("circle: A, B, C"), "{circle}");
        let mut bomb = of(&[("V00", "xxxxxxxxxxxxxxxx")]);
        for n in 1..40 {
            let value = format!("$V{0:02}$V{0:02}", n - 1);
            bomb.insert(&format!("V{n:02}"), Variable { value, expand: true, place: None });
        }
        assert!(bomb.expanded().expect_err("a bomb").to_string().contains("too long"));
        let mut chain = of(&[("V0000", "x")]);
        for n in 1..2000 {
            let value = format!("$V{:04}", n - 1);
            chain.insert(&format!("V{n:04}"), Variable { value, expand: true, place: None });
        }
        // In the order of the names each is done before the next.
        assert!(chain.expanded().is_ok());
        chain.insert("A", Variable { value: "$V1999".to_owned(), expand: true, place: None });
        assert!(chain.expanded().expect_err("a chain").to_string().contains("deep"));
    }
}
