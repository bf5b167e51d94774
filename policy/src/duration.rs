//! Durations as configurations and command lines have them: `90s`, `15m`, `1h30m`, `30d`, `2w`.

use crate::amount::whole;

/// The units, greatest first, in seconds.
const UNITS: [(char, u64); 5] = [('w', 7 * 86_400), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Reads whole numbers, each with one of the units `w`, `d`, `h`, `m` and `s`, the greater units first and none twice, as seconds. A
/// space may precede a unit, as in amounts of bytes, and follow it before the next number.
pub fn seconds(text: &str) -> Option<u64> {
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut total: u64 = 0;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at_checked(digits)?;
        let tail = tail.strip_prefix(' ').unwrap_or(tail);
        let unit = tail.chars().next()?;
        let (_, scale) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(whole(number)?.checked_mul(*scale)?)?;
        rest = tail.get(unit.len_utf8()..)?;
        if rest.is_empty() {
            return Some(total);
        }
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
}

/// A duration as the option of a command: as [`seconds`], or a number of seconds, as options had it before.
///
/// # Errors
/// What to write.
pub fn seconds_option(text: &str) -> Result<u64, String> {
    let help = "write a duration such as `90s`, `1h30m` or `2w`, or a number of seconds";
    seconds(text).or_else(|| whole(text)).ok_or_else(|| help.to_owned())
}

/// Seconds in the greatest unit up to days that divides them, as [`seconds`] reads it.
pub fn duration_text(seconds: u64) -> String {
    let whole = UNITS.iter().skip(1).find(|(_, scale)| seconds > 0 && seconds.is_multiple_of(*scale));
    let (unit, scale) = whole.unwrap_or(&('s', 1));
    format!("{}{unit}", seconds / scale)
}

#[cfg(test)]
mod tests {
    use super::{duration_text, seconds, seconds_option};

    #[test]
    fn numbers_with_units_in_their_order_are_a_duration_and_nothing_else_is() {
        for (text, value) in [
            ("90s", 90),
            ("2d", 172_800),
            ("1h30m", 5400),
            ("1d1s", 86_401),
            ("0s", 0),
            ("1h0m", 3600),
            ("2w", 1_209_600),
            ("1w1d", 691_200),
            ("5 s", 5),
            ("1h 30m", 5400),
            ("1 h 30 m", 5400),
        ] {
            assert_eq!(seconds(text), Some(value), "{text}");
        }
        for bad in [
            "",
            "s",
            "5",
            "-5s",
            "+5s",
            "1e3s",
            "5  s",
            " 5s",
            "5s ",
            "1h  30m",
            "5S",
            "30m1h",
            "1d1w",
            "1h1h",
            "1h30",
            "1h ",
            "1.5h",
            "99999999999999999999s",
            "5é",
            "213503982334602d",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_option_may_be_seconds_without_a_unit() {
        assert_eq!((seconds_option("900"), seconds_option("15m")), (Ok(900), Ok(900)));
        assert!(seconds_option("15 min").is_err_and(|help| help.contains("`1h30m`")));
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for value in [0, 1, 59, 60, 90, 3600, 5400, 86_400, 90_000, 1_209_600] {
            assert_eq!(seconds(&duration_text(value)), Some(value));
        }
        assert_eq!(duration_text(1_209_600), "14d");
    }
}
