//! Times, nodes and memory as Slurm and its relatives write them.

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A time limit in seconds: minutes, `m:s`, `h:m:s`, `d-h`, `d-h:m` or `d-h:m:s` (sbatch(1)). `Some(None)`: without limit.
pub(crate) fn seconds(text: &str) -> Option<Option<u64>> {
    if matches!(text.to_ascii_lowercase().as_str(), "unlimited" | "infinite" | "infinity" | "-1") {
        return Some(None);
    }
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, text),
    };
    let parts = rest.split(':').map(number).collect::<Option<Vec<u64>>>()?;
    let units: &[u64] = match (days, parts.len()) {
        (None, 1) => &[MINUTE],
        (None, 2) => &[MINUTE, 1],
        (_, 3) => &[HOUR, MINUTE, 1],
        (Some(_), 1) => &[HOUR],
        (Some(_), 2) => &[HOUR, MINUTE],
        _ => return None,
    };
    let mut sum = days.unwrap_or(0).checked_mul(DAY)?;
    for (part, unit) in parts.into_iter().zip(units) {
        sum = sum.checked_add(part.checked_mul(*unit)?)?;
    }
    Some(Some(sum))
}

/// Seconds as `d-hh:mm:ss`.
pub(crate) fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    format!("{days}-{:02}:{:02}:{:02}", rest / HOUR, rest % HOUR / MINUTE, rest % MINUTE)
}

/// The most nodes of `4`, `2-4` or `2k`.
pub(crate) fn nodes(text: &str) -> Option<u64> {
    let one = |text: &str| match text.strip_suffix(['k', 'K']) {
        Some(thousands) => number(thousands)?.checked_mul(1024),
        None => number(text),
    };
    text.split('-').map(one).collect::<Option<Vec<u64>>>()?.into_iter().max()
}

/// Memory in MiB, which is the unit where none is named.
pub(crate) fn mebibytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let amount = number(digits)?;
    match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B') {
        "K" => Some(amount.div_ceil(1024)),
        "" | "M" => Some(amount),
        "G" => amount.checked_mul(1024),
        "T" => amount.checked_mul(1024 * 1024),
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::{mebibytes, nodes, seconds, time};

    #[test]
    fn every_form_of_a_time_limit_is_read() {
        for (text, expected) in [
            ("90", 5400),
            ("1:30", 90),
            ("1:00:00", 3600),
            ("2-0", 172_800),
            ("1-1:30", 91_800),
            ("0-00:00:05", 5),
        ] {
            assert_eq!(seconds(text), Some(Some(expected)), "{text}");
        }
        assert_eq!(seconds("UNLIMITED"), Some(None));
        for text in ["", "1:2:3:4", "x", "1-", "+5", "99999999999999999999"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(seconds(&time(91_805)), Some(Some(91_805)));
    }

    #[test]
    fn nodes_and_memory_are_read() {
        assert_eq!(
            (nodes("4"), nodes("2-8"), nodes("1k"), nodes("n1")),
            (Some(4), Some(8), Some(1024), None)
        );
        assert_eq!((mebibytes("4G"), mebibytes("100"), mebibytes("1500K")), (Some(4096), Some(100), Some(2)));
        assert_eq!((mebibytes("2TB"), mebibytes("x"), mebibytes("-1")), (Some(2_097_152), None, None));
    }
}
