//! What the inner script writes: that it has begun, and how the stage's script ended.
//!
//! Both files end with `end NONCE`, so that a truncated one and one of another stage do not count.

/// How a script ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// As a shell counts: 128 plus the signal number for a shell that a signal ended.
    pub code: i32,
    /// Whether the script itself has begun: a login profile can end the shell before it.
    pub begun: bool,
}

impl Record {
    /// The record in this text, if it is one of the stage with that nonce.
    pub fn parse(text: &str, nonce: &str) -> Option<Self> {
        let mut lines = text.lines();
        let code = lines.next()?.strip_prefix("code ")?.parse().ok()?;
        let begun = match lines.next()?.strip_prefix("begun ")? {
            "yes" => true,
            "no" => false,
            _ => return None,
        };
        is_end(lines.next()?, nonce).then_some(Record { code, begun })
    }
}

/// Whether this is the text of a stage with that nonce that has begun.
pub(crate) fn has_begun(text: &str, nonce: &str) -> bool {
    text.lines().next_back().is_some_and(|line| is_end(line, nonce))
}

fn is_end(line: &str, nonce: &str) -> bool {
    !nonce.is_empty() && line.strip_prefix("end ") == Some(nonce)
}

#[cfg(test)]
mod tests {
    use super::{Record, has_begun};

    #[test]
    fn only_a_whole_record_of_the_same_stage_counts() {
        let whole = "code 3\nbegun yes\nend abc\n";
        assert_eq!(Record::parse(whole, "abc"), Some(Record { code: 3, begun: true }));
        assert_eq!(Record::parse(whole, "abd"), None);
        for n in 0..whole.len() - 1 {
            assert_eq!(Record::parse(&whole[..n], "abc"), None, "{n}");
        }
        // Written over a file that has been made longer, so that it takes no space.
        let room = format!("{:200}\n", "");
        assert_eq!(Record::parse(&room, "abc"), None);
        let over = format!("{whole}{}", &room[whole.len()..]);
        assert_eq!(Record::parse(&over, "abc"), Some(Record { code: 3, begun: true }));
        assert_eq!(Record::parse("code \nbegun no\nend \n", ""), None);
        assert!(has_begun("end abc\n", "abc") && !has_begun("end ab", "abc") && !has_begun("", ""));
    }
}
