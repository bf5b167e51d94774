//! Durations as a configuration has them: `90s`, `15m`, `1h30m`, `30d`.

/// The units, greatest first, in seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Reads whole numbers, each with one of the units `d`, `h`, `m` and `s`, the greater units first and none twice, as seconds.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit = tail.chars().next()?;
        let (_, scale) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*scale)?)?;
        rest = tail.get(unit.len_utf8()..)?;
    }
    (!text.is_empty()).then_some(total)
}

/// Seconds in the greatest unit that divides them, as [`seconds`] reads it.
pub fn duration_text(seconds: u64) -> String {
    let whole = UNITS.iter().find(|(_, scale)| seconds > 0 && seconds.is_multiple_of(*scale));
    let (unit, scale) = whole.unwrap_or(&('s', 1));
    format!("{}{unit}", seconds / scale)
}

#[cfg(test)]
mod tests {
    use super::{duration_text, seconds};

    #[test]
    fn numbers_with_units_in_their_order_are_a_duration_and_nothing_else_is() {
        for (text, value) in
            [("90s", 90), ("2d", 172_800), ("1h30m", 5400), ("1d1s", 86_401), ("0s", 0), ("1h0m", 3600)]
        {
            assert_eq!(seconds(text), Some(value), "{text}");
        }
        for bad in [
            "",
            "s",
            "5",
            "-5s",
            "+5s",
            "1e3s",
            "5 s",
            "5S",
            "30m1h",
            "1h1h",
            "1h30",
            "1.5h",
            "99999999999999999999s",
            "5é",
            "213503982334602d",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for value in [0, 1, 59, 60, 90, 3600, 5400, 86_400, 90_000] {
            assert_eq!(seconds(&duration_text(value)), Some(value));
        }
    }
}
