//! Times, nodes and memory, as schedulers write them.

use std::collections::BTreeMap;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A time limit in seconds. A shape consists of letters for units and the separators between the
/// numbers: `m:s`, `d-h:m:s`; `units` is a number with its unit, such as `1.5h` (RFC 23 of Flux).
/// `Some(None)` means no limit, which most schedulers write as 0.
pub(crate) fn seconds(text: &str, shapes: &[impl AsRef<str>]) -> Option<Option<u64>> {
    if matches!(text.to_ascii_lowercase().as_str(), "unlimited" | "infinite" | "infinity" | "inf" | "-1") {
        return Some(None);
    }
    let sum = shapes.iter().find_map(|shape| match shape.as_ref() {
        "units" => with_unit(text),
        shape => shaped(text, shape),
    })?;
    Some((sum != 0).then_some(sum))
}

fn shaped(text: &str, shape: &str) -> Option<u64> {
    let between = |text: &str, is_part: fn(char) -> bool| text.replace(is_part, "");
    if between(text, |c| c.is_ascii_digit()) != between(shape, |c| c.is_ascii_alphabetic()) {
        return None;
    }
    let parts = text.split(|c: char| !c.is_ascii_digit());
    let units = shape.split(|c: char| !c.is_ascii_alphabetic());
    parts.zip(units).try_fold(0_u64, |sum, (part, unit)| {
        let unit = match unit {
            "s" => 1,
            "m" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return None,
        };
        sum.checked_add(number(part)?.checked_mul(unit)?)
    })
}

fn with_unit(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let thousandths = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => MINUTE * 1000,
        "h" => HOUR * 1000,
        "d" => DAY * 1000,
        _ => return None,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    // Three digits are enough: the rest is below the resolution of a limit.
    let part: String = part.chars().chain("000".chars()).take(3).collect();
    let amount = number(whole)?.checked_mul(1000)?.checked_add(number(&part)?)?;
    Some(amount.checked_mul(thousandths)?.div_ceil(1_000_000))
}

/// Seconds as `d-hh:mm:ss`.
pub(crate) fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    format!("{days}-{:02}:{:02}:{:02}", rest / HOUR, rest % HOUR / MINUTE, rest % MINUTE)
}

/// A time in all its forms, by their names in descriptions.
pub(crate) fn forms(seconds: u64) -> BTreeMap<&'static str, String> {
    let (minutes, hours) = (seconds / MINUTE, seconds / HOUR);
    BTreeMap::from([
        ("time", time(seconds)),
        ("hms", format!("{hours}:{:02}:{:02}", minutes % 60, seconds % 60)),
        // 0 would mean no limit.
        ("minutes", minutes.max(1).to_string()),
        ("seconds", seconds.to_string()),
        ("fsd", format!("{seconds}s")),
    ])
}

/// The largest number of nodes in `4`, `2-4`, `1,3`, `2k`, or the sum of `2:ncpus=4+n7`, where a
/// name counts as one node.
pub(crate) fn nodes(text: &str) -> Option<u64> {
    if text.contains([':', '+', '=']) {
        return text.split('+').map(chunk).try_fold(0_u64, |sum, chunk| sum.checked_add(chunk?));
    }
    let one = |text: &str| match text.strip_suffix(['k', 'K']) {
        Some(thousands) => number(thousands)?.checked_mul(1024),
        None => number(text),
    };
    text.split(['-', ',']).map(one).collect::<Option<Vec<u64>>>()?.into_iter().max()
}

/// `2:ncpus=4`, `n7:ppn=2` or `ncpus=4`.
fn chunk(text: &str) -> Option<u64> {
    let first = text.split(':').next()?.trim();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-=".contains(&b);
    if first.starts_with(|c: char| c.is_ascii_alphabetic()) && first.bytes().all(plain) {
        return Some(1);
    }
    number(first)
}

/// Memory in MiB. `unit` is the unit of a number without one: `B`, `K`, `M` or `G`; with any other
/// value, a number without a unit is not accepted.
pub(crate) fn mebibytes(text: &str, unit: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let amount = number(whole)?.checked_add(u64::from(number(part)? > 0))?;
    let written = text[digits.len()..].to_ascii_uppercase();
    match if written.is_empty() { unit } else { written.as_str() } {
        "B" => Some(amount.div_ceil(1 << 20)),
        "K" | "KB" | "KI" | "KIB" => Some(amount.div_ceil(1024)),
        "M" | "MB" | "MI" | "MIB" => Some(amount),
        "G" | "GB" | "GI" | "GIB" => amount.checked_mul(1024),
        "T" | "TB" | "TI" | "TIB" => amount.checked_mul(1024 * 1024),
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::{forms, mebibytes, nodes, seconds, time};

    #[test]
    fn every_form_of_a_time_limit_is_read_as_its_scheduler_means_it() {
        let slurm = ["m", "m:s", "h:m:s", "d-h", "d-h:m", "d-h:m:s"];
        let (pbs, lsf, flux) = (["s", "m:s", "h:m:s"], ["m", "h:m"], ["m", "units"]);
        for (text, shapes, expected) in [
            ("90", &slurm[..], 5400),
            ("1:30", &slurm, 90),
            ("1:00:00", &slurm, 3600),
            ("2-0", &slurm, 172_800),
            ("1-1:30", &slurm, 91_800),
            ("0-00:00:05", &slurm, 5),
            ("90", &pbs, 90),
            ("1:30", &pbs, 90),
            ("1:30", &lsf, 5400),
            ("90", &flux, 5400),
            ("1.5h", &flux, 5400),
            ("90s", &flux, 90),
            ("2d", &flux, 172_800),
            ("1500ms", &flux, 2),
        ] {
            assert_eq!(seconds(text, shapes), Some(Some(expected)), "{text}");
        }
        for text in ["UNLIMITED", "0", "0:00:00", "inf"] {
            assert_eq!(seconds(text, &slurm), Some(None), "{text}");
        }
        for text in ["", "1:2:3:4", "x", "1-", "+5", "99999999999999999999", "1:30/host", "1 ", "::"] {
            assert_eq!(seconds(text, &slurm), None, "{text}");
        }
        assert_eq!(seconds(&time(91_805), &slurm), Some(Some(91_805)));
        assert_eq!(seconds(&forms(91_805)["hms"], &pbs), Some(Some(91_805)));
    }

    #[test]
    fn nodes_and_memory_are_read() {
        assert_eq!(
            (nodes("4"), nodes("2-8"), nodes("1k"), nodes("n1")),
            (Some(4), Some(8), Some(1024), None)
        );
        assert_eq!(
            (nodes("2:ncpus=4+3:mem=1gb"), nodes("n1+ncpus=2"), nodes("1,8"), nodes("2+")),
            (Some(5), Some(2), Some(8), None)
        );
        let mebibytes = |text| mebibytes(text, "M");
        assert_eq!((mebibytes("4G"), mebibytes("100"), mebibytes("1500K")), (Some(4096), Some(100), Some(2)));
        assert_eq!((mebibytes("2TB"), mebibytes("x"), mebibytes("-1")), (Some(2_097_152), None, None));
        assert_eq!((mebibytes("1.5G"), mebibytes("4gb"), mebibytes("4pw")), (Some(2048), Some(4096), None));
    }

    #[test]
    fn a_number_without_a_unit_has_that_of_its_scheduler() {
        assert_eq!(mebibytes("1048577", "B"), Some(2));
        assert_eq!((mebibytes("2048", "K"), mebibytes("2048", "none")), (Some(2), None));
    }
}
