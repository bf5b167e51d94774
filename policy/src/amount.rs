//! Amounts of memory as people write them: `512MiB`, `4GiB`.

/// Reads `<number><KiB|MiB|GiB|TiB>` as bytes. Units of ten are not taken: `4GB` means 4 GiB to half of its readers.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text.get(digits.len()..)? {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// As [`bytes`] reads it; what is less than a kibibyte of it is left out.
pub fn text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB")];
    let whole = units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    whole.map_or_else(|| format!("{}KiB", bytes >> 10), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn a_whole_number_and_a_binary_unit_is_an_amount_and_nothing_else_is() {
        assert_eq!(bytes("1KiB"), Some(1024));
        assert_eq!(bytes("64GiB"), Some(64 << 30));
        for bad in
            ["", "4", "4GB", "4G", "-4GiB", "4 GiB", "1.5GiB", "1e99GiB", "∞", "99999999999TiB", "4GiBs"]
        {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
