//! Durations as people write them: `30s`, `15m`, `1h`, `30d`.

use std::fmt;

/// A whole number of seconds, read from a number and one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seconds(pub(crate) u64);

impl Seconds {
    /// Reads `<number><s|m|h|d>`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let unit = match text.chars().next_back()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            _ => return None,
        };
        let number = text.get(..text.len().checked_sub(1)?)?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        number.parse::<u64>().ok()?.checked_mul(unit).map(Seconds)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Seconds;

    #[test]
    fn a_number_and_one_unit_is_a_duration_and_nothing_else_is() {
        assert_eq!(Seconds::parse("90s"), Some(Seconds(90)));
        assert_eq!(Seconds::parse("2d"), Some(Seconds(172_800)));
        for bad in ["", "s", "5", "-5s", "+5s", "1e3s", "5 s", "5S", "1h30m", "99999999999999999999s", "5é"]
        {
            assert_eq!(Seconds::parse(bad), None, "{bad}");
        }
    }
}
