//! Amounts as configurations, CI variables and command lines have them: bytes (`4G`, `4GiB`, `4 GiB`), processors (`2`, `2.5`) and
//! whole numbers. Durations are in [`crate::duration`]. Nothing else reads them, but for the notations of others: schedulers'
//! (`batch/src/amounts.rs`), the kernel's and systemd's.

/// A unit and its power of two.
const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];

/// Reads `<number><K|M|G|T>` or `<number><KiB|MiB|GiB|TiB>` as bytes; a space may precede the unit. Units are powers of 1024.
/// `GB` is refused, because it is read as 10⁹ by one half of its readers and as 2³⁰ by the other.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.get(digits.len()..)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let letter = unit.strip_suffix("iB").unwrap_or(unit);
    let (_, shift) = UNITS.iter().find(|(name, _)| *name == letter)?;
    whole(digits)?.checked_mul(1 << shift)
}

/// Reads a whole number in decimal digits, without sign and separators.
pub(crate) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Bytes in the greatest unit that divides them, as [`bytes`] reads it; what is less than a kibibyte is left out.
pub fn amount_text(bytes: u64) -> String {
    let whole = UNITS.iter().find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    match whole {
        Some((unit, shift)) => format!("{}{unit}iB", bytes >> shift),
        None => format!("{}KiB", bytes >> 10),
    }
}

/// Reads processors, `2` or `1.5`, as thousandths of one, from 0.01 to 100000.
pub(crate) fn cpus(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 3 || whole.len() > 6 {
        return None;
    }
    let thousandths = format!("{whole}{part:0<3}").parse::<u64>().ok()?;
    (10..=100_000_000).contains(&thousandths).then_some(thousandths)
}

/// Thousandths of a processor, as [`cpus`] reads them.
pub fn cpus_text(thousandths: u64) -> String {
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{amount_text, bytes, cpus, cpus_text, whole};

    #[test]
    fn a_whole_number_and_a_binary_unit_is_an_amount_and_nothing_else_is() {
        assert_eq!(bytes("1KiB"), Some(1024));
        for same in ["64GiB", "64G", "64 GiB", "64 G"] {
            assert_eq!(bytes(same), Some(64 << 30), "{same}");
        }
        for bad in [
            "",
            "4",
            "4GB",
            "-4GiB",
            "4  GiB",
            "4 ",
            "1.5GiB",
            "1e99GiB",
            "∞",
            "99999999999TiB",
            "4GiBs",
            "GiB",
            "4iB",
            "4giB",
            "4g",
            "4B",
        ] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_whole_number_is_digits_and_nothing_else() {
        assert_eq!(
            (whole("0"), whole("007"), whole("18446744073709551615")),
            (Some(0), Some(7), Some(u64::MAX))
        );
        for bad in ["", "+1", "-1", "1.0", " 1", "1 ", "1_000", "0x1", "1e3", "٣", "18446744073709551616"] {
            assert_eq!(whole(bad), None, "{bad}");
        }
    }

    #[test]
    fn amounts_are_written_as_they_are_read() {
        for (text, value) in [("4GiB", 4 << 30), ("1KiB", 1024), ("1536MiB", 1536 << 20), ("0KiB", 0)] {
            assert_eq!((bytes(text), amount_text(value).as_str()), (Some(value), text));
        }
        for (text, value) in [("1.5", 1500), ("2", 2000), ("0.01", 10), ("10", 10_000), ("0.125", 125)] {
            assert_eq!((cpus(text), cpus_text(value).as_str()), (Some(value), text));
        }
    }
}
