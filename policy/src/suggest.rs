//! The nearest name to a misspelt one.

/// The candidate closest to `word`, if it is close enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// Damerau's distance (optimal string alignment): letters inserted, removed, substituted, or two neighbours transposed. Case does
/// not count, and `-` is `_`.
fn distance(a: &str, b: &str) -> usize {
    let fold =
        |s: &str| s.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect::<Vec<_>>();
    let (a, b) = (fold(a), fold(b));
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
    for (i, ca) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let substituted = at(&row, j) + usize::from(ca != cb);
            let mut least = substituted.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn a_misspelt_name_finds_its_neighbour_and_a_strange_one_finds_none() {
        let names = ["audience", "issuer", "url", "min_uid"];
        assert_eq!(nearest("audiance", names), Some("audience"));
        assert_eq!(nearest("min-uid", names), Some("min_uid"));
        assert_eq!(nearest("password", names), None);
    }

    #[test]
    fn transposed_letters_are_one_mistake() {
        assert_eq!(nearest("ulr", ["url", "all"]), Some("url"));
        assert_eq!(nearest("accuonts", ["account", "accounts", "amounts"]), Some("accounts"));
        assert_eq!(nearest("mian", ["min", "main", "map"]), Some("min"));
        for (a, b, steps) in [
            ("ab", "ba", 1),
            ("abc", "cab", 2),
            ("", "ab", 2),
            ("ab", "", 2),
            ("a-B", "A_b", 0),
            ("limtis", "limits", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (steps, steps), "{a} {b}");
        }
    }
}
