//! The part of HTCondor's expressions that constraints and policies of CI jobs use: `&& || ! == !=
//! =?= =!= < > <= >=`, parentheses, numbers, strings, `True`, `False`, `Undefined`, and names.

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Text(String),
    Truth(bool),
    Undefined,
}

/// What an expression is, where `names` gives the values of names.
pub(super) fn evaluate(text: &str, names: &dyn Fn(&str) -> Value) -> Option<Value> {
    let tokens = tokens(text)?;
    let mut reader = Reader { tokens: &tokens, at: 0, names };
    let value = reader.or()?;
    (reader.at == tokens.len()).then_some(value)
}

/// Whether it is true; an expression that cannot be parsed or is undefined is not.
pub(super) fn is_true(text: &str, names: &dyn Fn(&str) -> Value) -> bool {
    evaluate(text, names) == Some(Value::Truth(true))
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Value(Value),
    Name(String),
    Sign(&'static str),
}

const SIGNS: [&str; 13] = ["=?=", "=!=", "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")"];

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else if first == '"' {
            let (inner, after) = rest[1..].split_once('"')?;
            tokens.push(Token::Value(Value::Text(inner.to_owned())));
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.').unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).filter(|(word, _)| !word.is_empty())?;
            tokens.push(match (word.parse(), word.to_lowercase().as_str()) {
                (Ok(number), _) => Token::Value(Value::Number(number)),
                (_, "true") => Token::Value(Value::Truth(true)),
                (_, "false") => Token::Value(Value::Truth(false)),
                (_, "undefined") => Token::Value(Value::Undefined),
                _ => Token::Name(word.to_owned()),
            });
            rest = after;
        }
        rest = rest.trim_start();
    }
    Some(tokens)
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    names: &'a dyn Fn(&str) -> Value,
}

impl Reader<'_> {
    fn sign(&mut self, among: &[&'static str]) -> Option<&'static str> {
        match self.tokens.get(self.at) {
            Some(Token::Sign(sign)) if among.contains(sign) => {
                self.at += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn or(&mut self) -> Option<Value> {
        let mut value = self.and()?;
        while self.sign(&["||"]).is_some() {
            let other = self.and()?;
            value = match (truth(&value), truth(&other)) {
                (Some(true), _) | (_, Some(true)) => Value::Truth(true),
                (Some(false), Some(false)) => Value::Truth(false),
                _ => Value::Undefined,
            };
        }
        Some(value)
    }

    fn and(&mut self) -> Option<Value> {
        let mut value = self.compared()?;
        while self.sign(&["&&"]).is_some() {
            let other = self.compared()?;
            value = match (truth(&value), truth(&other)) {
                (Some(false), _) | (_, Some(false)) => Value::Truth(false),
                (Some(true), Some(true)) => Value::Truth(true),
                _ => Value::Undefined,
            };
        }
        Some(value)
    }

    fn compared(&mut self) -> Option<Value> {
        let left = self.one()?;
        let Some(sign) = self.sign(&["=?=", "=!=", "==", "!=", "<=", ">=", "<", ">"]) else {
            return Some(left);
        };
        let right = self.one()?;
        let same = match (&left, &right) {
            // `==` of strings is case-insensitive.
            (Value::Text(a), Value::Text(b)) if sign == "==" || sign == "!=" => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        };
        let undefined = left == Value::Undefined || right == Value::Undefined;
        Some(match (sign, &left, &right) {
            ("=?=", ..) => Value::Truth(same),
            ("=!=", ..) => Value::Truth(!same),
            _ if undefined => Value::Undefined,
            ("==", ..) => Value::Truth(same),
            ("!=", ..) => Value::Truth(!same),
            (sign, Value::Number(a), Value::Number(b)) => Value::Truth(match sign {
                "<" => a < b,
                ">" => a > b,
                "<=" => a <= b,
                _ => a >= b,
            }),
            _ => Value::Undefined,
        })
    }

    fn one(&mut self) -> Option<Value> {
        if self.sign(&["!"]).is_some() {
            let value = self.one()?;
            return Some(truth(&value).map_or(Value::Undefined, |truth| Value::Truth(!truth)));
        }
        if self.sign(&["("]).is_some() {
            let value = self.or()?;
            return self.sign(&[")"]).map(|_| value);
        }
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        match token {
            Token::Value(value) => Some(value.clone()),
            Token::Name(name) => Some((self.names)(name)),
            Token::Sign(_) => None,
        }
    }
}

fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Truth(truth) => Some(*truth),
        Value::Number(number) => Some(*number != 0.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, is_true};

    #[test]
    fn policies_of_jobs_are_read_as_htcondor_reads_them() {
        let names = |name: &str| match name {
            "JobStatus" => Value::Number(5.0),
            "JobBatchName" => Value::Text("nb1-x".to_owned()),
            _ => Value::Undefined,
        };
        for (text, expected) in [
            ("JobBatchName == \"nb1-X\" && JobStatus == 5", true),
            ("JobStatus == 5 && HoldReasonCode =!= 1", true),
            ("JobStatus == 5 && HoldReasonCode != 1", false),
            ("(JobStatus == 1 && NumJobStarts > 0) || (JobStatus == 5 && !(HoldReasonCode =?= 1))", true),
            ("JobStatus ==", false),
        ] {
            assert_eq!(is_true(text, &names), expected, "{text}");
        }
    }
}
